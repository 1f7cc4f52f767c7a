//! Both servers, registered with the suite.

use std::{sync::Arc, time::Duration};

use session_conformance::{Backend, BoxError, Hook, Raw, Server, async_trait};
use session_core::{SessionKey, SessionStore};
use session_redis::{
    RedisStore,
    redis::{Client, Value, aio::MultiplexedConnection, cmd},
};
use session_testbed::{Kind, RedisServer};

/// A machine that builds and tests at once may be slow; that a deadline is kept is shown in tests/redis.rs.
const DEADLINE: Duration = Duration::from_secs(3);

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
        let store = RedisStore::builder(self.client.clone())
            .prefix(prefix(namespace))
            .read_deadline(DEADLINE)
            .write_deadline(DEADLINE)
            .connect_deadline(DEADLINE)
            .build()?;
        Ok(Arc::new(store))
    }

    fn reason(_: Hook) -> &'static str {
        ""
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
