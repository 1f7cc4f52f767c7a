//! What ends tokens: marks of sessions that were ended, and the epoch of every subject.

use std::{sync::Arc, time::Duration};

use session_core::{
    Clock, Error, ErrorKind, Record, Result, SessionKey, SessionStore, Sessions, Subject, Timestamp,
};
use sha2::Digest;

use crate::digest;

/// A random tag that a subject's tokens share: another one, or none, ends them all.
pub(super) type Epoch = [u8; 16];

/// Attempts at what others change at the same time.
const MOST_ATTEMPTS: usize = 8;

/// The store that remembers what has been ended.
#[derive(Debug)]
pub(super) struct Revocation {
    store: Arc<dyn SessionStore>,
    clock: Arc<dyn Clock>,
    namespace: String,
}

impl Revocation {
    pub(super) fn new(sessions: &Sessions) -> Self {
        Self {
            store: sessions.store().clone(),
            clock: sessions.clock().clone(),
            namespace: sessions.namespace().to_owned(),
        }
    }

    /// Ends a session until `deadline`, after which no token of it is left. `by` is random, and tells a mark whose reply was
    /// lost from another's. `false` if another has ended it before.
    pub(super) async fn end(&self, key: &SessionKey, by: [u8; 16], deadline: Timestamp) -> Result<bool> {
        let mark = self.mark(key);
        let record = Record::new(by.to_vec()).with_not_after(deadline);
        match self.store.create(&mark, &record, self.ttl(deadline)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let stored = self.store.load(&mark).await?;
                Ok(stored.is_some_and(|stored| stored.record.data[..] == by))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the session has been ended by another than `own`.
    pub(super) async fn is_ended(&self, key: &SessionKey, own: Option<[u8; 16]>) -> Result<bool> {
        match self.store.load(&self.mark(key)).await {
            Ok(Some(mark)) => Ok(own.is_none_or(|own| mark.record.data[..] != own)),
            Ok(None) => Ok(false),
            // There is a mark, whatever it says.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The subject's epoch, if there is one.
    pub(super) async fn epoch(&self, subject: &Subject) -> Result<Option<Epoch>> {
        let stored = self.store.load(&self.of(subject)).await?;
        Ok(stored.and_then(|stored| stored.record.data[..].try_into().ok()))
    }

    /// The subject's epoch for a token that lasts until `deadline`, and as long it is kept: made if there is none.
    pub(super) async fn epoch_until(&self, subject: &Subject, deadline: Timestamp) -> Result<Epoch> {
        let key = self.of(subject);
        for _ in 0..MOST_ATTEMPTS {
            let ttl = self.ttl(deadline);
            let granularity = self.store.profile().limits.granularity;
            // With time to spare: not every log-in that follows has to write.
            let kept = ttl
                .saturating_add((ttl / 8).max(3 * granularity))
                .min(self.longest());
            if let Some(stored) = self.store.load(&key).await? {
                let Ok(epoch) = stored.record.data[..].try_into() else {
                    return Err(Error::new(ErrorKind::Corrupt, self.store.profile().name)
                        .with_detail("the epoch of a subject"));
                };
                // The store may tell more life than there is, by two granularities.
                let enough = ttl.saturating_add(2 * granularity).min(self.longest());
                if stored.remaining >= enough {
                    return Ok(epoch);
                }
                // By compare-and-set: a touch could shorten what a log-in that lasts longer has just set.
                match self
                    .store
                    .update(&key, stored.version, &stored.record, kept)
                    .await
                {
                    Ok(_) => return Ok(epoch),
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let epoch = random(self.store.profile().name)?;
            match self.store.create(&key, &Record::new(epoch.to_vec()), kept).await {
                Ok(_) => return Ok(epoch),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.contended())
    }

    /// Ends every token of the subject; `true` if there may have been one.
    pub(super) async fn end_all(&self, subject: &Subject) -> Result<bool> {
        self.store.delete(&self.of(subject), None).await
    }

    /// Ends every token of the subject but one, whose epoch is `own` and which lasts until `deadline`: `true` if there may have been
    /// others, and its next epoch. `None` if that one has been ended meanwhile: it is not to come back.
    pub(super) async fn end_others(
        &self,
        subject: &Subject,
        own: Epoch,
        deadline: Timestamp,
    ) -> Result<(bool, Option<Epoch>)> {
        let (key, next) = (self.of(subject), random(self.store.profile().name)?);
        let record = Record::new(next.to_vec());
        for _ in 0..MOST_ATTEMPTS {
            let Some(stored) = self.store.load(&key).await? else {
                return Ok((false, None));
            };
            let is_own = stored.record.data[..] == own;
            let outcome = match is_own {
                true => {
                    let ttl = self.ttl(deadline);
                    let replaced = self.store.update(&key, stored.version, &record, ttl).await;
                    replaced.map(|_| (true, Some(next)))
                }
                false => {
                    let deleted = self.store.delete(&key, Some(stored.version)).await;
                    deleted.map(|ended| (ended, None))
                }
            };
            match outcome {
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                outcome => return outcome,
            }
        }
        Err(self.contended())
    }

    fn contended(&self) -> Error {
        Error::new(ErrorKind::Unavailable, self.store.profile().name)
            .with_detail("the epoch of a subject is changed by others all the time")
    }

    fn mark(&self, key: &SessionKey) -> SessionKey {
        self.key(b"session-ended/1\0", key.as_bytes())
    }

    fn of(&self, subject: &Subject) -> SessionKey {
        self.key(b"session-epoch/1\0", subject.as_str().as_bytes())
    }

    /// As a session's key is made, under a label of its own.
    fn key(&self, label: &[u8], name: &[u8]) -> SessionKey {
        let hash = digest::labelled(label, &self.namespace).chain_update(name);
        SessionKey::from_bytes(hash.finalize().into())
    }

    /// Until `deadline`, and the time by which the clocks of two nodes may differ.
    fn ttl(&self, deadline: Timestamp) -> Duration {
        let rest = deadline.since(self.clock.now()) + super::Tokens::SKEW;
        rest.min(self.longest())
    }

    /// For so long the store remembers.
    pub(super) fn longest(&self) -> Duration {
        self.store.profile().limits.max_ttl
    }
}

/// # Errors
///
/// `Unavailable` if the system has no randomness to give.
pub(super) fn random(store: &'static str) -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, store)
            .with_detail("no randomness")
            .with_source(error)
    })?;
    Ok(bytes)
}
