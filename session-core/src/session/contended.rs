//! Many requests that write one session at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::{
    ClientAction, Session, SessionError, Sessions,
    interleavings::StillClock,
    tests::{Fate, Op, Scripted, ada, add_one, count, counter, stored_id},
};
use crate::{MemoryStore, SessionId, SessionStore};

const LATENCY: Duration = Duration::from_millis(1);

/// Nodes on one store, whose calls take their time.
fn nodes<const N: usize>() -> (Arc<Scripted>, [Sessions; N]) {
    let store = Scripted::new(MemoryStore::new());
    store.latency(LATENCY);
    let nodes = [(); N].map(|()| Sessions::builder(store.clone()).build().unwrap());
    (store, nodes)
}

/// # Errors
///
/// `Gone`, too, where the session has ended before it was loaded.
async fn increment(sessions: &Sessions, id: &SessionId) -> Result<(), SessionError> {
    let session = sessions.open(Some(id.clone()));
    if session.get::<u32>("count").await?.is_none() {
        return Err(SessionError::Gone);
    }
    add_one(&session).await;
    session.commit().await.map(drop)
}

/// Counts the calls of the store from now on.
fn calls(store: &Scripted) -> Arc<AtomicU32> {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    store.script(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Fate::Works
    });
    calls
}

#[tokio::test(start_paused = true)]
async fn writers_of_one_process_hardly_ask_twice() {
    const CALLERS: u32 = 16;
    const EACH: u32 = 25;
    let (store, [sessions]) = nodes();
    let id = counter(&sessions).await;
    let calls = calls(&store);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (sessions, id) = (sessions.clone(), id.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment(&sessions, &id).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let (calls, all) = (calls.load(Ordering::Relaxed), CALLERS * EACH);
    assert_eq!(count(&sessions, &id).await, Some(1 + all));
    // To load and to write are two; and each fifth asks again.
    assert!(calls <= all * 5 / 2, "{calls} calls for {all} increments");
    let queues = format!("{:?}", sessions.inner.turns);
    assert_eq!(queues, "Turns(0)", "nobody waits any more");
}

/// Sixteen that write a session all the time, and how many writes they had acknowledged when `ended` was set, or the session was gone.
fn busy(sessions: &Sessions, id: &SessionId, ended: &Arc<AtomicBool>) -> JoinSet<u32> {
    let caller = |_| {
        let (sessions, id, ended) = (sessions.clone(), id.clone(), ended.clone());
        async move {
            let mut done = 0;
            while !ended.load(Ordering::Relaxed) {
                match increment(&sessions, &id).await {
                    Ok(()) => done += 1,
                    Err(SessionError::Gone) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            done
        }
    };
    (0..16).map(caller).collect()
}

/// However many write it on one node, a writer alone on another comes through.
#[tokio::test(start_paused = true)]
async fn others_write_too() {
    let (_store, [here, elsewhere]) = nodes();
    let id = counter(&here).await;
    let ended = Arc::new(AtomicBool::new(false));
    let callers = busy(&here, &id, &ended);
    let (begun, mut added) = (Instant::now(), 0);
    for node in [&elsewhere, &here] {
        for _ in 0..25 {
            // By bad luck all attempts of one may be too late.
            while let Err(error) = increment(node, &id).await {
                assert!(matches!(error, SessionError::Contended { .. }), "{error}");
                assert!(begun.elapsed() < Duration::from_secs(10));
            }
            added += 1;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    ended.store(true, Ordering::Relaxed);
    added += callers.join_all().await.iter().sum::<u32>();
    assert_eq!(count(&here, &id).await, Some(1 + added));
}

#[tokio::test(start_paused = true)]
async fn log_out_comes_through() {
    let (_store, [here, elsewhere]) = nodes();
    for node in [&here, &elsewhere] {
        let id = counter(&here).await;
        let callers = busy(&here, &id, &Arc::default());
        tokio::time::sleep(20 * LATENCY).await;
        let session = node.open(Some(id.clone()));
        let mut tries = 1;
        while let Err(error) = session.log_out().await {
            assert!(
                matches!(error, SessionError::Contended { .. }) && tries < 5,
                "{error}"
            );
            tries += 1;
        }
        callers.join_all().await;
        assert_eq!(count(&here, &id).await, None);
    }
}

/// A new id takes three round trips in which nobody else writes. On the same node it has its turn.
#[tokio::test(start_paused = true)]
async fn new_id_comes_through() {
    let (_store, [here]) = nodes();
    let id = counter(&here).await;
    let callers = busy(&here, &id, &Arc::default());
    tokio::time::sleep(20 * LATENCY).await;
    let session = here.open(Some(id.clone()));
    session.insert("elevated", &true).await.unwrap();
    session.renew().await.unwrap();
    let new = stored_id(session.commit().await.unwrap());
    let added = callers.join_all().await.iter().sum::<u32>();
    assert_eq!(count(&here, &new).await, Some(1 + added));
}

/// Whose store does not answer holds nobody up for longer than a moment.
#[tokio::test(start_paused = true)]
async fn nobody_waits_long_behind_a_call_that_hangs() {
    let (store, [sessions]) = nodes();
    let id = counter(&sessions).await;
    let [first, hangs, waits] = [0, 1, 2].map(|_| sessions.open(Some(id.clone())));
    for session in [&first, &hangs, &waits] {
        add_one(session).await;
    }
    let _ = first.commit().await.unwrap();
    let mut updates = 0;
    store.script(move |op| {
        updates += u32::from(op == Op::Update);
        match (op, updates) {
            // The first meets the conflict.
            (Op::Update, 2) => Fate::Hangs,
            _ => Fate::Works,
        }
    });
    let hanging = tokio::spawn(async move { hangs.commit().await });
    tokio::time::sleep(20 * LATENCY).await;
    let begun = Instant::now();
    let _ = waits.commit().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(count(&sessions, &id).await, Some(4));
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    assert_eq!(format!("{:?}", sessions.inner.turns), "Turns(0)");
}

/// Each of those that come late for a renewal finds so out by itself.
#[tokio::test(start_paused = true)]
async fn renewal_that_is_due_makes_no_queue() {
    const REQUESTS: u32 = 40;
    let clock = Arc::new(StillClock::default());
    let store = Scripted::new(MemoryStore::builder().clock(clock.clone()).build().unwrap());
    store.latency(LATENCY);
    let sessions = Sessions::builder(store).clock(clock.clone()).build().unwrap();
    let session = sessions.open(None);
    session.log_in(ada()).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());
    clock.0.fetch_add(20 * 60_000, Ordering::Relaxed);
    let begun = Instant::now();
    let requests: JoinSet<_> = (0..REQUESTS)
        .map(|_| {
            let (sessions, id) = (sessions.clone(), id.clone());
            async move {
                let session = sessions.open(Some(id));
                assert_eq!(session.subject().await.unwrap(), Some(ada()));
                let committed = session.commit().await.unwrap();
                matches!(committed.client, ClientAction::Store { .. })
            }
        })
        .collect();
    let renewed = requests.join_all().await.into_iter().filter(|renewed| *renewed);
    assert_eq!(renewed.count(), 1);
    // To load, to create, to retire, to follow (two) and to delete.
    assert!(begun.elapsed() <= 20 * LATENCY, "{:?}", begun.elapsed());
}

/// What the handler sees was made of an older state: that the newest one happens to look the same says nothing.
#[tokio::test(start_paused = true)]
async fn commit_that_was_contended_may_be_repeated() {
    let store = Scripted::new(MemoryStore::new());
    let [sessions, others] = [store.clone() as Arc<dyn SessionStore>, store.memory()]
        .map(|store| Sessions::builder(store).build().unwrap());
    let session = sessions.open(None);
    session.insert("lit", &false).await.unwrap();
    let id = stored_id(session.commit().await.unwrap());

    let flip = async |session: &Session| {
        let flipped = session.update("lit", |lit: Option<bool>| !lit.unwrap_or_default());
        flipped.await.unwrap();
    };
    let session = sessions.open(Some(id.clone()));
    flip(&session).await;
    let overtaken = store.clone();
    let other = (others.clone(), id.clone());
    store.script(move |op| {
        if op != Op::Update {
            return Fate::Works;
        }
        let (others, id) = other.clone();
        overtaken.interlude(async move {
            let session = others.open(Some(id));
            flip(&session).await;
            let _ = session.commit().await.unwrap();
        });
        Fate::Overtaken
    });
    let contended = session.commit().await;
    let Err(SessionError::Contended { attempts }) = contended else {
        panic!("{contended:?}");
    };
    store.down(false);
    let _ = session.commit().await.unwrap();
    let lit = others.open(Some(id)).get::<bool>("lit").await.unwrap();
    assert_eq!(lit, Some(attempts % 2 == 0), "one more than {attempts} flips");
}

/// What one request's token holds is no hint for another's, whose store is its own.
#[test]
fn tokens_of_two_requests_share_no_turns() {
    let (store, [sessions]) = nodes();
    let [one, other] = [(); 2].map(|()| sessions.carried(store.clone()));
    assert!(!Arc::ptr_eq(&one.inner.turns, &other.inner.turns));
    assert!(!Arc::ptr_eq(&one.inner.turns, &sessions.inner.turns));
}
