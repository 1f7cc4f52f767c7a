//! Sessions that the server holds, and calls that are answered.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{Error, ErrorKind, Record, SessionKey, SessionStore, Stored, Version};

use super::PATIENCE;
use crate::{
    Cx, Fault, Proxy, Stop, Verdict,
    callers::callers,
    expect::{ensure, short},
};

/// Sessions that the server holds.
#[derive(Debug, Clone)]
pub(super) struct Held(pub(super) Arc<[(SessionKey, Record, Version)]>);

impl Held {
    pub(super) async fn new(cx: &Cx, count: usize) -> Result<Self, Stop> {
        let mut held = Vec::new();
        for key in cx.keys(count) {
            let record = Record::new(key.to_string());
            let version = cx.store().create(&key, &record, Cx::LONG).await?;
            held.push((key, record, version));
        }
        Ok(Self(held.into()))
    }

    pub(super) fn key(&self, at: usize) -> &SessionKey {
        &self.0[at % self.0.len()].0
    }

    /// A load of one of them was answered with it, or with an error that `passes`. Whether it was answered.
    pub(super) fn is_own(
        &self,
        at: usize,
        seen: Result<Option<Stored>, Error>,
        passes: impl FnOnce(ErrorKind) -> bool,
    ) -> Result<bool, Stop> {
        let (key, record, version) = &self.0[at % self.0.len()];
        match seen {
            Err(error) if passes(error.kind()) => return Ok(false),
            Ok(Some(stored)) if stored.record == *record && stored.version == *version => return Ok(true),
            _ => {}
        }
        Err(Stop::Broken(format!(
            "load({key})\nexpected: its own record\nseen: {}",
            short(&seen)
        )))
    }

    /// `store` serves them all, to callers that come together.
    pub(super) async fn are_served(&self, store: &Arc<dyn SessionStore>) -> Verdict {
        callers(self.0.len(), |at| {
            let (held, store) = (self.clone(), Arc::clone(store));
            async move {
                let call = format!("load({})", held.key(at));
                let seen = served(&call, || store.load(held.key(at))).await?;
                held.is_own(at, Ok(seen), |_| false).map(drop)
            }
        })
        .await
        .map(drop)
    }
}

/// The answer of a call, whatever it is: what has none in time has no deadline.
pub(super) async fn answered<T>(
    call: &str,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<Result<T, Error>, Stop> {
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| {
        Stop::Broken(format!(
            "{call}\nexpected: an answer\nseen: no answer in {PATIENCE:?}"
        ))
    })
}

/// Asks until there is an answer: a machine may be slow, and a store may take a moment to connect.
pub(in crate::guarantees) async fn served<T, F>(call: &str, mut ask: impl FnMut() -> F) -> Result<T, Stop>
where
    F: Future<Output = Result<T, Error>>,
{
    const LONGEST: Duration = Duration::from_secs(20);
    let begun = Instant::now();
    loop {
        match answered(call, ask()).await? {
            Ok(value) => return Ok(value),
            Err(error) if unavailable(error.kind()) && begun.elapsed() < LONGEST => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => {
                return Err(Stop::Broken(format!(
                    "{call}\nexpected: an answer, once the fault is over\nseen: {error:?}"
                )));
            }
        }
    }
}

pub(super) fn unavailable(kind: ErrorKind) -> bool {
    kind == ErrorKind::Unavailable
}

/// The fault took place.
pub(super) fn took_place(proxy: &Proxy, fault: Fault) -> Verdict {
    ensure(proxy.happened() > 0, || {
        format!("{fault:?}\nexpected: it takes place\nseen: it did not")
    })
}
