//! The store that one request's token stands for.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_core::{
    Capability, Error, ErrorKind, Record, Result, SessionKey, SessionParts, SessionStore, StoreProfile,
    Stored, Subject, Subjects, Sweep, Timestamp, Version, async_trait,
};

use super::{
    Claims, Refused, Shared, Tokens,
    revocation::{Epoch, Revocation, random},
};
use crate::event;

/// One request's token as a store: it holds the session that the client came with and, from a log-in on, those that take its
/// place. What is written here goes into the token that the response hands out; what must outlive the request (ends, and epochs)
/// goes into the store of the [`Revocation`].
pub(crate) struct TokenStore {
    shared: Arc<Shared>,
    /// What the client presented.
    text: Option<String>,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    opened: bool,
    /// A newer version of this software made the token.
    is_newer: bool,
    presented: Option<SessionKey>,
    /// What was presented, and what this request made: a new session, and under another key each time that it renews the id. A
    /// renewal has two at once.
    sessions: Vec<Slot>,
    /// Names this request in the marks that it leaves.
    name: Option<[u8; 16]>,
}

impl Slots {
    fn under(&mut self, key: &SessionKey) -> Option<&mut Slot> {
        self.sessions.iter_mut().find(|slot| slot.claims.key == *key)
    }

    fn remove(&mut self, key: &SessionKey) {
        self.sessions.retain(|slot| slot.claims.key != *key);
    }
}

/// A session in this request.
#[derive(Clone)]
struct Slot {
    claims: Claims,
    version: Version,
    /// Whether a client has a token of it.
    is_out: bool,
    /// The token to hand out, if it has changed.
    written: Option<String>,
}

impl Slot {
    /// As its token tells of it. It has one version: nobody else writes it.
    fn presented(claims: Claims) -> Self {
        Self {
            claims,
            version: Version::from_cas(0),
            is_out: true,
            written: None,
        }
    }
}

/// A token for the client.
pub(crate) struct Issued {
    pub(crate) text: String,
    /// The time to the session's absolute end.
    pub(crate) lasts: Duration,
}

impl TokenStore {
    pub(crate) fn new(shared: Arc<Shared>, text: Option<String>) -> Self {
        Self {
            shared,
            text,
            slots: Mutex::default(),
        }
    }

    /// Opens the token, once, and names its session; `None` if there is none or it does not verify.
    pub(crate) fn open(&self) -> Option<SessionKey> {
        let text = self.text.as_deref()?;
        let mut slots = self.slots();
        if !slots.opened {
            slots.opened = true;
            match self.shared.format.read(&self.shared.namespace, text, self.now()) {
                Ok(claims) => {
                    slots.presented = Some(claims.key);
                    slots.sessions.push(Slot::presented(claims));
                }
                Err(refused) => {
                    event::token_refused(refused.reason(), refused.is_ordinary());
                    slots.is_newer = refused == Refused::NewerFormat;
                }
            }
        }
        // Of a newer one, asking for it is an error.
        let newer = slots.is_newer.then_some(SessionKey::from_bytes([0; 32]));
        slots.presented.or(newer)
    }

    /// The token that the response must carry, if it is another. From now on the client may have it.
    pub(crate) fn issued(&self) -> Option<Issued> {
        let mut slots = self.slots();
        let slot = slots.sessions.last_mut()?;
        let text = slot.written.clone()?;
        slot.is_out = true;
        let lasts = slot.claims.deadline.since(self.now());
        Some(Issued { text, lasts })
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Nothing here panics between two steps that belong together.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.shared.profile.name)
    }

    /// The session under `key`, if it is here and lives.
    fn find(&self, key: &SessionKey) -> Option<Slot> {
        let mut slots = self.slots();
        let slot = slots
            .under(key)
            .filter(|slot| slot.claims.expires_at > self.now());
        slot.cloned()
    }

    /// The epoch of the session that this record is to take the place of, if nobody logs in with it: a renewal makes no new epoch,
    /// or it would bring a session back that was ended with all others since it was loaded. The old epoch lasts as long: only a log-in
    /// moves the deadline.
    fn renewed_epoch(&self, record: &Record) -> Option<Epoch> {
        let log_in = |data| {
            let parts = SessionParts::from_data(data).ok().flatten()?;
            Some((parts.authenticated_at?, parts.deadline))
        };
        let is_one = log_in(&record.data)?;
        let slots = self.slots();
        let mut same = slots.sessions.iter().filter(|slot| {
            slot.claims.subject == record.subject && log_in(&slot.claims.data) == Some(is_one)
        });
        same.next()?.claims.epoch
    }

    /// # Errors
    ///
    /// `NotFound`; `Conflict`.
    fn expect(&self, key: &SessionKey, expected: Version) -> Result<Slot> {
        let slot = self.find(key).ok_or_else(|| self.error(ErrorKind::NotFound))?;
        match slot.version == expected {
            true => Ok(slot),
            false => Err(self.error(ErrorKind::Conflict)),
        }
    }

    /// Puts the session back as it is now, and writes its token.
    ///
    /// # Errors
    ///
    /// `TooLarge`; those of the format.
    fn put(&self, mut slot: Slot, version: Version) -> Result<Version> {
        slot.claims.issued_at = self.now();
        let text = self.shared.format.write(&self.shared.namespace, &slot.claims)?;
        let (size, limit) = (text.len(), self.shared.budget);
        if size > limit {
            return Err(self.error(ErrorKind::TooLarge { size, limit }).with_detail(
                "characters of the token and the name of its cookie are more than browsers keep",
            ));
        }
        slot.written = Some(text);
        slot.version = version;
        let mut slots = self.slots();
        match slots.under(&slot.claims.key) {
            Some(before) => {
                slot.is_out |= before.is_out;
                *before = slot;
            }
            None => slots.sessions.push(slot),
        }
        Ok(version)
    }

    fn remove(&self, key: &SessionKey) {
        self.slots().remove(key);
    }

    /// Ends the session for every copy of its token. `false` if another request has done so before.
    async fn end(&self, slot: &Slot) -> Result<bool> {
        let is_out = {
            let mut slots = self.slots();
            let is_out = slots.under(&slot.claims.key).is_some_and(|slot| slot.is_out);
            if !is_out {
                // Nor will be: no mark is needed.
                slots.remove(&slot.claims.key);
            }
            is_out
        };
        let ended = match &self.shared.revocation {
            Some(revocation) if is_out => {
                let Claims { key, deadline, .. } = &slot.claims;
                revocation.end(key, self.name()?, *deadline).await?
            }
            _ => true,
        };
        self.remove(&slot.claims.key);
        Ok(ended)
    }

    /// What this request's marks say: its own reply may be lost, and its mark is no other's then.
    fn name(&self) -> Result<[u8; 16]> {
        let mut slots = self.slots();
        match slots.name {
            Some(name) => Ok(name),
            None => Ok(*slots.name.insert(random(self.shared.profile.name)?)),
        }
    }

    fn new_version(&self) -> Result<Version> {
        random(self.shared.profile.name).map(Version::from_bytes)
    }

    fn revocation(&self) -> Result<&Revocation> {
        let revocation = self.shared.revocation.as_ref();
        revocation.ok_or_else(|| self.error(ErrorKind::Unsupported))
    }
}

#[async_trait]
impl SessionStore for TokenStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.shared.profile.check(record, ttl)?;
        if self.find(key).is_some() {
            return Err(self.error(ErrorKind::AlreadyExists));
        }
        let now = self.now();
        let deadline = record.not_after.unwrap_or_else(|| now.after(ttl));
        let (life, longest) = (deadline.since(now), self.shared.longest());
        // The log-in was a moment ago, and the clock may have stepped back since.
        if life > longest.saturating_add(Tokens::SKEW) {
            let kind = ErrorKind::InvalidTtl { ttl: life, longest };
            return Err(self
                .error(kind)
                .with_detail("the session would outlive what can end it"));
        }
        let epoch = match (&self.shared.revocation, &record.subject) {
            (Some(revocation), Some(subject)) => match self.renewed_epoch(record) {
                Some(epoch) => Some(epoch),
                None => Some(revocation.epoch_until(subject, deadline).await?),
            },
            _ => None,
        };
        let version = self.new_version()?;
        let claims = Claims {
            key: *key,
            subject: record.subject.clone(),
            epoch,
            issued_at: now,
            expires_at: now.after(ttl),
            deadline,
            data: record.data.clone(),
        };
        let slot = Slot {
            claims,
            version,
            is_out: false,
            written: None,
        };
        self.put(slot, version)
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        if self.slots().is_newer {
            return Err(self.error(ErrorKind::NewerFormat));
        }
        let Some(slot) = self.find(key) else {
            return Ok(None);
        };
        // What this request has ended is gone from here, but where the reply was lost: then it goes on with it, and ends it again.
        let own = self.slots().name;
        if let Some(revocation) = &self.shared.revocation
            && let Some(refused) = refused(revocation, &slot.claims, own).await?
        {
            event::token_refused(refused.reason(), refused.is_ordinary());
            self.remove(key);
            return Ok(None);
        }
        let record = Record::new(slot.claims.data)
            .with_subject(slot.claims.subject)
            .with_not_after(slot.claims.deadline);
        let remaining = slot.claims.expires_at.since(self.now());
        Ok(Some(Stored::new(record, slot.version, remaining)).filter(|_| !remaining.is_zero()))
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.shared.profile.check(record, ttl)?;
        let mut slot = self.expect(key, expected)?;
        let is_retired = matches!(SessionParts::from_data(&record.data), Ok(None));
        if is_retired {
            // The client gets another token; this one is not to be used again.
            return match self.end(&slot).await? {
                true => Ok(slot.version),
                false => Err(self.error(ErrorKind::NotFound)),
            };
        }
        if record.subject != slot.claims.subject {
            // A subject comes with a new key.
            return Err(self.error(ErrorKind::Unsupported));
        }
        slot.claims.data = record.data.clone();
        slot.claims.expires_at = self.now().after(ttl);
        slot.claims.deadline = record.not_after.unwrap_or(slot.claims.deadline);
        self.put(slot, self.new_version()?)
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.shared.profile.check_ttl(ttl)?;
        let mut slot = self.find(key).ok_or_else(|| self.error(ErrorKind::NotFound))?;
        let version = slot.version;
        slot.claims.expires_at = self.now().after(ttl);
        self.put(slot, version).map(drop)
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let Some(slot) = self.find(key) else {
            return Ok(false);
        };
        if expected.is_some_and(|expected| expected != slot.version) {
            return Err(self.error(ErrorKind::Conflict));
        }
        self.end(&slot).await
    }

    fn profile(&self) -> &StoreProfile {
        &self.shared.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        self.shared.revocation.is_some().then_some(self as &dyn Subjects)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}

#[async_trait]
impl Subjects for TokenStore {
    /// Nobody has a list of the tokens.
    async fn list(&self, _subject: &Subject) -> Result<Vec<SessionKey>> {
        Err(self
            .error(ErrorKind::Unsupported)
            .with_detail("nobody has a list of a subject's tokens"))
    }

    /// How many there were nobody knows: 1 where there may have been some.
    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let revocation = self.revocation()?;
        let kept = except.and_then(|key| self.find(key));
        // One that is about to become the subject's gets its epoch at the commit.
        let kept = kept.filter(|kept| kept.claims.subject.as_ref() == Some(subject));
        let Some((mut kept, epoch)) = kept.and_then(|kept| kept.claims.epoch.map(|epoch| (kept, epoch)))
        else {
            return revocation.end_all(subject).await.map(u64::from);
        };
        let deadline = kept.claims.deadline;
        let (ended, own) = revocation.end_others(subject, epoch, deadline).await?;
        if own.is_some() {
            let version = kept.version;
            kept.claims.epoch = own;
            self.put(kept, version)?;
        }
        Ok(u64::from(ended))
    }
}

/// Of a token, nothing: `Debug` of a request's session ends up in logs.
impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore")
            .field("format", &self.shared.format.name())
            .field("namespace", &self.shared.namespace)
            .finish_non_exhaustive()
    }
}

/// Whether the session was ended, or its subject logged out everywhere. Both are asked at once.
async fn refused(revocation: &Revocation, claims: &Claims, own: Option<[u8; 16]>) -> Result<Option<Refused>> {
    let epoch = async {
        match &claims.subject {
            // None is never the same: nothing could end what has none.
            Some(subject) => revocation
                .epoch(subject)
                .await
                .map(|epoch| epoch.is_none() || epoch != claims.epoch),
            None => Ok(false),
        }
    };
    let (ended, is_other) = tokio::join!(revocation.is_ended(&claims.key, own), epoch);
    Ok(match (ended?, is_other?) {
        (true, _) => Some(Refused::Ended),
        (_, true) => Some(Refused::EndedEverywhere),
        _ => None,
    })
}

pub(super) fn profile(name: &'static str, max_record: usize, is_revocable: bool) -> StoreProfile {
    let mut profile = StoreProfile::new(name);
    profile.limits.max_record = max_record;
    if is_revocable {
        profile.capabilities.push(Capability::Subjects);
    }
    profile
}
