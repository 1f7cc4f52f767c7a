//! memcached.

use std::{
    env, fmt,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use tokio::sync::OnceCell;

use crate::{
    Clock, Error, Result,
    engine::{Container, Folder},
    wait::{NotYet, Server, Wait},
};

/// Where a server listens in its container.
const PORT: u16 = 11211;

/// Within this time, a server on this machine answers a question that costs it nothing.
const SOON: Duration = Duration::from_secs(5);

/// Which memcached 1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memcached {
    /// That of Debian 13: 1.6.38.
    Stable,
    /// That of Debian 12: 1.6.18.
    Oldstable,
}

impl Memcached {
    fn name(self) -> &'static str {
        match self {
            Self::Stable => "memcached",
            Self::Oldstable => "memcached-old",
        }
    }

    fn command(options: &[&str]) -> Vec<String> {
        // As root it does not start, and every image has the user `nobody`.
        let own = ["memcached", "-u", "nobody", "-U", "0"];
        own.iter().chain(options).map(|word| (*word).to_owned()).collect()
    }
}

/// A server that answers.
pub struct MemcachedServer {
    version: Memcached,
    address: String,
    container: Option<Container>,
}

impl MemcachedServer {
    /// The server of this process: that of `SESSION_TEST_MEMCACHED_URL` or `SESSION_TEST_MEMCACHED_OLD_URL`
    /// (`memcached://HOST:PORT`), else one container, started at the first call and removed when the process ends.
    ///
    /// # Errors
    ///
    /// There is no server; the text names the command that provides it.
    pub async fn shared(version: Memcached) -> Result<&'static Self> {
        static STABLE: OnceCell<MemcachedServer> = OnceCell::const_new();
        static OLDSTABLE: OnceCell<MemcachedServer> = OnceCell::const_new();
        let cell = match version {
            Memcached::Stable => &STABLE,
            Memcached::Oldstable => &OLDSTABLE,
        };
        cell.get_or_try_init(|| async {
            let name = version.name().to_uppercase().replace('-', "_");
            let variable = format!("SESSION_TEST_{name}_URL");
            match env::var(&variable) {
                Ok(url) => {
                    let named = |error: Error| Error::new(format!("the server of {variable}: {error}"));
                    let server = Self {
                        version,
                        address: address_of(&url).map_err(named)?,
                        container: None,
                    };
                    server.answers().await.map_err(named)?;
                    Ok(server)
                }
                Err(_) => Self::start(version, &[]).await,
            }
        })
        .await
    }

    /// A server of one's own in a container, with further options of its command line. Removed when dropped.
    ///
    /// # Errors
    ///
    /// As [`MemcachedServer::shared`].
    pub async fn start(version: Memcached, options: &[&str]) -> Result<Self> {
        Self::run(version, Memcached::command(options)).await
    }

    /// As [`MemcachedServer::start`], with its clock off.
    ///
    /// # Errors
    ///
    /// As [`MemcachedServer::shared`]; the server's clock is right, because its image lacks what that needs.
    pub async fn start_with_clock(version: Memcached, clock: Clock, options: &[&str]) -> Result<Self> {
        let server = Self::run(version, clock.command(Memcached::command(options))).await?;
        clock
            .check(async {
                let time = server.stat("stats", "time").await?;
                let seconds = time
                    .parse()
                    .map_err(|_| Error::new(format!("{time:?} is no time")))?;
                Ok(Duration::from_secs(seconds))
            })
            .await?;
        Ok(server)
    }

    async fn run(version: Memcached, command: Vec<String>) -> Result<Self> {
        let container = Container::start(version.name(), PORT, Folder::None, &command).await?;
        let server = Self {
            version,
            address: format!("127.0.0.1:{}", container.port),
            container: Some(container),
        };
        server.answers().await?;
        Ok(server)
    }

    /// `HOST:PORT`
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// As [`MemcachedServer::address`], at the container's own address where this machine reaches it: the published port
    /// may lead through a proxy, which costs more than a command.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub async fn direct_address(&self) -> Result<String> {
        let direct = match self.container() {
            Ok(container) => container.direct(PORT).await?,
            Err(_) => None,
        };
        Ok(direct.unwrap_or_else(|| self.address.clone()))
    }

    /// `127.0.0.1` and this port lead to the server.
    ///
    /// # Errors
    ///
    /// The server is not in a container of ours.
    pub fn port(&self) -> Result<u16> {
        Ok(self.container()?.port)
    }

    /// Ends the server as a crash does, with SIGKILL: all that it had is gone.
    ///
    /// # Errors
    ///
    /// It is not in a container of ours, or not running.
    pub async fn kill(&self) -> Result<()> {
        self.container()?.signal("KILL").await
    }

    /// The server does nothing, and its connections stay open (SIGSTOP), until [`MemcachedServer::resume`].
    ///
    /// # Errors
    ///
    /// As [`MemcachedServer::kill`].
    pub async fn pause(&self) -> Result<()> {
        self.container()?.signal("STOP").await
    }

    /// Ends a [`MemcachedServer::pause`].
    ///
    /// # Errors
    ///
    /// As [`MemcachedServer::kill`].
    pub async fn resume(&self) -> Result<()> {
        self.container()?.signal("CONT").await
    }

    /// Starts the server again after [`MemcachedServer::kill`], on the same port, and waits until it answers.
    ///
    /// # Errors
    ///
    /// As [`MemcachedServer::kill`].
    pub async fn start_again(&self) -> Result<()> {
        self.container()?.start_again().await?;
        self.answers().await
    }

    /// What the server calls itself and its version: `("memcached", "1.6.38")`.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn version(&self) -> Result<(String, String)> {
        let version = self.stat("stats", "version").await?;
        Ok(("memcached".to_owned(), version))
    }

    /// A line of what `stats` or another such command says (`"stats settings"`).
    ///
    /// # Errors
    ///
    /// It does not answer, or says nothing of that name.
    pub async fn stat(&self, command: &str, name: &str) -> Result<String> {
        let (address, command) = (self.address.clone(), command.to_owned());
        let lines = tokio::task::spawn_blocking(move || ask(&address, &command))
            .await
            .map_err(|error| Error::new(error.to_string()))??;
        let of_name = |line: &String| {
            let mut words = line.strip_prefix("STAT ")?.splitn(2, ' ');
            (words.next()? == name).then(|| words.next().unwrap_or_default().to_owned())
        };
        lines
            .iter()
            .find_map(of_name)
            .ok_or_else(|| Error::new(format!("{name} is not among the statistics")))
    }

    async fn answers(&self) -> Result<()> {
        let mut wait = Wait::new("the server");
        loop {
            match self.version().await {
                Ok(_) => return Ok(()),
                Err(error) => wait.again(NotYet::new(self, error)).await?,
            }
        }
    }
}

impl Server for MemcachedServer {
    fn place(&self) -> Result<String> {
        Ok(self.address.clone())
    }

    fn container(&self) -> Result<&Container> {
        self.container
            .as_ref()
            .ok_or_else(|| Error::new(format!("{} is not in a container of ours", self.version.name())))
    }
}

impl fmt::Debug for MemcachedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedServer")
            .field("version", &self.version)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn address_of(url: &str) -> Result<String> {
    let rest = url
        .strip_prefix("memcached://")
        .map(|rest| rest.trim_end_matches('/'));
    match rest {
        Some(address) if address.contains(':') && !address.contains(['/', '?', ',']) => {
            Ok(address.to_owned())
        }
        _ => Err(Error::new("memcached://HOST:PORT is expected")),
    }
}

/// The lines of the answer to one command, on a connection of its own.
fn ask(address: &str, command: &str) -> Result<Vec<String>> {
    let told = |error: std::io::Error| Error::new(error.to_string());
    let address: SocketAddr = address
        .to_socket_addrs()
        .map_err(told)?
        .next()
        .ok_or_else(|| Error::new("no such host"))?;
    let mut stream = TcpStream::connect_timeout(&address, SOON).map_err(told)?;
    stream.set_read_timeout(Some(SOON)).map_err(told)?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .map_err(told)?;
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        match line.map_err(told)? {
            line if line == "END" => return Ok(lines),
            line if line.contains("ERROR") => return Err(Error::new(line)),
            line => lines.push(line),
        }
    }
    Err(Error::new("the server closed the connection"))
}
