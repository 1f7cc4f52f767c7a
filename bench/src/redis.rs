//! What is measured on Redis.

use std::sync::Arc;

use redis::{Client, cmd};
use session_bench::{
    Result,
    arena::{Arena, Ground},
    contest::POPULATION,
    options::Options,
    ours::Ours,
    peer::Peer,
    report::Progress,
    requests::{OurRequests, PeerRequests, Requests},
    sizes::Sizes,
};
use session_core::async_trait;
use session_redis::RedisStore;
use session_testbed::{Kind, RedisServer};
use tower_sessions_redis_store::{
    RedisStore as PeerStore,
    fred::prelude::{ClientLike, Config, Pool},
};

use crate::{
    actix::{Actix, ActixRequests},
    raw::redis::Raw,
};

/// Who takes part.
const WHO: &str = "session-redis; tower-sessions: tower-sessions-redis-store 0.16 on fred 10; actix-session 0.11 on redis 0.32; \
                   redis 1 alone; one connection each";

/// Whose sessions are measured.
const WHO_REQUESTS: &str = "Session of session-core on session-redis; Session of tower-sessions-core 0.14, saved each time, on \
                            tower-sessions-redis-store 0.16; the store of actix-session 0.11; one connection each";

/// Redis, and who is measured on it.
pub(crate) async fn open(options: &Options, progress: &mut Progress) -> Result<Arena> {
    let server = Server::ready(options, progress).await?;
    let (url, size) = (&server.url, Sizes::from(options));
    Ok(Arena {
        who: WHO,
        contestants: vec![
            Arc::new(Ours::new("session-redis", RedisStore::connect(url).await?, size)),
            Arc::new(Peer::new("tower-sessions", peer(url).await?, size)),
            Arc::new(Actix::connect(url, size).await?),
            Arc::new(Raw::connect(url, size).await?),
        ],
        sessions: POPULATION,
        ground: Box::new(server),
    })
}

/// Redis, and whose sessions are measured on it.
pub(crate) async fn requests(options: &Options, progress: &mut Progress) -> Result<Arena<dyn Requests>> {
    let server = Server::ready(options, progress).await?;
    let (url, size) = (&server.url, options.size);
    let store = Arc::new(RedisStore::connect(url).await?);
    Ok(Arena {
        who: WHO_REQUESTS,
        contestants: vec![
            Arc::new(OurRequests::new("session-redis", store, size)?),
            Arc::new(PeerRequests::new("tower-sessions", peer(url).await?, size)),
            Arc::new(ActixRequests::connect(url, size).await?),
        ],
        sessions: POPULATION,
        ground: Box::new(server),
    })
}

async fn peer(url: &str) -> Result<PeerStore<Pool>> {
    let pool = Pool::new(Config::from_url(url)?, None, None, None, 1)?;
    pool.init().await?;
    Ok(PeerStore::new(pool))
}

struct Server {
    url: String,
    told: String,
    /// Removed when dropped.
    _own: Option<RedisServer>,
}

impl Server {
    async fn ready(options: &Options, progress: &mut Progress) -> Result<Self> {
        progress.tell("waiting for the server");
        let (url, own) = match &options.url {
            Some(url) => (url.clone(), None),
            None => {
                let server = RedisServer::start(Kind::Redis, &["--save", ""]).await?;
                (server.direct_url().await?, Some(server))
            }
        };
        Ok(Self {
            told: told(&url).await?,
            url,
            _own: own,
        })
    }
}

#[async_trait]
impl Ground for Server {
    fn told(&self) -> String {
        self.told.clone()
    }

    async fn taken(&self) -> Result<u64> {
        let client = Client::open(self.url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let info: String = cmd("INFO").arg("memory").query_async(&mut connection).await?;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        Ok(used
            .ok_or("the server does not tell its used_memory")?
            .trim()
            .parse()?)
    }

    fn taken_is(&self) -> &'static str {
        "used_memory of INFO: keys, values, their table, and what the allocator adds"
    }
}

async fn told(url: &str) -> Result<String> {
    let client = Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let info: String = cmd("INFO").arg("server").query_async(&mut connection).await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(format!(
        "Redis {} at {}, no persistence",
        version.unwrap_or("of an unknown version"),
        client.get_connection_info().addr()
    ))
}
