//! How a store is made.

use std::{fmt, time::Duration};

use redis::{Client, RedisError};
use session_core::{Capability, ClockSource, Durability, Error, StoreProfile};
use url::Url;

use crate::{BACKEND, RedisStore, connection::Connection};

/// Bytes that a prefix has at most.
const LONGEST_PREFIX: usize = 64;

/// The largest record that may be configured. A value may have 512 MB (`proto-max-bulk-len`), but every request carries
/// it both ways, and others wait behind it on the connection.
const LARGEST_RECORD: usize = 64 * 1024 * 1024;

/// Names what [`RedisStore::new`] leaves at its default.
#[must_use]
pub struct RedisStoreBuilder {
    client: Client,
    prefix: String,
    max_record: usize,
    read: Duration,
    write: Duration,
    connect: Duration,
    durability: Durability,
    may_evict: bool,
}

impl RedisStoreBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            prefix: "session:".to_owned(),
            max_record: 64 * 1024,
            read: Duration::from_millis(250),
            write: Duration::from_millis(500),
            connect: Duration::from_secs(1),
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
    /// [`ConfigError`]: the prefix, the largest record or a deadline cannot be.
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
        RedisStore {
            connection: Connection::new(self.client, self.connect),
            prefix: self.prefix.into_boxed_str(),
            read: self.read,
            write: self.write,
            profile,
        }
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field(
                "server",
                &format_args!("{}", self.client.get_connection_info().addr()),
            )
            .field("prefix", &self.prefix)
            .field("max_record", &self.max_record)
            .field("read_deadline", &self.read)
            .field("write_deadline", &self.write)
            .field("connect_deadline", &self.connect)
            .field("durability", &self.durability)
            .field("may_evict", &self.may_evict)
            .finish()
    }
}

/// What a URL says.
pub(crate) fn from_url(text: &str) -> Result<RedisStoreBuilder, ConfigError> {
    let mut url = Url::parse(text).map_err(|_| ConfigError::Url)?;
    match url.scheme() {
        "redis" | "redis+unix" => {}
        "rediss" => tls()?,
        scheme => return Err(ConfigError::Scheme(scheme.chars().take(32).collect())),
    }
    if url.fragment().is_some() {
        // The client would read `#insecure` there.
        return Err(ConfigError::Url);
    }
    let is_unix = url.scheme() == "redis+unix";
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    url.set_query(None);
    let (mut own, mut names) = (Vec::new(), Vec::new());
    for (name, value) in pairs {
        if names.contains(&name) {
            return Err(ConfigError::Twice(name));
        }
        match name.as_str() {
            "prefix" | "max_record" | "read_ms" | "write_ms" | "connect_ms" => {
                own.push((name.clone(), value))
            }
            "db" | "user" | "pass" if is_unix => {
                url.query_pairs_mut().append_pair(&name, &value);
            }
            _ => return Err(ConfigError::UnknownKey(name)),
        }
        names.push(name);
    }
    let mut builder = RedisStoreBuilder::new(Client::open(url).map_err(ConfigError::Client)?);
    for (name, value) in own {
        let number = || value.parse().map_err(|_| ConfigError::Number(name.clone()));
        let millis = || number().map(Duration::from_millis);
        builder = match name.as_str() {
            "prefix" => builder.prefix(value),
            "max_record" => {
                builder.max_record(usize::try_from(number()?).map_err(|_| ConfigError::MaxRecord)?)
            }
            "read_ms" => builder.read_deadline(millis()?),
            "write_ms" => builder.write_deadline(millis()?),
            _ => builder.connect_deadline(millis()?),
        };
    }
    Ok(builder)
}

/// The client's TLS takes the cryptography that the process has chosen; without a choice it would panic.
#[cfg(feature = "tls")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it is an error")]
fn tls() -> Result<(), ConfigError> {
    use rustls::crypto::{CryptoProvider, ring};
    if CryptoProvider::get_default().is_none() {
        // Somebody else may be faster, which is as well.
        let _ = ring::default_provider().install_default();
    }
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn tls() -> Result<(), ConfigError> {
    Err(ConfigError::Tls)
}

/// What was configured cannot be. No part of it is repeated that may be a password.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is no URL, or one with a fragment.
    Url,
    /// The scheme is none of `redis`, `rediss`, `redis+unix`.
    Scheme(String),
    /// `rediss://` needs the feature `tls`.
    Tls,
    /// The URL has a key that means nothing here.
    UnknownKey(String),
    /// The URL has a key twice.
    Twice(String),
    /// The value of this key is no whole number.
    Number(String),
    /// The prefix is not 1 to 64 letters, digits and `-_.:/`.
    Prefix,
    /// The largest record has no byte, or more than 64 MiB.
    MaxRecord,
    /// A deadline is zero.
    Deadline,
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
                    "{scheme:?}: a URL begins with redis://, rediss:// or redis+unix://"
                )
            }
            Self::Tls => f.write_str("rediss:// needs session-redis with its feature `tls`"),
            Self::UnknownKey(name) => write!(f, "the URL's key {name:?} means nothing here"),
            Self::Twice(name) => write!(f, "the URL has its key {name:?} twice"),
            Self::Number(name) => write!(f, "the URL's key {name:?} wants a whole number"),
            Self::Prefix => {
                write!(
                    f,
                    "a prefix has 1 to {LONGEST_PREFIX} letters, digits and the characters -_.:/"
                )
            }
            Self::MaxRecord => write!(f, "the largest record has 1 to {LARGEST_RECORD} bytes"),
            Self::Deadline => f.write_str("a deadline of zero leaves no time for any call"),
            Self::Client(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why [`RedisStore::connect`] has no store to give.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL says something that cannot be.
    Config(ConfigError),
    /// The server does not answer, or not to this user and password.
    Store(Error),
}

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Store(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        let error = match from_url(url) {
            Ok(builder) => builder.build().map(drop).unwrap_err(),
            Err(error) => error,
        };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("horse"), "{shown}");
        error.to_string()
    }

    #[test]
    fn url_is_read_whole() {
        let url = "redis://ann:horse@127.0.0.1:7000/3?prefix=a/b-c_d.e:&max_record=100&read_ms=1&write_ms=2&connect_ms=3";
        let builder = from_url(url).unwrap();
        assert_eq!((builder.prefix.as_str(), builder.max_record), ("a/b-c_d.e:", 100));
        let millis = [builder.read, builder.write, builder.connect].map(|length| length.as_millis());
        assert_eq!(millis, [1, 2, 3]);
        let settings = builder.client.get_connection_info().redis_settings();
        assert_eq!((settings.username(), settings.db()), (Some("ann"), 3));
        let shown = format!("{builder:?}") + &format!("{:?}", builder.build().unwrap());
        assert!(
            shown.contains("127.0.0.1:7000") && !shown.contains("horse"),
            "{shown}"
        );
        for url in [
            "redis://h",
            "redis://[::1]:6380/",
            "redis+unix:///run/redis.sock?db=2&user=ann&pass=horse",
        ] {
            from_url(url).unwrap().build().unwrap();
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_no_password_is_shown() {
        for (url, says) in [
            ("", "not the URL"),
            ("horse", "not the URL"),
            ("http://:horse@h/", "\"http\""),
            ("redis+sentinel://:horse@h/", "\"redis+sentinel\""),
            ("redis://:horse@h/#insecure", "not the URL"),
            ("redis://:horse@h/?colour=red", "\"colour\""),
            ("redis://:horse@h/?db=1", "\"db\""),
            ("redis+unix:///s?pass=horse&colour=red", "\"colour\""),
            ("redis://:horse@h/?prefix=a&prefix=b", "twice"),
            ("redis://:horse@h/?read_ms=fast", "\"read_ms\""),
            ("redis://:horse@h/?write_ms=-1", "\"write_ms\""),
            ("redis://:horse@h/?connect_ms=0", "deadline of zero"),
            ("redis://:horse@h/?max_record=0", "largest record"),
            ("redis://:horse@h/?max_record=67108865", "largest record"),
            ("redis://:horse@h/?prefix=", "prefix"),
            ("redis://:horse@h/?prefix={a}", "prefix"),
            ("redis://:horse@h/?prefix=a%20b", "prefix"),
            ("redis://:horse@h/horse", ""),
        ] {
            let text = refused(url);
            assert!(text.contains(says), "{url}: {text}");
        }
        assert!(refused(&format!("redis://h/?prefix={}", "p".repeat(65))).contains("64"));
    }

    #[test]
    fn tls_needs_its_feature() {
        let answer = from_url("rediss://:horse@127.0.0.1/");
        assert_eq!(answer.is_ok(), cfg!(feature = "tls"), "{:?}", answer.err());
    }
}
