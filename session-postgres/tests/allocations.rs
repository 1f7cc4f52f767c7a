//! How often the allocator is asked for a call of a caller that is alone, the client's part included.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use session_core::{Record, SessionId, SessionStore};
use session_postgres::{PostgresStore, sqlx::postgres::PgPoolOptions};
use session_testbed::{Counted, PostgresServer, Version};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// For a machine whose disk is busy.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn calls_of_one_caller() {
    let runtime = Counted::new().unwrap();
    let server = runtime.wait(PostgresServer::start(Version::V17, &[])).unwrap();
    let store = runtime.wait(async {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy(server.url())
            .unwrap();
        let store = PostgresStore::builder(pool)
            .read_deadline(PATIENCE)
            .write_deadline(PATIENCE)
            .connect_deadline(PATIENCE)
            .build()
            .unwrap();
        store.migrate().await.unwrap();
        store
    });
    let (key, record) = (
        SessionId::random().unwrap().key("allocations"),
        Record::new(vec![7; 1024]),
    );
    let mut version = runtime.wait(store.create(&key, &record, HOUR)).unwrap();
    runtime.at_most(34, async || assert!(store.load(&key).await.unwrap().is_some()));
    runtime.at_most(41, async || {
        version = store.update(&key, version, &record, HOUR).await.unwrap()
    });
    runtime.at_most(32, async || store.touch(&key, HOUR).await.unwrap());
}
