//! What a store claims of itself. The conformance suite checks every claim, both ways.

use std::time::Duration;

use crate::{Error, ErrorKind, Record, Result};

/// What a store claims of itself: its name, what it can do beyond the five calls, and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreProfile {
    /// The backend's name, as in errors and reports (`"memory"`, `"redis"` …).
    pub name: &'static str,
    /// What the store can do beyond the five calls.
    pub capabilities: Vec<Capability>,
    /// The store's numbers.
    pub limits: Limits,
}

impl StoreProfile {
    /// A profile without capabilities and with the default [`Limits`].
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            capabilities: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Whether the store claims `capability`.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Checks a time to live, before any I/O.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidTtl`] if it is zero or longer than [`Limits::max_ttl`].
    pub fn check_ttl(&self, ttl: Duration) -> Result<()> {
        if ttl.is_zero() || ttl > self.limits.max_ttl {
            let kind = ErrorKind::InvalidTtl {
                ttl,
                longest: self.limits.max_ttl,
            };
            return Err(Error::new(kind, self.name));
        }
        Ok(())
    }

    /// Checks a record and its time to live, before any I/O.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if the data has more bytes than [`Limits::max_record`];
    /// [`ErrorKind::InvalidTtl`] as [`StoreProfile::check_ttl`].
    pub fn check(&self, record: &Record, ttl: Duration) -> Result<()> {
        let (size, limit) = (record.data.len(), self.limits.max_record);
        if size > limit {
            return Err(Error::new(ErrorKind::TooLarge { size, limit }, self.name));
        }
        self.check_ttl(ttl)
    }
}

/// What a store may do beyond the five calls. Declared exactly when the accessor returns `Some`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// [`SessionStore::subjects`](crate::SessionStore::subjects)
    Subjects,
    /// [`SessionStore::sweep`](crate::SessionStore::sweep)
    Sweep,
}

/// A store's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of data in the largest record. Default: 64 KiB.
    pub max_record: usize,
    /// The shortest life: a shorter ttl, other than zero, lives this long. Default: 1 ms.
    pub min_ttl: Duration,
    /// The longest ttl; a longer one is refused. Default: ten years of 366 days.
    pub max_ttl: Duration,
    /// A session lives at least its ttl and at most this much longer. Default: 1 s.
    pub granularity: Duration,
    /// What survives once a write has been acknowledged. Default: nothing.
    pub durability: Durability,
    /// What an acknowledged `touch` survives, where that is less than other writes do: after a crash a session may end as if
    /// it had not been touched. Default: `None`, it survives what they survive.
    pub touch_durability: Option<Durability>,
    /// Whether the server may drop live records when memory runs short. Default: it may not.
    pub may_evict: bool,
    /// Whose clock ends a session. Default: the client's.
    pub clock: ClockSource,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_record: 64 * 1024,
            min_ttl: Duration::from_millis(1),
            max_ttl: Duration::from_secs(3660 * 24 * 60 * 60),
            granularity: Duration::from_secs(1),
            durability: Durability::None,
            touch_durability: None,
            may_evict: false,
            clock: ClockSource::Client,
        }
    }
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Not even a restart of the process that holds it.
    None,
    /// A restart that was asked for; a crash may lose the newest writes (about a second of them).
    Periodic,
    /// A crash of the server.
    Crash,
}

/// Whose clock ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClockSource {
    /// The server's: clients whose clocks differ agree on when a session ends.
    Server,
    /// The client's: clients whose clocks differ by a minute differ by a minute.
    Client,
}
