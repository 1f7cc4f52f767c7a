//! The store on DynamoDB, registered with the suite: a table for each namespace.

mod behind;
mod killed;
mod wire;

use std::{sync::Arc, time::Duration};

use session_conformance::{Backend, BoxError, Crash, Hook, Raw, Server, Skew, Wire, async_trait};
use session_core::SessionStore;
use session_dynamodb::{
    DynamoDbStore,
    aws_sdk_dynamodb::{
        Client, Config,
        config::{BehaviorVersion, Credentials, Region},
    },
};
use session_testbed::{Clock, DynamoDbServer};
use tokio::sync::OnceCell;

pub(crate) use self::killed::serves;
use self::{behind::Behind, killed::Killed, wire::Http};

/// A machine that builds and tests at once may be slow; that a deadline is kept is shown by the suite.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where guarantees wait for its end.
const SHORT: Duration = Duration::from_millis(500);

/// DynamoDB, or what is taken for it.
pub(crate) struct DynamoDb {
    at: &'static DynamoDbServer,
    server: Server,
    ahead: OnceCell<DynamoDbServer>,
    behind: OnceCell<DynamoDbServer>,
}

#[async_trait]
impl Backend for DynamoDb {
    const NAME: &'static str = "dynamodb";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const AT_ONCE: usize = 8;

    async fn start() -> Result<Self, BoxError> {
        let at = DynamoDbServer::shared().await?;
        let (name, version) = at.version().await?;
        Ok(Self {
            at,
            server: Server::new(name, version),
            ahead: OnceCell::new(),
            behind: OnceCell::new(),
        })
    }

    fn server(&self) -> Server {
        self.server.clone()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        opened(client(self.at, None), namespace).await
    }

    fn reason(hook: Hook) -> &'static str {
        match hook {
            Hook::Rival => "the server has no transaction that stays open, and no locks: a request is whole",
            _ => "the server of the environment is reached by TLS",
        }
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        let nobody = format!("http://127.0.0.1:{}", session_testbed::free_port().ok()?);
        Some(Arc::new(DynamoDbStore::new(
            client(self.at, Some(&nobody)),
            "sessions",
        )))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        Some(Arc::new(Behind::new(client(self.at, None), table(namespace))))
    }

    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        Some(Arc::new(Http::new(self.at).await?))
    }

    async fn skewed(&self, namespace: &str, by: Skew) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let (cell, clock) = match by {
            Skew::Ahead => (&self.ahead, Clock::Ahead(Skew::BY)),
            Skew::Behind => (&self.behind, Clock::Behind(Skew::BY)),
        };
        let opening = async {
            let server = cell
                .get_or_try_init(|| DynamoDbServer::start_with_clock(clock))
                .await?;
            opened(client(server, None), namespace).await
        };
        Some(opening.await)
    }

    async fn crash(&self, _: &str) -> Option<Result<Arc<dyn Crash>, BoxError>> {
        let started = async {
            let crash: Arc<dyn Crash> = Arc::new(Killed::start().await?);
            Ok(crash)
        };
        Some(started.await)
    }
}

/// A table of its own.
fn table(namespace: &str) -> String {
    format!("sessions_{namespace}")
}

/// A client of a server, past it if another endpoint is named.
pub(crate) fn client(server: &DynamoDbServer, endpoint: Option<&str>) -> Client {
    let (key, secret) = server.credentials();
    client_of(server.region(), (key, secret), endpoint.or(server.endpoint()))
}

fn client_of(region: &str, (key, secret): (&str, &str), endpoint: Option<&str>) -> Client {
    let credentials = Credentials::builder()
        .access_key_id(key)
        .secret_access_key(secret)
        .provider_name("test")
        .build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .credentials_provider(credentials);
    config.set_endpoint_url(endpoint.map(str::to_owned));
    Client::from_conf(config.build())
}

fn built(client: Client, namespace: &str, deadline: Duration) -> Result<DynamoDbStore, BoxError> {
    Ok(DynamoDbStore::builder(client, table(namespace))
        .read_deadline(deadline)
        .write_deadline(deadline)
        .connect_deadline(DEADLINE)
        .build()?)
}

async fn opened(client: Client, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
    let store = built(client, namespace, DEADLINE)?;
    store.create_table().await?;
    Ok(Arc::new(store))
}
