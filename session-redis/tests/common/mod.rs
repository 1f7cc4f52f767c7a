//! Both servers, registered with the suite.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use session_conformance::{Backend, BoxError, Hook, Raw, Server, Wire, async_trait};
use session_core::{SessionKey, SessionStore};
use session_redis::{
    RedisStore,
    redis::{Client, ConnectionAddr, ConnectionInfo, Value, aio::MultiplexedConnection, cmd},
};
use session_testbed::{Kind, RedisServer};

use crate::resp;

/// A machine that builds and tests at once may be slow; that a deadline is kept is shown in tests/redis.rs.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where guarantees wait for its end.
const SHORT: Duration = Duration::from_millis(500);

/// The store on one of the two servers.
pub(crate) struct On<const VALKEY: bool> {
    client: Client,
    server: Server,
}

#[async_trait]
impl<const VALKEY: bool> Backend for On<VALKEY> {
    const NAME: &'static str = if VALKEY { "valkey" } else { "redis" };
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    async fn start() -> Result<Self, BoxError> {
        let kind = if VALKEY { Kind::Valkey } else { Kind::Redis };
        let server = RedisServer::shared(kind).await?;
        let (name, version) = server.version().await?;
        Ok(Self {
            client: Client::open(server.url())?,
            server: Server::new(name, version),
        })
    }

    fn server(&self) -> Server {
        self.server.clone()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        store(self.client.clone(), namespace, DEADLINE)
    }

    fn reason(hook: Hook) -> &'static str {
        match hook {
            Hook::Wire => "the server is not reached in clear text over TCP",
            _ => "",
        }
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        // Free a moment ago, and far from the ports that a system gives out next.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
        let address = listener.local_addr().ok()?;
        drop(listener);
        Some(Arc::new(RedisStore::new(
            Client::open(format!("redis://{address}/")).ok()?,
        )))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        let connection = self.client.get_multiplexed_async_connection().await.ok()?;
        let prefix = prefix(namespace);
        Some(Arc::new(Behind { connection, prefix }))
    }

    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        let ConnectionAddr::Tcp(host, port) = self.client.get_connection_info().addr() else {
            return None;
        };
        let server = (host.as_str(), *port).to_socket_addrs().ok()?.next()?;
        let client = self.client.clone();
        Some(Arc::new(Clear { client, server }))
    }
}

fn store(client: Client, namespace: &str, deadline: Duration) -> Result<Arc<dyn SessionStore>, BoxError> {
    let store = RedisStore::builder(client)
        .prefix(prefix(namespace))
        .read_deadline(deadline)
        .write_deadline(deadline)
        .connect_deadline(deadline)
        .build()?;
    Ok(Arc::new(store))
}

/// The way to the server.
struct Clear {
    client: Client,
    server: SocketAddr,
}

impl Clear {
    /// The same user and database at another address.
    fn at(&self, address: SocketAddr) -> ConnectionInfo {
        let address = ConnectionAddr::Tcp(address.ip().to_string(), address.port());
        self.client.get_connection_info().clone().set_addr(address)
    }
}

#[async_trait]
impl Wire for Clear {
    fn servers(&self) -> Vec<SocketAddr> {
        vec![self.server]
    }

    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        resp::reply_len(bytes)
    }

    async fn open(&self, namespace: &str, at: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError> {
        store(Client::open(self.at(at[0]))?, namespace, SHORT)
    }

    async fn open_denied(
        &self,
        namespace: &str,
        at: &[SocketAddr],
        secret: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let there = self.at(at[0]);
        let nobody = there
            .redis_settings()
            .clone()
            .set_username("nobody")
            .set_password(secret);
        let client = Client::open(there.set_redis_settings(nobody));
        Some(
            client
                .map_err(BoxError::from)
                .and_then(|client| store(client, namespace, SHORT)),
        )
    }
}

fn prefix(namespace: &str) -> String {
    format!("{namespace}:")
}

/// The server's bytes, behind the store's back.
struct Behind {
    connection: MultiplexedConnection,
    prefix: String,
}

#[async_trait]
impl Raw for Behind {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        let (mut connection, name) = (self.connection.clone(), format!("{}{key}", self.prefix));
        let mut over = cmd("SET");
        over.arg(&name).arg(value).arg("XX").arg("KEEPTTL");
        if over.query_async::<Value>(&mut connection).await? == Value::Nil {
            let mut new = cmd("SET");
            new.arg(&name).arg(value).arg("EX").arg(120);
            new.query_async::<()>(&mut connection).await?;
        }
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        let mut get = cmd("GET");
        get.arg(format!("{}{key}", self.prefix));
        Ok(get.query_async(&mut self.connection.clone()).await?)
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let (mut connection, mut cursor, mut all) = (self.connection.clone(), 0_u64, Vec::new());
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(format!("{}*", self.prefix))
                .arg("COUNT")
                .arg(1000);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
            for key in keys {
                let kind: String = cmd("TYPE").arg(&key).query_async(&mut connection).await?;
                let values: Vec<Vec<u8>> = match kind.as_str() {
                    "zset" => {
                        cmd("ZRANGE")
                            .arg(&key)
                            .arg(0)
                            .arg(-1)
                            .query_async(&mut connection)
                            .await?
                    }
                    _ => cmd("MGET").arg(&key).query_async(&mut connection).await?,
                };
                all.extend(key);
                all.extend(values.concat());
            }
            cursor = next;
            if cursor == 0 {
                return Ok(all);
            }
        }
    }
}
