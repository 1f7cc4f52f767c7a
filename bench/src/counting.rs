//! A store whose calls are counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use session_core::{
    Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep, Version, async_trait,
};
use tower_sessions_core::{
    SessionStore as PeerStore,
    session::{Id, Record as PeerRecord},
    session_store,
};

/// How often stores were called.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<AtomicU64>);

impl Calls {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So far.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A store, ours or of tower-sessions, whose calls are counted.
#[derive(Debug, Clone)]
pub struct Counting<S: ?Sized> {
    calls: Calls,
    store: Arc<S>,
}

impl<S: ?Sized> Counting<S> {
    /// Counts the calls of `store`.
    pub fn new(store: Arc<S>, calls: Calls) -> Self {
        Self { calls, store }
    }

    fn counted(&self) -> &S {
        self.calls.count();
        &self.store
    }
}

#[async_trait]
impl<S: SessionStore + ?Sized> SessionStore for Counting<S> {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.counted().create(key, record, ttl).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.counted().load(key).await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.counted().update(key, expected, record, ttl).await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.counted().touch(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        self.counted().delete(key, expected).await
    }

    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        self.store.subjects()
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        self.store.sweep()
    }
}

#[async_trait]
impl<S: PeerStore> PeerStore for Counting<S> {
    async fn create(&self, record: &mut PeerRecord) -> session_store::Result<()> {
        self.counted().create(record).await
    }

    async fn save(&self, record: &PeerRecord) -> session_store::Result<()> {
        self.counted().save(record).await
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<PeerRecord>> {
        self.counted().load(id).await
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.counted().delete(id).await
    }
}
