//! Redis and Valkey.

use std::{
    env, fmt,
    time::{Duration, Instant},
};

use redis::{Client, cmd};
use tokio::sync::OnceCell;

use crate::{Error, Result, engine::Container};

/// Longer than a server takes to begin, on a loaded machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The two servers that speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis 8
    Redis,
    /// Valkey 8
    Valkey,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        }
    }
}

/// A server that answers.
pub struct RedisServer {
    kind: Kind,
    url: String,
    container: Option<Container>,
}

impl RedisServer {
    /// The server of this process: that of `SESSION_TEST_REDIS_URL` or `SESSION_TEST_VALKEY_URL`, else one container,
    /// started at the first call and removed when the process ends. It keeps nothing on disk.
    ///
    /// # Errors
    ///
    /// There is no server; the text names the command that provides it.
    pub async fn shared(kind: Kind) -> Result<&'static Self> {
        static REDIS: OnceCell<RedisServer> = OnceCell::const_new();
        static VALKEY: OnceCell<RedisServer> = OnceCell::const_new();
        let cell = match kind {
            Kind::Redis => &REDIS,
            Kind::Valkey => &VALKEY,
        };
        cell.get_or_try_init(|| async {
            let variable = format!("SESSION_TEST_{}_URL", kind.name().to_uppercase());
            match env::var(&variable) {
                Ok(url) => {
                    let server = Self {
                        kind,
                        url,
                        container: None,
                    };
                    // The URL may hold a password: only the variable is told.
                    server
                        .answers()
                        .await
                        .map_err(|error| Error::new(format!("the server of {variable}: {error}")))?;
                    Ok(server)
                }
                Err(_) => Self::start(kind, &[]).await,
            }
        })
        .await
    }

    /// A server of one's own in a container, with further options of its command line. Removed when dropped.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::shared`].
    pub async fn start(kind: Kind, options: &[&str]) -> Result<Self> {
        let name = kind.name();
        // The directory is one that every image has and everybody may write to.
        let own = [
            "--port",
            "6379",
            "--protected-mode",
            "no",
            "--dir",
            "/tmp",
            "--save",
            "",
        ];
        let command: Vec<String> = std::iter::once(format!("{name}-server"))
            .chain(own.iter().chain(options).map(|option| (*option).to_owned()))
            .collect();
        let container = Container::start(name, 6379, &command).await?;
        let server = Self {
            kind,
            url: format!("redis://127.0.0.1:{}/", container.port),
            container: Some(container),
        };
        server.answers().await?;
        Ok(server)
    }

    /// `redis://127.0.0.1:PORT/`, or what the variable says.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1` and this port lead to the server.
    ///
    /// # Errors
    ///
    /// The server is not in a container of ours.
    pub fn port(&self) -> Result<u16> {
        Ok(self.container()?.port)
    }

    /// Ends the server as a crash does, with SIGKILL.
    ///
    /// # Errors
    ///
    /// It is not in a container of ours, or not running.
    pub async fn kill(&self) -> Result<()> {
        self.container()?.signal("KILL").await
    }

    /// The server does nothing, and its connections stay open (SIGSTOP), until [`RedisServer::resume`].
    ///
    /// # Errors
    ///
    /// As [`RedisServer::kill`].
    pub async fn pause(&self) -> Result<()> {
        self.container()?.signal("STOP").await
    }

    /// Ends a [`RedisServer::pause`].
    ///
    /// # Errors
    ///
    /// As [`RedisServer::kill`].
    pub async fn resume(&self) -> Result<()> {
        self.container()?.signal("CONT").await
    }

    /// Starts the server again after [`RedisServer::kill`], on the same port, and waits until it answers.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::kill`].
    pub async fn start_again(&self) -> Result<()> {
        self.container()?.start_again().await?;
        self.answers().await
    }

    /// What the server calls itself and its version: `("Redis", "8.0.2")`.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn version(&self) -> Result<(String, String)> {
        let info = self.ask(&["INFO", "server"]).await?;
        let field = |name: &str| {
            let line = info
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        // Valkey tells a version of Redis too, for the sake of old clients.
        match (field("valkey_version"), field("redis_version")) {
            (Some(version), _) => Ok(("Valkey".to_owned(), version)),
            (None, Some(version)) => Ok(("Redis".to_owned(), version)),
            (None, None) => Err(Error::new("INFO server tells no version")),
        }
    }

    /// One command on a connection of its own.
    async fn ask(&self, words: &[&str]) -> Result<String> {
        let told = |error: redis::RedisError| Error::new(error.to_string());
        let client = Client::open(self.url.as_str()).map_err(told)?;
        let mut connection = client.get_multiplexed_async_connection().await.map_err(told)?;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.map_err(told)
    }

    /// Waits until the server answers: that it wants a password, or has no master yet, is an answer.
    async fn answers(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let error = match self.ask(&["PING"]).await {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            };
            if ["NOAUTH", "MASTERDOWN", "password"]
                .iter()
                .any(|answer| error.contains(answer))
            {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let log = match &self.container {
                    Some(container) => container.log().await,
                    None => String::new(),
                };
                return Err(Error::new(format!("no answer in {PATIENCE:?}: {error}\n{log}")));
            }
            // Between two questions, not instead of one.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn container(&self) -> Result<&Container> {
        self.container
            .as_ref()
            .ok_or_else(|| Error::new(format!("{} is not in a container of ours", self.kind.name())))
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
