//! Dropped futures, servers that are down, values that cannot be read.

use std::{future::Future, sync::Arc, time::Duration};

use session_core::{Error, ErrorKind, Record, SessionKey, SessionStore, Version, head};

use crate::{
    Cx, Raw, Stop, Verdict,
    callers::{callers, cut},
    expect::{Answer, ensure, refused, refused_as, same},
    table::table,
};

table! { "cancellation and failure":
    cancelled_calls_leave_the_store_usable: stochastic;
    unreachable_server_is_unavailable_within_the_deadline;
    foreign_value_is_corrupt_not_a_panic_and_not_absent;
    truncated_value_is_corrupt;
    value_of_another_key_is_corrupt;
    value_of_a_newer_version_is_left_alone;
    unreadable_value_is_deleted_when_asked;
    one_unreadable_record_in_a_batch_fails_alone;
}

/// After futures of every call were dropped at random points, by callers that shared the store, 1,000 calls have
/// their own answers: no connection is lost or stuck, and no reply goes to another call (CVE-2023-28858).
async fn cancelled_calls_leave_the_store_usable(cx: Cx) -> Verdict {
    const CALLERS: usize = 16;
    const KEYS: usize = 128;
    let keys: Arc<[SessionKey]> = cx.keys(KEYS).into();
    for key in &*keys {
        cx.store().create(key, &of(key, 0), Cx::LONG).await?;
    }
    callers(CALLERS, |caller| {
        let (store, keys, mut rng) = (cx.store(), Arc::clone(&keys), cx.rng(caller as u64));
        async move {
            for round in 0..60 {
                let key = &keys[rng.usize(..KEYS)];
                let (polls, at_once) = (rng.usize(..4), rng.bool());
                match rng.u8(..5) {
                    0..2 => drop(cut(store.load(key), polls, at_once).await),
                    2 => {
                        let version = store
                            .load(key)
                            .await?
                            .map_or(Version::random()?, |stored| stored.version);
                        drop(
                            cut(
                                store.update(key, version, &of(key, round), Cx::LONG),
                                polls,
                                at_once,
                            )
                            .await,
                        );
                    }
                    3 => drop(cut(store.touch(key, Cx::LONG), polls, at_once).await),
                    _ => {
                        let (key, record) = (keys[rng.usize(..KEYS)], Record::new("never"));
                        drop(cut(store.create(&key, &record, Cx::LONG), polls, at_once).await);
                    }
                }
            }
            Ok(())
        }
    })
    .await?;
    callers(CALLERS, |caller| {
        let (store, keys) = (cx.store(), Arc::clone(&keys));
        async move {
            // Four calls for each key: 1,024 in all with the last one.
            for key in keys.iter().skip(caller).step_by(CALLERS) {
                let stored = store.load(key).await?;
                let stored = stored
                    .ok_or_else(|| Stop::Broken(format!("load({key})\nexpected: its session\nseen: None")))?;
                ensure(stored.record.data.starts_with(key.as_bytes()), || {
                    format!("load({key})\nexpected: its own data\nseen: {stored:?}")
                })?;
                for round in 100..103 {
                    let version = store
                        .load(key)
                        .await?
                        .map_or(stored.version, |stored| stored.version);
                    store.update(key, version, &of(key, round), Cx::LONG).await?;
                    let seen = store.load(key).await?.map(|stored| stored.record);
                    same(format!("load({key}) after update"), seen, Some(of(key, round)))?;
                }
                same(
                    format!("delete({key})"),
                    store.delete(key, None).await.answer(),
                    Ok(true),
                )?;
            }
            Ok(())
        }
    })
    .await
    .map(drop)
}

/// A record that tells whose it is.
fn of(key: &SessionKey, round: u8) -> Record {
    let mut data = key.as_bytes().to_vec();
    data.extend(std::iter::repeat_n(round, usize::from(round)));
    Record::new(data)
}

/// When the server is down, every call ends in `Unavailable`, which is retryable: no panic, no hang, no `None`.
async fn unreachable_server_is_unavailable_within_the_deadline(cx: Cx) -> Verdict {
    every_call_is_down(&cx, &*cx.unreachable().await?, "is down").await
}

/// A deadline is half a second by default, and connecting may take one; what has no answer after five has no deadline.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Every call of `store` ends in `Unavailable`, made together with the others, because its server `is_so`.
pub(super) async fn every_call_is_down(cx: &Cx, store: &dyn SessionStore, is_so: &str) -> Verdict {
    let (key, record, version) = (cx.key(), Record::new("data"), Version::random()?);
    let subject = cx.subject();
    tokio::try_join!(
        down("create", is_so, store.create(&key, &record, Cx::LONG)),
        down("load", is_so, store.load(&key)),
        down("update", is_so, store.update(&key, version, &record, Cx::LONG)),
        down("touch", is_so, store.touch(&key, Cx::LONG)),
        down("delete", is_so, store.delete(&key, None)),
        down("delete(version)", is_so, store.delete(&key, Some(version))),
        async {
            match store.subjects() {
                Some(subjects) => down("list", is_so, subjects.list(&subject)).await,
                None => Ok(()),
            }
        },
        async {
            match store.subjects() {
                Some(subjects) => down("delete_all", is_so, subjects.delete_all(&subject, None)).await,
                None => Ok(()),
            }
        },
        async {
            match store.sweep() {
                Some(sweep) => down("remove_expired", is_so, sweep.remove_expired(10)).await,
                None => Ok(()),
            }
        },
    )
    .map(drop)
}

async fn down<T: std::fmt::Debug>(
    call: &str,
    is_so: &str,
    answer: impl Future<Output = Result<T, Error>>,
) -> Verdict {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => refused(
            format!("{call} while the server {is_so}"),
            answer,
            ErrorKind::Unavailable,
        ),
        Err(_) => Err(Stop::Broken(format!(
            "{call} while the server {is_so}\nexpected: Unavailable\nseen: no answer in {PATIENCE:?}"
        ))),
    }
}

/// Unreadable: neither absent nor fine.
fn unreadable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::NewerFormat)
}

/// Every call but an unconditional `delete` refuses an unreadable value of this kind, and leaves its bytes alone.
async fn is_refused(
    cx: &Cx,
    raw: &dyn Raw,
    (key, value): (&SessionKey, &[u8]),
    kind: ErrorKind,
    what: &str,
) -> Verdict {
    let (store, version, record) = (cx.store(), Version::random()?, Record::new("over it"));
    raw.plant(key, value).await?;
    refused(format!("load of {what}"), store.load(key).await, kind)?;
    let seen = store.create(key, &record, Cx::LONG).await;
    refused(format!("create over {what}"), seen, ErrorKind::AlreadyExists)?;
    let or_conflict = |seen| seen == kind || seen == ErrorKind::Conflict;
    let wanted = format!("{kind:?} or Conflict");
    for expected in [version, version_in(value)] {
        let seen = store.update(key, expected, &record, Cx::LONG).await;
        refused_as(format!("update of {what}"), seen, or_conflict, &wanted)?;
        let seen = store.delete(key, Some(expected)).await;
        refused_as(format!("delete(version) of {what}"), seen, or_conflict, &wanted)?;
    }
    if let Err(error) = store.touch(key, Cx::LONG).await {
        same(format!("touch of {what}"), error.kind(), kind)?;
    }
    let left = raw.read(key).await?;
    ensure(left.as_deref() == Some(value), || {
        format!("the server's bytes after calls on {what}\nexpected: {value:?}\nseen: {left:?}")
    })
}

/// The version at its place in `value`, as a script that compares it on the server would find it.
fn version_in(value: &[u8]) -> Version {
    let bytes = value.get(head::VERSION).and_then(|bytes| bytes.try_into().ok());
    Version::from_bytes(bytes.unwrap_or([0; 16]))
}

/// A value that no session store wrote (nothing, text, another program's, hostile bytes) is `Corrupt`: no panic, not
/// absent, not free to be created; and its bytes stay for whoever can read them.
async fn foreign_value_is_corrupt_not_a_panic_and_not_absent(cx: Cx) -> Verdict {
    let raw = cx.raw().await?;
    let foreign: [&[u8]; 10] = [
        b"",
        b"\0",
        b"hello",
        b"{\"user\":1}",
        b"a:1:{s:4:\"user\";i:1;}",
        b"SSN",
        b"SSN\0",
        b"SSN\x01",
        b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f\xfd\xff\xff\xff\xff\xff\xff\x7f",
        &[0xff; 4096],
    ];
    for value in foreign {
        let key = cx.key();
        is_refused(
            &cx,
            &*raw,
            (&key, value),
            ErrorKind::Corrupt,
            &format!("a foreign value of {} bytes", value.len()),
        )
        .await?;
    }
    Ok(())
}

/// A value that was cut, at any byte, or that goes on after its end, is `Corrupt`, never a shorter session (CVE-2016-3171);
/// and no write takes it for the session whose version it still has.
async fn truncated_value_is_corrupt(cx: Cx) -> Verdict {
    let (raw, key, store) = (cx.raw().await?, cx.key(), cx.store());
    let record = Record::new("some data, and more of it").with_subject(cx.subject());
    store.create(&key, &record, Cx::LONG).await?;
    let whole = raw
        .read(&key)
        .await?
        .ok_or_else(|| Stop::Broken("Raw::read of a session\nexpected: its bytes\nseen: None".to_owned()))?;
    for end in 0..whole.len() {
        raw.plant(&key, &whole[..end]).await?;
        let seen = store.load(&key).await;
        refused(
            format!("load of {end} bytes of {}", whole.len()),
            seen,
            ErrorKind::Corrupt,
        )?;
    }
    raw.plant(&key, &whole).await?;
    let seen = store.load(&key).await?.map(|stored| stored.record);
    same("load of the whole value", seen, Some(record))?;
    // Each has a version where one is to be: that of the session that it was.
    let longer = [&*whole, b"x"].concat();
    let ends = [head::VERSION.end, head::LEN, whole.len() - 1];
    for value in ends.map(|end| &whole[..end]).into_iter().chain([&*longer]) {
        let what = format!("{} bytes of a value of {}", value.len(), whole.len());
        is_refused(&cx, &*raw, (&key, value), ErrorKind::Corrupt, &what).await?;
    }
    Ok(())
}

/// A whole value of another key is `Corrupt`, whether this key had one or not: a reply that belongs to somebody else
/// is nobody's session here.
async fn value_of_another_key_is_corrupt(cx: Cx) -> Verdict {
    let (raw, store) = (cx.raw().await?, cx.store());
    let (mine, theirs, absent) = (cx.key(), cx.key(), cx.key());
    store
        .create(&mine, &Record::new("mine").with_subject(cx.subject()), Cx::LONG)
        .await?;
    store
        .create(
            &theirs,
            &Record::new("theirs").with_subject(cx.subject()),
            Cx::LONG,
        )
        .await?;
    let value = raw
        .read(&theirs)
        .await?
        .ok_or_else(|| Stop::Broken("Raw::read of a session\nexpected: its bytes\nseen: None".to_owned()))?;
    for key in [mine, absent] {
        is_refused(
            &cx,
            &*raw,
            (&key, &value),
            ErrorKind::Corrupt,
            "another key's value",
        )
        .await?;
    }
    Ok(())
}

/// A value that a newer version of this software wrote is `NewerFormat`, apart from `Corrupt`, and stays byte by byte:
/// the older node of a rolling upgrade destroys nothing.
async fn value_of_a_newer_version_is_left_alone(cx: Cx) -> Verdict {
    let (raw, store) = (cx.raw().await?, cx.store());
    for format in [head::FORMAT + 1, u8::MAX] {
        let key = cx.key();
        let version = store
            .create(&key, &Record::new("data").with_subject(cx.subject()), Cx::LONG)
            .await?;
        let mut value = head::seal("newer", &key, version, &Record::new("data"))?;
        value[3] = format;
        value.extend_from_slice(b"and fields that this version does not know");
        is_refused(
            &cx,
            &*raw,
            (&key, &value),
            ErrorKind::NewerFormat,
            "a newer format's value",
        )
        .await?;
    }
    Ok(())
}

/// `delete` without a version removes what cannot be read, and says that it was there; the key is free then.
async fn unreadable_value_is_deleted_when_asked(cx: Cx) -> Verdict {
    let (raw, store) = (cx.raw().await?, cx.store());
    let key = cx.key();
    let mut newer = head::seal("newer", &key, Version::random()?, &Record::new("data"))?;
    newer[3] = head::FORMAT + 1;
    for value in [b"foreign".as_slice(), &newer] {
        raw.plant(&key, value).await?;
        refused_as(
            "load",
            store.load(&key).await,
            unreadable,
            "Corrupt or NewerFormat",
        )?;
        same(
            "delete(unreadable)",
            store.delete(&key, None).await.answer(),
            Ok(true),
        )?;
        same("load after it", store.load(&key).await.answer(), Ok(None))?;
        store.create(&key, &Record::new("new"), Cx::LONG).await?;
        store.delete(&key, None).await?;
    }
    Ok(())
}

/// Of 64 sessions that are loaded at once, the one that cannot be read fails, and the others are loaded.
async fn one_unreadable_record_in_a_batch_fails_alone(cx: Cx) -> Verdict {
    const CALLERS: usize = 64;
    const BAD: usize = 17;
    let (raw, keys) = (cx.raw().await?, cx.keys(CALLERS));
    for key in &keys {
        cx.store().create(key, &of(key, 1), Cx::LONG).await?;
    }
    raw.plant(&keys[BAD], b"foreign").await?;
    for _ in 0..10 {
        let answers = callers(CALLERS, |caller| {
            let (store, key) = (cx.store(), keys[caller]);
            async move {
                Ok(store
                    .load(&key)
                    .await
                    .answer()
                    .map(|stored| stored.map(|stored| stored.record)))
            }
        })
        .await?;
        for (caller, answer) in answers.into_iter().enumerate() {
            let expected = if caller == BAD {
                Err(ErrorKind::Corrupt)
            } else {
                Ok(Some(of(&keys[caller], 1)))
            };
            same(
                format!("load {caller} beside an unreadable record"),
                answer,
                expected,
            )?;
        }
    }
    Ok(())
}
