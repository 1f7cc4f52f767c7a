//! Redis and Valkey with a clock that is off. PostgreSQL's is in tests/postgres.rs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::{Client, FromRedisValue, cmd};
use session_testbed::{Clock, Kind, RedisServer};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn clock_is_off_and_lengths_of_time_are_right() {
    for kind in [Kind::Redis, Kind::Valkey] {
        for clock in [Clock::Ahead(HOUR), Clock::Behind(HOUR)] {
            let server = RedisServer::start_with_clock(kind, clock, &[]).await.unwrap();
            assert_off(&server, clock).await;

            let _: () = ask(&server, &["SET", "long", "1", "PX", "3600000"]).await;
            let left: u64 = ask(&server, &["PTTL", "long"]).await;
            assert!(left > 3_000_000 && left <= 3_600_000, "{left}");
            // The second ends after the key has.
            let _: () = ask(&server, &["SET", "short", "1", "PX", "1"]).await;
            let none: Option<(String, String)> = ask(&server, &["BLPOP", "none", "0.05"]).await;
            assert_eq!(none, None);
            let short: Option<String> = ask(&server, &["GET", "short"]).await;
            assert_eq!(short, None);

            // And it stays off.
            server.kill().await.unwrap();
            server.start_again().await.unwrap();
            assert_off(&server, clock).await;
        }
    }
}

async fn assert_off(server: &RedisServer, clock: Clock) {
    let (shown, _): (u64, u64) = ask(server, &["TIME"]).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let right = match clock {
        Clock::Ahead(length) => now + length.as_secs(),
        Clock::Behind(length) => now - length.as_secs(),
    };
    assert!(shown.abs_diff(right) < 600, "{clock:?}: {shown}, not {right}");
}

async fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let client = Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    cmd(words[0])
        .arg(&words[1..])
        .query_async(&mut connection)
        .await
        .unwrap()
}
