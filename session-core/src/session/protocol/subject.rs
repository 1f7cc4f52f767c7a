//! The sessions of one subject: listed, ended one by one, and limited at a log-in.
//!
//! A session that is being renewed has two records for a moment, and one under its old key may be retired before it is
//! read. So keys are followed, and records that share a write are one session.

use std::time::Duration;

use super::{
    Loaded, State,
    load::{Chain, Found},
    planted,
};
use crate::{
    Error, ErrorKind, SessionKey, Subject, Subjects, Version,
    session::{
        OnLimit, SessionError,
        envelope::Live,
        event::{self, reason},
        limit::PerSubject,
        sessions::Inner,
    },
};

/// Clocks of an application's nodes that differ by no more are right.
pub(in crate::session) const SKEW: Duration = Duration::from_secs(5);

/// One session of a subject's: a record, or two while it is being renewed.
pub(in crate::session) struct Owned {
    /// Each with the retired keys that led there. The newest is the last.
    records: Vec<(SessionKey, Vec<SessionKey>, Found)>,
}

/// The record of a log-in that nobody knows yet.
pub(super) struct Own<'a> {
    pub(super) key: SessionKey,
    pub(super) version: Version,
    pub(super) live: &'a Live,
    /// The key that this record is to take the place of.
    pub(super) replaces: Option<SessionKey>,
}

impl Owned {
    pub(in crate::session) fn key(&self) -> SessionKey {
        self.newest().0
    }

    pub(in crate::session) fn live(&self) -> &Live {
        &self.newest().2.live
    }

    fn newest(&self) -> &(SessionKey, Vec<SessionKey>, Found) {
        &self.records[self.records.len() - 1]
    }

    /// Whether `key` and `live` are a record of this session.
    pub(in crate::session) fn is(&self, key: &SessionKey, live: &Live) -> bool {
        self.records
            .iter()
            .any(|(other, _, found)| other == key || is_one(&found.live, live))
    }
}

/// Whether two records are of one session: a renewal copies the ids of the newest writes.
fn is_one(one: &Live, other: &Live) -> bool {
    one.writes.iter().any(|write| other.writes.contains(write))
}

impl Inner {
    pub(in crate::session) fn subjects(&self) -> Result<&dyn Subjects, SessionError> {
        self.store
            .subjects()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, self.store.profile().name).into())
    }

    /// The subject's live sessions, in no order, each once.
    pub(in crate::session) async fn owned(&self, subject: &Subject) -> Result<Vec<Owned>, SessionError> {
        let keys = self.subjects()?.list(subject).await?;
        self.group(subject, &keys, None).await
    }

    /// Loads what is under `keys`, `own` excepted, and puts together what is one session.
    async fn group(
        &self,
        subject: &Subject,
        keys: &[SessionKey],
        own: Option<SessionKey>,
    ) -> Result<Vec<Owned>, SessionError> {
        let mut sessions: Vec<Owned> = Vec::new();
        for key in keys.iter().filter(|key| Some(**key) != own) {
            let chain = self.follow_to_the_end(*key).await?;
            let path: Vec<_> = chain.passed().collect();
            let Some((key, found)) = chain.end else { continue };
            if Some(key) == own || found.subject.as_ref() != Some(subject) {
                continue;
            }
            match sessions.iter_mut().find(|session| session.is(&key, &found.live)) {
                Some(session) => {
                    if session.records.iter().all(|(other, ..)| *other != key) {
                        session.records.push((key, path, found));
                        session.records.sort_by_key(|(_, _, found)| found.live.renewals);
                    }
                }
                None => sessions.push(Owned {
                    records: vec![(key, path, found)],
                }),
            }
        }
        Ok(sessions)
    }

    /// Ends a session of the subject's, in all its records, wherever it has gone since. One that has become another
    /// subject's meanwhile is left alone. `false` if nothing was there to end any more.
    async fn end_owned(&self, subject: &Subject, session: Owned) -> Result<bool, SessionError> {
        let mut ended = false;
        for (key, path, found) in session.records {
            ended |= self
                .end_of(&Self::loaded(key, false, path, found), Some(subject))
                .await?;
        }
        Ok(ended)
    }

    /// Ends one of the subject's other sessions; `false` if `key` leads to none.
    pub(in crate::session) async fn end_other(
        &self,
        state: &State,
        key: &SessionKey,
    ) -> Result<bool, SessionError> {
        let Some(subject) = &state.view().subject else {
            return Ok(false);
        };
        let chain = self.follow_to_the_end(*key).await?;
        let path = chain.passed().collect();
        let Chain {
            end: Some((key, found)),
            ..
        } = chain
        else {
            return Ok(false);
        };
        let is_current = state
            .stored()
            .is_some_and(|current| current.key == key || is_one(&current.live, &found.live));
        if is_current || found.subject.as_ref() != Some(subject) {
            return Ok(false);
        }
        let loaded: Loaded = Self::loaded(key, false, path, found);
        if self.end_of(&loaded, Some(subject)).await? {
            event::destroyed(reason::ELSEWHERE, 1, Some(&key));
        }
        Ok(true)
    }

    /// Ends every session of a subject, and tells how many there were.
    pub(in crate::session) async fn end_all(&self, subject: &Subject) -> Result<u64, SessionError> {
        Ok(self.subjects()?.delete_all(subject, None).await?)
    }

    /// Once `own` is there, and before anybody has its id: whether it may stay, if it is a log-in's. If not, it is removed.
    ///
    /// # Errors
    ///
    /// Those of [`Inner::make_room`].
    pub(super) async fn admit(&self, state: &State, own: &Own<'_>) -> Result<(), SessionError> {
        let Some(subject) = state.changes.logs_in() else {
            return Ok(());
        };
        let admitted = self.make_room(subject, own).await;
        if admitted.is_err() {
            self.take_back(own).await;
        }
        admitted
    }

    /// At a log-in, once its record is there and before anybody has its id: makes room, or refuses. Of two log-ins at once,
    /// each lists after its own write, so at least one sees both.
    ///
    /// # Errors
    ///
    /// [`SessionError::TooManySessions`]; [`SessionError::Gone`] if another log-in at this very moment comes first; those of
    /// the store.
    pub(super) async fn make_room(&self, subject: &Subject, own: &Own<'_>) -> Result<(), SessionError> {
        let Some(PerSubject { limit, on_limit }) = self.per_subject else {
            return Ok(());
        };
        let keys = self.subjects()?.list(subject).await?;
        let limit = limit.get();
        if keys.iter().filter(|key| **key != own.key).count() < limit {
            return Ok(());
        }
        let mut others = self.group(subject, &keys, Some(own.key)).await?;
        // The log-in may be one again, in a session that is the subject's already: it takes no other's place.
        others.retain(|other| !other.is(&own.replaces.unwrap_or(own.key), own.live));
        if others.len() < limit {
            return Ok(());
        }
        event::too_many_sessions(limit, others.len() + 1, on_limit);
        if on_limit == OnLimit::Refuse {
            return Err(SessionError::TooManySessions { limit });
        }
        let (newer, mut older): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|other| comes_after(other, own) && !planted!(self, EachEndsTheOther));
        if newer.len() >= limit {
            return Err(SessionError::Gone);
        }
        older.sort_by_key(|other| other.live().authenticated_at);
        // Of the older ones those stay that have a place beside the newer and this one.
        let surplus = (older.len() + newer.len() + 1).saturating_sub(limit);
        for oldest in older.drain(..surplus) {
            let key = oldest.key();
            if self.end_owned(subject, oldest).await? {
                event::destroyed(reason::LIMIT, 1, Some(&key));
            }
        }
        Ok(())
    }

    /// Removes the record of a log-in that was refused: it would take a place until it expires.
    async fn take_back(&self, own: &Own<'_>) {
        let mut attempts = super::Attempts::default();
        loop {
            let error = match self.store.delete(&own.key, Some(own.version)).await {
                Ok(_) => return,
                Err(error) => error,
            };
            if !error.is_retryable() || attempts.after_loss(error.clone()).await.is_err() {
                event::record_left(&own.key, &error);
                return;
            }
        }
    }
}

/// Whether `other` is a log-in of about the same moment that comes after `own`: then both may see each other, and must agree on
/// who stays. One that seems later by more than clocks differ has a clock that is off, and counts as older.
fn comes_after(other: &Owned, own: &Own<'_>) -> bool {
    let times = other.live().authenticated_at.zip(own.live.authenticated_at);
    times.is_some_and(|(theirs, ours)| theirs.since(ours) <= SKEW && (theirs, other.key()) > (ours, own.key))
}
