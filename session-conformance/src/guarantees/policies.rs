//! What an application chooses of its sessions, kept on this store: how many a user may have, what happens while it is down.

use std::sync::Arc;

use session_core::{ClientAction, ErrorKind, OnLimit, SessionError, SessionId};

use super::session::{Plan, Site, Trouble, Way, commit, new_id};
use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{ensure, same},
    table::table,
};

table! { "policies":
    concurrent_log_ins_never_exceed_the_limit: needs Subjects;
    user_ends_one_of_the_own_sessions: needs Subjects;
    tolerated_outage_changes_nothing;
}

/// However many browsers of one subject log in at once, on several nodes, no more of its sessions than the limit can be
/// reached when all have been answered. Where the oldest makes room, one at least is logged in; where a log-in beyond the
/// limit is refused, those who were there before still are.
async fn concurrent_log_ins_never_exceed_the_limit(cx: Cx) -> Verdict {
    const LIMIT: usize = 3;
    const AT_ONCE: usize = 8;
    const ROUNDS: usize = 4;
    cx.store().subjects().ok_or(Stop::Unsupported)?;
    let (site, nodes) = (Site::new(&cx), cx.nodes(4).await?);
    for (round, on_limit) in (0..ROUNDS).flat_map(|round| {
        let policies = [OnLimit::EndOldest, OnLimit::Refuse];
        policies.map(|on_limit| (round, on_limit))
    }) {
        let subject = cx.subject();
        let mut limited = Vec::new();
        for node in &nodes {
            let choose = |builder: session_core::SessionsBuilder| {
                builder.renew_every(None).max_per_subject(LIMIT, on_limit)
            };
            limited.push(site.on(Arc::clone(node), choose)?);
        }
        let mut before = Vec::new();
        for _ in 0..LIMIT - 1 {
            before.push(site.log_in(&subject).await?);
        }
        let came_in = callers(AT_ONCE, |caller| {
            let (sessions, subject) = (limited[caller % limited.len()].clone(), subject.clone());
            async move {
                let session = sessions.open(None);
                session.log_in(subject).await?;
                session.insert("mark", &true).await?;
                match commit(&session).await {
                    Ok(committed) => Ok(new_id(committed.client)),
                    Err(SessionError::TooManySessions { .. }) if on_limit == OnLimit::Refuse => Ok(None),
                    Err(SessionError::Gone) if on_limit == OnLimit::EndOldest => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        })
        .await?;
        let when = format!("after {AT_ONCE} log-ins at once, {on_limit:?}, round {round}");
        let came_in: Vec<SessionId> = came_in.into_iter().flatten().collect();
        let (old, new) = (reached(&site, &before).await?, reached(&site, &came_in).await?);
        ensure(old + new <= LIMIT, || {
            format!(
                "sessions that can be reached {when}\nexpected: {LIMIT} at most\nseen: {}",
                old + new
            )
        })?;
        let kept = match on_limit {
            OnLimit::Refuse => old == before.len() && new == came_in.len(),
            _ => old + new > 0,
        };
        ensure(kept, || {
            format!(
                "of {} sessions before, and {} let in, can be reached {when}\nseen: {old} and {new}",
                before.len(),
                came_in.len()
            )
        })?;
        site.counts(&when, &subject, old + new).await?;
        // One after the other, the limit leaves the newest in, whatever was before.
        if on_limit == OnLimit::EndOldest {
            site.put_forward(Site::INTERVAL);
            let session = limited[0].open(None);
            session.log_in(subject.clone()).await?;
            session.insert("mark", &true).await?;
            let newest = new_id(commit(&session).await?.client);
            let alone = reached(&site, &newest.into_iter().collect::<Vec<_>>()).await?;
            same(format!("a log-in on its own, {when}"), alone, 1)?;
        }
    }
    Ok(())
}

/// How many of these ids reach a logged-in session.
async fn reached(site: &Site, ids: &[SessionId]) -> Result<usize, Stop> {
    let mut reached = 0;
    for id in ids {
        let session = site.plain()?.open(Some(id.clone()));
        let whole = session.get("mark").await? == Some(true) && session.subject().await?.is_some();
        reached += usize::from(whole);
    }
    Ok(reached)
}

/// A user sees each own session once, the asking one marked, from the moment that its log-in was answered; ends exactly the one
/// that is named; and ends no other user's, though its key be known.
async fn user_ends_one_of_the_own_sessions(cx: Cx) -> Verdict {
    const OTHERS: usize = 4;
    let (site, subject) = (Site::new(&cx), cx.subject());
    let (mine, stranger) = (site.log_in(&subject).await?, site.log_in(&cx.subject()).await?);
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(site.log_in(&subject).await?);
    }
    let session = site.reached("at first", &mine).await?;
    let own = session.own_sessions().await?;
    let mut seen: Vec<_> = own.iter().map(|own| (own.key, own.is_current)).collect();
    let mut expected: Vec<_> = others.iter().map(|id| (site.key(id), false)).collect();
    expected.push((site.key(&mine), true));
    seen.sort_unstable();
    expected.sort_unstable();
    same("own_sessions", seen, expected)?;

    let ended = session.end_other(&site.key(&stranger)).await?;
    same("end_other(another subject's session)", ended, false)?;
    site.reached("after another subject's end_other", &stranger)
        .await?;
    same(
        "end_other(one of the own)",
        session.end_other(&site.key(&others[1])).await?,
        true,
    )?;
    site.reaches_nothing("after end_other", &others[1]).await?;
    for (at, id) in others.iter().enumerate().filter(|(at, _)| *at != 1) {
        site.reached(format!("session {at} after end_other of another"), id)
            .await?;
    }
    site.counts("after end_other", &subject, OTHERS).await?;
    same(
        "end_other again",
        session.end_other(&site.key(&others[1])).await?,
        false,
    )?;
    site.reached("at last", &mine).await.map(drop)
}

/// A request that goes on without its session while the store is unavailable sees an empty one, cannot change it, and tells the
/// client nothing; when the store is back, the same id reaches the session, unchanged. What cannot be read is an error there
/// too. (Where the backend can take its server away, with that server.)
async fn tolerated_outage_changes_nothing(cx: Cx) -> Verdict {
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
        session.tolerate_outage();
        way.plan(Plan::at_call(0, Trouble::Fails(kind)).for_good());
        let seen = session.get::<bool>("mark").await;
        match kind {
            ErrorKind::Unavailable => is_degraded(&session, seen, &subject).await?,
            _ => same(
                "get, tolerant",
                seen.as_ref().err().and_then(SessionError::store_kind),
                Some(kind),
            )?,
        }
        way.clear();
        site.reached("when the store is back", &id).await?;
    }
    same("writes while the store failed", way.writes(), 0)?;
    match cx.unreachable().await {
        Ok(store) => {
            let session = site.on(store, |builder| builder)?.open(Some(id.clone()));
            session.tolerate_outage();
            let seen = session.get::<bool>("mark").await;
            is_degraded(&session, seen, &subject).await?;
        }
        Err(Stop::Untested(_)) => {}
        Err(stop) => return Err(stop),
    }
    site.counts("at last", &subject, 1).await?;
    site.reached("at last", &id).await.map(drop)
}

/// `seen` was nothing, nobody is logged in, nothing can be changed, and the client is told nothing.
async fn is_degraded(
    session: &session_core::Session,
    seen: Result<Option<bool>, SessionError>,
    subject: &session_core::Subject,
) -> Verdict {
    same(
        "a session without its store: the mark, the subject, degraded",
        (seen?, session.subject().await?, session.is_degraded()),
        (None, None, true),
    )?;
    let changes = [
        session.insert("mark", &false).await,
        session.log_in(subject.clone()).await,
        session.log_out().await,
    ];
    for change in changes {
        let kind = change.as_ref().err().and_then(SessionError::store_kind);
        same("a change without the store", kind, Some(ErrorKind::Unavailable))?;
    }
    let committed = session.commit().await?;
    let nothing = matches!(committed.client, ClientAction::Keep) && committed.upkeep.is_none();
    ensure(nothing, || {
        format!("commit without the store\nexpected: Keep\nseen: {committed:?}")
    })
}
