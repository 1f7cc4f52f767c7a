//! What a store keeps under a key.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{RandomError, Timestamp};

/// What a store keeps under a key: opaque bytes, and two facts that a store may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Record {
    /// Opaque to every store: all 256 byte values, any length up to the store's limit, none included.
    pub data: Bytes,
    /// Whom the session belongs to. Every store keeps and returns it; stores with [`Subjects`](crate::Subjects)
    /// can list by it.
    pub subject: Option<Subject>,
    /// The absolute end of the session, for stores that can use it (to bound an index, say). A store need not
    /// end the record then: that is what the ttl is for.
    pub not_after: Option<Timestamp>,
}

impl Record {
    /// A record of `data`, without subject and absolute end.
    #[must_use]
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            subject: None,
            not_after: None,
        }
    }

    /// The same record, belonging to `subject`.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<Option<Subject>>) -> Self {
        self.subject = subject.into();
        self
    }

    /// The same record, ending for good at `not_after`.
    #[must_use]
    pub fn with_not_after(mut self, not_after: impl Into<Option<Timestamp>>) -> Self {
        self.not_after = not_after.into();
        self
    }
}

/// What `load` returns: the record, the version to expect in the next write, and the life that remains.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The record, as the last write left it.
    pub record: Record,
    /// The tag of that write.
    pub version: Version,
    /// The life that remains, to the store's granularity g. A record may live for its ttl and g, and this may tell g more
    /// than is left: up to ttl + 2 g. Never zero: such a record is absent.
    pub remaining: Duration,
}

impl Stored {
    /// A record as a store found it.
    #[must_use]
    pub fn new(record: Record, version: Version, remaining: Duration) -> Self {
        Self {
            record,
            version,
            remaining,
        }
    }
}

/// The tag of one write of a record: chosen by the store, compared for equality only, never used twice for a key.
///
/// Random, or the server's own compare-and-set value. Never a counter of the client's, which a failover could rewind.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version([u8; 16]);

impl Version {
    /// A new random version.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if the system has no randomness to give.
    pub fn random() -> Result<Self, RandomError> {
        crate::random_bytes().map(Self)
    }

    /// A version read back from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A server's own compare-and-set value.
    #[must_use]
    pub const fn from_cas(cas: u64) -> Self {
        let mut bytes = [0; 16];
        let low = cas.to_le_bytes();
        let mut at = 0;
        while at < 8 {
            bytes[at] = low[at];
            at += 1;
        }
        Self(bytes)
    }

    /// The value given to [`Version::from_cas`], if that is where it came from.
    #[must_use]
    pub fn to_cas(self) -> Option<u64> {
        let value = u128::from_le_bytes(self.0);
        u64::try_from(value).ok()
    }

    /// The 16 bytes, as a store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({:032x})", u128::from_be_bytes(self.0))
    }
}

/// Whom a session belongs to: a user id, for "log out everywhere". 1 to 256 bytes of UTF-8, NUL included.
///
/// It may be personal data: `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// Bytes that a subject has at most.
    pub const MAX_LEN: usize = 256;

    /// A subject.
    ///
    /// # Errors
    ///
    /// [`InvalidSubject`] if it is empty or longer than [`Subject::MAX_LEN`] bytes.
    pub fn new(subject: impl AsRef<str>) -> Result<Self, InvalidSubject> {
        let subject = subject.as_ref();
        match subject.len() {
            1..=Self::MAX_LEN => Ok(Self(subject.into())),
            len => Err(InvalidSubject { len }),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a backend keeps in an index instead of the text: SHA-256 of `session-subject/1`, a zero byte and the text. It
    /// has one length, and does not show a user's name, although who guesses the name can tell that it is the one.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"session-subject/1\0");
        hash.update(self.as_str());
        hash.finalize().into()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({} bytes)", self.0.len())
    }
}

/// The text is no subject: it is empty or longer than [`Subject::MAX_LEN`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidSubject {
    /// Bytes in the refused text.
    pub len: usize,
}

impl fmt::Display for InvalidSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a subject has 1 to {} bytes, this one {}",
            Subject::MAX_LEN,
            self.len
        )
    }
}

impl std::error::Error for InvalidSubject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_is_bounded_and_redacted() {
        assert_eq!(Subject::new("").unwrap_err().len, 0);
        assert_eq!(Subject::new("é".repeat(129)).unwrap_err().len, 258);
        let subject = Subject::new("zoë\0").unwrap();
        assert_eq!(subject.as_str(), "zoë\0");
        assert_eq!(format!("{subject:?}"), "Subject(5 bytes)");
    }

    #[test]
    fn cas_round_trips() {
        assert_eq!(Version::from_cas(u64::MAX).to_cas(), Some(u64::MAX));
        assert_eq!(Version::from_bytes([255; 16]).to_cas(), None);
    }
}
