//! A scripted endpoint: it answers what a test says, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use session_dynamodb::{DynamoDbStore, DynamoDbStoreBuilder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::support;

pub(crate) const TABLE: &str = "scripted";

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GetItem`, say.
    pub(crate) action: String,
    pub(crate) body: Value,
    /// The number of its connection, from 0.
    pub(crate) connection: usize,
    /// How many of this action came before it.
    pub(crate) nth: usize,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// 200 and this.
    Ok(Value),
    /// This status, the exception's name, and further fields beside `message`.
    Exception(u16, &'static str, Value),
    /// Nothing, and the connection stays.
    Hang,
    /// Nothing, and the connection is closed.
    Close,
    /// The head, half of the body, and the connection is closed.
    Half(Value),
    /// This body, whatever it is.
    Text(&'static str),
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct Endpoint {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Endpoint {
    pub(crate) async fn new(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (script, seen): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, connection, Arc::clone(&script), Arc::clone(&seen)));
                connection += 1;
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked, in its order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The names of what was asked.
    pub(crate) fn actions(&self) -> Vec<String> {
        self.requests()
            .into_iter()
            .map(|request| request.action)
            .collect()
    }

    pub(crate) fn builder(&self) -> DynamoDbStoreBuilder {
        let client = support::client(&self.url());
        DynamoDbStore::builder(client, TABLE)
    }

    /// With deadlines that no slow machine meets.
    pub(crate) fn patient(&self) -> DynamoDbStore {
        let builder = self.builder().read_deadline(LONG).write_deadline(LONG);
        builder.connect_deadline(LONG).build().unwrap()
    }

    /// With deadlines that are awaited.
    pub(crate) fn hasty(&self) -> DynamoDbStore {
        let short = Duration::from_millis(300);
        let builder = self.builder().read_deadline(short).write_deadline(short);
        builder.build().unwrap()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Request>>>,
) {
    let mut bytes = Vec::new();
    while let Some((action, body)) = next(&mut stream, &mut bytes).await {
        let request = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = seen.iter().filter(|before| before.action == action).count();
            let request = Request {
                action,
                body,
                connection,
                nth,
            };
            seen.push(request.clone());
            request
        };
        let (status, body) = match script(&request) {
            Reply::Ok(body) => (200, body.to_string()),
            Reply::Exception(status, name, more) => (status, exception(name, more)),
            Reply::Text(text) => (200, text.to_owned()),
            Reply::Hang => std::future::pending().await,
            Reply::Close => return,
            Reply::Half(body) => {
                let whole = head_and(200, &body.to_string());
                let half = whole.len() - body.to_string().len() / 2;
                let _ = stream.write_all(&whole.as_bytes()[..half]).await;
                return;
            }
        };
        if stream
            .write_all(head_and(status, &body).as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

fn exception(name: &str, more: Value) -> String {
    let mut body = json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{name}"),
        "message": "the server's own text, of account 123456789012",
    });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body.to_string()
}

fn head_and(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The action and the body of the next request; nothing if the connection has ended.
async fn next(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Value)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
            let header = |wanted: &str| {
                let mut headers = head.lines().filter_map(|line| line.split_once(':'));
                let found = headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.trim().to_owned())
            };
            let length: usize = header("content-length")?.parse().ok()?;
            let start = end + 4;
            if bytes.len() >= start + length {
                let body = serde_json::from_slice(&bytes[start..start + length]).ok()?;
                bytes.drain(..start + length);
                let action = header("x-amz-target")?.rsplit('.').next()?.to_owned();
                return Some((action, body));
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}
