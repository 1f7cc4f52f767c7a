//! What a store makes of a wire that fails it: a server that hangs or is away, replies that are lost, cut, late, or
//! somebody else's.
//!
//! The store under test is behind a proxy; [`Cx::store`] reaches the server past it, and tells the truth.

mod calls;
mod held;
mod in_step;
mod once;
mod password;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionStore, Version};

pub(super) use self::held::served;
use self::{
    calls::{Behind, Call},
    held::{Held, answered, took_place, unavailable},
    in_step::{
        replies_out_of_step_never_confirm_an_update_that_was_not_made,
        replies_out_of_step_never_give_another_record,
    },
    once::lost_reply_to_a_create_brings_nothing_back,
    password::wrong_password_is_not_retried_and_not_shown,
};
use super::failure::{PATIENCE, every_call_is_down};
use crate::{
    Cx, Fault, Stop, Verdict,
    callers::{callers, cut},
    expect::{Answer, ensure, refused, same, short},
    table::table,
};

table! { "faults between store and server":
    hanging_server_is_unavailable_within_the_deadline;
    empty_pool_is_unavailable_within_the_deadline;
    store_recovers_when_the_server_returns;
    one_broken_connection_fails_no_caller_for_long: stochastic;
    reply_cut_in_half_is_never_taken_for_a_whole_one;
    reply_that_comes_byte_by_byte_is_whole;
    slow_replies_are_the_callers_own: stochastic;
    replies_out_of_step_never_give_another_record: stochastic;
    replies_out_of_step_never_confirm_an_update_that_was_not_made: stochastic;
    cancelled_calls_through_a_slow_wire_leave_the_store_usable: stochastic;
    request_that_never_arrived_changes_nothing;
    lost_reply_to_a_write_is_recognised_or_unavailable;
    lost_reply_to_a_create_brings_nothing_back;
    wrong_password_is_not_retried_and_not_shown;
}

/// When the server accepts connections and says nothing any more, whether it hears what is asked or not, every call
/// ends in `Unavailable` in time, on the connection that there was and on a new one. Afterwards the store serves again.
///
/// Catches a store without a deadline for replies.
async fn hanging_server_is_unavailable_within_the_deadline(cx: Cx) -> Verdict {
    let held = Held::new(&cx, 4).await?;
    for fault in [Fault::Hang, Fault::Mute] {
        let behind = Behind::new(&cx).await?;
        behind.connected().await?;
        behind.proxy.always(fault);
        for _ in 0..2 {
            every_call_is_down(&cx, &*behind.store, "hangs").await?;
        }
        took_place(&behind.proxy, fault)?;
        behind.proxy.lift();
        held.are_served(&behind.store).await?;
    }
    Ok(())
}

/// When the server hangs and 256 callers come at once, far more than a store has connections, each ends in
/// `Unavailable` in time; afterwards the store serves them all.
///
/// Catches a wait for a connection that no deadline bounds, and connections that never come back to the pool.
async fn empty_pool_is_unavailable_within_the_deadline(cx: Cx) -> Verdict {
    const CALLERS: usize = 256;
    let (held, behind) = (Held::new(&cx, 16).await?, Behind::new(&cx).await?);
    behind.connected().await?;
    for _ in 0..2 {
        behind.proxy.always(Fault::Hang);
        callers(CALLERS, |caller| {
            let (held, store, cx) = (held.clone(), Arc::clone(&behind.store), cx.clone());
            async move {
                let key = held.key(caller);
                let down = match caller % 3 {
                    0 => answered("touch", store.touch(key, Cx::LONG)).await?.answer(),
                    1 => answered("create", store.create(&cx.key(), &Record::new("data"), Cx::LONG))
                        .await?
                        .answer()
                        .map(drop),
                    _ => answered("load", store.load(key)).await?.answer().map(drop),
                };
                same(
                    "one of 256 calls while the server hangs",
                    down,
                    Err(ErrorKind::Unavailable),
                )
            }
        })
        .await?;
        took_place(&behind.proxy, Fault::Hang)?;
        behind.proxy.lift();
        let all = Held(
            (0..CALLERS / held.0.len())
                .flat_map(|_| held.0.to_vec())
                .collect(),
        );
        all.are_served(&behind.store).await?;
    }
    Ok(())
}

/// While the server is away, whether connections are refused or every one is reset at its first request, each call is
/// `Unavailable`; when it is back, the same store serves again, and what the server holds is whole and unchanged.
///
/// Catches a store that keeps its broken connection, and one for which a server that is away has no sessions.
async fn store_recovers_when_the_server_returns(cx: Cx) -> Verdict {
    let (held, behind) = (Held::new(&cx, 8).await?, Behind::new(&cx).await?);
    for fault in [Fault::Refuse, Fault::LoseRequest] {
        behind.connected().await?;
        behind.proxy.always(fault);
        for _ in 0..3 {
            every_call_is_down(&cx, &*behind.store, "is away").await?;
        }
        for (key, record, version) in &*held.0 {
            refused(
                "load of a session",
                answered("load", behind.store.load(key)).await?,
                ErrorKind::Unavailable,
            )?;
            refused(
                "update of a session",
                answered("update", behind.store.update(key, *version, record, Cx::LONG)).await?,
                ErrorKind::Unavailable,
            )?;
        }
        took_place(&behind.proxy, fault)?;
        behind.proxy.lift();
        held.are_served(&behind.store).await?;
        held.are_served(&cx.store()).await?;
        for call in Call::WRITES {
            if call.is_had(&*behind.store) {
                behind.is_served(call).await?;
            }
        }
    }
    Ok(())
}

/// A connection that breaks once fails no more than what was under way on it: 16 callers, each with a session of its
/// own that it writes again and again while connections break now and then, find it at every moment as they were told,
/// or as they asked for when they were told `Unavailable`; and soon no call fails any more, however many come at once.
///
/// Catches a pool that gives a broken connection out again, and a store in which the fault of one call fails others.
async fn one_broken_connection_fails_no_caller_for_long(cx: Cx) -> Verdict {
    const CALLERS: usize = 16;
    const ROUNDS: usize = 12;
    let behind = Behind::new(&cx).await?;
    behind.connected().await?;
    let (held, mut rng) = (Held::new(&cx, CALLERS).await?, cx.rng(1));
    for fault in [
        Fault::LoseRequest,
        Fault::LoseReply,
        Fault::CutReply { permille: 500 },
    ] {
        let at = rng.usize(..CALLERS);
        behind.proxy.arm(fault, at..at + 3);
        callers(CALLERS, |caller| {
            let (held, store) = (held.clone(), Arc::clone(&behind.store));
            async move {
                let key = *held.key(caller);
                let mut known = served("load", || store.load(&key)).await?;
                // Writes whose outcome is unknown: a slow server may be at work on one after others were answered.
                let mut open: Vec<Record> = Vec::new();
                for round in 0..ROUNDS {
                    let Some(before) = known else {
                        return Err(Stop::Broken(format!(
                            "load({key})\nexpected: its session\nseen: None"
                        )));
                    };
                    let next = Record::new(format!("{key} {round}"));
                    let seen =
                        answered("update", store.update(&key, before.version, &next, Cx::LONG)).await?;
                    let now = served("load after update", || store.load(&key)).await?;
                    let is = |record: &Record, version: Option<Version>| {
                        now.as_ref().is_some_and(|now| {
                            now.record == *record && version.is_none_or(|version| version == now.version)
                        })
                    };
                    let right = match &seen {
                        Ok(version) => is(&next, Some(*version)),
                        Err(error) if error.kind() == ErrorKind::Unavailable => {
                            open.push(next.clone());
                            is(&before.record, Some(before.version)) || open.iter().any(|late| is(late, None))
                        }
                        Err(error) if error.kind() == ErrorKind::Conflict => {
                            open.iter().any(|late| is(late, None))
                        }
                        Err(_) => false,
                    };
                    ensure(right, || {
                        let (seen, now) = (short(&seen), short(&now));
                        format!("update({key}), which nobody else writes\nseen: {seen}\nand then: {now}")
                    })?;
                    known = now;
                }
                Ok(())
            }
        })
        .await?;
        took_place(&behind.proxy, fault)?;
        all_are_served_at_once(&behind, &held).await?;
        behind.proxy.lift();
    }
    Ok(())
}

/// Of writes that come together, slow enough to need every connection there is, none fails, some times in a row.
async fn all_are_served_at_once(behind: &Behind, held: &Held) -> Verdict {
    const IN_A_ROW: usize = 3;
    const LONGEST: Duration = Duration::from_secs(15);
    let (begun, mut right) = (Instant::now(), 0);
    let most = Duration::from_millis(20);
    behind.proxy.always(Fault::SlowReply { most });
    while right < IN_A_ROW {
        let answers = callers(held.0.len(), |at| {
            let (held, store) = (held.clone(), Arc::clone(&behind.store));
            async move {
                Ok(answered("touch", store.touch(held.key(at), Cx::LONG))
                    .await?
                    .answer())
            }
        })
        .await?;
        match answers.iter().find(|answer| answer.is_err()) {
            None => right += 1,
            Some(Err(ErrorKind::Unavailable)) if begun.elapsed() < LONGEST => right = 0,
            Some(error) => {
                return Err(Stop::Broken(format!(
                    "one of {} touches that come together, after a connection broke\nexpected: Ok\nseen: {error:?}",
                    answers.len()
                )));
            }
        }
    }
    Ok(())
}

/// A reply that ends half-way, at its first byte, in the middle or before its last one, is no reply: the call is
/// answered as if nothing had been, by another try, or is `Unavailable`. Never is half of it taken for a value, an
/// absence or a refusal; and what the server holds is whole.
///
/// Catches a client that reads to the end of the connection and takes what it has, and one for which what it cannot
/// read is not there.
async fn reply_cut_in_half_is_never_taken_for_a_whole_one(cx: Cx) -> Verdict {
    let faults = [0, 100, 500, 900, 1000].map(|permille| Fault::CutReply { permille });
    each_call_meets(&cx, &Call::ALL, &faults).await
}

/// A reply that comes one byte at a time is read whole: each call has the right answer.
///
/// Catches a client that takes what one read gives it for one reply.
async fn reply_that_comes_byte_by_byte_is_whole(cx: Cx) -> Verdict {
    callers(Call::ALL.len(), |at| {
        let (cx, call) = (cx.clone(), Call::ALL[at]);
        async move {
            let behind = Behind::new(&cx).await?;
            if !call.is_had(&*behind.store) {
                return Ok(());
            }
            behind.proxy.always(Fault::ByteByByte);
            behind.is_served(call).await?;
            took_place(&behind.proxy, Fault::ByteByByte)
        }
    })
    .await
    .map(drop)
}

/// When replies are slow, some so slow that their callers are told `Unavailable` before, each caller has its own
/// record or `Unavailable`, and so have those that come later: no late reply is taken for another call's.
///
/// Catches a connection that is used again while a reply is still on its way.
async fn slow_replies_are_the_callers_own(cx: Cx) -> Verdict {
    const CALLERS: usize = 32;
    let (held, behind) = (Held::new(&cx, CALLERS).await?, Behind::new(&cx).await?);
    behind.connected().await?;
    for most in [20, 1000].map(Duration::from_millis) {
        let fault = Fault::SlowReply { most };
        behind.proxy.always(fault);
        callers(CALLERS, |caller| {
            let (held, store) = (held.clone(), Arc::clone(&behind.store));
            let mut rng = cx.rng(caller as u64);
            async move {
                for _ in 0..4 {
                    let at = rng.usize(..CALLERS);
                    held.is_own(at, answered("load", store.load(held.key(at))).await?, unavailable)?;
                }
                Ok(())
            }
        })
        .await?;
        took_place(&behind.proxy, fault)?;
        behind.proxy.lift();
        for _ in 0..3 {
            held.are_served(&behind.store).await?;
        }
    }
    Ok(())
}

/// After futures of every call were dropped at each of their polls, while replies were under way, more than 1,000 calls
/// have their own answers: no connection is lost, and no reply goes to another call (CVE-2023-28858).
///
/// Catches a client in which the reply to a dropped call stays on the connection, where a server that answers at once
/// hides it.
async fn cancelled_calls_through_a_slow_wire_leave_the_store_usable(cx: Cx) -> Verdict {
    const CALLERS: usize = 16;
    let (held, behind) = (Held::new(&cx, 64).await?, Behind::new(&cx).await?);
    let most = Duration::from_millis(4);
    for fault in [Fault::SlowReply { most }, Fault::SlowRequest { most }] {
        behind.connected().await?;
        behind.proxy.always(fault);
        callers(CALLERS, |caller| {
            let (held, store, cx) = (held.clone(), Arc::clone(&behind.store), cx.clone());
            let mut rng = cx.rng(caller as u64);
            async move {
                for polls in 0..12 {
                    for at_once in [true, false] {
                        let at = rng.usize(..held.0.len());
                        let (key, record, version) = &held.0[at];
                        let other = cx.key();
                        match rng.u8(..6) {
                            0 => drop(cut(store.touch(key, Cx::LONG), polls, at_once).await),
                            1 => drop(cut(store.create(&other, record, Cx::LONG), polls, at_once).await),
                            2 => {
                                // A version that is nobody's: the session stays.
                                drop(cut(store.delete(key, Some(Version::random()?)), polls, at_once).await);
                            }
                            3 => {
                                let call = store.update(&other, *version, record, Cx::LONG);
                                drop(cut(call, polls, at_once).await);
                            }
                            _ => {
                                if let Some(seen) = cut(store.load(key), polls, at_once).await {
                                    held.is_own(at, seen, unavailable)?;
                                }
                            }
                        }
                    }
                }
                Ok(())
            }
        })
        .await?;
        took_place(&behind.proxy, fault)?;
        behind.proxy.lift();
        for _ in 0..8 {
            held.are_served(&behind.store).await?;
        }
    }
    Ok(())
}

/// When the connection is reset before the server has seen the request, the call is made again, or is `Unavailable`:
/// what the server holds is the state before or the one after, as the answer says, and no absence is made up.
///
/// Catches a write that is acknowledged once it is sent, and a broken connection that counts as an empty answer.
async fn request_that_never_arrived_changes_nothing(cx: Cx) -> Verdict {
    each_call_meets(&cx, &Call::ALL, &[Fault::LoseRequest; 3]).await
}

/// When the reply to a write is lost after the server has done it, the call is answered with what is true, or is
/// `Unavailable`: never `AlreadyExists` for one's own creation, `Conflict` or `NotFound` for one's own update, `false` or
/// none for what one has deleted oneself.
///
/// Catches a client that sends a write again and believes the second answer.
async fn lost_reply_to_a_write_is_recognised_or_unavailable(cx: Cx) -> Verdict {
    each_call_meets(&cx, &Call::WRITES, &[Fault::LoseReply; 3]).await
}

/// Each call meets each fault, on a store of its own: at its first round trip, then at its second, and so on. More than
/// once, because a call that a slow machine has ended tells nothing.
async fn each_call_meets(cx: &Cx, calls: &'static [Call], faults: &[Fault]) -> Verdict {
    let faults: Arc<[Fault]> = faults.into();
    callers(calls.len(), |at| {
        let (cx, call, faults) = (cx.clone(), calls[at], Arc::clone(&faults));
        async move {
            let behind = Behind::new(&cx).await?;
            if !call.is_had(&*behind.store) {
                return Ok(());
            }
            for fault in &*faults {
                behind.meets(call, *fault).await?;
            }
            Ok(())
        }
    })
    .await
    .map(drop)
}
