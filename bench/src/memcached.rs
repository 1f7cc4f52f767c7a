//! What is measured on memcached.

use std::sync::Arc;

use session_bench::{
    Result,
    arena::{Arena, Ground},
    contest::POPULATION,
    options::Options,
    ours::Ours,
    report::Progress,
    requests::{OurRequests, Requests},
    sizes::Sizes,
};
use session_core::async_trait;
use session_memcached::MemcachedStore;
use session_testbed::{Memcached, MemcachedServer};

use crate::{raw::memcached::Raw, slabs};

/// Who takes part.
const WHO: &str = "session-memcached; memcache 0.21 alone, one command a call: on ten connections, and on one for each caller";

/// Nothing is evicted, or sessions would be missing.
const MEMORY: &str = "4096";

/// memcached, and who is measured on it.
pub(crate) async fn open(options: &Options, progress: &mut Progress) -> Result<Arena> {
    let server = Server::ready(options, progress).await?;
    let (size, callers) = (Sizes::from(options), options.callers);
    let raw = |name, connections| Raw::connect(name, &server.address, connections, size);
    Ok(Arena {
        who: WHO,
        contestants: vec![
            Arc::new(Ours::new("session-memcached", server.store().await?, size)),
            Arc::new(raw("memcache, 10", 10).await?),
            Arc::new(raw("memcache, each", callers).await?),
        ],
        sessions: POPULATION,
        ground: Box::new(server),
    })
}

/// memcached, and our sessions on it: no peer keeps sessions there.
pub(crate) async fn requests(options: &Options, progress: &mut Progress) -> Result<Arena<dyn Requests>> {
    let server = Server::ready(options, progress).await?;
    let store = Arc::new(server.store().await?);
    Ok(Arena {
        who: "Session of session-core on session-memcached",
        contestants: vec![Arc::new(OurRequests::new(
            "session-memcached",
            store,
            options.size,
        )?)],
        sessions: POPULATION,
        ground: Box::new(server),
    })
}

struct Server {
    address: String,
    told: String,
    /// Removed when dropped.
    _own: Option<MemcachedServer>,
}

impl Server {
    async fn ready(options: &Options, progress: &mut Progress) -> Result<Self> {
        progress.tell("waiting for the server");
        if let Some(url) = &options.url {
            let address = url
                .strip_prefix("memcached://")
                .ok_or("--url: memcached://HOST:PORT is expected")?;
            return Ok(Self {
                address: address.to_owned(),
                told: format!("memcached at {address}"),
                _own: None,
            });
        }
        let server = MemcachedServer::start(Memcached::Stable, &["-m", MEMORY, "-t", "2"]).await?;
        let address = server.direct_address().await?;
        let (name, version) = server.version().await?;
        Ok(Self {
            told: format!("{name} {version} at {address}"),
            address,
            _own: Some(server),
        })
    }

    /// With its defaults.
    async fn store(&self) -> Result<MemcachedStore> {
        Ok(MemcachedStore::builder(self.address.as_str()).connect().await?)
    }
}

#[async_trait]
impl Ground for Server {
    fn told(&self) -> String {
        self.told.clone()
    }

    async fn taken(&self) -> Result<u64> {
        let address = self.address.clone();
        tokio::task::spawn_blocking(move || slabs::taken(&address)).await?
    }

    fn taken_is(&self) -> &'static str {
        "the chunks that hold items (stats slabs), each as large as the largest item of its class; a class takes whole pages of 1 MiB"
    }
}
