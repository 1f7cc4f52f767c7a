//! A store of one's own, and its registration with the suite: `cargo run -p session-conformance --example own_store`
//!
//! In a crate of its own the registration is `tests/conformance.rs`, a test target with `harness = false`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use session_conformance::{Backend, BoxError, Hook, Server, async_trait};
use session_core::{
    Bytes, Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep,
    Version, head,
};

// The registration.

#[derive(Default)]
struct Own(Mutex<HashMap<String, Arc<OwnStore>>>);

#[async_trait]
impl Backend for Own {
    const NAME: &'static str = NAME;
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    async fn start() -> Result<Self, BoxError> {
        Ok(Self::default())
    }

    fn server(&self) -> Server {
        Server::none()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(stores.entry(namespace.to_owned()).or_default()) as _)
    }

    fn reason(_: Hook) -> &'static str {
        "runs in this process: nothing reaches behind the store"
    }
}

session_conformance::main!(Own);

// The store: values as `head::seal` makes them, in a map. It has neither an index by subject nor a sweep, says so, and
// the suite finds both `unsupported`.

const NAME: &str = "own";

#[derive(Debug)]
struct OwnStore {
    profile: StoreProfile,
    values: Mutex<HashMap<SessionKey, (Bytes, Instant)>>,
}

impl Default for OwnStore {
    fn default() -> Self {
        let (profile, values) = (StoreProfile::new(NAME), Mutex::default());
        Self { profile, values }
    }
}

type Values<'a> = MutexGuard<'a, HashMap<SessionKey, (Bytes, Instant)>>;

impl OwnStore {
    fn values(&self) -> Values<'_> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(values: &mut Values<'_>, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let version =
            Version::random().map_err(|error| Error::new(ErrorKind::Unavailable, NAME).with_source(error))?;
        let value = head::seal(NAME, key, version, record)?;
        values.insert(*key, (value.into(), Instant::now() + ttl));
        Ok(version)
    }

    /// What is under the key, if it is live.
    fn find(values: &Values<'_>, key: &SessionKey) -> Result<Option<Stored>> {
        let Some((value, end)) = values.get(key) else {
            return Ok(None);
        };
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(None);
        }
        let (record, version) = head::open(NAME, key, value)?;
        Ok(Some(Stored::new(record, version, remaining)))
    }

    /// What is under the key, in the version that is expected.
    fn expect(values: &Values<'_>, key: &SessionKey, expected: Option<Version>) -> Result<Option<Stored>> {
        let stored = Self::find(values, key)?;
        match (&stored, expected) {
            (Some(stored), Some(expected)) if stored.version != expected => {
                Err(Error::new(ErrorKind::Conflict, NAME))
            }
            _ => Ok(stored),
        }
    }
}

#[async_trait]
impl SessionStore for OwnStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let mut values = self.values();
        // One that cannot be read is there, too.
        match Self::find(&values, key) {
            Ok(None) => Self::put(&mut values, key, record, ttl),
            _ => Err(Error::new(ErrorKind::AlreadyExists, NAME)),
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        Self::find(&self.values(), key)
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let mut values = self.values();
        match Self::expect(&values, key, Some(expected))? {
            Some(_) => Self::put(&mut values, key, record, ttl),
            None => Err(Error::new(ErrorKind::NotFound, NAME)),
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let mut values = self.values();
        let live = Self::find(&values, key)?.is_some();
        match values.get_mut(key) {
            Some((_, end)) if live => {
                *end = Instant::now() + ttl;
                Ok(())
            }
            _ => Err(Error::new(ErrorKind::NotFound, NAME)),
        }
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let mut values = self.values();
        let live = match (Self::expect(&values, key, expected), expected) {
            (Ok(stored), _) => stored.is_some(),
            // Without a version, what cannot be read goes as well.
            (Err(_), None) => true,
            (Err(error), Some(_)) => return Err(error),
        };
        values.remove(key);
        Ok(live)
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
