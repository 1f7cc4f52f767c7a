//! The way to the server, in clear text: HTTP/1.1.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use session_conformance::{BoxError, Wire, async_trait};
use session_core::SessionStore;
use session_testbed::DynamoDbServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{SHORT, built, client, client_of};

/// A server behind a guard.
pub(crate) struct Http {
    at: &'static DynamoDbServer,
    guard: SocketAddr,
    task: JoinHandle<()>,
}

impl Http {
    /// `None`: it is reached by TLS.
    pub(crate) async fn new(at: &'static DynamoDbServer) -> Option<Self> {
        let place = at.endpoint()?.strip_prefix("http://")?.trim_end_matches('/');
        let server = place.to_socket_addrs().ok()?.next()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.ok()?;
        let guard = listener.local_addr().ok()?;
        let (known, _) = at.credentials();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(guarded(client, server, known));
            }
        });
        Some(Self { at, guard, task })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes requests on whose access key is known, and refuses others as DynamoDB does: an emulator looks at no signature.
async fn guarded(mut client: TcpStream, server: SocketAddr, known: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let signature = format!("Credential={known}/");
    let (mut asked, mut said) = (Vec::new(), Vec::new());
    // One request at a time: the client sends the next one when it has its reply.
    loop {
        let request = next(&mut client, &mut asked).await?;
        if end_of(&request, signature.as_bytes()).is_none() {
            client.write_all(REFUSAL.as_bytes()).await?;
            continue;
        }
        server.write_all(&request).await?;
        let reply = next(&mut server, &mut said).await?;
        client.write_all(&reply).await?;
    }
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
const REFUSAL: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 114\r\n\r\n",
    r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","#,
    r#""message":"The security token is invalid. ....."}"#,
);

/// The next whole message of a connection.
async fn next(from: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    loop {
        if let Some(length) = whole(bytes) {
            return Ok(bytes.drain(..length).collect());
        }
        if from.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Where `part` ends in `bytes`.
fn end_of(bytes: &[u8], part: &[u8]) -> Option<usize> {
    let at = bytes.windows(part.len()).position(|window| window == part)?;
    Some(at + part.len())
}

/// The length of the first message: a head, and as many bytes as its `content-length` tells. A head without one is not
/// understood here, and never whole: no guarantee passes on it.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = end_of(bytes, b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let mut headers = text.lines().filter_map(|line| line.split_once(':'));
    let (_, length) = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    let end = head + length.trim().parse::<usize>().ok()?;
    (bytes.len() >= end).then_some(end)
}

#[async_trait]
impl Wire for Http {
    fn servers(&self) -> Vec<SocketAddr> {
        vec![self.guard]
    }

    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        whole(bytes)
    }

    async fn open(&self, namespace: &str, to: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError> {
        let client = client(self.at, Some(&format!("http://{}", to[0])));
        Ok(Arc::new(built(client, namespace, SHORT)?))
    }

    async fn open_denied(
        &self,
        namespace: &str,
        to: &[SocketAddr],
        secret: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let endpoint = format!("http://{}", to[0]);
        let client = client_of(self.at.region(), ("AKIDUNKNOWN", secret), Some(&endpoint));
        Some(built(client, namespace, SHORT).map(|store| Arc::new(store) as _))
    }
}
