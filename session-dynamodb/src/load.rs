//! Loads that come together travel together.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use session_coalesce::{Carrier, Coalescer, Failure as Unsent, Limits};
use session_core::{Error, SessionKey};
use tokio::time::{Instant, sleep};

use crate::{
    call::{Tries, pause},
    error::{self, Failure},
    item::Item,
    node::{Found, MOST_KEYS, Node, Part},
};

/// Batches under way at once. A load that finds one of them free goes at once, and alone.
const LANES: usize = 8;

/// What one reply has room for: 16 MB.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
const REPLY: usize = 16_000_000;

/// Bytes of an item beside its record, at most.
const BESIDE: usize = 512;

/// The loads of a store.
pub(crate) struct Loads {
    calls: Coalescer<Batches>,
}

impl Loads {
    /// Of records that have `max_record` bytes at most.
    pub(crate) fn new(node: &Arc<Node>, max_record: usize) -> Self {
        let batch = (REPLY / (max_record + BESIDE)).clamp(1, MOST_KEYS);
        // Each request costs more than what it carries: lanes do not share.
        let limits = Limits::default()
            .with_lanes(LANES)
            .with_batch(batch)
            .with_share(batch);
        Self {
            calls: Coalescer::new(Batches(Arc::clone(node)), limits),
        }
    }

    /// The item of a record.
    pub(crate) async fn load(&self, key: SessionKey, limit: Duration) -> Result<Option<Item>, Error> {
        let mut tries = Tries::new(limit);
        let mut unprocessed = 0;
        loop {
            let failure = match self.calls.call(key, tries.deadline()).await {
                Ok(Answer::Found(item)) => return Ok(item),
                Ok(Answer::Failed(failure)) => failure,
                // Others are not kept waiting: it comes again by itself.
                Ok(Answer::Unprocessed) => {
                    let pause = pause(unprocessed);
                    unprocessed += 1;
                    if Instant::now() + pause >= tries.deadline() {
                        let asked = self.calls.carrier().0.asked("BatchGetItem");
                        return Err(error::unavailable(format!(
                            "{asked}: the table's capacity did not suffice for the key within {limit:?}"
                        )));
                    }
                    sleep(pause).await;
                    continue;
                }
                Err(Unsent::Lost) => Failure::Lost(error::unavailable("the runtime has ended")),
                Err(unsent) => {
                    let asked = self.calls.carrier().0.asked("GetItem");
                    return Err(error::unavailable(match unsent {
                        Unsent::NotAnswered => format!("{asked}: no reply within {limit:?}"),
                        other => format!("{asked}: {other}"),
                    }));
                }
            };
            tries.again(failure).await?;
        }
    }
}

/// What is told of one key.
enum Answer {
    Found(Option<Item>),
    Unprocessed,
    Failed(Failure),
}

struct Batches(Arc<Node>);

impl Carrier for Batches {
    type Call = SessionKey;
    type Answer = Answer;
    type Key = ();
    type Lane = ();
    type Error = Infallible;

    fn key(_: &SessionKey) -> Option<()> {
        None
    }

    fn weight(_: &SessionKey) -> usize {
        1
    }

    async fn lane(&self) -> Result<(), Infallible> {
        // The client has connections of its own.
        Ok(())
    }

    async fn carry(&self, (): (), calls: Vec<SessionKey>) -> Vec<Answer> {
        // A key that comes twice fails the whole request.
        let mut seen = HashSet::new();
        let keys: Vec<SessionKey> = calls.iter().filter(|key| seen.insert(**key)).copied().collect();
        let mut found = match *keys {
            [key] => self.0.get(&key).await.map(|item| Found {
                items: item.map(|item| (key, item)).into_iter().collect(),
                unprocessed: Vec::new(),
            }),
            _ => self.0.batch_get(&keys, Part::Whole).await,
        };
        let is_once = keys.len() == calls.len();
        let answer = |key: &SessionKey| match &mut found {
            Ok(found) => match found.items.get(key) {
                // Who asks alone need not copy it.
                Some(_) if is_once => Answer::Found(found.items.remove(key)),
                Some(item) => Answer::Found(Some(item.clone())),
                None if found.unprocessed.contains(key) => Answer::Unprocessed,
                None => Answer::Found(None),
            },
            Err(failure) => Answer::Failed(failure.clone()),
        };
        calls.iter().map(answer).collect()
    }
}
