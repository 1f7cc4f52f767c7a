//! Other programs that use the same database: their locks, their changes before they are committed, their snapshots.

mod kept;
mod met;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Subject, Version};
use tokio::sync::Semaphore;

use self::{
    kept::lock_that_is_kept_is_unavailable_within_the_deadline,
    met::call_that_met_a_lock_answers_as_what_was_committed,
};
use super::one::{Call, FIRST, Told, first, found};
use crate::{
    Cx, Deed, Rival, Scope, Stop, Verdict,
    callers::callers,
    expect::{Answer, ensure, same},
    table::table,
};

table! { "other programs":
    a_locked_record_delays_nobody_else;
    call_that_met_a_lock_answers_as_what_was_committed;
    lock_that_is_kept_is_unavailable_within_the_deadline;
    sweep_passes_over_a_locked_record: needs Sweep;
    uncommitted_changes_are_not_seen;
    long_transaction_of_another_program_stops_nothing;
}

/// Deeds of one kind.
fn all(keys: impl IntoIterator<Item = SessionKey>, deed: &Deed) -> Vec<(SessionKey, Deed)> {
    keys.into_iter().map(|key| (key, deed.clone())).collect()
}

/// A lock is on a record, or the guarantee cannot be kept by any store on this server.
fn locks_records(rival: &dyn Rival) -> Verdict {
    match rival.locks() {
        Scope::Record => Ok(()),
        Scope::Store => Err(Stop::Untested(
            "a lock is on the whole store: whoever writes waits for it".to_owned(),
        )),
    }
}

/// While another program holds the locks of some records, calls of every kind on others are answered as ever, though they
/// begin together with calls that meet the locks; a load of a locked record is answered too. The locks are kept until
/// they all have been, so that who waits, waits until its deadline. Then the calls that met the locks are answered.
async fn a_locked_record_delays_nobody_else(cx: Cx) -> Verdict {
    const CALLERS: usize = 64;
    const EACH: usize = 3;
    let rival = cx.rival().await?;
    locks_records(&*rival)?;
    let subject = cx.subject();
    let deleted = Record::new(FIRST).with_subject(cx.subject());
    for round in 0..3 {
        let locked = first(&cx, Call::ALL.len() * 2, Cx::LONG).await?;
        let free = first(&cx, CALLERS * EACH, Cx::LONG).await?;
        let listed = cx.key();
        let record = Record::new(FIRST).with_subject(subject.clone());
        cx.store().create(&listed, &record, Cx::LONG).await?;
        let ended = deleted.subject.clone();
        cx.store().create(&cx.key(), &deleted, Cx::LONG).await?;
        let deeds = all(locked.iter().map(|(key, _)| *key).chain([listed]), &Deed::Lock);
        let transaction = rival.begin(&deeds).await?;

        let answered = Arc::new(Semaphore::new(0));
        let calls = callers(CALLERS, |caller| {
            let (cx, subject, ended) = (cx.clone(), subject.clone(), ended.clone());
            // Those that meet a lock are spread among the others.
            let meets = locked.get(caller / 6).filter(|_| caller % 6 == 0).copied();
            let free: Vec<_> = free.iter().skip(caller).step_by(CALLERS).copied().collect();
            let of_locked = locked[caller % locked.len()].0;
            let answered = Arc::clone(&answered);
            async move {
                let store = cx.store();
                let call = Call::ALL[caller % Call::ALL.len()];
                if let Some((key, version)) = meets {
                    let answer = call.make(&*store, &key, version, "new").await;
                    return Ok(Some((call, answer)));
                }
                for (key, version) in free {
                    is_right(&*store, call, (&key, version), "beside a locked one").await?;
                    let seen = found(&*store, &of_locked).await?.map(|(data, _)| data);
                    same("load of a locked record", seen.as_deref(), Some(FIRST))?;
                }
                match store.subjects() {
                    Some(subjects) if caller == CALLERS - 1 => {
                        let seen = subjects.list(&subject).await?;
                        ensure(seen.contains(&listed), || {
                            format!("list with a locked record\nexpected: {listed} in it\nseen: {seen:?}")
                        })?;
                        if let Some(ended) = ended {
                            let seen = subjects.delete_all(&ended, None).await.answer();
                            same("delete_all beside a locked record", seen, Ok(1))?;
                        }
                    }
                    _ => {}
                }
                answered.add_permits(1);
                Ok(None)
            }
        });
        let release = async {
            let others = (CALLERS - locked.len()) as u32;
            // It is never closed.
            drop(answered.acquire_many(others).await);
            match round % 2 {
                0 => transaction.commit().await,
                _ => transaction.roll_back().await,
            }
            .map_err(Stop::from)
        };
        let (met, ()) = tokio::try_join!(calls, release)?;
        for (call, seen) in met.into_iter().flatten() {
            let (right, _) = call.on(Some(FIRST), "new");
            same(format!("{call:?} of a record that was locked"), seen, right)?;
        }
    }
    Ok(())
}

/// The call answers on a first record as if it was alone.
async fn is_right(
    store: &dyn SessionStore,
    call: Call,
    (key, version): (&SessionKey, Version),
    what: &str,
) -> Verdict {
    let seen = call.make(store, key, version, "new").await;
    let (right, _) = call.on(Some(FIRST), "new");
    same(format!("{call:?} of a record {what}"), seen, right)
}

/// A sweep waits for no lock: it removes the other records that have ended, and none that is live, while another program
/// has locked one; and that one once it is free.
async fn sweep_passes_over_a_locked_record(cx: Cx) -> Verdict {
    const ENDED: usize = 20;
    let store = cx.store();
    let sweep = store.sweep().ok_or(Stop::Unsupported)?;
    let rival = cx.rival().await?;
    locks_records(&*rival)?;
    // Long enough to be locked before it ends.
    let ttl = cx.short() + Duration::from_secs(1);
    let live = first(&cx, 3, Cx::LONG).await?;
    let ended = first(&cx, ENDED, ttl).await?;
    let deeds = all([ended[0].0, ended[ENDED / 2].0], &Deed::Lock);
    let transaction = rival.begin(&deeds).await?;
    cx.ended(Instant::now(), ttl).await;
    let mut removed = 0;
    // As often as would do if each removed one.
    for _ in 0..ENDED {
        removed += sweep.remove_expired(ENDED).await?;
    }
    same(
        "records that sweeps removed while two of those that had ended were locked",
        removed,
        ENDED - 2,
    )?;
    transaction.roll_back().await?;
    same(
        "remove_expired once they are free",
        sweep.remove_expired(ENDED).await.answer(),
        Ok(2),
    )?;
    for (key, _) in &live {
        let seen = found(&*store, key).await?.map(|(data, _)| data);
        same("load of a live record", seen.as_deref(), Some(FIRST))?;
    }
    Ok(())
}

/// What another program has changed is not seen before it is committed, and never if it is rolled back: not by `load`, not
/// by `list`, on no node. Once it is committed, all see it.
async fn uncommitted_changes_are_not_seen(cx: Cx) -> Verdict {
    let rival = cx.rival().await?;
    let nodes = cx.nodes(2).await?;
    for commits in [false, true] {
        let (subject, other) = (cx.subject(), cx.subject());
        let old = Record::new("old").with_subject(subject.clone());
        let new = Record::new("new").with_subject(other.clone());
        let (keys, version) = (cx.keys(3), Version::random()?);
        for key in &keys {
            cx.store().create(key, &old, Cx::LONG).await?;
        }
        let replace = Deed::Replace {
            record: new.clone(),
            version,
        };
        let deeds = [replace, Deed::Delete, Deed::Expire];
        let deeds: Vec<_> = keys.iter().copied().zip(deeds).collect();
        let before = vec![Some(old.clone()); 3];
        let after = match commits {
            true => vec![Some(new), None, None],
            false => before.clone(),
        };
        let transaction = rival.begin(&deeds).await?;
        are_seen(&nodes, &keys, &before, (&subject, &other), "before the end").await?;
        let end = match commits {
            true => {
                transaction.commit().await?;
                "after the commit"
            }
            false => {
                transaction.roll_back().await?;
                "after the rollback"
            }
        };
        are_seen(&nodes, &keys, &after, (&subject, &other), end).await?;
    }
    Ok(())
}

/// Each node loads these records, and lists them by their subjects.
async fn are_seen(
    nodes: &[Arc<dyn SessionStore>],
    keys: &[SessionKey],
    records: &[Option<Record>],
    subjects: (&Subject, &Subject),
    when: &str,
) -> Verdict {
    for node in nodes {
        for (key, record) in keys.iter().zip(records) {
            let seen = node.load(key).await?.map(|stored| stored.record);
            same(
                format!("load {when} of a transaction that changes it"),
                seen.as_ref(),
                record.as_ref(),
            )?;
        }
        let Some(index) = node.subjects() else {
            continue;
        };
        for subject in [subjects.0, subjects.1] {
            let is_of = |record: &&Option<Record>| {
                record
                    .as_ref()
                    .is_some_and(|record| record.subject.as_ref() == Some(subject))
            };
            let count = records.iter().filter(is_of).count();
            let seen = index.list(subject).await?;
            same(
                format!("list {when} of a transaction that changes it: {seen:?}"),
                seen.len(),
                count,
            )?;
        }
    }
    Ok(())
}

/// While another program reads in a snapshot that it keeps, every call, `list`, `delete_all` and a sweep answer as ever
/// on the records that it sees; and what they did stays done when it ends.
async fn long_transaction_of_another_program_stops_nothing(cx: Cx) -> Verdict {
    const ENDED: usize = 5;
    let rival = cx.rival().await?;
    let (store, subject) = (cx.store(), cx.subject());
    let ttl = cx.short() + Duration::from_secs(1);
    let held = first(&cx, Call::ALL.len(), Cx::LONG).await?;
    let of_subject = cx.keys(3);
    for key in &of_subject {
        let record = Record::new(FIRST).with_subject(subject.clone());
        store.create(key, &record, Cx::LONG).await?;
    }
    let ended = first(&cx, ENDED, ttl).await?;
    let looked_at = held.iter().chain(&ended).map(|(key, _)| *key);
    let deeds = all(looked_at.chain(of_subject.iter().copied()), &Deed::Look);
    let transaction = rival.begin(&deeds).await?;

    let new = cx.key();
    let seen = Call::Create.make(&*store, &new, Version::random()?, "new").await;
    same("Create beside a snapshot", seen, Ok(Told::Written))?;
    for (call, (key, version)) in Call::ALL.into_iter().zip(&held) {
        is_right(&*store, call, (key, *version), "that another program looks at").await?;
    }
    if let Some(subjects) = store.subjects() {
        let seen = subjects.list(&subject).await?;
        same("list: how many", seen.len(), of_subject.len())?;
        let seen = subjects.delete_all(&subject, Some(&of_subject[0])).await.answer();
        same("delete_all but one", seen, Ok(2))?;
        let seen = subjects.list(&subject).await.answer();
        same("list after it", seen, Ok(vec![of_subject[0]]))?;
    }
    cx.ended(Instant::now(), ttl).await;
    if let Some(sweep) = store.sweep() {
        let seen = sweep.remove_expired(1_000).await.answer();
        same("remove_expired", seen, Ok(ENDED))?;
    }
    are_left(&*store, &held, &new, "while the snapshot is kept").await?;
    transaction.commit().await?;
    are_left(&*store, &held, &new, "after the snapshot's end").await?;
    for (key, version) in &ended {
        let seen = Call::Update.make(&*store, key, *version, "late").await;
        same(
            "Update of a record that has ended",
            seen,
            Err(ErrorKind::NotFound),
        )?;
    }
    Ok(())
}

/// What each call left.
async fn are_left(
    store: &dyn SessionStore,
    held: &[(SessionKey, Version)],
    new: &SessionKey,
    when: &str,
) -> Verdict {
    let seen = found(store, new).await?.map(|(data, _)| data);
    same(
        format!("load of a new record {when}"),
        seen.as_deref(),
        Some("new"),
    )?;
    for (call, (key, _)) in Call::ALL.into_iter().zip(held) {
        let seen = found(store, key).await?.map(|(data, _)| data);
        let (_, left) = call.on(Some(FIRST), "new");
        same(format!("load after {call:?}, {when}"), seen.as_deref(), left)?;
    }
    Ok(())
}
