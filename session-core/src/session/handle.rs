//! One visitor's session in one request.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Mutex, MutexGuard};

use super::{
    Committed, Lengths, SessionError, Sessions,
    attributes::{Attribute, Value},
    changes::{Change, LogIn},
    client::{Fingerprint, is_reserved},
    envelope::attribute_len,
    protocol::{Presented, SKEW, State},
    sessions::Inner,
};
use crate::{
    Subject, Timestamp,
    codec::{CodecError, Codecs},
};

/// One visitor's session in one request. Clones share it.
///
/// Nothing is asked of the store before the first use, and nothing is written before [`Session::commit`], log-out
/// excepted. Changes to different attributes are never lost, whoever else writes meanwhile, and
/// [`Session::update`] counts exactly.
///
/// Every call but `commit` may load the session and so end in [`SessionError::Store`], or in
/// [`SessionError::Random`]. A session that cannot be loaded is never taken for an absent one.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    sessions: Sessions,
    used: AtomicBool,
    /// Whether the application goes on without a store that cannot be reached.
    tolerant: AtomicBool,
    /// Whether it does.
    degraded: AtomicBool,
    state: Mutex<State>,
}

/// What is known of a stored session besides its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// When the session began.
    pub created_at: Timestamp,
    /// The last log-in.
    pub authenticated_at: Option<Timestamp>,
    /// When the present id was made.
    pub renewed_at: Timestamp,
    /// The end of the session, whatever happens.
    pub deadline: Timestamp,
    /// The session's own lengths.
    pub lengths: Lengths,
    /// The life that remained when it was loaded, if no further request came.
    pub remaining: Duration,
    /// How often the id has been renewed.
    pub renewals: u32,
}

impl Session {
    pub(super) fn new(sessions: Sessions, presented: Option<Presented>, client: Option<Fingerprint>) -> Self {
        Self::with_state(sessions, State::new(presented, client))
    }

    fn with_state(sessions: Sessions, state: State) -> Self {
        let state = Mutex::new(state);
        Self {
            shared: Arc::new(Shared {
                sessions,
                used: AtomicBool::new(false),
                tolerant: AtomicBool::new(false),
                degraded: AtomicBool::new(false),
                state,
            }),
        }
    }

    /// Another handle on the session that this one reached, not loaded yet: what it tells is as of its own first use. For a
    /// connection that outlives its request (a WebSocket, server-sent events, a long download): one handle for each message
    /// or once in a while tells whether the visitor is still logged in, and its changes are written by
    /// [`Session::commit`](Self::commit), which hands no id out.
    ///
    /// It follows periodic renewals that other requests made, however long ago, and presents itself as no client does: no
    /// grace is given and no id renewed; the idle time begins anew where the [`Upkeep`](super::Upkeep) of a commit is run. Log-out and expiry end it, and so does a log-in or another change of
    /// privilege ([`Session::renew`]) in another request: the connection was opened with fewer rights, so open another.
    ///
    /// A handle that was never used gives one that loads what the request presented.
    pub async fn reopen(&self) -> Self {
        let state = self.shared.state.lock().await.reopened();
        Self::with_state(self.shared.sessions.clone(), state)
    }

    /// The attribute `name`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`SessionError::Decode`] if its value is not a `T`.
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SessionError> {
        let state = self.loaded().await?;
        state
            .view()
            .live
            .attributes
            .get(name)
            .filter(|_| !is_reserved(name))
            .map(|value| decode(self.codecs(), name, value))
            .transpose()
    }

    /// Sets the attribute `name`. Of two requests that do so at once, the later commit wins; to build on the old value
    /// use [`Session::update`].
    ///
    /// # Errors
    ///
    /// [`SessionError::Encode`] if the codec cannot carry the value, [`SessionError::TooLarge`],
    /// [`SessionError::InvalidName`], [`SessionError::ReservedName`]. The session is as it was.
    pub async fn insert<T>(&self, name: &str, value: &T) -> Result<(), SessionError>
    where
        T: Serialize + DeserializeOwned,
    {
        check_name(name)?;
        let mut state = self.loaded_to_change().await?;
        let attribute = encode(self.codecs(), name, value)?;
        self.check_size(&state, name, &attribute)?;
        state.live_mut().attributes.insert(name, attribute.clone());
        state.changes.put(name, attribute);
        Ok(())
    }

    /// Replaces the attribute `name` by what `change` makes of it, and returns that. If somebody else's write comes
    /// between, `change` runs again on the newer value when the session is committed, in the order of the calls: 100
    /// requests that add one add 100. It must therefore depend on nothing but its argument; what it returned here may be out of date then.
    ///
    /// # Errors
    ///
    /// As [`Session::get`] and [`Session::insert`].
    pub async fn update<T, F>(&self, name: &str, change: F) -> Result<T, SessionError>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(Option<T>) -> T + Send + Sync + 'static,
    {
        check_name(name)?;
        let mut state = self.loaded_to_change().await?;
        let run = {
            let (codecs, name) = (self.codecs().clone(), name.to_owned());
            move |old: Option<Value<'_>>| {
                let old = old.map(|old| decode(&codecs, &name, old)).transpose()?;
                let new: T = change(old);
                Ok::<_, SessionError>((encode(&codecs, &name, &new)?, new))
            }
        };
        let (attribute, value) = run(state.view().live.attributes.get(name))?;
        self.check_size(&state, name, &attribute)?;
        state.live_mut().attributes.insert(name, attribute);
        let again: Change = Arc::new(move |old| run(old).map(|(attribute, _)| attribute));
        state.changes.update(name, again);
        Ok(value)
    }

    /// Removes the attribute `name`; `true` if there was one.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn remove(&self, name: &str) -> Result<bool, SessionError> {
        let mut state = self.loaded_to_change().await?;
        if is_reserved(name) {
            return Ok(false);
        }
        let was_there = state.live_mut().attributes.remove(name);
        state.changes.remove(name);
        Ok(was_there)
    }

    /// Removes all attributes. Subject and times stay: to end the session, log out.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn clear(&self) -> Result<(), SessionError> {
        let mut state = self.loaded_to_change().await?;
        state.live_mut().clear();
        state.changes.clear();
        Ok(())
    }

    /// The names of the attributes, ascending.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn names(&self) -> Result<Vec<String>, SessionError> {
        Ok(self
            .loaded()
            .await?
            .view()
            .live
            .attributes
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !is_reserved(name))
            .map(str::to_owned)
            .collect())
    }

    /// Times, lengths and renewals; `None` if nothing is stored for this visitor.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn info(&self) -> Result<Option<SessionInfo>, SessionError> {
        let state = self.loaded().await?;
        Ok(state.stored().map(|stored| SessionInfo {
            created_at: stored.live.created_at,
            authenticated_at: stored.live.authenticated_at,
            renewed_at: stored.live.renewed_at,
            deadline: stored.live.deadline,
            lengths: stored.live.lengths,
            remaining: stored.remaining,
            renewals: stored.live.renewals,
        }))
    }

    /// Whom the session belongs to; `None` before log-in.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn subject(&self) -> Result<Option<Subject>, SessionError> {
        Ok(self.loaded().await?.view().subject.clone())
    }

    /// The last log-in, one of this request included; `None` before it.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn authenticated_at(&self) -> Result<Option<Timestamp>, SessionError> {
        Ok(self.loaded().await?.view().live.authenticated_at)
    }

    /// Makes the session `subject`'s, from the next commit on under a new id: the old one is refused from then on,
    /// without grace, so an id that was planted before the log-in is worth nothing. Both lengths begin anew.
    /// Attributes stay, unless they were another subject's: those are removed.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn log_in(&self, subject: Subject) -> Result<(), SessionError> {
        self.log_in_for(subject, self.shared.sessions.inner.lengths).await
    }

    /// [`Session::log_in`] with lengths of its own ("remember me"), which the session keeps.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn log_in_for(&self, subject: Subject, lengths: Lengths) -> Result<(), SessionError> {
        let mut state = self.loaded_to_change().await?;
        if state
            .view()
            .subject
            .as_ref()
            .is_some_and(|before| *before != subject)
        {
            // What one user left behind, or adds meanwhile, is nothing that the next one may see.
            state.live_mut().clear();
            state.changes.clear();
        }
        let log_in = LogIn {
            subject,
            lengths,
            at: self.shared.sessions.inner.clock.now(),
        };
        state.apply_log_in(&log_in);
        state.changes.log_in(log_in);
        state.privilege_changed();
        Ok(())
    }

    /// A new id from the next commit on, and the old one refused, without grace: for a change of privilege.
    /// Log-in does this by itself, and so does time ([`SessionsBuilder::renew_every`](super::SessionsBuilder::renew_every)).
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn renew(&self) -> Result<(), SessionError> {
        self.loaded_to_change().await?.privilege_changed();
        Ok(())
    }

    /// Ends the session, now: nobody reaches it any more when this returns, under whatever id, and no request in
    /// flight brings it back. The client is made to forget its id at the commit. The handle is a new, empty session.
    /// A handle is for one request: one that is kept for longer than the session's idle time (a WebSocket's, say) may
    /// no longer find where the session went, and should be opened anew before a log-out.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`], [`SessionError::Contended`]: the session may live. Tell the client, and let it repeat.
    pub async fn log_out(&self) -> Result<(), SessionError> {
        let mut state = self.loaded_to_end().await?;
        state.check_reachable()?;
        Box::pin(self.inner().log_out(&mut state)).await
    }

    /// Ends every session of this session's subject, this one included, now, and tells how many there were.
    ///
    /// # Errors
    ///
    /// As [`Session::log_out`]; `Unsupported` if the store has no index by subject: then nothing was ended.
    pub async fn log_out_everywhere(&self) -> Result<u64, SessionError> {
        let mut state = self.loaded_to_end().await?;
        state.check_reachable()?;
        let inner = &self.shared.sessions.inner;
        let ended = inner.delete_all(&state, false).await?;
        Box::pin(inner.log_out(&mut state)).await?;
        Ok(ended)
    }

    /// Ends every other session of this session's subject, now, and tells how many there were. (If another request is
    /// renewing this one at this very moment, it may end as well: rather one log-in too many than one session.)
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`]: some may live; repeat. `Unsupported` if the store has no index by subject.
    pub async fn log_out_elsewhere(&self) -> Result<u64, SessionError> {
        let state = self.loaded_to_change().await?;
        self.shared.sessions.inner.delete_all(&state, true).await
    }

    /// How many live sessions this session's subject has, this one included once it is stored.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`]; `Unsupported` if the store has no index by subject.
    pub async fn sessions_of_subject(&self) -> Result<usize, SessionError> {
        let state = self.loaded().await?;
        let Some(subject) = &state.view().subject else {
            return Ok(0);
        };
        Ok(self.inner().subjects()?.list(subject).await?.len())
    }

    /// Writes what changed, and renews the id if that is due. To be called before the response is sent: what the
    /// client reads next is then there. Nothing changed: nothing is written. A new session without attributes and
    /// subject is not stored. May be called again after further changes. Needs a tokio runtime with its timer enabled.
    ///
    /// # Errors
    ///
    /// - [`SessionError::Gone`]: logged out or expired meanwhile. Nothing was written, nothing brought back.
    /// - [`SessionError::Store`]: `Unavailable`: whether the changes were written is unknown. The handle answers so from
    ///   then on, since a second commit might apply them twice: open the session again. (Log-out still works.)
    ///   Other kinds: nothing was written.
    /// - [`SessionError::Contended`]: nothing was written.
    /// - [`SessionError::Encode`], [`SessionError::Decode`], [`SessionError::TooLarge`]: from an
    ///   [`update`](Session::update) that ran again on a newer value. Nothing was written.
    ///
    /// Dropping the future before it ends leaves an unknown outcome, too.
    pub async fn commit(&self) -> Result<Committed, SessionError> {
        let mut state = self.shared.state.lock().await;
        self.shared.sessions.commit(&mut state).await
    }

    /// Whether the last log-in is less than `within` ago; `false` where nobody has logged in. For what should not be done by
    /// whoever finds the browser open: a new password, an address, a payment ([`Session::FRESH`]). An asker gets fresh by
    /// [`Session::log_in`] again. A log-in more than 5 s in the future is not fresh: a clock is off.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn is_fresh(&self, within: Duration) -> Result<bool, SessionError> {
        let state = self.loaded().await?;
        let (now, view) = (self.inner().clock.now(), state.view());
        let logged_in = view.live.authenticated_at.filter(|_| view.subject.is_some());
        Ok(logged_in.is_some_and(|at| now.since(at) < within && at.since(now) <= SKEW))
    }

    /// How long ago a log-in may be before something sensitive: 5 minutes. (OWASP ASVS 5.0, 7.5.1, asks for full
    /// re-authentication before an account's sensitive attributes are changed, and leaves the time to the application.)
    pub const FRESH: Duration = Duration::from_secs(5 * 60);

    /// [`Session::is_fresh`], or an error to answer with.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotFresh`]: nobody is logged in, or the log-in is `within` or longer ago. Those of loading.
    pub async fn require_fresh(&self, within: Duration) -> Result<(), SessionError> {
        match self.is_fresh(within).await? {
            true => Ok(()),
            false => Err(SessionError::NotFresh { within }),
        }
    }

    /// From now on in this request, a session that cannot be loaded because the store is `Unavailable` is an empty one to
    /// read from, instead of an error: for a page that is worth showing without it. Nobody is logged in there, and
    /// [`Session::is_degraded`] tells why. Whatever would change it (log-out too) is the store's own error as ever, and a commit
    /// writes nothing, hands out no id and takes none away: once the store is back, the same id reaches the same session.
    ///
    /// It is this error alone: `Corrupt`, `NewerFormat` and the rest stay errors, and so does a store that fails
    /// after the session was loaded. Without this call, or after [`Session::fail_closed`], a session that cannot be loaded is
    /// never taken for an absent one.
    pub fn tolerate_outage(&self) {
        self.shared.tolerant.store(true, Ordering::Relaxed);
    }

    /// Takes [`Session::tolerate_outage`] back, for a session that has not been used yet.
    pub fn fail_closed(&self) {
        self.shared.tolerant.store(false, Ordering::Relaxed);
    }

    /// Whether the session was used while its store could not be reached, and the request goes on without it
    /// ([`Session::tolerate_outage`]): what it tells says nothing of the visitor. `false` before its first use.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.shared.degraded.load(Ordering::Relaxed)
    }

    /// Whether another kind of client presents the session than the one that it began with, or logged in with last, as far as
    /// both are known ([`Sessions::open_for`]). An event `client_changed` has told of it. It is a reason to ask for the password
    /// again, say ([`Session::FRESH`]), and no proof: a browser may change its name, and a thief may copy it.
    ///
    /// # Errors
    ///
    /// Those of loading.
    pub async fn client_changed(&self) -> Result<bool, SessionError> {
        Ok(self.loaded().await?.client_changed())
    }

    /// Whether anything was asked of the session in this request. A response that may depend on it must not be cached.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.shared.used.load(Ordering::Relaxed)
    }

    pub(super) async fn loaded(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.loaded_to_end().await?;
        state.check_known()?;
        Ok(state)
    }

    /// Loaded for a call that changes something: not without the store.
    pub(super) async fn loaded_to_change(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.loaded().await?;
        state.check_reachable()?;
        Ok(state)
    }

    /// Loaded for a log-out, which is right whatever became of the changes.
    async fn loaded_to_end(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        self.shared.used.store(true, Ordering::Relaxed);
        let mut state = self.shared.state.lock().await;
        let tolerant = self.shared.tolerant.load(Ordering::Relaxed);
        let degraded = self.inner().load_or_go_on(&mut state, tolerant).await?;
        self.shared.degraded.store(degraded, Ordering::Relaxed);
        Ok(state)
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.shared.sessions.inner
    }

    fn codecs(&self) -> &Codecs {
        &self.shared.sessions.inner.codecs
    }

    /// Refuses a change that would make the record larger than the store holds: here, where the author sees it.
    fn check_size(&self, state: &State, name: &str, attribute: &Attribute) -> Result<(), SessionError> {
        let attributes = &state.view().live.attributes;
        let before = attributes
            .get(name)
            .map_or(0, |old| attribute_len(name, old.bytes));
        let size = self.inner().max_len(state) - before + attribute_len(name, &attribute.bytes);
        let limit = self.shared.sessions.inner.store.profile().limits.max_record;
        if size <= limit && (before > 0 || attributes.len() < usize::from(u16::MAX)) {
            return Ok(());
        }
        let others = attributes.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(name, value)| (name, value.bytes.len()));
        Err(SessionError::too_large(
            size,
            limit,
            others.chain([(name, attribute.bytes.len())]),
        ))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("used", &self.is_used())
            .finish_non_exhaustive()
    }
}

pub(super) fn check_name(name: &str) -> Result<(), SessionError> {
    match name.len() {
        _ if is_reserved(name) => Err(SessionError::ReservedName),
        1..=255 => Ok(()),
        len => Err(SessionError::InvalidName { len }),
    }
}

fn encode<T>(codecs: &Codecs, name: &str, value: &T) -> Result<Attribute, SessionError>
where
    T: Serialize + DeserializeOwned,
{
    match codecs.encode(value) {
        Ok(encoded) => Ok(Attribute {
            tag: encoded.tag,
            bytes: encoded.bytes,
        }),
        Err(source) => Err(failed(name, source, true)),
    }
}

fn decode<T: DeserializeOwned>(codecs: &Codecs, name: &str, value: Value<'_>) -> Result<T, SessionError> {
    codecs
        .decode(value.tag, value.bytes)
        .map_err(|source| failed(name, source, false))
}

fn failed(name: &str, source: CodecError, encoding: bool) -> SessionError {
    let attribute = name.to_owned();
    match encoding {
        true => SessionError::Encode { attribute, source },
        false => SessionError::Decode { attribute, source },
    }
}
