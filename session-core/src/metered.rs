//! A store that is measured.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use metrics::{Key, Label};

use crate::{
    Error, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject, Subjects, Sweep, Version,
    metrics::{STORE_SECONDS, measured},
};

/// Measures the calls of the store within: each is one value of the histogram `session_store_seconds`, with the labels `store`
/// (its name), `call` (`create`, `load`, `update`, `touch`, `delete`, `list`, `delete_all`, `remove_expired`) and `outcome`: `ok`,
/// `absent`, the kind of its error (`conflict`, `unavailable` …), or `dropped` where the caller gave up first. It changes
/// nothing else.
///
/// ```
/// use std::sync::Arc;
/// use session_core::{MemoryStore, MeteredStore, Sessions};
///
/// let store = MeteredStore::new(MemoryStore::new());
/// let sessions = Sessions::builder(Arc::new(store)).build();
/// # sessions.unwrap();
/// ```
#[derive(Debug)]
pub struct MeteredStore<S> {
    store: S,
}

impl<S: SessionStore> MeteredStore<S> {
    /// Measures `store`.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store }
    }

    /// The store within.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.store
    }

    async fn measure<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T>>,
        outcome: impl FnOnce(&T) -> &'static str,
    ) -> Result<T> {
        let mut timer = Timer {
            store: self.store.profile().name,
            call,
            outcome: "dropped",
            begun: Instant::now(),
        };
        let result = work.await;
        timer.outcome = match &result {
            Ok(answer) => outcome(answer),
            Err(error) => error.kind().label(),
        };
        result
    }
}

/// Records how long it lived when it is dropped, so that a call which nobody waits for any more counts too.
struct Timer {
    store: &'static str,
    call: &'static str,
    outcome: &'static str,
    begun: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let labels = vec![
            Label::from_static_parts("store", self.store),
            Label::from_static_parts("call", self.call),
            Label::from_static_parts("outcome", self.outcome),
        ];
        measured(
            &Key::from_parts(STORE_SECONDS, labels),
            self.begun.elapsed().as_secs_f64(),
        );
    }
}

fn done<T>(_: &T) -> &'static str {
    "ok"
}

fn found(is_there: bool) -> &'static str {
    match is_there {
        true => "ok",
        false => "absent",
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for MeteredStore<S> {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let call = self.store.create(key, record, ttl);
        self.measure("create", call, done).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let call = self.store.load(key);
        self.measure("load", call, |stored| found(stored.is_some())).await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let call = self.store.update(key, expected, record, ttl);
        self.measure("update", call, done).await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        let call = self.store.touch(key, ttl);
        self.measure("touch", call, done).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let call = self.store.delete(key, expected);
        self.measure("delete", call, |was_there| found(*was_there)).await
    }

    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        self.store.subjects().map(|_| self as &dyn Subjects)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        self.store.sweep().map(|_| self as &dyn Sweep)
    }
}

#[async_trait]
impl<S: SessionStore> Subjects for MeteredStore<S> {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let index = self.store.subjects().ok_or_else(|| unsupported(&self.store))?;
        self.measure("list", index.list(subject), done).await
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let index = self.store.subjects().ok_or_else(|| unsupported(&self.store))?;
        self.measure("delete_all", index.delete_all(subject, except), done)
            .await
    }
}

#[async_trait]
impl<S: SessionStore> Sweep for MeteredStore<S> {
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        let sweep = self.store.sweep().ok_or_else(|| unsupported(&self.store))?;
        self.measure("remove_expired", sweep.remove_expired(max), done)
            .await
    }
}

/// Of a store that no longer has what it had when it was asked.
fn unsupported(store: &impl SessionStore) -> Error {
    Error::new(crate::ErrorKind::Unsupported, store.profile().name)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::Arc,
        task::{Context, Waker},
    };

    use super::*;
    use crate::{
        Capability, ErrorKind, MemoryStore, SessionId,
        metrics::recorded::{recorded, run},
        session::{Fate, Scripted},
    };

    const TTL: Duration = Duration::from_secs(60);

    fn key() -> SessionKey {
        SessionId::random().unwrap().key("metered")
    }

    fn ada() -> Subject {
        Subject::new("ada").unwrap()
    }

    /// A store without capabilities.
    fn whose_calls(end: Fate) -> Arc<Scripted> {
        let store = Scripted::new(MemoryStore::new());
        store.script(move |_| end);
        store
    }

    #[test]
    fn each_call_is_measured_with_what_came_of_it() {
        let store = MeteredStore::new(MemoryStore::new());
        let (key, record) = (key(), Record::new("cart").with_subject(Some(ada())));
        let seen = recorded(async {
            assert!(store.load(&key).await.unwrap().is_none());
            assert!(!store.delete(&key, None).await.unwrap());
            let first = store.create(&key, &record, TTL).await.unwrap();
            let again = store.create(&key, &record, TTL).await.unwrap_err();
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
            let second = store.update(&key, first, &record, TTL).await.unwrap();
            let late = store.update(&key, first, &record, TTL).await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::Conflict);
            assert_eq!(
                store.delete(&key, Some(first)).await.unwrap_err().kind(),
                ErrorKind::Conflict
            );
            store.touch(&key, TTL * 2).await.unwrap();
            assert!(store.touch(&key, Duration::ZERO).await.is_err());
            let stored = store.load(&key).await.unwrap().unwrap();
            assert_eq!((&stored.record, stored.version), (&record, second));
            assert!(stored.remaining > TTL);
            let index = store.subjects().unwrap();
            assert_eq!(index.list(&ada()).await.unwrap(), [key]);
            assert_eq!(index.delete_all(&ada(), Some(&key)).await.unwrap(), 0);
            assert!(store.delete(&key, Some(second)).await.unwrap());
            assert!(store.touch(&key, TTL).await.is_err());
        });
        let seen: Vec<_> = seen.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(
            seen,
            [
                ("session_store_seconds memory create already_exists", 1),
                ("session_store_seconds memory create ok", 1),
                ("session_store_seconds memory delete absent", 1),
                ("session_store_seconds memory delete conflict", 1),
                ("session_store_seconds memory delete ok", 1),
                ("session_store_seconds memory delete_all ok", 1),
                ("session_store_seconds memory list ok", 1),
                ("session_store_seconds memory load absent", 1),
                ("session_store_seconds memory load ok", 1),
                ("session_store_seconds memory touch absent", 1),
                ("session_store_seconds memory touch invalid_ttl", 1),
                ("session_store_seconds memory touch ok", 1),
                ("session_store_seconds memory update conflict", 1),
                ("session_store_seconds memory update ok", 1),
            ]
        );
    }

    #[test]
    fn store_that_is_down_and_caller_that_gives_up_are_told_apart() {
        let (slow, down) = (whose_calls(Fate::Hangs), whose_calls(Fate::RequestLost));
        let seen = recorded(async {
            let store = MeteredStore::new(slow);
            let key = key();
            {
                let call = pin!(store.load(&key));
                assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            assert!(
                MeteredStore::new(down)
                    .load(&key)
                    .await
                    .unwrap_err()
                    .is_retryable()
            );
        });
        let seen: Vec<_> = seen.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(
            seen,
            [
                ("session_store_seconds memory load dropped", 1),
                ("session_store_seconds memory load unavailable", 1),
            ]
        );
    }

    #[test]
    fn what_the_store_claims_is_claimed_and_no_more() {
        let whole = MeteredStore::new(Arc::new(MemoryStore::new()));
        assert_eq!(whole.profile(), whole.inner().profile());
        assert!(whole.profile().has(Capability::Subjects) && whole.subjects().is_some());
        assert_eq!(whole.sweep().is_some(), whole.inner().sweep().is_some());
        let without = MeteredStore::new(whose_calls(Fate::Works));
        assert!(without.subjects().is_none() && without.sweep().is_none());
        let error = run(without.list(&ada())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
