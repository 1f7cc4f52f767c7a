//! How many sessions one subject may have at once.

use std::num::NonZeroUsize;

/// What a log-in does that finds its subject at the limit
/// ([`SessionsBuilder::max_per_subject`](super::SessionsBuilder::max_per_subject)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLimit {
    /// The session whose log-in is the longest ago is ended. Of several log-ins at the same moment the last stays, and one that
    /// finds itself the oldest ends in [`SessionError::Gone`](super::SessionError::Gone). A log-in that fails later on may
    /// have ended it all the same.
    EndOldest,
    /// The log-in ends in [`SessionError::TooManySessions`](super::SessionError::TooManySessions), and no other session is
    /// touched. Of several log-ins at the same moment, all may be refused; never are too many accepted.
    Refuse,
}

/// The limit, and what happens at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PerSubject {
    pub(super) limit: NonZeroUsize,
    pub(super) on_limit: OnLimit,
}
