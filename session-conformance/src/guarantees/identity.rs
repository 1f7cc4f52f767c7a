//! One key, one session.

use std::time::Instant;

use session_core::{ErrorKind, Record};

use crate::{
    Cx, Verdict,
    callers::callers,
    expect::{Answer, loads, refused, same},
    table::table,
};

table! { "identity":
    create_on_a_live_key_is_refused_and_changes_nothing;
    create_on_an_expired_key_succeeds;
    concurrent_creates_have_one_winner;
    namespaces_do_not_see_each_other;
}

/// `create` on a live key is `AlreadyExists`: data, subject, version and the end stay as they were.
async fn create_on_a_live_key_is_refused_and_changes_nothing(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let mine = Record::new("mine").with_subject(cx.subject());
    let version = store.create(&key, &mine, Cx::LONG).await?;
    let theirs = Record::new("theirs").with_subject(cx.subject());
    let seen = store.create(&key, &theirs, Cx::LONG * 4).await;
    refused("create on a live key", seen, ErrorKind::AlreadyExists)?;
    loads(&cx, &key, &mine, version).await?;
    let remaining = store.load(&key).await?.map(|stored| stored.remaining);
    let granted = cx.most(Cx::LONG);
    same(
        format!("remaining <= {granted:?} after a refused create with a longer ttl ({remaining:?})"),
        remaining.is_some_and(|remaining| remaining <= granted),
        true,
    )
}

/// A session whose life is over does not stand in the way of a new one, even where its row still waits for the
/// sweeper; and nothing of it is left in the new one.
async fn create_on_an_expired_key_succeeds(cx: Cx) -> Verdict {
    let (store, key) = (cx.store(), cx.key());
    let old = Record::new("old").with_subject(cx.subject());
    let before = store.create(&key, &old, cx.short()).await?;
    cx.ended(Instant::now(), cx.short()).await;
    let new = Record::new("new");
    let version = store.create(&key, &new, Cx::LONG).await?;
    loads(&cx, &key, &new, version).await?;
    same("versions differ", before != version, true)
}

/// Of 64 callers on 4 nodes that create one key at once, exactly one succeeds, and its record is the one that stays.
async fn concurrent_creates_have_one_winner(cx: Cx) -> Verdict {
    const CALLERS: usize = 64;
    let nodes = cx.nodes(4).await?;
    for round in 0..10 {
        let key = cx.key();
        let record = |caller: usize| Record::new(format!("caller {caller}"));
        let answers = callers(CALLERS, |caller| {
            let node = nodes[caller % nodes.len()].clone();
            async move { Ok(node.create(&key, &record(caller), Cx::LONG).await.answer()) }
        })
        .await?;
        let mut winners = Vec::new();
        for (caller, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(version) => winners.push((caller, version)),
                lost => same(
                    format!("create by a loser, round {round}"),
                    lost,
                    Err(ErrorKind::AlreadyExists),
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

/// Two stores on different namespaces of one server share nothing: neither records under one key, nor the index, nor
/// what a sweep removes.
async fn namespaces_do_not_see_each_other(cx: Cx) -> Verdict {
    let (here, there, key, subject) = (cx.store(), cx.elsewhere().await?, cx.key(), cx.subject());
    let mine = Record::new("here").with_subject(subject.clone());
    let version = here.create(&key, &mine, Cx::LONG).await?;
    same(
        "load in another namespace",
        there.load(&key).await.answer(),
        Ok(None),
    )?;
    same(
        "delete in another namespace",
        there.delete(&key, None).await.answer(),
        Ok(false),
    )?;
    let seen = there.update(&key, version, &mine, Cx::LONG).await;
    refused("update in another namespace", seen, ErrorKind::NotFound)?;
    refused(
        "touch in another namespace",
        there.touch(&key, Cx::LONG).await,
        ErrorKind::NotFound,
    )?;
    if let Some(subjects) = there.subjects() {
        same(
            "list in another namespace",
            subjects.list(&subject).await.answer(),
            Ok(Vec::new()),
        )?;
        let seen = subjects.delete_all(&subject, None).await.answer();
        same("delete_all in another namespace", seen, Ok(0))?;
    }
    there.create(&key, &Record::new("there"), Cx::LONG).await?;
    loads(&cx, &key, &mine, version).await
}
