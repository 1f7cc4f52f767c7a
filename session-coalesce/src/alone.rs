//! A call that finds nothing waiting and nothing under way: it needs no task.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// What a lone caller does itself, as long as it waits: a task would cost more than a server on the same machine. If the
/// caller goes, or somebody else comes, a task does the rest.
#[derive(Clone)]
pub(crate) struct Alone(Arc<Inner>);

struct Inner {
    work: Mutex<Option<Work>>,
    /// Somebody wants a task to go on.
    handed_over: AtomicBool,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Alone {
    pub(crate) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Arc::new(Inner {
            work: Mutex::new(Some(Box::pin(work))),
            handed_over: AtomicBool::new(false),
        }))
    }

    /// Goes on with the work, unless a task does.
    pub(crate) fn poll(&self, context: &mut Context<'_>) {
        {
            let mut work = self.0.work.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(future) = &mut *work
                && let Poll::Ready(()) = future.as_mut().poll(context)
            {
                *work = None;
            }
        }
        if self.0.handed_over.load(Ordering::SeqCst) {
            self.hand_over();
        }
    }

    /// Lets a task go on with the work: a future may be kept and not polled, and nobody else is to wait for that.
    pub(crate) fn hand_over(&self) {
        self.0.handed_over.store(true, Ordering::SeqCst);
        // Whoever is at work this very moment sees to it afterwards.
        let work = match self.0.work.try_lock() {
            Ok(mut work) => work.take(),
            Err(TryLockError::Poisoned(work)) => work.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        };
        // Without a runtime there is nobody to go on.
        if let Some(work) = work
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

/// A caller that does its own work, until it goes.
pub(crate) struct Caller(pub(crate) Alone);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.hand_over();
    }
}
