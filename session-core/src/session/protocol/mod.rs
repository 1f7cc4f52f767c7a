//! The store calls behind a session, in the order that keeps every promise of [`Session`](super::Session).
//!
//! Round trips: unused 0; read 1, and at most once per slack 1 more after the response; changed 2; renewed 3; a log-in
//! where sessions per subject are limited 1 more, and at the limit 1 for each session of the subject and for each ended;
//! each retired id that is followed 1 more; ended 1 once loaded, else 2; each race that is lost 2 more. Writers of one process
//! wait for each other then: see `turns`.

mod load;
mod log_out;
mod renew;
mod subject;
mod turns;
mod upkeep;
mod write;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use self::turns::Turn;
pub(super) use self::{subject::SKEW, turns::Turns, upkeep::Task};
use super::{
    ClientAction, Committed, SessionError, Sessions, Upkeep,
    changes::{Changes, LogIn},
    client::{self, Fingerprint},
    envelope::{Cause, Live},
    event,
    sessions::Inner,
};
use crate::{Error, ErrorKind, Record, SessionId, SessionKey, Subject, Version, random_bytes};

/// One session during one request.
pub(super) struct State {
    /// What the client came with, until the session behind it is ended.
    presented: Option<Presented>,
    /// What stands for the client, if that is known.
    client: Option<Fingerprint>,
    /// Whether the session was another's.
    client_changed: bool,
    phase: Phase,
    /// What this request changed since the last commit.
    pub(super) changes: Changes,
    /// The stored session with these changes; `None` as long as nothing is loaded.
    view: Option<View>,
    /// Whether the stored session is newer than the one that the view is made of: a race was lost, and its changes are not in it.
    view_is_behind: bool,
    /// Whether the next commit makes a new id, and why.
    renewal: Option<Cause>,
    /// An id that this request handed out: every commit from then on tells it.
    handed_out: Option<SessionId>,
    /// Whether the client is to forget its id.
    forget: bool,
    /// A session that the client's retired id no longer reaches: only an explicit log-out ends it all the same.
    refused: Option<SessionKey>,
    /// Whether this request was on its way while its id lost its rights, at a log-in say: the browser has, or will
    /// have, a better id than a new session's.
    overtaken: bool,
    /// The key under which this commit lost a race.
    raced: Option<SessionKey>,
    /// The failure of a commit after which nobody knows whether the changes were written. Another commit could apply
    /// them twice, so there is none.
    unknown: Option<Error>,
}

/// What a client comes with.
#[derive(Clone)]
pub(super) enum Presented {
    Id(SessionId),
    /// A token: opened at the session's first use, if it can be.
    Token(Arc<dyn Fn() -> Option<SessionKey> + Send + Sync>),
    /// Nothing but a connection, on which this session was reached before.
    Connection(SessionKey),
}

enum Phase {
    /// Nothing has been asked yet.
    Unloaded,
    /// Nothing is stored.
    New,
    /// The store could not be reached, and the application goes on without: nothing is known, nothing may be changed.
    Unreachable(Error),
    Stored(Box<Loaded>),
}

/// A session as it was last seen in the store.
pub(super) struct Loaded {
    key: SessionKey,
    /// Whether the client's own id led here, without a retired one between.
    presented: bool,
    /// Retired keys passed on the way.
    path: Vec<SessionKey>,
    version: Version,
    subject: Option<Subject>,
    pub(super) live: Arc<Live>,
    pub(super) remaining: Duration,
}

/// What the handler sees.
#[derive(Clone)]
pub(super) struct View {
    /// Shared with what was loaded until the handler changes it.
    pub(super) live: Arc<Live>,
    pub(super) subject: Option<Subject>,
}

/// An unloaded session shows nothing.
static NOTHING: LazyLock<View> =
    LazyLock::new(|| View::of_new(Live::new(crate::Timestamp::UNIX_EPOCH, super::Lengths::default())));

impl View {
    fn of_new(live: Live) -> Self {
        Self {
            live: Arc::new(live),
            subject: None,
        }
    }
}

impl Loaded {
    pub(super) fn key(&self) -> &SessionKey {
        &self.key
    }

    fn view(&self) -> View {
        View {
            live: self.live.clone(),
            subject: self.subject.clone(),
        }
    }
}

impl State {
    pub(super) fn new(presented: Option<Presented>, client: Option<Fingerprint>) -> Self {
        Self {
            presented,
            client,
            client_changed: false,
            phase: Phase::Unloaded,
            changes: Changes::default(),
            view: None,
            view_is_behind: false,
            renewal: None,
            handed_out: None,
            forget: false,
            refused: None,
            overtaken: false,
            raced: None,
            unknown: None,
        }
    }

    pub(super) fn view(&self) -> &View {
        self.view.as_ref().unwrap_or_else(|| &NOTHING)
    }

    fn view_mut(&mut self) -> &mut View {
        self.view.get_or_insert_with(|| NOTHING.clone())
    }

    pub(super) fn live_mut(&mut self) -> &mut Live {
        Arc::make_mut(&mut self.view_mut().live)
    }

    /// In the view, not in the changes.
    pub(super) fn apply_log_in(&mut self, log_in: &LogIn) {
        let view = self.view_mut();
        log_in.apply(Arc::make_mut(&mut view.live), &mut view.subject);
    }

    pub(super) fn stored(&self) -> Option<&Loaded> {
        match &self.phase {
            Phase::Stored(loaded) => Some(loaded),
            _ => None,
        }
    }

    /// For another handle on this connection.
    pub(super) fn reopened(&self) -> Self {
        let presented = match &self.phase {
            Phase::Stored(loaded) => Some(Presented::Connection(loaded.key)),
            _ => self.presented.clone(),
        };
        Self::new(presented, self.client)
    }

    pub(super) fn client_changed(&self) -> bool {
        self.client_changed
    }

    /// Bytes that the next commit may add.
    pub(super) fn reserve(&self) -> usize {
        client::reserve(&self.view().live, self.client)
    }

    /// Whether the changes, all together, make a difference to what was loaded. To a newer state, which an earlier commit met and
    /// could not write over, they may, whatever the view shows.
    fn is_changed(&self, loaded: &Loaded) -> bool {
        // Without changes the handler sees what was loaded: nothing need be compared.
        !self.changes.is_empty()
            && (self.view_is_behind
                || self.view().live.attributes != loaded.live.attributes
                || self.view().subject != loaded.subject)
    }

    /// # Errors
    ///
    /// The failure of a commit whose outcome is unknown.
    pub(super) fn check_known(&self) -> Result<(), SessionError> {
        match &self.unknown {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }

    /// # Errors
    ///
    /// Why the store could not be reached, where the application goes on without it.
    pub(super) fn check_reachable(&self) -> Result<(), SessionError> {
        match &self.phase {
            Phase::Unreachable(error) => Err(error.clone().into()),
            _ => Ok(()),
        }
    }

    /// Goes on without the store: an empty view, and no commit writes or tells the client anything.
    pub(super) fn go_on_without(&mut self, error: Error, live: Live) {
        self.phase = Phase::Unreachable(error);
        self.show(View::of_new(live));
        (self.renewal, self.refused, self.overtaken) = (None, None, false);
    }

    /// As if this request had changed nothing.
    fn undo(&mut self, new: Live) {
        self.changes = Changes::default();
        self.renewal = None;
        self.show(match &self.phase {
            Phase::Stored(loaded) => loaded.view(),
            _ => View::of_new(new),
        });
    }

    fn show(&mut self, view: View) {
        self.view = Some(view);
        self.view_is_behind = false;
    }

    /// From the next commit on the id is another, without grace.
    pub(super) fn privilege_changed(&mut self) {
        self.renewal = Some(Cause::Privilege);
    }

    /// The store holds `loaded`, with all that this request changed.
    fn written(&mut self, loaded: Loaded) {
        self.show(loaded.view());
        self.phase = Phase::Stored(Box::new(loaded));
        self.changes = Changes::default();
    }

    /// The store holds `loaded`, without what this request changed.
    fn overtaken_by(&mut self, loaded: Box<Loaded>) {
        self.phase = Phase::Stored(loaded);
        self.view_is_behind = true;
    }
}

impl Sessions {
    pub(super) async fn commit(&self, state: &mut State) -> Result<Committed, SessionError> {
        let committed = self.inner.commit(state).await;
        report(state, &committed);
        if matches!(committed, Err(SessionError::TooManySessions { .. })) {
            state.undo(Live::new(self.inner.clock.now(), self.inner.lengths));
        }
        let task = committed?;
        let client = match (&state.handed_out, state.forget) {
            (Some(id), _) => {
                let deadline = state.view().live.deadline;
                let lasts = deadline.since(self.inner.clock.now());
                ClientAction::Store {
                    id: id.clone(),
                    deadline,
                    lasts,
                }
            }
            (None, true) => ClientAction::Forget,
            (None, false) => ClientAction::Keep,
        };
        let upkeep = task.map(|task| Upkeep {
            sessions: self.clone(),
            task,
        });
        Ok(Committed { client, upkeep })
    }
}

/// Tells what came of a commit. Each conflict is followed by exactly one of `merged`, `gone`, `contended` and `commit_failed`.
fn report<T>(state: &mut State, committed: &Result<T, SessionError>) {
    let key = state.stored().map(Loaded::key);
    if let Some(raced) = &state.raced {
        event::conflict(raced);
        if committed.is_ok() {
            event::merged(key.unwrap_or(raced));
        }
    }
    match committed {
        Ok(_) => {}
        Err(SessionError::Gone) => event::gone(key),
        Err(SessionError::Contended { attempts }) => event::contended(key, *attempts),
        Err(error) => event::commit_failed(error.label(), error),
    }
    state.raced = None;
}

impl Inner {
    /// What writes is boxed: a commit seldom does, and its future would be ten times as large.
    async fn commit(&self, state: &mut State) -> Result<Option<Task>, SessionError> {
        state.check_known()?;
        match &state.phase {
            Phase::Unloaded | Phase::Unreachable(_) => Ok(None),
            // Tried again, this makes another record under another id: nothing happens twice.
            Phase::New if state.view().subject.is_some() || !state.view().live.attributes.is_empty() => {
                Box::pin(self.create(state)).await.map(|()| None)
            }
            Phase::New => Ok(None),
            Phase::Stored(loaded) if state.renewal == Some(Cause::Periodic) && !state.is_changed(loaded) => {
                // Only the time had come: a request that wrote nothing does not fail because of that.
                let due = self.due(loaded);
                state.changes = Changes::default();
                if let Err(error) = Box::pin(self.renew(state)).await {
                    event::renewal_failed(&error);
                    state.renewal = None;
                    state.raced = None;
                    return Ok(due);
                }
                // Whoever came first renewed it too: there was nothing to merge.
                state.raced = None;
                Ok(None)
            }
            Phase::Stored(loaded) if state.renewal.is_some() || state.is_changed(loaded) => {
                Box::pin(self.apply(state)).await.map(|()| None)
            }
            Phase::Stored(loaded) => Ok(self.due(loaded)),
        }
    }

    /// Applies the changes to what is stored: once, whatever happens to this call.
    async fn apply(&self, state: &mut State) -> Result<(), SessionError> {
        let dropped = Error::new(ErrorKind::Unavailable, self.store.profile().name);
        // Stands if this future is dropped on the way.
        state.unknown = Some(dropped.with_detail("an earlier commit was dropped before it ended"));
        let outcome = match state.renewal {
            Some(_) => self.renew(state).await,
            None => self.write(state).await,
        };
        state.unknown = match &outcome {
            Err(SessionError::Store(error)) if error.is_retryable() => Some(error.clone()),
            _ => None,
        };
        outcome
    }

    /// The record of a session.
    fn record(&self, live: &Live, subject: &Option<Subject>) -> Result<Record, SessionError> {
        let data = super::envelope::encode_live(live);
        let (size, limit) = (data.len(), self.store.profile().limits.max_record);
        if size > limit || live.attributes.len() > usize::from(u16::MAX) {
            let attributes = live.attributes.iter();
            let attributes = attributes.map(|(name, value)| (name, value.bytes.len()));
            return Err(SessionError::too_large(size, limit, attributes));
        }
        Ok(Record::new(data)
            .with_subject(subject.clone())
            .with_not_after(live.deadline))
    }

    /// How long the store keeps a session from now on, if no further request comes.
    ///
    /// # Errors
    ///
    /// [`SessionError::Gone`] at or past its deadline.
    fn ttl(&self, live: &Live) -> Result<Duration, SessionError> {
        let rest = live.deadline.since(self.clock.now());
        match rest.is_zero() {
            true => Err(SessionError::Gone),
            false => Ok(live
                .lengths
                .idle()
                .min(rest)
                .min(self.store.profile().limits.max_ttl)),
        }
    }

    fn corrupt(&self, kind: ErrorKind, detail: impl Into<String>) -> SessionError {
        Error::new(kind, self.store.profile().name)
            .with_detail(detail)
            .into()
    }

    #[cfg(test)]
    fn planted(&self, fault: super::interleavings::Fault) -> bool {
        self.planted == Some(fault)
    }
}

/// Whether a fault was planted, to show that the interleavings find it. Never, outside tests.
macro_rules! planted {
    ($inner:expr, $fault:ident) => {{
        #[cfg(test)]
        let planted = $inner.planted(crate::session::interleavings::Fault::$fault);
        #[cfg(not(test))]
        let planted = false;
        planted
    }};
}
use planted;

/// Counts the attempts of one operation, and waits between them.
#[derive(Default)]
struct Attempts {
    made: u32,
    lost: u32,
    /// The key under which another was faster.
    raced: Option<SessionKey>,
    /// Held until the operation ends, by a write that found others waiting, and from the first lost race on.
    turn: Option<Turn>,
}

impl Attempts {
    /// Others were faster so many times in a row: the request may be repeated, the server has other work.
    const MOST: u32 = 40;

    /// Calls whose outcome stayed unknown: more of them mean a server that is down.
    const MOST_LOST: u32 = 3;

    /// Another attempt after a lost race, in turn.
    ///
    /// # Errors
    ///
    /// [`SessionError::Contended`] after too many.
    async fn after_conflict(&mut self, turns: &Arc<Turns>, key: &SessionKey) -> Result<(), SessionError> {
        self.in_turn(turns, key).await?;
        self.count()
    }

    /// Waits for the other writers of this process. Who has the turn already, or waited too long for it, has lost to others than
    /// those: then a random time of at most 1, 2, 4 … 32 ms, since callers that were in step would collide again.
    async fn in_turn(&mut self, turns: &Arc<Turns>, key: &SessionKey) -> Result<(), SessionError> {
        if self.turn.is_none() {
            self.turn = turns.wait(key).await;
            if self.turn.is_some() {
                return Ok(());
            }
        }
        self.wait(2 << self.made.min(5)).await
    }

    /// # Errors
    ///
    /// [`SessionError::Contended`] after too many attempts.
    fn count(&mut self) -> Result<(), SessionError> {
        self.made += 1;
        match self.made < Self::MOST {
            true => Ok(()),
            false => Err(SessionError::Contended { attempts: self.made }),
        }
    }

    /// Another attempt after a call whose outcome is unknown.
    ///
    /// # Errors
    ///
    /// `error` itself after too many.
    async fn after_loss(&mut self, error: Error) -> Result<(), SessionError> {
        self.made += 1;
        self.lost += 1;
        if self.lost > Self::MOST_LOST {
            return Err(error.into());
        }
        self.wait(20 << self.lost).await
    }

    async fn wait(&self, half_millis: u64) -> Result<(), SessionError> {
        let random = u64::from_ne_bytes(random_bytes()?);
        let wait = Duration::from_micros(random % (half_millis * 500));
        // The interleavings are explored without a runtime, and without waiting.
        if tokio_is_running() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

#[cfg(test)]
fn tokio_is_running() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

#[cfg(not(test))]
const fn tokio_is_running() -> bool {
    true
}
