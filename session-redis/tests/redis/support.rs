//! What the tests share.

use std::{future::Future, time::Duration};

use session_core::{Error, ErrorKind, SessionId, SessionKey};
use session_redis::RedisStore;
use session_testbed::Kind;
use tokio::time::timeout;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

/// Deadlines for a machine that is busy, for a URL.
pub(crate) const PATIENT: &str = "read_ms=5000&write_ms=5000&connect_ms=5000";

pub(crate) const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

/// The servers write to disk what they acknowledge.
pub(crate) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

pub(crate) fn key() -> SessionKey {
    SessionId::random().unwrap().key("redis")
}

pub(crate) fn keys<const COUNT: usize>() -> [SessionKey; COUNT] {
    std::array::from_fn(|_| key())
}

pub(crate) fn kind<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorKind {
    answer.unwrap_err().kind()
}

/// Asks again while a server is away, and fails only if that does not end.
pub(crate) async fn healed<T, F: Future<Output = Result<T, Error>>>(mut call: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap()
}

/// Where the store keeps a session.
pub(crate) fn name(store: &RedisStore, key: &SessionKey) -> String {
    format!("{}{key}", prefix(store))
}

/// The prefix of a store's keys: its `Debug` tells it.
pub(crate) fn prefix(store: &RedisStore) -> String {
    let text = format!("{store:?}");
    text.split('"').nth(1).unwrap().to_owned()
}
