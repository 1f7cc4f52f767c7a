//! How often the allocator is asked for a call of a caller that is alone, the client's part included.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use session_core::{Record, SessionId, SessionStore};
use session_redis::{RedisStore, redis::Client};
use session_testbed::{Counted, Kind, RedisServer};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[test]
fn calls_of_one_caller() {
    let runtime = Counted::new().unwrap();
    let server = runtime.wait(RedisServer::shared(Kind::Redis)).unwrap();
    let store = RedisStore::new(Client::open(server.url()).unwrap());
    let (key, record) = (
        SessionId::random().unwrap().key("allocations"),
        Record::new(vec![7; 1024]),
    );
    let mut version = runtime.wait(store.create(&key, &record, HOUR)).unwrap();
    runtime.at_most(18, async || assert!(store.load(&key).await.unwrap().is_some()));
    runtime.at_most(33, async || {
        version = store.update(&key, version, &record, HOUR).await.unwrap()
    });
    runtime.at_most(12, async || store.touch(&key, HOUR).await.unwrap());
}
