//! The store on PostgreSQL, registered with the suite: a table for each namespace.

mod behind;
mod killed;
mod messages;
mod wire;

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use session_conformance::{Backend, BoxError, Crash, Hook, Raw, Rival, Server, Skew, Wire, async_trait};
use session_core::SessionStore;
use session_postgres::{
    PostgresStore,
    sqlx::{
        Executor, PgPool,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};
use session_testbed::{Clock, PostgresServer, Version};
use tokio::sync::OnceCell;

use self::{behind::Behind, killed::Killed, wire::Clear};

/// A machine that builds and tests at once may be slow; that a deadline is kept is shown by the suite.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where guarantees wait for its end.
const SHORT: Duration = Duration::from_millis(500);

/// A store's connections: many stores share one server.
const CONNECTIONS: u32 = 4;

/// PostgreSQL of a version.
pub(crate) struct On<const VERSION: u32> {
    options: PgConnectOptions,
    server: Server,
    ahead: OnceCell<PostgresServer>,
    behind: OnceCell<PostgresServer>,
}

impl<const VERSION: u32> On<VERSION> {
    fn version() -> Version {
        match VERSION {
            15 => Version::V15,
            _ => Version::V17,
        }
    }
}

#[async_trait]
impl<const VERSION: u32> Backend for On<VERSION> {
    const NAME: &'static str = match VERSION {
        15 => "postgres 15",
        _ => "postgres",
    };
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const AT_ONCE: usize = 8;

    async fn start() -> Result<Self, BoxError> {
        let server = PostgresServer::shared(Self::version()).await?;
        let (name, version) = server.version().await?;
        let options = PgConnectOptions::from_str(server.url())?;
        if VERSION == 15 {
            // What an operator may have set, and what no answer may depend on.
            let pool = lazily(options.clone(), 1);
            pool.execute(
                "ALTER ROLE CURRENT_USER SET timezone = 'Asia/Kathmandu';
                 ALTER ROLE CURRENT_USER SET bytea_output = 'escape'",
            )
            .await?;
            pool.close().await;
        }
        Ok(Self {
            options,
            server: Server::new(name, version),
            ahead: OnceCell::new(),
            behind: OnceCell::new(),
        })
    }

    fn server(&self) -> Server {
        self.server.clone()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        opened(lazily(self.options.clone(), CONNECTIONS), namespace).await
    }

    fn reason(_: Hook) -> &'static str {
        "the server of the environment is reached by TLS, or by a socket"
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        let nobody = ([127, 0, 0, 1], session_testbed::free_port().ok()?).into();
        let options = at(&self.options, nobody);
        Some(Arc::new(PostgresStore::new(lazily(options, CONNECTIONS))))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        Some(Arc::new(Behind::new(lazily(self.options.clone(), 2), namespace)))
    }

    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        Some(Arc::new(Clear::new(self.options.clone())?))
    }

    async fn rival(&self, namespace: &str) -> Option<Arc<dyn Rival>> {
        Some(Arc::new(Behind::new(lazily(self.options.clone(), 16), namespace)))
    }

    async fn skewed(&self, namespace: &str, by: Skew) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let (cell, clock) = match by {
            Skew::Ahead => (&self.ahead, Clock::Ahead(Skew::BY)),
            Skew::Behind => (&self.behind, Clock::Behind(Skew::BY)),
        };
        let opening = async {
            let server = cell
                .get_or_try_init(|| PostgresServer::start_with_clock(Self::version(), clock, &[]))
                .await?;
            opened(
                lazily(PgConnectOptions::from_str(server.url())?, CONNECTIONS),
                namespace,
            )
            .await
        };
        Some(opening.await)
    }

    async fn crash(&self, namespace: &str) -> Option<Result<Arc<dyn Crash>, BoxError>> {
        let started = async {
            let server = PostgresServer::start(Self::version(), &[]).await?;
            let crash: Arc<dyn Crash> = Arc::new(Killed::new(server, namespace));
            Ok(crash)
        };
        Some(started.await)
    }
}

/// A table of its own.
fn table(namespace: &str) -> String {
    format!("sessions_{namespace}")
}

fn lazily(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        // Connections that stay are missing elsewhere.
        .idle_timeout(Duration::from_secs(1))
        .connect_lazy_with(options)
}

fn at(options: &PgConnectOptions, address: SocketAddr) -> PgConnectOptions {
    options
        .clone()
        .host(&address.ip().to_string())
        .port(address.port())
}

fn built(pool: PgPool, namespace: &str, deadline: Duration) -> Result<PostgresStore, BoxError> {
    Ok(PostgresStore::builder(pool)
        .table(table(namespace))
        .read_deadline(deadline)
        .write_deadline(deadline)
        .connect_deadline(DEADLINE)
        .build()?)
}

async fn opened(pool: PgPool, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
    let store = built(pool, namespace, DEADLINE)?;
    store.migrate().await?;
    Ok(Arc::new(store))
}
