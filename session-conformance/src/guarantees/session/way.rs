//! The way to the store, on which calls are lost and delayed.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep,
    Version,
};
use tokio::sync::oneshot;

use crate::{Stop, Verdict};

/// The way from a site to the store under test: as good as the store itself, until trouble is planned.
pub(in crate::guarantees) struct Way {
    store: Arc<dyn SessionStore>,
    plan: Mutex<Option<(Plan, Option<Pause>)>>,
    calls: AtomicUsize,
    writes: AtomicUsize,
}

/// Which calls meet trouble, and what trouble.
#[derive(Debug, Clone, Copy)]
pub(in crate::guarantees) struct Plan {
    trouble: Trouble,
    /// Calls that come before and meet none.
    skip: usize,
    /// Calls that meet it, from then on.
    times: usize,
    /// Whether reads neither count nor meet it.
    writes_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guarantees) enum Trouble {
    /// The call never reaches the store, and ends in `Unavailable`.
    RequestLost,
    /// The store does what was asked; the call ends in `Unavailable`.
    ReplyLost,
    /// The call takes its time, and is answered.
    Delayed,
    /// The call never reaches the store, and ends in this.
    Fails(ErrorKind),
}

impl Plan {
    /// The call after `skip` others.
    pub(in crate::guarantees) const fn at_call(skip: usize, trouble: Trouble) -> Self {
        Self {
            trouble,
            skip,
            times: 1,
            writes_only: false,
        }
    }

    /// The write after `skip` others.
    pub(in crate::guarantees) const fn at_write(skip: usize, trouble: Trouble) -> Self {
        Self {
            writes_only: true,
            ..Self::at_call(skip, trouble)
        }
    }

    pub(in crate::guarantees) const fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// And all that follow.
    pub(in crate::guarantees) const fn for_good(self) -> Self {
        self.times(usize::MAX)
    }
}

/// Where a call in trouble waits.
struct Pause {
    reached: oneshot::Sender<()>,
    /// Ends when its other end is dropped.
    go_on: oneshot::Receiver<()>,
}

impl Way {
    pub(in crate::guarantees) fn to(store: Arc<dyn SessionStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            plan: Mutex::default(),
            calls: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        })
    }

    /// From now on.
    pub(in crate::guarantees) fn plan(&self, plan: Plan) {
        *self.planned() = Some((plan, None));
    }

    /// No trouble any more.
    pub(in crate::guarantees) fn clear(&self) {
        *self.planned() = None;
    }

    /// Calls that were made until now, whatever became of them.
    pub(in crate::guarantees) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// The writes among them.
    pub(in crate::guarantees) fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }

    /// Runs `request` up to its call in trouble, then `other` to its end, then the rest of `request`. Returns what
    /// `request` did, and whether it came to such a call: if not, `other` ran after it.
    pub(in crate::guarantees) async fn meanwhile<T>(
        &self,
        plan: Plan,
        request: impl Future<Output = T>,
        other: impl Future<Output = Verdict>,
    ) -> Result<(T, bool), Stop> {
        let (reached, at_call) = oneshot::channel();
        let (go, go_on) = oneshot::channel::<()>();
        *self.planned() = Some((plan, Some(Pause { reached, go_on })));
        let request = async {
            let output = request.await;
            self.clear();
            output
        };
        let other = async {
            let reached = at_call.await.is_ok();
            let verdict = other.await;
            drop(go);
            verdict.map(|()| reached)
        };
        let (output, reached) = tokio::join!(request, other);
        Ok((output, reached?))
    }

    /// Runs `request` up to its call in trouble and drops it there, as a crash does: `None`. What it did otherwise.
    pub(in crate::guarantees) async fn crash<T>(
        &self,
        plan: Plan,
        request: impl Future<Output = T>,
    ) -> Option<T> {
        let (reached, at_call) = oneshot::channel();
        let (_go, go_on) = oneshot::channel::<()>();
        *self.planned() = Some((plan, Some(Pause { reached, go_on })));
        let ended = tokio::select! {
            biased;
            output = request => Some(output),
            Ok(()) = at_call => None,
        };
        self.clear();
        ended
    }

    fn planned(&self) -> MutexGuard<'_, Option<(Plan, Option<Pause>)>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The trouble of a call that begins now.
    fn next(&self, writes: bool) -> Option<(Trouble, Option<Pause>)> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(usize::from(writes), Ordering::Relaxed);
        let mut planned = self.planned();
        let (plan, pause) = planned.as_mut()?;
        if plan.writes_only && !writes || plan.times == 0 {
            return None;
        }
        if plan.skip > 0 {
            plan.skip -= 1;
            return None;
        }
        plan.times -= 1;
        Some((plan.trouble, pause.take()))
    }

    async fn call<T: Send>(&self, writes: bool, run: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let Some((trouble, pause)) = self.next(writes) else {
            return run.await;
        };
        let wait = async {
            if let Some(Pause { reached, go_on }) = pause {
                // Whoever planned it may have given up.
                let _ = reached.send(());
                let _ = go_on.await;
            }
        };
        let kind = match trouble {
            Trouble::Delayed => {
                wait.await;
                return run.await;
            }
            Trouble::ReplyLost => {
                // Nobody hears what it came to.
                let _ = run.await;
                ErrorKind::Unavailable
            }
            Trouble::RequestLost => ErrorKind::Unavailable,
            Trouble::Fails(kind) => kind,
        };
        wait.await;
        let error = Error::new(kind, self.store.profile().name);
        Err(error.with_detail("made by the suite on the way to the store"))
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl SessionStore for Way {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.call(true, self.store.create(key, record, ttl)).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.call(false, self.store.load(key)).await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.call(true, self.store.update(key, expected, record, ttl))
            .await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.call(true, self.store.touch(key, ttl)).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        self.call(true, self.store.delete(key, expected)).await
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
