//! Stores for a machine whose disk is busy.

use std::{path::Path, time::Duration};

use session_sqlite::SqliteStore;

/// A store with deadlines that a busy disk keeps, and in which whoever never gets the lock fails.
pub(crate) async fn open(path: impl AsRef<Path>) -> SqliteStore {
    let long = Duration::from_secs(10);
    let store = SqliteStore::builder(path)
        .read_deadline(long)
        .write_deadline(long)
        .connect_deadline(long)
        .build()
        .unwrap();
    store.ready().await.unwrap();
    store
}
