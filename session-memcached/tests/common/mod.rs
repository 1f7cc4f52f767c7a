//! The store on memcached, registered with the suite.

mod raw;

use std::{
    marker::PhantomData,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use session_conformance::{Backend, BoxError, Hook, Raw, Server, Skew, Wire, async_trait};
use session_core::SessionStore;
use session_memcached::{MemcachedStore, Servers};
use session_testbed::{Clock, Memcached, MemcachedServer};
use tokio::sync::OnceCell;

use self::raw::Behind;

/// A machine that builds and tests at once may be slow; that a deadline is kept is shown by the suite.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where guarantees wait for its end.
const SHORT: Duration = Duration::from_millis(500);

/// Which servers.
#[async_trait]
pub(crate) trait Place: Send + Sync + 'static {
    const NAME: &'static str;
    const VERSION: Memcached;

    /// Those beside the shared one.
    async fn more() -> Result<Vec<MemcachedServer>, BoxError> {
        Ok(Vec::new())
    }
}

/// The store on the servers of a place.
pub(crate) struct On<P> {
    addresses: Vec<String>,
    server: Server,
    ahead: OnceCell<MemcachedServer>,
    behind: OnceCell<MemcachedServer>,
    _more: Vec<MemcachedServer>,
    place: PhantomData<P>,
}

#[async_trait]
impl<P: Place> Backend for On<P> {
    const NAME: &'static str = P::NAME;
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    async fn start() -> Result<Self, BoxError> {
        let one = MemcachedServer::shared(P::VERSION).await?;
        let (name, version) = one.version().await?;
        let more = P::more().await?;
        let all = std::iter::once(one).chain(&more);
        Ok(Self {
            addresses: all.map(|server| server.address().to_owned()).collect(),
            server: Server::new(name, version),
            ahead: OnceCell::new(),
            behind: OnceCell::new(),
            _more: more,
            place: PhantomData,
        })
    }

    fn server(&self) -> Server {
        self.server.clone()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        built(&self.addresses, namespace, DEADLINE).await
    }

    fn reason(hook: Hook) -> &'static str {
        match hook {
            Hook::Rival => {
                "the server has no locks: a command is whole before the next one of its key begins"
            }
            Hook::Crash => "a server that ends has lost all that it had, as the profile says",
            _ => "the servers are reached by names that do not resolve here",
        }
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        let nobody = format!("127.0.0.1:{}", session_testbed::free_port().ok()?);
        let store = MemcachedStore::builder(nobody).build().ok()?;
        Some(Arc::new(store))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        let behind = Behind::connect(&self.addresses, prefix(namespace)).await.ok()?;
        Some(Arc::new(behind))
    }

    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        let resolve = |address: &String| address.to_socket_addrs().ok()?.next();
        let servers: Option<Vec<SocketAddr>> = self.addresses.iter().map(resolve).collect();
        Some(Arc::new(Clear {
            addresses: self.addresses.clone(),
            servers: servers?,
        }))
    }

    async fn skewed(&self, namespace: &str, by: Skew) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let (cell, clock) = match by {
            Skew::Ahead => (&self.ahead, Clock::Ahead(Skew::BY)),
            Skew::Behind => (&self.behind, Clock::Behind(Skew::BY)),
        };
        let opening = async {
            let server = cell
                .get_or_try_init(|| MemcachedServer::start_with_clock(P::VERSION, clock, &[]))
                .await?;
            built(&[server.address().to_owned()], namespace, DEADLINE).await
        };
        Some(opening.await)
    }
}

/// The way to the servers.
struct Clear {
    addresses: Vec<String>,
    servers: Vec<SocketAddr>,
}

#[async_trait]
impl Wire for Clear {
    fn servers(&self) -> Vec<SocketAddr> {
        self.servers.clone()
    }

    /// A line; after `VA` and a number, so many bytes and the end of a line; and statistics up to their end.
    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.windows(2).position(|end| end == b"\r\n")? + 2;
        if bytes.starts_with(b"STAT ") {
            let last = b"END\r\n";
            let at = bytes.windows(last.len()).position(|part| part == last)?;
            return Some(at + last.len());
        }
        let Some(rest) = bytes[..end].strip_prefix(b"VA ") else {
            return Some(end);
        };
        let digits: String = rest
            .iter()
            .map(|byte| char::from(*byte))
            .take_while(char::is_ascii_digit)
            .collect();
        let whole = end + digits.parse::<usize>().ok()? + 2;
        (bytes.len() >= whole).then_some(whole)
    }

    async fn open(&self, namespace: &str, at: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError> {
        let pairs = self.addresses.iter().zip(at.iter().map(SocketAddr::to_string));
        let store = MemcachedStore::builder(Servers::named(pairs))
            .prefix(prefix(namespace))
            .read_deadline(SHORT)
            .write_deadline(SHORT)
            // It goes on when the call that began it has ended, and a proxy may be slow on purpose.
            .connect_deadline(DEADLINE)
            .build()?;
        Ok(Arc::new(store))
    }

    async fn open_denied(
        &self,
        _: &str,
        _: &[SocketAddr],
        _: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        // The client has no passwords to send.
        None
    }
}

async fn built(
    addresses: &[String],
    namespace: &str,
    deadline: Duration,
) -> Result<Arc<dyn SessionStore>, BoxError> {
    let store = MemcachedStore::builder(Servers::new(addresses))
        .prefix(prefix(namespace))
        .read_deadline(deadline)
        .write_deadline(deadline)
        .connect_deadline(DEADLINE)
        .connect()
        .await?;
    Ok(Arc::new(store))
}

fn prefix(namespace: &str) -> String {
    format!("{namespace}:")
}
