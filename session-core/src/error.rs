//! What can go wrong, in words that do not depend on a backend.

use std::{error, fmt, sync::Arc, time::Duration};

/// The result of a store's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store could not do what it was asked.
///
/// Callers match on [`Error::kind`]; the backend's name and its client's own error travel along for the log.
/// No `Error` holds a session id, a subject or a password.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    backend: &'static str,
    detail: Option<Box<str>>,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`, met by the backend of that name.
    #[must_use]
    pub fn new(kind: ErrorKind, backend: &'static str) -> Self {
        Self {
            kind,
            backend,
            detail: None,
            source: None,
        }
    }

    /// Adds what an operator should know: what was tried, what to change. Never an id, a subject or a password.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into().into_boxed_str());
        self
    }

    /// Adds the client's own error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The backend that met the error (`"memory"`, `"redis"` …).
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// The detail for an operator, if the backend gave one.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Whether the same call may succeed a little later. A write that ended so may or may not have been applied.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.kind).field("backend", &self.backend);
        if let Some(detail) = &self.detail {
            debug.field("detail", detail);
        }
        if let Some(source) = &self.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.backend, self.kind)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn error::Error + 'static))
    }
}

/// The kinds of failure. Absent, unavailable, unreadable and newer are four different answers: only an absent
/// session may lead to a new anonymous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `create` met a live record (or one that cannot be read) under the key. Nothing was changed.
    AlreadyExists,
    /// `update` or `touch` met no live record under the key. Nothing was created.
    NotFound,
    /// The record has another version than the one expected. Nothing was changed.
    Conflict,
    /// The record's data is larger than the store holds. Found before any I/O.
    TooLarge {
        /// Bytes of data in the refused record.
        size: usize,
        /// Bytes of data that the store holds at most ([`Limits::max_record`](crate::Limits::max_record)).
        limit: usize,
    },
    /// The time to live is zero or longer than the store can keep. Found before any I/O.
    InvalidTtl {
        /// The time to live that was asked for.
        ttl: Duration,
        /// The longest that the store keeps ([`Limits::max_ttl`](crate::Limits::max_ttl)).
        longest: Duration,
    },
    /// The store cannot do this at all.
    Unsupported,
    /// The server is down, did not answer within the deadline, or the pool is empty.
    /// A write that ended so may or may not have been applied.
    Unavailable,
    /// What is stored under the key is no record of this key. It is left as it is.
    Corrupt,
    /// The record was written by a newer version of this software. It is left as it is.
    NewerFormat,
    /// The store is at its configured bound. Nothing was written. Sessions that exist are untouched, but where the store may
    /// evict ([`Limits::may_evict`](crate::Limits::may_evict)) the one that was to be changed may be gone.
    Full,
}

impl ErrorKind {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable)
    }

    /// Its name, as the value of a label.
    #[cfg(feature = "session")]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::AlreadyExists => "already_exists",
            Self::NotFound => "absent",
            Self::Conflict => "conflict",
            Self::TooLarge { .. } => "too_large",
            Self::InvalidTtl { .. } => "invalid_ttl",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::NewerFormat => "newer_format",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists => f.write_str("a record already exists under this key"),
            Self::NotFound => f.write_str("no live record under this key"),
            Self::Conflict => f.write_str("the record has been changed by someone else"),
            Self::TooLarge { size, limit } => {
                write!(
                    f,
                    "the record has {size} bytes and the store holds {limit} at most"
                )
            }
            Self::InvalidTtl { ttl, .. } if ttl.is_zero() => {
                f.write_str("a time to live of zero is refused: it would mean for ever on some servers")
            }
            Self::InvalidTtl { ttl, longest } => {
                write!(
                    f,
                    "a time to live of {ttl:?} is longer than the store can keep ({longest:?})"
                )
            }
            Self::Unsupported => f.write_str("this store does not support the call"),
            Self::Unavailable => f.write_str("the store is unavailable"),
            Self::Corrupt => f.write_str("what is stored under this key cannot be read as its record"),
            Self::NewerFormat => f.write_str("the record was written by a newer version of this software"),
            Self::Full => f.write_str("the store is full"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_tells_backend_kind_and_detail() {
        let error = Error::new(ErrorKind::Unavailable, "redis").with_detail("connect: timed out after 1 s");
        assert_eq!(
            error.to_string(),
            "redis: the store is unavailable: connect: timed out after 1 s"
        );
        assert!(error.is_retryable());
    }

    #[test]
    fn source_is_kept() {
        let error = Error::new(ErrorKind::Corrupt, "memory").with_source("seventeen hostile bytes");
        assert_eq!(
            error::Error::source(&error).unwrap().to_string(),
            "seventeen hostile bytes"
        );
        assert!(!error.is_retryable());
    }
}
