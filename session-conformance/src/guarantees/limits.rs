//! Limits hold at the stated value, and one over.

use std::time::Duration;

use session_core::{ErrorKind, Record};

use crate::{
    Cx, Verdict,
    callers::callers,
    expect::{Answer, ensure, loads, refused, refused_as, same},
    table::table,
};

table! { "limits":
    largest_declared_record_is_kept;
    one_byte_more_is_too_large_before_any_write_and_the_old_value_stays;
    longest_declared_ttl_is_kept_and_a_longer_one_is_refused;
    one_bad_record_in_a_batch_fails_alone;
    one_key_twice_in_a_batch_answers_both_truly;
}

/// `len` bytes in which a cut, a shift or a repeated block shows.
fn data(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// A record of exactly the declared number of bytes, with the longest subject, is created, loaded and updated whole.
async fn largest_declared_record_is_kept(cx: Cx) -> Verdict {
    let (store, key, most) = (cx.store(), cx.key(), cx.limits().max_record);
    let subject = "s".repeat(session_core::Subject::MAX_LEN);
    let subject =
        session_core::Subject::new(subject).map_err(|error| crate::Stop::Broken(error.to_string()))?;
    let largest = Record::new(data(most)).with_subject(subject);
    let version = store.create(&key, &largest, Cx::LONG).await?;
    loads(&cx, &key, &largest, version).await?;
    let mut other = data(most);
    other.reverse();
    let other = Record::new(other);
    let version = store.update(&key, version, &other, Cx::LONG).await?;
    loads(&cx, &key, &other, version).await?;
    let one_less = Record::new(data(most - 1));
    let version = store.update(&key, version, &one_less, Cx::LONG).await?;
    loads(&cx, &key, &one_less, version).await
}

/// A record of one byte more than declared, and one of many more, is `TooLarge` with both numbers: nothing is created,
/// and an old value stays whole (memcached destroys it if the server has to refuse).
async fn one_byte_more_is_too_large_before_any_write_and_the_old_value_stays(cx: Cx) -> Verdict {
    let (store, limit) = (cx.store(), cx.limits().max_record);
    let (key, absent, old) = (cx.key(), cx.key(), Record::new("old").with_subject(cx.subject()));
    let version = store.create(&key, &old, Cx::LONG).await?;
    for size in [limit + 1, limit * 2 + 4_096] {
        let (record, kind) = (Record::new(data(size)), ErrorKind::TooLarge { size, limit });
        refused(
            format!("create({size} bytes)"),
            store.create(&absent, &record, Cx::LONG).await,
            kind,
        )?;
        same("load after it", store.load(&absent).await.answer(), Ok(None))?;
        refused(
            format!("create({size} bytes) on a live key"),
            store.create(&key, &record, Cx::LONG).await,
            kind,
        )?;
        loads(&cx, &key, &old, version).await?;
        let seen = store.update(&key, version, &record, Cx::LONG).await;
        refused(format!("update({size} bytes)"), seen, kind)?;
        loads(&cx, &key, &old, version).await?;
    }
    Ok(())
}

/// The longest declared ttl is kept by each call that takes one; a millisecond more is `InvalidTtl` and changes nothing.
async fn longest_declared_ttl_is_kept_and_a_longer_one_is_refused(cx: Cx) -> Verdict {
    let (store, limits) = (cx.store(), cx.limits());
    let (longest, longer) = (
        limits.max_ttl,
        limits.max_ttl.saturating_add(Duration::from_millis(1)),
    );
    ensure(limits.min_ttl <= longest, || {
        format!("min_ttl {:?} is above max_ttl {longest:?}", limits.min_ttl)
    })?;
    let (key, record, new) = (cx.key(), Record::new("data"), Record::new("new"));
    let version = store.create(&key, &record, longest).await?;
    store.touch(&key, Cx::LONG).await?;
    store.touch(&key, longest).await?;
    loads(&cx, &key, &record, version).await?;
    let version = store.update(&key, version, &new, longest).await?;
    loads(&cx, &key, &new, version).await?;
    let remaining = store
        .load(&key)
        .await?
        .map(|stored| stored.remaining)
        .unwrap_or_default();
    // A minute is more than this guarantee takes.
    let least = longest.saturating_sub(Duration::from_secs(60) + limits.granularity);
    ensure(remaining >= least, || {
        format!("remaining of the longest ttl\nexpected: {least:?} or more\nseen: {remaining:?}")
    })?;

    store.touch(&key, Cx::LONG).await?;
    let invalid = |kind| matches!(kind, ErrorKind::InvalidTtl { ttl, longest: most } if ttl == longer && most == longest);
    let absent = cx.key();
    refused_as(
        format!("create({longer:?})"),
        store.create(&absent, &record, longer).await,
        invalid,
        "InvalidTtl",
    )?;
    same("load after it", store.load(&absent).await.answer(), Ok(None))?;
    refused_as(
        format!("update({longer:?})"),
        store.update(&key, version, &record, longer).await,
        invalid,
        "InvalidTtl",
    )?;
    refused_as(
        format!("touch({longer:?})"),
        store.touch(&key, longer).await,
        invalid,
        "InvalidTtl",
    )?;
    loads(&cx, &key, &new, version).await?;
    let remaining = store
        .load(&key)
        .await?
        .map(|stored| stored.remaining)
        .unwrap_or_default();
    ensure(remaining <= cx.most(Cx::LONG), || {
        format!(
            "remaining after a refused ttl\nexpected: {:?} at most\nseen: {remaining:?}",
            cx.most(Cx::LONG)
        )
    })
}

/// Of 64 creates and updates at once, the one whose record is too large, the one on a key that is taken and the one
/// with an old version fail, each in its own way, and all others are written.
async fn one_bad_record_in_a_batch_fails_alone(cx: Cx) -> Verdict {
    const CALLERS: usize = 64;
    let (store, limit) = (cx.store(), cx.limits().max_record);
    for round in 0..10 {
        let keys = cx.keys(CALLERS);
        let mut versions = Vec::new();
        for key in &keys[CALLERS / 2..] {
            versions.push(store.create(key, &Record::new("old"), Cx::LONG).await?);
        }
        let taken = keys[CALLERS / 2];
        let stale = session_core::Version::random()?;
        let answers = callers(CALLERS, |caller| {
            let (store, key) = (cx.store(), keys[caller]);
            let version = caller.checked_sub(CALLERS / 2).map(|at| versions[at]);
            let small = Record::new(format!("new {caller}"));
            async move {
                let answer = match (caller, version) {
                    (5, _) => store.create(&key, &Record::new(data(limit + 1)), Cx::LONG).await,
                    (6, _) => store.create(&taken, &small, Cx::LONG).await,
                    (40, _) => store.update(&key, stale, &small, Cx::LONG).await,
                    (_, None) => store.create(&key, &small, Cx::LONG).await,
                    (_, Some(version)) => store.update(&key, version, &small, Cx::LONG).await,
                };
                Ok(answer.answer())
            }
        })
        .await?;
        for (caller, answer) in answers.into_iter().enumerate() {
            let call = format!("call {caller} of a batch, round {round}");
            match caller {
                5 => same(
                    call,
                    answer,
                    Err(ErrorKind::TooLarge {
                        size: limit + 1,
                        limit,
                    }),
                )?,
                6 => same(call, answer, Err(ErrorKind::AlreadyExists))?,
                40 => same(call, answer, Err(ErrorKind::Conflict))?,
                _ => {
                    ensure(answer.is_ok(), || {
                        format!("{call}\nexpected: written\nseen: {answer:?}")
                    })?;
                    let seen = store.load(&keys[caller]).await?.map(|stored| stored.record);
                    same(
                        format!("load after {call}"),
                        seen,
                        Some(Record::new(format!("new {caller}"))),
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// Calls on one key that travel together each have their own true answer: of 8 equal creates one is told that it wrote,
/// of 8 equal updates one, of 8 deletions one; and all of 8 loads have the session.
async fn one_key_twice_in_a_batch_answers_both_truly(cx: Cx) -> Verdict {
    const CALLERS: usize = 32;
    const EACH: usize = 8;
    for round in 0..10 {
        let keys = cx.keys(4);
        let (created, updated, deleted, loaded) = (keys[0], keys[1], keys[2], keys[3]);
        let (old, new) = (Record::new("old"), Record::new("new"));
        let version = cx.store().create(&updated, &old, Cx::LONG).await?;
        cx.store().create(&deleted, &old, Cx::LONG).await?;
        cx.store().create(&loaded, &old, Cx::LONG).await?;
        let answers = callers(CALLERS, |caller| {
            let (store, old, new) = (cx.store(), old.clone(), new.clone());
            async move {
                Ok(match caller % 4 {
                    0 => store
                        .create(&created, &new, Cx::LONG)
                        .await
                        .answer()
                        .map(|_| true),
                    1 => store
                        .update(&updated, version, &new, Cx::LONG)
                        .await
                        .answer()
                        .map(|_| true),
                    2 => store.delete(&deleted, None).await.answer(),
                    _ => store
                        .load(&loaded)
                        .await
                        .answer()
                        .map(|stored| stored.is_some_and(|stored| stored.record == old)),
                })
            }
        })
        .await?;
        let of = |call: usize| answers.iter().skip(call).step_by(4);
        let told =
            |call: usize, answer: Result<bool, ErrorKind>| of(call).filter(|seen| **seen == answer).count();
        let seen = [
            ("create: written", told(0, Ok(true)), 1),
            (
                "create: AlreadyExists",
                told(0, Err(ErrorKind::AlreadyExists)),
                EACH - 1,
            ),
            ("update: written", told(1, Ok(true)), 1),
            ("update: Conflict", told(1, Err(ErrorKind::Conflict)), EACH - 1),
            ("delete: true", told(2, Ok(true)), 1),
            ("delete: false", told(2, Ok(false)), EACH - 1),
            ("load: the session", told(3, Ok(true)), EACH),
        ];
        for (call, seen, expected) in seen {
            same(
                format!("{EACH} calls on one key at once, round {round}: {call}"),
                seen,
                expected,
            )?;
        }
    }
    Ok(())
}
