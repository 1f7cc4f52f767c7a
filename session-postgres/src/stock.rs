//! Connections at hand, and who waits for one.

use std::{collections::VecDeque, mem};

use session_core::Error;
use sqlx::{Postgres, pool::PoolConnection};
use tokio::{sync::oneshot, time::Instant};

use crate::node::Lane;

/// What is kept out of the pool, and those who wait for a connection: they are served in the order in which they came. A
/// pool alone could not see to that, because what is kept at hand never comes back to it.
pub(crate) struct Stock {
    /// Connections without work, the last one worked last.
    idle: Vec<Idle>,
    waiting: VecDeque<Waiting>,
    /// Connections out of the pool, at work or idle.
    held: usize,
    /// As many may stay out of the pool.
    keep: usize,
    /// Whether a task waits for the pool. There is one at most.
    pub(crate) growing: bool,
}

/// A connection without work.
pub(crate) struct Idle {
    pub(crate) connection: PoolConnection<Postgres>,
    pub(crate) since: Instant,
}

struct Waiting {
    since: Instant,
    lane: oneshot::Sender<Result<Lane, Error>>,
}

impl Stock {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            idle: Vec::new(),
            waiting: VecDeque::new(),
            held: 0,
            keep,
            growing: false,
        }
    }

    /// The connection that worked last: its caches are warm, and the others may be given back.
    pub(crate) fn idle(&mut self) -> Option<Idle> {
        self.idle.pop()
    }

    /// A place behind all who wait.
    pub(crate) fn wait(&mut self) -> oneshot::Receiver<Result<Lane, Error>> {
        let (lane, receiver) = oneshot::channel();
        self.waiting.push_back(Waiting {
            since: Instant::now(),
            lane,
        });
        receiver
    }

    /// Whether somebody waits who is still there.
    pub(crate) fn is_wanted(&mut self) -> bool {
        while self.waiting.front().is_some_and(|first| first.lane.is_closed()) {
            self.waiting.pop_front();
        }
        !self.waiting.is_empty()
    }

    /// A connection has come out of the pool.
    pub(crate) fn came(&mut self) {
        self.held += 1;
    }

    /// A connection out of the pool is closed, or given back.
    pub(crate) fn went(&mut self) {
        self.held -= 1;
    }

    /// Whether one that is at work may come back to those who wait.
    pub(crate) fn has_any(&self) -> bool {
        self.held > 0
    }

    /// Whether one of them is more than may be kept: it goes back, to who else waits for the pool.
    pub(crate) fn is_over(&self) -> bool {
        self.held > self.keep
    }

    /// To who has waited longest; back to the caller if nobody waits.
    pub(crate) fn hand_over(&mut self, mut lane: Lane) -> Option<Lane> {
        while let Some(first) = self.waiting.pop_front() {
            match first.lane.send(Ok(lane)) {
                Ok(()) => return None,
                Err(Ok(back)) => lane = back,
                Err(Err(_)) => return None,
            }
        }
        Some(lane)
    }

    pub(crate) fn keep(&mut self, connection: PoolConnection<Postgres>) {
        self.idle.push(Idle {
            connection,
            since: Instant::now(),
        });
    }

    /// All that are without work.
    pub(crate) fn give_up_idle(&mut self) -> Vec<Idle> {
        self.held -= self.idle.len();
        mem::take(&mut self.idle)
    }

    /// There is no connection for those who have waited since then, or longer.
    pub(crate) fn fail(&mut self, since: Instant, error: &Error) {
        while self.waiting.front().is_some_and(|first| first.since <= since) {
            if let Some(first) = self.waiting.pop_front() {
                // Whoever is gone needs no answer.
                let _ = first.lane.send(Err(error.clone()));
            }
        }
    }
}
