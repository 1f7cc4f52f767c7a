//! Creating a session, and writing one that is there.

use std::sync::Arc;

use super::{
    Attempts, Loaded, Phase, State,
    load::{Chain, Found},
    planted,
    subject::Own,
    turns::Turn,
};
use crate::{
    Error, ErrorKind, SessionId, SessionKey, Subject, Version, random_bytes,
    session::{
        SessionError, client,
        envelope::Live,
        event,
        sessions::Inner,
        writes::{WriteId, Writes},
    },
};

/// The first call of a write whose outcome is unknown: it may still arrive.
struct Lost {
    error: Error,
    /// The newest write in the record that it was to replace.
    base: Option<WriteId>,
}

impl Inner {
    /// Stores a new session under a new id.
    pub(super) async fn create(&self, state: &mut State) -> Result<(), SessionError> {
        if state.overtaken && state.view().subject.is_none() {
            return Err(SessionError::Gone);
        }
        let mut live = Live::clone(&state.view().live);
        client::note(&mut live, state.client);
        self.name_write(&mut live, random_bytes()?);
        let subject = state.view().subject.clone();
        if planted!(self, RoomIsMadeFirst)
            && let Some(subject) = state.changes.logs_in()
        {
            let (key, version) = (SessionId::random()?.key(&self.namespace), Version::random()?);
            self.make_room(
                subject,
                &Own {
                    key,
                    version,
                    live: &live,
                    replaces: None,
                },
            )
            .await?;
        }
        let (id, key, version) = self.place(&live, &subject).await?;
        if !planted!(self, RoomIsMadeFirst) {
            let own = Own {
                key,
                version,
                live: &live,
                replaces: None,
            };
            self.admit(state, &own).await?;
        }
        event::created(&key);
        let remaining = self.ttl(&live)?;
        state.written(Loaded {
            key,
            presented: false,
            path: Vec::new(),
            version,
            subject,
            live: Arc::new(live),
            remaining,
        });
        state.handed_out = Some(id);
        state.renewal = None;
        Ok(())
    }

    /// Writes a session under a new id, which nobody knows yet.
    pub(super) async fn place(
        &self,
        live: &Live,
        subject: &Option<Subject>,
    ) -> Result<(SessionId, SessionKey, Version), SessionError> {
        let record = self.record(live, subject)?;
        let mut attempts = Attempts::default();
        let mut id = SessionId::random()?;
        loop {
            let key = id.key(&self.namespace);
            let error = match self.store.create(&key, &record, self.ttl(live)?).await {
                Ok(version) => return Ok((id, key, version)),
                Err(error) => error,
            };
            match error.kind() {
                // Ours, whose reply was lost, or another's by a generator that repeats itself: never overwritten.
                ErrorKind::AlreadyExists => match self.store.load(&key).await? {
                    Some(stored) if stored.record == record => return Ok((id, key, stored.version)),
                    _ => {
                        attempts.count()?;
                        id = SessionId::random()?;
                    }
                },
                ErrorKind::Unavailable => {
                    attempts.after_loss(error).await?;
                    if let Some(stored) = self.store.load(&key).await?
                        && stored.record == record
                    {
                        return Ok((id, key, stored.version));
                    }
                    // Under another id: should the first call arrive late, nobody knows what it makes. Under the
                    // same one it would bring back a session that has been ended since.
                    if !planted!(self, CreateAgain) {
                        id = SessionId::random()?;
                    }
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Writes this request's changes, onto whatever others have written meanwhile.
    pub(super) async fn write(&self, state: &mut State) -> Result<(), SessionError> {
        let write = random_bytes()?;
        let mut lost = None;
        match self.write_as(state, write, &mut lost).await {
            // A call whose outcome is unknown stays so, whatever stopped the later attempts.
            Err(error) if !matches!(error, SessionError::Gone) => Err(match lost {
                Some(Lost { error, .. }) => error.into(),
                None => error,
            }),
            outcome => outcome,
        }
    }

    async fn write_as(
        &self,
        state: &mut State,
        write: WriteId,
        lost: &mut Option<Lost>,
    ) -> Result<(), SessionError> {
        let mut attempts = Attempts::default();
        // Where others wait for their turn, a call that does not would only be one more lost race.
        if let Phase::Stored(loaded) = &state.phase {
            let (key, known) = (loaded.key, loaded.version);
            attempts.turn = self.turns.join(&key).await;
            if attempts.turn.as_ref().is_some_and(Turn::waited) {
                self.catch_up(state, write, None, &mut attempts).await?;
                if state.stored().is_some_and(|newer| newer.version != known) {
                    state.raced.get_or_insert(key);
                }
            }
        }
        loop {
            let Phase::Stored(loaded) = &state.phase else {
                return Err(SessionError::Gone);
            };
            let (live, subject) = self.next(state, loaded, write)?;
            let (record, ttl) = (self.record(&live, &subject)?, self.ttl(&live)?);
            match self.store.update(&loaded.key, loaded.version, &record, ttl).await {
                Ok(version) => {
                    let (key, presented, path) = (loaded.key, loaded.presented, loaded.path.clone());
                    let found = Found {
                        version,
                        subject,
                        live: Arc::new(live),
                        remaining: ttl,
                    };
                    if let Some(turn) = &mut attempts.turn {
                        turn.leave(&key, &found);
                    }
                    state.written(Self::loaded(key, presented, path, found));
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::NotFound => return Err(SessionError::Gone),
                    ErrorKind::Conflict => {
                        // With a call on its way it may have been that call.
                        if lost.is_none() {
                            state.raced.get_or_insert(loaded.key);
                        }
                        attempts.after_conflict(&self.turns, &loaded.key).await?;
                    }
                    ErrorKind::Unavailable => {
                        let base = loaded.live.writes.last().copied();
                        lost.get_or_insert(Lost {
                            error: error.clone(),
                            base,
                        });
                        attempts.after_loss(error).await?;
                    }
                    _ => return Err(error.into()),
                },
            }
            if self.catch_up(state, write, lost.as_ref(), &mut attempts).await? {
                return Ok(());
            }
        }
    }

    /// Puts the state on what the store holds now, as the writer before left it, or as the store tells. `true` if this write is there.
    ///
    /// # Errors
    ///
    /// Those of [`Inner::rebase`] and of the store.
    async fn catch_up(
        &self,
        state: &mut State,
        write: WriteId,
        lost: Option<&Lost>,
        attempts: &mut Attempts,
    ) -> Result<bool, SessionError> {
        let Phase::Stored(loaded) = &state.phase else {
            return Err(SessionError::Gone);
        };
        // With a call on its way, the store has more to tell.
        let left = match &mut attempts.turn {
            Some(turn) if lost.is_none() || planted!(self, LeftDespiteLoss) => {
                turn.newest(&loaded.key, loaded.version)
            }
            _ => None,
        };
        if let Some(found) = left {
            let newer = Self::loaded(loaded.key, loaded.presented, loaded.path.clone(), found);
            state.overtaken_by(Box::new(newer));
            return Ok(false);
        }
        let chain = self.follow_grace(loaded.key).await?;
        self.rebase(state, chain, write, lost)
    }

    /// The next state of a session: the changes applied, the write named, the client's id confirmed.
    pub(super) fn next(
        &self,
        state: &State,
        loaded: &Loaded,
        write: WriteId,
    ) -> Result<(Live, Option<Subject>), SessionError> {
        let (mut live, mut subject);
        if state.view_is_behind {
            (live, subject) = (Live::clone(&loaded.live), loaded.subject.clone());
            state.changes.apply(&mut live, &mut subject)?;
        } else {
            (live, subject) = (Live::clone(&state.view().live), state.view().subject.clone());
        }
        if state.changes.logs_in().is_some() {
            client::note(&mut live, state.client);
        }
        if planted!(self, OneWriteId) {
            live.writes = Writes::default();
        }
        self.name_write(&mut live, write);
        live.confirmed |= loaded.presented;
        Ok((live, subject))
    }

    /// A token has no other writer, and no room to remember writes.
    fn name_write(&self, live: &mut Live, write: WriteId) {
        if !self.carried {
            live.writes.remember(write);
        }
    }

    /// After a failed write: `true` if the reply alone was lost and the write is there; else the state stands on what
    /// the store holds now.
    ///
    /// # Errors
    ///
    /// [`SessionError::Gone`]; `lost` itself if so many others have written since that nobody can tell.
    fn rebase(
        &self,
        state: &mut State,
        chain: Chain,
        write: WriteId,
        lost: Option<&Lost>,
    ) -> Result<bool, SessionError> {
        let Phase::Stored(loaded) = &state.phase else {
            return Err(SessionError::Gone);
        };
        let open = chain.is_open(self.clock.now());
        let mut path = loaded.path.clone();
        path.extend(chain.passed());
        let presented = loaded.presented && chain.links.is_empty();
        let Some((key, found)) = chain.end else {
            return Err(SessionError::Gone);
        };
        if found.live.writes.contains(&write) {
            state.written(Self::loaded(key, presented, path, found));
            return Ok(true);
        }
        if !open {
            return Err(SessionError::Gone);
        }
        if let Some(Lost { error, base }) = lost {
            // With the write before ours forgotten, ours may have been there and been forgotten too.
            let known = base.is_some_and(|base| found.live.writes.contains(&base));
            if !known && !planted!(self, OneWriteId) {
                return Err(error.clone().into());
            }
        }
        state.overtaken_by(Box::new(Self::loaded(key, presented, path, found)));
        Ok(false)
    }
}
