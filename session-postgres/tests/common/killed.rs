//! A server of one's own that can be killed.

use std::{str::FromStr, sync::Arc};

use session_conformance::{BoxError, Crash, async_trait};
use session_core::SessionStore;
use session_postgres::sqlx::postgres::PgConnectOptions;
use session_testbed::PostgresServer;

use super::{CONNECTIONS, lazily, opened};

pub(crate) struct Killed {
    server: PostgresServer,
    namespace: String,
}

impl Killed {
    pub(crate) fn new(server: PostgresServer, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self { server, namespace }
    }
}

#[async_trait]
impl Crash for Killed {
    async fn open(&self) -> Result<Arc<dyn SessionStore>, BoxError> {
        let options = PgConnectOptions::from_str(self.server.url())?;
        opened(lazily(options, CONNECTIONS), &self.namespace).await
    }

    async fn crash(&self) -> Result<(), BoxError> {
        self.server.kill().await?;
        Ok(self.server.start_again().await?)
    }
}
