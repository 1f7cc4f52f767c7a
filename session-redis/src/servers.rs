//! Which servers keep the sessions: one, the primary of a group with Sentinels, or a Cluster.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use redis::{Client, Cmd, Pipeline};

use crate::{
    ConfigError,
    address::{Address, Template},
    cluster::Cluster,
    connection::{Deadline, Failure, Target},
    node::Node,
    replicas::Wait,
    reply::Reply,
    request::Request,
    sentinel::Sentinels,
};

/// Which servers keep the sessions. A [`Client`] alone is one server.
///
/// ```
/// use session_redis::{RedisStore, Servers, redis::Client};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let one = RedisStore::new(Client::open("redis://127.0.0.1/")?);
///
/// let sentinels = [Client::open("redis://10.0.0.1:26379/")?, Client::open("redis://10.0.0.2:26379/")?];
/// let server = Client::open("redis://shop:secret@address-does-not-matter/")?;
/// let group = RedisStore::new(Servers::sentinel(sentinels, "sessions", server));
///
/// let some_nodes = [Client::open("redis://10.0.0.1:7000/")?, Client::open("redis://10.0.0.2:7000/")?];
/// let cluster = RedisStore::new(Servers::cluster(some_nodes));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Servers(Kind);

#[derive(Clone)]
enum Kind {
    One(Arc<Client>),
    Sentinel {
        sentinels: Vec<Client>,
        service: String,
        server: Arc<Client>,
    },
    Cluster(Vec<Client>),
}

impl Servers {
    /// The primary of a group of servers which Sentinels watch under the name `service`. Followed after a failover.
    ///
    /// `sentinels` are asked all at once; one that answers is enough. `server` names the user, the password, the
    /// database and the TLS of the servers; its address does not matter.
    pub fn sentinel(
        sentinels: impl IntoIterator<Item = Client>,
        service: impl Into<String>,
        server: Client,
    ) -> Self {
        Self(Kind::Sentinel {
            sentinels: sentinels.into_iter().collect(),
            service: service.into(),
            server: Arc::new(server),
        })
    }

    /// A Cluster of which these are some nodes; one that answers is enough to find the others, and the first names
    /// the user, the password and the TLS of them all.
    pub fn cluster(nodes: impl IntoIterator<Item = Client>) -> Self {
        Self(Kind::Cluster(nodes.into_iter().collect()))
    }

    #[cfg(test)]
    pub(crate) fn sentinel_parts(self) -> (Vec<Client>, Arc<Client>) {
        match self.0 {
            Kind::Sentinel {
                sentinels, server, ..
            } => (sentinels, server),
            _ => panic!("{self}"),
        }
    }

    /// Whether a failover to a replica is somebody's business here.
    pub(crate) fn may_fail_over(&self) -> bool {
        !matches!(self.0, Kind::One(_))
    }

    /// What cannot be, before anything is asked.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match &self.0 {
            Kind::One(_) => Ok(()),
            Kind::Sentinel {
                sentinels, service, ..
            } if sentinels.is_empty() || service.is_empty() => Err(ConfigError::Sentinel),
            Kind::Sentinel { .. } => Ok(()),
            Kind::Cluster(nodes)
                if nodes.is_empty() || nodes.iter().any(|node| Address::of(node).is_none()) =>
            {
                Err(ConfigError::Cluster)
            }
            Kind::Cluster(nodes) if nodes.iter().any(|node| database(node) != 0) => {
                Err(ConfigError::Database)
            }
            Kind::Cluster(_) => Ok(()),
        }
    }

    pub(crate) fn open(self, nat: HashMap<Address, Address>, tuning: Tuning) -> Opened {
        let place = self.to_string();
        match self.0 {
            Kind::One(client) => Opened::One(Node::new(Target::Server(client), tuning)),
            Kind::Sentinel {
                sentinels,
                service,
                server,
            } => {
                let server = Template::new((*server).clone(), nat);
                let sentinels = Sentinels::new(sentinels, service, server, place);
                Opened::One(Node::new(Target::Primary(Arc::new(sentinels)), tuning))
            }
            Kind::Cluster(nodes) => Opened::Cluster(Cluster::new(nodes, nat, tuning)),
        }
    }
}

fn database(client: &Client) -> i64 {
    client.get_connection_info().redis_settings().db()
}

impl From<Client> for Servers {
    fn from(client: Client) -> Self {
        Self(Kind::One(Arc::new(client)))
    }
}

/// Where the servers are, without user and password.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |client: &Client| client.get_connection_info().addr().to_string();
        let all = |clients: &[Client]| clients.iter().map(at).collect::<Vec<_>>().join(", ");
        match &self.0 {
            Kind::One(client) => f.write_str(&at(client)),
            Kind::Sentinel {
                sentinels, service, ..
            } => write!(f, "{service} of Sentinel {}", all(sentinels)),
            Kind::Cluster(nodes) => write!(f, "Cluster of {}", all(nodes)),
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({self})")
    }
}

/// What holds for every connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    pub(crate) connect: Duration,
    pub(crate) wait: Option<Wait>,
}

/// The servers, as the store asks them.
#[derive(Clone)]
pub(crate) enum Opened {
    One(Arc<Node>),
    Cluster(Arc<Cluster>),
}

impl Opened {
    /// Sends a request about one key and waits for its reply until `deadline`, connecting and redirects included.
    pub(crate) async fn ask(
        &self,
        deadline: Deadline,
        key: &[u8],
        request: Request<'_>,
    ) -> Result<Reply, Failure> {
        match self {
            Self::One(node) => node.ask(deadline, request).await,
            Self::Cluster(cluster) => cluster.ask(deadline, key, request).await,
        }
    }

    /// Sends commands about a key each, in as few round trips as there are servers for them; their replies in order.
    pub(crate) async fn ask_each(
        &self,
        deadline: Deadline,
        calls: &[(Vec<u8>, Cmd)],
        writes: bool,
    ) -> Result<Vec<Reply>, Failure> {
        match self {
            Self::One(node) => {
                together(node, deadline, calls.iter().map(|(_, command)| command), writes).await
            }
            Self::Cluster(cluster) => cluster.ask_each(deadline, calls, writes).await,
        }
    }

    /// Every server that has sessions.
    pub(crate) async fn nodes(&self, deadline: Deadline) -> Result<Vec<Arc<Node>>, Failure> {
        match self {
            Self::One(node) => Ok(vec![Arc::clone(node)]),
            Self::Cluster(cluster) => cluster.primaries(deadline).await,
        }
    }
}

/// Commands that travel together to one server.
pub(crate) async fn together(
    node: &Arc<Node>,
    deadline: Deadline,
    commands: impl Iterator<Item = &Cmd>,
    writes: bool,
) -> Result<Vec<Reply>, Failure> {
    let mut pipeline = Pipeline::new();
    for command in commands {
        pipeline.add_command(command.clone());
    }
    if pipeline.is_empty() {
        return Ok(Vec::new());
    }
    let reply = node.ask(deadline, Request::many(&pipeline, writes)).await?;
    let (values, origin) = reply.many(pipeline.len())?;
    let reply = |value| Reply {
        value,
        origin: origin.clone(),
    };
    Ok(values.into_iter().map(reply).collect())
}
