//! How a store is made.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use session_core::{Capability, ClockSource, Durability, KeyError, StoreProfile};
use sqlx::sqlite::SqliteSynchronous;

use crate::{BACKEND, SqliteStore, carry::Calls, node::Node};

/// The largest record that may be configured. A value may have 1 GB, but every batch holds it in memory.
const LARGEST_RECORD: usize = 64 * 1024 * 1024;

/// When a write is on the disk. <https://www.sqlite.org/pragma.html#pragma_synchronous>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// Before it is acknowledged: it survives a loss of power ([`Durability::Crash`]).
    #[default]
    Full,
    /// A little later, and several times faster. It survives the end of the process; a loss of power, or a crash of the
    /// system, takes the last ones back ([`Durability::Periodic`]).
    Normal,
}

impl From<Synchronous> for SqliteSynchronous {
    fn from(synchronous: Synchronous) -> Self {
        match synchronous {
            Synchronous::Full => Self::Full,
            Synchronous::Normal => Self::Normal,
        }
    }
}

/// Names what [`SqliteStore::open`] leaves at its default.
#[derive(Debug)]
#[must_use]
pub struct SqliteStoreBuilder {
    path: PathBuf,
    max_record: usize,
    max_size: Option<u64>,
    read: Duration,
    write: Duration,
    connect: Duration,
    sweep: Duration,
    synchronous: Synchronous,
}

impl SqliteStoreBuilder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            max_record: 64 * 1024,
            max_size: None,
            read: Duration::from_millis(250),
            write: Duration::from_millis(500),
            connect: Duration::from_secs(1),
            sweep: Duration::from_secs(10),
            synchronous: Synchronous::default(),
        }
    }

    /// Bytes of data in the largest record, 64 MiB at most. Default: 64 KiB.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// Bytes of the largest file; its log, of about 4 MB, is beside it. Writes are `Full` then. A file that is larger stays
    /// as it is. Default: what the disk has.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// How long a read may take. Default: 250 ms.
    pub fn read_deadline(mut self, length: Duration) -> Self {
        self.read = length;
        self
    }

    /// How long a write may take, waiting for other processes included. Default: 500 ms.
    pub fn write_deadline(mut self, length: Duration) -> Self {
        self.write = length;
        self
    }

    /// How long the file may take to be opened, waiting for other processes included. Default: 1 s.
    pub fn connect_deadline(mut self, length: Duration) -> Self {
        self.connect = length;
        self
    }

    /// How long the removal of one batch of expired records may take. Default: 10 s.
    pub fn sweep_deadline(mut self, length: Duration) -> Self {
        self.sweep = length;
        self
    }

    /// When a write is on the disk. Default: [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// The store. It opens the file at the first call, or at [`SqliteStore::ready`].
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the path, the largest record or a deadline cannot be.
    pub fn build(self) -> Result<SqliteStore, ConfigError> {
        let path = self.path.to_str().ok_or(ConfigError::Path)?;
        if path.is_empty() || path.starts_with(':') || path.contains('\0') {
            return Err(ConfigError::Path);
        }
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

    /// [`SqliteStoreBuilder::build`], when only defaults were chosen.
    pub(crate) fn assume_valid(self) -> SqliteStore {
        let mut profile = StoreProfile::new(BACKEND);
        profile.capabilities = vec![Capability::Subjects, Capability::Sweep];
        profile.limits.max_record = self.max_record;
        profile.limits.granularity = Duration::from_millis(10);
        profile.limits.durability = match self.synchronous {
            Synchronous::Full => Durability::Crash,
            Synchronous::Normal => Durability::Periodic,
        };
        profile.limits.may_evict = false;
        profile.limits.clock = ClockSource::Client;
        // The folder that is the current one may change, and a path that begins with `file:` would be taken for a URI.
        let path = std::path::absolute(&self.path).unwrap_or(self.path);
        let node = Arc::new(Node::new(
            path,
            self.connect,
            self.write,
            self.synchronous,
            self.max_size,
        ));
        SqliteStore {
            calls: Arc::new(Calls::new(&node)),
            node,
            read: self.read,
            write: self.write,
            sweep: self.sweep,
            profile,
        }
    }
}

/// What was configured cannot be.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no URL of a file.
    Url,
    /// The path is empty, not UTF-8, or means memory.
    Path,
    /// A key of the URL means nothing here, is there twice, or has a value that cannot be.
    Key(KeyError),
    /// The largest record has no byte, or more than 64 MiB.
    MaxRecord,
    /// A deadline is zero.
    Deadline,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("not the URL of a file: sqlite:PATH is expected"),
            Self::Path => f.write_str(
                "no path of a file: UTF-8 that does not begin with a colon is expected; in memory, MemoryStore keeps sessions",
            ),
            Self::Key(error) => error.fmt(f),
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

/// Why [`SqliteStore::connect`] has no store to give.
pub type ConnectError = session_core::ConnectError<ConfigError>;

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
