//! How a store is made.

use std::{fmt, sync::Arc, time::Duration};

use session_core::{Capability, ClockSource, Durability, KeyError, StoreProfile};
use sqlx::PgPool;

use crate::{BACKEND, PostgresStore, carry::Calls, node::Node, schema::Table, sql::Statements};

/// The largest record that may be configured. A value may have 1 GB, but every batch holds it in memory, here and there.
const LARGEST_RECORD: usize = 64 * 1024 * 1024;

/// Batches of one kind under way at once. More make smaller batches, which cost the server more for each call.
const LANES: usize = 2;

/// Names what [`PostgresStore::new`] leaves at its default.
#[must_use]
pub struct PostgresStoreBuilder {
    pool: PgPool,
    table: Table,
    max_record: usize,
    read: Duration,
    write: Duration,
    connect: Duration,
    sweep: Duration,
    unlogged: bool,
    relaxed_touch: bool,
    durability: Durability,
}

impl PostgresStoreBuilder {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            table: Table {
                schema: None,
                name: "sessions".to_owned(),
            },
            max_record: 64 * 1024,
            read: Duration::from_millis(250),
            write: Duration::from_millis(500),
            connect: Duration::from_secs(1),
            sweep: Duration::from_secs(10),
            unlogged: false,
            relaxed_touch: false,
            durability: Durability::Crash,
        }
    }

    /// The table's name, of 1 to 48 bytes; it is quoted. Default: `sessions`.
    ///
    /// Two sites in one database need two tables if one user's sessions on both are not to be listed together.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table.name = name.into();
        self
    }

    /// The schema of the table, of 1 to 48 bytes; it is quoted, and made if it is not there. Default: the first of the
    /// connection's `search_path`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.table.schema = Some(name.into());
        self
    }

    /// Bytes of data in the largest record, 64 MiB at most. Default: 64 KiB.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// How long a read may take, waiting for a connection included. Default: 250 ms.
    pub fn read_deadline(mut self, length: Duration) -> Self {
        self.read = length;
        self
    }

    /// How long a write may take, waiting for a connection and for others' locks included. Default: 500 ms.
    pub fn write_deadline(mut self, length: Duration) -> Self {
        self.write = length;
        self
    }

    /// How long the pool may take for a connection. It goes on when the call that began it has no more time. Default: 1 s.
    pub fn connect_deadline(mut self, length: Duration) -> Self {
        self.connect = length;
        self
    }

    /// How long the removal of one batch of expired records may take. Default: 10 s.
    pub fn sweep_deadline(mut self, length: Duration) -> Self {
        self.sweep = length;
        self
    }

    /// Makes an `UNLOGGED` table, should there be none yet: several times faster to write, and empty after a crash of the
    /// server. The profile then claims [`Durability::None`]. Default: a logged one.
    pub fn unlogged(mut self) -> Self {
        self.unlogged = true;
        self
    }

    /// Acknowledges a `touch` before it is on disk: a crash of the server takes back the last ones (for about half a
    /// second, three times `wal_writer_delay`), so that a session may end as early as if it had not been touched. Default:
    /// a touch is as durable as every write. The profile tells ([`session_core::Limits::touch_durability`]).
    pub fn relaxed_touch(mut self) -> Self {
        self.relaxed_touch = true;
        self
    }

    /// What an acknowledged write survives, as the server is configured: with `synchronous_commit = off` it is
    /// [`Durability::Periodic`], with `fsync = off` less. Default: [`Durability::Crash`], as the server's own default is.
    ///
    /// It is what [`StoreProfile`] tells; nothing else changes.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The store. It connects at the first call; the table must be there by then: see [`PostgresStore::migrate`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: a name, the largest record or a deadline cannot be.
    pub fn build(self) -> Result<PostgresStore, ConfigError> {
        self.table.check()?;
        if !(1..=LARGEST_RECORD).contains(&self.max_record) {
            return Err(ConfigError::MaxRecord);
        }
        if [self.read, self.write, self.connect, self.sweep]
            .iter()
            .any(Duration::is_zero)
        {
            return Err(ConfigError::Deadline);
        }
        Ok(self.assume_valid())
    }

    /// [`PostgresStoreBuilder::build`], when only defaults were chosen.
    pub(crate) fn assume_valid(self) -> PostgresStore {
        let mut profile = StoreProfile::new(BACKEND);
        profile.capabilities = vec![Capability::Subjects, Capability::Sweep];
        profile.limits.max_record = self.max_record;
        // The server counts in microseconds, from the beginning of a statement; ours come in milliseconds.
        profile.limits.granularity = Duration::from_millis(10);
        profile.limits.durability = match self.unlogged {
            true => Durability::None,
            false => self.durability,
        };
        let relaxes = self.relaxed_touch && profile.limits.durability == Durability::Crash;
        profile.limits.touch_durability = relaxes.then_some(Durability::Periodic);
        profile.limits.may_evict = false;
        profile.limits.clock = ClockSource::Server;
        let statements = Statements::on(&self.table, self.relaxed_touch);
        let most = self.pool.options().get_max_connections() as usize;
        let node = Arc::new(Node::new(self.pool, statements, self.connect));
        PostgresStore {
            calls: Calls::new(&node, LANES.min(most).max(1), self.max_record),
            node,
            table: self.table,
            unlogged: self.unlogged,
            read: self.read,
            write: self.write,
            sweep: self.sweep,
            profile,
        }
    }
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder")
            .field("table", &self.table.quoted())
            .field("max_record", &self.max_record)
            .field("read_deadline", &self.read)
            .field("write_deadline", &self.write)
            .field("connect_deadline", &self.connect)
            .field("sweep_deadline", &self.sweep)
            .field("unlogged", &self.unlogged)
            .field("relaxed_touch", &self.relaxed_touch)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

/// What was configured cannot be. No part of it is repeated that may be a password.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no URL of a PostgreSQL server.
    Url,
    /// TLS is asked for, and needs the feature `tls`.
    Tls,
    /// A key of the URL means nothing here, is there twice, or has a value that cannot be.
    Key(KeyError),
    /// A table's or schema's name is not of 1 to 48 bytes.
    Name,
    /// The largest record has no byte, or more than 64 MiB.
    MaxRecord,
    /// A deadline is zero.
    Deadline,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str(
                "not the URL of a server: postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE is expected, with user and \
                 password percent-encoded",
            ),
            Self::Tls => f.write_str("this sslmode needs session-postgres with its feature `tls`"),
            Self::Key(error) => error.fmt(f),
            Self::Name => f.write_str("a table's or schema's name has 1 to 48 bytes"),
            Self::MaxRecord => write!(f, "the largest record has 1 to {LARGEST_RECORD} bytes"),
            Self::Deadline => f.write_str("a deadline of zero leaves no time for any call"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<KeyError> for ConfigError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// Why [`PostgresStore::connect`] has no store to give.
pub type ConnectError = session_core::ConnectError<ConfigError>;

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
