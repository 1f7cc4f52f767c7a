//! How often the allocator is asked for a call of a caller that is alone, the client's part included.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use session_core::{Record, SessionId, SessionStore};
use session_memcached::MemcachedStore;
use session_testbed::{Counted, Memcached, MemcachedServer};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[test]
fn calls_of_one_caller() {
    let runtime = Counted::new().unwrap();
    let server = runtime
        .wait(MemcachedServer::start(Memcached::Stable, &[]))
        .unwrap();
    let address = server.address();
    let store = runtime.wait(MemcachedStore::builder(address).connect()).unwrap();
    let (key, record) = (
        SessionId::random().unwrap().key("allocations"),
        Record::new(vec![7; 1024]),
    );
    let mut version = runtime.wait(store.create(&key, &record, HOUR)).unwrap();
    runtime.at_most(51, async || assert!(store.load(&key).await.unwrap().is_some()));
    runtime.at_most(54, async || {
        version = store.update(&key, version, &record, HOUR).await.unwrap()
    });
    runtime.at_most(45, async || store.touch(&key, HOUR).await.unwrap());
}
