//! A store as simple as the contract allows, with a switch for each fault.

mod crash;
mod locks;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use session_conformance::{Backend, BoxError, Crash, Hook, Raw, Rival, Server, Skew, Wire, async_trait};
use session_core::{
    Capability, ClockSource, Durability, Error, ErrorKind, Record, Result, SessionKey, SessionStore,
    StoreProfile, Stored, Subject, Subjects, Sweep, Version, head,
};
use tokio::sync::{Mutex as Queue, OnceCell, Semaphore};

use self::{
    crash::Killed,
    locks::{Locks, NaiveRival, Waiting},
};
use crate::{
    down::Down,
    list::Fault,
    remote::{Listening, NaiveWire},
};

pub(crate) const NAME: &str = "naive";

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// The backend: a server in memory, and the fault that its stores have.
pub(crate) struct Naive {
    server: Arc<Shared>,
    ahead: Arc<Shared>,
    behind: Arc<Shared>,
    fault: Option<Fault>,
    slow_and_coarse: bool,
    listening: OnceCell<Arc<Listening>>,
}

impl Naive {
    /// The reference: nothing is wrong with it.
    pub(crate) fn whole() -> Self {
        Self {
            server: Arc::default(),
            ahead: Arc::new(Shared::with_clock(CLIENT + Skew::BY)),
            behind: Arc::new(Shared::with_clock(CLIENT - Skew::BY)),
            fault: None,
            slow_and_coarse: false,
            listening: OnceCell::new(),
        }
    }

    /// Nothing is wrong with it either: replies take a while, and lives are kept in whole seconds, one more than asked
    /// for, as memcached needs it.
    pub(crate) fn slow_and_coarse() -> Self {
        Self {
            slow_and_coarse: true,
            ..Self::whole()
        }
    }

    /// Nor with this one, a library as SQLite is: a lock is on everything, and what crashes is the process.
    pub(crate) fn embedded() -> Self {
        let server = Shared {
            locks: Locks::of(true),
            ..Shared::default()
        };
        Self {
            server: Arc::new(server),
            ..Self::whole()
        }
    }

    pub(crate) fn with(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::whole()
        }
    }
}

#[async_trait]
impl Backend for Naive {
    const NAME: &'static str = NAME;
    const VERSION: &'static str = "0";

    async fn start() -> Result<Self, BoxError> {
        Ok(Self::whole())
    }

    fn server(&self) -> Server {
        Server::none()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        if self.fault == Some(Fault::PlaceIsMadeTwice) {
            self.server.make_place(namespace).await?;
        }
        Ok(open(&self.server, self.fault, self.slow_and_coarse, namespace))
    }

    fn reason(_: Hook) -> &'static str {
        ""
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        Some(Arc::new(Down::new(self.fault)))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        let (server, namespace) = (Arc::clone(&self.server), namespace.to_owned());
        Some(Arc::new(NaiveRaw { server, namespace }))
    }

    async fn rival(&self, namespace: &str) -> Option<Arc<dyn Rival>> {
        let (server, namespace) = (Arc::clone(&self.server), namespace.to_owned());
        Some(Arc::new(NaiveRival { server, namespace }))
    }

    async fn skewed(&self, namespace: &str, by: Skew) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let server = match by {
            Skew::Ahead => &self.ahead,
            Skew::Behind => &self.behind,
        };
        Some(Ok(open(server, self.fault, self.slow_and_coarse, namespace)))
    }

    async fn crash(&self, _: &str) -> Option<Result<Arc<dyn Crash>, BoxError>> {
        Some(Ok(Arc::new(Killed::new(self))))
    }

    /// The server behind the wire is right; it is the client that has the fault.
    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        let (server, slow_and_coarse) = (Arc::clone(&self.server), self.slow_and_coarse);
        let opens = move |namespace: &str| open(&server, None, slow_and_coarse, namespace);
        let start = async || Listening::start(Arc::new(opens)).await.map(Arc::new);
        let listening = self.listening.get_or_try_init(start).await.ok()?;
        let profile = profile(self.fault, self.slow_and_coarse);
        Some(Arc::new(NaiveWire::new(
            Arc::clone(listening),
            profile,
            self.fault,
        )))
    }
}

fn open(
    server: &Arc<Shared>,
    fault: Option<Fault>,
    slow_and_coarse: bool,
    namespace: &str,
) -> Arc<dyn SessionStore> {
    let namespace = match fault {
        Some(Fault::NamespaceIgnored) => String::new(),
        _ => namespace.to_owned(),
    };
    Arc::new(Waiting::new(NaiveStore {
        server: Arc::clone(server),
        namespace,
        fault,
        slow_and_coarse,
        profile: profile(fault, slow_and_coarse),
        node: Node::default(),
    }))
}

fn profile(fault: Option<Fault>, slow_and_coarse: bool) -> StoreProfile {
    let mut profile = StoreProfile::new(NAME);
    profile.capabilities = match fault {
        Some(Fault::SubjectsUndeclared) => vec![Capability::Sweep],
        Some(Fault::SweepUndeclared) => vec![Capability::Subjects],
        _ => vec![Capability::Subjects, Capability::Sweep],
    };
    profile.limits.durability = Durability::Crash;
    profile.limits.clock = ClockSource::Server;
    profile.limits.granularity = match slow_and_coarse {
        true => Duration::from_secs(2),
        false => Duration::from_millis(1),
    };
    // A hundred years: ends beyond 2038 are kept here.
    profile.limits.max_ttl = Duration::from_secs(36_525 * 24 * 60 * 60);
    profile
}

/// How far the client's clock is from that of `Instant`, so that a server's may be behind it: no `Instant` is before the
/// start of the machine.
const CLIENT: Duration = Skew::BY;

/// Where a record is: namespace and key.
type At = (String, SessionKey);

/// The server.
struct Shared {
    rows: Mutex<Rows>,
    /// What a replica has of them, and since when.
    replica: Mutex<Option<(Instant, Rows)>>,
    /// Namespaces for which something was made. Only one mutant needs that.
    places: Mutex<HashSet<String>>,
    locks: Locks,
    clock: Duration,
}

impl Default for Shared {
    fn default() -> Self {
        Self::with_clock(CLIENT)
    }
}

impl Shared {
    async fn make_place(&self, namespace: &str) -> Result<(), BoxError> {
        let places = || self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places().contains(namespace) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        match places().insert(namespace.to_owned()) {
            true => Ok(()),
            false => Err("it is there already".into()),
        }
    }

    fn with_clock(clock: Duration) -> Self {
        Self {
            rows: Mutex::default(),
            replica: Mutex::default(),
            places: Mutex::default(),
            locks: Locks::default(),
            clock,
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        lock(&self.rows)
    }

    /// As a replica has them: some milliseconds late.
    fn replica(&self) -> Rows {
        let mut replica = lock(&self.replica);
        if replica
            .as_ref()
            .is_none_or(|(since, _)| since.elapsed() > Duration::from_millis(5))
        {
            *replica = Some((Instant::now(), self.rows().clone()));
        }
        replica.as_ref().map(|(_, rows)| rows.clone()).unwrap_or_default()
    }

    /// By the server's clock.
    fn now(&self) -> Instant {
        Instant::now() + self.clock
    }
}

#[derive(Clone, Default)]
struct Rows {
    rows: HashMap<At, Row>,
    /// Keys by subject, with the end that each had when it came.
    index: HashMap<(String, Subject), BTreeMap<SessionKey, Instant>>,
}

/// A stored value and its life.
#[derive(Clone)]
struct Row {
    value: Vec<u8>,
    ttl: Duration,
    ends: Instant,
}

/// A node's store.
struct NaiveStore {
    server: Arc<Shared>,
    namespace: String,
    fault: Option<Fault>,
    slow_and_coarse: bool,
    profile: StoreProfile,
    node: Node,
}

/// What only some mutants have: locks, caches and connections of a node.
struct Node {
    lock: Queue<()>,
    asked: Mutex<Option<SessionKey>>,
    cache: Mutex<HashMap<SessionKey, (Instant, Option<Stored>)>>,
    answered: Mutex<HashMap<SessionKey, (Instant, Version)>>,
    wire: Queue<VecDeque<Result<Option<Stored>>>>,
    connections: Semaphore,
    bad_records: AtomicUsize,
    /// Held by those that are.
    at_work: Arc<()>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            lock: Queue::default(),
            asked: Mutex::default(),
            cache: Mutex::default(),
            answered: Mutex::default(),
            wire: Queue::default(),
            connections: Semaphore::new(4),
            bad_records: AtomicUsize::new(0),
            at_work: Arc::default(),
        }
    }
}

impl fmt::Debug for NaiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NaiveStore")
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// A round trip, in which other callers have their turn.
async fn round_trip() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NaiveStore {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn fail<T>(&self, kind: ErrorKind) -> Result<T> {
        let name = if self.has(Fault::ErrorsNameAnother) {
            "other"
        } else {
            NAME
        };
        Err(Error::new(kind, name))
    }

    fn at(&self, key: &SessionKey) -> At {
        (self.namespace.clone(), *key)
    }

    fn of(&self, subject: &Subject) -> (String, Subject) {
        (self.namespace.clone(), subject.clone())
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        match self.fault {
            Some(Fault::ZeroTtlIsForever | Fault::ZeroTtlEndsAtOnce) if ttl.is_zero() => Ok(()),
            Some(Fault::LongerTtlIsCut) if !ttl.is_zero() => Ok(()),
            _ => self.profile.check_ttl(ttl),
        }
    }

    fn check(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<()> {
        let (size, limit) = (record.data.len(), self.profile.limits.max_record);
        if size > limit && !self.has(Fault::TooLargeIsCut) {
            self.node.bad_records.fetch_add(1, Ordering::SeqCst);
            if self.has(Fault::TooLargeDestroys) {
                self.server.rows().rows.remove(&self.at(key));
            }
            return self.fail(ErrorKind::TooLarge { size, limit });
        }
        self.check_ttl(ttl)
    }

    /// A call on its way to the server, or its reply on the way back.
    async fn wire(&self) {
        if self.slow_and_coarse {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// Travels with others, if this is the mutant in which one fails them all.
    async fn travel(&self, fault: Fault) -> Result<()> {
        if self.has(fault) {
            let before = self.node.bad_records.load(Ordering::SeqCst);
            round_trip().await;
            if self.node.bad_records.load(Ordering::SeqCst) != before {
                return self.fail(ErrorKind::Unavailable);
            }
        }
        Ok(())
    }

    /// The record as it is stored, in place of `old`.
    fn to_store(&self, record: &Record, old: Option<&Record>) -> Record {
        let mut record = record.clone();
        let subject = record.subject.as_ref().map_or("", Subject::as_str);
        match self.fault {
            Some(Fault::NotAfterDropped) => record.not_after = None,
            Some(Fault::DataEndsAtNul) => {
                let end = record.data.iter().position(|byte| *byte == 0);
                record.data.truncate(end.unwrap_or(record.data.len()));
            }
            Some(Fault::DataIsText) => {
                record.data = String::from_utf8_lossy(&record.data).into_owned().into();
            }
            Some(Fault::SubjectFolded) => record.subject = Subject::new(subject.to_lowercase()).ok(),
            Some(Fault::SubjectEndsAtNul) => {
                record.subject = subject
                    .split('\0')
                    .next()
                    .and_then(|text| Subject::new(text).ok());
            }
            Some(Fault::SubjectDropped) => record.subject = None,
            Some(Fault::UpdateKeepsSubject) => {
                record.subject = record.subject.or_else(|| old.and_then(|old| old.subject.clone()));
            }
            Some(Fault::ShorterDataKeepsTail) => {
                let tail = old.and_then(|old| old.data.get(record.data.len()..));
                record.data = [&*record.data, tail.unwrap_or_default()].concat().into();
            }
            Some(Fault::LargestIsCut) => record.data.truncate(self.profile.limits.max_record - 1),
            Some(Fault::TooLargeIsCut) => record.data.truncate(self.profile.limits.max_record),
            _ => {}
        }
        record
    }

    fn version(&self, record: &Record, old: Option<Version>) -> Version {
        match self.fault {
            Some(Fault::VersionIsADigest) => {
                let mut hash = DefaultHasher::new();
                record.data.hash(&mut hash);
                Version::from_cas(hash.finish())
            }
            Some(Fault::VersionIsACounter) => {
                Version::from_cas(old.and_then(Version::to_cas).unwrap_or(0) + 1)
            }
            _ => Version::random().expect("the system has randomness"),
        }
    }

    /// By the server's clock, or by the client's if this is the mutant that takes that one here.
    fn now(&self, by_the_client: Fault) -> Instant {
        match self.has(by_the_client) {
            true => Instant::now() + CLIENT,
            false => self.server.now(),
        }
    }

    /// How long a ttl lasts.
    fn life(&self, ttl: Duration) -> Duration {
        let day = Duration::from_secs(24 * 60 * 60);
        match self.fault {
            Some(Fault::TtlRoundedDown) => Duration::from_secs(ttl.as_secs()),
            Some(Fault::TtlRoundedUp) => Duration::from_secs(ttl.as_secs() / 10 * 10 + 10),
            Some(Fault::TinyTtlIsForever) if ttl.as_millis() == 0 => FOR_EVER,
            Some(Fault::ZeroTtlIsForever) if ttl.is_zero() => FOR_EVER,
            Some(Fault::ZeroTtlEndsAtOnce) if ttl.is_zero() => Duration::ZERO,
            Some(Fault::LongTtlIsADate) if ttl > day * 30 => Duration::ZERO,
            Some(Fault::TtlIn32BitsOfTenths) => {
                let tenths = (ttl.as_millis() / 100) as i32;
                Duration::from_millis(u64::try_from(tenths).unwrap_or(0) * 100)
            }
            Some(Fault::EndIn32Bits) => {
                let end = (SystemTime::now() + ttl)
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                if end.as_secs() > i32::MAX as u64 {
                    Duration::ZERO
                } else {
                    ttl
                }
            }
            Some(Fault::LongerTtlIsCut) => ttl.min(self.profile.limits.max_ttl),
            None if self.slow_and_coarse => {
                Duration::from_secs(ttl.as_nanos().div_ceil(1_000_000_000) as u64 + 1)
            }
            _ => ttl.max(self.profile.limits.min_ttl),
        }
    }

    /// Writes a record, and its place in the index.
    fn put(
        &self,
        rows: &mut Rows,
        key: &SessionKey,
        record: &Record,
        ttl: Duration,
        new: bool,
    ) -> Result<Version> {
        let old = rows.rows.get(&self.at(key)).cloned();
        let before = old
            .as_ref()
            .and_then(|row| self.read(key, row).ok())
            .filter(|_| !new);
        let record = self.to_store(record, before.as_ref().map(|(record, _)| record));
        let version = self.version(&record, before.map(|(_, version)| version));
        let value = head::seal(NAME, key, version, &record)?;
        let life = self.life(ttl);
        let mut ends = self.now(Fault::EndsByTheClientsClock) + life;
        match old {
            Some(old) if !new && self.has(Fault::UpdateKeepsOldEnd) => ends = old.ends,
            Some(_) if !new && self.has(Fault::UpdateDropsEnd) => ends += FOR_EVER,
            _ => {}
        }
        if let Some(subject) = &record.subject
            && (new || !self.has(Fault::UpdateDoesNotIndex))
        {
            let keys = rows.index.entry(self.of(subject)).or_default();
            keys.entry(*key).or_insert(ends);
        }
        let row = Row {
            value,
            ttl: life,
            ends,
        };
        rows.rows.insert(self.at(key), row);
        match self.has(Fault::VersionReturnedIsAnother) {
            true => Ok(Version::random().expect("the system has randomness")),
            false => Ok(version),
        }
    }

    /// The row under `key`, if it is live, or if this is the mutant that takes an expired one.
    fn row(&self, rows: &Rows, key: &SessionKey, expired_too: Fault) -> Option<Row> {
        let row = rows.rows.get(&self.at(key))?;
        if row.ends <= self.server.now() && !self.has(expired_too) {
            return None;
        }
        if self.has(Fault::EmptyIsAbsent) && row.value.len() == head::LEN {
            return None;
        }
        Some(row.clone())
    }

    fn read(&self, key: &SessionKey, row: &Row) -> Result<(Record, Version)> {
        let mut value = row.value.clone();
        if self.has(Fault::KeyIsNotChecked) && value.len() > head::LEN {
            value[4..20].copy_from_slice(&key.as_bytes()[..16]);
        }
        if self.has(Fault::CutValueIsAccepted) && value.len() > head::LEN {
            let subject = usize::from(u16::from_le_bytes([value[44], value[45]]));
            let data = u32::try_from(value.len() - head::LEN)
                .unwrap_or(0)
                .saturating_sub(subject as u32);
            value[46..50].copy_from_slice(&data.to_le_bytes());
        }
        let read = head::open(NAME, key, &value.into());
        match self.fault {
            Some(Fault::ForeignPanics) => Ok(read.expect("a value that can be read")),
            Some(Fault::NewerIsCorrupt) if read.is_err() => self.fail(ErrorKind::Corrupt),
            _ => read,
        }
    }

    /// Whether a row has this version; an error if that cannot be told.
    fn is_version(&self, key: &SessionKey, row: &Row, expected: Version) -> Result<bool> {
        if self.has(Fault::UnreadableIsOverwritten) {
            return Ok(row.value.get(head::VERSION) == Some(expected.as_bytes().as_slice()));
        }
        let zeros = *expected.as_bytes() == [0; 16];
        let any = self.has(Fault::VersionIgnored) || zeros && self.has(Fault::ZeroVersionMatchesAll);
        Ok(self.read(key, row)?.1 == expected || any)
    }

    /// What `create` would meet.
    fn is_taken(&self, rows: &Rows, key: &SessionKey) -> bool {
        match self.row(rows, key, Fault::ExpiredBlocksCreate) {
            Some(row) => !self.has(Fault::ForeignIsOverwritten) || self.read(key, &row).is_ok(),
            None => false,
        }
    }

    fn create_now(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let mut rows = self.server.rows();
        if self.is_taken(&rows, key) {
            let ends = self.now(Fault::EndsByTheClientsClock) + self.life(ttl);
            match (self.fault, rows.rows.get_mut(&self.at(key))) {
                (Some(Fault::CreateOverwrites), _) => {}
                (Some(Fault::CreateReportsSuccess), _) => return Ok(self.version(record, None)),
                (Some(Fault::RefusedCreateExtends), Some(row)) => {
                    row.ends = ends;
                    return self.fail(ErrorKind::AlreadyExists);
                }
                _ => return self.fail(ErrorKind::AlreadyExists),
            }
        }
        self.put(&mut rows, key, record, ttl, true)
    }

    async fn create_in_two_steps(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        if self.is_taken(&self.server.rows(), key) {
            return self.fail(ErrorKind::AlreadyExists);
        }
        round_trip().await;
        self.put(&mut self.server.rows(), key, record, ttl, true)
    }

    fn load_now(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let mut rows = self.server.rows();
        let Some(row) = self.row(&rows, key, Fault::ExpiredIsLoaded) else {
            return match self.has(Fault::AbsentIsAnError) {
                true => self.fail(ErrorKind::NotFound),
                false => Ok(None),
            };
        };
        let read = self.read(key, &row);
        if read.is_err() {
            self.node.bad_records.fetch_add(1, Ordering::SeqCst);
            if self.has(Fault::ForeignIsAbsent) {
                return Ok(None);
            }
            if self.has(Fault::UnreadableIsRemoved) {
                rows.rows.remove(&self.at(key));
            }
        }
        let (record, version) = read?;
        if self.has(Fault::LoadExtends)
            && let Some(held) = rows.rows.get_mut(&self.at(key))
        {
            held.ends = self.now(Fault::EndsByTheClientsClock) + row.ttl;
        }
        let mut remaining = row
            .ends
            .saturating_duration_since(self.now(Fault::RemainingByTheClientsClock));
        if self.slow_and_coarse {
            remaining = Duration::from_secs(remaining.as_secs_f64().ceil() as u64);
        }
        if self.has(Fault::RemainingIsTtl) {
            remaining = row.ttl;
        }
        if self.has(Fault::ExpiredIsLoaded) {
            remaining = remaining.max(Duration::from_millis(1));
        }
        Ok((!remaining.is_zero()).then(|| Stored::new(record, version, remaining)))
    }

    fn update_now(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let mut rows = self.server.rows();
        let Some(row) = self.row(&rows, key, Fault::ExpiredIsUpdated) else {
            return match self.fault {
                Some(Fault::UpdateUpserts) => self.put(&mut rows, key, record, ttl, true),
                Some(Fault::UpdateOfAbsentIsConflict) => self.fail(ErrorKind::Conflict),
                _ => self.fail(ErrorKind::NotFound),
            };
        };
        if !self.is_version(key, &row, expected)? {
            if self.has(Fault::ConflictStillWrites) {
                self.put(&mut rows, key, record, ttl, false)?;
            }
            return self.fail(ErrorKind::Conflict);
        }
        self.put(&mut rows, key, record, ttl, false)
    }

    async fn update_in_two_steps(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let row = self.row(&self.server.rows(), key, Fault::ExpiredIsUpdated);
        let Some(row) = row else {
            return self.fail(ErrorKind::NotFound);
        };
        if !self.is_version(key, &row, expected)? {
            return self.fail(ErrorKind::Conflict);
        }
        round_trip().await;
        self.put(&mut self.server.rows(), key, record, ttl, false)
    }

    fn touch_now(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.check_ttl(ttl)?;
        let mut rows = self.server.rows();
        let Some(mut row) = self.row(&rows, key, Fault::ExpiredIsTouched) else {
            if self.has(Fault::TouchCreatesGhost) {
                self.put(&mut rows, key, &Record::new(""), ttl, true)?;
            }
            return self.fail(ErrorKind::NotFound);
        };
        if self.has(Fault::TouchDoesNothing) {
            return Ok(());
        }
        if self.has(Fault::TouchChangesVersion) {
            let (record, _) = self.read(key, &row)?;
            return self.put(&mut rows, key, &record, ttl, false).map(drop);
        }
        row.ttl = self.life(ttl);
        let ends = self.now(Fault::EndsByTheClientsClock) + row.ttl;
        row.ends = if self.has(Fault::TouchOnlyExtends) {
            ends.max(row.ends)
        } else {
            ends
        };
        rows.rows.insert(self.at(key), row);
        Ok(())
    }

    fn delete_now(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let mut rows = self.server.rows();
        let Some(row) = self.row(&rows, key, Fault::DeletingExpiredIsTrue) else {
            return match self.has(Fault::DeletingAbsentIsAnError) {
                true => self.fail(ErrorKind::NotFound),
                false => Ok(false),
            };
        };
        if self.has(Fault::UnreadableCannotBeDeleted) {
            self.read(key, &row)?;
        }
        if let Some(expected) = expected
            && !self.has(Fault::DeleteIgnoresExpected)
            && !self.is_version(key, &row, expected)?
        {
            if self.has(Fault::RefusedDeleteUnlists) {
                for keys in rows.index.values_mut() {
                    keys.remove(key);
                }
            }
            return self.fail(ErrorKind::Conflict);
        }
        rows.rows.remove(&self.at(key));
        Ok(true)
    }
}

#[async_trait]
impl SessionStore for NaiveStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.check(key, record, ttl)?;
        self.travel(Fault::BadRecordFailsItsBatch).await?;
        match self.fault {
            Some(Fault::CreateChecksThenSets) => self.create_in_two_steps(key, record, ttl).await,
            Some(Fault::CreateLocksItsNodeOnly) => {
                let _one_at_a_time = self.node.lock.lock().await;
                self.create_in_two_steps(key, record, ttl).await
            }
            Some(Fault::OneKeyHasOneAnswer) => {
                let moment_ago = lock(&self.node.answered).get(key).copied();
                if let Some((at, version)) = moment_ago
                    && at.elapsed() < Duration::from_millis(50)
                {
                    return Ok(version);
                }
                let version = self.create_now(key, record, ttl)?;
                lock(&self.node.answered).insert(*key, (Instant::now(), version));
                Ok(version)
            }
            _ => {
                self.wire().await;
                let answer = self.create_now(key, record, ttl);
                self.wire().await;
                answer
            }
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        match self.fault {
            Some(Fault::RepliesSwapped) => {
                *lock(&self.node.asked) = Some(*key);
                tokio::task::yield_now().await;
                let asked = lock(&self.node.asked).unwrap_or(*key);
                self.load_now(&asked)
            }
            Some(Fault::BusyKindKeepsConnections) => {
                while Arc::strong_count(&self.node.at_work) > 1 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                self.load_now(key)
            }
            Some(Fault::LoadsAreCached) => {
                let cached = lock(&self.node.cache).get(key).cloned();
                if let Some((at, stored)) = cached
                    && at.elapsed() < Duration::from_millis(10)
                {
                    return Ok(stored);
                }
                let stored = self.load_now(key)?;
                lock(&self.node.cache).insert(*key, (Instant::now(), stored.clone()));
                Ok(stored)
            }
            Some(Fault::LoadsAreEventuallyConsistent) => {
                let row = self.row(&self.server.replica(), key, Fault::ExpiredIsLoaded);
                let stored = row.map(|row| {
                    let remaining = row.ends.saturating_duration_since(self.server.now());
                    self.read(key, &row)
                        .map(|(record, version)| Stored::new(record, version, remaining))
                });
                stored.transpose()
            }
            Some(Fault::DroppedCallLeavesItsReply) => {
                let mut wire = self.node.wire.lock().await;
                wire.push_back(self.load_now(key));
                tokio::task::yield_now().await;
                wire.pop_front().unwrap_or(Ok(None))
            }
            Some(Fault::DroppedCallLosesItsConnection) => {
                let patience = Duration::from_millis(200);
                match tokio::time::timeout(patience, self.node.connections.acquire()).await {
                    Ok(Ok(permit)) => permit.forget(),
                    _ => return self.fail(ErrorKind::Unavailable),
                }
                tokio::task::yield_now().await;
                self.node.connections.add_permits(1);
                self.load_now(key)
            }
            Some(Fault::UnreadableFailsItsBatch) => {
                let before = self.node.bad_records.load(Ordering::SeqCst);
                let answer = self.load_now(key);
                round_trip().await;
                match self.node.bad_records.load(Ordering::SeqCst) {
                    now if now == before || answer.is_err() => answer,
                    _ => self.fail(ErrorKind::Corrupt),
                }
            }
            _ => {
                self.wire().await;
                let answer = self.load_now(key);
                self.wire().await;
                answer
            }
        }
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.check(key, record, ttl)?;
        self.travel(Fault::BadRecordFailsItsBatch).await?;
        match self.fault {
            Some(Fault::UpdateChecksThenSets) => self.update_in_two_steps(key, expected, record, ttl).await,
            Some(Fault::UpdateLocksItsNodeOnly) => {
                let _one_at_a_time = self.node.lock.lock().await;
                self.update_in_two_steps(key, expected, record, ttl).await
            }
            Some(Fault::BusyKindKeepsConnections) => {
                let _at_work = Arc::clone(&self.node.at_work);
                // They do not end all at once.
                for _ in 0..=key.as_bytes()[0] % 4 {
                    round_trip().await;
                }
                self.update_now(key, expected, record, ttl)
            }
            _ => {
                self.wire().await;
                let answer = self.update_now(key, expected, record, ttl);
                self.wire().await;
                answer
            }
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.wire().await;
        let answer = self.touch_now(key, ttl);
        self.wire().await;
        answer
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        match self.fault {
            Some(Fault::DeleteChecksThenDeletes) => {
                let there = self.load_now(key)?.is_some();
                round_trip().await;
                self.delete_now(key, expected)?;
                Ok(there)
            }
            Some(Fault::DeleteAllListsOnce) => {
                round_trip().await;
                self.delete_now(key, expected)
            }
            _ => {
                self.wire().await;
                let answer = self.delete_now(key, expected);
                self.wire().await;
                answer
            }
        }
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        (!self.has(Fault::SubjectsMissing)).then_some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        (!self.has(Fault::SweepMissing)).then_some(self)
    }
}

#[async_trait]
impl Subjects for NaiveStore {
    /// The index is a hint: it may hold keys that moved or ended, so every one is looked at.
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        self.wire().await;
        let mut keys: Vec<SessionKey> = {
            let is_late = self.has(Fault::ListsAreEventuallyConsistent);
            let mut late = is_late.then(|| self.server.replica());
            let mut rows = self.server.rows();
            let rows = late.as_mut().unwrap_or(&mut rows);
            let indexed = rows.index.entry(self.of(subject)).or_default();
            if self.has(Fault::IndexPrunedByFirstEnd) {
                indexed.retain(|_, first_end| *first_end > self.server.now());
            }
            indexed.keys().copied().collect()
        };
        if self.has(Fault::ListLooksLater) {
            round_trip().await;
        }
        let rows = self.server.rows();
        keys.retain(|key| {
            let row = self.row(&rows, key, Fault::ExpiredIsListed);
            let record = row.and_then(|row| self.read(key, &row).ok());
            record.is_some_and(|(record, _)| {
                record.subject.as_ref() == Some(subject) || self.has(Fault::OldSubjectStaysListed)
            })
        });
        if self.has(Fault::ListedTwice) {
            keys.extend_from_within(..);
        }
        Ok(keys)
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let mut keys = self.list(subject).await?;
            match self.fault {
                Some(Fault::ExceptIgnored) => {}
                _ => keys.retain(|key| Some(key) != except),
            }
            if self.has(Fault::DeleteAllTakesAPage) {
                keys.truncate(100);
            }
            if keys.is_empty() {
                return Ok(deleted);
            }
            if self.has(Fault::DeleteAllStopsAtNone) {
                round_trip().await;
                let still = self.list(subject).await?;
                keys.retain(|key| still.contains(key));
                if keys.is_empty() {
                    return Ok(deleted);
                }
            }
            for key in &keys {
                deleted += u64::from(self.delete(key, None).await?);
            }
            if self.has(Fault::DeleteAllListsOnce) || self.has(Fault::DeleteAllTakesAPage) {
                return Ok(deleted);
            }
        }
    }
}

#[async_trait]
impl Sweep for NaiveStore {
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        let (ahead, max) = match self.fault {
            Some(Fault::SweepTakesLive) => (Duration::from_secs(60), max),
            Some(Fault::SweepUnbounded) => (Duration::ZERO, usize::MAX),
            _ => (Duration::ZERO, max),
        };
        let expired = |rows: &Rows| -> Vec<_> {
            let end = self.now(Fault::SweepsByTheClientsClock) + ahead;
            let of_here = |at: &At| at.0 == self.namespace && !self.server.locks.has(at);
            let over = rows
                .rows
                .iter()
                .filter(|(at, row)| of_here(at) && row.ends <= end);
            over.map(|(at, _)| at.clone()).take(max).collect()
        };
        let found = match self.fault {
            Some(Fault::SweepersCountTwice | Fault::SweepTrustsItsList) => {
                let found = expired(&self.server.rows());
                round_trip().await;
                found
            }
            _ => Vec::new(),
        };
        let mut rows = self.server.rows();
        let found = if found.is_empty() { expired(&rows) } else { found };
        if self.has(Fault::SweepCountsOnly) {
            return Ok(found.len());
        }
        let removed = found.iter().filter(|at| rows.rows.remove(at).is_some()).count();
        Ok(if self.has(Fault::SweepersCountTwice) {
            found.len()
        } else {
            removed
        })
    }
}

/// Access behind the store's back.
struct NaiveRaw {
    server: Arc<Shared>,
    namespace: String,
}

#[async_trait]
impl Raw for NaiveRaw {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        let ttl = Duration::from_secs(60 * 60);
        let new = || Row {
            value: Vec::new(),
            ttl,
            ends: self.server.now() + ttl,
        };
        let mut rows = self.server.rows();
        let row = rows
            .rows
            .entry((self.namespace.clone(), *key))
            .or_insert_with(new);
        row.value = value.to_vec();
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        let rows = self.server.rows();
        let row = rows.rows.get(&(self.namespace.clone(), *key));
        Ok(row.map(|row| row.value.clone()))
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let rows = self.server.rows();
        let mut dump = Vec::new();
        for ((namespace, key), row) in &rows.rows {
            dump.extend_from_slice(namespace.as_bytes());
            dump.extend_from_slice(key.as_bytes());
            dump.extend_from_slice(&row.value);
        }
        for ((namespace, subject), keys) in &rows.index {
            dump.extend_from_slice(namespace.as_bytes());
            dump.extend_from_slice(subject.as_str().as_bytes());
            keys.keys().for_each(|key| dump.extend_from_slice(key.as_bytes()));
        }
        Ok(dump)
    }
}
