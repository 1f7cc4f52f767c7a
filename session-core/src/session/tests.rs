//! What a session promises, with a clock that stands still: times, grace, theft, limits, errors.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::{interleavings::StillClock, *};
use crate::{
    Error, ErrorKind, MemoryStore, Record, Result, SessionId, SessionKey, SessionStore, StoreProfile, Stored,
    Subject, Subjects, Sweep, Version,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Sessions on a memory store, both on one clock that the test moves.
pub(super) struct World {
    pub(super) clock: Arc<StillClock>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) sessions: Sessions,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(super) fn with(choose: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> Self {
        let clock = Arc::new(StillClock::default());
        let store = Arc::new(MemoryStore::builder().clock(clock.clone()).build().unwrap());
        let sessions = choose(Sessions::builder(store.clone()).clock(clock.clone()))
            .build()
            .unwrap();
        Self {
            clock,
            store,
            sessions,
        }
    }

    pub(super) fn advance(&self, length: Duration) {
        self.clock
            .0
            .fetch_add(length.as_millis() as u64, Ordering::Relaxed);
    }

    /// A logged-in session with an attribute.
    pub(super) async fn log_in(&self) -> SessionId {
        let session = self.sessions.open(None);
        session.log_in(ada()).await.unwrap();
        session.insert("cart", &1_u32).await.unwrap();
        stored_id(session.commit().await.unwrap())
    }

    /// A request that reads; what it saw, and what the client was told.
    pub(super) async fn read(&self, id: &SessionId) -> (Option<u32>, ClientAction) {
        let session = self.sessions.open(Some(id.clone()));
        let seen = session.get("cart").await.unwrap();
        let committed = session.commit().await.unwrap();
        if let Some(upkeep) = committed.upkeep {
            upkeep.run().await;
        }
        (seen, committed.client)
    }
}

pub(super) fn ada() -> Subject {
    Subject::new("ada").unwrap()
}

pub(super) fn stored_id(committed: Committed) -> SessionId {
    match committed.client {
        ClientAction::Store { id, .. } => id,
        other => panic!("no id was handed out: {other:?}"),
    }
}

#[tokio::test]
async fn session_ends_when_idle_and_lives_while_used() {
    let world = World::with(|builder| builder.renew_every(None));
    let id = world.log_in().await;
    for _ in 0..10 {
        world.advance(20 * MINUTE);
        assert_eq!(world.read(&id).await.0, Some(1));
    }
    world.advance(30 * MINUTE);
    assert_eq!(world.read(&id).await.0, None);
}

#[tokio::test]
async fn absolute_deadline_is_never_passed() {
    let world = World::with(|builder| builder.renew_every(None).lengths(Lengths::new(30 * MINUTE, HOUR)));
    let id = world.log_in().await;
    for _ in 0..5 {
        world.advance(10 * MINUTE);
        assert_eq!(world.read(&id).await.0, Some(1));
    }
    let session = world.sessions.open(Some(id.clone()));
    let info = session.info().await.unwrap().unwrap();
    assert_eq!(info.deadline.since(info.created_at), HOUR);
    assert!(info.remaining <= 10 * MINUTE, "{:?}", info.remaining);
    session.insert("cart", &2_u32).await.unwrap();
    world.advance(10 * MINUTE);
    // Loaded in time, committed too late: nothing is written.
    assert!(matches!(session.commit().await, Err(SessionError::Gone)));
    assert_eq!(world.read(&id).await.0, None);
}

#[tokio::test]
async fn touch_is_due_only_beyond_the_slack() {
    let world = World::with(|builder| builder.renew_every(None));
    let id = world.log_in().await;
    let due = async || {
        let session = world.sessions.open(Some(id.clone()));
        session.subject().await.unwrap();
        session.commit().await.unwrap().upkeep
    };
    world.advance(59 * SECOND);
    assert!(due().await.is_none());
    world.advance(2 * SECOND);
    due().await.expect("a touch").run().await;
    assert!(due().await.is_none());
    let session = world.sessions.open(Some(id.clone()));
    assert_eq!(session.info().await.unwrap().unwrap().remaining, 30 * MINUTE);
}

#[tokio::test]
async fn remembered_session_keeps_its_own_lengths() {
    let world = World::with(|builder| builder.renew_every(HOUR));
    let session = world.sessions.open(None);
    let lengths = Lengths::new(168 * HOUR, 720 * HOUR);
    session.log_in_for(ada(), lengths).await.unwrap();
    let mut id = stored_id(session.commit().await.unwrap());
    for _ in 0..4 {
        world.advance(100 * HOUR);
        let session = world.sessions.open(Some(id.clone()));
        assert_eq!(session.info().await.unwrap().unwrap().lengths, lengths);
        id = stored_id(session.commit().await.unwrap());
    }
    let session = world.sessions.open(Some(id));
    assert_eq!(session.info().await.unwrap().unwrap().renewals, 4);
}

#[tokio::test]
async fn update_runs_again_only_on_a_newer_value() {
    let world = World::new();
    let session = world.sessions.open(None);
    session.insert("count", &0_u32).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = async || {
        let (session, runs) = (world.sessions.open(Some(id.clone())), runs.clone());
        let change = move |count: Option<u32>| {
            runs.fetch_add(1, Ordering::Relaxed);
            count.unwrap_or_default() + 1
        };
        session.update("count", change).await.unwrap();
        session
    };
    let ran = || runs.swap(0, Ordering::Relaxed);
    let _ = counted().await.commit().await.unwrap();
    assert_eq!(ran(), 1);
    let (one, two) = (counted().await, counted().await);
    let _ = one.commit().await.unwrap();
    assert_eq!(ran(), 2, "nobody came between");
    let _ = two.commit().await.unwrap();
    assert_eq!(ran(), 1, "one came between");
    let session = world.sessions.open(Some(id));
    assert_eq!(session.get::<u32>("count").await.unwrap(), Some(3));
}

#[tokio::test]
async fn log_in_makes_a_new_id_and_keeps_attributes() {
    let world = World::new();
    let session = world.sessions.open(None);
    session.insert("cart", &7_u32).await.unwrap();
    let anonymous = stored_id(session.commit().await.unwrap());
    let session = world.sessions.open(Some(anonymous.clone()));
    session.log_in(ada()).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());
    assert_eq!(world.read(&id).await.0, Some(7));
    let (seen, client) = world.read(&anonymous).await;
    assert_eq!(seen, None);
    assert!(matches!(client, ClientAction::Keep));
}

#[tokio::test]
async fn log_in_of_another_subject_leaves_nothing_of_the_first() {
    let world = World::new();
    let session = world.sessions.open(Some(world.log_in().await));
    session.log_in(ada()).await.unwrap();
    assert_eq!(session.names().await.unwrap(), ["cart"], "the same user again");
    session.log_in(Subject::new("bob").unwrap()).await.unwrap();
    session.insert("theme", &"dark".to_owned()).await.unwrap();
    let session = world
        .sessions
        .open(Some(stored_id(session.commit().await.unwrap())));
    assert_eq!(session.names().await.unwrap(), ["theme"]);
    assert_eq!(session.subject().await.unwrap(), Subject::new("bob").ok());
}

#[tokio::test]
async fn request_overtaken_by_a_log_in_hands_out_no_anonymous_session() {
    let world = World::new();
    let session = world.sessions.open(None);
    session.insert("cart", &7_u32).await.unwrap();
    let anonymous = stored_id(session.commit().await.unwrap());
    let session = world.sessions.open(Some(anonymous.clone()));
    session.log_in(ada()).await.unwrap();
    let _ = stored_id(session.commit().await.unwrap());

    let late = world.sessions.open(Some(anonymous.clone()));
    late.insert("cart", &8_u32).await.unwrap();
    assert!(matches!(late.commit().await, Err(SessionError::Gone)));
    // Later the browser has not taken the new id, it seems: it may begin anew.
    world.advance(31 * SECOND);
    let later = world.sessions.open(Some(anonymous.clone()));
    later.insert("cart", &8_u32).await.unwrap();
    assert_eq!(
        world.read(&stored_id(later.commit().await.unwrap())).await.0,
        Some(8)
    );
    // And a log-in works at once.
    let again = world.sessions.open(Some(anonymous));
    again.log_in(ada()).await.unwrap();
    let _ = stored_id(again.commit().await.unwrap());
}

#[tokio::test]
async fn periodic_renewal_has_grace_and_then_none() {
    let world = World::new();
    let first = world.log_in().await;
    world.advance(16 * MINUTE);
    let (seen, client) = world.read(&first).await;
    assert_eq!(seen, Some(1));
    let ClientAction::Store { id: second, .. } = client else {
        panic!("{client:?}")
    };
    // On its way with the old id: served, and told nothing.
    world.advance(29 * SECOND);
    let (seen, client) = world.read(&first).await;
    assert_eq!(seen, Some(1));
    assert!(matches!(client, ClientAction::Keep));
    // The new id is used; the old one is refused once its grace has ended, and the session goes on.
    assert_eq!(world.read(&second).await.0, Some(1));
    world.advance(SECOND);
    assert_eq!(world.read(&first).await.0, None);
    assert_eq!(world.read(&second).await.0, Some(1));
}

#[tokio::test]
async fn stolen_id_ends_the_session_where_that_is_the_policy() {
    let world = World::with(|builder| builder.on_retired_id(RetiredIdPolicy::EndSession));
    let first = world.log_in().await;
    world.advance(16 * MINUTE);
    let ClientAction::Store { id: second, .. } = world.read(&first).await.1 else {
        panic!()
    };
    assert_eq!(world.read(&second).await.0, Some(1));
    world.advance(31 * SECOND);
    assert_eq!(world.read(&first).await.0, None);
    assert_eq!(world.read(&second).await.0, None);
}

#[tokio::test]
async fn id_from_before_a_log_in_never_ends_the_session() {
    let world = World::with(|builder| builder.on_retired_id(RetiredIdPolicy::EndSession));
    let session = world.sessions.open(None);
    session.insert("cart", &1_u32).await.unwrap();
    let anonymous = stored_id(session.commit().await.unwrap());
    let session = world.sessions.open(Some(anonymous.clone()));
    session.log_in(ada()).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());
    assert_eq!(world.read(&id).await.0, Some(1));
    world.advance(31 * SECOND);
    assert_eq!(world.read(&anonymous).await.0, None);
    assert_eq!(world.read(&id).await.0, Some(1));
}

#[tokio::test]
async fn new_id_that_never_arrived_is_renewed_again() {
    let world = World::new();
    let first = world.log_in().await;
    world.advance(16 * MINUTE);
    let ClientAction::Store { id: lost, .. } = world.read(&first).await.1 else {
        panic!()
    };
    world.advance(MINUTE);
    // The client knows the first id alone, and gets one that works.
    let (seen, client) = world.read(&first).await;
    assert_eq!(seen, Some(1));
    let ClientAction::Store { id: third, .. } = client else {
        panic!("{client:?}")
    };
    assert_eq!(world.read(&third).await.0, Some(1));
    // From then on the id that was lost is a stolen one.
    world.advance(MINUTE);
    assert_eq!(world.read(&lost).await.0, None);
    assert_eq!(world.read(&first).await.0, None);
    assert_eq!(world.read(&third).await.0, Some(1));
}

#[tokio::test]
async fn log_out_with_a_retired_id_ends_the_session() {
    let world = World::new();
    let first = world.log_in().await;
    world.advance(16 * MINUTE);
    let ClientAction::Store { id: second, .. } = world.read(&first).await.1 else {
        panic!()
    };
    assert_eq!(world.read(&second).await.0, Some(1));
    for grace in [SECOND, HOUR / 4] {
        world.advance(grace);
        let session = world.sessions.open(Some(first.clone()));
        session.log_out().await.unwrap();
        assert!(matches!(
            session.commit().await.unwrap().client,
            ClientAction::Forget
        ));
        assert_eq!(world.read(&second).await.0, None);
    }
}

#[tokio::test]
async fn log_out_of_nothing_does_nothing_and_a_new_session_may_follow() {
    let world = World::new();
    let session = world.sessions.open(None);
    session.log_out().await.unwrap();
    assert!(matches!(
        session.commit().await.unwrap().client,
        ClientAction::Forget
    ));
    let session = world.sessions.open(Some(world.log_in().await));
    session.log_out().await.unwrap();
    assert_eq!(session.get::<u32>("cart").await.unwrap(), None);
    session
        .insert("notice", &"you are logged out".to_owned())
        .await
        .unwrap();
    let id = stored_id(session.commit().await.unwrap());
    let session = world.sessions.open(Some(id));
    assert_eq!(session.names().await.unwrap(), ["notice"]);
    assert_eq!(session.subject().await.unwrap(), None);
}

#[tokio::test]
async fn log_out_everywhere_and_elsewhere() {
    let world = World::new();
    let (one, two, three) = (world.log_in().await, world.log_in().await, world.log_in().await);
    let session = world.sessions.open(Some(one.clone()));
    assert_eq!(session.sessions_of_subject().await.unwrap(), 3);
    assert_eq!(session.log_out_elsewhere().await.unwrap(), 2);
    assert_eq!(
        (world.read(&one).await.0, world.read(&two).await.0),
        (Some(1), None)
    );
    let four = world.log_in().await;
    assert_eq!(session.log_out_everywhere().await.unwrap(), 2);
    for id in [one, two, three, four] {
        assert_eq!(world.read(&id).await.0, None);
    }
    assert!(matches!(
        session.commit().await.unwrap().client,
        ClientAction::Forget
    ));
}

#[tokio::test]
async fn changes_of_one_request_are_seen_and_undone_in_order() {
    let world = World::new();
    let id = world.log_in().await;
    let session = world.sessions.open(Some(id.clone()));
    session
        .update("cart", |cart: Option<u32>| cart.unwrap_or(0) + 1)
        .await
        .unwrap();
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(2));
    session.clear().await.unwrap();
    session
        .update("cart", |cart: Option<u32>| cart.unwrap_or(40) + 2)
        .await
        .unwrap();
    session.insert("theme", &"dark".to_owned()).await.unwrap();
    assert!(session.remove("theme").await.unwrap());
    assert!(!session.remove("theme").await.unwrap());
    assert!(matches!(
        session.commit().await.unwrap().client,
        ClientAction::Keep
    ));
    let session = world.sessions.open(Some(id));
    assert_eq!(session.names().await.unwrap(), ["cart"]);
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(42));
    assert_eq!(session.subject().await.unwrap(), Some(ada()));
}

#[tokio::test]
async fn what_a_codec_or_the_store_cannot_hold_is_refused_at_insert() {
    let world = World::new();
    let session = world.sessions.open(None);
    let error = session
        .insert("bag", &serde_json::json!({"a": 1}))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("\"bag\"") && error.to_string().contains("JSON"),
        "{error}"
    );
    session.insert("small", &"x".repeat(30_000)).await.unwrap();
    session.insert("big", &"x".repeat(35_000)).await.unwrap();
    let error = session.insert("more", &"x".repeat(1_000)).await.unwrap_err();
    let SessionError::TooLarge { size, limit, largest } = &error else {
        panic!("{error}")
    };
    assert!(*size > *limit && *limit == 65_536);
    assert_eq!(largest[0].0, "big");
    assert!(
        error.to_string().contains("\"big\" 35003, \"small\" 30003"),
        "{error}"
    );
    assert_eq!(session.names().await.unwrap(), ["big", "small"]);
    for name in [String::new(), "x".repeat(256)] {
        let error = session.insert(&name, &1_u8).await.unwrap_err();
        assert!(matches!(error, SessionError::InvalidName { .. }));
    }
}

#[tokio::test]
async fn value_of_another_type_is_an_error_that_names_the_attribute() {
    let world = World::new();
    let id = world.log_in().await;
    let session = world.sessions.open(Some(id.clone()));
    let error = session.get::<Vec<String>>("cart").await.unwrap_err();
    assert!(
        matches!(&error, SessionError::Decode { attribute, .. } if attribute == "cart"),
        "{error}"
    );
    assert_eq!(world.read(&id).await.0, Some(1));
}

#[tokio::test]
async fn another_default_codec_leaves_no_session_behind() {
    let world = World::new();
    let id = world.log_in().await;
    let json = Sessions::builder(world.store.clone())
        .clock(world.clock.clone())
        .codec(crate::JsonCodec);
    let session = json.build().unwrap().open(Some(id.clone()));
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(1));
    session
        .insert("bag", &serde_json::json!({"a": [1, null]}))
        .await
        .unwrap();
    let _ = session.commit().await.unwrap();
    let session = world.sessions.open(Some(id));
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(1));
    assert_eq!(
        session.get::<serde_json::Value>("bag").await.unwrap(),
        Some(serde_json::json!({"a": [1, null]}))
    );
}

#[tokio::test]
async fn unreadable_records_are_errors_and_stay() {
    let world = World::new();
    let id = SessionId::random().unwrap();
    let key = id.key("session");
    for (data, kind) in [
        (&[1_u8, 9][..], ErrorKind::Corrupt),
        (&[2, 0], ErrorKind::NewerFormat),
        (&[], ErrorKind::Corrupt),
    ] {
        let record = Record::new(data.to_vec());
        world.store.create(&key, &record, MINUTE).await.unwrap();
        let session = world.sessions.open(Some(id.clone()));
        for _ in 0..2 {
            let error = session.insert("cart", &1_u32).await.unwrap_err();
            assert_eq!(error.store_kind(), Some(kind));
        }
        assert!(matches!(
            session.commit().await.unwrap().client,
            ClientAction::Keep
        ));
        assert_eq!(world.store.load(&key).await.unwrap().unwrap().record, record);
        world.store.delete(&key, None).await.unwrap();
    }
}

#[tokio::test]
async fn settings_out_of_range_are_refused() {
    let builder = || Sessions::builder(Arc::new(MemoryStore::new()));
    for (builder, text) in [
        (
            builder().grace(121 * SECOND),
            "a grace of 121s is longer than 120s",
        ),
        (
            builder().renew_every(Duration::ZERO),
            "renewal each 0ns is more often than each 1s",
        ),
        (
            builder().lengths(Lengths::new(100_000 * HOUR, 100_000 * HOUR)),
            "is longer than the store keeps a record",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn id_is_in_no_debug_text() {
    let world = World::new();
    let id = world.log_in().await;
    let session = world.sessions.open(Some(id.clone()));
    session.renew().await.unwrap();
    let committed = session.commit().await.unwrap();
    let text = format!("{session:?} {committed:?} {:?} {:?}", world.sessions, world.store);
    let handed_out = stored_id(committed);
    assert!(
        !text.contains(id.expose().as_str()) && !text.contains(handed_out.expose().as_str()),
        "{text}"
    );
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Works,
    RequestLost,
    /// Carried out.
    ReplyLost,
    /// Carried out, and never answered.
    Hangs,
    /// Given up by the caller, carried out by [`Scripted::deliver`].
    Late,
    /// Carried out after the interlude.
    Overtaken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Load,
    Update,
    Touch,
    Delete,
}

type Script = Box<dyn FnMut(Op) -> Fate + Send>;
type Deed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The memory store, each call of which ends as a script says.
pub(crate) struct Scripted {
    store: Arc<MemoryStore>,
    script: Mutex<Script>,
    late: Mutex<Vec<Deed>>,
    interlude: Mutex<Option<Deed>>,
    /// How long a call takes, one half before it is carried out.
    latency: Mutex<Duration>,
}

impl Scripted {
    pub(crate) fn new(store: MemoryStore) -> Arc<Self> {
        let script: Script = Box::new(|_| Fate::Works);
        Arc::new(Self {
            store: Arc::new(store),
            script: Mutex::new(script),
            late: Mutex::default(),
            interlude: Mutex::default(),
            latency: Mutex::default(),
        })
    }

    pub(crate) fn script(&self, script: impl FnMut(Op) -> Fate + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub(super) fn memory(&self) -> Arc<MemoryStore> {
        self.store.clone()
    }

    /// What happens just before the next call that is overtaken.
    pub(super) fn interlude(&self, deed: impl Future<Output = ()> + Send + 'static) {
        *self.interlude.lock().unwrap() = Some(Box::pin(deed));
    }

    pub(super) fn latency(&self, latency: Duration) {
        *self.latency.lock().unwrap() = latency;
    }

    pub(super) fn down(&self, down: bool) {
        self.script(move |_| if down { Fate::RequestLost } else { Fate::Works });
    }

    async fn deliver(&self) {
        let calls = std::mem::take(&mut *self.late.lock().unwrap());
        for call in calls {
            call.await;
        }
    }

    async fn call<T, F>(&self, op: Op, run: impl FnOnce(Arc<MemoryStore>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let fate = (self.script.lock().unwrap())(op);
        let call = run(self.store.clone());
        let half = *self.latency.lock().unwrap() / 2;
        let call = async move {
            if half.is_zero() {
                return call.await;
            }
            tokio::time::sleep(half).await;
            let answer = call.await;
            tokio::time::sleep(half).await;
            answer
        };
        match fate {
            Fate::Works => return call.await,
            Fate::Overtaken => {
                let interlude = self.interlude.lock().unwrap().take();
                if let Some(interlude) = interlude {
                    interlude.await;
                }
                return call.await;
            }
            Fate::RequestLost => {}
            Fate::ReplyLost => drop(call.await),
            Fate::Hangs => {
                let _ = call.await;
                std::future::pending::<()>().await;
            }
            Fate::Late => self
                .late
                .lock()
                .unwrap()
                .push(Box::pin(async move { drop(call.await) })),
        }
        Err(Error::new(ErrorKind::Unavailable, "memory"))
    }
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl SessionStore for Scripted {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let (key, record) = (*key, record.clone());
        self.call(Op::Create, move |store| async move {
            store.create(&key, &record, ttl).await
        })
        .await
    }
    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let key = *key;
        self.call(Op::Load, move |store| async move { store.load(&key).await })
            .await
    }
    async fn update(
        &self,
        key: &SessionKey,
        old: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let (key, record) = (*key, record.clone());
        self.call(Op::Update, move |store| async move {
            store.update(&key, old, &record, ttl).await
        })
        .await
    }
    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        let key = *key;
        self.call(
            Op::Touch,
            move |store| async move { store.touch(&key, ttl).await },
        )
        .await
    }
    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let key = *key;
        self.call(Op::Delete, move |store| async move {
            store.delete(&key, expected).await
        })
        .await
    }
    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }
    fn subjects(&self) -> Option<&dyn Subjects> {
        None
    }
    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}

/// A new session with a counter at 1.
pub(super) async fn counter(sessions: &Sessions) -> SessionId {
    let session = sessions.open(None);
    session.insert("count", &1_u32).await.unwrap();
    stored_id(session.commit().await.unwrap())
}

pub(super) async fn add_one(session: &Session) {
    session
        .update("count", |count: Option<u32>| count.unwrap_or(0) + 1)
        .await
        .unwrap();
}

pub(super) async fn count(sessions: &Sessions, id: &SessionId) -> Option<u32> {
    sessions.open(Some(id.clone())).get("count").await.unwrap()
}

#[tokio::test]
async fn store_that_is_down_never_gives_an_anonymous_session() {
    let store = Scripted::new(MemoryStore::new());
    let sessions = Sessions::builder(store.clone()).build().unwrap();
    let session = sessions.open(None);
    session.insert("cart", &1_u32).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());

    store.down(true);
    let session = sessions.open(Some(id.clone()));
    assert!(session.get::<u32>("cart").await.unwrap_err().is_retryable());
    assert!(session.insert("cart", &2_u32).await.unwrap_err().is_retryable());
    assert!(session.log_out().await.is_err());
    assert!(matches!(
        session.commit().await.unwrap().client,
        ClientAction::Keep
    ));
    // The same handle works once the store is back.
    store.down(false);
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(1));
    // Going down between load and commit: the commit tells.
    session.insert("cart", &3_u32).await.unwrap();
    store.down(true);
    assert!(session.commit().await.unwrap_err().is_retryable());
    assert!(session.log_out().await.unwrap_err().is_retryable());
    store.down(false);
    // Whether it was written is unknown: the handle applies nothing a second time. Another request works.
    assert!(session.commit().await.unwrap_err().is_retryable());
    assert!(session.get::<u32>("cart").await.unwrap_err().is_retryable());
    let session = sessions.open(Some(id));
    session.insert("cart", &3_u32).await.unwrap();
    let _ = session.commit().await.unwrap();
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(3));
    // Without an index by subject, "everywhere" is refused, not done by halves.
    session.log_in(ada()).await.unwrap();
    let error = session.log_out_everywhere().await.unwrap_err();
    assert_eq!(error.store_kind(), Some(ErrorKind::Unsupported));
    // And a handle of unknown outcome can still be logged out.
    store.down(true);
    assert!(session.commit().await.unwrap_err().is_retryable());
    store.down(false);
    session.log_out().await.unwrap();
    assert!(store.store.is_empty());
}

#[tokio::test]
async fn dropped_commit_is_not_applied_again() {
    let store = Scripted::new(MemoryStore::new());
    let sessions = Sessions::builder(store.clone()).build().unwrap();
    let id = counter(&sessions).await;
    let session = sessions.open(Some(id.clone()));
    add_one(&session).await;
    store.script(|op| {
        if op == Op::Update {
            Fate::Hangs
        } else {
            Fate::Works
        }
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(20), session.commit())
            .await
            .is_err()
    );
    store.down(false);
    for _ in 0..2 {
        let error = session.commit().await.unwrap_err();
        assert!(error.to_string().contains("dropped before it ended"), "{error}");
    }
    assert_eq!(count(&sessions, &id).await, Some(2));
}

#[tokio::test]
async fn call_that_arrives_late_is_not_applied_again_after_eight_others() {
    let store = Scripted::new(MemoryStore::new());
    let sessions = Sessions::builder(store.clone()).build().unwrap();
    let others = Sessions::builder(store.store.clone()).build().unwrap();
    let id = counter(&sessions).await;
    let session = sessions.open(Some(id.clone()));
    add_one(&session).await;
    // The first try arrives while the second is on its way, and eight others write before that gets there.
    let mut updates = 0;
    store.script(move |op| {
        updates += usize::from(op == Op::Update);
        match (op, updates) {
            (Op::Update, 1) => Fate::Late,
            (Op::Update, 2) => Fate::Overtaken,
            _ => Fate::Works,
        }
    });
    let (late, others_id) = (store.clone(), id.clone());
    store.interlude(async move {
        late.deliver().await;
        for theme in 0..8_u32 {
            let other = others.open(Some(others_id.clone()));
            other.insert("theme", &theme).await.unwrap();
            let _ = other.commit().await.unwrap();
        }
    });
    assert!(session.commit().await.unwrap_err().is_retryable());
    assert_eq!(count(&sessions, &id).await, Some(2));
}

#[tokio::test]
async fn failed_log_out_leaves_no_way_over_the_writes_of_others() {
    let store = Scripted::new(MemoryStore::new());
    let sessions = Sessions::builder(store.clone()).build().unwrap();
    for rival_logs_in in [false, true] {
        let id = counter(&sessions).await;
        let session = sessions.open(Some(id.clone()));
        assert!(session.info().await.unwrap().is_some());
        let rival = sessions.open(Some(id.clone()));
        add_one(&rival).await;
        if rival_logs_in {
            rival.log_in(ada()).await.unwrap();
        }
        let client = rival.commit().await.unwrap().client;
        // The first deletion meets the rival's write, the second is lost.
        let mut deletions = 0;
        store.script(move |op| {
            deletions += usize::from(op == Op::Delete);
            if op == Op::Delete && deletions > 1 {
                Fate::RequestLost
            } else {
                Fate::Works
            }
        });
        assert!(session.log_out().await.unwrap_err().is_retryable());
        store.down(false);
        session
            .insert("notice", &"not logged out".to_owned())
            .await
            .unwrap();
        let outcome = session.commit().await;
        match client {
            ClientAction::Store { id, .. } => {
                assert!(matches!(outcome, Err(SessionError::Gone)), "{outcome:?}");
                let rival = sessions.open(Some(id.clone()));
                assert_eq!(rival.subject().await.unwrap(), Some(ada()));
                assert_eq!(rival.names().await.unwrap(), ["count"]);
            }
            _ => {
                let _ = outcome.unwrap();
                assert_eq!(count(&sessions, &id).await, Some(2));
            }
        }
    }
}

#[tokio::test]
async fn changes_that_change_nothing_yet_hold_for_what_the_commit_meets() {
    let world = World::with(|builder| builder.renew_every(None));
    let id = world.log_in().await;
    let rival = async |name: &'static str, value: u32| {
        let rival = world.sessions.open(Some(id.clone()));
        rival.insert(name, &value).await.unwrap();
        let _ = rival.commit().await.unwrap();
    };
    let session = world.sessions.open(Some(id.clone()));
    assert!(!session.remove("scope").await.unwrap());
    session.insert("cart", &1_u32).await.unwrap();
    session.insert("seen", &true).await.unwrap();
    rival("scope", 7).await;
    rival("cart", 9).await;
    let _ = session.commit().await.unwrap();
    // Removed and inserted by the later commit, though both changed nothing when they were called.
    let session = world.sessions.open(Some(id.clone()));
    assert_eq!(session.names().await.unwrap(), ["cart", "seen"]);
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(1));

    session.clear().await.unwrap();
    let _ = session.commit().await.unwrap();
    session.clear().await.unwrap();
    rival("scope", 7).await;
    session.renew().await.unwrap();
    let session = world
        .sessions
        .open(Some(stored_id(session.commit().await.unwrap())));
    assert_eq!(session.names().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn store_that_takes_no_new_record_keeps_the_sessions_it_has() {
    let clock = Arc::new(StillClock::default());
    let store = Arc::new(
        MemoryStore::builder()
            .max_records(1)
            .clock(clock.clone())
            .build()
            .unwrap(),
    );
    let sessions = Sessions::builder(store).clock(clock.clone()).build().unwrap();
    let session = sessions.open(None);
    session.log_in(ada()).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());
    for minute in 0..120_u32 {
        clock.0.fetch_add(60_000, Ordering::Relaxed);
        let session = sessions.open(Some(id.clone()));
        assert_eq!(
            session.subject().await.unwrap(),
            Some(ada()),
            "after {minute} minutes"
        );
        if minute % 10 == 0 {
            session.insert("minute", &minute).await.unwrap();
        }
        let committed = session.commit().await.unwrap();
        if let Some(upkeep) = committed.upkeep {
            upkeep.run().await;
        }
    }
    let session = sessions.open(Some(id));
    assert_eq!(session.get::<u32>("minute").await.unwrap(), Some(110));
}

#[tokio::test]
async fn request_that_many_renewals_overtook_hands_out_no_anonymous_session() {
    let world = World::with(|builder| builder.renew_every(SECOND));
    let first = world.log_in().await;
    let mut id = first.clone();
    for _ in 0..6 {
        world.advance(SECOND);
        let ClientAction::Store { id: next, .. } = world.read(&id).await.1 else {
            panic!()
        };
        id = next;
    }
    let late = world.sessions.open(Some(first));
    late.insert("cart", &8_u32).await.unwrap();
    assert!(matches!(late.commit().await, Err(SessionError::Gone)));
    assert_eq!(world.read(&id).await.0, Some(1));
}

#[tokio::test]
async fn remembered_visitor_whose_new_id_was_lost_comes_back_days_later() {
    let world = World::new();
    let session = world.sessions.open(None);
    session
        .log_in_for(ada(), Lengths::new(168 * HOUR, 720 * HOUR))
        .await
        .unwrap();
    let id = stored_id(session.commit().await.unwrap());
    world.advance(HOUR);
    assert!(matches!(world.read(&id).await.1, ClientAction::Store { .. }));
    world.advance(100 * HOUR);
    let session = world.sessions.open(Some(id));
    assert_eq!(session.subject().await.unwrap(), Some(ada()));
    let _ = stored_id(session.commit().await.unwrap());
}

#[tokio::test]
async fn renewal_that_never_comes_is_no_overflow() {
    let world = World::with(|builder| builder.renew_every(Duration::MAX));
    let session = world.sessions.open(Some(world.log_in().await));
    session.renew().await.unwrap();
    assert_eq!(
        world.read(&stored_id(session.commit().await.unwrap())).await.0,
        Some(1)
    );
}

#[tokio::test]
async fn log_out_of_an_overtaken_request_may_leave_a_notice() {
    let world = World::new();
    let session = world.sessions.open(None);
    session.insert("cart", &1_u32).await.unwrap();
    let anonymous = stored_id(session.commit().await.unwrap());
    let session = world.sessions.open(Some(anonymous.clone()));
    session.log_in(ada()).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());
    let late = world.sessions.open(Some(anonymous));
    late.log_out().await.unwrap();
    late.insert("notice", &"logged out".to_owned()).await.unwrap();
    let _ = stored_id(late.commit().await.unwrap());
    assert_eq!(world.read(&id).await.0, None);
}
