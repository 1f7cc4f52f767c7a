//! What is the memory store's own; the contract is checked by the conformance suite.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::{SessionId, Timestamp};

/// A clock that a test moves.
#[derive(Debug, Default)]
struct ManualClock(AtomicU64);

impl ManualClock {
    fn advance(&self, length: Duration) {
        self.0.fetch_add(length.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn key() -> SessionKey {
    SessionId::random().unwrap().key("test")
}

async fn fill(store: &MemoryStore, records: usize) {
    for _ in 0..records {
        store.create(&key(), &Record::new("x"), MINUTE).await.unwrap();
    }
}

#[tokio::test]
async fn full_store_refuses_and_keeps_what_it_has() {
    let store = MemoryStore::builder().max_records(10).build().unwrap();
    let first = key();
    let version = store.create(&first, &Record::new("first"), MINUTE).await.unwrap();
    fill(&store, 9).await;
    let error = store.create(&key(), &Record::new("x"), MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("10 records"), "{error}");
    // What is there can still change, be touched and be deleted; and a refused create holds no room.
    store
        .update(&first, version, &Record::new("other"), MINUTE)
        .await
        .unwrap();
    assert_eq!(
        store
            .create(&first, &Record::new("x"), MINUTE)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Full
    );
    assert!(store.delete(&first, None).await.unwrap());
    store.create(&key(), &Record::new("x"), MINUTE).await.unwrap();
}

#[tokio::test]
async fn bytes_are_bounded_and_growth_is_counted() {
    let store = MemoryStore::builder().max_bytes(2 * (192 + 100)).build().unwrap();
    let (one, two) = (key(), key());
    let version = store
        .create(&one, &Record::new(vec![0; 100]), MINUTE)
        .await
        .unwrap();
    store
        .create(&two, &Record::new(vec![0; 90]), MINUTE)
        .await
        .unwrap();
    let version = store
        .update(&one, version, &Record::new(vec![0; 110]), MINUTE)
        .await
        .unwrap();
    let error = store
        .update(&one, version, &Record::new(vec![0; 111]), MINUTE)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    let version = store
        .update(&one, version, &Record::new(vec![0; 1]), MINUTE)
        .await
        .unwrap();
    store
        .update(&one, version, &Record::new(vec![0; 110]), MINUTE)
        .await
        .unwrap();
}

#[tokio::test]
async fn expired_records_make_room() {
    let clock = Arc::new(ManualClock::default());
    let store = MemoryStore::builder()
        .max_records(1_000)
        .clock(clock.clone())
        .build()
        .unwrap();
    fill(&store, 1_000).await;
    clock.advance(MINUTE);
    fill(&store, 1_000).await;
    assert_eq!(store.len(), 1_000);
}

#[tokio::test]
async fn writes_free_expired_records_on_their_way() {
    let clock = Arc::new(ManualClock::default());
    let store = MemoryStore::builder().clock(clock.clone()).build().unwrap();
    fill(&store, 4_000).await;
    clock.advance(MINUTE);
    fill(&store, 4_000).await;
    // Each write frees up to four of its shard: far fewer than the 4,000 expired ones are left.
    assert!(store.len() < 4_400, "{} records", store.len());
    while store.remove_expired(100).await.unwrap() > 0 {}
    assert_eq!(store.len(), 4_000);
}

#[tokio::test]
async fn bookkeeping_returns_to_zero() {
    let clock = Arc::new(ManualClock::default());
    let store = MemoryStore::builder().clock(clock.clone()).build().unwrap();
    let subject = Subject::new("ada").unwrap();
    for round in 0..100 {
        let key = key();
        let record = Record::new(vec![0; round]).with_subject(subject.clone());
        let version = store.create(&key, &record, MINUTE).await.unwrap();
        if round % 3 == 0 {
            store
                .update(&key, version, &Record::new("no subject"), MINUTE * 2)
                .await
                .unwrap();
        }
        if round % 5 == 0 {
            store.delete(&key, None).await.unwrap();
        }
    }
    clock.advance(MINUTE * 3);
    while store.remove_expired(7).await.unwrap() > 0 {}
    assert!(store.is_empty());
    assert_eq!(store.bytes.load(Ordering::Relaxed), 0);
    assert!(store.subjects.list(&subject).is_empty());
}
