//! What can go wrong with a session.

use std::{error, fmt, time::Duration};

use super::client::is_reserved;
use crate::{Error, ErrorKind, RandomError, codec::CodecError};

/// Why a session could not be used or kept. None of these ever leads to a new anonymous session.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionError {
    /// The store failed: it is unavailable, full, or holds something unreadable under this key. What it holds is
    /// untouched, and the client's cookie stays.
    Store(Error),
    /// The session was ended meanwhile (logged out, or expired). Nothing was written, nothing brought back.
    Gone,
    /// The log-in was refused: its subject has as many sessions as it may have
    /// ([`SessionsBuilder::max_per_subject`](super::SessionsBuilder::max_per_subject)). Nothing was written; the session in the
    /// store and the handle are as they were before this request changed anything.
    TooManySessions {
        /// Sessions that a subject may have.
        limit: usize,
    },
    /// The last log-in is too long ago, or there was none ([`Session::require_fresh`](super::Session::require_fresh)).
    NotFresh {
        /// How long ago it may be.
        within: Duration,
    },
    /// Others changed the session at every attempt. Nothing was written; the request may be repeated.
    Contended {
        /// Attempts that were made.
        attempts: u32,
    },
    /// The value cannot be carried by the codec. The session is as it was.
    Encode {
        /// The attribute's name.
        attribute: String,
        /// Why.
        source: CodecError,
    },
    /// The stored value cannot be read as the type that was asked for. The session is as it was.
    Decode {
        /// The attribute's name.
        attribute: String,
        /// Why.
        source: CodecError,
    },
    /// With this change the session would be larger than the store's largest record. The session is as it was.
    TooLarge {
        /// Bytes that the session would have.
        size: usize,
        /// Bytes that a record has at most ([`Limits::max_record`](crate::Limits::max_record)).
        limit: usize,
        /// The largest attributes with their bytes, largest first, three at most.
        largest: Vec<(String, usize)>,
    },
    /// An attribute's name is empty or longer than 255 bytes. The session is as it was.
    InvalidName {
        /// Bytes of the refused name.
        len: usize,
    },
    /// An attribute's name begins with the character NUL: such names are kept for the session's own use. The session is as
    /// it was.
    ReservedName,
    /// The system's random number generator failed. There is no weaker fallback.
    Random(RandomError),
}

impl SessionError {
    /// The session would have `size` bytes; `attributes` are its attributes' names and bytes.
    pub(super) fn too_large<'a>(
        size: usize,
        limit: usize,
        attributes: impl Iterator<Item = (&'a str, usize)>,
    ) -> Self {
        let mut largest: Vec<_> = attributes
            .filter(|(name, _)| !is_reserved(name))
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .collect();
        largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        largest.truncate(3);
        Self::TooLarge { size, limit, largest }
    }

    /// Its kind, as the value of a label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Store(error) => error.kind().label(),
            Self::Gone => "gone",
            Self::TooManySessions { .. } => "too_many_sessions",
            Self::NotFresh { .. } => "not_fresh",
            Self::Contended { .. } => "contended",
            Self::Encode { .. } => "encode",
            Self::Decode { .. } => "decode",
            Self::TooLarge { .. } => "too_large",
            Self::InvalidName { .. } => "invalid_name",
            Self::ReservedName => "reserved_name",
            Self::Random(_) => "random",
        }
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Contended { .. } => true,
            _ => false,
        }
    }

    /// The store's kind of error, where it was the store that failed.
    #[must_use]
    pub fn store_kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Store(error) => Some(error.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Gone => f.write_str("the session has been ended meanwhile; nothing was written"),
            Self::TooManySessions { limit } => {
                write!(
                    f,
                    "the subject has {limit} sessions already, as many as it may have"
                )
            }
            Self::NotFresh { within } => {
                write!(f, "there was no log-in within {within:?}; log in again")
            }
            Self::Contended { attempts } => {
                write!(
                    f,
                    "the session was changed by others during all {attempts} attempts to write it"
                )
            }
            Self::Encode { attribute, source } => {
                write!(f, "attribute {attribute:?} cannot be stored: {source}")
            }
            Self::Decode { attribute, source } => {
                write!(f, "attribute {attribute:?} cannot be read: {source}")
            }
            Self::TooLarge { size, limit, largest } => {
                write!(
                    f,
                    "the session would have {size} bytes and the store holds {limit} at most; largest: "
                )?;
                for (at, (name, bytes)) in largest.iter().enumerate() {
                    write!(f, "{}{name:?} {bytes}", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::InvalidName { len } => {
                write!(f, "the name of an attribute has 1 to 255 bytes, this one {len}")
            }
            Self::ReservedName => {
                f.write_str("the name of an attribute may not begin with the character NUL")
            }
            Self::Random(error) => error.fmt(f),
        }
    }
}

impl error::Error for SessionError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            // `Display` is the store's own text already: its source comes next.
            Self::Store(error) => error.source(),
            Self::Encode { source, .. } | Self::Decode { source, .. } => error::Error::source(source),
            Self::Random(error) => error.source(),
            _ => None,
        }
    }
}

impl From<Error> for SessionError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<RandomError> for SessionError {
    fn from(error: RandomError) -> Self {
        Self::Random(error)
    }
}
