//! The store on each kind of servers, registered with the suite.

mod raw;
#[path = "../resp/mod.rs"]
mod resp;

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use session_conformance::{Backend, BoxError, Hook, Raw, Server, Wire, async_trait};
use session_core::SessionStore;
use session_redis::{
    RedisStore, RedisStoreBuilder, Servers,
    redis::{Client, ConnectionAddr},
};
use session_testbed::RedisServer;

use self::raw::Behind;

/// A machine that builds and tests at once may be slow; that a deadline is kept is shown in tests/redis.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where guarantees wait for its end.
const SHORT: Duration = Duration::from_millis(500);

/// One kind of servers.
#[async_trait]
pub(crate) trait Place: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    async fn find() -> Result<Found<Self>, BoxError>;

    /// The servers, as they are.
    fn servers(&self) -> Result<Servers, BoxError>;

    /// The same at other addresses, for a user whom they do not know if there is a password.
    fn servers_at(&self, at: &[SocketAddr], password: Option<&str>) -> Result<Servers, BoxError>;

    /// The same where nobody is.
    fn nowhere(&self, nobody: SocketAddr) -> Result<Servers, BoxError>;
}

/// What was found.
#[derive(Clone)]
pub(crate) struct Found<P> {
    pub(crate) place: P,
    /// The servers that hold records, each at the address that it announces.
    pub(crate) nodes: Vec<Client>,
    pub(crate) server: Server,
}

/// A client like another one, at another address, and of a user whom the server does not know if there is a password.
pub(crate) fn client(like: &Client, at: SocketAddr, password: Option<&str>) -> Result<Client, BoxError> {
    let address = ConnectionAddr::Tcp(at.ip().to_string(), at.port());
    let there = like.get_connection_info().clone().set_addr(address);
    Ok(Client::open(match password {
        None => there,
        Some(password) => {
            let settings = there.redis_settings().clone();
            there.set_redis_settings(settings.set_username("nobody").set_password(password))
        }
    })?)
}

pub(crate) fn clients(servers: &[RedisServer]) -> Result<Vec<Client>, BoxError> {
    let open = |server: &RedisServer| Client::open(server.url()).map_err(BoxError::from);
    servers.iter().map(open).collect()
}

/// The store on the servers of a place.
pub(crate) struct On<P>(Found<P>);

#[async_trait]
impl<P: Place> Backend for On<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    async fn start() -> Result<Self, BoxError> {
        P::find().await.map(Self)
    }

    fn server(&self) -> Server {
        self.0.server.clone()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        built(RedisStore::builder(self.0.place.servers()?), namespace, DEADLINE)
    }

    fn reason(hook: Hook) -> &'static str {
        match hook {
            Hook::Rival => {
                "the server has no locks: a command or a script is whole before the next one begins"
            }
            Hook::Skewed => "no server with another clock is started yet",
            Hook::Crash => "no server of one guarantee's own is started yet",
            _ => "the servers are reached by TLS or by a socket of this machine",
        }
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        let nobody = ([127, 0, 0, 1], session_testbed::free_port().ok()?).into();
        Some(Arc::new(RedisStore::new(self.0.place.nowhere(nobody).ok()?)))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        Behind::connect(&self.0.nodes, prefix(namespace)).await
    }

    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        let address = |node: &Client| match node.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => (host.as_str(), *port).to_socket_addrs().ok()?.next(),
            _ => None,
        };
        let servers: Option<Vec<_>> = self.0.nodes.iter().map(address).collect();
        Some(Arc::new(Clear {
            place: self.0.place.clone(),
            servers: servers?,
        }))
    }
}

/// The way to the servers.
struct Clear<P> {
    place: P,
    servers: Vec<SocketAddr>,
}

impl<P: Place> Clear<P> {
    fn through(
        &self,
        namespace: &str,
        at: &[SocketAddr],
        password: Option<&str>,
    ) -> Result<Arc<dyn SessionStore>, BoxError> {
        let pair = |(told, at): (&SocketAddr, &SocketAddr)| {
            let of = |address: &SocketAddr| (address.ip().to_string(), address.port());
            (of(told), of(at))
        };
        let servers = self.place.servers_at(at, password)?;
        let builder = RedisStore::builder(servers).nat_map(self.servers.iter().zip(at).map(pair));
        built(builder, namespace, SHORT)
    }
}

#[async_trait]
impl<P: Place> Wire for Clear<P> {
    fn servers(&self) -> Vec<SocketAddr> {
        self.servers.clone()
    }

    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        resp::reply_len(bytes)
    }

    async fn open(&self, namespace: &str, at: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError> {
        self.through(namespace, at, None)
    }

    async fn open_denied(
        &self,
        namespace: &str,
        at: &[SocketAddr],
        secret: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        Some(self.through(namespace, at, Some(secret)))
    }
}

fn built(
    builder: RedisStoreBuilder,
    namespace: &str,
    deadline: Duration,
) -> Result<Arc<dyn SessionStore>, BoxError> {
    let store = builder
        .prefix(prefix(namespace))
        .read_deadline(deadline)
        .write_deadline(deadline)
        // It goes on when the call that began it has ended, and a proxy may be slow on purpose.
        .connect_deadline(DEADLINE)
        .build()?;
    Ok(Arc::new(store))
}

fn prefix(namespace: &str) -> String {
    format!("{namespace}:")
}
