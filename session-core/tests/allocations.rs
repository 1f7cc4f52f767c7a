//! How often the allocator is asked: a price that every request pays, and that grows unseen.
//!
//! A ceiling that is passed is either a mistake, or a price that somebody decides to pay: then it is raised here.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use session_core::{
    ClientAction, MemoryStore, Record, Session, SessionId, SessionKey, SessionStore, Sessions, Subject,
    Version,
};
use tokio::runtime::{Builder, Runtime};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The least of some times: the first one may fill a cache.
fn allocations(runtime: &Runtime, mut call: impl AsyncFnMut()) -> u64 {
    let counted = |_| allocation_counter::measure(|| runtime.block_on(call())).count_total;
    (0..10).map(counted).min().unwrap()
}

#[track_caller]
fn at_most(ceiling: u64, counted: u64) {
    println!("{counted} allocations");
    assert!(counted <= ceiling, "{counted} allocations, {ceiling} at most");
}

struct Stored {
    store: MemoryStore,
    key: SessionKey,
    record: Record,
    version: Version,
}

fn stored(runtime: &Runtime) -> Stored {
    let (store, key) = (
        MemoryStore::default(),
        SessionId::random().unwrap().key("allocations"),
    );
    let record = Record::new(vec![7; 1024]);
    let version = runtime.block_on(store.create(&key, &record, HOUR)).unwrap();
    Stored {
        store,
        key,
        record,
        version,
    }
}

/// The future of the call is on the heap, because the trait is used as an object; the data is shared.
#[test]
fn load_from_memory() {
    let runtime = runtime();
    let Stored { store, key, .. } = stored(&runtime);
    at_most(
        1,
        allocations(&runtime, async || {
            assert!(store.load(&key).await.unwrap().is_some());
        }),
    );
}

#[test]
fn update_in_memory() {
    let runtime = runtime();
    let Stored {
        store,
        key,
        record,
        mut version,
    } = stored(&runtime);
    at_most(
        1,
        allocations(&runtime, async || {
            version = store.update(&key, version, &record, HOUR).await.unwrap();
        }),
    );
}

/// Sessions, and the id of one with eight attributes.
fn site(runtime: &Runtime) -> (Sessions, SessionId) {
    let sessions = Sessions::builder(Arc::new(MemoryStore::default()))
        .build()
        .unwrap();
    let id = runtime.block_on(async {
        let session = sessions.open(None);
        session.log_in(Subject::new("ada").unwrap()).await.unwrap();
        for at in 0..8 {
            session
                .insert(&format!("attribute-{at}"), &"a text".to_owned())
                .await
                .unwrap();
        }
        match session.commit().await.unwrap().client {
            ClientAction::Store { id, .. } => id,
            other => panic!("{other:?}"),
        }
    });
    (sessions, id)
}

fn request(ceiling: u64, mut handler: impl AsyncFnMut(&Session)) {
    let runtime = runtime();
    let (sessions, id) = site(&runtime);
    at_most(
        ceiling,
        allocations(&runtime, async || {
            let session = sessions.open(Some(id.clone()));
            handler(&session).await;
            let _ = session.commit().await.unwrap();
        }),
    );
}

#[test]
fn request_that_does_not_use_its_session() {
    request(1, async |_| ());
}

/// Attributes and their names are places in the record, and the handler shares what was loaded.
#[test]
fn request_that_reads() {
    request(6, async |session| {
        assert!(session.get::<String>("attribute-3").await.unwrap().is_some());
    });
}

/// What the handler changes is its own, and the write is a future of its own, so that a request that reads carries neither.
#[test]
fn request_that_changes() {
    let mut count = 0_u64;
    request(19, async |session| {
        count += 1;
        session.insert("attribute-3", &count).await.unwrap();
    });
}
