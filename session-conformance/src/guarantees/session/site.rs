//! A site whose sessions are kept in the store under test.

use std::{
    fmt,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use session_core::{
    ClientAction, Clock, Committed, ErrorKind, Session, SessionError, SessionId, SessionKey, SessionStore,
    Sessions, SessionsBuilder, Subject, Timestamp,
};

use crate::{
    Cx, Stop, Verdict,
    expect::{Answer, same},
};

/// A site whose sessions are kept in the store under test, and a clock of its own that can be put forward: what is due
/// for renewal, and whether grace has ended, is the site's to say. How long a record lives is the store's, in real time.
pub(in crate::guarantees) struct Site {
    cx: Cx,
    clock: Arc<PutForward>,
}

impl Site {
    /// An id of a logged-in session serves so long on a site that renews.
    pub(in crate::guarantees) const INTERVAL: Duration = Duration::from_secs(600);

    /// The old id still serves so long after a renewal.
    pub(in crate::guarantees) const GRACE: Duration = Duration::from_secs(30);

    pub(in crate::guarantees) fn new(cx: &Cx) -> Self {
        Self {
            cx: cx.clone(),
            clock: Arc::new(PutForward::default()),
        }
    }

    /// Sessions on the store, ids renewed at log-in alone.
    pub(in crate::guarantees) fn plain(&self) -> Result<Sessions, Stop> {
        self.on(self.cx.store(), |builder| builder.renew_every(None))
    }

    /// Sessions on the store, ids renewed after [`Site::INTERVAL`].
    pub(in crate::guarantees) fn renewing(&self) -> Result<Sessions, Stop> {
        self.on(self.cx.store(), |builder| builder)
    }

    /// Sessions on `store`, as `choose` makes them.
    pub(in crate::guarantees) fn on(
        &self,
        store: Arc<dyn SessionStore>,
        choose: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
    ) -> Result<Sessions, Stop> {
        let builder = Sessions::builder(store)
            .namespace(self.cx.namespace())
            .clock(Arc::clone(&self.clock) as _)
            .renew_every(Self::INTERVAL)
            .grace(Self::GRACE);
        choose(builder)
            .build()
            .map_err(|error| Stop::Broken(error.to_string()))
    }

    /// On the site's clock `length` passes at once.
    pub(in crate::guarantees) fn put_forward(&self, length: Duration) {
        let millis = session_core::clock::whole_millis(length);
        self.clock.ahead.fetch_add(millis, Ordering::Relaxed);
    }

    /// Ids that are due for renewal become so.
    pub(in crate::guarantees) fn pass_interval(&self) {
        self.put_forward(Self::INTERVAL + Duration::from_secs(1));
    }

    /// The grace of every id that was renewed until now ends.
    pub(in crate::guarantees) fn pass_grace(&self) {
        self.put_forward(Self::GRACE + Duration::from_secs(1));
    }

    /// A new session of `subject`'s, with the attribute `"mark"`.
    pub(in crate::guarantees) async fn log_in(&self, subject: &Subject) -> Result<SessionId, Stop> {
        let session = self.plain()?.open(None);
        session.log_in(subject.clone()).await?;
        session.insert("mark", &true).await?;
        handed_out(commit(&session).await?)
    }

    /// The key of `id` on this site.
    pub(in crate::guarantees) fn key(&self, id: &SessionId) -> SessionKey {
        id.key(self.cx.namespace())
    }

    /// `id` reaches a session of [`Site::log_in`], whole; this is it.
    pub(in crate::guarantees) async fn reached(
        &self,
        when: impl fmt::Display,
        id: &SessionId,
    ) -> Result<Session, Stop> {
        let session = self.plain()?.open(Some(id.clone()));
        let seen = (session.get("mark").await?, session.subject().await?.is_some());
        same(
            format!("the mark and the log-in of the session, {when}"),
            seen,
            (Some(true), true),
        )?;
        Ok(session)
    }

    /// `id` reaches no session.
    pub(in crate::guarantees) async fn reaches_nothing(
        &self,
        when: impl fmt::Display,
        id: &SessionId,
    ) -> Verdict {
        let session = self.plain()?.open(Some(id.clone()));
        let seen = (
            session.names().await?,
            session.subject().await?,
            session.info().await?.is_some(),
        );
        same(
            format!("what the id reaches, {when}"),
            seen,
            (Vec::new(), None, false),
        )
    }

    /// The subject has so many live records, where the store can tell.
    pub(in crate::guarantees) async fn counts(
        &self,
        when: impl fmt::Display,
        subject: &Subject,
        count: usize,
    ) -> Verdict {
        let store = self.cx.store();
        let Some(subjects) = store.subjects() else {
            return Ok(());
        };
        let seen = subjects.list(subject).await.answer().map(|keys| keys.len());
        same(format!("the subject's sessions, {when}"), seen, Ok(count))
    }
}

/// The system's time, and what it was put forward by. It never goes back.
#[derive(Debug)]
struct PutForward {
    start: (SystemTime, Instant),
    /// In milliseconds.
    ahead: AtomicU64,
}

impl Default for PutForward {
    fn default() -> Self {
        Self {
            start: (SystemTime::now(), Instant::now()),
            ahead: AtomicU64::new(0),
        }
    }
}

impl Clock for PutForward {
    fn now(&self) -> Timestamp {
        let ahead = Duration::from_millis(self.ahead.load(Ordering::Relaxed));
        Timestamp::from(self.start.0).after(self.monotonic() + ahead)
    }

    fn monotonic(&self) -> Duration {
        self.start.1.elapsed()
    }
}

/// Commits; and again, as its documentation allows, if others were faster at every attempt.
pub(in crate::guarantees) async fn commit(session: &Session) -> Result<Committed, SessionError> {
    const MOST: usize = 50;
    for _ in 1..MOST {
        match session.commit().await {
            Err(SessionError::Contended { .. }) => {}
            ended => return ended,
        }
    }
    session.commit().await
}

/// A request with `id` that uses the session, does what is due afterwards, and changes nothing.
pub(in crate::guarantees) async fn visit(
    sessions: &Sessions,
    id: &SessionId,
) -> Result<Option<SessionId>, Stop> {
    let session = sessions.open(Some(id.clone()));
    session.names().await?;
    let committed = commit(&session).await?;
    if let Some(upkeep) = committed.upkeep {
        upkeep.run().await;
    }
    Ok(new_id(committed.client))
}

/// Adds one to the attribute `"count"`, without committing it.
pub(in crate::guarantees) async fn add(session: &Session) -> Result<(), SessionError> {
    let one_more = |count: Option<u64>| count.unwrap_or(0) + 1;
    session.update("count", one_more).await.map(drop)
}

/// The id that a commit told the client, if it did.
pub(in crate::guarantees) fn new_id(client: ClientAction) -> Option<SessionId> {
    match client {
        ClientAction::Store { id, .. } => Some(id),
        _ => None,
    }
}

/// The id that a commit told the client: it must have.
#[track_caller]
pub(in crate::guarantees) fn handed_out(committed: Committed) -> Result<SessionId, Stop> {
    match committed.client {
        ClientAction::Store { id, .. } => Ok(id),
        other => Err(Stop::Broken(format!(
            "{}: commit\nexpected: a new id for the client\nseen: {other:?}",
            Location::caller()
        ))),
    }
}

/// A call that should have succeeded failed.
impl From<SessionError> for Stop {
    #[track_caller]
    fn from(error: SessionError) -> Self {
        match error.store_kind() {
            Some(ErrorKind::Unsupported) => Self::Unsupported,
            _ => Self::Broken(format!(
                "{}: expected: success\nseen: {error:?}",
                Location::caller()
            )),
        }
    }
}
