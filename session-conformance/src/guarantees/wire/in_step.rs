//! Each reply is to what was asked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionStore, Version};

use super::{
    answered,
    calls::Behind,
    held::{Held, took_place},
};
use crate::{
    Cx, Fault, Verdict,
    callers::callers,
    expect::{ensure, short},
};

/// When a reply is left out, comes twice, or changes places with the next, while many load different sessions, each has
/// its own record, or `Corrupt` or `Unavailable`: never another's, never `None`. Under the same load, after a few tries,
/// all are served again: a connection that is out of step is given up.
///
/// Catches replies that are matched by their order alone (the bug that showed strangers' chats), and a store that
/// notices and goes on with the same connection.
pub(super) async fn replies_out_of_step_never_give_another_record(cx: Cx) -> Verdict {
    const CALLERS: usize = 8;
    let (held, mut rng) = (Held::new(&cx, 32).await?, cx.rng(0));
    for fault in [Fault::DropReply, Fault::RepeatReply, Fault::SwapReplies] {
        // One reply, so that all that follow are out by one; and some, so that they are out by as many.
        for count in [1, 2, 3] {
            let behind = Arc::new(Behind::new(&cx).await?);
            behind.connected().await?;
            // Not the first ones, with which connections begin.
            let first = rng.usize(3 * CALLERS..8 * CALLERS);
            behind.proxy.arm(fault, first..first + count);
            callers(CALLERS, |caller| {
                is_in_step_again(Arc::clone(&behind), held.clone(), cx.rng(caller as u64), fault)
            })
            .await?;
        }
    }
    Ok(())
}

/// Loads one session after another, never one twice in a row, until the fault has been and many answers were right
/// without a wrong one in between: a connection that is one reply behind would be right now and then.
async fn is_in_step_again(behind: Arc<Behind>, held: Held, mut rng: fastrand::Rng, fault: Fault) -> Verdict {
    const IN_A_ROW: usize = 30;
    const LONGEST: Duration = Duration::from_secs(15);
    let (begun, mut at, mut right) = (Instant::now(), 0, 0);
    // Where a connection carries one request at a time there is no next reply to change places with.
    let has_been = || behind.proxy.happened() > 0 || fault == Fault::SwapReplies;
    while right < IN_A_ROW || !has_been() {
        at += rng.usize(1..held.0.len());
        let seen = answered("load", behind.store.load(held.key(at))).await?;
        let or_corrupt = |kind| matches!(kind, ErrorKind::Unavailable | ErrorKind::Corrupt);
        let last = short(&seen);
        match held.is_own(at, seen, or_corrupt)? {
            true => right += 1,
            false => right = 0,
        }
        ensure(begun.elapsed() < LONGEST, || {
            format!(
                "loads after {fault:?}, which happened {} times\nexpected: {IN_A_ROW} right answers in a row\n\
                 seen: not in {LONGEST:?}; the last one: {last}",
                behind.proxy.happened()
            )
        })?;
    }
    Ok(())
}

/// When a reply is left out, comes twice, or changes places with the next, while many update different sessions, half of
/// them with an old version: an update that was answered `Ok` was made, and is what the server holds. One that was made
/// may be told as anything else but done; it is found when the session is loaded again.
///
/// Catches a success that says that something was written, and not what: the next caller takes it for his own.
pub(super) async fn replies_out_of_step_never_confirm_an_update_that_was_not_made(cx: Cx) -> Verdict {
    const CALLERS: usize = 8;
    const UPDATES: usize = 12;
    /// A store whose callers share requests has fewer replies than updates: one for all callers, say.
    const MOST: usize = CALLERS * UPDATES;
    let mut rng = cx.rng(0);
    for fault in [Fault::DropReply, Fault::RepeatReply, Fault::SwapReplies] {
        for _ in 0..3 {
            let behind = Arc::new(Behind::new(&cx).await?);
            behind.connected().await?;
            let first = rng.usize(2 * CALLERS..6 * CALLERS);
            behind.proxy.arm(fault, first..first + 3);
            callers(CALLERS, |caller| {
                let (cx, behind) = (cx.clone(), Arc::clone(&behind));
                async move {
                    for round in 0..MOST {
                        if round >= UPDATES && behind.proxy.happened() > 0 {
                            break;
                        }
                        let (key, old) = (cx.key(), Record::new("old"));
                        let version = cx.store().create(&key, &old, Cx::LONG).await?;
                        let expected = match (caller + round) % 2 {
                            0 => version,
                            _ => Version::random()?,
                        };
                        let new = Record::new(format!("new {key}"));
                        let seen = answered("update", behind.store.update(&key, expected, &new, Cx::LONG)).await?;
                        let held = cx.store().load(&key).await?;
                        let is_made = |version| {
                            held.as_ref()
                                .is_some_and(|held| held.version == version && held.record == new)
                        };
                        let right = match &seen {
                            Ok(written) => expected == version && is_made(*written),
                            Err(_) => true,
                        };
                        ensure(right, || {
                            let (seen, held) = (short(&seen), short(&held));
                            format!(
                                "update({key}) under {fault:?}, of {}\nexpected: Ok only if it was made\nseen: {seen}\n\
                                 and the server holds: {held}",
                                if expected == version { "its version" } else { "an old version" }
                            )
                        })?;
                    }
                    Ok(())
                }
            })
            .await?;
            // Where a connection carries one request at a time there is no next reply to change places with.
            if fault != Fault::SwapReplies {
                took_place(&behind.proxy, fault)?;
            }
        }
    }
    Ok(())
}
