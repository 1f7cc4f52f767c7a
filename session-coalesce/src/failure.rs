//! Why a call has no answer.

use std::fmt;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure<E> {
    /// There is no lane. Nothing was sent.
    NoLane(E),
    /// The deadline passed before the call was sent: all lanes were busy, or an earlier call of its key was under way.
    NotSent,
    /// The deadline passed after the call was sent. What became of it is not known.
    NotAnswered,
    /// The batch that carried the call, or the runtime under it, ended without an answer. What became of the call is
    /// not known.
    Lost,
    /// As many calls are waiting as may wait. Nothing was sent.
    Full,
    /// The coalescer was closed. Nothing was sent.
    Closed,
}

impl<E> Failure<E> {
    /// Whether the call may have reached the server.
    #[must_use]
    pub fn may_have_arrived(&self) -> bool {
        matches!(self, Self::NotAnswered | Self::Lost)
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLane(error) => error.fmt(f),
            Self::NotSent => f.write_str("the deadline passed before the call could be sent"),
            Self::NotAnswered => f.write_str("no answer by the deadline"),
            Self::Lost => f.write_str("the request ended without an answer"),
            Self::Full => f.write_str("too many calls are waiting"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for Failure<E> {}
