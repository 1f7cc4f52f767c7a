//! What is measured on memcached.

use std::sync::Arc;

use session_memcached::MemcachedStore;
use session_testbed::{Memcached, MemcachedServer};

use crate::{
    Result,
    contest::{Contest, Contestant, POPULATION},
    options::Options,
    ours::Ours,
    raw::memcached::Raw,
    report::{self, Progress},
};

/// Who takes part.
const WHO: &str = "session-memcached; memcache 0.21 alone, one command a call: on ten connections, and on one for each caller";

/// Nothing is evicted, or sessions would be missing.
const MEMORY: &str = "4096";

/// The operations of every contestant.
pub(crate) async fn contest(options: &Options) -> Result<()> {
    let mut progress = Progress::new();
    progress.tell("waiting for the server");
    let (address, told, _own) = match &options.url {
        Some(url) => {
            let address = url
                .strip_prefix("memcached://")
                .ok_or("--url: memcached://HOST:PORT is expected")?;
            (address.to_owned(), format!("memcached at {address}"), None)
        }
        None => {
            let server = MemcachedServer::start(Memcached::Stable, &["-m", MEMORY, "-t", "2"]).await?;
            let address = server.direct_address().await?;
            let (name, version) = server.version().await?;
            (
                address.clone(),
                format!("{name} {version} at {address}"),
                Some(server),
            )
        }
    };
    let (size, callers) = (options.size, options.callers);
    let store = MemcachedStore::builder(address.as_str()).connect().await?;
    let raw = |name, connections| Raw::connect(name, &address, connections, size);
    let contestants: Vec<Arc<dyn Contestant>> = vec![
        Arc::new(Ours::new("session-memcached", store, size)),
        Arc::new(raw("memcache, 10", 10).await?),
        Arc::new(raw("memcache, each", callers).await?),
    ];
    let mut contest = Contest::prepare(contestants, POPULATION, &mut progress).await?;
    let rows = contest.rows(options, &mut progress).await?;
    report::conclude(&told, WHO, &contest.names(), &rows, options)
}
