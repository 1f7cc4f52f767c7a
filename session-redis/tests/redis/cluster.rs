//! A Cluster: slots that move, nodes that are away, failovers.

use std::sync::Arc;

use session_core::{ErrorKind, Record, SessionStore, Subject, Subjects};
use session_redis::{
    RedisStore, Servers,
    redis::{Client, cmd},
};
use session_testbed::{Kind, RedisCluster};

use crate::{
    support::{BOTH, HOUR, PATIENCE, PATIENT, healed, key, keys, kind, name},
    traffic::{Traffic, tell},
};

/// The nodes write to disk what they acknowledge, and one that is away stops nobody but itself.
const OPTIONS: [&str; 6] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--cluster-require-full-coverage",
    "no",
];

async fn store(cluster: &RedisCluster) -> Arc<RedisStore> {
    let url = format!("{}?prefix={}:&{PATIENT}", cluster.url(), key());
    Arc::new(RedisStore::connect(&url).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_under_traffic_and_no_call_fails() {
    for of in BOTH {
        let cluster = RedisCluster::start(of, 0, &OPTIONS).await.unwrap();
        let store = store(&cluster).await;
        let keys = keys::<12>();
        let traffic = Traffic::begin(&store, &keys).await;
        let whose = Subject::new("ada").unwrap();
        let owned = Record::new("data").with_subject(whose.clone());
        for key in keys {
            let slot = cluster.slot_of(&name(&store, &key)).await.unwrap();
            let from = cluster.owner(slot).await.unwrap();
            let to = (from + 1) % 3;
            cluster.begin_move(slot, from, to).await.unwrap();
            traffic.goes_on().await;
            // What is not there is looked for on both nodes, and created on the new one.
            store.create(&crate::support::key(), &owned, HOUR).await.unwrap();
            assert_eq!(
                kind(store.create(&key, &owned, HOUR).await),
                ErrorKind::AlreadyExists
            );
            while cluster.move_keys(slot, from, to, 1).await.unwrap() > 0 {}
            traffic.goes_on().await;
            assert_eq!(
                kind(store.create(&key, &owned, HOUR).await),
                ErrorKind::AlreadyExists
            );
            cluster.end_move(slot, from, to).await.unwrap();
            traffic.goes_on().await;
            assert_eq!(cluster.owner(slot).await.unwrap(), to);
        }
        // The index of a subject moves like everything else, and its sessions are on all nodes.
        assert_eq!(store.list(&whose).await.unwrap().len(), 12);
        assert_eq!(store.delete_all(&whose, None).await.unwrap(), 12);
        for count in traffic.end(&store).await {
            assert_eq!((count.failed, count.taken_back), (0, 0), "{count:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_is_away_takes_its_own_share_along_and_nothing_else() {
    for of in BOTH {
        let cluster = RedisCluster::start(of, 0, &OPTIONS).await.unwrap();
        let store = store(&cluster).await;
        let keys = keys::<12>();
        let traffic = Traffic::begin(&store, &keys).await;
        let mut owners = Vec::new();
        for key in keys {
            let slot = cluster.slot_of(&name(&store, &key)).await.unwrap();
            owners.push(cluster.owner(slot).await.unwrap());
        }
        traffic.goes_on().await;

        let away = owners[0];
        cluster.nodes()[away].kill().await.unwrap();
        let key = keys[0];
        for _ in 0..20 {
            assert_eq!(kind(store.load(&key).await), ErrorKind::Unavailable);
            assert_eq!(kind(store.delete(&key, None).await), ErrorKind::Unavailable);
        }
        cluster.nodes()[away].start_again().await.unwrap();
        traffic.goes_on().await;
        for (count, owner) in traffic.end(&store).await.into_iter().zip(owners) {
            assert_eq!(count.taken_back, 0, "{count:?}");
            assert!(owner == away || count.failed == 0, "{owner} of {away}: {count:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_after_sigkill_is_followed() {
    for of in BOTH {
        let cluster = RedisCluster::start(of, 1, &OPTIONS).await.unwrap();
        let store = store(&cluster).await;
        let keys = keys::<12>();
        let traffic = Traffic::begin(&store, &keys).await;
        traffic.goes_on().await;
        cluster.nodes()[0].kill().await.unwrap();
        let new = cluster.await_failover(0).await.unwrap();
        assert_ne!(new, 0);
        traffic.goes_on().await;
        // Back as a replica, it sends callers on.
        cluster.nodes()[0].start_again().await.unwrap();
        cluster.await_ready().await.unwrap();
        traffic.goes_on().await;
        tell(&format!("{of:?}, SIGKILL"), &traffic.end(&store).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_after_sigstop_is_followed() {
    for of in BOTH {
        let cluster = RedisCluster::start(of, 1, &OPTIONS).await.unwrap();
        let url = format!(
            "{}?prefix={}:&read_ms=1000&write_ms=1000&connect_ms=1000",
            cluster.url(),
            key()
        );
        let store = Arc::new(RedisStore::connect(&url).await.unwrap());
        let keys = keys::<12>();
        let traffic = Traffic::begin(&store, &keys).await;
        traffic.goes_on().await;
        cluster.nodes()[0].pause().await.unwrap();
        cluster.await_failover(0).await.unwrap();
        traffic.goes_on().await;
        cluster.nodes()[0].resume().await.unwrap();
        cluster.await_ready().await.unwrap();
        traffic.goes_on().await;
        tell(&format!("{of:?}, SIGSTOP"), &traffic.end(&store).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_that_answers_is_enough_to_begin() {
    let cluster = RedisCluster::shared(Kind::Redis).await.unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = nobody.local_addr().unwrap();
    let node = cluster.nodes()[1].port().unwrap();
    let url = format!(
        "redis+cluster://{nobody},127.0.0.1:{node}?prefix={}:&{PATIENT}",
        key()
    );
    let store = RedisStore::connect(&url).await.unwrap();
    for _ in 0..20 {
        let key = key();
        store.create(&key, &Record::new("data"), HOUR).await.unwrap();
        assert!(store.load(&key).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_no_cluster_is_unavailable_and_says_why() {
    let server = session_testbed::RedisServer::shared(Kind::Redis).await.unwrap();
    let nodes = [Client::open(server.url()).unwrap()];
    let store = RedisStore::builder(Servers::cluster(nodes))
        .read_deadline(PATIENCE)
        .build()
        .unwrap();
    let error = store.load(&key()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("cluster support disabled"), "{error}");

    // And a node of a Cluster, taken for a server of its own.
    let cluster = RedisCluster::shared(Kind::Redis).await.unwrap();
    let store = RedisStore::new(Client::open(cluster.nodes()[0].url()).unwrap());
    let mut seen = Vec::new();
    for _ in 0..20 {
        if let Err(error) = store.load(&key()).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            seen.push(error.to_string());
        }
    }
    assert!(seen.iter().any(|text| text.contains("MOVED")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_that_no_node_has_is_unavailable_until_one_has_it() {
    let cluster = RedisCluster::start(Kind::Redis, 0, &OPTIONS).await.unwrap();
    let store = store(&cluster).await;
    let key = key();
    store.create(&key, &Record::new("data"), HOUR).await.unwrap();
    let slot = cluster.slot_of(&name(&store, &key)).await.unwrap();
    let owner = cluster.owner(slot).await.unwrap();
    let client = Client::open(cluster.nodes()[owner].url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    for (word, works) in [("DELSLOTS", false), ("ADDSLOTS", true)] {
        let mut command = cmd("CLUSTER");
        command.arg(word).arg(slot);
        command.query_async::<()>(&mut raw).await.unwrap();
        match works {
            true => assert!(healed(|| store.load(&key)).await.is_some()),
            false => {
                let error = store.load(&key).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.to_string().contains("CLUSTERDOWN"), "{error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_waits_for_replicas_of_its_own() {
    let cluster = RedisCluster::start(Kind::Valkey, 1, &OPTIONS).await.unwrap();
    let url = format!(
        "{}?prefix={}:&{PATIENT}&wait_replicas=1&wait_ms=3000",
        cluster.url(),
        key()
    );
    let store = RedisStore::connect(&url).await.unwrap();
    let (record, keys) = (Record::new("data"), keys::<12>());
    for key in &keys {
        // Some replicas have only begun.
        healed(async || match store.create(key, &record, HOUR).await {
            // The primary has it all the same.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            answer => answer.map(drop),
        })
        .await;
    }
    // 3 to 5 are the replicas of 0 to 2.
    cluster.nodes()[3].kill().await.unwrap();
    for key in &keys {
        let slot = cluster.slot_of(&name(&store, key)).await.unwrap();
        let alone = cluster.owner(slot).await.unwrap() == 0;
        let found = store.load(key).await.unwrap().unwrap();
        match store.update(key, found.version, &record, HOUR).await {
            Ok(_) => assert!(!alone),
            Err(error) => {
                let text = error.to_string();
                assert!(alone && text.contains("0 of 1 replicas"), "{text}");
            }
        }
    }
}
