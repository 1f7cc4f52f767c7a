//! How a store is made.

use std::{collections::HashMap, fmt, time::Duration};

use redis::RedisError;
use session_core::{Capability, ClockSource, Durability, KeyError, StoreProfile};

use crate::{
    BACKEND, RedisStore, Servers, address::Address, carry::Updates, replicas::Wait, servers::Tuning,
};

/// Bytes that a prefix has at most.
const LONGEST_PREFIX: usize = 64;

/// The largest record that may be configured. A value may have 512 MB (`proto-max-bulk-len`), but every request carries
/// it both ways, and others wait behind it on the connection.
const LARGEST_RECORD: usize = 64 * 1024 * 1024;

/// Names what [`RedisStore::new`] leaves at its default.
#[must_use]
pub struct RedisStoreBuilder {
    pub(crate) servers: Servers,
    pub(crate) nat: HashMap<Address, Address>,
    pub(crate) prefix: String,
    pub(crate) max_record: usize,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) connect: Duration,
    pub(crate) wait: Option<Wait>,
    durability: Durability,
    may_evict: bool,
}

impl RedisStoreBuilder {
    pub(crate) fn new(servers: Servers) -> Self {
        Self {
            servers,
            nat: HashMap::new(),
            prefix: "session:".to_owned(),
            max_record: 64 * 1024,
            read: Duration::from_millis(250),
            write: Duration::from_millis(500),
            connect: Duration::from_secs(1),
            wait: None,
            durability: Durability::None,
            may_evict: true,
        }
    }

    /// What every key begins with: 1 to 64 letters, digits and `-_.:/`. Default: `session:`.
    ///
    /// A session is kept under the prefix and its key, the index of a subject under the prefix, `subject/` and a digest.
    /// Two sites on one server need two prefixes if one user's sessions on both are not to be listed together.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Bytes of data in the largest record, 64 MiB at most. Default: 64 KiB.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// How long a read may take, connecting included. Default: 250 ms.
    pub fn read_deadline(mut self, length: Duration) -> Self {
        self.read = length;
        self
    }

    /// How long a write may take, connecting included. Default: 500 ms.
    pub fn write_deadline(mut self, length: Duration) -> Self {
        self.write = length;
        self
    }

    /// How long connecting may take. It goes on when the call that began it has no more time. Default: 1 s.
    pub fn connect_deadline(mut self, length: Duration) -> Self {
        self.connect = length;
        self
    }

    /// A write counts only once so many replicas have it: `WAIT` after each `create`, `update` and `delete`, which may
    /// take as long as `within`. Default: none.
    ///
    /// A `delete` that finds nothing waits as well: it may repeat one that was not confirmed.
    ///
    /// If fewer confirm it in that time, the call is `Unavailable` and tells how many did. The primary has the write
    /// all the same, and whoever asks again finds it there; what is not known is whether it survives a failover.
    /// `WAIT` makes a loss less likely and does not rule it out: see *What a failover loses* on the crate's front page.
    ///
    /// Writes then have a connection of their own to each server, so that reads wait for nobody; concurrent writes
    /// share a `WAIT`. `within` must be shorter than the write deadline.
    pub fn wait_for_replicas(mut self, replicas: u32, within: Duration) -> Self {
        self.wait = (replicas > 0).then_some(Wait {
            replicas: replicas.into(),
            within,
        });
        self
    }

    /// Where to reach servers that Sentinels or a Cluster announce under an address that leads nowhere from here
    /// (behind NAT, or in containers): pairs of hosts with ports, the announced one first. Default: as announced.
    pub fn nat_map<A: Into<String>, B: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = ((A, u16), (B, u16))>,
    ) -> Self {
        let address = |(announced, reached): ((A, u16), (B, u16))| {
            (
                Address::new(announced.0, announced.1),
                Address::new(reached.0, reached.1),
            )
        };
        self.nat = pairs.into_iter().map(address).collect();
        self
    }

    /// What an acknowledged write survives, as the server is configured: `appendfsync always` is [`Durability::Crash`],
    /// `everysec` is [`Durability::Periodic`]. Default: [`Durability::None`], because the store cannot know.
    ///
    /// It is what [`StoreProfile`] tells; nothing else changes.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether the server may drop sessions when memory runs short: it does unless its `maxmemory-policy` is
    /// `noeviction` (a `volatile-…` policy drops sessions too: all of them have an end). Default: it may, because the
    /// store cannot know.
    ///
    /// It is what [`StoreProfile`] tells; nothing else changes.
    pub fn may_evict(mut self, may_evict: bool) -> Self {
        self.may_evict = may_evict;
        self
    }

    /// The store. It connects at the first call.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the servers, the prefix, the largest record or a deadline cannot be.
    pub fn build(self) -> Result<RedisStore, ConfigError> {
        let length = self.prefix.len();
        if !(1..=LONGEST_PREFIX).contains(&length) {
            return Err(ConfigError::Prefix);
        }
        // Braces would put all sessions into one slot of a Cluster; blanks and control characters are mistakes.
        if !self
            .prefix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte))
        {
            return Err(ConfigError::Prefix);
        }
        if !(1..=LARGEST_RECORD).contains(&self.max_record) {
            return Err(ConfigError::MaxRecord);
        }
        if [self.read, self.write, self.connect]
            .iter()
            .any(Duration::is_zero)
        {
            return Err(ConfigError::Deadline);
        }
        if self
            .wait
            .is_some_and(|wait| wait.within.is_zero() || wait.within >= self.write)
        {
            return Err(ConfigError::Wait);
        }
        self.servers.check()?;
        Ok(self.assume_valid())
    }

    /// [`RedisStoreBuilder::build`], when only defaults were chosen.
    pub(crate) fn assume_valid(self) -> RedisStore {
        let mut profile = StoreProfile::new(BACKEND);
        profile.capabilities = vec![Capability::Subjects];
        profile.limits.max_record = self.max_record;
        // The server counts in milliseconds, on a clock that it reads once in a turn of its loop.
        profile.limits.granularity = Duration::from_millis(10);
        profile.limits.durability = self.durability;
        profile.limits.may_evict = self.may_evict;
        profile.limits.clock = ClockSource::Server;
        let tuning = Tuning {
            connect: self.connect,
            wait: self.wait,
        };
        let place = self.servers.to_string().into_boxed_str();
        let may_fail_over = self.servers.may_fail_over();
        let servers = self.servers.open(self.nat, tuning);
        RedisStore {
            place,
            may_fail_over,
            waits: self.wait.is_some(),
            updates: Updates::new(servers.clone()),
            servers,
            prefix: self.prefix.into_boxed_str(),
            read: self.read,
            write: self.write,
            connect: self.connect,
            profile,
        }
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("servers", &format_args!("{}", self.servers))
            .field("nat_map", &self.nat)
            .field("prefix", &self.prefix)
            .field("max_record", &self.max_record)
            .field("read_deadline", &self.read)
            .field("write_deadline", &self.write)
            .field("connect_deadline", &self.connect)
            .field("wait_for_replicas", &self.wait)
            .field("durability", &self.durability)
            .field("may_evict", &self.may_evict)
            .finish()
    }
}

/// What was configured cannot be. No part of it is repeated that may be a password.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no URL, or one with a fragment, or with a password that is not percent-encoded.
    Url,
    /// The scheme is none that [`RedisStore::connect`] names.
    Scheme(String),
    /// `rediss` needs the feature `tls`.
    Tls,
    /// A group with Sentinels needs a Sentinel and the name of a service.
    Sentinel,
    /// A Cluster needs a node, and none of them is a socket of this machine.
    Cluster,
    /// A Cluster has one database, 0.
    Database,
    /// A key of the URL means nothing here, is there twice, or has a value that cannot be.
    Key(KeyError),
    /// The prefix is not 1 to 64 letters, digits and `-_.:/`.
    Prefix,
    /// The largest record has no byte, or more than 64 MiB.
    MaxRecord,
    /// A deadline is zero.
    Deadline,
    /// Replicas have no time to confirm a write, or as much as the write itself.
    Wait,
    /// The client does not understand the rest of the URL.
    Client(RedisError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("not the URL of a server: redis://HOST[:PORT][/DATABASE] is expected"),
            Self::Scheme(scheme) => {
                write!(
                    f,
                    "{scheme:?}: a URL begins with redis://, redis+unix://, redis+sentinel://, redis+cluster://, or \
                     with rediss in their place"
                )
            }
            Self::Tls => f.write_str("rediss needs session-redis with its feature `tls`"),
            Self::Sentinel => f.write_str(
                "a group with Sentinels is redis+sentinel://HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]",
            ),
            Self::Cluster => f.write_str("a Cluster is redis+cluster://HOST[:PORT][,HOST[:PORT]…]"),
            Self::Database => f.write_str("a Cluster has no other database than 0"),
            Self::Key(error) => error.fmt(f),
            Self::Prefix => {
                write!(
                    f,
                    "a prefix has 1 to {LONGEST_PREFIX} letters, digits and the characters -_.:/"
                )
            }
            Self::MaxRecord => write!(f, "the largest record has 1 to {LARGEST_RECORD} bytes"),
            Self::Deadline => f.write_str("a deadline of zero leaves no time for any call"),
            Self::Wait => f.write_str(
                "the time in which replicas confirm a write is longer than zero and shorter than the write's",
            ),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<KeyError> for ConfigError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// Why [`RedisStore::connect`] has no store to give.
pub type ConnectError = session_core::ConnectError<ConfigError>;

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
