//! The way to the server, in clear text: HTTP/1.1.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use session_conformance::{BoxError, Wire, async_trait};
use session_core::SessionStore;
use session_testbed::DynamoDbServer;

use super::{SHORT, built, client};

pub(crate) struct Http {
    at: &'static DynamoDbServer,
    address: SocketAddr,
}

impl Http {
    /// `None`: it is reached by TLS.
    pub(crate) fn new(at: &'static DynamoDbServer) -> Option<Self> {
        let place = at.endpoint()?.strip_prefix("http://")?.trim_end_matches('/');
        let address = place.to_socket_addrs().ok()?.next()?;
        Some(Self { at, address })
    }
}

/// Where `part` ends in `bytes`.
fn end_of(bytes: &[u8], part: &[u8]) -> Option<usize> {
    let at = bytes.windows(part.len()).position(|window| window == part)?;
    Some(at + part.len())
}

#[async_trait]
impl Wire for Http {
    fn servers(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    /// A head, and as many bytes as its `content-length` tells. A head without one is a reply that is not understood here,
    /// and never whole: no guarantee passes on it.
    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        let head = end_of(bytes, b"\r\n\r\n")?;
        let text = std::str::from_utf8(&bytes[..head]).ok()?;
        let mut headers = text.lines().filter_map(|line| line.split_once(':'));
        let (_, length) = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
        let whole = head + length.trim().parse::<usize>().ok()?;
        (bytes.len() >= whole).then_some(whole)
    }

    async fn open(&self, namespace: &str, to: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError> {
        let client = client(self.at, Some(&format!("http://{}", to[0])));
        Ok(Arc::new(built(client, namespace, SHORT)?))
    }

    /// The emulator looks at no signature. What a refused access key leads to is shown in `tests/dynamodb`.
    async fn open_denied(
        &self,
        _: &str,
        _: &[SocketAddr],
        _: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        None
    }
}
