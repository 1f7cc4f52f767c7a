//! The store that needs no server.

mod shard;
mod subjects;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use self::{
    shard::{Entry, Shard},
    subjects::SubjectIndex,
};
use crate::{
    Capability, Clock, ClockSource, Durability, Error, ErrorKind, Record, Result, SessionKey, SessionStore,
    StoreProfile, Stored, Subject, Subjects, Sweep, SystemClock, Version,
};

const BACKEND: &str = "memory";

/// Locks that calls on different sessions spread over.
const SHARDS: usize = 256;

/// Expired records that a write frees on its way: more than one, so that they never pile up; few, so that no call
/// pays for a million that expire together.
const FREED_PER_WRITE: usize = 4;

/// Records that a write looks at for that: some live longer than they did when they were filed.
const STEPS_PER_WRITE: usize = 16;

/// Expired records that a call at the store's bound frees before it answers `Full`.
const FREED_WHEN_FULL: usize = 64;

/// Times that a subject's sessions are listed and ended, until none is found.
const MOST_ROUNDS: usize = 1_000;

/// Sessions in the memory of this process: for development, tests, and sites on one node that may forget.
///
/// Bounded in records and bytes ([`ErrorKind::Full`] beyond, never an evicted session), sharded, and freed of expired
/// records on the way of other calls, a few at a time. Nothing survives the process. Clones of an `Arc` share it; two
/// stores share nothing.
///
/// ```
/// use std::time::Duration;
/// use session_core::{MemoryStore, Record, SessionId, SessionStore};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let key = SessionId::random()?.key("docs");
/// let first = store.create(&key, &Record::new("one"), Duration::from_secs(60)).await?;
/// store.update(&key, first, &Record::new("two"), Duration::from_secs(60)).await?;
/// assert_eq!(store.load(&key).await?.unwrap().record.data, "two");
/// # Ok(())
/// # }
/// ```
pub struct MemoryStore {
    profile: StoreProfile,
    clock: Arc<dyn Clock>,
    shards: Box<[Mutex<Shard>]>,
    subjects: SubjectIndex,
    max_records: usize,
    max_bytes: usize,
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// The high half of every version: another process, another half.
    run: u64,
    /// The low half: one write, one number.
    writes: AtomicU64,
    /// Where the next sweep begins.
    cursor: AtomicUsize,
}

impl MemoryStore {
    /// A store with the default bounds: 1,000,000 records and 1 GiB.
    ///
    /// # Panics
    ///
    /// If the system's random number generator fails; [`MemoryStoreBuilder::build`] returns that as an error.
    #[must_use]
    pub fn new() -> Self {
        match Self::builder().build() {
            Ok(store) => store,
            Err(error) => panic!("{error}"),
        }
    }

    /// A builder, to choose other bounds.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            max_records: 1_000_000,
            max_bytes: 1 << 30,
            max_record: 64 * 1024,
            clock: None,
        }
    }

    /// Records held, expired ones that still wait to be freed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Whether no record is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nanoseconds on the clock that only goes forwards.
    fn now(&self) -> u64 {
        nanos(self.clock.monotonic())
    }

    fn next_version(&self) -> Version {
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        Version::from_bytes((u128::from(self.run) << 64 | u128::from(write)).to_be_bytes())
    }

    fn shard(&self, key: &SessionKey) -> MutexGuard<'_, Shard> {
        // The key is a digest: any of its bytes spreads evenly. The map within uses others.
        lock(&self.shards[usize::from(key.as_bytes()[31]) % SHARDS])
    }

    /// Takes room for a record of `bytes`, freeing expired records first if there is none.
    fn reserve(&self, records: usize, bytes: usize) -> bool {
        loop {
            if take(&self.records, records, self.max_records) {
                if take(&self.bytes, bytes, self.max_bytes) {
                    return true;
                }
                self.records.fetch_sub(records, Ordering::Relaxed);
            }
            if self.free_expired(FREED_WHEN_FULL) == 0 {
                return false;
            }
        }
    }

    fn release(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Forgets an entry that has just left `shard`'s map: its share of the bounds and its place in the index.
    /// Called under the shard's lock, so the index never disagrees with the map.
    fn forget(&self, key: &SessionKey, entry: &Entry) {
        if let Some(subject) = &entry.record.subject {
            self.subjects.remove(subject, key);
        }
        self.release(1, entry.size());
    }

    fn free_from(&self, shard: &mut Shard, now: u64, max: usize, mut steps: usize) -> usize {
        let mut freed = 0;
        while freed < max
            && let Some((key, entry)) = shard.pop_expired(now, &mut steps)
        {
            self.forget(&key, &entry);
            freed += 1;
        }
        freed
    }

    /// Frees at most `max` expired records, beginning where the last call ended.
    fn free_expired(&self, max: usize) -> usize {
        let now = self.now();
        let mut freed = 0;
        for _ in 0..SHARDS {
            if freed >= max {
                break;
            }
            let at = self.cursor.fetch_add(1, Ordering::Relaxed) % SHARDS;
            freed += self.free_from(&mut lock(&self.shards[at]), now, max - freed, usize::MAX);
        }
        freed
    }

    fn fail(kind: ErrorKind) -> Error {
        Error::new(kind, BACKEND)
    }

    fn full(&self) -> Error {
        let detail = format!("bounds: {} records, {} bytes", self.max_records, self.max_bytes);
        Self::fail(ErrorKind::Full).with_detail(detail)
    }

    fn deadline(&self, now: u64, ttl: Duration) -> u64 {
        now.saturating_add(nanos(ttl.max(self.profile.limits.min_ttl)))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.len())
            .field("bytes", &self.bytes.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let size = Entry::size_of(record);
        if !self.reserve(1, size) {
            return Err(self.full());
        }
        let mut shard = self.shard(key);
        let now = self.now();
        self.free_from(&mut shard, now, FREED_PER_WRITE, STEPS_PER_WRITE);
        match shard.get(key) {
            Some(entry) if entry.deadline > now => {
                drop(shard);
                self.release(1, size);
                return Err(Self::fail(ErrorKind::AlreadyExists));
            }
            Some(_) => {
                if let Some(entry) = shard.remove(key) {
                    self.forget(key, &entry);
                }
            }
            None => {}
        }
        let version = self.next_version();
        if let Some(subject) = &record.subject {
            self.subjects.insert(subject, *key);
        }
        shard.insert(*key, Entry::new(record.clone(), version, self.deadline(now, ttl)));
        Ok(version)
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let shard = self.shard(key);
        let now = self.now();
        Ok(shard.get(key).filter(|entry| entry.deadline > now).map(|entry| {
            let remaining = Duration::from_nanos(entry.deadline - now);
            Stored::new(entry.record.clone(), entry.version, remaining)
        }))
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let size = Entry::size_of(record);
        loop {
            let mut shard = self.shard(key);
            let now = self.now();
            self.free_from(&mut shard, now, FREED_PER_WRITE, STEPS_PER_WRITE);
            let Some(entry) = shard.get(key).filter(|entry| entry.deadline > now) else {
                return Err(Self::fail(ErrorKind::NotFound));
            };
            if entry.version != expected {
                return Err(Self::fail(ErrorKind::Conflict));
            }
            let (before, growth) = (entry.size(), size.saturating_sub(entry.size()));
            // Only growth is asked for: at the bound, a session may still change within its size.
            if !take(&self.bytes, growth, self.max_bytes) {
                drop(shard);
                if self.free_expired(FREED_WHEN_FULL) == 0 {
                    return Err(self.full());
                }
                continue;
            }
            self.bytes
                .fetch_sub(before.saturating_sub(size), Ordering::Relaxed);
            let version = self.next_version();
            let deadline = self.deadline(now, ttl);
            let old = shard.insert(*key, Entry::new(record.clone(), version, deadline));
            let old_subject = old.and_then(|entry| entry.record.subject);
            if old_subject != record.subject {
                if let Some(subject) = &record.subject {
                    self.subjects.insert(subject, *key);
                }
                if let Some(subject) = &old_subject {
                    self.subjects.remove(subject, key);
                }
            }
            return Ok(version);
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let mut shard = self.shard(key);
        let now = self.now();
        self.free_from(&mut shard, now, FREED_PER_WRITE, STEPS_PER_WRITE);
        let deadline = self.deadline(now, ttl);
        if shard.get(key).is_none_or(|entry| entry.deadline <= now) {
            return Err(Self::fail(ErrorKind::NotFound));
        }
        shard.set_deadline(key, deadline);
        Ok(())
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let mut shard = self.shard(key);
        let now = self.now();
        self.free_from(&mut shard, now, FREED_PER_WRITE, STEPS_PER_WRITE);
        let Some(entry) = shard.get(key).filter(|entry| entry.deadline > now) else {
            return Ok(false);
        };
        if expected.is_some_and(|expected| expected != entry.version) {
            return Err(Self::fail(ErrorKind::Conflict));
        }
        if let Some(entry) = shard.remove(key) {
            self.forget(key, &entry);
        }
        Ok(true)
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        Some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        Some(self)
    }
}

#[async_trait]
impl Subjects for MemoryStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let mut keys = self.subjects.list(subject);
        keys.retain(|key| {
            let shard = self.shard(key);
            let now = self.now();
            shard
                .get(key)
                .is_some_and(|entry| entry.deadline > now && entry.record.subject.as_ref() == Some(subject))
        });
        Ok(keys)
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let mut deleted = 0;
        for _ in 0..MOST_ROUNDS {
            let mut keys = self.subjects.list(subject);
            keys.retain(|key| Some(key) != except);
            // Not "none of the listed was there": one that has just been renewed left the list, and is on the next.
            if keys.is_empty() {
                return Ok(deleted);
            }
            for key in &keys {
                let mut shard = self.shard(key);
                // It may have gone to another subject since it was listed.
                let theirs = |entry: &&Entry| entry.record.subject.as_ref() == Some(subject);
                let Some(entry) = shard.get(key).filter(theirs) else {
                    continue;
                };
                deleted += u64::from(entry.deadline > self.now());
                if let Some(entry) = shard.remove(key) {
                    self.forget(key, &entry);
                }
            }
        }
        let detail = format!("{deleted} sessions ended, and new ones are made as fast");
        Err(Self::fail(ErrorKind::Unavailable).with_detail(detail))
    }
}

#[async_trait]
impl Sweep for MemoryStore {
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        Ok(self.free_expired(max))
    }
}

/// Chooses the bounds of a [`MemoryStore`].
#[derive(Debug, Clone)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_records: usize,
    max_bytes: usize,
    max_record: usize,
    clock: Option<Arc<dyn Clock>>,
}

impl MemoryStoreBuilder {
    /// Records held at most. Default: 1,000,000.
    pub fn max_records(mut self, records: usize) -> Self {
        self.max_records = records;
        self
    }

    /// Bytes held at most: data, subject and 192 bytes of bookkeeping a record. Default: 1 GiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Bytes of data in one record at most. Default: 64 KiB.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// The clock that ends sessions. Default: the system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The store.
    ///
    /// # Errors
    ///
    /// [`RandomError`](crate::RandomError) if the system's random number generator fails.
    pub fn build(self) -> Result<MemoryStore, crate::RandomError> {
        let mut profile = StoreProfile::new(BACKEND);
        profile.capabilities = vec![Capability::Subjects, Capability::Sweep];
        profile.limits.max_record = self.max_record;
        profile.limits.granularity = Duration::from_millis(1);
        profile.limits.durability = Durability::None;
        profile.limits.clock = ClockSource::Server;
        Ok(MemoryStore {
            profile,
            clock: self.clock.unwrap_or_else(SystemClock::shared),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            subjects: SubjectIndex::default(),
            max_records: self.max_records,
            max_bytes: self.max_bytes,
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            run: u64::from_ne_bytes(crate::random_bytes()?),
            writes: AtomicU64::new(0),
            cursor: AtomicUsize::new(0),
        })
    }
}

/// A poisoned lock is taken all the same: no code of ours panics between two halves of a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds `amount` to `counter` unless that would pass `max`.
fn take(counter: &AtomicUsize, amount: usize, max: usize) -> bool {
    let add = |held: usize| held.checked_add(amount).filter(|sum| amount == 0 || *sum <= max);
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        .is_ok()
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
