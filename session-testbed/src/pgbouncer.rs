//! PgBouncer.

use std::fmt;

use crate::{
    PostgresServer, Result,
    engine::{Container, Folder},
    postgres::{self, DATABASE, FOLDER, PASSWORD, ROLE, SUPERUSER},
    wait::{NotYet, Server, Wait},
};

/// Where it listens in its container.
const PORT: u16 = 6432;

/// Makes the two files, and runs the rest as somebody else: PgBouncer refuses to be root.
const SCRIPT: &str = r#"
printf '%s\n' "$1" >/tmp/pgbouncer.ini
printf '%s\n' "$2" >/tmp/users.txt
shift 2
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
"#;

/// PgBouncer in front of a server: a connection to the server is a client's for one transaction only.
pub struct PgBouncer {
    url: String,
    container: Container,
}

impl PgBouncer {
    /// In a container of its own, in front of a server in one of ours, with the same roles and password. It stays when
    /// the server is killed, and finds it when it is started again. Removed when dropped.
    ///
    /// It keeps up to 20 connections to the server for each role, and up to 200 prepared statements on each.
    ///
    /// # Errors
    ///
    /// It does not start, the text names the command that provides what is missing; the server is not in a container of
    /// ours, or does not answer.
    pub async fn start(server: &PostgresServer) -> Result<Self> {
        // It reaches the server over its socket: the address of a container changes when it is started again.
        let settings = format!(
            "[databases]
{DATABASE} = host={FOLDER}
[pgbouncer]
listen_addr = *
listen_port = {PORT}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = /tmp/users.txt
pool_mode = transaction
default_pool_size = 20
max_client_conn = 400
max_prepared_statements = 200
; A setting of each connection that drivers ask for, and that makes no difference since PostgreSQL 12.
ignore_startup_parameters = extra_float_digits
; Seconds. Left alone, a server that was started again is found after 15.
server_login_retry = 0.1"
        );
        let users = format!("\"{ROLE}\" \"{PASSWORD}\"\n\"{SUPERUSER}\" \"{PASSWORD}\"");
        let command = [
            "sh",
            "-euc",
            SCRIPT,
            "sh",
            &settings,
            &users,
            "pgbouncer",
            "/tmp/pgbouncer.ini",
        ]
        .map(str::to_owned);
        let folder = Folder::Of(server.container()?);
        let container = Container::start("pgbouncer", PORT, folder, &command).await?;
        let port = container.port;
        let bouncer = Self {
            url: format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"),
            container,
        };
        bouncer.answers().await?;
        Ok(bouncer)
    }

    /// `postgres://session:PASSWORD@127.0.0.1:PORT/sessions`
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1` and this port lead to it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.container.port
    }

    /// The end of what it wrote to its log.
    pub async fn log(&self) -> String {
        self.container.log().await
    }

    /// Waits until it answers, which it does when the server does.
    async fn answers(&self) -> Result<()> {
        let mut wait = Wait::new("PgBouncer");
        loop {
            match postgres::ask::<i32>(&self.url, "SELECT 1").await {
                Ok(_) => return Ok(()),
                Err(error) => wait.again(NotYet::new(self, error)).await?,
            }
        }
    }
}

impl Server for PgBouncer {
    fn place(&self) -> Result<String> {
        postgres::place(&self.url)
    }

    fn container(&self) -> Result<&Container> {
        Ok(&self.container)
    }
}

impl fmt::Debug for PgBouncer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgBouncer").finish_non_exhaustive()
    }
}
