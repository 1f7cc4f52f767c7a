//! A session moves to a new id, and neither it nor a change is lost, doubled or left behind: `create` the new record, then
//! `update` the old one to a note of where it went, with others in between.
//!
//! Each order of those calls with one other request is made here on the real store, call by call; then many at once.

use std::{sync::Arc, time::Duration};

use session_core::{ClientAction, Committed, ErrorKind, Session, SessionError, SessionId, SessionStore};
use tokio::sync::Barrier;

use super::session::{
    Plan, Site, Trouble, Way, add, commit, counts, handed_out, log_out, new_id, nodes, visit,
};
use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{ensure, same, short},
    table::table,
};

table! { "renewal":
    logout_during_renewal_ends_the_renewed_session;
    two_renewals_at_once_leave_one_session;
    renewal_within_grace_loses_no_concurrent_change;
    renewed_session_never_answers_to_its_old_id_after_grace;
    parallel_requests_during_renewal_are_not_logged_out;
    crash_between_the_steps_of_renewal_leaves_the_old_session;
    lost_reply_to_a_renewal_loses_no_session;
    log_out_everywhere_catches_a_session_that_is_being_renewed: needs Subjects, stochastic;
}

/// More calls than any request here makes without meeting others at each of them.
const MOST_CALLS: usize = 16;

/// A site, and two ways of its requests to the store: straight, and one on which calls are delayed and lost.
struct Scene {
    site: Site,
    way: Arc<Way>,
    straight: Arc<dyn SessionStore>,
}

impl Scene {
    fn new(cx: &Cx) -> Self {
        Self {
            site: Site::new(cx),
            way: Way::to(cx.store()),
            straight: cx.store(),
        }
    }

    /// A request that will meet trouble, if any is planned.
    async fn slow(&self, id: &SessionId, renewal: Renewal) -> Result<Session, Stop> {
        self.request(Arc::clone(&self.way) as _, id, renewal).await
    }

    /// One that meets none.
    async fn fast(&self, id: &SessionId, renewal: Renewal) -> Result<Session, Stop> {
        self.request(Arc::clone(&self.straight), id, renewal).await
    }

    /// A request that has loaded its session. At its commit it renews it: because that is due, or because its privilege
    /// changes; or it does not.
    async fn request(
        &self,
        store: Arc<dyn SessionStore>,
        id: &SessionId,
        renewal: Renewal,
    ) -> Result<Session, Stop> {
        let interval = (renewal == Renewal::Due).then_some(Site::INTERVAL);
        let sessions = self.site.on(store, |builder| builder.renew_every(interval))?;
        let session = sessions.open(Some(id.clone()));
        same("the session of a request", session.get("mark").await?, Some(true))?;
        if renewal == Renewal::Privilege {
            session.renew().await?;
        }
        Ok(session)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    Due,
    Privilege,
    No,
}

/// A log-out that meets a renewal ends the session under the new id too: whichever of the two is delayed, at whichever
/// of its store calls, and when both run at once.
async fn logout_during_renewal_ends_the_renewed_session(cx: Cx) -> Verdict {
    let scene = Scene::new(&cx);
    let site = &scene.site;
    for renewal in [Renewal::Due, Renewal::Privilege] {
        for call in 0..MOST_CALLS {
            let (subject, when) = (
                cx.subject(),
                format!("renewal ({renewal:?}) delayed at call {call}"),
            );
            let id = site.log_in(&subject).await?;
            site.pass_interval();
            let renewing = scene.slow(&id, renewal).await?;
            let plan = Plan::at_call(call, Trouble::Delayed);
            let plain = site.plain()?;
            let (seen, reached) = scene
                .way
                .meanwhile(plan, commit(&renewing), log_out(&plain, &id))
                .await?;
            let mut ids = vec![id];
            match seen {
                Ok(committed) => ids.extend(new_id(committed.client)),
                Err(SessionError::Gone) => {}
                Err(error) => return Err(error.into()),
            }
            nobody_is_left(site, &when, &ids).await?;
            site.counts(&when, &subject, 0).await?;
            if !reached {
                break;
            }
        }
        for call in 0..MOST_CALLS {
            let (subject, when) = (
                cx.subject(),
                format!("log-out delayed at call {call} by {renewal:?}"),
            );
            let id = site.log_in(&subject).await?;
            site.pass_interval();
            let leaving = scene.slow(&id, Renewal::No).await?;
            let renewing = scene.fast(&id, renewal).await?;
            let mut ids = vec![id.clone()];
            let plan = Plan::at_call(call, Trouble::Delayed);
            let renew = async {
                match commit(&renewing).await {
                    Ok(committed) => ids.extend(new_id(committed.client)),
                    Err(SessionError::Gone) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(())
            };
            let (seen, reached) = scene.way.meanwhile(plan, leaving.log_out(), renew).await?;
            seen?;
            nobody_is_left(site, &when, &ids).await?;
            site.counts(&when, &subject, 0).await?;
            if !reached {
                break;
            }
        }
    }
    for round in 0..20 {
        let (subject, when) = (cx.subject(), format!("both at once, round {round}"));
        let id = site.log_in(&subject).await?;
        site.pass_interval();
        let sessions = site.renewing()?;
        let ids = callers(4, |caller| {
            let session = sessions.open(Some(id.clone()));
            async move {
                session.names().await?;
                if caller == 0 {
                    session.log_out().await?;
                }
                match commit(&session).await {
                    Ok(committed) => Ok(new_id(committed.client)),
                    Err(SessionError::Gone) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        })
        .await?;
        let ids: Vec<SessionId> = ids.into_iter().flatten().chain([id]).collect();
        nobody_is_left(site, &when, &ids).await?;
        site.counts(&when, &subject, 0).await?;
    }
    Ok(())
}

/// None of the ids reaches a session.
async fn nobody_is_left(site: &Site, when: &str, ids: &[SessionId]) -> Verdict {
    for (at, id) in ids.iter().enumerate() {
        let when = format!("{when}, id {} of {}", at + 1, ids.len());
        site.reaches_nothing(&when, id).await?;
    }
    Ok(())
}

/// Of requests that renew one session at once exactly one hands out a new id; all succeed, and one session is left,
/// renewed once, which the old id reaches too while its grace runs.
async fn two_renewals_at_once_leave_one_session(cx: Cx) -> Verdict {
    const CALLERS: usize = 8;
    let scene = Scene::new(&cx);
    for call in 0..MOST_CALLS {
        let (subject, when) = (cx.subject(), format!("one of two delayed at call {call}"));
        let id = scene.site.log_in(&subject).await?;
        scene.site.pass_interval();
        let one = scene.slow(&id, Renewal::Due).await?;
        let other = scene.fast(&id, Renewal::Due).await?;
        let mut ids = Vec::new();
        let plan = Plan::at_call(call, Trouble::Delayed);
        let renew = async {
            ids.extend(new_id(commit(&other).await?.client));
            Ok(())
        };
        let (seen, reached) = scene.way.meanwhile(plan, commit(&one), renew).await?;
        ids.extend(new_id(seen?.client));
        one_is_left(&scene.site, &when, &id, &ids).await?;
        scene.site.counts(&when, &subject, 1).await?;
        if !reached {
            break;
        }
    }
    for round in 0..5 {
        let (subject, when) = (cx.subject(), format!("{CALLERS} at once, round {round}"));
        let id = scene.site.log_in(&subject).await?;
        scene.site.pass_interval();
        let nodes = nodes(&cx, &scene.site, 4, true).await?;
        let gate = Arc::new(Barrier::new(CALLERS));
        let ids = callers(CALLERS, |caller| {
            let (session, gate) = (nodes[caller % 4].open(Some(id.clone())), Arc::clone(&gate));
            async move {
                session.names().await?;
                gate.wait().await;
                Ok(new_id(commit(&session).await?.client))
            }
        })
        .await?;
        let ids: Vec<SessionId> = ids.into_iter().flatten().collect();
        one_is_left(&scene.site, &when, &id, &ids).await?;
        scene.site.counts(&when, &subject, 1).await?;
    }
    Ok(())
}

/// One id was handed out, and reaches the session that the old one does.
async fn one_is_left(site: &Site, when: &str, old: &SessionId, ids: &[SessionId]) -> Verdict {
    same(format!("ids handed out, {when}"), ids.len(), 1)?;
    let mut seen = Vec::new();
    for id in [old, &ids[0]] {
        let session = site.reached(when, id).await?;
        seen.push(session.info().await?.map(|info| info.renewals));
    }
    same(
        format!("renewals under the old and the new id, {when}"),
        seen,
        vec![Some(1); 2],
    )
}

/// While the grace of the old id runs, requests that came with it lose no change, and none of theirs is lost by the
/// renewal: whichever is delayed, at whichever of its store calls, and when many run at once.
async fn renewal_within_grace_loses_no_concurrent_change(cx: Cx) -> Verdict {
    let scene = Scene::new(&cx);
    let site = &scene.site;
    for renewal_is_slow in [true, false] {
        for call in 0..MOST_CALLS {
            let slow = if renewal_is_slow { "renewal" } else { "change" };
            let when = format!("{slow} delayed at call {call}");
            let id = site.log_in(&cx.subject()).await?;
            site.pass_interval();
            let (slow, fast) = match renewal_is_slow {
                true => (Renewal::Due, Renewal::No),
                false => (Renewal::No, Renewal::Due),
            };
            let (slow, fast) = (scene.slow(&id, slow).await?, scene.fast(&id, fast).await?);
            add(&slow).await?;
            add(&fast).await?;
            slow.insert("slow", &true).await?;
            fast.insert("fast", &true).await?;
            let mut ids = Vec::new();
            let plan = Plan::at_call(call, Trouble::Delayed);
            let write = async {
                ids.extend(new_id(commit(&fast).await?.client));
                Ok(())
            };
            let (seen, reached) = scene.way.meanwhile(plan, commit(&slow), write).await?;
            ids.extend(new_id(seen?.client));
            same(format!("ids handed out, {when}"), ids.len(), 1)?;
            for id in [&id, &ids[0]] {
                counts(site, &when, id, 2).await?;
                let session = site.reached(&when, id).await?;
                same(
                    format!("the two changes, {when}"),
                    (session.get("slow").await?, session.get("fast").await?),
                    (Some(true), Some(true)),
                )?;
            }
            if !reached {
                break;
            }
        }
    }
    many_changes(&cx, site).await
}

/// 12 callers with one id that is due, each of which counts.
async fn many_changes(cx: &Cx, site: &Site) -> Verdict {
    const CALLERS: usize = 12;
    let nodes = nodes(cx, site, 4, true).await?;
    for round in 0..5 {
        let when = format!("{CALLERS} at once, round {round}");
        let id = site.log_in(&cx.subject()).await?;
        site.pass_interval();
        let gate = Arc::new(Barrier::new(CALLERS));
        let ids = callers(CALLERS, |caller| {
            let (session, gate) = (nodes[caller % 4].open(Some(id.clone())), Arc::clone(&gate));
            async move {
                add(&session).await?;
                gate.wait().await;
                Ok(new_id(commit(&session).await?.client))
            }
        })
        .await?;
        let ids: Vec<SessionId> = ids.into_iter().flatten().collect();
        same(format!("ids handed out, {when}"), ids.len(), 1)?;
        for id in [&id, &ids[0]] {
            counts(site, &when, id, CALLERS as u64).await?;
        }
    }
    Ok(())
}

/// An old id reaches nothing once its grace is over and the new one has been used, by a reader or by a writer; after a
/// change of privilege, log-in above all, it reaches nothing at once. What a request with it then writes is no session of
/// the subject's.
async fn renewed_session_never_answers_to_its_old_id_after_grace(cx: Cx) -> Verdict {
    let scene = Scene::new(&cx);
    let site = &scene.site;
    let renewing = site.renewing()?;
    for written in [false, true] {
        let when = format!(
            "after grace, the new id {}",
            if written { "written to" } else { "read" }
        );
        let subject = cx.subject();
        let mut ids = vec![site.log_in(&subject).await?];
        for _ in 0..3 {
            site.pass_interval();
            let old = &ids[ids.len() - 1];
            let new = handed_out(commit(&scene.fast(old, Renewal::Due).await?).await?)?;
            site.reached("within grace, by its old id", old).await?;
            if written {
                let session = renewing.open(Some(new.clone()));
                add(&session).await?;
                let _ = commit(&session).await?;
            } else {
                visit(&renewing, &new).await?;
            }
            ids.push(new);
            site.pass_grace();
            let (new, old) = (&ids[ids.len() - 1], &ids[..ids.len() - 1]);
            site.reached(&when, new).await?;
            nobody_is_left(site, &when, old).await?;
        }
        // Long after: a request that comes without a session begins one.
        site.pass_grace();
        refused(site, &when, &ids[0]).await?;
        site.counts(&when, &subject, 1).await?;
    }
    for log_in in [false, true] {
        let when = format!("at once, log-in: {log_in}");
        let subject = cx.subject();
        let old = site.log_in(&subject).await?;
        let session = site.reached("before", &old).await?;
        match log_in {
            true => session.log_in(subject.clone()).await?,
            false => session.renew().await?,
        }
        let new = handed_out(commit(&session).await?)?;
        site.reaches_nothing(&when, &old).await?;
        site.reached(&when, &new).await?;
        site.counts(&when, &subject, 1).await?;
    }
    Ok(())
}

/// What is written with an old id is another session.
async fn refused(site: &Site, when: &str, old: &SessionId) -> Verdict {
    let session = site.plain()?.open(Some(old.clone()));
    session.insert("late", &true).await?;
    let new = handed_out(commit(&session).await?)?;
    let session = site.plain()?.open(Some(new));
    same(
        format!("a session that was begun with an old id, {when}"),
        (session.names().await?, session.subject().await?.is_some()),
        (vec!["late".to_owned()], false),
    )?;
    Ok(())
}

/// 50 requests that come at once with an id that is due all find the session, and none is told to forget it; what they
/// add is all there, and every id that one of them was told reaches it.
async fn parallel_requests_during_renewal_are_not_logged_out(cx: Cx) -> Verdict {
    const CALLERS: usize = 50;
    const ROUNDS: usize = 3;
    let site = Site::new(&cx);
    let nodes = nodes(&cx, &site, 4, true).await?;
    for round in 0..ROUNDS {
        let when = format!("{CALLERS} requests at once, round {round}");
        let id = site.log_in(&cx.subject()).await?;
        site.pass_interval();
        let ids = callers(CALLERS, |caller| {
            let (sessions, id, when) = (nodes[caller % 4].clone(), id.clone(), when.clone());
            async move {
                let session = sessions.open(Some(id));
                let seen = (session.get("mark").await?, session.subject().await?.is_some());
                same(format!("the session, {when}"), seen, (Some(true), true))?;
                if caller % 5 == 0 {
                    add(&session).await?;
                }
                match commit(&session).await?.client {
                    ClientAction::Forget => Err(Stop::Broken(format!("commit, {when}\nseen: Forget"))),
                    client => Ok(new_id(client)),
                }
            }
        })
        .await?;
        for id in ids.iter().flatten().chain([&id]) {
            counts(&site, &when, id, CALLERS as u64 / 5).await?;
        }
    }
    Ok(())
}

/// A request that ends in the middle of a renewal, before or after any of its store calls, as in a crash, leaves the
/// session under the id that the client has, with all of the request's changes or with none; and the next request renews
/// it.
async fn crash_between_the_steps_of_renewal_leaves_the_old_session(cx: Cx) -> Verdict {
    let scene = Scene::new(&cx);
    let (site, way) = (&scene.site, &scene.way);
    for trouble in [Trouble::RequestLost, Trouble::ReplyLost] {
        for call in 0..MOST_CALLS {
            let before = trouble == Trouble::RequestLost;
            let when = format!("a crash {} call {call}", if before { "before" } else { "after" });
            let id = site.log_in(&cx.subject()).await?;
            site.pass_interval();
            let session = scene.slow(&id, Renewal::Due).await?;
            session.insert("one", &true).await?;
            session.insert("two", &true).await?;
            let ended = way.crash(Plan::at_call(call, trouble), commit(&session)).await;
            drop(session);

            let session = site.reached(&when, &id).await?;
            let changes = (
                session.get::<bool>("one").await?.is_some(),
                session.get::<bool>("two").await?.is_some(),
            );
            ensure(changes.0 == changes.1, || {
                format!("the two changes, {when}\nexpected: both or none\nseen: {changes:?}")
            })?;
            // The client has not heard of a new id, and comes with the old one; even when its grace is over.
            site.pass_interval();
            let new = renewed_by_the_next(site, &when, &id).await?;
            let session = site
                .reached(format!("{when}, renewed by the next request"), &new)
                .await?;
            let kept = session.get::<bool>("one").await?.is_some();
            ensure(kept || !changes.0, || {
                format!("a change, {when}\nseen: lost by the next request")
            })?;
            if let Some(ended) = ended {
                let _ = ended?;
                break;
            }
        }
    }
    Ok(())
}

/// A renewal that meets lost requests and replies, at any of its store calls and several in a row, or a server that goes
/// down, loses no session: a new id that it hands out reaches the session with its change; if it fails, the old id does,
/// when the server is back.
async fn lost_reply_to_a_renewal_loses_no_session(cx: Cx) -> Verdict {
    let scene = Scene::new(&cx);
    for trouble in [Trouble::RequestLost, Trouble::ReplyLost] {
        for lost in [1, 2, 3, usize::MAX] {
            for call in 0..MOST_CALLS {
                let when = format!("{trouble:?} at call {call}, {lost} times");
                let id = scene.site.log_in(&cx.subject()).await?;
                scene.site.pass_interval();
                let session = scene.slow(&id, Renewal::Due).await?;
                add(&session).await?;
                let before = scene.way.calls();
                scene.way.plan(Plan::at_call(call, trouble).times(lost));
                let seen = commit(&session).await;
                scene.way.clear();
                let made = scene.way.calls() - before;
                renewed_or_not(&scene.site, &when, &id, seen).await?;
                // Beyond the last call there is no trouble.
                if made <= call {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The id that the next request of a client gets who has not heard of one.
async fn renewed_by_the_next(site: &Site, when: &str, old: &SessionId) -> Result<SessionId, Stop> {
    visit(&site.renewing()?, old).await?.ok_or_else(|| {
        Stop::Broken(format!(
            "the next request, {when}\nexpected: a new id\nseen: none"
        ))
    })
}

/// What a commit said of a renewal is so.
async fn renewed_or_not(
    site: &Site,
    when: &str,
    old: &SessionId,
    seen: Result<Committed, SessionError>,
) -> Verdict {
    match seen {
        Ok(committed) => {
            let new = handed_out(committed)?;
            for id in [old, &new] {
                counts(site, when, id, 1).await?;
            }
            site.pass_grace();
            counts(site, when, &new, 1).await
        }
        Err(error) if error.store_kind() == Some(ErrorKind::Unavailable) => {
            let session = site.reached(when, old).await?;
            let count = session.get::<u64>("count").await?.unwrap_or(0);
            ensure(count <= 1, || {
                format!("the count, {when}\nexpected: 0 or 1\nseen: {count}")
            })?;
            // Nobody has come with a new id: the old one is renewed, whenever it comes.
            site.pass_interval();
            let new = renewed_by_the_next(site, when, old).await?;
            counts(site, when, &new, count).await
        }
        Err(error) => Err(Stop::Broken(format!(
            "commit, {when}\nexpected: success or Unavailable\nseen: {}",
            short(&error)
        ))),
    }
}

/// "Log out everywhere" ends sessions that are renewed all the time meanwhile: when it and they have ended, no id that
/// was ever handed out reaches a session, and none is listed.
async fn log_out_everywhere_catches_a_session_that_is_being_renewed(cx: Cx) -> Verdict {
    const RENEWED: usize = 8;
    const RENEWALS: usize = 10;
    const ROUNDS: u64 = 8;
    let site = Site::new(&cx);
    let nodes = nodes(&cx, &site, 4, false).await?;
    for round in 0..ROUNDS {
        let (subject, when) = (cx.subject(), format!("log_out_everywhere, round {round}"));
        let mut first = Vec::new();
        for _ in 0..=RENEWED {
            first.push(site.log_in(&subject).await?);
        }
        let ids = callers(RENEWED + 1, |caller| {
            let (sessions, mut id) = (nodes[caller % 4].clone(), first[caller].clone());
            let mut rng = cx.rng(round * 100 + caller as u64);
            async move {
                let mut ids = vec![id.clone()];
                if caller == RENEWED {
                    // In the middle of the renewals.
                    tokio::time::sleep(Duration::from_micros(rng.u64(..3_000))).await;
                    sessions.open(Some(id)).log_out_everywhere().await?;
                    return Ok(ids);
                }
                for _ in 0..RENEWALS {
                    tokio::time::sleep(Duration::from_micros(rng.u64(..1_000))).await;
                    let session = sessions.open(Some(id.clone()));
                    if session.subject().await?.is_none() {
                        break;
                    }
                    session.renew().await?;
                    match commit(&session).await {
                        Ok(committed) => id = handed_out(committed)?,
                        Err(SessionError::Gone) => break,
                        Err(error) => return Err(error.into()),
                    }
                    ids.push(id.clone());
                }
                Ok(ids)
            }
        })
        .await?;
        nobody_is_left(&site, &when, &ids.concat()).await?;
        site.counts(&when, &subject, 0).await?;
    }
    Ok(())
}
