//! What a commit tells the HTTP side.

use std::{fmt, time::Duration};

use super::{Sessions, protocol};
use crate::{SessionId, Timestamp};

/// What became of a session at the end of a request.
#[derive(Debug)]
#[must_use = "the client must be told of a new id, or of a log-out"]
#[non_exhaustive]
pub struct Committed {
    /// What to tell the client.
    pub client: ClientAction,
    /// A write that is due but need not delay the response: run it in the background. Dropping it leaves the idle
    /// time shorter by less than the slack; the next request makes up for it.
    pub upkeep: Option<Upkeep>,
}

/// What to tell the client.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientAction {
    /// Nothing: the client's id, if it has one, is as good or as bad as before.
    Keep,
    /// Hand it this id.
    Store {
        /// The id to hand out.
        id: SessionId,
        /// The end of the session, whatever happens.
        deadline: Timestamp,
        /// The time from now to `deadline`.
        lasts: Duration,
    },
    /// Explicitly logged out: make it forget its id, if it came with one or with something in its place.
    Forget,
}

/// A write that need not delay the response: the idle time begun anew, or the mark that a new id has arrived.
#[must_use = "call `run` in the background"]
pub struct Upkeep {
    pub(super) sessions: Sessions,
    pub(super) task: protocol::Task,
}

impl Upkeep {
    /// Does it. A failure is a `tracing` event, not an error: the session is only left with less idle time.
    pub async fn run(self) {
        self.sessions.inner.upkeep(self.task).await;
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upkeep")
    }
}
