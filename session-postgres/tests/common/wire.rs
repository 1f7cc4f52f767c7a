//! The way to the server, in clear text.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use session_conformance::{BoxError, Wire, async_trait};
use session_core::SessionStore;
use session_postgres::sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{CONNECTIONS, SHORT, at, built, lazily, messages::reply_len};

pub(crate) struct Clear {
    options: PgConnectOptions,
    server: SocketAddr,
}

impl Clear {
    /// `None`: it is reached by a socket of this machine.
    pub(crate) fn new(options: PgConnectOptions) -> Option<Self> {
        let address = (options.get_host(), options.get_port());
        let server = address.to_socket_addrs().ok()?.next()?;
        // The question whether there is TLS would be answered by a letter that is no message.
        let options = options.ssl_mode(PgSslMode::Disable);
        Some(Self { options, server })
    }
}

#[async_trait]
impl Wire for Clear {
    fn servers(&self) -> Vec<SocketAddr> {
        vec![self.server]
    }

    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        reply_len(bytes)
    }

    async fn open(&self, namespace: &str, to: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError> {
        let pool = lazily(at(&self.options, to[0]), CONNECTIONS);
        Ok(Arc::new(built(pool, namespace, SHORT)?))
    }

    async fn open_denied(
        &self,
        namespace: &str,
        to: &[SocketAddr],
        secret: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let options = at(&self.options, to[0]).password(secret);
        let store = built(lazily(options, CONNECTIONS), namespace, SHORT);
        Some(store.map(|store| Arc::new(store) as _))
    }
}
