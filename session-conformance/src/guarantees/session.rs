//! What `Session` promises its user, kept on this store: its five calls, in the order in which an application makes them.
//!
//! The protocol of those calls is checked once, over every order of them, by `session_core`'s own tests
//! (`session/interleavings.rs`, `session/tests.rs`); what a store does to it is checked here.

mod site;
mod way;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64ct::{Base64UrlUnpadded, Encoding};
use session_core::{
    ClientAction, Committed, ErrorKind, Lengths, Record, Session, SessionError, SessionId, Sessions,
    SessionsBuilder, Subject,
};
use tokio::sync::Barrier;

pub(super) use self::{
    site::{Site, add, commit, handed_out, new_id, visit},
    way::{Plan, Trouble, Way},
};
use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{Answer, ensure, loads, same, short},
    table::table,
};

table! { "session":
    every_change_is_saved: stochastic;
    raw_id_is_nowhere_in_the_server;
    slack_bounds_the_remaining_life: stochastic;
    remembered_session_keeps_its_own_lengths;
    absolute_deadline_is_never_passed_by_touching;
    changes_to_different_attributes_all_survive;
    updates_of_one_attribute_all_count;
    logout_is_not_undone_by_a_slow_request;
    lost_reply_to_a_write_is_recognised_on_retry;
    lost_reply_then_other_writes_never_counts_twice;
    failed_store_never_gives_an_anonymous_session;
    unreadable_session_is_an_error_and_stays;
    log_out_elsewhere_keeps_this_one: needs Subjects;
}

const SECOND: Duration = Duration::from_secs(1);

/// Servers count in milliseconds and begin a call within one, and so does the site.
const TICK: Duration = Duration::from_millis(50);

/// After every request of random insertions, updates, removals and clearings, log-ins among them, each node's session
/// holds exactly what a plain map does: a removal that is never written comes back.
async fn every_change_is_saved(cx: Cx) -> Verdict {
    let site = Site::new(&cx);
    let mut nodes = Vec::new();
    for store in cx.nodes(2).await? {
        nodes.push(site.on(store, |builder| builder.renew_every(None))?);
    }
    let (mut rng, subject) = (cx.rng(1), cx.subject());
    for visitor in 0..4 {
        let (mut truth, mut id) = (BTreeMap::new(), None);
        for request in 0..25 {
            let session = nodes[rng.usize(..2)].open(id.clone());
            for _ in 0..rng.usize(0..6) {
                change(&session, &mut truth, &mut rng).await?;
            }
            if rng.u8(..16) == 0 {
                session.log_in(subject.clone()).await?;
            }
            id = new_id(commit(&session).await?.client).or(id);
            for node in &nodes {
                let when = format!("visitor {visitor}, request {request}");
                holds(&when, &node.open(id.clone()), &truth).await?;
            }
        }
    }
    Ok(())
}

/// One random change, to the session and to the map.
async fn change(
    session: &Session,
    truth: &mut BTreeMap<String, Vec<u8>>,
    rng: &mut fastrand::Rng,
) -> Verdict {
    let name = format!("attribute {}", rng.u8(..8));
    let bytes: Vec<u8> = (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect();
    match rng.u8(..20) {
        0..8 => {
            session.insert(&name, &bytes).await?;
            truth.insert(name, bytes);
        }
        8..13 => {
            let append = move |old: Option<Vec<u8>>| [old.unwrap_or_default(), bytes.clone()].concat();
            let new = append(truth.get(&name).cloned());
            let seen = session.update(&name, append).await?;
            same(format!("update of {name}"), &seen, &new)?;
            truth.insert(name, new);
        }
        13..19 => {
            let was_there = truth.remove(&name).is_some();
            same(format!("remove({name})"), session.remove(&name).await?, was_there)?;
        }
        _ => {
            session.clear().await?;
            truth.clear();
        }
    }
    Ok(())
}

async fn holds(when: &str, session: &Session, truth: &BTreeMap<String, Vec<u8>>) -> Verdict {
    let mut seen = BTreeMap::new();
    for name in session.names().await? {
        let value = session.get::<Vec<u8>>(&name).await?;
        seen.insert(name, value.unwrap_or_default());
    }
    same(format!("the attributes, {when}"), &seen, truth)
}

/// The server holds no id in any form, only keys that do not lead back to it: not of a live session, a renewed, a
/// logged-in or a logged-out one. Who reads the whole server can take over nobody's session.
async fn raw_id_is_nowhere_in_the_server(cx: Cx) -> Verdict {
    const MARK: &str = "whoever dumps the server finds this attribute";
    let (raw, site, subject) = (cx.raw().await?, Site::new(&cx), cx.subject());
    let renewing = site.renewing()?;
    let mut ids = Vec::new();
    let session = renewing.open(None);
    session.insert("mark", &MARK.to_owned()).await?;
    ids.push(handed_out(commit(&session).await?)?);
    session.log_in(subject.clone()).await?;
    ids.push(handed_out(commit(&session).await?)?);
    site.pass_interval();
    let Some(id) = visit(&renewing, &ids[1]).await? else {
        return Err(Stop::Broken(
            "a request with an id that is due\nexpected: a new id\nseen: none".to_owned(),
        ));
    };
    visit(&renewing, &id).await?;
    ids.push(id);
    let gone = site.log_in(&subject).await?;
    site.reached("before its log-out", &gone).await?.log_out().await?;
    ids.push(gone);

    let dump = raw.dump().await?;
    // Otherwise the search below would find nothing in any case.
    let shown = [MARK.as_bytes().to_vec(), hex(MARK.as_bytes()).into_bytes()];
    ensure(shown.iter().any(|form| contains(&dump, form)), || {
        format!(
            "the dump of the server, {} bytes\nexpected: what a session holds\nseen: not there",
            dump.len()
        )
    })?;
    for (at, id) in ids.iter().enumerate() {
        for (form, bytes) in forms(&id.expose())? {
            ensure(!contains(&dump, &bytes), || {
                format!("the dump of the server\nexpected: no id\nseen: id {at} as {form}")
            })?;
        }
    }
    Ok(())
}

/// The forms in which an id can be written.
fn forms(text: &str) -> Result<[(&'static str, Vec<u8>); 5], Stop> {
    let bytes = Base64UrlUnpadded::decode_vec(text).map_err(|error| Stop::Broken(error.to_string()))?;
    Ok([
        ("base64url", text.as_bytes().to_vec()),
        ("base64", text.replace('-', "+").replace('_', "/").into_bytes()),
        ("hexadecimal digits", hex(&bytes).into_bytes()),
        (
            "capital hexadecimal digits",
            hex(&bytes).to_uppercase().into_bytes(),
        ),
        ("bytes", bytes),
    ])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// At whatever times requests come, each leaves the session a life of its idle length, less the slack (a tenth of it,
/// which saves most writes), and never more than the idle length.
async fn slack_bounds_the_remaining_life(cx: Cx) -> Verdict {
    const VISITORS: usize = 8;
    let granularity = cx.limits().granularity;
    let idle = (10 * SECOND + 4 * granularity).max(cx.limits().min_ttl);
    // What a request may leave undone: the slack, by a remaining life that the store rounds, or a move below a second.
    let undone = (idle / 10 + granularity).max(SECOND);
    let least = idle - undone - granularity - TICK;
    let most = idle + 2 * granularity + TICK;
    let site = Site::new(&cx);
    let choose = |builder: SessionsBuilder| builder.lengths(Lengths::new(idle, Cx::LONG)).renew_every(None);
    let sessions = site.on(cx.store(), choose)?;
    callers(VISITORS, |visitor| {
        let (cx, sessions, mut rng) = (cx.clone(), sessions.clone(), cx.rng(visitor as u64));
        async move {
            let session = sessions.open(None);
            session.insert("mark", &true).await?;
            let id = handed_out(commit(&session).await?)?;
            let begun = Instant::now();
            let mut last = begun;
            // Until a session that is never extended would be below the bound.
            while begun.elapsed() < undone + granularity + SECOND {
                tokio::time::sleep(Duration::from_millis(rng.u64(..500))).await;
                let asked = Instant::now();
                let session = sessions.open(Some(id.clone()));
                // Some visitors only read, some only write.
                match visitor % 3 == 0 || visitor % 3 == 1 && rng.bool() {
                    true => session.insert("number", &rng.u64(..)).await?,
                    false => drop(session.names().await?),
                }
                if session.info().await?.is_none() && last.elapsed() + undone >= idle {
                    // The machine slept for longer than the session lives.
                    return Ok(());
                }
                if let Some(upkeep) = commit(&session).await?.upkeep {
                    upkeep.run().await;
                }
                let stored = cx.store().load(&id.key(cx.namespace())).await?;
                let (remaining, age) = (stored.map(|stored| stored.remaining), asked.elapsed());
                let right = remaining.is_some_and(|left| left + age >= least && left <= most);
                ensure(right || age >= least, || {
                    format!(
                        "the life that remains {age:?} after a request, idle length {idle:?}\n\
                         expected: {least:?} to {most:?}, less that time\nseen: {remaining:?}"
                    )
                })?;
                last = asked;
            }
            Ok(())
        }
    })
    .await
    .map(drop)
}

/// A session that was logged in with lengths of its own ("remember me") has them after reads, writes and a renewal, on
/// nodes whose default is another; one beside it that has the default has ended by then.
async fn remembered_session_keeps_its_own_lengths(cx: Cx) -> Verdict {
    let (site, subject, granularity) = (Site::new(&cx), cx.subject(), cx.limits().granularity);
    let default = Lengths::new(cx.short(), Cx::LONG);
    let own = Lengths::new(Cx::LONG, 4 * Cx::LONG);
    let sessions = site.on(cx.store(), |builder| builder.lengths(default))?;

    let session = sessions.open(None);
    session.log_in(subject.clone()).await?;
    let forgotten = handed_out(commit(&session).await?)?;
    let ended = Instant::now();
    let session = sessions.open(None);
    session.log_in_for(subject, own).await?;
    session.insert("mark", &true).await?;
    let mut id = handed_out(commit(&session).await?)?;
    let Some(first) = site.reached("at first", &id).await?.info().await? else {
        return Err(Stop::Broken(
            "info of a remembered session\nseen: None".to_owned(),
        ));
    };

    cx.ended(ended, default.idle()).await;
    site.reaches_nothing("after the default idle length", &forgotten)
        .await?;
    for when in ["when read", "when written", "when renewed", "at last"] {
        let written = Instant::now();
        if when == "when written" {
            let session = sessions.open(Some(id.clone()));
            session.insert("number", &1_u32).await?;
            let _ = commit(&session).await?;
        } else {
            id = visit(&sessions, &id).await?.unwrap_or(id);
        }
        let info = site.reached(when, &id).await?.info().await?;
        let lengths = info.map(|info| (info.lengths, info.deadline, info.renewals));
        let renewals = first.renewals + u32::from(when == "when renewed" || when == "at last");
        same(
            format!("lengths, deadline and renewals of a remembered session {when}"),
            lengths,
            Some((own, first.deadline, renewals)),
        )?;
        let (remaining, age) = (info.map(|info| info.remaining), written.elapsed());
        // A tenth, but a minute at most, is the slack.
        let least = own
            .idle()
            .saturating_sub(Duration::from_secs(60) + 2 * granularity + TICK + age);
        let most = own.idle() + 2 * granularity + TICK;
        ensure(
            remaining.is_some_and(|remaining| (least..=most).contains(&remaining)),
            || {
                format!(
                    "the life that remains of a remembered session {when}\nexpected: {least:?} to {most:?}\n\
                     seen: {remaining:?}"
                )
            },
        )?;
        if when == "when written" {
            site.pass_interval();
        }
    }
    Ok(())
}

/// A session that is used without a pause, by readers or by writers, ends with its absolute length: at no time does it
/// have more life left than that, and after it neither the session nor its record is there.
async fn absolute_deadline_is_never_passed_by_touching(cx: Cx) -> Verdict {
    let (site, limits) = (Site::new(&cx), cx.limits());
    let idle = cx.short().max(SECOND) + SECOND;
    let lengths = Lengths::new(idle, idle + SECOND);
    let sessions = site.on(cx.store(), |builder| builder.lengths(lengths).renew_every(None))?;
    let ended = callers(2, |caller| {
        let (cx, sessions) = (cx.clone(), sessions.clone());
        let slop = 2 * limits.granularity + limits.min_ttl + TICK;
        async move {
            let session = sessions.open(None);
            session.insert("mark", &true).await?;
            let begun = Instant::now();
            let id = handed_out(commit(&session).await?)?;
            let deadline = Instant::now() + lengths.absolute();
            while Instant::now() < deadline {
                let asked = Instant::now();
                let session = sessions.open(Some(id.clone()));
                if session.get("mark").await? != Some(true) {
                    // Idle for too long, on a machine that slept; never before.
                    ensure(begun.elapsed() + TICK >= idle, || {
                        format!(
                            "a session {:?} old, idle length {idle:?}\nseen: gone",
                            begun.elapsed()
                        )
                    })?;
                    break;
                }
                if caller == 0 {
                    session
                        .insert("age", &(begun.elapsed().as_micros() as u64))
                        .await?;
                }
                match commit(&session).await {
                    Ok(committed) => {
                        if let Some(upkeep) = committed.upkeep {
                            upkeep.run().await;
                        }
                    }
                    Err(SessionError::Gone) if begun.elapsed() + TICK >= idle => break,
                    Err(error) => return Err(error.into()),
                }
                let remaining = cx.store().load(&id.key(cx.namespace())).await?;
                let remaining = remaining.map(|stored| stored.remaining).unwrap_or_default();
                let most = deadline.saturating_duration_since(asked) + slop;
                ensure(remaining <= most, || {
                    format!(
                        "the life that remains {:?} before the deadline\nexpected: at most {most:?}\n\
                         seen: {remaining:?}",
                        deadline.saturating_duration_since(asked)
                    )
                })?;
                tokio::time::sleep(Duration::from_millis(70)).await;
            }
            Ok((id, deadline))
        }
    })
    .await?;
    for (id, deadline) in ended {
        // The last write may have had the shortest life of all to set.
        cx.ended(deadline, limits.min_ttl).await;
        site.reaches_nothing("after its deadline", &id).await?;
        let record = cx.store().load(&site.key(&id)).await.answer();
        same("load of its record after the deadline", record, Ok(None))?;
    }
    Ok(())
}

/// 16 requests at once that each set an attribute of their own, four times over: all 64 attributes are there.
async fn changes_to_different_attributes_all_survive(cx: Cx) -> Verdict {
    const CALLERS: usize = 16;
    const ROUNDS: usize = 4;
    let site = Site::new(&cx);
    let id = site.log_in(&cx.subject()).await?;
    let nodes = nodes(&cx, &site, 4, false).await?;
    let gate = Arc::new(Barrier::new(CALLERS));
    callers(CALLERS, |caller| {
        let (sessions, id, gate) = (nodes[caller % 4].clone(), id.clone(), Arc::clone(&gate));
        async move {
            for round in 0..ROUNDS {
                let session = sessions.open(Some(id.clone()));
                session.insert(&format!("{caller} {round}"), &caller).await?;
                // All have loaded the same state.
                gate.wait().await;
                let _ = commit(&session).await?;
            }
            Ok(())
        }
    })
    .await?;
    let mut expected: Vec<String> = (0..CALLERS * ROUNDS)
        .map(|at| format!("{} {}", at % CALLERS, at / CALLERS))
        .chain(["mark".to_owned()])
        .collect();
    expected.sort();
    let seen = site.reached("after them", &id).await?.names().await?;
    same("the attributes that 16 requests set", seen, expected)
}

/// 100 requests by 16 callers on 4 nodes that each add one to an attribute add 100.
async fn updates_of_one_attribute_all_count(cx: Cx) -> Verdict {
    const CALLERS: usize = 16;
    const UPDATES: usize = 100;
    let site = Site::new(&cx);
    let id = site.log_in(&cx.subject()).await?;
    let nodes = nodes(&cx, &site, 4, false).await?;
    let gate = Arc::new(Barrier::new(CALLERS));
    callers(CALLERS, |caller| {
        let (sessions, id, gate) = (nodes[caller % 4].clone(), id.clone(), Arc::clone(&gate));
        async move {
            for update in (caller..UPDATES).step_by(CALLERS) {
                let session = sessions.open(Some(id.clone()));
                add(&session).await?;
                if update < CALLERS {
                    // All have loaded the same state.
                    gate.wait().await;
                }
                let _ = commit(&session).await?;
            }
            Ok(())
        }
    })
    .await?;
    counts(&site, "after 100 updates", &id, UPDATES as u64).await
}

/// `count` nodes of a site.
pub(super) async fn nodes(cx: &Cx, site: &Site, count: usize, renewing: bool) -> Result<Vec<Sessions>, Stop> {
    let mut nodes = Vec::new();
    for store in cx.nodes(count).await? {
        let interval = renewing.then_some(Site::INTERVAL);
        nodes.push(site.on(store, |builder| builder.renew_every(interval))?);
    }
    Ok(nodes)
}

/// The session that `id` reaches has counted so far.
pub(super) async fn counts(
    site: &Site,
    when: impl std::fmt::Display,
    id: &SessionId,
    expected: u64,
) -> Verdict {
    let session = site.reached(&when, id).await?;
    let seen = session.get::<u64>("count").await?.unwrap_or(0);
    same(format!("the count, {when}"), seen, expected)
}

/// A request that was on its way during a log-out, whatever it does and at whichever of its store calls, brings nothing
/// back: it ends in `Gone`, or its end came before; no id reaches the session and no record of it is left
/// (CVE-2025-46336).
async fn logout_is_not_undone_by_a_slow_request(cx: Cx) -> Verdict {
    const MOST_CALLS: usize = 12;
    let site = Site::new(&cx);
    let (plain, way) = (site.plain()?, Way::to(cx.store()));
    let slow = site.on(Arc::clone(&way) as _, |builder| builder.renew_every(None))?;
    for change in ["insert", "update", "clear", "renew", "log in"] {
        for call in 0..MOST_CALLS {
            let (subject, when) = (cx.subject(), format!("{change} delayed at call {call}"));
            let id = site.log_in(&subject).await?;
            let session = slow.open(Some(id.clone()));
            match change {
                "insert" => session.insert("late", &true).await?,
                "update" => add(&session).await?,
                "clear" => session.clear().await?,
                "renew" => session.renew().await?,
                _ => session.log_in(subject.clone()).await?,
            }
            let plan = Plan::at_call(call, Trouble::Delayed);
            let (seen, reached) = way
                .meanwhile(plan, commit(&session), log_out(&plain, &id))
                .await?;
            match seen {
                Err(SessionError::Gone) if reached => {}
                Ok(committed) if !reached => {
                    if let Some(new) = new_id(committed.client) {
                        site.reaches_nothing(&when, &new).await?;
                    }
                }
                other => {
                    return Err(Stop::Broken(format!(
                        "commit, {when} by a log-out\nexpected: Gone, or success before it\nseen: {}",
                        short(&other)
                    )));
                }
            }
            site.reaches_nothing(&when, &id).await?;
            site.counts(&when, &subject, 0).await?;
            if !reached {
                break;
            }
        }
    }
    upkeep_after_logout(&cx, &site).await
}

/// The same for what is due after the response.
async fn upkeep_after_logout(cx: &Cx, site: &Site) -> Verdict {
    let (plain, subject) = (site.plain()?, cx.subject());
    let session = site
        .reached("to be renewed", &site.log_in(&subject).await?)
        .await?;
    session.renew().await?;
    let id = handed_out(commit(&session).await?)?;
    // The first request with a new id is noted.
    let late = commit(&site.reached("under its new id", &id).await?).await?;
    log_out(&plain, &id).await?;
    match late.upkeep {
        Some(upkeep) => upkeep.run().await,
        None => {
            return Err(Stop::Broken(
                "the first request with a new id\nexpected: upkeep\nseen: none".to_owned(),
            ));
        }
    }
    site.reaches_nothing("upkeep after a log-out", &id).await?;
    site.counts("upkeep after a log-out", &subject, 0).await
}

/// A request of its own that logs out.
pub(super) async fn log_out(sessions: &Sessions, id: &SessionId) -> Verdict {
    let session = sessions.open(Some(id.clone()));
    session.log_out().await?;
    let _ = commit(&session).await?;
    Ok(())
}

/// A write whose request or reply is lost, three times in a row at most, succeeds and counts once; so does the next of
/// the same request, and a new session whose creation was answered by nobody has one id, which reaches it.
async fn lost_reply_to_a_write_is_recognised_on_retry(cx: Cx) -> Verdict {
    const MOST_LOST: usize = 3;
    let site = Site::new(&cx);
    let way = Way::to(cx.store());
    let sessions = site.on(Arc::clone(&way) as _, |builder| builder.renew_every(None))?;
    for trouble in [Trouble::RequestLost, Trouble::ReplyLost] {
        for lost in 1..=MOST_LOST {
            let (subject, when) = (cx.subject(), format!("{trouble:?} {lost} times"));
            let id = site.log_in(&subject).await?;
            let session = sessions.open(Some(id.clone()));
            for count in 1..=2 {
                add(&session).await?;
                way.plan(Plan::at_write(0, trouble).times(lost));
                let _ = commit(&session).await?;
                way.clear();
                counts(&site, &when, &id, count).await?;
            }

            let session = sessions.open(None);
            session.log_in(subject.clone()).await?;
            session.insert("mark", &true).await?;
            way.plan(Plan::at_write(0, trouble).times(lost));
            let id = handed_out(commit(&session).await?)?;
            way.clear();
            counts(&site, &format!("created, {when}"), &id, 0).await?;
        }
    }
    Ok(())
}

/// An update whose request or reply is lost, before other requests write too, is counted once or not at all, and not
/// at all only if its commit failed: which it does not before seven others have written.
async fn lost_reply_then_other_writes_never_counts_twice(cx: Cx) -> Verdict {
    /// A record remembers its last eight writes.
    const REMEMBERED: u64 = 8;
    let site = Site::new(&cx);
    let (plain, way) = (site.plain()?, Way::to(cx.store()));
    let sessions = site.on(Arc::clone(&way) as _, |builder| builder.renew_every(None))?;
    let others = async |id: &SessionId, times: u64| {
        for _ in 0..times {
            let session = plain.open(Some(id.clone()));
            add(&session).await?;
            let _ = commit(&session).await?;
        }
        Ok(())
    };
    for trouble in [Trouble::RequestLost, Trouble::ReplyLost] {
        for before in 0..=1 {
            for after in [0, 1, 2, REMEMBERED - 1, REMEMBERED, REMEMBERED + 2] {
                let when = format!("{trouble:?} between {before} and {after} updates by others");
                let id = site.log_in(&cx.subject()).await?;
                let session = sessions.open(Some(id.clone()));
                add(&session).await?;
                others(&id, before).await?;
                // The first write meets what others did before it, and is tried again.
                let plan = Plan::at_write(usize::from(before > 0), trouble);
                let (seen, reached) = way.meanwhile(plan, commit(&session), others(&id, after)).await?;
                ensure(reached, || {
                    format!("commit, {when}\nexpected: a second write after a conflict\nseen: {seen:?}")
                })?;
                let applied = match seen {
                    Ok(_) => 1,
                    Err(error)
                        if error.store_kind() == Some(ErrorKind::Unavailable) && after >= REMEMBERED =>
                    {
                        u64::from(trouble == Trouble::ReplyLost)
                    }
                    Err(error) => {
                        return Err(Stop::Broken(format!(
                            "commit, {when}\nexpected: success\nseen: {error:?}"
                        )));
                    }
                };
                counts(&site, &when, &id, before + after + applied).await?;
            }
        }
    }
    Ok(())
}

/// While the store fails, however it does, every call of a session that has an id fails, and its commit writes nothing
/// and tells the client nothing: no visitor turns into an anonymous one, no log-out is reported that did not happen. When
/// the store is back, the session is there. (Where the backend can take its server away, with that server too, and where
/// it can damage a value, with that.)
async fn failed_store_never_gives_an_anonymous_session(cx: Cx) -> Verdict {
    let (site, subject) = (Site::new(&cx), cx.subject());
    let way = Way::to(cx.store());
    let sessions = site.on(Arc::clone(&way) as _, |builder| builder)?;
    let id = site.log_in(&subject).await?;
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::Corrupt,
        ErrorKind::NewerFormat,
        ErrorKind::Full,
    ] {
        let session = sessions.open(Some(id.clone()));
        way.plan(Plan::at_call(0, Trouble::Fails(kind)).for_good());
        fails(&session, |seen| seen == kind, &format!("{kind:?}")).await?;
        way.clear();
        // The same request, when the store is back.
        same(
            "get when the store is back",
            session.get("mark").await?,
            Some(true),
        )?;
        site.reached("when the store is back", &id).await?;
    }
    same("writes while the store failed", way.writes(), 0)?;
    site.counts("after failures", &subject, 1).await?;

    match cx.unreachable().await {
        Ok(store) => {
            let sessions = site.on(store, |builder| builder)?;
            let session = sessions.open(Some(id.clone()));
            // One call, not all: each may take as long as the store's deadline.
            let seen = session.get::<bool>("mark").await;
            let kind = seen.as_ref().err().and_then(SessionError::store_kind);
            same("get, with the server away", kind, Some(ErrorKind::Unavailable))?;
            does_nothing(session.commit().await?)?;
        }
        Err(Stop::Untested(_)) => {}
        Err(stop) => return Err(stop),
    }
    match cx.raw().await {
        Ok(raw) => {
            raw.plant(&site.key(&id), b"another program's value").await?;
            let session = site.plain()?.open(Some(id));
            let unreadable = |seen| matches!(seen, ErrorKind::Corrupt | ErrorKind::NewerFormat);
            fails(&session, unreadable, "Corrupt, of a damaged value").await
        }
        Err(Stop::Untested(_)) => Ok(()),
        Err(stop) => Err(stop),
    }
}

/// Every call of the session fails so, and its commit does nothing.
async fn fails(session: &Session, right: impl Fn(ErrorKind) -> bool, expected: &str) -> Verdict {
    let stranger = Subject::new("stranger").map_err(|error| Stop::Broken(error.to_string()))?;
    let answers = [
        ("get", session.get::<bool>("mark").await.map(drop)),
        ("insert", session.insert("mark", &false).await),
        ("update", add(session).await),
        ("remove", session.remove("mark").await.map(drop)),
        ("clear", session.clear().await),
        ("names", session.names().await.map(drop)),
        ("info", session.info().await.map(drop)),
        ("subject", session.subject().await.map(drop)),
        ("renew", session.renew().await),
        ("log_in", session.log_in(stranger).await),
        ("log_out", session.log_out().await),
        ("log_out_everywhere", session.log_out_everywhere().await.map(drop)),
        ("log_out_elsewhere", session.log_out_elsewhere().await.map(drop)),
        (
            "sessions_of_subject",
            session.sessions_of_subject().await.map(drop),
        ),
    ];
    for (call, seen) in answers {
        let kind = seen.as_ref().err().and_then(SessionError::store_kind);
        ensure(kind.is_some_and(&right), || {
            format!("{call}\nexpected: {expected}\nseen: {}", short(&seen))
        })?;
    }
    does_nothing(session.commit().await?)
}

fn does_nothing(committed: Committed) -> Verdict {
    ensure(
        matches!(committed.client, ClientAction::Keep) && committed.upkeep.is_none(),
        || format!("commit after failures\nexpected: nothing is told or due\nseen: {committed:?}"),
    )
}

/// A record that holds no session, or one of a newer version, is an error of every call, and is left as it is: whoever
/// can read it may come.
async fn unreadable_session_is_an_error_and_stays(cx: Cx) -> Verdict {
    let (site, subject) = (Site::new(&cx), cx.subject());
    let whole = cx.store().load(&site.key(&site.log_in(&subject).await?)).await?;
    let Some(whole) = whole.map(|stored| stored.record.data.to_vec()) else {
        return Err(Stop::Broken("load of a session\nseen: None".to_owned()));
    };
    let with_format = |format: u8| [&[format], &whole[1..]].concat();
    let unreadable = [
        (ErrorKind::Corrupt, Vec::new()),
        (ErrorKind::Corrupt, b"\0 garbage".to_vec()),
        (ErrorKind::Corrupt, with_format(0)),
        (ErrorKind::Corrupt, whole[..whole.len() / 2].to_vec()),
        (ErrorKind::Corrupt, [&whole[..], b"\0"].concat()),
        (ErrorKind::NewerFormat, with_format(whole[0] + 1)),
        (ErrorKind::NewerFormat, with_format(255)),
    ];
    for (kind, data) in unreadable {
        let (id, record) = (
            SessionId::random()?,
            Record::new(data).with_subject(subject.clone()),
        );
        let key = site.key(&id);
        let version = cx.store().create(&key, &record, Cx::LONG).await?;
        let session = site.renewing()?.open(Some(id));
        fails(&session, |seen| seen == kind, &format!("{kind:?}")).await?;
        loads(&cx, &key, &record, version).await?;
        let remaining = cx.store().load(&key).await?.map(|stored| stored.remaining);
        let most = Cx::LONG + cx.limits().granularity;
        ensure(remaining.is_some_and(|remaining| remaining <= most), || {
            format!("its remaining life\nexpected: at most {most:?}\nseen: {remaining:?}")
        })?;
    }
    Ok(())
}

/// "Log out elsewhere" ends every other session of the subject and tells how many; this one goes on under its id, and so
/// does another subject's.
async fn log_out_elsewhere_keeps_this_one(cx: Cx) -> Verdict {
    const OTHERS: u64 = 5;
    let (site, subject) = (Site::new(&cx), cx.subject());
    let (mine, stranger) = (site.log_in(&subject).await?, site.log_in(&cx.subject()).await?);
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(site.log_in(&subject).await?);
    }
    let session = site.reached("at first", &mine).await?;
    let before = session.sessions_of_subject().await?;
    add(&session).await?;
    same("log_out_elsewhere", session.log_out_elsewhere().await?, OTHERS)?;
    same(
        "the subject's sessions before and after",
        (before, session.sessions_of_subject().await?),
        (OTHERS as usize + 1, 1),
    )?;
    let committed = commit(&session).await?;
    ensure(matches!(committed.client, ClientAction::Keep), || {
        format!("commit after it\nexpected: Keep\nseen: {committed:?}")
    })?;
    counts(&site, "after log_out_elsewhere", &mine, 1).await?;
    for other in &others {
        site.reaches_nothing("after log_out_elsewhere", other).await?;
    }
    site.reached("after another subject's log_out_elsewhere", &stranger)
        .await?;
    same("log_out_elsewhere again", session.log_out_elsewhere().await?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_every_form() {
        let id = SessionId::random().unwrap();
        let text = id.expose();
        for (form, bytes) in forms(&text).unwrap() {
            let dump = [b"before".as_slice(), &bytes, b"after"].concat();
            assert!(contains(&dump, &bytes), "{form}");
            assert!(
                !contains(&dump[..dump.len() - 6], &[&bytes[..], b"after"].concat()),
                "{form}"
            );
        }
        assert!(!contains(b"", b"x"));
    }

    #[test]
    fn forms_are_those_of_the_same_bytes() {
        let text = "-_8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE";
        let forms = forms(text).unwrap();
        let bytes = [&[0xfb, 0xff][..], &[0; 29], &[1]].concat();
        assert_eq!(forms[1].1, b"+/8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE");
        assert_eq!(forms[2].1, format!("fbff{}01", "00".repeat(29)).into_bytes());
        assert_eq!(forms[3].1, format!("FBFF{}01", "00".repeat(29)).into_bytes());
        assert_eq!(forms[4].1, bytes);
    }
}
