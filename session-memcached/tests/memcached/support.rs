//! What the tests share.

use std::{future::Future, time::Duration};

use session_core::{Error, ErrorKind, SessionId, SessionKey};
use session_memcached::{MemcachedStore, MemcachedStoreBuilder, Servers};
use session_testbed::{Memcached, MemcachedServer};
use tokio::time::timeout;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

pub(crate) const BOTH: [Memcached; 2] = [Memcached::Stable, Memcached::Oldstable];

pub(crate) fn key() -> SessionKey {
    SessionId::random().unwrap().key("memcached")
}

/// With a prefix of its own, and with time for a machine that is busy.
pub(crate) fn patient(servers: impl Into<Servers>) -> MemcachedStoreBuilder {
    MemcachedStore::builder(servers)
        .prefix(format!("{}:", key()))
        .read_deadline(Duration::from_secs(5))
        .write_deadline(Duration::from_secs(5))
        .connect_deadline(Duration::from_secs(5))
}

pub(crate) async fn start(version: Memcached, options: &[&str]) -> MemcachedServer {
    MemcachedServer::start(version, options).await.unwrap()
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
