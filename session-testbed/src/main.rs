//! Servers to try things on: `cargo run -p session-testbed -- redis`, or another word of its usage. They are gone when
//! this ends.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use session_testbed::{Error, Kind, Memcached, MemcachedServer, RedisCluster, RedisServer, SentinelGroup};

const USAGE: &str = "usage: session-testbed redis|valkey
       session-testbed redis-cluster|valkey-cluster    3 primaries
       session-testbed redis-sentinel|valkey-sentinel  1 primary, 2 replicas, 3 sentinels
       session-testbed memcached|memcached-old         1.6.38, 1.6.18
       session-testbed postgres|postgres-15            needs --features postgres
       session-testbed pgbouncer                       needs --features postgres; before PostgreSQL 17
       session-testbed dynamodb                        needs --features dynamodb; an emulator";

#[tokio::main]
async fn main() -> ExitCode {
    let what = env::args().nth(1).unwrap_or_default();
    match run(&what).await {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => fail(&error.to_string()),
        None => fail(USAGE),
    }
}

/// Nothing if there is no such thing.
async fn run(what: &str) -> Option<Result<(), Error>> {
    #[cfg(feature = "postgres")]
    if let Some(ended) = postgres::run(what).await {
        return Some(ended);
    }
    match what {
        "memcached" => return Some(memcached(Memcached::Stable).await),
        "memcached-old" => return Some(memcached(Memcached::Oldstable).await),
        _ => {}
    }
    #[cfg(feature = "dynamodb")]
    if what == "dynamodb" {
        use session_testbed::DynamoDbServer;

        return Some(hold(DynamoDbServer::start().await, DynamoDbServer::url));
    }
    let (server, shape) = what.split_once('-').unwrap_or((what, ""));
    let kind = match server {
        "redis" => Kind::Redis,
        "valkey" => Kind::Valkey,
        _ => return None,
    };
    Some(match shape {
        "" => hold(RedisServer::start(kind, &[]).await, RedisServer::url),
        "cluster" => hold(RedisCluster::start(kind, 0, &[]).await, RedisCluster::url),
        "sentinel" => hold(SentinelGroup::start(kind, &[]).await, SentinelGroup::url),
        _ => return None,
    })
}

async fn memcached(version: Memcached) -> Result<(), Error> {
    let started = MemcachedServer::start(version, &[]).await;
    let with_url = started.map(|server| {
        let url = format!("memcached://{}", server.address());
        (server, url)
    });
    hold(with_url, |(_, url)| url)
}

#[cfg(feature = "postgres")]
mod postgres {
    use session_testbed::{Error, PgBouncer, PostgresServer, Version};

    use super::hold;

    pub(super) async fn run(what: &str) -> Option<Result<(), Error>> {
        Some(match what {
            "postgres" => hold(
                PostgresServer::start(Version::V17, &[]).await,
                PostgresServer::url,
            ),
            "postgres-15" => hold(
                PostgresServer::start(Version::V15, &[]).await,
                PostgresServer::url,
            ),
            "pgbouncer" => hold(bouncer().await, |(_, bouncer)| bouncer.url()),
            _ => return None,
        })
    }

    async fn bouncer() -> Result<(PostgresServer, PgBouncer), Error> {
        let server = PostgresServer::start(Version::V17, &[]).await?;
        let bouncer = PgBouncer::start(&server).await?;
        Ok((server, bouncer))
    }
}

fn hold<T>(started: Result<T, Error>, url: impl Fn(&T) -> &str) -> Result<(), Error> {
    let servers = started?;
    // Whoever does not read it cannot use it either.
    let _ = writeln!(io::stdout(), "{}", url(&servers));
    // Until standard input ends, or Ctrl-C ends the process.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    Ok(())
}

fn fail(text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}
