//! A session ends when its life is over: not before, and not later.

mod skewed;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use session_core::{ErrorKind, Record, SessionKey, Version};

use self::skewed::session_lives_its_ttl_whatever_the_servers_clock_says;
use crate::{
    Cx, Stop, Verdict,
    expect::{Answer, ensure, loads, refused, refused_as, same},
    table::table,
};

table! { "expiry":
    expired_session_is_not_loaded;
    expired_session_is_not_updated;
    expired_session_is_not_touched;
    expired_session_is_not_listed: needs Subjects;
    session_lives_its_whole_ttl;
    session_ends_within_the_declared_granularity;
    load_does_not_extend_life;
    load_tells_the_remaining_life;
    touch_sets_the_remaining_life;
    update_sets_a_new_ttl;
    touch_changes_neither_data_nor_version;
    touch_of_an_absent_session_creates_nothing;
    update_never_leaves_a_session_without_an_end;
    ttl_below_the_shortest_lives_the_shortest;
    thirty_one_day_ttl_is_a_length_not_a_date;
    ten_year_ttl_is_kept_or_refused;
    ttl_past_2038_is_kept_or_refused;
    zero_ttl_is_refused;
    session_lives_its_ttl_whatever_the_servers_clock_says;
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Servers count in milliseconds and begin a call within one: an end may seem that much early.
const TICK: Duration = Duration::from_millis(10);

/// A session that ended, and its last version.
async fn ended(cx: &Cx, record: &Record) -> Result<(SessionKey, Version), Stop> {
    let key = cx.key();
    let version = cx.store().create(&key, record, cx.short()).await?;
    cx.ended(Instant::now(), cx.short()).await;
    Ok((key, version))
}

/// `load` of a session whose life is over is `None`, whether or not its row is still there.
async fn expired_session_is_not_loaded(cx: Cx) -> Verdict {
    let (key, _) = ended(&cx, &Record::new("data")).await?;
    same("load(expired)", cx.store().load(&key).await.answer(), Ok(None))
}

/// `update` of a session whose life is over is `NotFound`, even with its version, and brings nothing back.
async fn expired_session_is_not_updated(cx: Cx) -> Verdict {
    let (key, version) = ended(&cx, &Record::new("data")).await?;
    let seen = cx
        .store()
        .update(&key, version, &Record::new("new"), Cx::LONG)
        .await;
    refused("update(expired)", seen, ErrorKind::NotFound)?;
    same("load after it", cx.store().load(&key).await.answer(), Ok(None))
}

/// `touch` of a session whose life is over is `NotFound`, and brings nothing back.
async fn expired_session_is_not_touched(cx: Cx) -> Verdict {
    let (key, _) = ended(&cx, &Record::new("data")).await?;
    refused(
        "touch(expired)",
        cx.store().touch(&key, Cx::LONG).await,
        ErrorKind::NotFound,
    )?;
    same("load after it", cx.store().load(&key).await.answer(), Ok(None))
}

/// A session whose life is over is not among its subject's, and is not counted when they are deleted.
async fn expired_session_is_not_listed(cx: Cx) -> Verdict {
    let store = cx.store();
    let subjects = store.subjects().ok_or(Stop::Unsupported)?;
    let subject = cx.subject();
    let record = Record::new("data").with_subject(subject.clone());
    let live = cx.key();
    store.create(&live, &record, Cx::LONG).await?;
    ended(&cx, &record).await?;
    same("list", subjects.list(&subject).await.answer(), Ok(vec![live]))?;
    same(
        "delete_all",
        subjects.delete_all(&subject, None).await.answer(),
        Ok(1),
    )
}

/// Until its ttl has passed, a session is loaded: after `create`, after `update` and after `touch`, and for lengths
/// that are no whole number of seconds.
async fn session_lives_its_whole_ttl(cx: Cx) -> Verdict {
    let (store, record) = (cx.store(), Record::new("data"));
    let ttl = cx.short() + Duration::from_millis(900);
    let below = cx.limits().min_ttl.max(Duration::from_millis(700));
    let mut sessions = Vec::new();
    for ttl in [ttl, below] {
        let key = cx.key();
        sessions.push(("create", key, Instant::now(), ttl));
        store.create(&key, &record, ttl).await?;

        let key = cx.key();
        let version = store.create(&key, &record, Cx::LONG).await?;
        sessions.push(("update", key, Instant::now(), ttl));
        store.update(&key, version, &record, ttl).await?;

        let key = cx.key();
        store.create(&key, &record, Cx::LONG).await?;
        sessions.push(("touch", key, Instant::now(), ttl));
        store.touch(&key, ttl).await?;
    }
    while !sessions.is_empty() {
        for (write, key, begun, ttl) in &sessions {
            let seen = store.load(key).await?;
            // Only an answer that is here before the end can be judged: the machine may have been busy.
            let age = begun.elapsed();
            ensure(seen.is_some() || age + TICK >= *ttl, || {
                format!("load {age:?} after {write} with a ttl of {ttl:?}\nexpected: the session\nseen: None")
            })?;
        }
        sessions.retain(|(_, _, begun, ttl)| begun.elapsed() + TICK < *ttl);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    Ok(())
}

/// Once its ttl and the declared granularity have passed, a session is gone: after `create`, `update` and `touch`.
async fn session_ends_within_the_declared_granularity(cx: Cx) -> Verdict {
    let (store, record) = (cx.store(), Record::new("data"));
    let ttl = cx.short() + Duration::from_millis(300);
    let (created, updated, touched) = (cx.key(), cx.key(), cx.key());
    store.create(&created, &record, ttl).await?;
    let version = store.create(&updated, &record, Cx::LONG).await?;
    store.update(&updated, version, &record, ttl).await?;
    store.create(&touched, &record, Cx::LONG).await?;
    store.touch(&touched, ttl).await?;
    cx.ended(Instant::now(), ttl).await;
    let granularity = cx.limits().granularity;
    for (write, key) in [("create", created), ("update", updated), ("touch", touched)] {
        let call =
            format!("load after {write} with a ttl of {ttl:?}, which and {granularity:?} more have passed");
        same(call, store.load(&key).await.answer(), Ok(None))?;
    }
    Ok(())
}

/// A session that is loaded all the time ends when it would have ended.
async fn load_does_not_extend_life(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    store.create(&key, &Record::new("data"), cx.short()).await?;
    let acknowledged = Instant::now();
    while acknowledged.elapsed() < cx.short() {
        store.load(&key).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cx.ended(acknowledged, cx.short()).await;
    same(
        "load after the ttl, having loaded all the time",
        store.load(&key).await.answer(),
        Ok(None),
    )
}

/// `remaining` is what is left of the ttl, to the declared granularity, and goes down as time passes.
async fn load_tells_the_remaining_life(cx: Cx) -> Verdict {
    let (store, key, ttl) = (cx.store(), cx.key(), Duration::from_secs(100));
    let begun = Instant::now();
    store.create(&key, &Record::new("data"), ttl).await?;
    let acknowledged = Instant::now();
    remains(&cx, &key, "create", (begun, acknowledged), ttl).await?;
    tokio::time::sleep(cx.limits().granularity * 2 + Duration::from_millis(300)).await;
    remains(&cx, &key, "create and a wait", (begun, acknowledged), ttl).await
}

/// What remains of a life that was set to `ttl` between two instants is between what can be left of it.
async fn remains(
    cx: &Cx,
    key: &SessionKey,
    write: &str,
    (begun, acknowledged): (Instant, Instant),
    ttl: Duration,
) -> Verdict {
    let granularity = cx.limits().granularity;
    let before = acknowledged.elapsed();
    let seen = cx.store().load(key).await?.map(|stored| stored.remaining);
    let least = ttl.saturating_sub(begun.elapsed() + granularity + TICK);
    let most = cx.most(ttl.saturating_sub(before)) + TICK;
    ensure(seen.is_some_and(|seen| (least..=most).contains(&seen)), || {
        format!(
            "remaining after {write} with a ttl of {ttl:?}\nexpected: {least:?} to {most:?}\nseen: {seen:?}"
        )
    })
}

/// `touch` sets the remaining life to its ttl, longer or shorter than what was left, and the session ends by it.
async fn touch_sets_the_remaining_life(cx: Cx) -> Verdict {
    let (store, record) = (cx.store(), Record::new("data"));
    // Four seconds more than the shortest, so that a busy machine does not end it before it is touched.
    let first = cx.short() + Duration::from_secs(4);
    let longer = cx.key();
    store.create(&longer, &record, first).await?;
    let first_end = Instant::now();
    store.touch(&longer, Cx::LONG).await?;

    let key = cx.key();
    store.create(&key, &record, Duration::from_secs(100)).await?;
    for ttl in [Duration::from_secs(1_000), Duration::from_secs(50)] {
        let begun = Instant::now();
        store.touch(&key, ttl).await?;
        remains(&cx, &key, "touch", (begun, Instant::now()), ttl).await?;
    }
    store.touch(&key, cx.short()).await?;
    cx.ended(Instant::now(), cx.short()).await;
    same(
        "load after touch with a shorter ttl, which has passed",
        store.load(&key).await.answer(),
        Ok(None),
    )?;

    cx.ended(first_end, first).await;
    let seen = store.load(&longer).await.answer().map(|stored| stored.is_some());
    same(
        "live after touch with a longer ttl, when the first one has passed",
        seen,
        Ok(true),
    )
}

/// `update` sets the remaining life to its ttl, longer or shorter than what was left, and the session ends by it.
async fn update_sets_a_new_ttl(cx: Cx) -> Verdict {
    let (store, record) = (cx.store(), Record::new("data"));
    let first = cx.short() + Duration::from_secs(4);
    let longer = cx.key();
    let version = store.create(&longer, &record, first).await?;
    let first_end = Instant::now();
    store.update(&longer, version, &record, Cx::LONG).await?;

    let key = cx.key();
    let mut version = store.create(&key, &record, Duration::from_secs(100)).await?;
    for ttl in [Duration::from_secs(1_000), Duration::from_secs(50)] {
        let begun = Instant::now();
        version = store.update(&key, version, &record, ttl).await?;
        remains(&cx, &key, "update", (begun, Instant::now()), ttl).await?;
    }
    store.update(&key, version, &record, cx.short()).await?;
    cx.ended(Instant::now(), cx.short()).await;
    same(
        "load after update with a shorter ttl, which has passed",
        store.load(&key).await.answer(),
        Ok(None),
    )?;

    cx.ended(first_end, first).await;
    let seen = store.load(&longer).await.answer().map(|stored| stored.is_some());
    same(
        "live after update with a longer ttl, when the first one has passed",
        seen,
        Ok(true),
    )
}

/// `touch` leaves data, subject, absolute end and version as they were: the version from before it still updates.
async fn touch_changes_neither_data_nor_version(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let record = Record::new("data").with_subject(cx.subject());
    let version = store.create(&key, &record, Cx::LONG).await?;
    for ttl in [Cx::LONG / 2, Cx::LONG * 2] {
        store.touch(&key, ttl).await?;
        loads(&cx, &key, &record, version).await?;
    }
    let written = store.update(&key, version, &record, Cx::LONG).await.answer();
    same(
        "update with the version from before the touch is written",
        written.is_ok(),
        true,
    )
}

/// `touch` of an absent or deleted session is `NotFound`, and leaves no empty item behind: the key can be created.
async fn touch_of_an_absent_session_creates_nothing(cx: Cx) -> Verdict {
    let (store, record) = (cx.store(), Record::new("data"));
    let (absent, deleted) = (cx.key(), cx.key());
    store.create(&deleted, &record, Cx::LONG).await?;
    store.delete(&deleted, None).await?;
    for key in [absent, deleted] {
        refused(
            "touch(absent)",
            store.touch(&key, Cx::LONG).await,
            ErrorKind::NotFound,
        )?;
        same("load after it", store.load(&key).await.answer(), Ok(None))?;
        let version = store.create(&key, &record, Cx::LONG).await?;
        loads(&cx, &key, &record, version).await?;
    }
    Ok(())
}

/// However often it is updated, with the same data or other, a session ends by the ttl of its last update.
async fn update_never_leaves_a_session_without_an_end(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let ttl = cx.short() * 2;
    let mut version = store.create(&key, &Record::new("0"), ttl).await?;
    for data in ["0", "1", "1", "", "2"] {
        version = store.update(&key, version, &Record::new(data), ttl).await?;
        let remaining = store.load(&key).await?.map(|stored| stored.remaining);
        let most = cx.most(ttl) + TICK;
        ensure(remaining.is_some_and(|remaining| remaining <= most), || {
            format!(
                "remaining after update({data:?}) with a ttl of {ttl:?}\nexpected: at most {most:?}\nseen: {remaining:?}"
            )
        })?;
    }
    cx.ended(Instant::now(), ttl).await;
    same(
        "load after the ttl of the last update",
        store.load(&key).await.answer(),
        Ok(None),
    )
}

/// A ttl that is not zero and below the shortest, a nanosecond even, is a life of the shortest: neither refused, nor
/// rounded to zero and so to nothing or for ever.
async fn ttl_below_the_shortest_lives_the_shortest(cx: Cx) -> Verdict {
    let (store, record, limits) = (cx.store(), Record::new("data"), cx.limits());
    let mut sessions = Vec::new();
    for ttl in [
        Duration::from_nanos(1),
        Duration::from_micros(999),
        limits.min_ttl / 2,
    ] {
        let created = cx.key();
        let begun = Instant::now();
        store
            .create(&created, &record, ttl.max(Duration::from_nanos(1)))
            .await?;
        let touched = cx.key();
        store.create(&touched, &record, Cx::LONG).await?;
        store.touch(&touched, ttl.max(Duration::from_nanos(1))).await?;
        let seen = store.load(&created).await?;
        ensure(seen.is_some() || begun.elapsed() + TICK >= limits.min_ttl, || {
            format!(
                "load {:?} after create with a ttl of {ttl:?}\nexpected: a life of {:?}",
                begun.elapsed(),
                limits.min_ttl
            )
        })?;
        sessions.extend([(ttl, created), (ttl, touched)]);
    }
    cx.ended(Instant::now(), limits.min_ttl).await;
    // A touch of less than a second's move may write nothing, so a second more is allowed: none here is that near.
    for (ttl, key) in sessions {
        same(
            format!("load after a ttl of {ttl:?}"),
            store.load(&key).await.answer(),
            Ok(None),
        )?;
    }
    Ok(())
}

/// A ttl of more than thirty days is a length of time: some servers take such a number for a date of 1970.
async fn thirty_one_day_ttl_is_a_length_not_a_date(cx: Cx) -> Verdict {
    kept_or_refused(&cx, DAY * 31).await
}

/// Ten years are kept whole, or refused as longer than the store can keep; neither cut nor wrapped.
async fn ten_year_ttl_is_kept_or_refused(cx: Cx) -> Verdict {
    kept_or_refused(&cx, DAY * 3_652).await
}

/// An end after 2038-01-19, beyond 32 bits of seconds, is kept or refused; neither ends the session at once nor never.
async fn ttl_past_2038_is_kept_or_refused(cx: Cx) -> Verdict {
    let end = UNIX_EPOCH + Duration::from_secs(1 << 31) + DAY;
    // After 2038, a year is as good a length as any.
    let ttl = end.duration_since(SystemTime::now()).unwrap_or(DAY * 365);
    kept_or_refused(&cx, ttl).await
}

async fn kept_or_refused(cx: &Cx, ttl: Duration) -> Verdict {
    let (store, record) = (cx.store(), Record::new("data"));
    let (created, updated, touched) = (cx.key(), cx.key(), cx.key());
    let version = store.create(&updated, &record, Cx::LONG).await?;
    let touched_version = store.create(&touched, &record, Cx::LONG).await?;
    let begun = Instant::now();
    let answers = [
        (
            "create",
            created,
            store.create(&created, &record, ttl).await.map(drop),
        ),
        (
            "update",
            updated,
            store.update(&updated, version, &record, ttl).await.map(drop),
        ),
        ("touch", touched, store.touch(&touched, ttl).await),
    ];
    let acknowledged = Instant::now();
    let mut kept = Vec::new();
    for (write, key, answer) in answers {
        match answer {
            Ok(()) => kept.push((write, key)),
            refusal => {
                let call = format!("{write} with a ttl of {ttl:?}");
                refused_as(
                    call,
                    refusal,
                    |kind| matches!(kind, ErrorKind::InvalidTtl { .. }),
                    "success, or InvalidTtl",
                )?;
            }
        }
    }
    // What was refused has changed nothing.
    if kept.is_empty() {
        same(
            "load after a refused create",
            store.load(&created).await.answer(),
            Ok(None),
        )?;
        loads(cx, &updated, &record, version).await?;
        return loads(cx, &touched, &record, touched_version).await;
    }
    same(
        format!("calls that keep {ttl:?}: all three, or none ({kept:?})"),
        kept.len(),
        3,
    )?;
    for wait in [Duration::ZERO, Duration::from_millis(1_500)] {
        tokio::time::sleep(wait).await;
        for (write, key) in &kept {
            remains(cx, key, write, (begun, acknowledged), ttl).await?;
        }
    }
    Ok(())
}

/// A ttl of zero is `InvalidTtl` in each call that takes one, and changes nothing: it means for ever on some servers,
/// and at once on others.
async fn zero_ttl_is_refused(cx: Cx) -> Verdict {
    let (store, record) = (cx.store(), Record::new("data"));
    let invalid = |kind| {
        matches!(
            kind,
            ErrorKind::InvalidTtl {
                ttl: Duration::ZERO,
                ..
            }
        )
    };
    let zero = Duration::ZERO;
    let absent = cx.key();
    refused_as(
        "create(ttl 0)",
        store.create(&absent, &record, zero).await,
        invalid,
        "InvalidTtl",
    )?;
    same("load after it", store.load(&absent).await.answer(), Ok(None))?;

    let (key, new) = (cx.key(), Record::new("new"));
    let version = store.create(&key, &record, Cx::LONG).await?;
    refused_as(
        "update(ttl 0)",
        store.update(&key, version, &new, zero).await,
        invalid,
        "InvalidTtl",
    )?;
    loads(&cx, &key, &record, version).await?;
    refused_as(
        "touch(ttl 0)",
        store.touch(&key, zero).await,
        invalid,
        "InvalidTtl",
    )?;
    loads(&cx, &key, &record, version).await
}
