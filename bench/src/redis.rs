//! What is measured on Redis.

use std::{sync::Arc, time::Duration};

use redis::{Client, cmd};
use session_redis::RedisStore;
use session_testbed::{Kind, RedisServer};
use tokio::time::timeout;
use tower_sessions_redis_store::{
    RedisStore as PeerStore,
    fred::prelude::{ClientLike, Config, Pool},
};

use crate::{
    Result,
    actix::Actix,
    contest::{Contest, Contestant, POPULATION},
    options::Options,
    ours::Ours,
    peer::Peer,
    raw::redis::Raw,
    report::{self, Progress},
};

/// Within this time a container on this machine answers, if its network can be reached at all.
const REACHED: Duration = Duration::from_secs(2);

/// Who takes part.
const WHO: &str = "session-redis; tower-sessions: tower-sessions-redis-store 0.16 on fred 10; actix-session 0.11 on redis 0.32; \
                   redis 1 alone; one connection each";

/// The operations of every contestant.
pub(crate) async fn contest(options: &Options) -> Result<()> {
    let mut progress = Progress::new();
    progress.tell("waiting for the server");
    let (url, _own) = match &options.url {
        Some(url) => (url.clone(), None),
        None => {
            let server = RedisServer::start(Kind::Redis, &["--save", ""]).await?;
            (direct(server.url()).await?, Some(server))
        }
    };
    let told = told(&url).await?;
    let size = options.size;
    let pool = Pool::new(Config::from_url(&url)?, None, None, None, 1)?;
    pool.init().await?;
    let contestants: Vec<Arc<dyn Contestant>> = vec![
        Arc::new(Ours::new("session-redis", RedisStore::connect(&url).await?, size)),
        Arc::new(Peer::new("tower-sessions", PeerStore::new(pool), size)),
        Arc::new(Actix::connect(&url, size).await?),
        Arc::new(Raw::connect(&url, size).await?),
    ];
    let mut contest = Contest::prepare(contestants, POPULATION, &mut progress).await?;
    let rows = contest.rows(options, &mut progress).await?;
    report::conclude(&told, WHO, &contest.names(), &rows, options)
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

/// The URL of a server in a container by the container's own address, where this machine reaches it: the published port may
/// lead through a proxy that costs more than the commands.
async fn direct(published: &str) -> Result<String> {
    let mut connection = Client::open(published)?.get_multiplexed_async_connection().await?;
    let info: String = cmd("CLIENT").arg("INFO").query_async(&mut connection).await?;
    let own = info.split(' ').find_map(|field| field.strip_prefix("laddr="));
    let direct = format!("redis://{}/", own.ok_or("the server does not tell its address")?);
    let client = Client::open(direct.as_str())?;
    match timeout(REACHED, client.get_multiplexed_async_connection()).await {
        Ok(Ok(_)) => Ok(direct),
        _ => Ok(published.to_owned()),
    }
}
