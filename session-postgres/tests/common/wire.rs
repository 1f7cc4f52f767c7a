//! The way to the server, in clear text.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use session_conformance::{BoxError, Wire, async_trait};
use session_core::SessionStore;
use session_postgres::sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{CONNECTIONS, SHORT, at, built, lazily};

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

    /// What a server says until it waits for the client: messages (a letter, and the length of the rest in four bytes) up
    /// to `ReadyForQuery`, a question about the password, or a refusal that ends the connection:
    /// <https://www.postgresql.org/docs/17/protocol-message-formats.html>
    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let head = bytes.get(at..at + 5)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let end = at + 1 + length;
            let message = bytes.get(at..end)?;
            at = end;
            match message[0] {
                b'Z' => return Some(end),
                // 0 is AuthenticationOk and 12 AuthenticationSASLFinal, after which the server goes on by itself.
                b'R' if !matches!(message.get(5..9), Some([0, 0, 0, 0 | 12])) => return Some(end),
                // The connection ends with it.
                b'E' if message.windows(7).any(|part| part == b"SFATAL\0") => return Some(end),
                _ => {}
            }
        }
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
