//! Who makes the sessions, and looks at the answers: a client with one connection.

use std::{iter, net::SocketAddr};

use session_bench::Result;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    Page,
    pages::{BEGIN, GREETING},
    server::CALLS,
    variant::Variant,
};

/// What a browser sends: session-http looks at it.
pub(super) const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

pub(super) struct Visitor {
    stream: BufReader<TcpStream>,
}

struct Answer {
    /// `NAME=VALUE`, if there is one.
    cookie: Option<String>,
    body: String,
}

/// A cookie as long as one of session-http's.
fn made_up() -> String {
    let id: String = iter::repeat_with(fastrand::alphanumeric).take(43).collect();
    format!("__Host-session={id}")
}

impl Visitor {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// The cookies of new sessions; where there are none, cookies of the same length.
    pub(super) async fn begin_sessions(&mut self, variant: Variant, count: usize) -> Result<Vec<String>> {
        let mut cookies = Vec::with_capacity(count);
        for _ in 0..count {
            let answer = self.get(BEGIN, None).await?;
            cookies.push(match (answer.cookie, variant) {
                (Some(cookie), _) => cookie,
                (None, Variant::None) => made_up(),
                (None, _) => return Err(format!("{}: no cookie came", variant.name()).into()),
            });
        }
        Ok(cookies)
    }

    /// Fails unless the page knows the visitor.
    pub(super) async fn visit(&mut self, page: Page, cookie: &str) -> Result<()> {
        let answer = self.get(page.path(), Some(cookie)).await?;
        let visits = answer.body.strip_prefix(GREETING).map(str::trim_end);
        match visits.and_then(|visits| visits.parse().ok()) {
            Some(1_u64..) => Ok(()),
            _ => Err(format!("{} does not know the visitor: {}", page.path(), answer.body).into()),
        }
    }

    /// How often the server has called its store.
    pub(super) async fn calls(&mut self) -> Result<u64> {
        Ok(self.get(CALLS, None).await?.body.parse()?)
    }

    async fn get(&mut self, path: &str, cookie: Option<&str>) -> Result<Answer> {
        let cookie = cookie.map_or_else(String::new, |cookie| format!("cookie: {cookie}\r\n"));
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: {USER_AGENT}\r\n{cookie}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let status = self.line().await?;
        let (mut length, mut cookie) = (0, None);
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").ok_or("a header without a value")?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse()?,
                "set-cookie" => cookie = value.split(';').next().map(str::to_owned),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body)?;
        match status.starts_with("HTTP/1.1 200 ") {
            true => Ok(Answer { cookie, body }),
            false => Err(format!("{path}: {status}: {body}").into()),
        }
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
