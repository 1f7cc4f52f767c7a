//! DynamoDB: that of the environment, or an emulator.

use std::{
    env, fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use dynoxide::{
    Database,
    storage_backend::{Clock as StorageClock, SystemClock},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime,
    sync::{OnceCell, oneshot},
    time::timeout,
};
use url::Url;

use crate::{Clock, Error, Result};

const VARIABLE: &str = "SESSION_TEST_DYNAMODB_URL";

/// The table that the URL of an emulator names. It is not made.
const TABLE: &str = "sessions";

/// Any is right for an emulator.
const REGION: &str = "eu-central-1";
const KEY: &str = "session";
const SECRET: &str = "session-secret";

/// Between two removals of what its time to live has ended, on an emulator with a clock of its own. DynamoDB takes days.
const SWEEP: Duration = Duration::from_millis(20);

/// Within this time, a server on this machine answers a question that costs it nothing.
const SOON: Duration = Duration::from_secs(5);

/// A server that answers: DynamoDB, or an emulator of it.
pub struct DynamoDbServer {
    url: String,
    place: Place,
    emulator: Option<Emulator>,
}

/// What a URL says.
struct Place {
    region: String,
    key: String,
    secret: String,
    endpoint: Option<String>,
}

impl DynamoDbServer {
    /// The server of this process: that of `SESSION_TEST_DYNAMODB_URL`, else an emulator in this process, started at the
    /// first call.
    ///
    /// # Errors
    ///
    /// There is no server; the text names the variable.
    pub async fn shared() -> Result<&'static Self> {
        static SERVER: OnceCell<DynamoDbServer> = OnceCell::const_new();
        SERVER
            .get_or_try_init(|| async {
                match env::var(VARIABLE) {
                    Ok(url) => {
                        // The URL holds a secret: only the variable is told.
                        let told = |error| Error::new(format!("the server of {VARIABLE}: {error}"));
                        let server = Self {
                            place: Place::of(&url).map_err(told)?,
                            url,
                            emulator: None,
                        };
                        server.version().await.map_err(told)?;
                        Ok(server)
                    }
                    Err(_) => Self::start().await,
                }
            })
            .await
    }

    /// An emulator of one's own in this process, which keeps nothing on disk. It ends when dropped.
    ///
    /// # Errors
    ///
    /// There is no port for it.
    pub async fn start() -> Result<Self> {
        Self::of(Emulator::start(memory(Arc::new(SystemClock))?, None)?).await
    }

    /// As [`DynamoDbServer::start`], with its clock off. What has ended by that clock is removed at once.
    ///
    /// # Errors
    ///
    /// As [`DynamoDbServer::start`].
    pub async fn start_with_clock(clock: Clock) -> Result<Self> {
        Self::of(Emulator::start(memory(Arc::new(Off(clock)))?, Some(SWEEP))?).await
    }

    async fn of(emulator: Emulator) -> Result<Self> {
        let endpoint = format!("http://{}", emulator.address);
        let url = format!("dynamodb://{KEY}:{SECRET}@{REGION}/{TABLE}?endpoint={endpoint}");
        let server = Self {
            place: Place::of(&url)?,
            url,
            emulator: Some(emulator),
        };
        server.version().await?;
        Ok(server)
    }

    /// Runs an emulator that keeps its tables in a file, prints `HOST:PORT`, and serves until the process is ended: for
    /// a process that is there to be killed.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or the port is taken.
    pub fn serve_file(path: &Path, port: u16) -> Result<()> {
        let path = path.to_str().ok_or_else(|| Error::new("the path is not UTF-8"))?;
        let database = Database::new(path).map_err(|error| Error::new(error.to_string()))?;
        let listener = listen(port)?;
        println!("{}", listener.local_addr().map_err(told)?);
        runtime()?.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(told)?;
            dynoxide::server::serve_on(listener, database).await;
            Ok(())
        })
    }

    /// `dynamodb://KEY:SECRET@REGION/TABLE?endpoint=http://127.0.0.1:PORT`, or what the variable says. The table is not
    /// there yet.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is, if not at the region's own address.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.place.endpoint.as_deref()
    }

    /// The region, which is a part of every signature.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.place.region
    }

    /// An access key and its secret.
    #[must_use]
    pub fn credentials(&self) -> (&str, &str) {
        (&self.place.key, &self.place.secret)
    }

    /// What answers and its version: `("DynamoDB emulator dynoxide", "3.2.0")`; what the server of an endpoint calls itself; or
    /// `("Amazon DynamoDB", "")`, which has none.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn version(&self) -> Result<(String, String)> {
        let Some(endpoint) = &self.place.endpoint else {
            return Ok(("Amazon DynamoDB".to_owned(), String::new()));
        };
        let Some(address) = endpoint.strip_prefix("http://") else {
            return Ok(("DynamoDB at an endpoint by TLS".to_owned(), String::new()));
        };
        let address = address.trim_end_matches('/');
        let told = timeout(SOON, server_header(address))
            .await
            .map_err(|_| Error::new(format!("{address} does not answer within {SOON:?}")))??;
        Ok(match told.split_once('/') {
            Some(("Dynoxide", version)) => ("DynamoDB emulator dynoxide".to_owned(), version.to_owned()),
            Some((name, version)) => (format!("DynamoDB endpoint {name}"), version.to_owned()),
            None => (format!("DynamoDB endpoint {told}"), String::new()),
        })
    }

    /// `127.0.0.1` and this port lead to it, in clear text.
    ///
    /// # Errors
    ///
    /// It is none that was started here.
    pub fn port(&self) -> Result<u16> {
        let emulator = self.emulator.as_ref();
        emulator
            .map(|emulator| emulator.address.port())
            .ok_or_else(|| Error::new("the server is none of ours"))
    }
}

impl fmt::Debug for DynamoDbServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbServer")
            .field("region", &self.place.region)
            .field("endpoint", &self.place.endpoint)
            .finish_non_exhaustive()
    }
}

impl Place {
    fn of(url: &str) -> Result<Self> {
        let form = || Error::new("dynamodb://KEY:SECRET@REGION/TABLE?endpoint=http://HOST:PORT is expected");
        let url = Url::parse(url).map_err(|_| form())?;
        let secret = url.password().ok_or_else(form)?;
        let endpoint = url.query_pairs().find(|(name, _)| name == "endpoint");
        Ok(Self {
            region: url.host_str().ok_or_else(form)?.to_owned(),
            key: decoded(url.username()),
            secret: decoded(secret),
            endpoint: endpoint.map(|(_, value)| value.into_owned()),
        })
    }
}

/// Percent-decoded, as a value of a form is.
fn decoded(text: &str) -> String {
    let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

fn memory(clock: Arc<dyn StorageClock>) -> Result<Database> {
    Database::memory_with_clock(clock).map_err(|error| Error::new(error.to_string()))
}

/// A server with threads and a runtime of its own: the tests' runtimes come and go.
struct Emulator {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    fn start(database: Database, sweep: Option<Duration>) -> Result<Self> {
        let listener = listen(0)?;
        let address = listener.local_addr().map_err(told)?;
        let (stop, stopped) = oneshot::channel();
        let runtime = runtime()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                tokio::select! {
                    () = dynoxide::server::serve_on(listener, database.clone()) => {}
                    () = sweeps(database, sweep) => {}
                    _ = stopped => {}
                }
            });
            // With the runtime its connections end.
        });
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// For ever.
async fn sweeps(database: Database, interval: Option<Duration>) {
    let Some(interval) = interval else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(interval).await;
        let database = database.clone();
        let _ = tokio::task::spawn_blocking(move || database.sweep_ttl()).await;
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(told)?;
    listener.set_nonblocking(true).map_err(told)?;
    Ok(listener)
}

fn runtime() -> Result<runtime::Runtime> {
    runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(told)
}

fn told(error: std::io::Error) -> Error {
    Error::new(error.to_string())
}

/// What the server at `address` calls itself.
async fn server_header(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await.map_err(told)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(told)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.map_err(told)?;
    let reply = String::from_utf8_lossy(&reply);
    let mut lines = reply.lines();
    if !lines.next().is_some_and(|line| line.starts_with("HTTP/1.")) {
        return Err(Error::new(format!("{address} does not speak HTTP")));
    }
    let headers = lines.take_while(|line| !line.is_empty());
    let server = headers
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("server"));
    Ok(server
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default())
}

/// A clock that is off.
struct Off(Clock);

impl StorageClock for Off {
    fn now_unix_secs(&self) -> u64 {
        let now = SystemClock.now_unix_secs();
        match self.0 {
            Clock::Ahead(length) => now + length.as_secs(),
            Clock::Behind(length) => now.saturating_sub(length.as_secs()),
        }
    }

    fn now_unix_secs_f64(&self) -> f64 {
        let now = SystemClock.now_unix_secs_f64();
        match self.0 {
            Clock::Ahead(length) => now + length.as_secs_f64(),
            Clock::Behind(length) => now - length.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_taken_apart_and_never_shown() {
        let place = Place::of("dynamodb://AK:s%2Fe+c@eu-west-1/t?endpoint=http://127.0.0.1:1").unwrap();
        assert_eq!(
            (&*place.key, &*place.secret, &*place.region),
            ("AK", "s/e+c", "eu-west-1")
        );
        assert_eq!(place.endpoint.as_deref(), Some("http://127.0.0.1:1"));
        for wrong in ["dynamodb://hunter2@eu-west-1/t", "hunter2"] {
            let error = Place::of(wrong).err().unwrap();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn emulator_says_what_it_is_and_ends_when_dropped() {
        let server = DynamoDbServer::start().await.unwrap();
        let (name, version) = server.version().await.unwrap();
        assert_eq!(name, "DynamoDB emulator dynoxide");
        assert!(version.starts_with(char::is_numeric), "{version}");
        let port = server.port().unwrap();
        drop(server);
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    }
}
