//! The store.

use std::{fmt, time::Duration};

use bytes::Bytes;
use memcache::exp::{
    Delete, Get, GetResult, GetStatus, Meta, MutationResult, MutationStatus, Op, OpResult, Set,
};
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep,
    Version, async_trait, head,
};
use tokio::time::Instant;

use crate::{
    BACKEND, ConnectError, MemcachedStoreBuilder, Servers,
    carry::{Broken, Calls, Command, Ended},
    error::{fail, unavailable},
    life, url,
};

/// Sessions in memcached: see the [crate's front page](crate).
///
/// An [`Arc`](std::sync::Arc) shares it.
pub struct MemcachedStore {
    pub(crate) servers: Servers,
    /// In the order of the servers.
    pub(crate) calls: Box<[Calls]>,
    pub(crate) prefix: Box<str>,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) profile: StoreProfile,
}

/// A value, as a server has it.
struct Found {
    value: Bytes,
    cas: u64,
    remaining: Duration,
}

impl MemcachedStore {
    /// Names what [`MemcachedStoreBuilder`] leaves at its default. It connects at the first call.
    ///
    /// ```
    /// use session_memcached::{MemcachedStore, Servers};
    ///
    /// # fn main() -> Result<(), session_memcached::ConfigError> {
    /// let store = MemcachedStore::builder(Servers::new(["cache1:11211", "cache2:11211"]))
    ///     .prefix("shop:")
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(servers: impl Into<Servers>) -> MemcachedStoreBuilder {
        MemcachedStoreBuilder::new(servers.into())
    }

    /// A store on the servers of a URL, `memcached://HOST[:PORT][,HOST[:PORT]…]`, connected.
    ///
    /// What may follow as `/?KEY=VALUE&…`:
    ///
    /// | key | is | default |
    /// |---|---|---|
    /// | `prefix` | what every key begins with | `session:` |
    /// | `max_record` | bytes of data in the largest record | 65536, or what the servers take if that is less |
    /// | `read_ms`, `write_ms`, `connect_ms` | deadlines in milliseconds | 250, 500, 1000 |
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL says something that is not understood (an unknown key is not ignored), or no server
    /// answers, or one of them cannot serve: see [`MemcachedStoreBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        url::read(url)?.connect().await
    }

    fn calls(&self, key: &SessionKey) -> &Calls {
        &self.calls[self.servers.of(key)]
    }

    fn name(&self, key: &SessionKey) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn find(&self, key: &SessionKey, length: Duration) -> Result<Option<Found>> {
        let get = Get::new(self.name(key)).meta(Meta::NONE.cas().ttl());
        let GetResult {
            status, value, item, ..
        } = match self.calls(key).read(get.into(), length).await? {
            OpResult::Get(result) => result,
            _ => return Err(strange()),
        };
        match (status, value, item.cas, item.ttl) {
            (GetStatus::Miss, ..) => Ok(None),
            (GetStatus::Hit, Some(value), Some(cas), Some(ttl)) => Ok(Some(Found {
                value: value.into(),
                cas,
                remaining: life::remaining(ttl),
            })),
            // What another program leaves for a third one to fill: it is no record.
            (GetStatus::Pending, ..) => Ok(Some(Found {
                value: Bytes::new(),
                cas: item.cas.unwrap_or_default(),
                remaining: Duration::ZERO,
            })),
            _ => Err(strange()),
        }
    }

    /// A write of a record, and how it is known again: every value has a random number in its head.
    fn written(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<(Set, Version)> {
        self.profile.check(record, ttl)?;
        let mark = Version::random().map_err(|error| fail(ErrorKind::Unavailable).with_source(error))?;
        let mut set = Set::new(self.name(key), "").ttl_raw(self.life(ttl)?).return_cas();
        set.value = head::seal(BACKEND, key, mark, record)?;
        Ok((set, mark))
    }

    fn life(&self, ttl: Duration) -> Result<u32> {
        life::wire(ttl).ok_or_else(|| {
            fail(ErrorKind::InvalidTtl {
                ttl,
                longest: life::longest(),
            })
        })
    }

    /// The version of what is there, if it was written as `mark`.
    async fn is_there(&self, key: &SessionKey, mark: Version, length: Duration) -> Result<Option<Version>> {
        let found = self.find(key, length).await?;
        let ours = found.filter(|found| found.value.starts_with(&head::mark_of(key, mark)));
        Ok(ours.map(|found| Version::from_cas(found.cas)))
    }
}

/// What the server compares. None of ours is asked for as 0, which compares nothing.
fn cas_of(expected: Version) -> u64 {
    expected.to_cas().filter(|cas| *cas != 0).unwrap_or(u64::MAX)
}

fn version_of(result: &MutationResult) -> Result<Version> {
    result.cas.map(Version::from_cas).ok_or_else(strange)
}

fn mutation(result: OpResult) -> Result<MutationResult> {
    match result {
        OpResult::Mutation(result) => Ok(result),
        _ => Err(strange()),
    }
}

fn strange() -> Error {
    unavailable("a reply is none to its command")
}

/// The outcome of a call that was sent twice, and whose first try may have been the one that counted.
fn unknown() -> Error {
    unavailable("the connection broke while the call was under way")
}

impl fmt::Debug for MemcachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedStore")
            .field("servers", &self.servers)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemcachedStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let (set, mark) = self.written(key, record, ttl)?;
        let begun = Instant::now();
        let command = Command::of_record(set.add(), record);
        // It is not sent again if it may have arrived: one that arrives late would bring back what was ended since.
        match self.calls(key).write(command, false, self.write).await {
            Ok(ended) => {
                let result = mutation(ended.result)?;
                match result.status {
                    MutationStatus::Applied => version_of(&result),
                    _ => Err(fail(ErrorKind::AlreadyExists)),
                }
            }
            Err(Broken {
                error,
                may_be_done: true,
            }) => {
                let left = self.write.saturating_sub(begun.elapsed());
                match self.is_there(key, mark, left).await {
                    Ok(Some(version)) => Ok(version),
                    _ => Err(error),
                }
            }
            Err(broken) => Err(broken.error),
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some(found) = self.find(key, self.read).await? else {
            return Ok(None);
        };
        let (record, _) = head::open(BACKEND, key, &found.value)
            .inspect_err(|error| tracing::error!(%key, %error, "the value cannot be read"))?;
        Ok(Some(Stored::new(
            record,
            Version::from_cas(found.cas),
            found.remaining,
        )))
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let (set, mark) = self.written(key, record, ttl)?;
        let begun = Instant::now();
        let command = Command::of_record(set.compare_cas(cas_of(expected)), record);
        let ended = self.calls(key).write(command, true, self.write).await;
        let Ended { result, repeated } = ended.map_err(|broken| broken.error)?;
        let result = mutation(result)?;
        match result.status {
            MutationStatus::Applied => version_of(&result),
            // The first try may have been the one that counted.
            _ if repeated => {
                let left = self.write.saturating_sub(begun.elapsed());
                self.is_there(key, mark, left).await?.ok_or_else(unknown)
            }
            MutationStatus::NotFound => Err(fail(ErrorKind::NotFound)),
            _ => Err(fail(ErrorKind::Conflict)),
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let get = Get::new(self.name(key))
            .without_value()
            .touch_raw(self.life(ttl)?);
        let command = Command {
            op: get.into(),
            data: 0,
        };
        let ended = self.calls(key).write(command, true, self.write).await;
        match ended.map_err(|broken| broken.error)?.result {
            OpResult::Get(result) if result.status == GetStatus::Miss => Err(fail(ErrorKind::NotFound)),
            OpResult::Get(_) => Ok(()),
            _ => Err(strange()),
        }
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let delete = Delete::new(self.name(key));
        let op = Op::from(match expected {
            Some(version) => delete.compare_cas(cas_of(version)),
            None => delete,
        });
        let ended = self
            .calls(key)
            .write(Command { op, data: 0 }, true, self.write)
            .await;
        let Ended { result, repeated } = ended.map_err(|broken| broken.error)?;
        match mutation(result)?.status {
            MutationStatus::Applied => Ok(true),
            // The first try may have found it, and what is there now came later: whether there was one is not known.
            _ if repeated => Err(unknown()),
            MutationStatus::NotFound => Ok(false),
            _ => Err(fail(ErrorKind::Conflict)),
        }
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    /// memcached lists nothing.
    fn subjects(&self) -> Option<&dyn Subjects> {
        None
    }

    /// It removes what has expired by itself.
    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}
