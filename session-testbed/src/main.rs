//! Servers to try things on: `cargo run -p session-testbed -- redis`, or another word of its usage. They are gone when
//! this ends.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use session_testbed::{Error, Kind, RedisCluster, RedisServer, SentinelGroup};

const USAGE: &str = "usage: session-testbed redis|valkey
       session-testbed redis-cluster|valkey-cluster    3 primaries
       session-testbed redis-sentinel|valkey-sentinel  1 primary, 2 replicas, 3 sentinels";

#[tokio::main]
async fn main() -> ExitCode {
    let what = env::args().nth(1).unwrap_or_default();
    let (server, shape) = what.split_once('-').unwrap_or((&what, ""));
    let kind = match server {
        "redis" => Kind::Redis,
        "valkey" => Kind::Valkey,
        _ => return fail(USAGE),
    };
    let ended = match shape {
        "" => hold(RedisServer::start(kind, &[]).await, RedisServer::url),
        "cluster" => hold(RedisCluster::start(kind, 0, &[]).await, RedisCluster::url),
        "sentinel" => hold(SentinelGroup::start(kind, &[]).await, SentinelGroup::url),
        _ => return fail(USAGE),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
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
