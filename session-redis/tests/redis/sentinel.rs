//! A group with Sentinels: failovers, and what they lose.

use std::{sync::Arc, time::Duration};

use session_core::{ErrorKind, Record, SessionStore};
use session_redis::{
    ConnectError, RedisStore, Warning,
    redis::{Client, cmd},
};
use session_testbed::{Kind, RedisServer, SentinelGroup};

use crate::{
    support::{BOTH, DURABLE, HOUR, PATIENT, healed, key, keys, kind},
    traffic::{Traffic, tell},
};

async fn store(group: &SentinelGroup, more: &str) -> Arc<RedisStore> {
    let url = format!("{}?prefix={}:&{more}", group.url(), key());
    Arc::new(RedisStore::connect(&url).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_after_sigkill_is_followed_and_the_old_primary_is_a_replica() {
    let on = async |of: Kind| {
        let group = SentinelGroup::start(of, &DURABLE).await.unwrap();
        let store = store(&group, PATIENT).await;
        let traffic = Traffic::begin(&store, &keys::<8>()).await;
        traffic.goes_on().await;
        group.servers()[0].kill().await.unwrap();
        assert_ne!(group.await_failover(0).await.unwrap(), 0);
        traffic.goes_on().await;
        group.servers()[0].start_again().await.unwrap();
        group.await_ready().await.unwrap();
        traffic.goes_on().await;
        tell(&format!("{of:?}, SIGKILL"), &traffic.end(&store).await);
    };
    tokio::join!(on(Kind::Redis), on(Kind::Valkey));
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_after_sigstop_is_followed_with_a_sentinel_that_hangs_too() {
    let on = async |of: Kind| {
        let group = SentinelGroup::start(of, &DURABLE).await.unwrap();
        let store = store(&group, "read_ms=1000&write_ms=1000&connect_ms=1000").await;
        let traffic = Traffic::begin(&store, &keys::<8>()).await;
        traffic.goes_on().await;
        // As when the machine of both goes: their addresses answer to nothing.
        group.sentinels()[0].pause().await.unwrap();
        group.servers()[0].pause().await.unwrap();
        assert_ne!(group.await_failover(0).await.unwrap(), 0);
        traffic.goes_on().await;
        group.servers()[0].resume().await.unwrap();
        group.sentinels()[0].resume().await.unwrap();
        group.await_ready().await.unwrap();
        traffic.goes_on().await;
        tell(&format!("{of:?}, SIGSTOP"), &traffic.end(&store).await);
    };
    tokio::join!(on(Kind::Redis), on(Kind::Valkey));
}

/// A failover that somebody asked for: the old primary is alive, and serves whoever does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn planned_failover_is_followed_by_those_who_only_read_too() {
    let group = SentinelGroup::start(Kind::Redis, &DURABLE).await.unwrap();
    let prefix = format!("prefix={}:&{PATIENT}", key());
    let open = async |more: &str| {
        RedisStore::connect(&format!("{}?{prefix}{more}", group.url()))
            .await
            .unwrap()
    };
    let (writer, reader) = (open("&wait_replicas=1&wait_ms=4000").await, open("").await);
    let (key, old, new) = (key(), Record::new("old"), Record::new("new"));
    writer.create(&key, &old, HOUR).await.unwrap();
    assert_eq!(reader.load(&key).await.unwrap().unwrap().record, old);
    assert_eq!(writer.load(&key).await.unwrap().unwrap().record, old);

    let sentinel = Client::open(group.sentinels()[0].url()).unwrap();
    let mut raw = sentinel.get_multiplexed_async_connection().await.unwrap();
    let mut failover = cmd("SENTINEL");
    failover.arg("FAILOVER").arg("sessions");
    failover.query_async::<()>(&mut raw).await.unwrap();
    group.await_failover(0).await.unwrap();
    group.await_ready().await.unwrap();

    // A write that no replica has confirmed may be there all the same: so the version is asked for each time.
    healed(async || {
        let found = writer.load(&key).await?.expect("the session is there");
        writer.update(&key, found.version, &new, HOUR).await
    })
    .await;
    for store in [&writer, &reader] {
        let seen = healed(|| store.load(&key)).await.unwrap();
        assert_eq!(seen.record, new);
    }
}

/// What the crate's front page says that a failover loses: replicas do not have the newest writes, and one of them
/// takes over. A change is taken back, a new session is gone, and one that was logged out is there again.
///
/// With replicas to wait for, none of these writes is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn failover_loses_what_no_replica_has_and_waiting_for_replicas_tells_so() {
    for of in BOTH {
        let group = SentinelGroup::start(of, &DURABLE).await.unwrap();
        let prefix = format!("prefix={}:&{PATIENT}", key());
        let open = async |more: &str| {
            RedisStore::connect(&format!("{}?{prefix}{more}", group.url()))
                .await
                .unwrap()
        };
        let (trusting, careful) = (open("").await, open("&wait_replicas=1&wait_ms=200").await);
        let patient = open("&wait_replicas=1&wait_ms=4000").await;
        let (changed, ended, created) = (key(), key(), key());
        let (old, new) = (Record::new("old"), Record::new("new"));
        // With its replicas there, a write that waits for them is acknowledged.
        let first = patient.create(&changed, &old, HOUR).await.unwrap();
        let first = patient.update(&changed, first, &old, HOUR).await.unwrap();
        patient.create(&ended, &old, HOUR).await.unwrap();

        for replica in [1, 2] {
            group.servers()[replica].kill().await.unwrap();
        }
        let second = trusting.update(&changed, first, &new, HOUR).await.unwrap();
        assert!(trusting.delete(&ended, None).await.unwrap());
        trusting.create(&created, &new, HOUR).await.unwrap();
        assert!(trusting.load(&ended).await.unwrap().is_none());
        for error in [
            careful.create(&key(), &new, HOUR).await.unwrap_err(),
            careful.update(&changed, second, &new, HOUR).await.unwrap_err(),
            careful.delete(&created, None).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            let text = error.to_string();
            assert!(
                text.contains("0 of 1 replicas confirmed it within 200ms"),
                "{text}"
            );
        }
        // What is only read waits for nobody, and what was not written is not waited for.
        assert_eq!(careful.load(&changed).await.unwrap().unwrap().record, new);
        assert_eq!(
            kind(careful.update(&changed, first, &new, HOUR).await),
            ErrorKind::Conflict
        );
        assert!(!trusting.delete(&key(), None).await.unwrap());
        // Nothing is there: but the deletion of a moment ago is on no replica.
        assert_eq!(kind(careful.delete(&created, None).await), ErrorKind::Unavailable);

        group.servers()[0].kill().await.unwrap();
        for replica in [1, 2] {
            group.servers()[replica].start_again().await.unwrap();
        }
        group.await_failover(0).await.unwrap();
        for store in [&trusting, &careful] {
            let stored = healed(|| store.load(&changed)).await.unwrap();
            assert_eq!((stored.version, stored.record), (first, old.clone()));
            assert!(
                store.load(&ended).await.unwrap().is_some(),
                "logged out, and back"
            );
            assert!(store.load(&created).await.unwrap().is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_share_a_wait_and_reads_wait_for_nobody() {
    let group = SentinelGroup::shared(Kind::Redis).await.unwrap();
    let store = store(group, &format!("{PATIENT}&wait_replicas=2&wait_ms=3000")).await;
    let primary = &group.servers()[group.primary().await.unwrap()];
    let waits = async || calls_of(primary, "wait").await;
    let before = waits().await;
    const WRITES: u64 = 400;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITES {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let key = key();
            store.create(&key, &Record::new("data"), HOUR).await.unwrap();
            assert!(store.load(&key).await.unwrap().is_some());
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let sent = waits().await - before;
    assert!((1..WRITES / 2).contains(&sent), "{sent} WAIT for {WRITES} writes");
    println!("{sent} WAIT for {WRITES} writes");
}

/// How often a server was sent a command.
async fn calls_of(server: &RedisServer, command: &str) -> u64 {
    let client = Client::open(server.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String = cmd("INFO")
        .arg("commandstats")
        .query_async(&mut raw)
        .await
        .unwrap();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sentinels_do_not_know_is_unavailable_and_says_so() {
    let group = SentinelGroup::shared(Kind::Redis).await.unwrap();
    let told = async |url: &str| match RedisStore::connect(url).await.unwrap_err() {
        ConnectError::Store(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            error.to_string()
        }
        error => panic!("{error}"),
    };
    let other = group.url().replace("/sessions", "/other");
    let text = told(&format!("{other}?{PATIENT}")).await;
    assert!(text.contains("knows no service \"other\""), "{text}");

    // A server that is no Sentinel, and nobody at all.
    let server = group.servers()[0].port().unwrap();
    let text = told(&format!("redis+sentinel://127.0.0.1:{server}/sessions?{PATIENT}")).await;
    assert!(text.to_lowercase().contains("unknown command"), "{text}");
    let nobody = format!("127.0.0.1:{}", session_testbed::free_port().unwrap());
    let text = told(&format!("redis+sentinel://{nobody}/sessions?{PATIENT}")).await;
    assert!(text.contains("refused"), "{text}");

    // One that answers is enough.
    let sentinel = group.sentinels()[2].port().unwrap();
    let url = format!("redis+sentinel://{nobody},127.0.0.1:{server},127.0.0.1:{sentinel}/sessions?{PATIENT}");
    RedisStore::connect(&url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_that_loses_sessions_is_warned_of() {
    let options = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let group = SentinelGroup::start(Kind::Redis, &options).await.unwrap();
    let primary = group.servers()[0].port().unwrap();
    let server = format!("127.0.0.1:{primary}");
    let store = store(&group, PATIENT).await;
    let warnings = store.check_servers().await.unwrap();
    let is = |wanted: fn(&Warning) -> bool| warnings.iter().any(wanted);
    assert!(is(
        |warning| matches!(warning, Warning::Evicts { policy, .. } if policy == "allkeys-lru")
    ));
    assert!(is(|warning| matches!(warning, Warning::NotPersistent { .. })));
    assert!(is(|warning| matches!(warning, Warning::WritesAlone { .. })));
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for warning in &warnings {
        let text = warning.to_string();
        assert!(
            text.contains("sessions of Sentinel") && text.contains(": "),
            "{text}"
        );
    }

    // As the front page wants it.
    let client = Client::open(format!("redis://{server}/")).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = async |pairs: &[&str]| {
        let mut command = cmd("CONFIG");
        command.arg("SET").arg(pairs);
        command.query_async::<()>(&mut raw).await.unwrap();
    };
    set(&["save", "3600 1"]).await;
    let warnings = store.check_servers().await.unwrap();
    assert!(
        warnings
            .iter()
            .any(|warning| matches!(warning, Warning::SnapshotsOnly { .. })),
        "{warnings:?}"
    );
    set(&[
        "maxmemory-policy",
        "noeviction",
        "appendonly",
        "yes",
        "min-replicas-to-write",
        "1",
    ])
    .await;
    assert_eq!(store.check_servers().await.unwrap(), []);

    // A user who may not ask is told so, and served all the same.
    let mut rules = cmd("ACL");
    rules.arg(&[
        "SETUSER", "shop", "on", ">staple", "~*", "+@read", "+@write", "+ping", "+role", "+eval", "+evalsha",
    ]);
    rules.query_async::<()>(&mut raw).await.unwrap();
    let store = RedisStore::connect(&format!("redis://shop:staple@{server}/?{PATIENT}"))
        .await
        .unwrap();
    let warnings = store.check_servers().await.unwrap();
    assert!(!warnings.is_empty());
    for warning in &warnings {
        assert!(matches!(warning, Warning::NotChecked { .. }), "{warning:?}");
        assert!(warning.to_string().contains("NOPERM"), "{warning}");
    }
    store
        .create(&key(), &Record::new("data"), Duration::from_secs(60))
        .await
        .unwrap();
}
