//! A server that can be killed, and a store that notices.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use session_conformance::{BoxError, Crash, async_trait};
use session_core::{
    ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep, Version,
};

use super::{NAME, Naive, Rows, Shared, lock, open};
use crate::list::Fault;

/// What is on the disk follows what is in memory at once, or as often as this in the mutant that does not wait for it.
const FLUSHED: Duration = Duration::from_millis(20);

/// A server whose memory is gone when it is killed.
pub(super) struct Killed {
    server: Mutex<Arc<Shared>>,
    machine: Arc<Machine>,
    fault: Option<Fault>,
    slow_and_coarse: bool,
    /// It is a library: a crash is a copy of what it has on disk, and stores that are open stay where they are.
    embedded: bool,
}

/// What the server runs on.
#[derive(Default)]
struct Machine {
    /// Even while it runs, odd while it is down; another number after each crash.
    epoch: AtomicUsize,
    /// What was written last, and when.
    disk: Mutex<Option<(Instant, Rows)>>,
}

impl Machine {
    fn epoch(&self) -> usize {
        self.epoch.load(Ordering::SeqCst)
    }
}

impl Killed {
    pub(super) fn new(of: &Naive) -> Self {
        Self {
            server: Mutex::default(),
            machine: Arc::default(),
            fault: of.fault,
            slow_and_coarse: of.slow_and_coarse,
            embedded: of.server.locks.is_whole(),
        }
    }
}

#[async_trait]
impl Crash for Killed {
    async fn open(&self) -> Result<Arc<dyn SessionStore>, BoxError> {
        let server = Arc::clone(&lock(&self.server));
        Ok(Arc::new(Connected {
            store: open(&server, self.fault, self.slow_and_coarse, "crash"),
            server,
            machine: Arc::clone(&self.machine),
            since: self.machine.epoch(),
            fault: self.fault,
        }))
    }

    async fn crash(&self) -> Result<(), BoxError> {
        if self.embedded {
            let mut server = lock(&self.server);
            let copy = server.rows().clone();
            *server = Arc::default();
            *server.rows() = copy;
            return Ok(());
        }
        self.machine.epoch.fetch_add(1, Ordering::SeqCst);
        // A call that is on its way ends; nobody hears how.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if self.fault == Some(Fault::AcknowledgedBeforeItIsOnDisk)
            && let Some((_, rows)) = lock(&self.machine.disk).take()
        {
            *lock(&self.server).rows() = rows;
        }
        self.machine.epoch.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn stores_reconnect(&self) -> bool {
        !self.embedded
    }
}

/// A store with a connection to a machine.
struct Connected {
    store: Arc<dyn SessionStore>,
    server: Arc<Shared>,
    machine: Arc<Machine>,
    /// When it connected.
    since: usize,
    fault: Option<Fault>,
}

impl Connected {
    /// The answer, if the machine was there from the call to the answer.
    async fn reached<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let epoch = self.machine.epoch();
        let connected = epoch == self.since || self.fault != Some(Fault::NeverConnectsAfterACrash);
        if !epoch.is_multiple_of(2) || !connected {
            return Err(session_core::Error::new(ErrorKind::Unavailable, NAME));
        }
        let answer = call.await;
        self.flush(epoch);
        match self.machine.epoch() == epoch {
            true => answer,
            false => Err(session_core::Error::new(ErrorKind::Unavailable, NAME)),
        }
    }

    fn flush(&self, epoch: usize) {
        let mut disk = lock(&self.machine.disk);
        let is_due = disk.as_ref().is_none_or(|(at, _)| at.elapsed() > FLUSHED);
        if self.fault == Some(Fault::AcknowledgedBeforeItIsOnDisk) && is_due && self.machine.epoch() == epoch
        {
            *disk = Some((Instant::now(), self.server.rows().clone()));
        }
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl SessionStore for Connected {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.reached(self.store.create(key, record, ttl)).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.reached(self.store.load(key)).await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.reached(self.store.update(key, expected, record, ttl)).await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.reached(self.store.touch(key, ttl)).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        self.reached(self.store.delete(key, expected)).await
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
