//! The last calls, for the message of a guarantee that does not hold.

use std::{
    collections::VecDeque,
    fmt::{self, Debug, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use session_core::{
    Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject, Subjects, Sweep, Version,
};

use tokio::task::coop::consume_budget;

use crate::expect::short;

/// The last calls of one guarantee, in the order in which they ended.
#[derive(Default)]
pub(crate) struct Calls {
    last: Mutex<VecDeque<Call>>,
}

/// Kept as data, and turned into text only for a message: a guarantee may make 10,000 calls a second.
struct Call {
    name: &'static str,
    key: Option<SessionKey>,
    seen: String,
}

impl Calls {
    const KEPT: usize = 12;

    fn note(&self, name: &'static str, key: Option<&SessionKey>, seen: &impl Debug) {
        let call = Call {
            name,
            key: key.copied(),
            seen: short(seen),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == Self::KEPT {
            last.pop_front();
        }
        last.push_back(call);
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for call in &*self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut key = String::new();
            if let Some(at) = &call.key {
                write!(key, "{at}")?;
                key.truncate(8);
            }
            writeln!(f, "    {}({key}) -> {}", call.name, call.seen)?;
        }
        Ok(())
    }
}

/// A store that remembers its last calls, and changes nothing else.
///
/// Each call may give its thread away first: a store in memory never waits, and a caller that asks it again and again
/// would keep all others from the machine.
pub(crate) struct Witness {
    store: Arc<dyn SessionStore>,
    calls: Arc<Calls>,
}

impl Witness {
    pub(crate) fn wrap(store: Arc<dyn SessionStore>, calls: Arc<Calls>) -> Arc<dyn SessionStore> {
        Arc::new(Self { store, calls })
    }
}

impl Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl SessionStore for Witness {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        consume_budget().await;
        let seen = self.store.create(key, record, ttl).await;
        self.calls.note("create", Some(key), &seen);
        seen
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        consume_budget().await;
        let seen = self.store.load(key).await;
        self.calls.note("load", Some(key), &seen);
        seen
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        consume_budget().await;
        let seen = self.store.update(key, expected, record, ttl).await;
        self.calls.note("update", Some(key), &seen);
        seen
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        consume_budget().await;
        let seen = self.store.touch(key, ttl).await;
        self.calls.note("touch", Some(key), &seen);
        seen
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        consume_budget().await;
        let seen = self.store.delete(key, expected).await;
        self.calls.note("delete", Some(key), &seen);
        seen
    }

    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        self.store.subjects().is_some().then_some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        self.store.sweep().is_some().then_some(self)
    }
}

#[async_trait]
impl Subjects for Witness {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        consume_budget().await;
        let seen = match self.store.subjects() {
            Some(subjects) => subjects.list(subject).await,
            None => Err(self.gone()),
        };
        self.calls.note("list", None, &seen);
        seen
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        consume_budget().await;
        let seen = match self.store.subjects() {
            Some(subjects) => subjects.delete_all(subject, except).await,
            None => Err(self.gone()),
        };
        self.calls.note("delete_all", except, &seen);
        seen
    }
}

#[async_trait]
impl Sweep for Witness {
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        consume_budget().await;
        let seen = match self.store.sweep() {
            Some(sweep) => sweep.remove_expired(max).await,
            None => Err(self.gone()),
        };
        self.calls.note("remove_expired", None, &seen);
        seen
    }
}

impl Witness {
    /// The accessor was `Some` a moment ago, and `None` now.
    fn gone(&self) -> session_core::Error {
        let kind = session_core::ErrorKind::Unsupported;
        session_core::Error::new(kind, self.store.profile().name)
            .with_detail("the accessor changed its answer")
    }
}
