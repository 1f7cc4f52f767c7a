//! Servers that restart, hang or are away, and several of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore};
use session_memcached::{MemcachedStore, Servers};
use session_testbed::{Memcached, MemcachedServer};
use tokio::{task::JoinSet, time::Instant};

use crate::support::{BOTH, HOUR, PATIENCE, healed, key, kind, patient, start};

/// What a visitor of the site does while its server restarts. Everything that is read is what this visitor wrote last.
async fn shop(store: Arc<MemcachedStore>, over: Arc<AtomicBool>, restarted: Arc<AtomicUsize>) -> (u32, u32) {
    let (mut key, mut count) = (key(), 0_u32);
    let mut version = None;
    let (mut served, mut lost) = (0, 0);
    let record = |key: &SessionKey, count: u32| Record::new(format!("{key} {count}"));
    while !over.load(SeqCst) {
        let before = restarted.load(SeqCst);
        let Some(known) = version else {
            key = crate::support::key();
            count = 0;
            version = store.create(&key, &record(&key, 0), HOUR).await.ok();
            continue;
        };
        match store.update(&key, known, &record(&key, count + 1), HOUR).await {
            Ok(new) => {
                (count, version) = (count + 1, Some(new));
                served += 1;
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => {
                // Nobody else changes it: it is gone with the server, or an update without an answer had arrived.
                assert!(
                    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict),
                    "{error}"
                );
            }
        }
        match store.load(&key).await {
            Ok(Some(stored)) => {
                let seen = stored.record.data;
                let known = [count, count + 1].map(|count| record(&key, count).data);
                assert!(known.contains(&seen), "{seen:?} of {known:?}");
                if seen == known[1] {
                    count += 1;
                }
                version = Some(stored.version);
            }
            Ok(None) => {
                // No session goes but with the server.
                assert!(
                    restarted.load(SeqCst) > 0 || before > 0,
                    "absent, and nothing happened"
                );
                version = None;
                lost += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    (served, lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_restarts_under_traffic_gives_absent_sessions_and_no_wrong_ones() {
    for version in BOTH {
        let server = start(version, &[]).await;
        let store = Arc::new(MemcachedStore::builder(server.address()).build().unwrap());
        let (over, restarted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut visitors = JoinSet::new();
        for _ in 0..16 {
            visitors.spawn(shop(
                Arc::clone(&store),
                Arc::clone(&over),
                Arc::clone(&restarted),
            ));
        }
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            restarted.fetch_add(1, SeqCst);
            server.kill().await.unwrap();
            server.start_again().await.unwrap();
            healed(|| async { store.load(&key()).await }).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        over.store(true, SeqCst);
        let (mut served, mut lost) = (0, 0);
        while let Some(visitor) = visitors.join_next().await {
            let (updates, sessions) = visitor.unwrap();
            assert!(updates > 0);
            served += updates;
            lost += sessions;
        }
        assert!(
            served > 1000 && lost >= 16,
            "{served} updates, {lost} sessions lost"
        );
    }
}

async fn three() -> [MemcachedServer; 3] {
    let start = || start(Memcached::Stable, &[]);
    [start().await, start().await, start().await]
}

/// Whose server is at an address.
fn is_at<'a>(servers: &'a Servers, address: &'a str) -> impl Fn(&&SessionKey) -> bool + 'a {
    move |key| servers.address_of(key) == Some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_down_takes_its_share_along_and_no_more() {
    let nodes = three().await;
    let servers = Servers::new(nodes.each_ref().map(MemcachedServer::address));
    let store = patient(servers.clone())
        .read_deadline(Duration::from_millis(1500))
        .write_deadline(Duration::from_millis(1500))
        .connect()
        .await
        .unwrap();
    let keys: Vec<SessionKey> = (0..60).map(|_| key()).collect();
    for key in &keys {
        store.create(key, &Record::new("a mug"), HOUR).await.unwrap();
    }
    let down = nodes[1].address();
    let (gone, there): (Vec<_>, Vec<_>) = keys.iter().partition(is_at(&servers, down));
    assert!(gone.len() > 5 && there.len() > 20);

    for hangs in [false, true] {
        match hangs {
            false => nodes[1].kill().await.unwrap(),
            true => nodes[1].pause().await.unwrap(),
        }
        for key in gone.iter().take(3) {
            let begun = Instant::now();
            let error = store.load(key).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains(down), "{error}");
            let write = store.create(key, &Record::new("a lamp"), HOUR).await;
            assert_eq!(kind(write), ErrorKind::Unavailable);
            assert!(begun.elapsed() < PATIENCE / 10);
        }
        for key in &there {
            assert_eq!(store.load(key).await.unwrap().unwrap().record.data, "a mug");
        }
        // A node that starts meanwhile serves the others' share too.
        let late = patient(servers.clone())
            .connect_deadline(Duration::from_millis(500))
            .connect()
            .await
            .unwrap();
        assert!(
            late.load(&there[0]).await.unwrap().is_none(),
            "its prefix is another one"
        );
        match hangs {
            false => nodes[1].start_again().await.unwrap(),
            true => nodes[1].resume().await.unwrap(),
        }
        // They are absent, and not somebody else's.
        let first = gone[0];
        healed(|| async { store.load(&first).await }).await;
        for key in &gone {
            let seen = healed(|| async { store.load(key).await }).await;
            assert!(seen.is_none() || hangs, "{seen:?}");
        }
    }
    drop(nodes);
    let error = patient(servers).connect().await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_moves_is_found_by_its_name_in_a_new_store_and_keeps_its_keys() {
    let nodes = three().await;
    let addresses = nodes.each_ref().map(MemcachedServer::address);
    let named =
        |order: [usize; 3]| Servers::named(order.map(|at| (["one", "two", "three"][at], addresses[at])));
    let prefix = format!("{}:", key());
    let first = patient(named([0, 1, 2])).prefix(&prefix).build().unwrap();
    let second = patient(named([2, 0, 1])).prefix(&prefix).build().unwrap();
    for _ in 0..30 {
        let key = key();
        let version = first.create(&key, &Record::new("a mug"), HOUR).await.unwrap();
        assert_eq!(second.load(&key).await.unwrap().unwrap().version, version);
    }
    for node in &nodes {
        assert_ne!(node.stat("stats", "curr_items").await.unwrap(), "0");
    }
}

/// One connection a call would be a thousand.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_share_a_few_connections() {
    let server = start(Memcached::Stable, &[]).await;
    let store = Arc::new(patient(server.address()).connect().await.unwrap());
    let mut calls = JoinSet::new();
    for _ in 0..1000 {
        let store = Arc::clone(&store);
        calls.spawn(async move {
            let key = key();
            let version = store.create(&key, &Record::new("a mug"), HOUR).await.unwrap();
            assert!(store.load(&key).await.unwrap().is_some());
            assert!(store.delete(&key, Some(version)).await.unwrap());
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    // Those of the testbed, which wait for the server and ask it now, are among them.
    let connections: u32 = server
        .stat("stats", "total_connections")
        .await
        .unwrap()
        .parse()
        .unwrap();
    assert!(connections < 40, "{connections}");
}

/// Without the comparison, an update would overwrite whatever is there.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_compares_nothing_is_refused() {
    let server = start(Memcached::Stable, &["-C"]).await;
    let error = patient(server.address()).connect().await.unwrap_err();
    assert!(error.to_string().contains("-C"), "{error}");
    let store = patient(server.address()).build().unwrap();
    let created = store.create(&key(), &Record::new("a mug"), HOUR).await;
    assert_eq!(kind(created), ErrorKind::Unavailable);
    assert_eq!(server.stat("stats", "curr_items").await.unwrap(), "0");
}
