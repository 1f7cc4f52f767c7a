//! A store as simple as the contract allows, with a switch for each fault.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use session_conformance::{Backend, BoxError, Hook, Raw, Server, async_trait};
use session_core::{
    Capability, Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject,
    Subjects, Sweep, Version, head,
};

/// What may be wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The absolute end is not stored.
    NotAfterDropped,
    /// An empty value counts as none.
    EmptyIsAbsent,
    /// Data ends at the first NUL, as in a C string.
    NulEndsData,
    /// A miss is an error.
    AbsentIsAnError,
    /// Deleting nothing is an error.
    DeletingAbsentIsAnError,
}

const NAME: &str = "naive";

/// The backend: a server in memory, and the fault that its stores have.
pub(crate) struct Naive {
    server: Arc<Shared>,
    fault: Option<Fault>,
}

impl Naive {
    /// The reference: nothing is wrong with it.
    pub(crate) fn whole() -> Self {
        let server = Arc::default();
        Self { server, fault: None }
    }

    pub(crate) fn with(fault: Fault) -> Self {
        let fault = Some(fault);
        Self {
            fault,
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
        let mut profile = StoreProfile::new(NAME);
        profile.capabilities = vec![Capability::Subjects, Capability::Sweep];
        profile.limits.granularity = Duration::from_millis(1);
        // A hundred years: ends beyond 2038 are kept here.
        profile.limits.max_ttl = Duration::from_secs(36_525 * 24 * 60 * 60);
        Ok(Arc::new(NaiveStore {
            server: Arc::clone(&self.server),
            namespace: namespace.to_owned(),
            fault: self.fault,
            profile,
        }))
    }

    fn reason(_: Hook) -> &'static str {
        ""
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        Some(Arc::new(Down {
            profile: StoreProfile::new(NAME),
        }))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        let (server, namespace) = (Arc::clone(&self.server), namespace.to_owned());
        Some(Arc::new(NaiveRaw { server, namespace }))
    }
}

/// The server.
#[derive(Default)]
struct Shared(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    rows: HashMap<(String, SessionKey), Row>,
    index: HashMap<(String, Subject), BTreeSet<SessionKey>>,
}

/// A stored value and its end.
#[derive(Clone)]
struct Row {
    value: Vec<u8>,
    ends: Instant,
}

/// A node's store.
pub(crate) struct NaiveStore {
    server: Arc<Shared>,
    namespace: String,
    fault: Option<Fault>,
    profile: StoreProfile,
}

impl fmt::Debug for NaiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NaiveStore")
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl NaiveStore {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn fail<T>(&self, kind: ErrorKind) -> Result<T> {
        Err(Error::new(kind, NAME))
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.server.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, key: &SessionKey) -> (String, SessionKey) {
        (self.namespace.clone(), *key)
    }

    fn of(&self, subject: &Subject) -> (String, Subject) {
        (self.namespace.clone(), subject.clone())
    }

    /// The record as it is stored: here the faults of writing are.
    fn to_store(&self, record: &Record) -> Record {
        let mut record = record.clone();
        if self.has(Fault::NotAfterDropped) {
            record.not_after = None;
        }
        if self.has(Fault::NulEndsData)
            && let Some(end) = record.data.iter().position(|byte| *byte == 0)
        {
            record.data.truncate(end);
        }
        record
    }

    fn end(&self, ttl: Duration) -> Instant {
        Instant::now() + ttl.max(self.profile.limits.min_ttl)
    }

    fn put(&self, rows: &mut Rows, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let record = self.to_store(record);
        let version = Version::random().expect("the system has randomness");
        let value = head::seal(NAME, key, version, &record)?;
        let ends = self.end(ttl);
        if let Some(subject) = &record.subject {
            rows.index.entry(self.of(subject)).or_default().insert(*key);
        }
        rows.rows.insert(self.at(key), Row { value, ends });
        Ok(version)
    }

    /// The row under `key`, if it is live.
    fn live(&self, rows: &Rows, key: &SessionKey) -> Option<Row> {
        let row = rows
            .rows
            .get(&self.at(key))
            .filter(|row| row.ends > Instant::now())?;
        if self.has(Fault::EmptyIsAbsent) && row.value.len() == head::LEN {
            return None;
        }
        Some(row.clone())
    }

    fn read(&self, key: &SessionKey, row: &Row) -> Result<(Record, Version)> {
        head::open(NAME, key, &row.value.clone().into())
    }
}

#[async_trait]
impl SessionStore for NaiveStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let mut rows = self.rows();
        if self.live(&rows, key).is_some() {
            return self.fail(ErrorKind::AlreadyExists);
        }
        self.put(&mut rows, key, record, ttl)
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let row = self.live(&self.rows(), key);
        let Some(row) = row else {
            return match self.has(Fault::AbsentIsAnError) {
                true => self.fail(ErrorKind::NotFound),
                false => Ok(None),
            };
        };
        let (record, version) = self.read(key, &row)?;
        let remaining = row.ends.saturating_duration_since(Instant::now());
        Ok((!remaining.is_zero()).then(|| Stored::new(record, version, remaining)))
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let mut rows = self.rows();
        let Some(row) = self.live(&rows, key) else {
            return self.fail(ErrorKind::NotFound);
        };
        if self.read(key, &row)?.1 != expected {
            return self.fail(ErrorKind::Conflict);
        }
        self.put(&mut rows, key, record, ttl)
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let mut rows = self.rows();
        let Some(row) = self.live(&rows, key) else {
            return self.fail(ErrorKind::NotFound);
        };
        let ends = self.end(ttl);
        rows.rows.insert(self.at(key), Row { ends, ..row });
        Ok(())
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let mut rows = self.rows();
        let Some(row) = self.live(&rows, key) else {
            return match self.has(Fault::DeletingAbsentIsAnError) {
                true => self.fail(ErrorKind::NotFound),
                false => Ok(false),
            };
        };
        if let Some(expected) = expected
            && self.read(key, &row)?.1 != expected
        {
            return self.fail(ErrorKind::Conflict);
        }
        rows.rows.remove(&self.at(key));
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
impl Subjects for NaiveStore {
    /// The index is a hint: it may hold keys that moved or ended, so every one is looked at.
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let rows = self.rows();
        let mut keys: Vec<SessionKey> = rows
            .index
            .get(&self.of(subject))
            .into_iter()
            .flatten()
            .copied()
            .collect();
        keys.retain(|key| {
            let record = self.live(&rows, key).and_then(|row| self.read(key, &row).ok());
            record.is_some_and(|(record, _)| record.subject.as_ref() == Some(subject))
        });
        Ok(keys)
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let mut keys = self.list(subject).await?;
            keys.retain(|key| Some(key) != except);
            if keys.is_empty() {
                return Ok(deleted);
            }
            for key in &keys {
                deleted += u64::from(self.delete(key, None).await?);
            }
        }
    }
}

#[async_trait]
impl Sweep for NaiveStore {
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        let mut rows = self.rows();
        let now = Instant::now();
        let expired: Vec<_> = rows
            .rows
            .iter()
            .filter(|((namespace, _), row)| *namespace == self.namespace && row.ends <= now)
            .map(|(at, _)| at.clone())
            .take(max)
            .collect();
        for at in &expired {
            rows.rows.remove(at);
        }
        Ok(expired.len())
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
        let mut rows = self.server.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = Instant::now() + Duration::from_secs(60 * 60);
        let at = (self.namespace.clone(), *key);
        rows.rows
            .entry(at)
            .or_insert_with(|| Row {
                value: Vec::new(),
                ends,
            })
            .value = value.to_vec();
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        let rows = self.server.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.rows.get(&(self.namespace.clone(), *key));
        Ok(row.map(|row| row.value.clone()))
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let rows = self.server.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dump = Vec::new();
        for ((namespace, key), row) in &rows.rows {
            dump.extend_from_slice(namespace.as_bytes());
            dump.extend_from_slice(key.as_bytes());
            dump.extend_from_slice(&row.value);
        }
        for ((namespace, subject), keys) in &rows.index {
            dump.extend_from_slice(namespace.as_bytes());
            dump.extend_from_slice(subject.as_str().as_bytes());
            keys.iter().for_each(|key| dump.extend_from_slice(key.as_bytes()));
        }
        Ok(dump)
    }
}

/// A store whose server is down.
#[derive(Debug)]
struct Down {
    profile: StoreProfile,
}

impl Down {
    async fn down<T>(&self) -> Result<T> {
        Err(Error::new(ErrorKind::Unavailable, NAME))
    }
}

#[async_trait]
impl SessionStore for Down {
    async fn create(&self, _: &SessionKey, _: &Record, _: Duration) -> Result<Version> {
        self.down().await
    }

    async fn load(&self, _: &SessionKey) -> Result<Option<Stored>> {
        self.down().await
    }

    async fn update(&self, _: &SessionKey, _: Version, _: &Record, _: Duration) -> Result<Version> {
        self.down().await
    }

    async fn touch(&self, _: &SessionKey, _: Duration) -> Result<()> {
        self.down().await
    }

    async fn delete(&self, _: &SessionKey, _: Option<Version>) -> Result<bool> {
        self.down().await
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        None
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}
