//! Calls of some kinds, one after the other without a pause, and single ones of the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionKey, Version};

use super::super::one::{Call, first, found};
use crate::{
    Cx, Verdict,
    callers::callers,
    expect::{Answer, ensure, same},
};

const BUSY: usize = 60;

/// Of each other kind.
const SINGLE: usize = 100;

/// A machine that is busy with something else keeps a call waiting as well, but then all of them.
const LONG: Duration = Duration::from_secs(1);
const MANY: usize = 2_000;

/// While 60 callers update, touch and delete without a pause, each load and each create of another caller is answered in
/// its turn: none waits for a second and longer while thousands of the others are answered.
pub(super) async fn busy_callers_keep_no_other_call_waiting(cx: Cx) -> Verdict {
    let held = first(&cx, BUSY, Cx::LONG).await?;
    let (done, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    callers(BUSY + 1, |caller| {
        let (cx, held) = (cx.clone(), held.clone());
        let (done, ended) = (Arc::clone(&done), Arc::clone(&ended));
        async move {
            match held.get(caller) {
                Some(&(key, version)) => busy(&cx, caller, &key, version, &done, &ended).await,
                None => {
                    let answered = single(&cx, &held[0].0, &ended).await;
                    done.store(true, Ordering::SeqCst);
                    answered
                }
            }
        }
    })
    .await?;
    Ok(())
}

async fn busy(
    cx: &Cx,
    caller: usize,
    key: &SessionKey,
    mut version: Version,
    done: &AtomicBool,
    ended: &AtomicUsize,
) -> Verdict {
    let (store, record) = (cx.store(), Record::new("busy"));
    while !done.load(Ordering::SeqCst) {
        match caller % 3 {
            0 => version = store.update(key, version, &record, Cx::LONG).await?,
            1 => store.touch(key, Call::TOUCHED).await?,
            _ => {
                let seen = store.delete(key, Some(Version::random()?)).await.answer();
                same("delete(another version)", seen, Err(ErrorKind::Conflict))?;
            }
        }
        ended.fetch_add(1, Ordering::SeqCst);
        // A store in memory never waits.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn single(cx: &Cx, key: &SessionKey, ended: &AtomicUsize) -> Verdict {
    let store = cx.store();
    for _ in 0..SINGLE {
        in_its_turn("load", ended, async {
            same("load", found(&*store, key).await?.is_some(), true)
        })
        .await?;
        in_its_turn("create", ended, async {
            let new = cx.key();
            store.create(&new, &Record::new("new"), Cx::LONG).await?;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn in_its_turn(name: &str, ended: &AtomicUsize, call: impl Future<Output = Verdict>) -> Verdict {
    let (begun, before) = (Instant::now(), ended.load(Ordering::SeqCst));
    let mut call = std::pin::pin!(call);
    loop {
        let answered = tokio::time::timeout(LONG, &mut call).await;
        let overtook = ended.load(Ordering::SeqCst) - before;
        ensure(begun.elapsed() < LONG || overtook < MANY, || {
            format!(
                "{name}, while {BUSY} callers made other calls without a pause\n\
                 expected: an answer in its turn\n\
                 seen: after {:?} and {overtook} of the others, {}",
                begun.elapsed(),
                if answered.is_ok() { "an answer" } else { "none" },
            )
        })?;
        if let Ok(answered) = answered {
            return answered;
        }
    }
}
