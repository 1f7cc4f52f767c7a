//! Lives on a server whose clock is not the client's.

use std::time::{Duration, Instant};

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Timestamp};

use super::TICK;
use crate::{
    Cx, Skew, Verdict,
    expect::{Answer, ensure, refused, same},
};

/// Where the server's clock is an hour ahead of the client's, and where it is an hour behind, a session lives its ttl and
/// ends within the granularity, after `create`, `touch` and `update`; `load` tells its rest and its `not_after` as it was
/// written; a sweep removes what has ended and nothing else, and `list` has what lives.
///
/// Catches a store that has an end from one clock and compares it with another.
pub(super) async fn session_lives_its_ttl_whatever_the_servers_clock_says(cx: Cx) -> Verdict {
    tokio::try_join!(is_right(&cx, Skew::Ahead), is_right(&cx, Skew::Behind)).map(drop)
}

async fn is_right(cx: &Cx, by: Skew) -> Verdict {
    let clock = match by {
        Skew::Ahead => "while the server's clock is ahead",
        Skew::Behind => "while the server's clock is behind",
    };
    let store = cx.skewed(by).await?;
    let (short, longer) = (cx.short(), Cx::LONG * 2);
    // A life that is made longer before it ends, on a machine that is busy too.
    let first = short + Duration::from_secs(2);
    let subject = cx.subject();
    let record = Record::new("data")
        .with_subject(subject.clone())
        .with_not_after(Timestamp::from_millis(4_000_000_000_000));
    let [lives, ends, shortened, touched, updated] = [(); 5].map(|()| cx.key());

    store.create(&lives, &record, Cx::LONG).await?;
    let seen = store.load(&lives).await?.map(|stored| stored.record);
    same(format!("load {clock}"), seen, Some(record.clone()))?;
    has_left(cx, &*store, &lives, Cx::LONG, clock).await?;

    store.create(&shortened, &record, Cx::LONG).await?;
    let version = store.create(&updated, &record, first).await?;
    store.update(&updated, version, &record, longer).await?;
    has_left(cx, &*store, &updated, longer, clock).await?;
    store.create(&touched, &record, first).await?;
    store.touch(&touched, longer).await?;
    has_left(cx, &*store, &touched, longer, clock).await?;
    let lengthened = Instant::now();

    store.touch(&shortened, short).await?;
    let begun = Instant::now();
    let version = store.create(&ends, &record, short).await?;
    loop {
        let seen = store.load(&ends).await?;
        // What is answered later may be of either kind.
        if begun.elapsed() + TICK >= short {
            break;
        }
        ensure(seen.is_some(), || {
            format!("load {clock}, in the session's life of {short:?}\nexpected: it\nseen: None")
        })?;
        tokio::time::sleep(short / 20).await;
    }
    cx.ended(Instant::now(), short).await;
    for key in [&ends, &shortened] {
        let seen = store.load(key).await.answer();
        same(
            format!("load {clock}, of a session that has ended"),
            seen,
            Ok(None),
        )?;
    }
    refused(
        format!("update {clock}, of a session that has ended"),
        store.update(&ends, version, &record, Cx::LONG).await,
        ErrorKind::NotFound,
    )?;
    cx.ended(lengthened, first).await;
    let mut live = [lives, touched, updated];
    live.sort_unstable();
    if let Some(subjects) = store.subjects() {
        let mut seen = subjects.list(&subject).await?;
        seen.sort_unstable();
        same(format!("list {clock}"), seen, live.to_vec())?;
    }
    if let Some(sweep) = store.sweep() {
        let seen = sweep.remove_expired(1_000).await.answer();
        same(format!("remove_expired {clock}"), seen, Ok(2))?;
    }
    for key in &live {
        let seen = store.load(key).await?.map(|stored| stored.record);
        same(
            format!("load {clock}, of a live session in the end"),
            seen,
            Some(record.clone()),
        )?;
    }
    Ok(())
}

/// What `load` tells of a life that was set to `ttl` a moment ago.
async fn has_left(
    cx: &Cx,
    store: &dyn SessionStore,
    key: &SessionKey,
    ttl: Duration,
    clock: &str,
) -> Verdict {
    let seen = store.load(key).await?.map(|stored| stored.remaining);
    // A minute is more than this guarantee takes.
    let right = ttl.saturating_sub(Duration::from_secs(60))..=cx.most(ttl);
    ensure(seen.is_some_and(|seen| right.contains(&seen)), || {
        format!("remaining {clock}, of {ttl:?}\nexpected: {right:?}\nseen: {seen:?}")
    })
}
