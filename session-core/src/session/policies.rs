//! Limits per subject, own sessions, fresh log-ins, levels of assurance, tolerated outages: with a clock that stands still.

use std::{sync::Arc, time::Duration};

use super::{
    tests::{Fate, HOUR, MINUTE, Op, SECOND, Scripted, World, ada, stored_id},
    *,
};
use crate::{ErrorKind, MemoryStore, Record, SessionId, SessionStore, Subject};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn limited(limit: usize, on_limit: OnLimit) -> World {
    World::with(|builder| builder.renew_every(None).max_per_subject(limit, on_limit))
}

async fn lives(world: &World, id: &SessionId) -> bool {
    let session = world.sessions.open(Some(id.clone()));
    session.subject().await.unwrap().is_some()
}

#[tokio::test]
async fn the_oldest_log_in_makes_room_for_the_newest() {
    let world = limited(3, OnLimit::EndOldest);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.log_in().await);
        world.advance(MINUTE);
    }
    // The first logs in again: from now on the second is the oldest. No other session has to go for it.
    let session = world.sessions.open(Some(ids[0].clone()));
    session.log_in(ada()).await.unwrap();
    ids[0] = stored_id(session.commit().await.unwrap());
    for id in &ids {
        assert!(lives(&world, id).await);
    }
    world.advance(MINUTE);
    let other = world.sessions.open(None);
    other.log_in(Subject::new("grace").unwrap()).await.unwrap();
    let other = stored_id(other.commit().await.unwrap());
    let newest = world.log_in().await;
    assert!(lives(&world, &newest).await && lives(&world, &other).await);
    assert!(lives(&world, &ids[0]).await && lives(&world, &ids[2]).await);
    assert!(!lives(&world, &ids[1]).await);
}

#[tokio::test]
async fn sessions_from_before_the_limit_are_ended_at_the_next_log_in() {
    let world = World::new();
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(world.log_in().await);
        world.advance(MINUTE);
    }
    let limited = Sessions::builder(world.store.clone())
        .clock(world.clock.clone())
        .max_per_subject(2, OnLimit::EndOldest)
        .build()
        .unwrap();
    let session = limited.open(None);
    session.log_in(ada()).await.unwrap();
    let newest = stored_id(session.commit().await.unwrap());
    assert_eq!(session.sessions_of_subject().await.unwrap(), 2);
    assert!(lives(&world, &newest).await && lives(&world, &ids[5]).await);
}

/// A node whose clock is behind by more than clocks differ still lets its users in.
#[tokio::test]
async fn clock_that_is_behind_locks_nobody_out() {
    let world = limited(1, OnLimit::EndOldest);
    world.advance(HOUR);
    let first = world.log_in().await;
    world
        .clock
        .0
        .fetch_sub(60_000, std::sync::atomic::Ordering::Relaxed);
    let second = world.log_in().await;
    assert!(lives(&world, &second).await && !lives(&world, &first).await);
}

#[tokio::test]
async fn refused_log_in_leaves_session_and_handle_as_they_were() {
    let world = limited(2, OnLimit::Refuse);
    let (one, two) = (world.log_in().await, world.log_in().await);
    // A visitor with a cart, and one without anything.
    let guest = world.sessions.open(None);
    guest.insert("cart", &7_u32).await.unwrap();
    let guest = stored_id(guest.commit().await.unwrap());
    for id in [Some(guest.clone()), None] {
        let session = world.sessions.open(id.clone());
        session.insert("cart", &8_u32).await.unwrap();
        session.log_in(ada()).await.unwrap();
        let refused = session.commit().await.unwrap_err();
        assert!(
            matches!(refused, SessionError::TooManySessions { limit: 2 }),
            "{refused:?}"
        );
        assert!(!refused.is_retryable());
        assert_eq!(session.subject().await.unwrap(), None);
        let cart = id.is_some().then_some(7);
        assert_eq!(session.get::<u32>("cart").await.unwrap(), cart);
        assert!(matches!(
            session.commit().await.unwrap().client,
            ClientAction::Keep
        ));
        assert_eq!(world.store.len(), 3);
    }
    assert_eq!(world.read(&guest).await.0, Some(7));
    // Again in a session that has its place, and anew once there is one.
    let session = world.sessions.open(Some(one.clone()));
    session.log_in(ada()).await.unwrap();
    let one = stored_id(session.commit().await.unwrap());
    world.sessions.open(Some(two)).log_out().await.unwrap();
    let session = world.sessions.open(Some(guest));
    session.log_in(ada()).await.unwrap();
    assert!(lives(&world, &stored_id(session.commit().await.unwrap())).await);
    assert!(lives(&world, &one).await);
}

/// A session in the middle of its renewal has two records, and is one session.
#[tokio::test]
async fn session_that_is_being_renewed_counts_once() {
    let world = limited(2, OnLimit::Refuse);
    let id = world.log_in().await;
    let key = id.key(world.sessions.namespace());
    let stored = world.store.load(&key).await.unwrap().unwrap();
    // The first step of a renewal: the same content, one write more.
    let mut data = stored.record.data.to_vec();
    let count = 3 + 4 * 8 + 2 * 8 + 4;
    data[count] += 1;
    let end = count + 1 + 16 * usize::from(stored.record.data[count]);
    data.splice(end..end, [9; 16]);
    let record = Record {
        data: data.into(),
        ..stored.record
    };
    let fresh = SessionId::random().unwrap();
    let key = fresh.key(world.sessions.namespace());
    world.store.create(&key, &record, HOUR).await.unwrap();
    let session = world.sessions.open(Some(id));
    assert_eq!(session.own_sessions().await.unwrap().len(), 1);
    let second = world.log_in().await;
    assert!(lives(&world, &second).await);
}

#[tokio::test]
async fn limits_that_cannot_be_held_are_refused() {
    let memory = || Sessions::builder(Arc::new(MemoryStore::new()));
    let error = memory().max_per_subject(0, OnLimit::Refuse).build().unwrap_err();
    assert!(error.to_string().contains("lets nobody log in"), "{error}");
    // This store has no index by subject.
    let scripted = Sessions::builder(Scripted::new(MemoryStore::new()));
    let error = scripted
        .max_per_subject(3, OnLimit::EndOldest)
        .build()
        .unwrap_err();
    assert_eq!(error, ConfigError::NoIndexBySubject { store: "memory" });
}

#[tokio::test]
async fn user_sees_own_sessions_and_ends_one() {
    let world = World::with(|builder| builder.renew_every(None));
    let one = world.log_in().await;
    world.advance(MINUTE);
    let two = world.log_in().await;
    let other = world.sessions.open(None);
    other.log_in(Subject::new("grace").unwrap()).await.unwrap();
    let other = stored_id(other.commit().await.unwrap());
    let key = |id: &SessionId| id.key(world.sessions.namespace());

    let session = world.sessions.open(Some(one.clone()));
    let own = session.own_sessions().await.unwrap();
    let seen: Vec<_> = own.iter().map(|own| (own.key, own.is_current)).collect();
    assert_eq!(seen, [(key(&two), false), (key(&one), true)]);
    let info = session.info().await.unwrap().unwrap();
    assert_eq!(
        (own[1].created_at, own[1].authenticated_at, own[1].renewed_at),
        (info.created_at, info.authenticated_at, info.renewed_at)
    );
    // Not another's, not a made-up one, not this one.
    for key in [key(&other), key(&SessionId::random().unwrap()), key(&one)] {
        assert!(!session.end_other(&key).await.unwrap());
    }
    assert!(session.end_other(&key(&two)).await.unwrap());
    assert!(!session.end_other(&key(&two)).await.unwrap());
    assert!(lives(&world, &one).await && lives(&world, &other).await);
    assert!(!lives(&world, &two).await);
    // Nobody who is not logged in has any.
    let stranger = world.sessions.open(None);
    assert!(stranger.own_sessions().await.unwrap().is_empty());
    assert!(!stranger.end_other(&key(&one)).await.unwrap());
}

#[tokio::test]
async fn renewed_session_is_ended_by_the_key_that_was_listed() {
    let world = World::new();
    let (one, two) = (world.log_in().await, world.log_in().await);
    let session = world.sessions.open(Some(one.clone()));
    let listed = session.own_sessions().await.unwrap();
    let listed = listed.iter().find(|own| !own.is_current).unwrap().key;
    world.advance(16 * MINUTE);
    let renewed = match world.read(&two).await.1 {
        ClientAction::Store { id, .. } => id,
        other => panic!("{other:?}"),
    };
    assert!(session.end_other(&listed).await.unwrap());
    assert!(!lives(&world, &renewed).await);
}

#[tokio::test]
async fn administrator_ends_all_of_one_user() {
    let world = World::new();
    let ids = [world.log_in().await, world.log_in().await];
    let other = world.sessions.open(None);
    other.log_in(Subject::new("grace").unwrap()).await.unwrap();
    let other = stored_id(other.commit().await.unwrap());
    assert_eq!(world.sessions.log_out_subject(&ada()).await.unwrap(), 2);
    for id in &ids {
        assert!(!lives(&world, id).await);
    }
    assert!(lives(&world, &other).await);
    let without_index = Sessions::builder(Scripted::new(MemoryStore::new()))
        .build()
        .unwrap();
    let error = without_index.log_out_subject(&ada()).await.unwrap_err();
    assert_eq!(error.store_kind(), Some(ErrorKind::Unsupported));
}

#[tokio::test]
async fn log_in_is_fresh_for_a_while_and_again() {
    let world = World::with(|builder| builder.renew_every(None));
    let guest = world.sessions.open(None);
    assert!(!guest.is_fresh(Session::FRESH).await.unwrap());
    world.advance(HOUR);
    let id = world.log_in().await;
    let open = || world.sessions.open(Some(id.clone()));
    world.advance(Session::FRESH - SECOND);
    assert!(open().is_fresh(Session::FRESH).await.unwrap());
    open().require_fresh(Session::FRESH).await.unwrap();
    world.advance(SECOND);
    let stale = open().require_fresh(Session::FRESH).await.unwrap_err();
    assert!(matches!(stale, SessionError::NotFresh { within } if within == Session::FRESH));
    // A log-in from the future is a clock that is off.
    world
        .clock
        .0
        .fetch_sub(301_000, std::sync::atomic::Ordering::Relaxed);
    assert!(open().is_fresh(Session::FRESH).await.unwrap(), "within the skew");
    world
        .clock
        .0
        .fetch_sub(5_000, std::sync::atomic::Ordering::Relaxed);
    assert!(!open().is_fresh(Session::FRESH).await.unwrap());
}

/// ASVS 5.0, 7.2.4: re-authentication makes a new id and ends the old. NIST SP 800-63B-4, 5.2: it begins both lengths anew.
#[tokio::test]
async fn log_in_again_begins_both_lengths_and_the_id_anew() {
    let world = World::with(|builder| builder.renew_every(None).lengths(Lengths::new(HOUR, 2 * HOUR)));
    let old = world.log_in().await;
    world.advance(59 * MINUTE);
    let session = world.sessions.open(Some(old.clone()));
    session.log_in(ada()).await.unwrap();
    assert!(session.is_fresh(Session::FRESH).await.unwrap());
    let new = stored_id(session.commit().await.unwrap());
    assert!(!lives(&world, &old).await);
    let info = world
        .sessions
        .open(Some(new.clone()))
        .info()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(info.remaining, HOUR);
    let at = info.authenticated_at.unwrap();
    assert_eq!(at.since(info.created_at), 59 * MINUTE);
    assert_eq!(info.deadline.since(at), 2 * HOUR);
    assert_eq!(world.read(&new).await.0, Some(1));
}

#[test]
fn levels_have_their_lengths_within_nist() {
    let all = [
        (Assurance::Anonymous, 30 * MINUTE, DAY, None),
        (Assurance::Aal1, 30 * MINUTE, 12 * HOUR, Some(60 * MINUTE)),
        (Assurance::Aal1Remembered, 7 * DAY, 30 * DAY, Some(DAY)),
        (Assurance::Aal2, 30 * MINUTE, 8 * HOUR, Some(15 * MINUTE)),
        (Assurance::Aal3, 5 * MINUTE, 4 * HOUR, Some(5 * MINUTE)),
    ];
    for (level, idle, absolute, renew_every) in all {
        let lengths = Lengths::for_assurance(level);
        assert_eq!(
            (lengths.idle(), lengths.absolute()),
            (idle, absolute),
            "{level:?}"
        );
        assert!(lengths.is_within(level), "{level:?}");
        let world = World::with(|builder| builder.renew_every(HOUR * 9).assurance(level));
        assert_eq!(world.sessions.lengths(), lengths);
        assert_eq!(world.sessions.inner.renew_every, renew_every);
    }
    assert_eq!(Lengths::for_assurance(Assurance::Aal2), Lengths::default());
    for (idle, absolute, level) in [
        (HOUR, 30 * DAY + SECOND, Assurance::Aal1),
        (HOUR + SECOND, DAY, Assurance::Aal2),
        (HOUR, DAY + SECOND, Assurance::Aal2),
        (15 * MINUTE + SECOND, 12 * HOUR, Assurance::Aal3),
        (15 * MINUTE, 12 * HOUR + SECOND, Assurance::Aal3),
    ] {
        assert!(!Lengths::new(idle, absolute).is_within(level), "{level:?}");
    }
    assert!(Lengths::new(HOUR, DAY).is_within(Assurance::Aal2));
}

#[tokio::test]
async fn tolerated_outage_is_read_only_and_leaves_everything() {
    let store = Scripted::new(MemoryStore::new());
    let sessions = Sessions::builder(store.clone()).build().unwrap();
    let session = sessions.open(None);
    session.log_in(ada()).await.unwrap();
    session.insert("cart", &1_u32).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());

    store.down(true);
    let session = sessions.open(Some(id.clone()));
    session.tolerate_outage();
    session.fail_closed();
    assert!(session.subject().await.unwrap_err().is_retryable());
    assert!(!session.is_degraded());
    session.tolerate_outage();
    assert_eq!(session.get::<u32>("cart").await.unwrap(), None);
    assert!(session.is_degraded());
    assert_eq!(session.subject().await.unwrap(), None);
    assert_eq!(session.info().await.unwrap(), None);
    assert!(session.names().await.unwrap().is_empty());
    assert!(session.own_sessions().await.unwrap().is_empty());
    assert!(!session.is_fresh(Session::FRESH).await.unwrap());
    // The store comes back while the request is served: it stays what it began as.
    store.down(false);
    let key = id.key("session");
    let refused = |outcome: Result<(), SessionError>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.store_kind(), Some(ErrorKind::Unavailable), "{error:?}");
    };
    refused(session.insert("cart", &2_u32).await);
    refused(session.update("cart", |_: Option<u32>| 2).await.map(drop));
    refused(session.remove("cart").await.map(drop));
    refused(session.clear().await);
    refused(session.log_in(ada()).await);
    refused(session.log_in_for(ada(), Lengths::default()).await);
    refused(session.renew().await);
    refused(session.log_out().await);
    refused(session.log_out_everywhere().await.map(drop));
    refused(session.log_out_elsewhere().await.map(drop));
    refused(session.end_other(&key).await.map(drop));
    store.script(|op| panic!("{op:?} on a session that is not there"));
    let committed = session.commit().await.unwrap();
    assert!(matches!(committed.client, ClientAction::Keep) && committed.upkeep.is_none());
    store.script(|_| Fate::Works);
    let session = sessions.open(Some(id));
    session.tolerate_outage();
    assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(1));
    assert!(!session.is_degraded());
    // Loaded, and down from then on: as ever.
    session.insert("cart", &3_u32).await.unwrap();
    store.down(true);
    assert!(session.commit().await.unwrap_err().is_retryable());
    assert!(!session.is_degraded());
}

/// The second load of a chain fails, after the first has found a retired id: nothing of that is left.
#[tokio::test]
async fn outage_on_the_way_to_a_renewed_session_is_tolerated_too() {
    let store = Scripted::new(MemoryStore::new());
    let sessions = Sessions::builder(store.clone()).build().unwrap();
    let session = sessions.open(None);
    session.log_in(ada()).await.unwrap();
    let old = stored_id(session.commit().await.unwrap());
    let session = sessions.open(Some(old.clone()));
    session.renew().await.unwrap();
    let _new = stored_id(session.commit().await.unwrap());
    let mut loads = 0;
    store.script(move |op| {
        loads += u32::from(op == Op::Load);
        if loads == 2 {
            Fate::RequestLost
        } else {
            Fate::Works
        }
    });
    let session = sessions.open(Some(old));
    session.tolerate_outage();
    assert_eq!(session.subject().await.unwrap(), None);
    assert!(session.is_degraded());
    assert!(matches!(
        session.commit().await.unwrap().client,
        ClientAction::Keep
    ));
}

#[tokio::test]
async fn unreadable_records_are_never_tolerated() {
    let world = World::new();
    let id = world.log_in().await;
    let key = id.key(world.sessions.namespace());
    let whole = world.store.load(&key).await.unwrap().unwrap();
    let mut version = whole.version;
    for (first, kind) in [(200, ErrorKind::NewerFormat), (0, ErrorKind::Corrupt)] {
        let mut data = whole.record.data.to_vec();
        data[0] = first;
        version = world
            .store
            .update(&key, version, &Record::new(data), HOUR)
            .await
            .unwrap();
        let session = world.sessions.open(Some(id.clone()));
        session.tolerate_outage();
        assert_eq!(session.subject().await.unwrap_err().store_kind(), Some(kind));
        assert!(!session.is_degraded());
    }
}

/// Nine others have written since it was loaded: its records share no write any more, and it still takes no second place.
#[tokio::test]
async fn log_in_again_counts_once_however_often_others_wrote_meanwhile() {
    let world = limited(1, OnLimit::Refuse);
    let id = world.log_in().await;
    let session = world.sessions.open(Some(id.clone()));
    session.log_in(ada()).await.unwrap();
    for count in 0..9_u32 {
        let other = world.sessions.open(Some(id.clone()));
        other.insert("count", &count).await.unwrap();
        let _of_no_interest = other.commit().await.unwrap();
    }
    let id = stored_id(session.commit().await.unwrap());
    assert_eq!(world.read(&id).await.0, Some(1));
    let session = world.sessions.open(Some(id));
    assert_eq!(session.get::<u32>("count").await.unwrap(), Some(8));
    assert_eq!(session.own_sessions().await.unwrap().len(), 1);
}
