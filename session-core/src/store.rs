//! The contract.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Record, Result, SessionKey, StoreProfile, Stored, Subject, Version};

/// An expiring, versioned record store: what a backend implements.
///
/// | call | the key is live | absent or expired | the value cannot be read |
/// |---|---|---|---|
/// | [`create`](Self::create) | `AlreadyExists` | written | `AlreadyExists` |
/// | [`load`](Self::load) | `Some` | `None` | `Corrupt` |
/// | [`update`](Self::update) | written, or `Conflict` | `NotFound` | `Conflict` or `Corrupt` |
/// | [`touch`](Self::touch) | life set | `NotFound` | may extend, or `Corrupt` |
/// | [`delete`](Self::delete) | `true`, or `Conflict` | `false` | `true` without `expected` |
///
/// A value of a newer format counts as one that cannot be read: `load` answers `NewerFormat`, and nothing but an
/// unconditional `delete` changes it.
///
/// Every call has a deadline, set when the store is built, after which it ends in `Unavailable`. Dropping a future
/// that a call returned leaves the store usable: the write behind it may or may not have been applied, and no reply
/// is ever given to another call.
///
/// Authors: check every claim with `session-conformance`.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Writes a record under a key that has none.
    ///
    /// # Errors
    ///
    /// - `AlreadyExists`: the key holds a live record, or a value that cannot be read. Nothing was changed.
    /// - `TooLarge`, `InvalidTtl`: before any I/O.
    /// - `Full`: the store is at its bound.
    /// - `Unavailable`: the write may or may not have been applied.
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version>;

    /// The record under a key, its version and the life that remains, in one round trip. Extends no life and
    /// writes nothing. An absent or expired record is `None`, never an error.
    ///
    /// # Errors
    ///
    /// - `Corrupt`, `NewerFormat`: the value cannot be read as this key's record. It is left as it is.
    /// - `Unavailable`.
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>>;

    /// Replaces the record if its version is `expected`, and sets its remaining life to `ttl`. A write never brings
    /// a session back.
    ///
    /// # Errors
    ///
    /// - `Conflict`: another version. Nothing was changed.
    /// - `NotFound`: absent or expired. Nothing was created.
    /// - `Corrupt`, `NewerFormat`: the value cannot be read (`Conflict` is a right answer too). It is left as it is.
    /// - `TooLarge`, `InvalidTtl`: before any I/O.
    /// - `Full`: the store is at its bound.
    /// - `Unavailable`: the write may or may not have been applied.
    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version>;

    /// Sets the remaining life to `ttl`, longer or shorter. Data and version stay. A move of less than one second may
    /// write nothing.
    ///
    /// # Errors
    ///
    /// - `NotFound`: absent or expired. Nothing was created.
    /// - `Corrupt`, `NewerFormat`: the value cannot be read (extending its life is a right answer too).
    /// - `InvalidTtl`: before any I/O.
    /// - `Unavailable`: the life may or may not have been set.
    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()>;

    /// Removes the record: whatever it is, or only if its version is `expected`. `true` if there was a live one.
    /// An absent or expired record is `false`, never an error.
    ///
    /// # Errors
    ///
    /// - `Conflict`: another version than `expected`. Nothing was changed.
    /// - `Corrupt`, `NewerFormat`: with `expected` only, and `Conflict` is a right answer too.
    /// - `Unavailable`: the record may or may not have been removed.
    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool>;

    /// What the store claims of itself.
    fn profile(&self) -> &StoreProfile;

    /// The index by subject: `Some` exactly when [`Capability::Subjects`](crate::Capability::Subjects) is declared.
    fn subjects(&self) -> Option<&dyn Subjects>;

    /// The removal of expired records: `Some` exactly when [`Capability::Sweep`](crate::Capability::Sweep) is
    /// declared. Stores whose server expires records by itself have none.
    fn sweep(&self) -> Option<&dyn Sweep>;
}

/// The index by subject.
#[async_trait]
pub trait Subjects: Send + Sync {
    /// The keys of a subject's live sessions, in no order, each once. An expired session is not among them.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>>;

    /// Removes every session of a subject, or every one but `except`, and tells how many. It lists and deletes until
    /// the list is empty, so that a session which is being renewed meanwhile is caught under its new key.
    ///
    /// # Errors
    ///
    /// `Unavailable`: some may have been removed. Call again. So it ends too, at its deadline, where new sessions are made
    /// as fast as it removes them.
    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64>;
}

/// The removal of expired records, for stores whose server does not do it.
#[async_trait]
pub trait Sweep: Send + Sync {
    /// Removes at most `max` expired records and tells how many. Several nodes may sweep at once. A record that is
    /// touched meanwhile stays.
    ///
    /// # Errors
    ///
    /// `Unavailable`: some may have been removed. Call again later.
    async fn remove_expired(&self, max: usize) -> Result<usize>;
}

#[async_trait]
impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        (**self).create(key, record, ttl).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        (**self).load(key).await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        (**self).update(key, expected, record, ttl).await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        (**self).touch(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        (**self).delete(key, expected).await
    }

    fn profile(&self) -> &StoreProfile {
        (**self).profile()
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        (**self).subjects()
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        (**self).sweep()
    }
}
