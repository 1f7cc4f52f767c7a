//! The index by subject.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Subject, Version};

use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{Answer, ensure, same},
    table::table,
};

table! { "subjects":
    subject_lists_its_live_sessions: needs Subjects;
    touched_session_stays_listed: needs Subjects;
    session_that_changes_subject_moves: needs Subjects;
    delete_all_of_a_subject_ends_every_one: needs Subjects;
    delete_all_of_a_subject_but_one_keeps_that_one: needs Subjects;
    delete_all_catches_a_session_that_is_being_renewed: needs Subjects;
    subject_list_equals_the_truth_after_random_calls: needs Subjects, stochastic;
}

/// What the index tells of a subject, in order.
async fn list(store: &Arc<dyn SessionStore>, subject: &Subject) -> Result<Vec<SessionKey>, Stop> {
    let mut keys = store.subjects().ok_or(Stop::Unsupported)?.list(subject).await?;
    keys.sort_unstable();
    Ok(keys)
}

async fn lists(cx: &Cx, when: &str, subject: &Subject, keys: &[SessionKey]) -> Verdict {
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    same(
        format!("list {when}"),
        list(&cx.store(), subject).await?,
        expected,
    )
}

async fn delete_all(
    store: &Arc<dyn SessionStore>,
    subject: &Subject,
    except: Option<&SessionKey>,
) -> Result<u64, Stop> {
    Ok(store
        .subjects()
        .ok_or(Stop::Unsupported)?
        .delete_all(subject, except)
        .await?)
}

/// A subject's sessions are listed, each once, from the moment that `create` or `update` returns until they are deleted;
/// other subjects' sessions are not.
async fn subject_lists_its_live_sessions(cx: Cx) -> Verdict {
    let (store, subject, other) = (cx.store(), cx.subject(), cx.subject());
    lists(&cx, "before any session", &subject, &[]).await?;
    let mine = Record::new("mine").with_subject(subject.clone());
    let keys = cx.keys(30);
    let mut versions = Vec::new();
    for (count, key) in keys.iter().enumerate() {
        versions.push(store.create(key, &mine, Cx::LONG).await?);
        store
            .create(
                &cx.key(),
                &Record::new("theirs").with_subject(other.clone()),
                Cx::LONG,
            )
            .await?;
        store
            .create(&cx.key(), &Record::new("nobody's"), Cx::LONG)
            .await?;
        lists(&cx, "after create", &subject, &keys[..=count]).await?;
    }
    for (key, version) in keys.iter().zip(versions).take(5) {
        store.update(key, version, &mine, Cx::LONG).await?;
    }
    lists(&cx, "after updates", &subject, &keys).await?;
    for key in &keys[..10] {
        store.delete(key, None).await?;
    }
    lists(&cx, "after deletions", &subject, &keys[10..]).await
}

/// A session whose life was extended by `touch` or `update` is listed beyond its first end: an index that is pruned by
/// the end that it was written with would lose it.
async fn touched_session_stays_listed(cx: Cx) -> Verdict {
    let (store, subject) = (cx.store(), cx.subject());
    let record = Record::new("data").with_subject(subject.clone());
    let ttl = cx.short() + Duration::from_secs(3);
    let keys = cx.keys(2);
    store.create(&keys[0], &record, ttl).await?;
    let version = store.create(&keys[1], &record, ttl).await?;
    let acknowledged = Instant::now();
    store.touch(&keys[0], Cx::LONG).await?;
    store.update(&keys[1], version, &record, Cx::LONG).await?;
    cx.ended(acknowledged, ttl).await;
    // Anything that prunes has its chance.
    store
        .create(
            &cx.key(),
            &Record::new("data").with_subject(cx.subject()),
            Cx::LONG,
        )
        .await?;
    let third = cx.key();
    store.create(&third, &record, Cx::LONG).await?;
    store.delete(&third, None).await?;
    if let Some(sweep) = store.sweep() {
        sweep.remove_expired(100).await?;
    }
    lists(&cx, "after the first ttl of touched sessions", &subject, &keys).await?;
    lists(&cx, "a second time", &subject, &keys).await
}

/// A session that gets another subject is listed under that one alone; one that loses it is listed nowhere; one that
/// gets its first is listed at once.
async fn session_that_changes_subject_moves(cx: Cx) -> Verdict {
    let (store, key, from, to) = (cx.store(), cx.key(), cx.subject(), cx.subject());
    let of = |subject: &Subject| Record::new("data").with_subject(subject.clone());
    let version = store.create(&key, &Record::new("data"), Cx::LONG).await?;
    let version = store.update(&key, version, &of(&from), Cx::LONG).await?;
    lists(&cx, "of the first subject", &from, &[key]).await?;
    let version = store.update(&key, version, &of(&to), Cx::LONG).await?;
    lists(&cx, "of the subject that it left", &from, &[]).await?;
    lists(&cx, "of the subject that it came to", &to, &[key]).await?;
    same(
        "delete_all of the subject that it left",
        delete_all(&store, &from, None).await?,
        0,
    )?;
    let version = store.update(&key, version, &of(&from), Cx::LONG).await?;
    lists(&cx, "of the subject that it came back to", &from, &[key]).await?;
    lists(&cx, "of the subject that it left last", &to, &[]).await?;
    store
        .update(&key, version, &Record::new("data"), Cx::LONG)
        .await?;
    lists(&cx, "of the subject that it lost", &from, &[]).await?;
    let left = store.load(&key).await.answer().map(|stored| stored.is_some());
    same("load of a session without subject", left, Ok(true))
}

/// `delete_all` removes every session of a subject, however many, tells how many, and leaves all others; again, it
/// removes none.
async fn delete_all_of_a_subject_ends_every_one(cx: Cx) -> Verdict {
    const SESSIONS: usize = 300;
    let (store, subject, other) = (cx.store(), cx.subject(), cx.key());
    let record = Record::new("data").with_subject(subject.clone());
    store
        .create(&other, &Record::new("data").with_subject(cx.subject()), Cx::LONG)
        .await?;
    let keys = cx.keys(SESSIONS);
    for key in &keys {
        store.create(key, &record, Cx::LONG).await?;
    }
    same(
        "delete_all",
        delete_all(&store, &subject, None).await?,
        SESSIONS as u64,
    )?;
    for key in &keys {
        same("load after delete_all", store.load(key).await.answer(), Ok(None))?;
    }
    lists(&cx, "after delete_all", &subject, &[]).await?;
    same("delete_all again", delete_all(&store, &subject, None).await?, 0)?;
    let left = store.load(&other).await.answer().map(|stored| stored.is_some());
    same("load of another subject's session", left, Ok(true))
}

/// `delete_all` but one removes all others, tells how many, and the one goes on unchanged.
async fn delete_all_of_a_subject_but_one_keeps_that_one(cx: Cx) -> Verdict {
    let (store, subject, keys) = (cx.store(), cx.subject(), cx.keys(20));
    let record = Record::new("data").with_subject(subject.clone());
    let mut versions = Vec::new();
    for key in &keys {
        versions.push(store.create(key, &record, Cx::LONG).await?);
    }
    same(
        "delete_all but one",
        delete_all(&store, &subject, Some(&keys[7])).await?,
        19,
    )?;
    lists(&cx, "after delete_all but one", &subject, &keys[7..8]).await?;
    crate::expect::loads(&cx, &keys[7], &record, versions[7]).await?;
    let stranger = cx.key();
    let seen = delete_all(&store, &subject, Some(&stranger)).await?;
    same("delete_all but one that is not the subject's", seen, 1)
}

/// Sessions that move to new keys all the time (`create` the new one, then make the old one nobody's) are caught by
/// `delete_all`: when it and the moves have ended, none is left.
///
/// Right after the new key is created the list holds both; a list that is taken once, before that, holds the old alone.
async fn delete_all_catches_a_session_that_is_being_renewed(cx: Cx) -> Verdict {
    // Many at once, and so few that all of them may be on their way when the list is gone through.
    const RENEWED: [usize; 3] = [12, 1, 2];
    const ROUNDS: usize = 18;
    cx.store().subjects().ok_or(Stop::Unsupported)?;
    let nodes = cx.nodes(4).await?;
    for round in 0..ROUNDS {
        let renewed = RENEWED[round % RENEWED.len()];
        let subject = cx.subject();
        let record = Record::new("data").with_subject(subject.clone());
        let mut sessions = Vec::new();
        for key in cx.keys(renewed) {
            sessions.push((key, cx.store().create(&key, &record, Cx::LONG).await?));
        }
        callers(renewed + 1, |caller| {
            let session = sessions.get(caller).copied();
            let (node, cx, subject) = (nodes[caller % 4].clone(), cx.clone(), subject.clone());
            let mut rng = cx.rng((round * 100 + caller) as u64);
            async move {
                if let Some(session) = session {
                    return keep_renewing(&cx, &node, &subject, session, rng).await;
                }
                // In the middle of the renewals.
                tokio::time::sleep(Duration::from_micros(rng.u64(..4_000))).await;
                delete_all(&node, &subject, None).await.map(drop)
            }
        })
        .await?;
        let left = list(&cx.store(), &subject).await?;
        same(
            format!("list after delete_all met {renewed} renewals, round {round}"),
            left,
            Vec::new(),
        )?;
    }
    Ok(())
}

/// Renews a session a few times, until it is deleted. (Without a bound, renewals without a pause outrun any deletion.)
async fn keep_renewing(
    cx: &Cx,
    store: &Arc<dyn SessionStore>,
    subject: &Subject,
    (mut old, mut version): (SessionKey, Version),
    mut rng: fastrand::Rng,
) -> Verdict {
    const RENEWALS: usize = 12;
    let record = Record::new("data").with_subject(subject.clone());
    for _ in 0..RENEWALS {
        tokio::time::sleep(Duration::from_micros(rng.u64(..1_000))).await;
        let new = cx.key();
        let next = store.create(&new, &record, Cx::LONG).await?;
        let retired = store
            .update(&old, version, &Record::new("retired"), Cx::LONG)
            .await;
        match retired.answer() {
            Ok(_) => (old, version) = (new, next),
            Err(ErrorKind::NotFound) => {
                // Logged out: the new key never leaves the process.
                store.delete(&new, None).await?;
                return Ok(());
            }
            Err(kind) => {
                return Err(Stop::Broken(format!(
                    "update(the renewed key)\nexpected: success or NotFound\nseen: {kind:?}"
                )));
            }
        }
    }
    // Nobody has caught it yet: `delete_all` will find it where it is now.
    Ok(())
}

/// After random creates, updates, touches and deletions, some refused, each subject's list is exactly the keys of its
/// live sessions.
async fn subject_list_equals_the_truth_after_random_calls(cx: Cx) -> Verdict {
    let (store, mut rng) = (cx.store(), cx.rng(1));
    let (keys, subjects) = (cx.keys(8), [cx.subject(), cx.subject(), cx.subject()]);
    let mut truth: HashMap<SessionKey, (Version, Option<Subject>)> = HashMap::new();
    for step in 0..400 {
        let key = keys[rng.usize(..keys.len())];
        let subject = subjects.get(rng.usize(..4)).cloned();
        let record = Record::new("data").with_subject(subject.clone());
        let known = truth.get(&key).map(|(version, _)| *version);
        let expected = match rng.u8(..4) {
            0 => Version::random()?,
            _ => known.unwrap_or(Version::from_bytes([1; 16])),
        };
        let call = rng.u8(..100);
        match call {
            0..35 => {
                let seen = store.create(&key, &record, Cx::LONG).await.answer();
                ensure(seen.is_ok() == known.is_none(), || {
                    format!("step {step}: create\nseen: {seen:?}")
                })?;
                if let Ok(version) = seen {
                    truth.insert(key, (version, subject));
                }
            }
            35..70 => {
                let seen = store.update(&key, expected, &record, Cx::LONG).await.answer();
                ensure(seen.is_ok() == (known == Some(expected)), || {
                    format!("step {step}: update\nseen: {seen:?}")
                })?;
                if let Ok(version) = seen {
                    truth.insert(key, (version, subject));
                }
            }
            70..80 => {
                let seen = store.touch(&key, Cx::LONG * 2).await.answer();
                ensure(seen.is_ok() == known.is_some(), || {
                    format!("step {step}: touch\nseen: {seen:?}")
                })?;
            }
            80..90 => {
                let seen = store.delete(&key, None).await.answer();
                same(format!("step {step}: delete"), seen, Ok(known.is_some()))?;
                truth.remove(&key);
            }
            _ => {
                let seen = store.delete(&key, Some(expected)).await.answer();
                let right = match known {
                    None => Ok(false),
                    Some(known) if known == expected => Ok(true),
                    Some(_) => Err(ErrorKind::Conflict),
                };
                same(format!("step {step}: delete(version)"), seen, right)?;
                if seen == Ok(true) {
                    truth.remove(&key);
                }
            }
        }
        for (at, subject) in subjects.iter().enumerate() {
            let held = truth.iter().filter(|(_, (_, of))| of.as_ref() == Some(subject));
            let expected: BTreeSet<SessionKey> = held.map(|(key, _)| *key).collect();
            let seen = list(&store, subject).await?;
            same(
                format!("step {step}: list of subject {at}"),
                seen,
                expected.into_iter().collect(),
            )?;
        }
    }
    Ok(())
}
