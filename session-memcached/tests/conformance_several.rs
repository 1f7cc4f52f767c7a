//! The suite on three servers that share the keys.

mod common;

use session_conformance::{BoxError, async_trait};
use session_testbed::{Memcached, MemcachedServer};

/// Three servers, each with a share of the keys.
struct Several;

#[async_trait]
impl common::Place for Several {
    const NAME: &'static str = "memcached, several";
    const VERSION: Memcached = Memcached::Stable;

    async fn more() -> Result<Vec<MemcachedServer>, BoxError> {
        let start = || MemcachedServer::start(Self::VERSION, &[]);
        Ok(vec![start().await?, start().await?])
    }
}

session_conformance::main!(common::On<Several>);
