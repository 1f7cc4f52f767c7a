//! The round trips that a request costs, counted at the store.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use session_core::{
    ClientAction, Clock, Lengths, MemoryStore, Record, Result, Session, SessionId, SessionKey, SessionStore,
    Sessions, StoreProfile, Stored, Subject, Subjects, Sweep, Timestamp, Version, async_trait,
};

#[derive(Debug)]
struct Counting {
    store: MemoryStore,
    calls: AtomicUsize,
}

impl Counting {
    fn count(&self) -> &MemoryStore {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &self.store
    }
}

#[async_trait]
impl SessionStore for Counting {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.count().create(key, record, ttl).await
    }
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        self.count().load(key).await
    }
    async fn update(
        &self,
        key: &SessionKey,
        old: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.count().update(key, old, record, ttl).await
    }
    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.count().touch(key, ttl).await
    }
    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        self.count().delete(key, expected).await
    }
    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }
    fn subjects(&self) -> Option<&dyn Subjects> {
        self.store.subjects()
    }
    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}

/// A clock that a test puts forward, for the store and the sessions alike.
#[derive(Debug, Default)]
struct MovedClock(AtomicU64);

impl MovedClock {
    fn forward(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct World {
    clock: Arc<MovedClock>,
    store: Arc<Counting>,
    sessions: Sessions,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(MovedClock::default());
        let store = MemoryStore::builder().clock(clock.clone()).build().unwrap();
        let store = Arc::new(Counting {
            store,
            calls: AtomicUsize::new(0),
        });
        let sessions = Sessions::builder(store.clone())
            .clock(clock.clone())
            .renew_every(None)
            .build()
            .unwrap();
        Self {
            clock,
            store,
            sessions,
        }
    }

    async fn logged_in(&self) -> SessionId {
        let session = self.sessions.open(None);
        session.log_in(Subject::new("ada").unwrap()).await.unwrap();
        session.insert("count", &0_u32).await.unwrap();
        let id = new_id(session.commit().await.unwrap().client).unwrap();
        self.calls();
        id
    }

    /// Calls since the last time.
    fn calls(&self) -> usize {
        self.store.calls.swap(0, Ordering::Relaxed)
    }

    /// The calls of one request, the response's and those after it.
    async fn cost(&self, id: Option<&SessionId>, handler: impl AsyncFnOnce(&Session)) -> (usize, usize) {
        self.calls();
        let session = self.sessions.open(id.cloned());
        handler(&session).await;
        let committed = session.commit().await.unwrap();
        let calls = self.calls();
        if let Some(upkeep) = committed.upkeep {
            upkeep.run().await;
        }
        (calls, self.calls())
    }
}

fn new_id(client: ClientAction) -> Option<SessionId> {
    match client {
        ClientAction::Store { id, .. } => Some(id),
        _ => None,
    }
}

async fn count(session: &Session) {
    session
        .update("count", |count: Option<u32>| count.unwrap_or(0) + 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn session_unused_costs_nothing() {
    let world = World::new();
    let id = world.logged_in().await;
    assert_eq!(world.cost(Some(&id), async |_| ()).await, (0, 0));
    assert_eq!(
        world
            .cost(None, async |session| drop(session.names().await.unwrap()))
            .await,
        (0, 0)
    );
}

#[tokio::test]
async fn reading_costs_one() {
    let world = World::new();
    let id = world.logged_in().await;
    let read = async |session: &Session| assert!(session.get::<u32>("count").await.unwrap().is_some());
    assert_eq!(world.cost(Some(&id), read).await, (1, 0));
    let unknown = SessionId::random().unwrap();
    assert_eq!(
        world
            .cost(Some(&unknown), async |session| drop(
                session.names().await.unwrap()
            ))
            .await,
        (1, 0)
    );
}

#[tokio::test]
async fn touch_comes_after_the_response_once_per_slack() {
    let world = World::new();
    let session = world.sessions.open(None);
    session
        .log_in_for(
            Subject::new("ada").unwrap(),
            Lengths::new(Duration::from_secs(2), Duration::from_secs(60)),
        )
        .await
        .unwrap();
    let id = new_id(session.commit().await.unwrap().client).unwrap();
    let read = async |session: &Session| drop(session.subject().await.unwrap());
    world.clock.forward(300);
    assert_eq!(world.cost(Some(&id), read).await, (1, 1));
    assert_eq!(world.cost(Some(&id), read).await, (1, 0));
}

#[tokio::test]
async fn changing_costs_two_and_creating_one() {
    let world = World::new();
    let id = world.logged_in().await;
    assert_eq!(world.cost(Some(&id), count).await, (2, 0));
    assert_eq!(world.cost(None, count).await, (1, 0));
    // The same value again is no change; nor is an attribute that comes and goes.
    assert_eq!(
        world
            .cost(Some(&id), async |session| session
                .insert("count", &1_u32)
                .await
                .unwrap())
            .await,
        (1, 0)
    );
    let comes_and_goes = async |session: &Session| {
        session.insert("other", &1_u32).await.unwrap();
        assert!(session.remove("other").await.unwrap());
    };
    assert_eq!(world.cost(Some(&id), comes_and_goes).await, (1, 0));
}

#[tokio::test]
async fn renewing_costs_three_in_all() {
    let world = World::new();
    let id = world.logged_in().await;
    let renew = async |session: &Session| {
        count(session).await;
        session.renew().await.unwrap();
    };
    assert_eq!(world.cost(Some(&id), renew).await, (3, 0));
}

#[tokio::test]
async fn following_a_retired_id_costs_one_more() {
    let world = World::new();
    let id = world.logged_in().await;
    let every_second = Sessions::builder(world.store.clone())
        .clock(world.clock.clone())
        .renew_every(Duration::from_secs(1))
        .build()
        .unwrap();
    world.clock.forward(1_100);
    let session = every_second.open(Some(id.clone()));
    session.names().await.unwrap();
    let new = new_id(session.commit().await.unwrap().client).unwrap();
    let read = async |session: &Session| assert!(session.get::<u32>("count").await.unwrap().is_some());
    assert_eq!(world.cost(Some(&id), read).await, (2, 0));
    // The first request with the new id leaves its mark, after the response.
    assert_eq!(world.cost(Some(&new), read).await, (1, 1));
    assert_eq!(world.cost(Some(&new), read).await, (1, 0));
}

#[tokio::test]
async fn ending_costs_one_if_loaded_else_two() {
    let world = World::new();
    let id = world.logged_in().await;
    assert_eq!(
        world
            .cost(Some(&id), async |session| session.log_out().await.unwrap())
            .await,
        (2, 0)
    );
    let id = world.logged_in().await;
    let session = world.sessions.open(Some(id));
    session.names().await.unwrap();
    world.calls();
    session.log_out().await.unwrap();
    assert_eq!(world.calls(), 1);
    assert_eq!(
        world
            .cost(None, async |session| session.log_out().await.unwrap())
            .await,
        (0, 0)
    );
}

#[tokio::test]
async fn each_lost_race_costs_two_more() {
    let world = World::new();
    let id = world.logged_in().await;
    let overtaken = async |session: &Session| {
        count(session).await;
        let other = world.sessions.open(Some(id.clone()));
        count(&other).await;
        let _ = other.commit().await.unwrap();
        world.calls();
    };
    assert_eq!(
        world.cost(Some(&id), overtaken).await,
        (3, 0),
        "update, reload, update"
    );
    let session = world.sessions.open(Some(id.clone()));
    assert_eq!(session.get::<u32>("count").await.unwrap(), Some(2));
}

#[tokio::test]
async fn ten_thousand_made_up_ids_write_nothing() {
    let world = World::new();
    for _ in 0..10_000 {
        let session = world.sessions.open(Some(SessionId::random().unwrap()));
        assert_eq!(session.get::<u32>("count").await.unwrap(), None);
        assert!(matches!(
            session.commit().await.unwrap().client,
            ClientAction::Keep
        ));
    }
    assert_eq!(world.calls(), 10_000);
    assert!(world.store.store.is_empty());
}
