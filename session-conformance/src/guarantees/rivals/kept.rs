//! A lock that is kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Version};
use tokio::sync::watch;

use super::{
    super::{
        failure::PATIENCE,
        one::{Call, first, found},
    },
    all,
};
use crate::{
    Cx, Deed, Scope, Stop, Verdict,
    callers::callers,
    expect::{Answer, ensure, loads, same},
};

/// More than any pool has connections.
const MEET_IT: usize = 100;

/// What waits for a lock that is not given away ends `Unavailable` at its deadline, and keeps nobody from a connection:
/// while 100 calls wait, others on other records are answered (where the lock is on the whole store: loads), and not only
/// when the first of them gives up. Once the lock is free the record works again.
pub(super) async fn lock_that_is_kept_is_unavailable_within_the_deadline(cx: Cx) -> Verdict {
    const OTHERS: usize = 4;
    let rival = cx.rival().await?;
    let (key, version) = first(&cx, 1, Cx::LONG).await?[0];
    let written = rival.locks() == Scope::Record;
    let others = first(&cx, OTHERS, Cx::LONG).await?;
    let transaction = rival.begin(&all([key], &Deed::Lock)).await?;
    let (waits, waited) = watch::channel(());
    let (first_ended, meanwhile) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let waiting = async {
        let ended = callers(MEET_IT, |caller| {
            // No deletion but of this version: it may be done late, when the key has another record.
            let call = [Call::Update, Call::Touch, Call::DeleteOfVersion][caller % 3];
            let (store, first_ended) = (cx.store(), Arc::clone(&first_ended));
            async move {
                let ended = ends(&*store, call, &key, version).await;
                first_ended.store(true, Ordering::SeqCst);
                ended
            }
        })
        .await;
        drop(waits);
        ended
    };
    let served = callers(OTHERS, |caller| {
        let (store, waited, cx) = (cx.store(), waited.clone(), cx.clone());
        let (first_ended, meanwhile) = (Arc::clone(&first_ended), Arc::clone(&meanwhile));
        let of_another = others[caller].0;
        async move {
            // By then the others wait.
            tokio::time::sleep(Duration::from_millis(100)).await;
            is_served(&cx, &store, &of_another, written).await?;
            if !first_ended.load(Ordering::SeqCst) {
                meanwhile.fetch_add(1, Ordering::SeqCst);
            }
            while waited.has_changed().is_ok() {
                is_served(&cx, &store, &of_another, written).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            is_served(&cx, &store, &of_another, written).await
        }
    });
    tokio::try_join!(waiting, served)?;
    ensure(meanwhile.load(Ordering::SeqCst) > 0, || {
        format!(
            "calls on other records, begun while {MEET_IT} calls waited for a lock\n\
             expected: answers before the first of those had ended\nseen: answers, but later"
        )
    })?;
    transaction.roll_back().await?;

    // A call without an answer may have been made at any time up to now: the record is there or not.
    let store = cx.store();
    store.delete(&key, None).await?;
    let record = Record::new("new");
    let version = store.create(&key, &record, Cx::LONG).await?;
    loads(&cx, &key, &record, version).await
}

async fn ends(store: &dyn SessionStore, call: Call, key: &SessionKey, version: Version) -> Verdict {
    let name = format!("{call:?} of a record that stays locked");
    match tokio::time::timeout(PATIENCE, call.make(store, key, version, "late")).await {
        Ok(answer) => same(name, answer, Err(ErrorKind::Unavailable)),
        Err(_) => Err(Stop::Broken(format!(
            "{name}\nexpected: Unavailable\nseen: no answer in {PATIENCE:?}"
        ))),
    }
}

/// Loads are answered, and writes of a new record where the lock lets them.
async fn is_served(cx: &Cx, store: &Arc<dyn SessionStore>, held: &SessionKey, written: bool) -> Verdict {
    let seen = found(&**store, held).await?.is_some();
    same("load of another record than the locked one", seen, true)?;
    if written {
        let key = cx.key();
        let record = Record::new("other");
        let version = store.create(&key, &record, Cx::LONG).await?;
        let version = store.update(&key, version, &record, Cx::LONG).await?;
        store.touch(held, Cx::LONG / 2).await?;
        let seen = store.delete(&key, Some(version)).await.answer();
        same("delete of another record than the locked one", seen, Ok(true))?;
    }
    Ok(())
}
