//! A primary and replicas that sentinels watch.

mod commands;

use std::{collections::HashMap, env, fmt};

use tokio::sync::OnceCell;

use crate::{
    Error, Kind, RedisServer, Result,
    address::Addresses,
    group::Group,
    redis::{field, password},
    wait::{NotYet, Wait},
};

/// One primary, and so many replicas that one is left when the first has taken over.
const SERVERS: usize = 3;

/// The fewest of which two agree when one fails.
const SENTINELS: usize = 3;

/// What the sentinels call the group.
const SERVICE: &str = "sessions";

/// One primary, two replicas and three sentinels, which call the group `sessions` and put a replica in the place of a
/// primary that does not answer for a second and a half.
pub struct SentinelGroup {
    kind: Kind,
    url: String,
    service: String,
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    group: Option<Group>,
}

impl SentinelGroup {
    /// The group of this process: that of `SESSION_TEST_REDIS_SENTINEL_URL` or `SESSION_TEST_VALKEY_SENTINEL_URL`, else
    /// one in containers, started at the first call and removed when the process ends.
    ///
    /// The variable holds `redis+sentinel://HOST:PORT,…/SERVICE`, with `USER:PASSWORD@` where the servers, not the
    /// sentinels, need that.
    ///
    /// # Errors
    ///
    /// There is no group; the text names the command that provides it.
    pub async fn shared(kind: Kind) -> Result<&'static Self> {
        static REDIS: OnceCell<SentinelGroup> = OnceCell::const_new();
        static VALKEY: OnceCell<SentinelGroup> = OnceCell::const_new();
        let cell = match kind {
            Kind::Redis => &REDIS,
            Kind::Valkey => &VALKEY,
        };
        cell.get_or_try_init(|| async {
            let variable = format!("SESSION_TEST_{}_SENTINEL_URL", kind.name().to_uppercase());
            match env::var(&variable) {
                // The URL may hold a password: only the variable is told.
                Ok(url) => Self::elsewhere(kind, url)
                    .await
                    .map_err(|error| Error::new(format!("the sentinels of {variable}: {error}"))),
                Err(_) => Self::start(kind, &[]).await,
            }
        })
        .await
    }

    /// A group of one's own in containers, with further options of the command line of its servers, not of the sentinels.
    /// Removed when dropped.
    ///
    /// With `--requirepass` among the options, replicas and sentinels know the password as well; the sentinels ask for
    /// none.
    ///
    /// # Errors
    ///
    /// As [`SentinelGroup::shared`]; the password has spaces, quotes, backslashes or `#`.
    pub async fn start(kind: Kind, options: &[&str]) -> Result<Self> {
        let password = password(options);
        commands::check(password.as_deref())?;
        let group = Group::start(kind.name(), SERVERS + SENTINELS, 0).await?;
        let (ports, sentinel_ports) = group.published.split_at(SERVERS);

        let commands = ports
            .iter()
            .map(|port| (*port, commands::server(kind, *port, ports[0], options)));
        let servers: Vec<_> = group
            .run(commands.collect())
            .await?
            .into_iter()
            .map(|container| RedisServer::new(kind, container, password.clone()))
            .collect();
        // A sentinel asks seldom for the replicas of a primary that has none: there are to be two at its first question.
        let mut wait = Wait::new("the replication");
        while let Err(no) = check_servers(&servers, 0).await {
            wait.again(no).await?;
        }

        let commands = sentinel_ports.iter().map(|port| {
            (
                *port,
                commands::sentinel(kind, *port, ports[0], password.as_deref()),
            )
        });
        let sentinels = group
            .run(commands.collect())
            .await?
            .into_iter()
            .map(|container| RedisServer::new(kind, container, None))
            .collect();
        let addresses: Vec<_> = sentinel_ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let group = Self {
            kind,
            url: format!("redis+sentinel://{}/{SERVICE}", addresses.join(",")),
            service: SERVICE.to_owned(),
            servers,
            sentinels,
            group: Some(group),
        };
        group.await_ready().await?;
        Ok(group)
    }

    /// `redis+sentinel://127.0.0.1:S1,127.0.0.1:S2,127.0.0.1:S3/sessions`: the sentinels and what they call the group; or
    /// what the variable says. A password of the options is not in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The servers that hold the data: the primary as started, then its replicas. An index here means the same server for
    /// as long as the group is there, whatever becomes of it.
    ///
    /// A killed server's port still accepts connections, and closes them at once. What it becomes when it is started
    /// again is what it was last, until the sentinels tell it otherwise.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The sentinels, in the order of the URL. One that is started again is the same one, and knows what it knew.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// What the servers call themselves and their version: `("Redis", "8.0.2")`.
    ///
    /// # Errors
    ///
    /// None answers.
    pub async fn version(&self) -> Result<(String, String)> {
        let mut failure = Error::new("the group has no server");
        for server in &self.servers {
            match server.version().await {
                Ok(version) => return Ok(version),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The index of the server that more than half of the sentinels call the primary.
    ///
    /// # Errors
    ///
    /// They do not agree, or too few of them answer.
    pub async fn primary(&self) -> Result<usize> {
        let mut votes = HashMap::new();
        for sentinel in &self.sentinels {
            if let Ok(named) = self.named_by(sentinel).await {
                *votes.entry(named).or_insert(0) += 1;
            }
        }
        match votes.iter().find(|(_, count)| **count > self.sentinels.len() / 2) {
            Some((address, _)) => self.index(address),
            None => Err(Error::new(format!(
                "the sentinels of {:?} do not agree: {votes:?}",
                self.service
            ))),
        }
    }

    /// Waits until all sentinels that answer, and more than half of all, name another primary than `from`, and that one
    /// says so itself. Returns its index.
    ///
    /// # Errors
    ///
    /// That does not happen: `from` answers, for example. The text holds the log of who said no last.
    pub async fn await_failover(&self, from: usize) -> Result<usize> {
        let mut wait = Wait::new("the failover");
        loop {
            match self.successor(from).await? {
                Ok(index) => return Ok(index),
                Err(no) => wait.again(no).await?,
            }
        }
    }

    /// Waits until all sentinels and servers answer, know each other, agree on the primary, and every replica has what it
    /// has. A group just started is ready; one whose server was started again may need a while: about ten seconds, if
    /// that was the primary.
    ///
    /// # Errors
    ///
    /// That does not happen. The text holds the log of the server that is not ready.
    pub async fn await_ready(&self) -> Result<()> {
        let mut wait = Wait::new("the sentinels' group");
        while let Err(no) = self.hasten().await {
            wait.again(no).await?;
        }
        while let Err(no) = self.check().await {
            wait.again(no).await?;
        }
        Ok(())
    }

    /// Has our own sentinels look more often than they do by themselves, which they forget when they end. What they
    /// decide is the same.
    async fn hasten(&self) -> Result<(), NotYet<'_>> {
        if self.group.is_some() {
            for sentinel in &self.sentinels {
                sentinel
                    .ask::<()>(&commands::HASTE)
                    .await
                    .map_err(|error| NotYet::new(sentinel, error))?;
            }
        }
        Ok(())
    }

    async fn elsewhere(kind: Kind, url: String) -> Result<Self> {
        let (named, service) = Addresses::parse(&url, "redis+sentinel")?;
        let sentinels: Vec<_> = named
            .list
            .iter()
            .map(|address| RedisServer::elsewhere(kind, format!("redis://{address}/")))
            .collect();
        let mut failure = Error::new("it names no sentinel");
        for sentinel in &sentinels {
            let primary: (String, u16) = match sentinel
                .ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &service])
                .await
            {
                Ok(primary) => primary,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            let replicas: Vec<HashMap<String, String>> =
                sentinel.ask(&["SENTINEL", "REPLICAS", &service]).await?;
            let mut addresses = vec![format!("{}:{}", primary.0, primary.1)];
            // The name is HOST:PORT.
            addresses.extend(
                replicas
                    .into_iter()
                    .filter_map(|mut replica| replica.remove("name")),
            );
            let servers = addresses
                .iter()
                .map(|address| RedisServer::elsewhere(kind, named.url(address)))
                .collect();
            return Ok(Self {
                kind,
                service,
                servers,
                sentinels,
                url,
                group: None,
            });
        }
        Err(failure)
    }

    async fn check(&self) -> Result<(), NotYet<'_>> {
        let mut primary = None;
        for sentinel in &self.sentinels {
            let no = |error: Error| NotYet::new(sentinel, error);
            let named = self.named_by(sentinel).await.map_err(no)?;
            let index = self.index(&named).map_err(no)?;
            if primary.is_some_and(|other| other != index) {
                return Err(NotYet::new(sentinel, "it names another primary than the others"));
            }
            primary = Some(index);
            self.check_sentinel(sentinel).await?;
        }
        match primary {
            Some(primary) => check_servers(&self.servers, primary).await,
            None => Ok(()),
        }
    }

    /// What the sentinel knows of the primary, the replicas and the other sentinels: all are there, and nothing is wrong.
    async fn check_sentinel<'a>(&self, sentinel: &'a RedisServer) -> Result<(), NotYet<'a>> {
        let no = |error: Error| NotYet::new(sentinel, error);
        let has = |of: &HashMap<String, String>, name: &str, value: &str| {
            of.get(name).is_some_and(|own| own == value)
        };
        let primary: HashMap<String, String> = sentinel
            .ask(&["SENTINEL", "MASTER", &self.service])
            .await
            .map_err(no)?;
        if !has(&primary, "flags", "master") {
            return Err(NotYet::new(sentinel, format!("of the primary: {primary:?}")));
        }
        let replicas: Vec<HashMap<String, String>> = sentinel
            .ask(&["SENTINEL", "REPLICAS", &self.service])
            .await
            .map_err(no)?;
        let well = |of: &_| has(of, "flags", "slave") && has(of, "master-link-status", "ok");
        if replicas.len() != self.servers.len() - 1 || !replicas.iter().all(well) {
            return Err(NotYet::new(sentinel, format!("of the replicas: {replicas:?}")));
        }
        let others: Vec<HashMap<String, String>> = sentinel
            .ask(&["SENTINEL", "SENTINELS", &self.service])
            .await
            .map_err(no)?;
        if others.len() != self.sentinels.len() - 1 || !others.iter().all(|of| has(of, "flags", "sentinel")) {
            return Err(NotYet::new(sentinel, format!("of the sentinels: {others:?}")));
        }
        Ok(())
    }

    /// Who has taken over from a server, as [`SentinelGroup::await_failover`] says.
    async fn successor(&self, from: usize) -> Result<Result<usize, NotYet<'_>>> {
        let primary = match self.primary().await {
            Ok(primary) => primary,
            Err(error) => return Ok(Err(NotYet::new(&self.sentinels[0], error))),
        };
        if primary == from {
            return Ok(Err(NotYet::new(&self.sentinels[0], "it is the primary still")));
        }
        for sentinel in &self.sentinels {
            if let Ok(named) = self.named_by(sentinel).await
                && self.index(&named)? != primary
            {
                return Ok(Err(NotYet::new(sentinel, "it names another primary")));
            }
        }
        let server = &self.servers[primary];
        Ok(match server.ask::<String>(&["INFO", "replication"]).await {
            Ok(info) if field(&info, "role") == Some("master") => Ok(primary),
            Ok(info) => Err(NotYet::new(server, info)),
            Err(error) => Err(NotYet::new(server, error)),
        })
    }

    async fn named_by(&self, sentinel: &RedisServer) -> Result<(String, u16)> {
        sentinel
            .ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.service])
            .await
    }

    fn index(&self, address: &(String, u16)) -> Result<usize> {
        for (index, server) in self.servers.iter().enumerate() {
            if server.address()? == *address {
                return Ok(index);
            }
        }
        let (host, port) = address;
        Err(Error::new(format!("{host}:{port} was no server at the start")))
    }
}

impl fmt::Debug for SentinelGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelGroup")
            .field("kind", &self.kind)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// One is the primary, and the others are its replicas and have what it has.
async fn check_servers(servers: &[RedisServer], primary: usize) -> Result<(), NotYet<'_>> {
    for (index, server) in servers.iter().enumerate() {
        let no = |error: Error| NotYet::new(server, error);
        let info: String = server.ask(&["INFO", "replication"]).await.map_err(no)?;
        let is_right = match index == primary {
            true => {
                let count = (servers.len() - 1).to_string();
                field(&info, "role") == Some("master") && field(&info, "connected_slaves") == Some(&count)
            }
            false => {
                let port = servers[primary].address().map_err(no)?.1.to_string();
                field(&info, "master_port") == Some(&port) && field(&info, "master_link_status") == Some("up")
            }
        };
        if !is_right {
            return Err(NotYet::new(server, info));
        }
    }
    Ok(())
}
