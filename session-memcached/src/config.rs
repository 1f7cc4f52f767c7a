//! How a store is made.

use std::{fmt, sync::Arc, time::Duration};

use session_core::{ClockSource, Durability, KeyError, StoreProfile, Subject, head};

use tokio::task::JoinSet;

use crate::{
    BACKEND, MemcachedStore, Servers,
    carry::{Calls, ITEM},
    error::unavailable,
    life,
    node::Node,
};

/// Bytes that a prefix has at most. A key has 250, of which a session takes 43.
const LONGEST_PREFIX: usize = 64;

/// The largest record that may be configured. A server may take items of 1 GiB (`-I`), but every request carries the
/// record both ways, and others wait behind it on the connection.
const LARGEST_RECORD: usize = 64 * 1024 * 1024;

/// Bytes of the text of a [`SessionKey`](session_core::SessionKey).
const KEY: usize = 43;

/// The largest record, unless it is named.
const MAX_RECORD: usize = 64 * 1024;

/// Names what is not to stay at its default.
#[must_use]
pub struct MemcachedStoreBuilder {
    servers: Servers,
    prefix: String,
    max_record: Option<usize>,
    read: Duration,
    write: Duration,
    connect: Duration,
}

impl MemcachedStoreBuilder {
    pub(crate) fn new(servers: Servers) -> Self {
        Self {
            servers,
            prefix: "session:".to_owned(),
            max_record: None,
            read: Duration::from_millis(250),
            write: Duration::from_millis(500),
            connect: Duration::from_secs(1),
        }
    }

    /// What every key begins with: 1 to 64 letters, digits and `-_.:/`. Default: `session:`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Bytes of data in the largest record, 64 MiB at most. Default: 64 KiB; with [`MemcachedStoreBuilder::connect`],
    /// what the servers take if that is less.
    ///
    /// A server takes items of 1 MiB unless it is started with another `-I`, and of these some hundred bytes are not data.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = Some(bytes);
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

    /// How long connecting to a server may take. It goes on when the call that began it has no more time. Default: 1 s.
    pub fn connect_deadline(mut self, length: Duration) -> Self {
        self.connect = length;
        self
    }

    /// The store. It connects at the first call: what the servers take is known then, and a record that is too large
    /// for them is `TooLarge` from then on.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: the servers, the prefix, the largest record or a deadline cannot be.
    pub fn build(self) -> Result<MemcachedStore, ConfigError> {
        self.servers.check()?;
        let length = self.prefix.len();
        if !(1..=LONGEST_PREFIX).contains(&length) {
            return Err(ConfigError::Prefix);
        }
        // A blank or a control character would end the key, and make a command of the rest.
        if !self
            .prefix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte))
        {
            return Err(ConfigError::Prefix);
        }
        let max_record = self.max_record.unwrap_or(MAX_RECORD);
        if !(1..=LARGEST_RECORD).contains(&max_record) {
            return Err(ConfigError::MaxRecord);
        }
        if [self.read, self.write, self.connect]
            .iter()
            .any(Duration::is_zero)
        {
            return Err(ConfigError::Deadline);
        }
        let mut profile = StoreProfile::new(BACKEND);
        profile.limits.max_record = max_record;
        profile.limits.min_ttl = Duration::from_secs(1);
        profile.limits.max_ttl = life::longest();
        profile.limits.granularity = life::GRANULARITY;
        // A restart empties it.
        profile.limits.durability = Durability::None;
        // With -M too: an update that finds no memory takes the item with it that it was to replace.
        profile.limits.may_evict = true;
        // Up to 30 days.
        profile.limits.clock = ClockSource::Server;
        let calls = |address| Calls::new(Node::new(address, self.connect), max_record);
        Ok(MemcachedStore {
            calls: self.servers.addresses().map(calls).collect(),
            servers: self.servers,
            prefix: self.prefix.into_boxed_str(),
            read: self.read,
            write: self.write,
            profile,
        })
    }

    /// The store, with the servers asked first, all at once: what they take is in its profile.
    ///
    /// A server that is down is left out of that, with a warning, unless all are: its share of the sessions is
    /// `Unavailable` until it is back, and the others serve theirs.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: as [`MemcachedStoreBuilder::build`]; or the largest record that was named is larger than a server
    /// takes; or no server answers, or what does is no memcached 1.6 that compares (`-C` turns that off).
    pub async fn connect(self) -> Result<MemcachedStore, ConnectError> {
        let named = self.max_record;
        let mut store = self.build()?;
        let mut asking = JoinSet::new();
        for calls in &store.calls {
            let node = Arc::clone(calls.node());
            asking.spawn(async move { (node.link().await, node) });
        }
        let (mut down, mut sizes) = (None, Vec::new());
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok((Ok(link), node)) => sizes.push((link.settings.item_size_max, node)),
                Ok((Err(error), _)) => {
                    tracing::warn!(%error, "a server does not answer");
                    down = Some(error);
                }
                Err(_) => down = Some(unavailable("the runtime has ended")),
            }
        }
        let smallest = sizes.into_iter().min_by_key(|(bytes, _)| *bytes);
        let Some((item_size_max, node)) = smallest else {
            return Err(down.unwrap_or_else(|| unavailable("no server answers")).into());
        };
        let rest = store.prefix.len() + KEY + head::LEN + Subject::MAX_LEN + ITEM;
        let most = item_size_max.saturating_sub(rest);
        match named {
            Some(bytes) if bytes > most => {
                return Err(ConfigError::ItemSize {
                    server: node.address.to_string(),
                    item_size_max,
                    most,
                }
                .into());
            }
            Some(_) => {}
            None => store.profile.limits.max_record = most.min(MAX_RECORD),
        }
        Ok(store)
    }
}

impl fmt::Debug for MemcachedStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedStoreBuilder")
            .field("servers", &self.servers)
            .field("prefix", &self.prefix)
            .field("max_record", &self.max_record)
            .field("read_deadline", &self.read)
            .field("write_deadline", &self.write)
            .field("connect_deadline", &self.connect)
            .finish()
    }
}

/// What was configured cannot be.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no URL of memcached servers.
    Url,
    /// There is no server.
    Servers,
    /// A server's address is not `HOST` or `HOST:PORT`.
    Address,
    /// This server is there twice.
    SameServer(String),
    /// The URL has a user or a password, for which the client has no word.
    Credentials,
    /// A key of the URL means nothing here, is there twice, or has a value that cannot be.
    Key(KeyError),
    /// The prefix is not 1 to 64 letters, digits and `-_.:/`.
    Prefix,
    /// The largest record has no byte, or more than 64 MiB.
    MaxRecord,
    /// The largest record is larger than a server takes.
    ItemSize {
        /// Its address.
        server: String,
        /// What its largest item has, all in all.
        item_size_max: usize,
        /// What a record may have of that.
        most: usize,
    },
    /// A deadline is zero.
    Deadline,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str("not the URL of servers: memcached://HOST[:PORT][,HOST[:PORT]…] is expected"),
            Self::Servers => f.write_str("there is no server"),
            Self::Address => f.write_str("a server's address is HOST or HOST:PORT"),
            Self::SameServer(address) => write!(f, "the server {address} is there twice"),
            Self::Credentials => f.write_str(
                "the client of memcached knows neither users nor passwords: keep the servers in a network of their own",
            ),
            Self::Key(error) => error.fmt(f),
            Self::Prefix => write!(
                f,
                "a prefix has 1 to {LONGEST_PREFIX} letters, digits and the characters -_.:/"
            ),
            Self::MaxRecord => write!(f, "the largest record has 1 to {LARGEST_RECORD} bytes"),
            Self::ItemSize {
                server,
                item_size_max,
                most,
            } => write!(
                f,
                "the server {server} takes items of {item_size_max} bytes, which is {most} bytes of data in a record: \
                 choose a smaller max_record, or start it with a larger -I"
            ),
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

/// Why [`MemcachedStore::connect`] has no store to give.
pub type ConnectError = session_core::ConnectError<ConfigError>;

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
