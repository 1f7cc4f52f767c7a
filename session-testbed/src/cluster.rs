//! A Redis or Valkey Cluster.

mod slots;

use std::{env, fmt};

use tokio::sync::OnceCell;

use crate::{
    Error, Kind, RedisServer, Result,
    address::Addresses,
    group::{Group, REPLICATION},
    redis::{field, password},
    topology::{Seen, View},
    wait::{NotYet, Wait},
};

/// So many nodes own the slots: fewer could not agree that one of them failed.
const PRIMARIES: usize = 3;

/// All slots of a cluster.
const SLOTS: usize = 16384;

/// What makes a server a node of a cluster.
const OPTIONS: [&str; 6] = [
    "--cluster-enabled",
    "yes",
    "--cluster-announce-ip",
    "127.0.0.1",
    // A replica stays with its primary, so that who takes over from whom is known.
    "--cluster-allow-replica-migration",
    "no",
];

/// A cluster whose three primaries own all slots, and which answers for each of them.
pub struct RedisCluster {
    kind: Kind,
    url: String,
    nodes: Vec<RedisServer>,
    /// For each node, the index of the primary that it belonged to at the start. No node changes sides.
    shards: Vec<usize>,
    /// How many nodes own slots when all is well.
    primaries: usize,
    _group: Option<Group>,
}

impl RedisCluster {
    /// The cluster of this process: that of `SESSION_TEST_REDIS_CLUSTER_URL` or `SESSION_TEST_VALKEY_CLUSTER_URL`, else
    /// one in containers, without replicas, started at the first call and removed when the process ends.
    ///
    /// The variable holds `redis+cluster://HOST:PORT,…/`, with `USER:PASSWORD@` where that is needed.
    ///
    /// # Errors
    ///
    /// There is no cluster; the text names the command that provides it.
    pub async fn shared(kind: Kind) -> Result<&'static Self> {
        static REDIS: OnceCell<RedisCluster> = OnceCell::const_new();
        static VALKEY: OnceCell<RedisCluster> = OnceCell::const_new();
        let cell = match kind {
            Kind::Redis => &REDIS,
            Kind::Valkey => &VALKEY,
        };
        cell.get_or_try_init(|| async {
            let variable = format!("SESSION_TEST_{}_CLUSTER_URL", kind.name().to_uppercase());
            match env::var(&variable) {
                // The URL may hold a password: only the variable is told.
                Ok(url) => Self::elsewhere(kind, url)
                    .await
                    .map_err(|error| Error::new(format!("the cluster of {variable}: {error}"))),
                Err(_) => Self::start(kind, 0, &[]).await,
            }
        })
        .await
    }

    /// A cluster of one's own in containers: three primaries, each with so many replicas, and further options of the
    /// command line of every node. Removed when dropped.
    ///
    /// With `--requirepass` among the options, the nodes know the password from each other as well.
    ///
    /// # Errors
    ///
    /// As [`RedisCluster::shared`].
    pub async fn start(kind: Kind, replicas: usize, options: &[&str]) -> Result<Self> {
        let count = PRIMARIES * (1 + replicas);
        let group = Group::start(kind.name(), count, count).await?;
        let password = password(options);
        let commands = group.published.iter().zip(&group.inside).map(|(port, bus)| {
            let (announced, bus, file) = (port.to_string(), bus.to_string(), format!("nodes-{port}.conf"));
            let mut all = [OPTIONS.as_slice(), &REPLICATION].concat();
            // A node that failed is noticed soon where another can take over; else a node that is slow would be taken for one.
            // Longer, and the nodes would tell each other too seldom who they are.
            let node_timeout = if replicas == 0 { "5000" } else { "1500" };
            all.extend(["--cluster-node-timeout", node_timeout]);
            all.extend(["--cluster-port", &bus, "--cluster-config-file", &file]);
            all.extend(["--replica-announce-port", &announced]);
            if let Some(password) = &password {
                all.extend(["--masterauth", password]);
            }
            all.extend(options);
            (*port, kind.command(*port, &all))
        });
        let containers = group.run(commands.collect()).await?;
        let addresses: Vec<_> = group.published[..PRIMARIES]
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let nodes = containers
            .into_iter()
            .map(|container| RedisServer::new(kind, container, password.clone()))
            .collect();
        let bus = group.inside.clone();
        let cluster = Self {
            kind,
            url: format!("redis+cluster://{}/", addresses.join(",")),
            nodes,
            shards: (0..count).map(|node| node % PRIMARIES).collect(),
            primaries: PRIMARIES,
            _group: Some(group),
        };
        cluster.form(&bus).await?;
        cluster.await_ready().await?;
        Ok(cluster)
    }

    /// `redis+cluster://127.0.0.1:P1,127.0.0.1:P2,127.0.0.1:P3/`: the primaries as started; or what the variable says.
    /// A password of the options is not in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The nodes, as they were started: the primaries, then a replica of each in the same order, and so on. An index here
    /// means the same node for as long as the cluster is there, whatever becomes of it.
    ///
    /// A killed node's port still accepts connections, and closes them at once.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// What the servers call themselves and their version: `("Redis", "8.0.2")`.
    ///
    /// # Errors
    ///
    /// None answers.
    pub async fn version(&self) -> Result<(String, String)> {
        let mut failure = Error::new("the cluster has no node");
        for node in &self.nodes {
            match node.version().await {
                Ok(version) => return Ok(version),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Waits until another node has taken over the slots of the node `of`, and every other node that answers says so and
    /// that the cluster is well. Returns its index.
    ///
    /// # Errors
    ///
    /// That does not happen: `of` answers, for example, or has no replica. The text holds the log of the node that said
    /// no last.
    pub async fn await_failover(&self, of: usize) -> Result<usize> {
        let mut wait = Wait::new("the failover");
        loop {
            match self.successor(of).await? {
                Ok(index) => return Ok(index),
                Err(no) => wait.again(no).await?,
            }
        }
    }

    /// Waits until every node answers, knows all the others, says that the cluster is well, and every replica has what
    /// its primary has. A cluster just started is ready; one whose node was started again may need a while.
    ///
    /// # Errors
    ///
    /// That does not happen. The text holds the log of the node that is not ready.
    pub async fn await_ready(&self) -> Result<()> {
        let mut wait = Wait::new("the cluster");
        'again: loop {
            for node in &self.nodes {
                if let Err(no) = self.check(node).await {
                    wait.again(no).await?;
                    continue 'again;
                }
            }
            return Ok(());
        }
    }

    async fn elsewhere(kind: Kind, url: String) -> Result<Self> {
        let (named, _) = Addresses::parse(&url, "redis+cluster")?;
        let mut failure = Error::new("it names no node");
        for address in &named.list {
            let server = RedisServer::elsewhere(kind, named.url(address));
            let view = match View::of(&server).await {
                Ok(view) => view,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            let (primaries, replicas): (Vec<_>, Vec<_>) =
                view.nodes().iter().partition(|node| node.is("master"));
            let shard = |replica: &&Seen| {
                let id = replica.primary.as_ref();
                primaries.iter().position(|primary| Some(&primary.id) == id)
            };
            let shards = (0..primaries.len())
                .map(Some)
                .chain(replicas.iter().map(shard))
                .collect::<Option<_>>()
                .ok_or_else(|| Error::new("it has a replica without a primary"))?;
            let nodes = primaries.iter().chain(&replicas).map(|node| {
                let (host, port) = &node.address;
                RedisServer::elsewhere(kind, named.url(&format!("{host}:{port}")))
            });
            return Ok(Self {
                kind,
                nodes: nodes.collect(),
                shards,
                primaries: primaries.len(),
                url,
                _group: None,
            });
        }
        Err(failure)
    }

    /// Makes one cluster of nodes that know nothing of each other. Each listens to the others on its port in `bus`.
    async fn form(&self, bus: &[u16]) -> Result<()> {
        for (index, node) in self.nodes.iter().enumerate() {
            node.answers().await?;
            // Else all nodes would claim the same epoch, and need time to settle that.
            let epoch = (index + 1).to_string();
            node.tell(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
            if index < PRIMARIES {
                let first = (index * SLOTS / PRIMARIES).to_string();
                let last = ((index + 1) * SLOTS / PRIMARIES - 1).to_string();
                node.tell(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await?;
            }
            for (other, bus) in self.nodes.iter().zip(bus).take(index) {
                let (port, bus) = (other.port()?.to_string(), bus.to_string());
                node.tell(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
            }
        }
        for (index, node) in self.nodes.iter().enumerate().skip(PRIMARIES) {
            let primary = self.id(self.shards[index]).await?;
            let mut wait = Wait::new("a replica");
            // It does not know its primary before they have met.
            while let Err(error) = node.tell(&["CLUSTER", "REPLICATE", &primary]).await {
                wait.again(NotYet::new(node, error)).await?;
            }
        }
        Ok(())
    }

    async fn check<'a>(&self, node: &'a RedisServer) -> Result<(), NotYet<'a>> {
        let no = |error: Error| NotYet::new(node, error);
        let info: String = node.ask(&["CLUSTER", "INFO"]).await.map_err(no)?;
        // A node that serves a part of the slots is well, and may not have heard yet who has the others.
        let slots = field(&info, "cluster_slots_assigned").and_then(|slots| slots.parse().ok());
        if field(&info, "cluster_state") != Some("ok") || slots != Some(SLOTS) {
            return Err(NotYet::new(node, info));
        }
        let text: String = node.ask(&["CLUSTER", "NODES"]).await.map_err(no)?;
        let view = View::parse(&text).map_err(no)?;
        let seen = view.nodes();
        let replicas = seen.iter().filter(|node| node.is("slave")).count();
        if seen.len() != self.nodes.len()
            || replicas != self.nodes.len() - self.primaries
            || !seen.iter().all(Seen::is_well)
        {
            return Err(NotYet::new(node, text));
        }
        let info: String = node.ask(&["INFO", "replication"]).await.map_err(no)?;
        match (field(&info, "role"), field(&info, "master_link_status")) {
            (Some("master"), _) | (_, Some("up")) => Ok(()),
            _ => Err(NotYet::new(node, info)),
        }
    }

    /// Who has taken over from a node, as [`RedisCluster::await_failover`] says.
    async fn successor(&self, of: usize) -> Result<Result<usize, NotYet<'_>>> {
        let mut successor = None;
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| *index != of) {
            let (Ok(view), Ok(info)) = (
                View::of(node).await,
                node.ask::<String>(&["CLUSTER", "INFO"]).await,
            ) else {
                continue;
            };
            if field(&info, "cluster_state") != Some("ok") {
                return Ok(Err(NotYet::new(node, info)));
            }
            for seen in view.nodes().iter().filter(|seen| seen.has_slots()) {
                if self.index(seen)? == of {
                    return Ok(Err(NotYet::new(node, "the old node has its slots still")));
                }
            }
            let myself = view.myself()?;
            if self.shards[index] == self.shards[of] && myself.is("master") && myself.has_slots() {
                successor = Some(index);
            }
        }
        Ok(successor.ok_or_else(|| NotYet::new(&self.nodes[of], "no replica of it has taken over")))
    }

    async fn id(&self, index: usize) -> Result<String> {
        self.nodes[index].ask(&["CLUSTER", "MYID"]).await
    }

    fn index(&self, seen: &Seen) -> Result<usize> {
        let (host, port) = &seen.address;
        for (index, node) in self.nodes.iter().enumerate() {
            if node.address()? == seen.address {
                return Ok(index);
            }
        }
        Err(Error::new(format!("{host}:{port} was no node at the start")))
    }
}

impl fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCluster")
            .field("kind", &self.kind)
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}
