//! What a server takes, and what it does when it has no more memory.

use session_core::{ErrorKind, Record, SessionStore};
use session_memcached::{ConfigError, ConnectError};
use session_testbed::{Memcached, MemcachedServer};

use crate::support::{BOTH, HOUR, key, kind, patient, start};

/// A server that takes items of 32 KiB. An item is kept in pieces that are smaller, told in other units in 1.6.18.
async fn small(version: Memcached) -> MemcachedServer {
    let pieces = match version {
        Memcached::Stable => "slab_chunk_max=16",
        Memcached::Oldstable => "slab_chunk_max=16384",
    };
    start(version, &["-I", "32k", "-o", pieces]).await
}

fn record(size: usize) -> Record {
    Record::new(vec![7; size])
}

#[tokio::test(flavor = "multi_thread")]
async fn largest_record_is_what_the_servers_take() {
    for version in BOTH {
        let small = small(version).await;
        let large = start(version, &[]).await;
        let both = [small.address(), large.address()];

        let store = patient(session_memcached::Servers::new(both))
            .connect()
            .await
            .unwrap();
        let most = store.profile().limits.max_record;
        assert!((31_000..32_768).contains(&most), "{most}");
        for _ in 0..16 {
            let key = key();
            store.create(&key, &record(most), HOUR).await.unwrap();
            assert_eq!(store.load(&key).await.unwrap().unwrap().record.data.len(), most);
            let larger = store.create(&key, &record(most + 1), HOUR).await;
            assert!(matches!(kind(larger), ErrorKind::TooLarge { .. }));
        }

        let default = patient(large.address()).connect().await.unwrap();
        assert_eq!(default.profile().limits.max_record, 64 * 1024);

        let error = patient(small.address())
            .max_record(40_000)
            .connect()
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            ConnectError::Config(ConfigError::ItemSize { .. })
        ));
        let text = error.to_string();
        assert!(text.contains(small.address()) && text.contains("32768"), "{text}");
    }
}

/// The server would drop what was there before: even when the condition fails.
#[tokio::test(flavor = "multi_thread")]
async fn item_that_the_server_would_not_take_is_not_sent_by_a_store_that_did_not_ask_before() {
    for version in BOTH {
        let server = small(version).await;
        let store = patient(server.address()).build().unwrap();
        let other = patient(server.address()).build().unwrap();
        let key = key();
        // Its first call is the one that is too large.
        assert_eq!(
            kind(store.create(&key, &record(40_000), HOUR).await),
            ErrorKind::TooLarge {
                size: 40_000,
                limit: 32_768 - 50 - 44 - 43 - 128
            }
        );
        let first = store.create(&key, &record(10), HOUR).await.unwrap();
        let larger = store.update(&key, first, &record(40_000), HOUR).await;
        assert!(matches!(kind(larger), ErrorKind::TooLarge { size: 40_000, .. }));
        assert_eq!(store.load(&key).await.unwrap().unwrap().record, record(10));
        assert_eq!(server.stat("stats", "curr_items").await.unwrap(), "1");
        assert!(other.load(&key).await.unwrap().is_none());
    }
}

/// What the profile means by `may_evict`, on a server that was told never to evict.
#[tokio::test(flavor = "multi_thread")]
async fn full_server_takes_no_more_and_an_update_may_cost_the_session() {
    for version in BOTH {
        let server = start(version, &["-M", "-m", "4"]).await;
        let store = patient(server.address()).connect().await.unwrap();
        assert!(store.profile().limits.may_evict);
        let (kept, changed) = (key(), key());
        let data = record(1000);
        store.create(&kept, &data, HOUR).await.unwrap();
        let version = store.create(&changed, &data, HOUR).await.unwrap();
        let mut count = 0;
        let error = loop {
            match store.create(&key(), &data, HOUR).await {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
            assert!(count < 100_000);
        };
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(error.to_string().contains("out of memory"), "{error}");
        let connections = server.stat("stats", "total_connections").await.unwrap();

        // The rest goes on.
        assert_eq!(store.load(&kept).await.unwrap().unwrap().record, data);
        store.touch(&kept, HOUR).await.unwrap();
        assert_eq!(kind(store.create(&key(), &data, HOUR).await), ErrorKind::Full);

        assert_eq!(
            kind(store.update(&changed, version, &data, HOUR).await),
            ErrorKind::Full
        );
        assert!(store.load(&changed).await.unwrap().is_none());

        // There is room again, for whom something was deleted.
        assert!(store.delete(&kept, None).await.unwrap());
        store.create(&key(), &data, HOUR).await.unwrap();
        // Refusals are no reason to ask the server whether it is there.
        let later = server.stat("stats", "total_connections").await.unwrap();
        let more = later.parse::<u32>().unwrap() - connections.parse::<u32>().unwrap();
        assert!(more <= 4, "{more} connections for two refusals");
    }
}

/// The default: the oldest go.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_evicts_takes_new_sessions_and_drops_the_oldest() {
    let server = start(Memcached::Stable, &["-m", "4"]).await;
    let store = patient(server.address()).connect().await.unwrap();
    assert!(store.profile().limits.may_evict);
    let first = key();
    store.create(&first, &record(1000), HOUR).await.unwrap();
    for _ in 0..10_000 {
        store.create(&key(), &record(1000), HOUR).await.unwrap();
    }
    assert!(store.load(&first).await.unwrap().is_none());
    assert_ne!(server.stat("stats", "evictions").await.unwrap(), "0");
}
