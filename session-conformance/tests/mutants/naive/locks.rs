//! Locks of other programs, and what a store makes of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use session_conformance::{BoxError, Deed, Rival, Scope, Transaction, async_trait};
use session_core::{
    ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep, Version, head,
};
use tokio::{
    sync::{Mutex as Queue, Semaphore},
    time::timeout,
};

use super::{At, NAME, NaiveStore, Rows, Shared, lock, round_trip};
use crate::list::Fault;

/// The deadline of a call that waits for a lock.
const DEADLINE: Duration = Duration::from_secs(3);

/// What the server knows of open transactions.
#[derive(Default)]
pub(super) struct Locks {
    held: Mutex<HashMap<At, Deed>>,
    /// A lock is on everything, as SQLite has it.
    whole: bool,
    /// Transactions that keep a snapshot.
    snapshots: AtomicUsize,
    /// The locks of a store's own calls, where they have some.
    rows: Mutex<HashMap<At, Arc<Queue<()>>>>,
}

impl Locks {
    pub(super) fn of(whole: bool) -> Self {
        Self {
            whole,
            ..Self::default()
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn has(&self, at: &At) -> bool {
        match self.whole {
            true => self.has_any(&at.0),
            false => lock(&self.held).contains_key(at),
        }
    }

    fn has_any(&self, namespace: &str) -> bool {
        lock(&self.held).keys().any(|(of, _)| of == namespace)
    }
}

/// A store whose writes wait for the locks of other programs, each for its own.
pub(super) struct Waiting {
    store: NaiveStore,
    connections: Semaphore,
    /// What was updated last: a batch has both.
    mate: Mutex<Option<SessionKey>>,
}

impl Waiting {
    pub(super) fn new(store: NaiveStore) -> Self {
        Self {
            store,
            connections: Semaphore::new(4),
            mate: Mutex::default(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.store.has(fault)
    }

    /// A call with all that it waits for, until its deadline.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        // Taken before the wait for a lock, and kept: `None` in all others, where nobody who waits has one.
        let call = async {
            let _connection = match self.has(Fault::WaitingCallPinsItsConnection) {
                true => self.connections.acquire().await.ok(),
                false => None,
            };
            call.await
        };
        if self.has(Fault::LockWaitHasNoLimit) {
            return call.await;
        }
        match timeout(DEADLINE, call).await {
            Ok(answer) => answer,
            Err(_) => self.store.fail(ErrorKind::Unavailable),
        }
    }

    async fn until(&self, free: impl Fn() -> bool) {
        while !free() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until nobody else has locked `key`.
    async fn free(&self, key: &SessionKey) {
        let (locks, at) = (&self.store.server.locks, self.store.at(key));
        match self.has(Fault::BatchWaitsForALock) {
            true => self.until(|| !locks.has_any(&at.0)).await,
            false => self.until(|| !locks.has(&at)).await,
        }
    }

    /// Locks what it updates, and then what travels with it.
    async fn lock_two(&self, key: &SessionKey) -> Result<()> {
        let of = |key: &SessionKey| {
            let at = self.store.at(key);
            Arc::clone(lock(&self.store.server.locks.rows).entry(at).or_default())
        };
        let mate = lock(&self.mate).replace(*key).filter(|mate| mate != key);
        let own = of(key);
        let _own = own.lock().await;
        round_trip().await;
        let Some(mate) = mate.map(|mate| of(&mate)) else {
            return Ok(());
        };
        // As a server that finds a circle of waits, and ends one of them.
        match timeout(Duration::from_millis(50), mate.lock()).await {
            Ok(_mate) => Ok(()),
            Err(_) => self.store.fail(ErrorKind::Unavailable),
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl SessionStore for Waiting {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.in_time(async {
            self.free(key).await;
            self.store.create(key, record, ttl).await
        })
        .await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.in_time(async {
            match self.store.fault {
                Some(Fault::LoadsWaitForLocks) => self.free(key).await,
                Some(Fault::UncommittedIsRead) => {
                    if let Some(Deed::Delete) = lock(&self.store.server.locks.held).get(&self.store.at(key)) {
                        return Ok(None);
                    }
                }
                _ => {}
            }
            self.store.load(key).await
        })
        .await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.in_time(async {
            match self.store.fault {
                Some(Fault::OldSnapshotAfterALock | Fault::DeletedUnderALockComesBack)
                    if self.store.server.locks.has(&self.store.at(key)) =>
                {
                    let old = self.store.load(key).await?;
                    self.free(key).await;
                    let now = self.store.load(key).await?.map(|stored| stored.version);
                    match (old, now) {
                        (Some(old), Some(now))
                            if old.version == expected && self.has(Fault::OldSnapshotAfterALock) =>
                        {
                            self.store.update(key, now, record, ttl).await
                        }
                        (Some(old), None)
                            if old.version == expected && self.has(Fault::DeletedUnderALockComesBack) =>
                        {
                            self.store.create(key, record, ttl).await
                        }
                        _ => self.store.update(key, expected, record, ttl).await,
                    }
                }
                Some(Fault::DeletedMeanwhileIsConflict) => {
                    let old = self.store.load(key).await?;
                    round_trip().await;
                    self.free(key).await;
                    match (self.store.update(key, expected, record, ttl).await, old) {
                        (Err(error), Some(_)) if error.kind() == ErrorKind::NotFound => {
                            self.store.fail(ErrorKind::Conflict)
                        }
                        (answer, _) => answer,
                    }
                }
                fault => {
                    self.free(key).await;
                    if fault == Some(Fault::LocksInAnyOrder) {
                        self.lock_two(key).await?;
                    }
                    self.store.update(key, expected, record, ttl).await
                }
            }
        })
        .await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.in_time(async {
            self.free(key).await;
            self.store.touch(key, ttl).await
        })
        .await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        self.in_time(async {
            self.free(key).await;
            self.store.delete(key, expected).await
        })
        .await
    }

    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        self.store.subjects()
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        self.store.sweep().is_some().then_some(self)
    }
}

#[async_trait]
impl Sweep for Waiting {
    /// A sweep passes over what is locked.
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        let locks = &self.store.server.locks;
        self.in_time(async {
            match self.store.fault {
                Some(Fault::SweepWaitsForLocks) => {
                    self.until(|| !locks.has_any(&self.store.namespace)).await;
                }
                Some(Fault::SweepWaitsForSnapshots) => {
                    self.until(|| locks.snapshots.load(Ordering::SeqCst) == 0).await;
                }
                _ => {}
            }
            self.store.remove_expired(max).await
        })
        .await
    }
}

/// Another program on the same server. What it does is done when it commits, and nobody sees it before.
pub(super) struct NaiveRival {
    pub(super) server: Arc<Shared>,
    pub(super) namespace: String,
}

#[async_trait]
impl Rival for NaiveRival {
    fn locks(&self) -> Scope {
        match self.server.locks.is_whole() {
            true => Scope::Store,
            false => Scope::Record,
        }
    }

    async fn begin(&self, deeds: &[(SessionKey, Deed)]) -> Result<Box<dyn Transaction>, BoxError> {
        let deeds = deeds
            .iter()
            .map(|(key, deed)| ((self.namespace.clone(), *key), deed.clone()))
            .collect();
        let transaction = NaiveTransaction {
            server: Arc::clone(&self.server),
            deeds,
        };
        let locks = &self.server.locks;
        for (at, deed) in &transaction.deeds {
            match deed {
                Deed::Look => drop(locks.snapshots.fetch_add(1, Ordering::SeqCst)),
                deed => drop(lock(&locks.held).insert(at.clone(), deed.clone())),
            }
        }
        Ok(Box::new(transaction))
    }
}

struct NaiveTransaction {
    server: Arc<Shared>,
    deeds: Vec<(At, Deed)>,
}

impl NaiveTransaction {
    fn apply(&self, rows: &mut Rows, at: &At, deed: &Deed) -> Result<(), BoxError> {
        if *deed == Deed::Look {
            return Ok(());
        }
        let now = self.server.now();
        let row = rows.rows.get_mut(at).ok_or("no such row")?;
        match deed {
            Deed::Lock => {}
            Deed::Replace { record, version } => {
                row.value = head::seal(NAME, &at.1, *version, record)?;
                let ends = row.ends;
                if let Some(subject) = &record.subject {
                    let of = (at.0.clone(), subject.clone());
                    rows.index.entry(of).or_default().insert(at.1, ends);
                }
            }
            Deed::Expire => row.ends = now,
            Deed::Extend => row.ends = now + Duration::from_secs(60 * 60),
            Deed::Delete => drop(rows.rows.remove(at)),
            other => return Err(format!("unknown: {other:?}").into()),
        }
        Ok(())
    }
}

#[async_trait]
impl Transaction for NaiveTransaction {
    async fn commit(self: Box<Self>) -> Result<(), BoxError> {
        let mut rows = self.server.rows();
        self.deeds
            .iter()
            .try_for_each(|(at, deed)| self.apply(&mut rows, at, deed))
    }

    async fn roll_back(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

/// However it ended, its locks are free.
impl Drop for NaiveTransaction {
    fn drop(&mut self) {
        let locks = &self.server.locks;
        for (at, deed) in &self.deeds {
            match deed {
                Deed::Look => drop(locks.snapshots.fetch_sub(1, Ordering::SeqCst)),
                _ => drop(lock(&locks.held).remove(at)),
            }
        }
    }
}
