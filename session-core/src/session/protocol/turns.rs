//! Writers of one session in this process that have met, one after the other.
//!
//! Of many requests that write one session at once, one wins each race, and all others ask the store again, for
//! nothing. So who has lost a race waits for a turn, and so does a plain write that comes while others wait; whoever has
//! written leaves what the store holds now to the next, who need not ask. That is a hint: the store compares versions in any
//! case, and writers in other processes know nothing of it.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use super::{load::Found, tokio_is_running};
use crate::{SessionKey, Version};

/// Writes in a row that go by what the one before left. Writers in other processes must ask the store first, and would come too
/// late each time.
const MOST_IN_A_ROW: u32 = 4;

/// The longest wait before an attempt: the calls of whoever has the turn may take as long as the store's deadline allows, and
/// those behind would have to wait for all of them.
const PATIENCE: Duration = Duration::from_millis(250);

/// The sessions whose writers have met.
#[derive(Default)]
pub(in crate::session) struct Turns {
    queues: Mutex<HashMap<SessionKey, Queue>>,
    /// Of `queues`: who writes a session alone looks at nothing else.
    len: AtomicUsize,
}

type Queue = Arc<tokio::sync::Mutex<Left>>;

/// What a turn leaves to the next.
#[derive(Default)]
struct Left {
    found: Option<Found>,
    /// Writes that went by such a hint.
    in_a_row: u32,
}

/// Held by the one who may write.
pub(super) struct Turn {
    left: OwnedMutexGuard<Left>,
    /// What the one before left. It goes with this turn, even unused: the next may write meanwhile.
    hint: Option<Found>,
    /// Whether others had theirs while this one was waited for.
    waited: bool,
    by_hint: bool,
    place: Place,
}

/// In a queue, which goes with the last who is in it.
struct Place {
    turns: Arc<Turns>,
    key: SessionKey,
    queue: Option<Queue>,
}

impl Turns {
    /// A turn among those who wait for one. `None` if nobody does, or if it takes too long.
    pub(super) async fn join(self: &Arc<Self>, key: &SessionKey) -> Option<Turn> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let queue = self.queues().get(key).cloned()?;
        self.place(key, queue).turn().await
    }

    /// A turn of one who has lost a race. `None` if it takes too long.
    pub(super) async fn wait(self: &Arc<Self>, key: &SessionKey) -> Option<Turn> {
        let queue = match self.queues().entry(*key) {
            Entry::Occupied(queue) => queue.get().clone(),
            Entry::Vacant(place) => {
                self.len.fetch_add(1, Ordering::Relaxed);
                place.insert(Queue::default()).clone()
            }
        };
        self.place(key, queue).turn().await
    }

    fn place(self: &Arc<Self>, key: &SessionKey, queue: Queue) -> Place {
        Place {
            turns: self.clone(),
            key: *key,
            queue: Some(queue),
        }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<SessionKey, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many sessions are written by several at once.
impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turns").field(&self.queues().len()).finish()
    }
}

impl Place {
    async fn turn(self) -> Option<Turn> {
        let queue = self.queue.clone()?;
        let (mut left, waited) = match queue.clone().try_lock_owned() {
            Ok(left) => (left, false),
            // The interleavings are explored without a runtime.
            Err(_) if tokio_is_running() => {
                let left = tokio::time::timeout(PATIENCE, queue.lock_owned());
                (left.await.ok()?, true)
            }
            Err(_) => (queue.lock_owned().await, true),
        };
        Some(Turn {
            hint: left.found.take(),
            left,
            waited,
            by_hint: false,
            place: self,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        // Before anybody else counts.
        self.queue = None;
        if let Entry::Occupied(queue) = queues.entry(self.key)
            && Arc::strong_count(queue.get()) == 1
        {
            queue.remove();
            self.turns.len.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Turn {
    /// Whether others wrote, or tried to, while this turn was waited for.
    pub(super) fn waited(&self) -> bool {
        self.waited
    }

    /// What the store holds under `key` if only this process has written; `None` if nobody knows, or if it is `known`.
    pub(super) fn newest(&mut self, key: &SessionKey, known: Version) -> Option<Found> {
        let found = self.hint.take();
        let is_of_use = *key == self.place.key && self.left.in_a_row < MOST_IN_A_ROW;
        let found = found.filter(|found| is_of_use && found.version != known);
        self.by_hint = found.is_some();
        found
    }

    /// The store holds this under `key` now. A turn may have led to another key than its own: the session was renewed.
    pub(super) fn leave(&mut self, key: &SessionKey, found: &Found) {
        if *key != self.place.key {
            return;
        }
        let Left {
            found: left,
            in_a_row,
        } = &mut *self.left;
        *in_a_row = match self.by_hint {
            true => *in_a_row + 1,
            false => 0,
        };
        *left = Some(found.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        session::{Lengths, envelope::Live},
    };

    fn found(version: u8) -> Found {
        Found {
            version: Version::from_bytes([version; 16]),
            subject: None,
            live: Arc::new(Live::new(Timestamp::UNIX_EPOCH, Lengths::default())),
            remaining: Duration::ZERO,
        }
    }

    /// A session that was renewed meanwhile is written under another key. A store may count versions for each key, and under the old
    /// one there is something else.
    #[tokio::test]
    async fn what_is_left_is_of_one_key_and_for_the_next_alone() {
        let [old, new] = [0, 1].map(|byte| SessionKey::from_bytes([byte; 32]));
        let known = Version::from_bytes([0; 16]);
        let turns = Arc::new(Turns::default());
        let turn = async || turns.wait(&old).await.unwrap();
        let mut first = turn().await;
        let waits = turns.place(&old, turns.queues()[&old].clone());
        first.leave(&new, &found(1));
        drop(first);
        let mut second = turn().await;
        assert!(second.newest(&old, known).is_none());
        second.leave(&old, &found(2));
        drop(second);
        let mut third = turn().await;
        assert!(third.newest(&new, known).is_none());
        third.leave(&old, &found(3));
        drop(third);
        let mut fourth = turn().await;
        let left = fourth.newest(&old, known).map(|left| left.version);
        assert_eq!(left, Some(found(3).version));
        assert!(fourth.newest(&old, known).is_none(), "taken");
        fourth.leave(&old, &found(4));
        drop(fourth);
        // It may have written, and nobody knows what.
        drop(turn().await);
        assert!(turn().await.newest(&old, known).is_none());
        drop(waits);
        assert_eq!(format!("{turns:?}"), "Turns(0)");
    }
}
