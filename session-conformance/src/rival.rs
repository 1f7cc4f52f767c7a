//! Another program that uses the same database.

use async_trait::async_trait;
use session_core::{Record, SessionKey, Version};

use crate::BoxError;

/// Another program that uses the same database, with connections of its own: a job that cleans up, a migration, an
/// operator with a console.
#[async_trait]
pub trait Rival: Send + Sync {
    /// What a transaction that has changed something keeps from other writers.
    fn locks(&self) -> Scope;

    /// Begins a transaction and does these deeds in it, in this order, each on the record under its key, which is there
    /// and live. No key comes twice. The transaction holds its locks and stays open until it is told to end.
    ///
    /// # Errors
    ///
    /// The server refused, or the deed is none that the backend knows: the guarantee is broken.
    async fn begin(&self, deeds: &[(SessionKey, Deed)]) -> Result<Box<dyn Transaction>, BoxError>;
}

/// What a lock is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The records that the transaction changed or locked. Who writes others waits for nothing.
    Record,
    /// Everything that the stores on the namespace hold, and nothing of other namespaces: one transaction writes at a time.
    /// Reads wait for nothing.
    Store,
}

/// What a transaction does to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deed {
    /// Locks it against other writers, and changes nothing: `SELECT … FOR UPDATE`, `BEGIN IMMEDIATE`.
    Lock,
    /// Replaces it by another record in another version, sealed as the store does ([`session_core::head::seal`]), in every
    /// column or index that the store keeps of it. Its life stays.
    Replace {
        /// What is there then.
        record: Record,
        /// Its version.
        version: Version,
    },
    /// Ends its life now, and leaves the row to a sweep. Where the server removes what has expired by itself, that may
    /// happen at once.
    Expire,
    /// Sets its life to an hour from now.
    Extend,
    /// Removes it.
    Delete,
    /// Reads it, locks nothing, and keeps the snapshot in which it read until the transaction ends (`REPEATABLE READ`).
    Look,
}

/// A transaction that is open. One that is dropped is rolled back.
#[async_trait]
pub trait Transaction: Send {
    /// Makes its deeds permanent and gives its locks away.
    ///
    /// # Errors
    ///
    /// The server refused.
    async fn commit(self: Box<Self>) -> Result<(), BoxError>;

    /// Undoes its deeds and gives its locks away.
    ///
    /// # Errors
    ///
    /// The server refused.
    async fn roll_back(self: Box<Self>) -> Result<(), BoxError>;
}
