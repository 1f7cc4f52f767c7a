//! A creation takes place once.

use std::{sync::Arc, time::Duration};

use session_core::{ErrorKind, Record, SessionKey};

use super::{answered, calls::Behind};
use crate::{
    Cx, Fault, Stop, Verdict,
    expect::{ensure, short},
};

/// A creation takes place once: when a session was created and deleted, nothing brings it back, neither a second try of
/// a creation whose reply was lost, nor a first try that arrives late after the second one was answered.
///
/// Catches a store that sends a creation twice, even one that recognises its own record.
pub(super) async fn lost_reply_to_a_create_brings_nothing_back(cx: Cx) -> Verdict {
    let behind = Behind::new(&cx).await?;
    // The first round trip more than once: a call that a slow machine has ended tells nothing.
    let (mut lost, mut held) = (0, 0);
    for at in [0, 0, 0, 1, 2] {
        lost += usize::from(second_try_comes_after_the_deletion(&cx, &behind, at).await?);
        held += usize::from(first_try_comes_after_the_deletion(&cx, &behind, at).await?);
    }
    ensure(lost > 0 && held > 0, || {
        format!(
            "faults of a creation\nexpected: they take place\nseen: {lost} lost replies, {held} held requests"
        )
    })
}

/// The server has created it, and the reply is lost; whatever the store sends now waits until it is deleted.
/// Whether there was a reply to lose.
async fn second_try_comes_after_the_deletion(cx: &Cx, behind: &Behind, at: usize) -> Result<bool, Stop> {
    behind.connected().await?;
    let (key, store) = (cx.key(), Arc::clone(&behind.store));
    behind.proxy.arm_then(Fault::LoseReply, at..at + 1, Fault::Hang);
    let creation = tokio::spawn(async move { store.create(&key, &Record::new("data"), Cx::LONG).await });
    // One for the reply that was lost, one for the second try that waits.
    while behind.proxy.happened() < 2 && !creation.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let is_lost = behind.proxy.happened() > 0;
    let was_there = cx.store().delete(&key, None).await?;
    behind.proxy.lift();
    let seen = creation.await.map_err(|error| Stop::Broken(error.to_string()))?;
    if was_there {
        stays_absent(cx, &key, &format!("create with a lost reply, answered {seen:?}")).await?;
    }
    Ok(is_lost)
}

/// The request is held, the store told that its connection broke, the session deleted; then the request arrives.
/// Whether there was a request to hold.
async fn first_try_comes_after_the_deletion(cx: &Cx, behind: &Behind, at: usize) -> Result<bool, Stop> {
    behind.connected().await?;
    let key = cx.key();
    behind.proxy.arm(Fault::HoldRequest, at..at + 1);
    let seen = answered(
        "create",
        behind.store.create(&key, &Record::new("data"), Cx::LONG),
    )
    .await?;
    behind.proxy.lift();
    let is_deleted = cx.store().delete(&key, None).await?;
    let is_held = behind.proxy.deliver().await > 0;
    match &seen {
        Ok(_) => ensure(is_deleted, || {
            "delete after create\nexpected: true\nseen: false".to_owned()
        })?,
        // Not yet: it takes place when it arrives, and may.
        Err(error) if error.kind() == ErrorKind::Unavailable && !is_deleted => return Ok(is_held),
        Err(error) if error.kind() == ErrorKind::Unavailable => {}
        Err(error) => {
            return Err(Stop::Broken(format!(
                "create of a new key\nexpected: Ok or Unavailable\nseen: {error:?}"
            )));
        }
    }
    stays_absent(
        cx,
        &key,
        &format!("create with a late request, answered {seen:?}"),
    )
    .await?;
    Ok(is_held)
}

/// It was deleted, and is not there again, though what is late has arrived.
async fn stays_absent(cx: &Cx, key: &SessionKey, call: &str) -> Verdict {
    for _ in 0..10 {
        let seen = cx.store().load(key).await?;
        ensure(seen.is_none(), || {
            format!(
                "{call}; then it was deleted\nexpected: it stays absent\nseen: {}",
                short(&seen)
            )
        })?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
