//! Every call has the answer that the contract gives it.

use std::{
    mem::discriminant,
    time::{Duration, Instant},
};

use session_core::{
    Capability, Error, ErrorKind, MemoryStore, Record, SessionKey, SessionStore, StoreProfile, Subject,
    Version,
};

use crate::{
    Cx, Stop, Verdict,
    expect::{Answer, ensure, loads, same, short},
    table::table,
};

table! { "answers":
    every_call_in_every_state_answers_as_the_table_says;
    random_calls_agree_with_the_memory_store: stochastic;
    capabilities_are_declared_exactly_when_they_exist;
    every_error_names_its_backend;
}

/// What is under the key when a call comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Live,
    /// Its life is over, and nothing has removed it yet where that is the store's own work.
    Expired,
    /// Created, and deleted again.
    Deleted,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Create,
    Load,
    UpdateCurrent,
    UpdateOther,
    Touch,
    Delete,
    DeleteCurrent,
    DeleteOther,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Written,
    Record,
    Nothing,
    Done,
    True,
    False,
    Refused(ErrorKind),
}

/// The contract's table: the answer of each call in each state. `Current` is the version of the record that is, or
/// last was, under the key.
const ANSWERS: &[(Call, [(State, Seen); 4])] = {
    use {Call::*, ErrorKind::*, Seen::*, State::*};
    &[
        (
            Create,
            [
                (Absent, Written),
                (Live, Refused(AlreadyExists)),
                (Expired, Written),
                (Deleted, Written),
            ],
        ),
        (
            Load,
            [
                (Absent, Nothing),
                (Live, Record),
                (Expired, Nothing),
                (Deleted, Nothing),
            ],
        ),
        (
            UpdateCurrent,
            [
                (Absent, Refused(NotFound)),
                (Live, Written),
                (Expired, Refused(NotFound)),
                (Deleted, Refused(NotFound)),
            ],
        ),
        (
            UpdateOther,
            [
                (Absent, Refused(NotFound)),
                (Live, Refused(Conflict)),
                (Expired, Refused(NotFound)),
                (Deleted, Refused(NotFound)),
            ],
        ),
        (
            Touch,
            [
                (Absent, Refused(NotFound)),
                (Live, Done),
                (Expired, Refused(NotFound)),
                (Deleted, Refused(NotFound)),
            ],
        ),
        (
            Delete,
            [(Absent, False), (Live, True), (Expired, False), (Deleted, False)],
        ),
        (
            DeleteCurrent,
            [(Absent, False), (Live, True), (Expired, False), (Deleted, False)],
        ),
        (
            DeleteOther,
            [
                (Absent, False),
                (Live, Refused(Conflict)),
                (Expired, False),
                (Deleted, False),
            ],
        ),
    ]
};

/// Each call of the contract, on a key that is absent, live, expired or deleted, has exactly the answer of the
/// contract's table; and what was refused has changed nothing.
async fn every_call_in_every_state_answers_as_the_table_says(cx: Cx) -> Verdict {
    let store = cx.store();
    let old = Record::new("old").with_subject(cx.subject());
    let mut cases = Vec::new();
    for &(call, row) in ANSWERS {
        for (state, expected) in row {
            let key = cx.key();
            let version = match state {
                State::Absent => Version::random()?,
                State::Expired => store.create(&key, &old, cx.short()).await?,
                State::Live => store.create(&key, &old, Cx::LONG).await?,
                State::Deleted => {
                    let version = store.create(&key, &old, Cx::LONG).await?;
                    store.delete(&key, None).await?;
                    version
                }
            };
            cases.push((call, state, expected, key, version));
        }
    }
    cx.ended(Instant::now(), cx.short()).await;

    let new = Record::new("new");
    for (call, state, expected, key, version) in cases {
        let other = Version::random()?;
        let written = |answer: Result<Version, Error>| answer.map(|_| Seen::Written);
        let deleted =
            |answer: Result<bool, Error>| answer.map(|was| if was { Seen::True } else { Seen::False });
        let seen = match call {
            Call::Create => written(store.create(&key, &new, Cx::LONG).await),
            Call::Load => {
                let answer = store.load(&key).await;
                answer.map(|stored| stored.map_or(Seen::Nothing, |_| Seen::Record))
            }
            Call::UpdateCurrent => written(store.update(&key, version, &new, Cx::LONG).await),
            Call::UpdateOther => written(store.update(&key, other, &new, Cx::LONG).await),
            Call::Touch => store.touch(&key, Cx::LONG).await.map(|()| Seen::Done),
            Call::Delete => deleted(store.delete(&key, None).await),
            Call::DeleteCurrent => deleted(store.delete(&key, Some(version)).await),
            Call::DeleteOther => deleted(store.delete(&key, Some(other)).await),
        };
        let seen = seen.unwrap_or_else(|error| Seen::Refused(error.kind()));
        same(format!("{call:?} on a key that is {state:?}"), seen, expected)?;
        match (expected, state) {
            (Seen::Refused(_), State::Live) => loads(&cx, &key, &old, version).await?,
            (Seen::Refused(_) | Seen::False | Seen::True, _) => {
                let left = store.load(&key).await.answer();
                same(
                    format!("load after {call:?} on a key that is {state:?}"),
                    left,
                    Ok(None),
                )?;
            }
            (Seen::Written, _) => {
                let left = store.load(&key).await?.map(|stored| stored.record);
                same(
                    format!("load after {call:?} on a key that is {state:?}"),
                    left,
                    Some(new.clone()),
                )?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Random calls on a few keys, one after the other, have the same answers as the same calls on the memory store.
async fn random_calls_agree_with_the_memory_store(cx: Cx) -> Verdict {
    for round in 0..4 {
        agree(&cx, round).await?;
    }
    Ok(())
}

/// A key here and there, and the pairs of versions that its writes had.
struct Pair {
    key: SessionKey,
    versions: Vec<(Version, Version)>,
}

async fn agree(cx: &Cx, round: u64) -> Verdict {
    const STEPS: usize = 300;
    let mut rng = cx.rng(round);
    let (store, model) = (cx.store(), MemoryStore::builder().build()?);
    let subjects = [cx.subject(), cx.subject()];
    let first = (Version::random()?, Version::random()?);
    let mut pairs: Vec<Pair> = (0..4)
        .map(|_| Pair {
            key: cx.key(),
            versions: vec![first],
        })
        .collect();
    for step in 0..STEPS {
        let pair = rng
            .choice(&mut pairs)
            .ok_or_else(|| Stop::Broken("no keys".to_owned()))?;
        let key = pair.key;
        let record = random_record(&mut rng, &subjects);
        // Mostly the newest version; else any older one.
        let back = if rng.u8(..4) == 0 {
            rng.usize(..pair.versions.len())
        } else {
            0
        };
        let (ours, theirs) = pair.versions[pair.versions.len() - 1 - back];
        let ttl = Cx::LONG + cx.short() * rng.u32(..100);
        let (call, seen, expected) = match rng.u8(..100) {
            0..20 => {
                let seen = store.create(&key, &record, ttl).await;
                let expected = model.create(&key, &record, ttl).await;
                pair.versions
                    .extend(seen.as_ref().ok().copied().zip(expected.as_ref().ok().copied()));
                (
                    "create",
                    seen.map(|_| "written".to_owned()),
                    expected.map(|_| "written".to_owned()),
                )
            }
            20..50 => {
                let seen = store.update(&key, ours, &record, ttl).await;
                let expected = model.update(&key, theirs, &record, ttl).await;
                pair.versions
                    .extend(seen.as_ref().ok().copied().zip(expected.as_ref().ok().copied()));
                (
                    "update",
                    seen.map(|_| "written".to_owned()),
                    expected.map(|_| "written".to_owned()),
                )
            }
            50..70 => ("load", Ok(String::new()), Ok(String::new())),
            70..80 => {
                let (seen, expected) = (store.touch(&key, ttl).await, model.touch(&key, ttl).await);
                (
                    "touch",
                    seen.map(|()| "done".to_owned()),
                    expected.map(|()| "done".to_owned()),
                )
            }
            80..90 => {
                let (seen, expected) = (store.delete(&key, None).await, model.delete(&key, None).await);
                (
                    "delete",
                    seen.map(|was| was.to_string()),
                    expected.map(|was| was.to_string()),
                )
            }
            90..96 => {
                let seen = store.delete(&key, Some(ours)).await;
                let expected = model.delete(&key, Some(theirs)).await;
                (
                    "delete(version)",
                    seen.map(|was| was.to_string()),
                    expected.map(|was| was.to_string()),
                )
            }
            _ => {
                let seen = store.touch(&key, Duration::ZERO).await;
                let expected = model.touch(&key, Duration::ZERO).await;
                (
                    "touch(0)",
                    seen.map(|()| "done".to_owned()),
                    expected.map(|()| "done".to_owned()),
                )
            }
        };
        let at = format!("round {round}, step {step}: {call}({key}, version {back} writes back)");
        // Kinds carry each store's own limits: which kind it is counts.
        let kinds = (seen.as_ref().err(), expected.as_ref().err());
        let alike = match kinds {
            (Some(seen), Some(expected)) => discriminant(&seen.kind()) == discriminant(&expected.kind()),
            _ => seen.as_ref().ok() == expected.as_ref().ok(),
        };
        ensure(alike, || {
            format!("{at}\nexpected: {}\nseen: {}", short(&expected), short(&seen))
        })?;
        // And what is there afterwards is the same.
        let seen = store
            .load(&key)
            .await?
            .map(|stored| (stored.record, stored.version));
        let expected = model.load(&key).await?.map(|stored| {
            let pair = pair
                .versions
                .iter()
                .rev()
                .find(|(_, theirs)| *theirs == stored.version);
            (stored.record, pair.map_or(stored.version, |(ours, _)| *ours))
        });
        same(format!("{at}, then load"), seen, expected)?;
    }
    Ok(())
}

fn random_record(rng: &mut fastrand::Rng, subjects: &[Subject]) -> Record {
    let mut data = vec![0; rng.usize(..200)];
    rng.fill(&mut data);
    let subject = rng.bool().then(|| rng.choice(subjects).cloned()).flatten();
    Record::new(data).with_subject(subject)
}

/// The profile declares `Subjects` and `Sweep` exactly when the accessor returns `Some`.
async fn capabilities_are_declared_exactly_when_they_exist(cx: Cx) -> Verdict {
    let store = cx.store();
    let exists = [
        (Capability::Subjects, store.subjects().is_some()),
        (Capability::Sweep, store.sweep().is_some()),
    ];
    for (capability, exists) in exists {
        same(
            format!("profile().has({capability:?})"),
            store.profile().has(capability),
            exists,
        )?;
    }
    Ok(())
}

/// An error's backend is the profile's name, so that a log tells which of two stores failed.
async fn every_error_names_its_backend(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let StoreProfile { name, limits, .. } = store.profile().clone();
    ensure(!name.is_empty(), || "profile().name is empty".to_owned())?;
    let record = Record::new("data");
    let too_large = Record::new(vec![0; limits.max_record + 1]);
    let mut errors = vec![
        store
            .update(&key, Version::random()?, &record, Cx::LONG)
            .await
            .err(),
        store.touch(&key, Cx::LONG).await.err(),
        store.create(&key, &record, Duration::ZERO).await.err(),
        store.create(&key, &too_large, Cx::LONG).await.err(),
    ];
    let version = store.create(&key, &record, Cx::LONG).await?;
    errors.push(store.create(&key, &record, Cx::LONG).await.err());
    store.update(&key, version, &record, Cx::LONG).await?;
    errors.push(store.update(&key, version, &record, Cx::LONG).await.err());
    errors.push(store.delete(&key, Some(version)).await.err());
    for (at, error) in errors.into_iter().enumerate() {
        let backend = error.as_ref().map(Error::backend);
        same(format!("backend of error {at} ({error:?})"), backend, Some(name))?;
    }
    Ok(())
}
