//! Redis and Valkey.

use std::{env, fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
    RedisError, cmd,
};
use tokio::sync::OnceCell;

use crate::{
    Clock, Error, Result,
    engine::{Container, Folder},
    wait::{NotYet, Server, Wait},
};

/// Where a server listens in its container.
const PORT: u16 = 6379;

/// Within this time, a server on this machine answers a question that costs it nothing; one that is paused never does.
const SOON: Duration = Duration::from_secs(1);

/// The two servers that speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Redis 8
    Redis,
    /// Valkey 8
    Valkey,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        }
    }

    /// The command line of a server that keeps nothing on disk, with further options: the last one of a name holds.
    pub(crate) fn command(self, port: u16, options: &[&str]) -> Vec<String> {
        let port = port.to_string();
        // The directory is one that every image has and everybody may write to.
        let own = [
            "--port",
            &port,
            "--protected-mode",
            "no",
            "--dir",
            "/tmp",
            "--save",
            "",
        ];
        std::iter::once(format!("{}-server", self.name()))
            .chain(own.iter().chain(options).map(|option| (*option).to_owned()))
            .collect()
    }
}

/// A server that answers.
pub struct RedisServer {
    kind: Kind,
    url: String,
    /// Asked for by the options, and not in the URL.
    password: Option<String>,
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
                    let server = Self::elsewhere(kind, url);
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
        Self::run(kind, kind.command(PORT, options), password(options)).await
    }

    /// As [`RedisServer::start`], with its clock off.
    ///
    /// # Errors
    ///
    /// As [`RedisServer::shared`]; the server's clock is right, because its image lacks what that needs.
    pub async fn start_with_clock(kind: Kind, clock: Clock, options: &[&str]) -> Result<Self> {
        let command = clock.command(kind.command(PORT, options));
        let server = Self::run(kind, command, password(options)).await?;
        clock
            .check(async {
                let (seconds, micros): (u64, u64) = server.ask(&["TIME"]).await?;
                Ok(Duration::from_secs(seconds) + Duration::from_micros(micros))
            })
            .await?;
        Ok(server)
    }

    async fn run(kind: Kind, command: Vec<String>, password: Option<String>) -> Result<Self> {
        let container = Container::start(kind.name(), PORT, Folder::None, &command).await?;
        let server = Self::new(kind, container, password);
        server.answers().await?;
        Ok(server)
    }

    /// In a container of ours; whether it answers is not known yet.
    pub(crate) fn new(kind: Kind, container: Container, password: Option<String>) -> Self {
        Self {
            kind,
            url: format!("redis://127.0.0.1:{}/", container.port),
            password,
            container: Some(container),
        }
    }

    /// Not in a container of ours; whether it answers is not known yet.
    pub(crate) fn elsewhere(kind: Kind, url: String) -> Self {
        Self {
            kind,
            url,
            password: None,
            container: None,
        }
    }

    /// `redis://127.0.0.1:PORT/`, or what the variable says. A password of the options is not in it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// [`RedisServer::url`] by the container's own address, where this machine reaches it: the published port may lead
    /// through a proxy, which costs more than a command.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn direct_url(&self) -> Result<String> {
        let direct = match self.container() {
            Ok(container) => container.direct(PORT).await?,
            Err(_) => None,
        };
        Ok(direct.map_or_else(|| self.url.clone(), |at| format!("redis://{at}/")))
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
        let info: String = self.ask(&["INFO", "server"]).await?;
        let field = |name| field(&info, name).map(str::to_owned);
        // Valkey tells a version of Redis too, for the sake of old clients.
        match (field("valkey_version"), field("redis_version")) {
            (Some(version), _) => Ok(("Valkey".to_owned(), version)),
            (None, Some(version)) => Ok(("Redis".to_owned(), version)),
            (None, None) => Err(Error::new("INFO server tells no version")),
        }
    }

    /// One command on a connection of its own, each answered soon or not at all.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        self.query(&command, SOON).await
    }

    /// As [`RedisServer::ask`], where nobody asks again: a server that has just begun may be slow.
    pub(crate) async fn tell(&self, words: &[&str]) -> Result<()> {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        self.query(&command, 10 * SOON).await
    }

    /// As [`RedisServer::ask`], for a command that takes its time.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd, within: Duration) -> Result<T> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(Some(within));
        let mut connection = Client::open(self.connection_info()?)
            .map_err(told)?
            .get_multiplexed_async_connection_with_config(&limits)
            .await
            .map_err(told)?;
        command.query_async(&mut connection).await.map_err(told)
    }

    /// Its URL, and the password that is not in it.
    pub(crate) fn connection_info(&self) -> Result<ConnectionInfo> {
        let info = self.url.as_str().into_connection_info().map_err(told)?;
        Ok(match &self.password {
            Some(password) => {
                let settings = info.redis_settings().clone().set_password(password);
                info.set_redis_settings(settings)
            }
            None => info,
        })
    }

    /// Where its URL leads.
    pub(crate) fn address(&self) -> Result<(String, u16)> {
        match self.connection_info()?.addr() {
            ConnectionAddr::Tcp(host, port) => Ok((host.clone(), *port)),
            other => Err(Error::new(format!("{other} is no host and port"))),
        }
    }

    /// Waits until the server answers: that it wants a password, or has no master yet, is an answer.
    pub(crate) async fn answers(&self) -> Result<()> {
        let mut wait = Wait::new("the server");
        loop {
            let error = match self.ask::<()>(&["PING"]).await {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            };
            if ["NOAUTH", "MASTERDOWN", "password"]
                .iter()
                .any(|answer| error.contains(answer))
            {
                return Ok(());
            }
            wait.again(NotYet::new(self, error)).await?;
        }
    }
}

impl Server for RedisServer {
    fn place(&self) -> Result<String> {
        let (host, port) = self.address()?;
        Ok(format!("{host}:{port}"))
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

fn told(error: RedisError) -> Error {
    Error::new(error.to_string())
}

/// The value of `name:value` in what INFO or CLUSTER INFO says.
pub(crate) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// The password that a server asks for, if its options say so.
pub(crate) fn password(options: &[&str]) -> Option<String> {
    let mut password = None;
    for pair in options.windows(2) {
        if pair[0].eq_ignore_ascii_case("--requirepass") {
            password = Some(pair[1].to_owned());
        }
    }
    password.filter(|password| !password.is_empty())
}
