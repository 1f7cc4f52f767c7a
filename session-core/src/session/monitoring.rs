//! What is counted: each thing once, and the sums agree.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    tests::{Fate, HOUR, MINUTE, Op, SECOND, Scripted, World, ada, stored_id},
    *,
};
use crate::{
    MemoryStore, SessionId, SessionStore, Subject,
    metrics::recorded::{recorded, run},
};

/// The events that are counted while `work` runs, with their reasons. Without a runtime nothing waits between attempts.
fn counted(work: impl Future<Output = ()>) -> BTreeMap<String, u64> {
    let event = |name: String| name.strip_prefix("session_events_total ").unwrap().to_owned();
    recorded(work)
        .into_iter()
        .map(|(name, count)| (event(name), count))
        .collect()
}

/// Fails unless exactly this was counted, what every request does (`loaded`) aside.
#[track_caller]
fn expect(counts: &BTreeMap<String, u64>, expected: &[(&str, u64)]) {
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    let counts: Vec<_> = counts.into_iter().filter(|(name, _)| *name != "loaded").collect();
    assert_eq!(counts, expected);
}

/// Sessions on a store whose calls a test scripts, and a session there.
fn scripted() -> (Arc<Scripted>, Sessions, SessionId) {
    let store = Scripted::new(MemoryStore::new());
    let sessions = Sessions::builder(store.clone())
        .renew_every(None)
        .build()
        .unwrap();
    let session = sessions.open(None);
    let id = run(async {
        session.log_in(ada()).await.unwrap();
        stored_id(session.commit().await.unwrap())
    });
    (store, sessions, id)
}

async fn add(session: &Session) {
    session
        .update("cart", |cart: Option<u32>| cart.unwrap_or(0) + 1)
        .await
        .unwrap();
}

#[test]
fn conflict_that_is_resolved_is_counted_with_its_merge() {
    let (_, sessions, id) = scripted();
    let counts = counted(async {
        let [one, two] = [0, 1].map(|_| sessions.open(Some(id.clone())));
        add(&one).await;
        add(&two).await;
        let _ = one.commit().await.unwrap();
        let _ = two.commit().await.unwrap();
        // Nothing more is to be told.
        let _ = two.commit().await.unwrap();
        assert_eq!(two.get::<u32>("cart").await.unwrap(), Some(2));
    });
    expect(&counts, &[("conflict", 1), ("merged", 1)]);
    assert_eq!(counts["loaded"], 2);
}

#[test]
fn renewal_that_met_a_newer_state_is_a_conflict_and_a_merge() {
    let (_, sessions, id) = scripted();
    let counts = counted(async {
        let [one, two] = [0, 1].map(|_| sessions.open(Some(id.clone())));
        add(&one).await;
        add(&two).await;
        two.renew().await.unwrap();
        let _ = one.commit().await.unwrap();
        let _ = two.commit().await.unwrap();
        assert_eq!(two.get::<u32>("cart").await.unwrap(), Some(2));
    });
    expect(&counts, &[("conflict", 1), ("merged", 1), ("renewed", 1)]);
}

/// Two requests find that the time has come for a new id, and change nothing: there is nothing to merge.
#[test]
fn renewal_that_another_request_made_is_no_conflict() {
    let world = World::new();
    let id = run(world.log_in());
    world.advance(16 * MINUTE);
    let counts = counted(async {
        let [one, two] = [0, 1].map(|_| world.sessions.open(Some(id.clone())));
        for session in [&one, &two] {
            assert!(session.subject().await.unwrap().is_some());
        }
        let _ = stored_id(one.commit().await.unwrap());
        assert!(matches!(two.commit().await.unwrap().client, ClientAction::Keep));
    });
    expect(&counts, &[("renewed", 1)]);
}

#[test]
fn conflict_is_counted_as_gone_if_the_session_ended_meanwhile() {
    let (store, sessions, id) = scripted();
    let counts = counted(async {
        let [one, two] = [0, 1].map(|_| sessions.open(Some(id.clone())));
        add(&one).await;
        add(&two).await;
        let _ = one.commit().await.unwrap();
        let end = sessions.open(Some(id.clone()));
        let deleted = store.clone();
        let key = id.key("session");
        store.interlude(async move { assert!(deleted.delete(&key, None).await.unwrap()) });
        store.script(|op| {
            if op == Op::Load {
                Fate::Overtaken
            } else {
                Fate::Works
            }
        });
        assert!(matches!(two.commit().await, Err(SessionError::Gone)));
        assert!(end.subject().await.unwrap().is_none());
    });
    expect(&counts, &[("conflict", 1), ("gone", 1), ("unknown_id", 1)]);
}

#[test]
fn commit_after_a_log_out_is_gone_without_a_conflict() {
    let (_, sessions, id) = scripted();
    let counts = counted(async {
        let late = sessions.open(Some(id.clone()));
        add(&late).await;
        sessions.open(Some(id.clone())).log_out().await.unwrap();
        assert!(matches!(late.commit().await, Err(SessionError::Gone)));
    });
    expect(&counts, &[("destroyed logout", 1), ("gone", 1)]);
}

#[test]
fn commit_that_others_overtake_every_time_is_one_conflict_and_contended() {
    let (store, sessions, id) = scripted();
    let counts = counted(async {
        let session = sessions.open(Some(id.clone()));
        add(&session).await;
        let (key, inner) = (id.key("session"), store.memory());
        let overtaken = store.clone();
        store.script(move |op| {
            if op != Op::Update {
                return Fate::Works;
            }
            let inner = inner.clone();
            overtaken.interlude(async move {
                let stored = inner.load(&key).await.unwrap().unwrap();
                inner
                    .update(&key, stored.version, &stored.record, HOUR)
                    .await
                    .unwrap();
            });
            Fate::Overtaken
        });
        assert!(matches!(
            session.commit().await,
            Err(SessionError::Contended { .. })
        ));
    });
    expect(&counts, &[("conflict", 1), ("contended", 1)]);
}

#[test]
fn commit_that_fails_after_a_conflict_says_why() {
    let (store, sessions, id) = scripted();
    let counts = counted(async {
        let [one, two] = [0, 1].map(|_| sessions.open(Some(id.clone())));
        add(&one).await;
        add(&two).await;
        let _ = one.commit().await.unwrap();
        store.script(|op| {
            if op == Op::Load {
                Fate::RequestLost
            } else {
                Fate::Works
            }
        });
        assert!(two.commit().await.unwrap_err().is_retryable());
    });
    expect(&counts, &[("commit_failed unavailable", 1), ("conflict", 1)]);
}

/// The write had arrived: the conflict that its repetition meets is with itself.
#[test]
fn write_whose_reply_was_lost_is_no_conflict() {
    let (store, sessions, id) = scripted();
    let counts = counted(async {
        let session = sessions.open(Some(id.clone()));
        add(&session).await;
        let mut fates = vec![Fate::ReplyLost];
        store.script(move |op| match op {
            Op::Update => fates.pop().unwrap_or(Fate::Works),
            _ => Fate::Works,
        });
        let _ = session.commit().await.unwrap();
        let session = sessions.open(Some(id.clone()));
        assert_eq!(session.get::<u32>("cart").await.unwrap(), Some(1));
    });
    expect(&counts, &[]);
}

#[test]
fn log_out_is_counted_once_whatever_became_of_its_reply() {
    for fates in [
        vec![],
        vec![Fate::ReplyLost],
        vec![Fate::RequestLost],
        vec![Fate::RequestLost, Fate::ReplyLost],
    ] {
        let (store, sessions, id) = scripted();
        let counts = counted(async {
            let [one, two] = [0, 1].map(|_| sessions.open(Some(id.clone())));
            for session in [&one, &two] {
                assert!(session.subject().await.unwrap().is_some());
            }
            let mut fates = fates.into_iter();
            store.script(move |op| match op {
                Op::Delete => fates.next().unwrap_or(Fate::Works),
                _ => Fate::Works,
            });
            one.log_out().await.unwrap();
            // Again, and in another request that had loaded it before: nothing is left to end.
            one.log_out().await.unwrap();
            two.log_out().await.unwrap();
        });
        expect(&counts, &[("destroyed logout", 1)]);
    }
}

#[test]
fn each_session_that_is_ended_is_counted_with_the_reason() {
    let world = World::with(|builder| builder.renew_every(None).max_per_subject(4, OnLimit::EndOldest));
    let counts = counted(async {
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(world.log_in().await);
            world.advance(SECOND);
        }
        let open = |id: &SessionId| world.sessions.open(Some(id.clone()));
        let last = open(&ids[4]);
        let other = last.own_sessions().await.unwrap()[3].key;
        assert!(last.end_other(&other).await.unwrap());
        assert!(!last.end_other(&other).await.unwrap());
        assert_eq!(last.log_out_elsewhere().await.unwrap(), 2);
        assert_eq!(last.log_out_elsewhere().await.unwrap(), 0);
        let mut ids = vec![world.log_in().await, world.log_in().await];
        assert_eq!(open(&ids.pop().unwrap()).log_out_everywhere().await.unwrap(), 3);
        let _ = world.log_in().await;
        assert_eq!(world.sessions.log_out_subject(&ada()).await.unwrap(), 1);
        assert_eq!(world.sessions.log_out_subject(&ada()).await.unwrap(), 0);
    });
    let destroyed: u64 = ["admin", "elsewhere", "everywhere", "limit"]
        .iter()
        .map(|reason| counts[&format!("destroyed {reason}")])
        .sum();
    assert_eq!(counts["created"], destroyed, "nothing is left");
    expect(
        &counts,
        &[
            ("created", 8),
            ("destroyed admin", 1),
            ("destroyed elsewhere", 3),
            ("destroyed everywhere", 3),
            ("destroyed limit", 1),
            ("too_many_sessions", 1),
        ],
    );
}

#[test]
fn each_id_that_a_client_presents_is_counted_once() {
    let world = World::with(|builder| {
        builder
            .on_retired_id(RetiredIdPolicy::EndSession)
            .lengths(Lengths::new(30 * MINUTE, HOUR))
    });
    let counts = counted(async {
        let read = async |id: &SessionId| {
            world.read(id).await;
        };
        read(&SessionId::random().unwrap()).await;
        let first = world.log_in().await;
        read(&first).await;
        world.advance(16 * MINUTE);
        let ClientAction::Store { id: second, .. } = world.read(&first).await.1 else {
            panic!()
        };
        // Within its grace the old id still reaches the session.
        read(&first).await;
        read(&second).await;
        world.advance(31 * SECOND);
        // A copy of the old id: refused, and the session is ended for everybody.
        read(&first).await;
        read(&second).await;
        read(&first).await;
        // A log-out under the new id leaves what the old one was retired to.
        let third = world.log_in().await;
        world.advance(16 * MINUTE);
        let ClientAction::Store { id: fourth, .. } = world.read(&third).await.1 else {
            panic!()
        };
        world.sessions.open(Some(fourth)).log_out().await.unwrap();
        read(&third).await;
    });
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(
        of("loaded") + of("unknown_id") + of("stale_id") + of("retired_id") + of("expired"),
        11
    );
    expect(
        &counts,
        &[
            ("created", 2),
            ("destroyed logout", 1),
            ("destroyed theft", 1),
            ("renewed", 2),
            ("retired_id", 1),
            ("stale_id", 1),
            ("unknown_id", 3),
        ],
    );
}

#[test]
fn session_at_its_absolute_end_is_expired_and_not_unknown() {
    let world = World::new();
    let counts = counted(async {
        let id = world.log_in().await;
        // The application's clock alone goes on: the record is still there.
        let ahead = Arc::new(interleavings::StillClock::default());
        ahead.0.store(9 * 3_600_000, Relaxed);
        let sessions = Sessions::builder(world.store.clone())
            .clock(ahead)
            .build()
            .unwrap();
        assert_eq!(sessions.open(Some(id)).subject().await.unwrap(), None);
    });
    expect(&counts, &[("created", 1), ("expired", 1)]);
}

#[test]
fn burst_of_unknown_ids_is_reported_once_a_minute() {
    let world = World::with(|builder| builder.unknown_ids_burst(10));
    let burst = async |ids: u32| {
        for _ in 0..ids {
            let stranger = world.sessions.open(SessionId::random().ok());
            assert_eq!(stranger.subject().await.unwrap(), None);
        }
    };
    expect(&counted(burst(10)), &[("unknown_id", 10)]);
    expect(
        &counted(burst(10)),
        &[("unknown_id", 10), ("unknown_ids_burst", 1)],
    );
    world.advance(59 * SECOND);
    expect(&counted(burst(10)), &[("unknown_id", 10)]);
    world.advance(SECOND);
    expect(
        &counted(burst(11)),
        &[("unknown_id", 11), ("unknown_ids_burst", 1)],
    );
}

#[test]
fn changed_client_is_reported_once_a_request() {
    let world = World::new();
    let id = run(async {
        let session = world.sessions.open_for(None, Some([1; 8]));
        session.insert("cart", &1_u32).await.unwrap();
        stored_id(session.commit().await.unwrap())
    });
    let counts = counted(async {
        for client in [Some([2; 8]), Some([1; 8]), None, Some([2; 8])] {
            let session = world.sessions.open_for(Some(id.clone()), client);
            add(&session).await;
            let _ = session.commit().await.unwrap();
            let _ = session.client_changed().await.unwrap();
        }
    });
    expect(&counts, &[("client_changed", 2)]);
}

#[test]
fn log_in_that_is_refused_is_no_session() {
    let world = World::with(|builder| builder.max_per_subject(1, OnLimit::Refuse));
    let counts = counted(async {
        let _ = world.log_in().await;
        let session = world.sessions.open(None);
        session.log_in(ada()).await.unwrap();
        assert!(session.commit().await.is_err());
        let grace = world.sessions.open(None);
        grace.log_in(Subject::new("grace").unwrap()).await.unwrap();
        let _ = grace.commit().await.unwrap();
    });
    expect(
        &counts,
        &[
            ("commit_failed too_many_sessions", 1),
            ("created", 2),
            ("too_many_sessions", 1),
        ],
    );
}

#[test]
fn names_of_events_are_words_and_each_is_there_once() {
    let mut names: Vec<_> = EVENTS.iter().map(|event| event.name).collect();
    assert!(
        names
            .iter()
            .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), EVENTS.len());
}
