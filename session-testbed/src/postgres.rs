//! PostgreSQL.

mod command;

use std::{env, fmt, io, str::FromStr, time::Duration};

use sqlx::{
    Connection, FromRow, PgConnection,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::{sync::OnceCell, time::timeout};

pub(crate) use self::command::{DATABASE, FOLDER, PASSWORD, ROLE, SUPERUSER};
use crate::{
    Clock, Error, Result,
    engine::{Container, Folder},
    wait::{NotYet, Server, Wait},
};

/// Where a server listens in its container.
const PORT: u16 = 5432;

/// Within this time, a server on this machine answers a question that costs it nothing; one that is paused never does.
const SOON: Duration = Duration::from_secs(5);

/// SQLSTATE `invalid_authorization_specification`: nobody may connect in this way.
const REFUSED: &str = "28000";

/// The servers that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// PostgreSQL 17
    V17,
    /// PostgreSQL 15
    V15,
}

impl Version {
    /// What `images.txt` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::V17 => "postgres",
            Self::V15 => "postgres-15",
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::V17 => 17,
            Self::V15 => 15,
        }
    }

    /// `SESSION_TEST_POSTGRES_15_<END>`
    fn variable(self, end: &str) -> String {
        let name = self.name().to_uppercase().replace('-', "_");
        format!("SESSION_TEST_{name}_{end}")
    }
}

/// A server that answers, with an empty database. Every connection over TCP needs the password.
pub struct PostgresServer {
    version: Version,
    url: String,
    admin_url: Option<String>,
    /// Whether it refuses connections without TLS.
    is_tls: bool,
    container: Option<Container>,
}

impl PostgresServer {
    /// The server of this process: that of `SESSION_TEST_POSTGRES_URL` or `SESSION_TEST_POSTGRES_15_URL`, else one
    /// container, started at the first call with `fsync=off` and removed when the process ends.
    ///
    /// `SESSION_TEST_POSTGRES_ADMIN_URL` is what [`PostgresServer::admin_url`] tells then.
    ///
    /// # Errors
    ///
    /// There is no server; the text names the command that provides it.
    pub async fn shared(version: Version) -> Result<&'static Self> {
        static V17: OnceCell<PostgresServer> = OnceCell::const_new();
        static V15: OnceCell<PostgresServer> = OnceCell::const_new();
        let cell = match version {
            Version::V17 => &V17,
            Version::V15 => &V15,
        };
        cell.get_or_try_init(|| async {
            let variable = version.variable("URL");
            match env::var(&variable) {
                Ok(url) => {
                    let server = Self {
                        version,
                        url,
                        admin_url: env::var(version.variable("ADMIN_URL")).ok(),
                        is_tls: false,
                        container: None,
                    };
                    // The URL may hold a password: only the variable is told.
                    server
                        .answers()
                        .await
                        .map_err(|error| Error::new(format!("the server of {variable}: {error}")))?;
                    Ok(server)
                }
                // It outlives nothing, and a hundred tests at once would wait for one disk.
                Err(_) => Self::start(version, &["fsync=off"]).await,
            }
        })
        .await
    }

    /// A server of one's own in a container, with further settings (`"fsync=off"`). Removed when dropped.
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::shared`].
    pub async fn start(version: Version, options: &[&str]) -> Result<Self> {
        Self::run(version, options, None, None).await
    }

    /// As [`PostgresServer::start`], with its clock off.
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::shared`]; the server's clock is right, because its image lacks what that needs.
    pub async fn start_with_clock(version: Version, clock: Clock, options: &[&str]) -> Result<Self> {
        let server = Self::run(version, options, Some(clock), None).await?;
        clock
            .check(async {
                let seconds: f64 = server
                    .ask("SELECT extract(epoch FROM clock_timestamp())::float8")
                    .await?;
                Duration::try_from_secs_f64(seconds).map_err(|error| Error::new(error.to_string()))
            })
            .await?;
        Ok(server)
    }

    /// As [`PostgresServer::start`], with a certificate and its key (PEM). It refuses connections without TLS.
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::shared`]; the server cannot use the certificate or the key.
    pub async fn start_with_tls(
        version: Version,
        certificate: &str,
        key: &str,
        options: &[&str],
    ) -> Result<Self> {
        Self::run(version, options, None, Some((certificate, key))).await
    }

    async fn run(
        version: Version,
        options: &[&str],
        clock: Option<Clock>,
        tls: Option<(&str, &str)>,
    ) -> Result<Self> {
        let command = command::command(version.number(), options, clock, tls);
        let container = Container::start(version.name(), PORT, Folder::Own(FOLDER), &command).await?;
        let port = container.port;
        let url = |role, database| format!("postgres://{role}:{PASSWORD}@127.0.0.1:{port}/{database}");
        let server = Self {
            version,
            url: url(ROLE, DATABASE),
            admin_url: Some(url(SUPERUSER, DATABASE)),
            is_tls: tls.is_some(),
            container: Some(container),
        };
        server.answers().await?;
        Ok(server)
    }

    /// `postgres://session:PASSWORD@127.0.0.1:PORT/sessions`, or what the variable says. The role owns the database, and
    /// is no superuser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// [`PostgresServer::url`] by the container's own address, where this machine reaches it: the published port may lead
    /// through a proxy, which costs more than many a statement.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn direct_url(&self) -> Result<String> {
        let direct = match self.container() {
            Ok(container) => container.direct(PORT).await?,
            Err(_) => None,
        };
        Ok(match direct {
            Some(at) => self.url.replacen(&place(&self.url)?, &at, 1),
            None => self.url.clone(),
        })
    }

    /// The same database as a superuser, who sees what others do and may end it.
    ///
    /// # Errors
    ///
    /// The server is not in a container of ours, and its variable is not set.
    pub fn admin_url(&self) -> Result<&str> {
        self.admin_url
            .as_deref()
            .ok_or_else(|| Error::new(format!("{} is not set", self.version.variable("ADMIN_URL"))))
    }

    /// `127.0.0.1` and this port lead to the server.
    ///
    /// # Errors
    ///
    /// The server is not in a container of ours.
    pub fn port(&self) -> Result<u16> {
        Ok(self.container()?.port)
    }

    /// Ends the server as a crash does: SIGKILL to all of its processes.
    ///
    /// # Errors
    ///
    /// It is not in a container of ours, or not running.
    pub async fn kill(&self) -> Result<()> {
        // It is the first process of its container: the kernel ends the others with it.
        self.container()?.signal("KILL").await
    }

    /// All processes of the server do nothing, and its connections stay open, until [`PostgresServer::resume`].
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::kill`].
    pub async fn pause(&self) -> Result<()> {
        self.container()?.freeze(true).await
    }

    /// Ends a [`PostgresServer::pause`].
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::kill`]; it is not paused.
    pub async fn resume(&self) -> Result<()> {
        self.container()?.freeze(false).await
    }

    /// Starts the server again after [`PostgresServer::kill`], on the same port with the same data, and waits until it
    /// answers.
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::kill`].
    pub async fn start_again(&self) -> Result<()> {
        self.container()?.start_again().await?;
        self.answers().await
    }

    /// Ends the server as its operator does (a fast shutdown: connections end with SQLSTATE 57P01), starts it again, and
    /// waits until it answers.
    ///
    /// # Errors
    ///
    /// As [`PostgresServer::kill`].
    pub async fn restart(&self) -> Result<()> {
        self.container()?.end("INT").await?;
        self.start_again().await
    }

    /// What the server calls itself and its version: `("PostgreSQL", "17.5")`.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn version(&self) -> Result<(String, String)> {
        let version: String = self.ask("SHOW server_version").await?;
        // What follows names the package.
        let number = version.split(' ').next().unwrap_or_default();
        Ok(("PostgreSQL".to_owned(), number.to_owned()))
    }

    /// The end of what the server wrote to its log, if it is in a container of ours.
    pub async fn log(&self) -> String {
        match &self.container {
            Some(container) => container.log().await,
            None => String::new(),
        }
    }

    async fn ask<T>(&self, query: &'static str) -> Result<T>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
        T: Send + Unpin,
    {
        ask(&self.url, query).await.map_err(told)
    }

    async fn answers(&self) -> Result<()> {
        let mut wait = Wait::new("the server");
        loop {
            let error = match ask::<i32>(&self.url, "SELECT 1").await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            // To us it speaks in the clear, unless who builds this has sqlx with TLS: then the refusal is its answer. One
            // that is not ready yet says so first.
            let code = error.as_database_error().and_then(DatabaseError::code);
            if self.is_tls && code.is_some_and(|code| code == REFUSED) {
                return Ok(());
            }
            wait.again(NotYet::new(self, error)).await?;
        }
    }
}

impl Server for PostgresServer {
    fn place(&self) -> Result<String> {
        place(&self.url)
    }

    fn container(&self) -> Result<&Container> {
        self.container
            .as_ref()
            .ok_or_else(|| Error::new(format!("{} is not in a container of ours", self.version.name())))
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresServer")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// One question on a connection of its own, answered soon or not at all.
pub(crate) async fn ask<T>(url: &str, query: &'static str) -> Result<T, sqlx::Error>
where
    (T,): for<'r> FromRow<'r, PgRow>,
    T: Send + Unpin,
{
    let asked = async {
        let mut connection = PgConnection::connect(url).await?;
        let answer = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        // Else the server's log would tell of a client that was lost.
        connection.close().await?;
        Ok(answer)
    };
    match timeout(SOON, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// `HOST:PORT` of a URL.
pub(crate) fn place(url: &str) -> Result<String> {
    let options = PgConnectOptions::from_str(url).map_err(told)?;
    Ok(format!("{}:{}", options.get_host(), options.get_port()))
}

fn told(error: sqlx::Error) -> Error {
    Error::new(error.to_string())
}
