//! Many callers, one answer.

mod busy;
mod mixed;
mod pairs;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Version};

use self::{
    busy::busy_callers_keep_no_other_call_waiting, mixed::batches_and_sweeps_do_not_deadlock,
    pairs::two_calls_at_once_answer_as_if_one_came_first,
};
use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{Answer, ensure, loads, refused, same},
    history::{self, Action, Event},
    table::table,
};

table! { "concurrency":
    nodes_that_start_at_once_all_serve: stochastic;
    update_with_the_current_version_is_written;
    update_with_an_old_version_is_a_conflict_and_changes_nothing;
    every_write_has_a_new_version;
    update_after_delete_is_not_found_and_creates_nothing;
    delete_of_an_old_version_is_a_conflict_and_changes_nothing;
    delete_wins_every_race_with_update;
    one_of_many_deletes_finds_the_session;
    concurrent_updates_of_one_version_have_one_winner;
    counter_is_exact_under_contention;
    two_calls_at_once_answer_as_if_one_came_first;
    busy_callers_keep_no_other_call_waiting: stochastic;
    batches_and_sweeps_do_not_deadlock: stochastic;
    history_is_linearizable: stochastic;
}

/// Stores that open a place where nobody was before, as the nodes of a new site that start together, make it once: each
/// can be opened, and finds what another has written.
///
/// Catches a migration that looks, waits while another makes the table, and makes it again; one that trusts what it saw
/// before it waited; and nodes that each make a place of their own.
async fn nodes_that_start_at_once_all_serve(cx: Cx) -> Verdict {
    for _ in 0..5 {
        let (nodes, key, record) = (cx.nodes_at_once(4).await?, cx.key(), Record::new("data"));
        let version = nodes[0].create(&key, &record, Cx::LONG).await?;
        for node in &nodes {
            let seen = node.load(&key).await?;
            same(
                "load on another node",
                seen.map(|stored| (stored.record, stored.version)),
                Some((record.clone(), version)),
            )?;
        }
    }
    Ok(())
}

/// Each write returns the version that `load` then tells and that the next update needs, on every node.
async fn update_with_the_current_version_is_written(cx: Cx) -> Verdict {
    let key = cx.key();
    let nodes = cx.nodes(3).await?;
    let mut version = cx.store().create(&key, &Record::new("0"), Cx::LONG).await?;
    for write in 1..=9 {
        let record = Record::new(write.to_string());
        version = nodes[write % 3].update(&key, version, &record, Cx::LONG).await?;
        loads(&cx, &key, &record, version).await?;
    }
    same(
        "delete(current)",
        cx.store().delete(&key, Some(version)).await.answer(),
        Ok(true),
    )
}

/// `update` with another version than the current one is `Conflict`; data, subject, version and end stay.
async fn update_with_an_old_version_is_a_conflict_and_changes_nothing(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let first = store.create(&key, &Record::new("1"), Cx::LONG).await?;
    let current = Record::new("2").with_subject(cx.subject());
    let second = store.update(&key, first, &current, Cx::LONG).await?;
    let late = Record::new("late").with_subject(cx.subject());
    for stale in [first, Version::random()?, Version::from_bytes([0; 16])] {
        let seen = store.update(&key, stale, &late, Cx::LONG * 4).await;
        refused("update(old version)", seen, ErrorKind::Conflict)?;
        loads(&cx, &key, &current, second).await?;
    }
    let remaining = store.load(&key).await?.map(|stored| stored.remaining);
    let most = cx.most(Cx::LONG);
    ensure(remaining.is_some_and(|remaining| remaining <= most), || {
        format!(
            "remaining after a refused update with a longer ttl\nexpected: at most {most:?}\nseen: {remaining:?}"
        )
    })
}

/// No version comes twice for a key: not for equal data, not after a deletion, not on another node.
async fn every_write_has_a_new_version(cx: Cx) -> Verdict {
    let (key, record) = (cx.key(), Record::new("the same"));
    let nodes = cx.nodes(2).await?;
    let mut seen = HashSet::new();
    for round in 0..10 {
        let node = &nodes[round % 2];
        let mut version = node.create(&key, &record, Cx::LONG).await?;
        for write in 0..6 {
            ensure(seen.insert(version), || {
                format!("write {write} of life {round}\nexpected: a new version\nseen: {version:?} again")
            })?;
            version = nodes[write % 2].update(&key, version, &record, Cx::LONG).await?;
        }
        node.delete(&key, None).await?;
    }
    Ok(())
}

/// After a deletion, `update` with the version from before it is `NotFound` and creates nothing: a slow request does
/// not undo a logout (CVE-2025-46336).
async fn update_after_delete_is_not_found_and_creates_nothing(cx: Cx) -> Verdict {
    let (store, key, subject) = (cx.store(), cx.key(), cx.subject());
    let record = Record::new("data").with_subject(subject.clone());
    let version = store.create(&key, &record, Cx::LONG).await?;
    same("delete", store.delete(&key, None).await.answer(), Ok(true))?;
    refused(
        "update after delete",
        store.update(&key, version, &record, Cx::LONG).await,
        ErrorKind::NotFound,
    )?;
    same("load after it", store.load(&key).await.answer(), Ok(None))?;
    if let Some(subjects) = store.subjects() {
        same(
            "list after it",
            subjects.list(&subject).await.answer(),
            Ok(Vec::new()),
        )?;
    }
    // Nor does one of an earlier life change the next.
    let next = Record::new("next life");
    let current = store.create(&key, &next, Cx::LONG).await?;
    refused(
        "update of an earlier life",
        store.update(&key, version, &record, Cx::LONG).await,
        ErrorKind::Conflict,
    )?;
    loads(&cx, &key, &next, current).await
}

/// `delete` with another version than the current one is `Conflict`, and the session stays as it was.
async fn delete_of_an_old_version_is_a_conflict_and_changes_nothing(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let first = store.create(&key, &Record::new("1"), Cx::LONG).await?;
    let current = Record::new("2").with_subject(cx.subject());
    let second = store.update(&key, first, &current, Cx::LONG).await?;
    for stale in [first, Version::random()?] {
        refused(
            "delete(old version)",
            store.delete(&key, Some(stale)).await,
            ErrorKind::Conflict,
        )?;
        loads(&cx, &key, &current, second).await?;
    }
    same(
        "delete(current version)",
        store.delete(&key, Some(second)).await.answer(),
        Ok(true),
    )?;
    same("load after it", store.load(&key).await.answer(), Ok(None))
}

/// However a deletion and updates overlap, the session is gone when all have ended, and the deletion found it.
async fn delete_wins_every_race_with_update(cx: Cx) -> Verdict {
    let nodes = cx.nodes(4).await?;
    for round in 0..50 {
        let key = cx.key();
        let version = cx.store().create(&key, &Record::new("data"), Cx::LONG).await?;
        let found = callers(4, |caller| {
            let node = nodes[caller].clone();
            async move {
                if caller == 0 {
                    // Let the others begin first, now and then.
                    for _ in 0..round % 5 {
                        tokio::task::yield_now().await;
                    }
                    return Ok(node.delete(&key, None).await? as usize);
                }
                keep_updating(&node, &key, version).await.map(|()| 0)
            }
        })
        .await?;
        same(
            format!("delete in a race with updates, round {round}: sessions found"),
            found[0],
            1,
        )?;
        let seen = cx.store().load(&key).await.answer();
        same(
            format!("load after a race of delete and updates, round {round}"),
            seen,
            Ok(None),
        )?;
    }
    Ok(())
}

/// Updates with whatever version is current until the session is gone, or has been changed often enough to be back.
async fn keep_updating(store: &Arc<dyn SessionStore>, key: &SessionKey, version: Version) -> Verdict {
    const MOST: usize = 200;
    let mut expected = version;
    for _ in 0..MOST {
        match store
            .update(key, expected, &Record::new("late"), Cx::LONG)
            .await
            .answer()
        {
            Ok(next) => expected = next,
            Err(ErrorKind::NotFound) => return Ok(()),
            Err(ErrorKind::Conflict) => match store.load(key).await? {
                Some(stored) => expected = stored.version,
                None => return Ok(()),
            },
            Err(kind) => {
                return Err(Stop::Broken(format!(
                    "update\nexpected: success, NotFound or Conflict\nseen: {kind:?}"
                )));
            }
        }
    }
    Ok(())
}

/// Of 16 callers on 4 nodes that delete one session at once, exactly one is told that it was there: with and without
/// its version.
async fn one_of_many_deletes_finds_the_session(cx: Cx) -> Verdict {
    let nodes = cx.nodes(4).await?;
    for round in 0..20 {
        let key = cx.key();
        let version = cx.store().create(&key, &Record::new("data"), Cx::LONG).await?;
        let expected = (round % 2 == 0).then_some(version);
        let found = callers(16, |caller| {
            let node = nodes[caller % 4].clone();
            async move { Ok(node.delete(&key, expected).await?) }
        })
        .await?;
        let count = found.into_iter().filter(|found| *found).count();
        same(
            format!("delete({expected:?}) by 16 callers, round {round}: told `true`"),
            count,
            1,
        )?;
    }
    Ok(())
}

/// Of 64 callers on 4 nodes that update one version at once, exactly one succeeds, the others meet `Conflict`, and the
/// winner's record is the one that stays.
async fn concurrent_updates_of_one_version_have_one_winner(cx: Cx) -> Verdict {
    const CALLERS: usize = 64;
    let nodes = cx.nodes(4).await?;
    for round in 0..10 {
        let key = cx.key();
        let first = cx.store().create(&key, &Record::new("first"), Cx::LONG).await?;
        let record = |caller: usize| Record::new(format!("caller {caller}"));
        let answers = callers(CALLERS, |caller| {
            let node = nodes[caller % nodes.len()].clone();
            async move { Ok(node.update(&key, first, &record(caller), Cx::LONG).await.answer()) }
        })
        .await?;
        let mut winners = Vec::new();
        for (caller, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(version) => winners.push((caller, version)),
                lost => same(
                    format!("update by a loser, round {round}"),
                    lost,
                    Err(ErrorKind::Conflict),
                )?,
            }
        }
        same(
            format!("winners of {CALLERS}, round {round}: {winners:?}"),
            winners.len(),
            1,
        )?;
        let (caller, version) = winners[0];
        loads(&cx, &key, &record(caller), version).await?;
    }
    Ok(())
}

/// 100 increments by 16 callers on 4 nodes, each repeated until it meets no `Conflict`, add up to 100.
async fn counter_is_exact_under_contention(cx: Cx) -> Verdict {
    const CALLERS: usize = 16;
    const INCREMENTS: usize = 100;
    let (key, nodes) = (cx.key(), cx.nodes(4).await?);
    cx.store().create(&key, &Record::new("0"), Cx::LONG).await?;
    callers(CALLERS, |caller| {
        let node = nodes[caller % nodes.len()].clone();
        async move {
            for _ in (caller..INCREMENTS).step_by(CALLERS) {
                increment(&node, &key).await?;
            }
            Ok(())
        }
    })
    .await?;
    let seen = cx.store().load(&key).await?.map(|stored| stored.record.data);
    same(
        format!("the counter after {INCREMENTS} increments"),
        seen,
        Some(INCREMENTS.to_string().into()),
    )
}

async fn increment(store: &Arc<dyn SessionStore>, key: &SessionKey) -> Verdict {
    loop {
        let stored = store
            .load(key)
            .await?
            .ok_or_else(|| Stop::Broken("load(the counter)\nexpected: it\nseen: None".to_owned()))?;
        let count = std::str::from_utf8(&stored.record.data)
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        let count = count.ok_or_else(|| {
            Stop::Broken(format!("load(the counter)\nexpected: a number\nseen: {stored:?}"))
        })?;
        match store
            .update(
                key,
                stored.version,
                &Record::new((count + 1).to_string()),
                Cx::LONG,
            )
            .await
            .answer()
        {
            Ok(_) => return Ok(()),
            Err(ErrorKind::Conflict) => tokio::task::yield_now().await,
            Err(kind) => {
                return Err(Stop::Broken(format!(
                    "update(the counter)\nexpected: success or Conflict\nseen: {kind:?}"
                )));
            }
        }
    }
}

/// Random calls by 8 callers on 2 nodes and 3 keys have answers that one of the orders which their times allow would
/// have given: each key is one register with a version.
///
/// A write that ended `Unavailable` may have been applied at any time since, or never. The ttl is far longer than the
/// run.
async fn history_is_linearizable(cx: Cx) -> Verdict {
    const CALLERS: usize = 8;
    const CALLS: usize = 30;
    const ROUNDS: u64 = 5;
    let nodes = cx.nodes(2).await?;
    for round in 0..ROUNDS {
        let keys: Arc<[SessionKey]> = cx.keys(3).into();
        let begun = Instant::now();
        let events = callers(CALLERS, |caller| {
            let (node, keys) = (nodes[caller % 2].clone(), Arc::clone(&keys));
            let rng = cx.rng(round * 100 + caller as u64);
            async move { Ok(random_calls(node, keys, rng, (caller, CALLS), begun).await) }
        })
        .await?;
        for (at, key) in keys.iter().enumerate() {
            let of_key: Vec<Event> = events
                .iter()
                .flatten()
                .filter(|(of, _)| *of == at)
                .map(|(_, event)| event.clone())
                .collect();
            history::check(&of_key)
                .map_err(|why| Stop::Broken(format!("round {round}, key {key}: {why}")))?;
        }
    }
    Ok(())
}

/// One caller's calls, and which key each was on.
async fn random_calls(
    store: Arc<dyn SessionStore>,
    keys: Arc<[SessionKey]>,
    mut rng: fastrand::Rng,
    (caller, calls): (usize, usize),
    begun: Instant,
) -> Vec<(usize, Event)> {
    let mut events = Vec::with_capacity(calls);
    let mut known = vec![Version::from_bytes([0; 16]); keys.len()];
    for call in 0..calls {
        let at = rng.usize(..keys.len());
        let (key, value) = (&keys[at], (caller * 10_000 + call) as u64);
        let record = Record::new(value.to_string());
        let expected = known[at];
        let called = begun.elapsed();
        let action = match rng.u8(..100) {
            0..18 => Action::Create {
                value,
                seen: store.create(key, &record, Cx::LONG).await.answer(),
            },
            18..50 => {
                let seen = store.update(key, expected, &record, Cx::LONG).await.answer();
                Action::Update {
                    expected,
                    value,
                    seen,
                }
            }
            50..82 => {
                let seen = store.load(key).await.answer();
                Action::Load {
                    seen: seen.map(|stored| stored.map(|stored| (number(&stored.record), stored.version))),
                }
            }
            82..88 => Action::Touch {
                seen: store.touch(key, Cx::LONG).await.answer(),
            },
            88..94 => Action::Delete {
                expected: None,
                seen: store.delete(key, None).await.answer(),
            },
            _ => {
                let seen = store.delete(key, Some(expected)).await.answer();
                Action::Delete {
                    expected: Some(expected),
                    seen,
                }
            }
        };
        let returned = begun.elapsed();
        match &action {
            Action::Create {
                seen: Ok(version), ..
            }
            | Action::Update {
                seen: Ok(version), ..
            }
            | Action::Load {
                seen: Ok(Some((_, version))),
            } => known[at] = *version,
            _ => {}
        }
        events.push((
            at,
            Event {
                called,
                returned,
                action,
            },
        ));
        if rng.u8(..4) == 0 {
            tokio::time::sleep(Duration::from_micros(rng.u64(..500))).await;
        }
    }
    events
}

/// The value that a record of these calls holds; no call wrote `u64::MAX`.
fn number(record: &Record) -> u64 {
    std::str::from_utf8(&record.data)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u64::MAX)
}
