//! The removal of expired records.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore};

use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{Answer, ensure, same},
    table::table,
};

table! { "sweep":
    sweep_removes_expired_and_only_expired: needs Sweep;
    sweep_is_bounded: needs Sweep;
    concurrent_sweepers_do_not_collide: needs Sweep;
    session_touched_during_a_sweep_survives: needs Sweep;
}

async fn sweep(store: &Arc<dyn SessionStore>, max: usize) -> Result<usize, Stop> {
    Ok(store
        .sweep()
        .ok_or(Stop::Unsupported)?
        .remove_expired(max)
        .await?)
}

/// Creates so many sessions and waits for their end.
async fn expire(cx: &Cx, sessions: usize) -> Result<Vec<SessionKey>, Stop> {
    let keys = cx.keys(sessions);
    for key in &keys {
        cx.store()
            .create(key, &Record::new("old").with_subject(cx.subject()), cx.short())
            .await?;
    }
    cx.ended(Instant::now(), cx.short()).await;
    Ok(keys)
}

/// A sweep removes every expired record once, tells how many, and none that is live, however short its rest; then
/// there is nothing left to remove.
async fn sweep_removes_expired_and_only_expired(cx: Cx) -> Verdict {
    let store = cx.store();
    store.sweep().ok_or(Stop::Unsupported)?;
    let live = cx.keys(30);
    for (at, key) in live.iter().enumerate() {
        // From half a minute to years.
        let ttl = Duration::from_secs(30) * (1 << at.min(20));
        store
            .create(key, &Record::new("live"), ttl.min(cx.limits().max_ttl))
            .await?;
    }
    let expired = expire(&cx, 40).await?;
    same(
        "remove_expired(1000) with 40 expired",
        sweep(&store, 1_000).await?,
        expired.len(),
    )?;
    same("remove_expired again", sweep(&store, 1_000).await?, 0)?;
    for key in &live {
        let seen = store.load(key).await.answer().map(|stored| stored.is_some());
        same("load of a live session after a sweep", seen, Ok(true))?;
    }
    Ok(())
}

/// A sweep removes at most as many as it is told, down to none, and what it left is found by the next ones.
async fn sweep_is_bounded(cx: Cx) -> Verdict {
    let store = cx.store();
    store.sweep().ok_or(Stop::Unsupported)?;
    expire(&cx, 25).await?;
    same("remove_expired(0)", sweep(&store, 0).await?, 0)?;
    let mut removed = Vec::new();
    while removed.len() < 30 {
        let count = sweep(&store, 7).await?;
        ensure(count <= 7, || {
            format!("remove_expired(7)\nexpected: 7 at most\nseen: {count}")
        })?;
        if count == 0 {
            break;
        }
        removed.push(count);
    }
    same(
        format!("records removed by {removed:?} with 25 expired"),
        removed.iter().sum::<usize>(),
        25,
    )
}

/// Sweepers on several nodes at once fail none, wait for none for ever, and count each record once between them.
async fn concurrent_sweepers_do_not_collide(cx: Cx) -> Verdict {
    const SESSIONS: usize = 200;
    const SWEEPERS: usize = 8;
    cx.store().sweep().ok_or(Stop::Unsupported)?;
    expire(&cx, SESSIONS).await?;
    let nodes = cx.nodes(4).await?;
    let counts = callers(SWEEPERS, |caller| {
        let node = nodes[caller % nodes.len()].clone();
        async move {
            let mut removed = 0;
            loop {
                match sweep(&node, 9).await? {
                    0 => return Ok(removed),
                    count => removed += count,
                }
            }
        }
    })
    .await?;
    // One that met nothing free ended early; what it passed over is found now.
    let rest = sweep(&cx.store(), SESSIONS).await?;
    same(
        format!("records removed by {counts:?} and then {rest}"),
        counts.iter().sum::<usize>() + rest,
        SESSIONS,
    )
}

/// While sweepers run all the time, a session whose `touch` or `update` succeeded just before its end lives on, and
/// so does one that is created anew on a key whose last session has just ended.
async fn session_touched_during_a_sweep_survives(cx: Cx) -> Verdict {
    const SESSIONS: usize = 120;
    const SWEEPERS: usize = 2;
    cx.store().sweep().ok_or(Stop::Unsupported)?;
    let (nodes, done) = (cx.nodes(2).await?, Arc::new(AtomicBool::new(false)));
    let sweepers = callers(SWEEPERS, |caller| {
        let (node, done) = (nodes[caller % 2].clone(), Arc::clone(&done));
        async move {
            while !done.load(Ordering::Relaxed) {
                sweep(&node, 100).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        }
    });
    let sessions = async {
        let lives = callers(SESSIONS, |caller| {
            let (node, cx) = (nodes[caller % 2].clone(), cx.clone());
            async move { near_the_end(&cx, &node, caller).await }
        })
        .await;
        done.store(true, Ordering::Relaxed);
        lives
    };
    let (swept, lives) = tokio::join!(sweepers, sessions);
    swept?;
    for (how, key) in lives?.into_iter().flatten() {
        let seen = cx
            .store()
            .load(&key)
            .await
            .answer()
            .map(|stored| stored.is_some());
        same(
            format!("load of a session that was {how} during sweeps"),
            seen,
            Ok(true),
        )?;
    }
    Ok(())
}

/// A session that is touched, updated or created anew around its end: how, if that succeeded.
async fn near_the_end(
    cx: &Cx,
    store: &Arc<dyn SessionStore>,
    caller: usize,
) -> Result<Option<(&'static str, SessionKey)>, Stop> {
    let (key, record) = (cx.key(), Record::new("data"));
    // One after the other, so that each meets a sweep at another of its steps.
    let ttl = cx.short() + Duration::from_millis(5 * caller as u64);
    let begun = Instant::now();
    let version = store.create(&key, &record, ttl).await?;
    // From 5 ms before the end to 7 ms after it.
    let moment = begun + ttl + Duration::from_micros(500 * (caller as u64 % 24)) - Duration::from_millis(5);
    tokio::time::sleep_until(moment.into()).await;
    let answer = match caller % 4 {
        0 => ("touched", store.touch(&key, Cx::LONG).await),
        1 => (
            "updated",
            store.update(&key, version, &record, Cx::LONG).await.map(drop),
        ),
        // `AlreadyExists` until the end; then the first try that succeeds is the moment.
        _ => loop {
            match store.create(&key, &record, Cx::LONG).await {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => tokio::task::yield_now().await,
                answer => break ("created anew", answer.map(drop)),
            }
        },
    };
    match answer {
        (how, Ok(())) => Ok(Some((how, key))),
        (_, Err(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        (_, Err(error)) => Err(error.into()),
    }
}
