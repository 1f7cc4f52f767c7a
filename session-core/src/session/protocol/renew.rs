//! A new id for a session.
//!
//! 1. `create` the record, with this request's changes, under the new key.
//! 2. `update` the old key to a retired record that names the new one.
//!
//! The new id leaves the process only after both, so that a crash in between is a renewal that did not happen.
//! One renewal keeps one new key through all its attempts: a step 2 that arrives late retires the old key to a record
//! that is there, whichever attempt sent it. The new record is deleted only once step 2 can no longer succeed.

use std::{sync::Arc, time::Duration};

use super::{Attempts, Loaded, Phase, State, planted, subject::Own};
use crate::{
    ErrorKind, Record, SessionId, SessionKey, Subject, Version, random_bytes,
    session::{
        SessionError,
        envelope::{Cause, Live, Retired, encode_retired},
        event,
        sessions::Inner,
    },
};

/// The record under the new key, while nobody else knows it.
struct Fresh {
    id: SessionId,
    key: SessionKey,
    version: Version,
    live: Arc<Live>,
    subject: Option<Subject>,
}

/// What step 2 came to.
enum Step {
    Done,
    /// Somebody else wrote the old key, or retired it to another: this is what the store holds now.
    Rebased(Box<Loaded>),
    /// The session has been ended, or its old id no longer reaches it.
    Gone,
    /// The request was lost on its way: the same again.
    Again,
}

impl Inner {
    pub(super) async fn renew(&self, state: &mut State) -> Result<(), SessionError> {
        let mut attempts = Attempts::default();
        let outcome = self.renew_in(state, &mut attempts).await;
        if let Some(key) = attempts.raced {
            state.raced.get_or_insert(key);
        }
        outcome
    }

    async fn renew_in(&self, state: &mut State, attempts: &mut Attempts) -> Result<(), SessionError> {
        let cause = state.renewal.unwrap_or(Cause::Periodic);
        let write = random_bytes()?;
        let mut fresh: Option<Fresh> = None;
        loop {
            let Phase::Stored(old) = &state.phase else {
                return Err(SessionError::Gone);
            };
            let (live, subject) = match self.next(state, old, write) {
                Ok((live, subject)) => (self.renewed(live), subject),
                // The changes do not fit the newer state, on which no earlier step 2 can succeed any more.
                Err(error) => {
                    if let Some(fresh) = fresh {
                        self.discard(&fresh).await;
                    }
                    return Err(error);
                }
            };
            let current = match fresh.take() {
                None => {
                    let placed = self.place(&live, &subject).await;
                    if let Err(error) = &placed
                        && cause == Cause::Periodic
                        && !error.is_retryable()
                    {
                        // The store takes no new record (it is full): what is there can still be changed.
                        event::renewal_failed(error);
                        state.renewal = None;
                        return self.write(state).await;
                    }
                    let (id, key, version) = placed?;
                    let fresh = Fresh {
                        id,
                        key,
                        version,
                        live: Arc::new(live),
                        subject,
                    };
                    let own = Own {
                        key: fresh.key,
                        version: fresh.version,
                        live: &fresh.live,
                        replaces: Some(old.key),
                    };
                    // The old key is as it was until then.
                    self.admit(state, &own).await?;
                    fresh
                }
                Some(fresh) => self.refill(fresh, live, subject, attempts).await?,
            };
            let step = self.retire(old, &current, cause, attempts).await;
            match step {
                Ok(Step::Done) => {
                    event::renewed(&old.key, &current.key);
                    let mut path = old.path.clone();
                    path.push(old.key);
                    let remaining = self.ttl(&current.live)?;
                    let Fresh {
                        id,
                        key,
                        version,
                        live,
                        subject,
                    } = current;
                    state.written(Loaded {
                        key,
                        presented: false,
                        path,
                        version,
                        subject,
                        live,
                        remaining,
                    });
                    state.handed_out = Some(id);
                    state.renewal = None;
                    return Ok(());
                }
                Ok(Step::Again) => fresh = Some(current),
                Ok(Step::Gone) => {
                    self.discard(&current).await;
                    return Err(SessionError::Gone);
                }
                Ok(Step::Rebased(newer)) => {
                    let renewed_by_another = newer.key != old.key;
                    state.overtaken_by(newer);
                    if renewed_by_another && cause == Cause::Periodic {
                        // What is left to do is under other keys.
                        attempts.turn = None;
                        // The other's response carries the new id; this one carries none.
                        self.discard(&current).await;
                        state.renewal = None;
                        return if state.changes.is_empty() {
                            Ok(())
                        } else {
                            self.write(state).await
                        };
                    }
                    fresh = Some(current);
                }
                // Lost for good, or contended: whether step 2 may still arrive decides.
                Err(error) => {
                    if !matches!(error, SessionError::Store(_)) {
                        self.discard(&current).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    fn renewed(&self, live: Live) -> Live {
        let renewals = live.renewals.saturating_add(1);
        Live {
            renewals,
            renewed_at: self.clock.now(),
            confirmed: false,
            ..live
        }
    }

    /// Step 1 again, with newer content under the same new key.
    async fn refill(
        &self,
        mut fresh: Fresh,
        live: Live,
        subject: Option<Subject>,
        attempts: &mut Attempts,
    ) -> Result<Fresh, SessionError> {
        // The time of this attempt alone is no reason for a write.
        let same = Live {
            renewed_at: fresh.live.renewed_at,
            ..live.clone()
        };
        if same == *fresh.live && subject == fresh.subject {
            return Ok(fresh);
        }
        let record = self.record(&live, &subject)?;
        loop {
            match self
                .store
                .update(&fresh.key, fresh.version, &record, self.ttl(&live)?)
                .await
            {
                Ok(version) => {
                    fresh.version = version;
                    break;
                }
                Err(error) => match error.kind() {
                    // Nobody else knows the key, but "log out everywhere" finds it by its subject.
                    ErrorKind::NotFound => return Err(SessionError::Gone),
                    ErrorKind::Conflict | ErrorKind::Unavailable => {
                        match error.kind() {
                            ErrorKind::Unavailable => attempts.after_loss(error).await?,
                            _ => attempts.count()?,
                        }
                        match self.store.load(&fresh.key).await? {
                            None => return Err(SessionError::Gone),
                            Some(stored) => {
                                fresh.version = stored.version;
                                if stored.record == record {
                                    break;
                                }
                            }
                        }
                    }
                    _ => return Err(error.into()),
                },
            }
        }
        fresh.live = Arc::new(live);
        fresh.subject = subject;
        Ok(fresh)
    }

    /// Step 2.
    async fn retire(
        &self,
        old: &Loaded,
        fresh: &Fresh,
        cause: Cause,
        attempts: &mut Attempts,
    ) -> Result<Step, SessionError> {
        let now = self.clock.now();
        let grace = if cause == Cause::Privilege {
            Duration::ZERO
        } else {
            self.grace
        };
        let retired = Retired {
            new_key: fresh.key,
            grace_ends: now.after(grace),
            cause,
            confirmed: old.live.confirmed || old.presented,
        };
        let record = Record::new(encode_retired(&retired)).with_not_after(old.live.deadline);
        let error = match self
            .store
            .update(&old.key, old.version, &record, self.retired_ttl(&old.live))
            .await
        {
            Ok(_) => return Ok(Step::Done),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::NotFound => return Ok(Step::Gone),
            ErrorKind::Conflict => {}
            ErrorKind::Unavailable if planted!(self, UndoOnLostReply) => return Ok(Step::Gone),
            ErrorKind::Unavailable => attempts.after_loss(error.clone()).await?,
            // The store refused outright (full, corrupt): the renewal did not happen.
            _ => {
                self.discard(fresh).await;
                return Err(error.into());
            }
        }
        // Nothing is deleted while it is unknown whether the old key names the new one.
        let mut chain = self.follow_grace(old.key).await?;
        // Whoever comes too late for a renewal that was due wants nothing more of the old key, and need not wait.
        if error.kind() == ErrorKind::Conflict && chain.links.is_empty() && chain.end.is_some() {
            attempts.in_turn(&self.turns, &old.key).await?;
            chain = self.follow_grace(old.key).await?;
        }
        if chain
            .links
            .first()
            .is_some_and(|(_, retired)| retired.new_key == fresh.key)
        {
            return Ok(Step::Done);
        }
        if error.kind() == ErrorKind::Conflict {
            attempts.raced = Some(old.key);
            attempts.count()?;
        }
        let open = chain.is_open(self.clock.now());
        let mut path = old.path.clone();
        path.extend(chain.passed());
        let presented = old.presented && chain.links.is_empty();
        match chain.end {
            Some((_, found)) if found.version == old.version => Ok(Step::Again),
            Some((key, found)) if open => {
                Ok(Step::Rebased(Box::new(Self::loaded(key, presented, path, found))))
            }
            _ => Ok(Step::Gone),
        }
    }

    /// Removes the new record. If that fails, nobody has its id; it ends by itself.
    async fn discard(&self, fresh: &Fresh) {
        if let Err(error) = self.store.delete(&fresh.key, Some(fresh.version)).await {
            event::record_left(&fresh.key, &error);
        }
    }

    /// How long a retired record is kept: long enough to tell a late client and a thief from a stranger, and for a client
    /// whose new id was lost on the way, as long as the session would have waited for it.
    fn retired_ttl(&self, old: &Live) -> Duration {
        let interval = self.renew_every.unwrap_or(Duration::from_secs(15 * 60));
        let kept = self.grace.max(interval.saturating_mul(2)).max(old.lengths.idle());
        kept.min(self.store.profile().limits.max_ttl)
    }
}
