//! Mutants that the users of `Session` would meet: a whole store, and a fault on the way to it.
//!
//! | a fault that only `Session` can have | found by, in `session-core/src/session/` |
//! |---|---|
//! | the id, or a form of it, is stored or is the key | `protocol/write.rs`: stores are given keys alone; here a dump that shows nothing is the mutant |
//! | log-out deletes whatever is under the client's key | `interleavings.rs`: `unconditional_deletion_at_log_out_is_found` |
//! | the new record goes when the reply to the second step is lost | `interleavings.rs`: `undo_on_a_lost_reply_is_found` |
//! | a creation is tried again under the same key | `interleavings.rs`: `creating_again_under_the_same_key_is_found` |
//! | a record remembers its last write alone | `interleavings.rs`: `one_write_id_is_found` |
//! | grace, slack or deadline are counted wrongly | `tests.rs`, with a clock that stands still |

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use session_conformance::{Backend, BoxError, Hook, Raw, Server, async_trait};
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject, Subjects,
    Sweep, Version,
};

use crate::naive::Naive;

macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $fault:ident => $($killer:ident),+;)+) => {
        /// What may be wrong on the way to a store.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[doc = $what])+ $fault,)+
        }

        pub(crate) const MUTANTS: &[(Fault, &[&str])] = &[
            $((Fault::$fault, &[$(stringify!($killer)),+]),)+
        ];
    };
}

mutants! {
    // session
    /// Every other update of a store is acknowledged and dropped.
    EveryOtherUpdateIsDropped => every_change_is_saved, changes_to_different_attributes_all_survive;
    /// The hook that shows the server shows none of it.
    DumpShowsNothing => raw_id_is_nowhere_in_the_server;
    /// A touch is acknowledged and dropped.
    TouchIsDropped => slack_bounds_the_remaining_life;
    /// A touch extends by more than it was told.
    TouchIsGenerous => absolute_deadline_is_never_passed_by_touching, slack_bounds_the_remaining_life;
    /// The store has one time to live for all sessions.
    OneTtlForAll => remembered_session_keeps_its_own_lengths;
    /// A write keeps the time to live of the first.
    UpdateKeepsTtl => slack_bounds_the_remaining_life;
    /// Last write wins.
    UpdateIgnoresVersion => changes_to_different_attributes_all_survive, updates_of_one_attribute_all_count,
        two_renewals_at_once_leave_one_session, renewal_within_grace_loses_no_concurrent_change,
        lost_reply_then_other_writes_never_counts_twice;
    /// An update of nothing creates it.
    UpdateCreates => logout_is_not_undone_by_a_slow_request;
    /// A load is answered by a replica that is one write behind.
    LoadIsOneBehind => lost_reply_to_a_write_is_recognised_on_retry,
        lost_reply_then_other_writes_never_counts_twice;
    /// A server that is down has no sessions.
    DownIsAbsent => failed_store_never_gives_an_anonymous_session, tolerated_outage_changes_nothing;
    /// A value that cannot be read counts as none.
    UnreadableIsAbsent => failed_store_never_gives_an_anonymous_session;
    /// A load that extends the life writes the whole record.
    LoadRewrites => unreadable_session_is_an_error_and_stays;
    /// A load that extends the life touches the record.
    LoadTouches => unreadable_session_is_an_error_and_stays;
    /// The one is not spared.
    ExceptIsIgnored => log_out_elsewhere_keeps_this_one;
    /// The others are not ended.
    DeleteAllCountsOnly => log_out_elsewhere_keeps_this_one;

    // renewal
    /// A deletion takes whatever is under the key.
    DeleteIgnoresVersion => logout_during_renewal_ends_the_renewed_session;
    /// An update that takes the subject away is acknowledged and dropped: here, each note of where a session went.
    RetirementIsDropped => renewed_session_never_answers_to_its_old_id_after_grace,
        two_renewals_at_once_leave_one_session, logout_during_renewal_ends_the_renewed_session;
    /// An update deletes, and then inserts.
    UpdateLeavesAGap => parallel_requests_during_renewal_are_not_logged_out;
    /// The subject of a record is lost.
    SubjectIsLost => parallel_requests_during_renewal_are_not_logged_out;
    /// Every other new record is acknowledged and dropped.
    EveryOtherCreateIsDropped => crash_between_the_steps_of_renewal_leaves_the_old_session,
        lost_reply_to_a_renewal_loses_no_session;
    /// Deletion by subject looks once, and takes its time.
    DeleteAllLooksOnce => log_out_everywhere_catches_a_session_that_is_being_renewed;

    // policies
    /// The index is written a moment after the record.
    ListMissesTheNewest => concurrent_log_ins_never_exceed_the_limit, user_ends_one_of_the_own_sessions;
    /// The deletion of another's record is acknowledged and dropped.
    EveryDeleteIsDropped => concurrent_log_ins_never_exceed_the_limit, user_ends_one_of_the_own_sessions;
}

/// The backend.
pub(crate) struct Faulty {
    server: Naive,
    fault: Fault,
}

impl Faulty {
    pub(crate) fn with(fault: Fault) -> Self {
        let server = Naive::whole();
        Self { server, fault }
    }

    fn wrap(&self, store: Arc<dyn SessionStore>) -> Arc<dyn SessionStore> {
        Arc::new(FaultyStore {
            store,
            fault: self.fault,
            creates: AtomicUsize::new(0),
            updates: AtomicUsize::new(0),
            last: Mutex::default(),
            created: Mutex::default(),
        })
    }
}

#[async_trait]
impl Backend for Faulty {
    const NAME: &'static str = crate::naive::NAME;
    const VERSION: &'static str = "0";

    async fn start() -> Result<Self, BoxError> {
        Err("it is made with a fault".into())
    }

    fn server(&self) -> Server {
        Server::none()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        Ok(self.wrap(self.server.open(namespace).await?))
    }

    fn reason(hook: Hook) -> &'static str {
        Naive::reason(hook)
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        self.server.unreachable().await.map(|store| self.wrap(store))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        let raw = self.server.raw(namespace).await?;
        match self.fault {
            Fault::DumpShowsNothing => Some(Arc::new(Blind(raw))),
            _ => Some(raw),
        }
    }
}

struct FaultyStore {
    store: Arc<dyn SessionStore>,
    fault: Fault,
    creates: AtomicUsize,
    updates: AtomicUsize,
    /// What each key held before its last update, and its first ttl.
    last: Mutex<HashMap<SessionKey, (Option<Stored>, Duration)>>,
    /// When each key was created.
    created: Mutex<HashMap<SessionKey, Instant>>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl FaultyStore {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn every_other(&self, fault: Fault, count: &AtomicUsize) -> bool {
        self.has(fault) && count.fetch_add(1, Ordering::Relaxed) % 2 == 1
    }

    fn ttl(&self, ttl: Duration) -> Duration {
        match self.has(Fault::OneTtlForAll) {
            true => Duration::from_secs(1),
            false => ttl,
        }
    }

    fn as_stored(&self, record: &Record) -> Record {
        match self.has(Fault::SubjectIsLost) {
            true => record.clone().with_subject(None),
            false => record.clone(),
        }
    }

    fn acknowledge(&self) -> Result<Version> {
        Version::random().map_err(|error| Error::new(ErrorKind::Unavailable, "naive").with_source(error))
    }

    fn with_last<T>(&self, run: impl FnOnce(&mut HashMap<SessionKey, (Option<Stored>, Duration)>) -> T) -> T {
        run(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_created<T>(&self, run: impl FnOnce(&mut HashMap<SessionKey, Instant>) -> T) -> T {
        run(&mut self.created.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes whatever the version is.
    async fn overwrite(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        loop {
            let current = self.store.load(key).await?.map(|stored| stored.version);
            let current = current.ok_or_else(|| Error::new(ErrorKind::NotFound, "naive"))?;
            match self.store.update(key, current, record, ttl).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                ended => return ended,
            }
        }
    }

    async fn found(&self, key: &SessionKey, seen: Option<Stored>) -> Result<Option<Stored>> {
        let Some(stored) = seen else { return Ok(None) };
        match self.fault {
            Fault::LoadIsOneBehind => {
                let before = self.with_last(|last| last.get(key).and_then(|(before, _)| before.clone()));
                return Ok(Some(before.unwrap_or(stored)));
            }
            Fault::LoadRewrites => {
                let ttl = stored.remaining;
                self.store
                    .update(key, stored.version, &stored.record, ttl)
                    .await?;
            }
            Fault::LoadTouches => self.store.touch(key, stored.remaining * 2).await?,
            _ => {}
        }
        Ok(Some(stored))
    }
}

#[async_trait]
impl SessionStore for FaultyStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        if self.every_other(Fault::EveryOtherCreateIsDropped, &self.creates) {
            return self.acknowledge();
        }
        let ttl = self.ttl(ttl);
        self.with_last(|last| last.insert(*key, (None, ttl)));
        self.with_created(|created| created.insert(*key, Instant::now()));
        self.store.create(key, &self.as_stored(record), ttl).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        match self.store.load(key).await {
            Ok(seen) => self.found(key, seen).await,
            Err(error) => match (self.fault, error.kind()) {
                (Fault::DownIsAbsent, ErrorKind::Unavailable)
                | (Fault::UnreadableIsAbsent, ErrorKind::Corrupt) => Ok(None),
                _ => Err(error),
            },
        }
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        if self.every_other(Fault::EveryOtherUpdateIsDropped, &self.updates) {
            return self.acknowledge();
        }
        let record = self.as_stored(record);
        let mut ttl = self.ttl(ttl);
        let before = self.store.load(key).await?;
        let current = before.as_ref().is_some_and(|stored| stored.version == expected);
        let known = self.with_last(|last| {
            let known = last.get(key).map(|(_, ttl)| *ttl);
            if current {
                last.insert(*key, (before.clone(), known.unwrap_or(ttl)));
            }
            known
        });
        match self.fault {
            Fault::UpdateKeepsTtl => {
                ttl = match &before {
                    // Not begun anew.
                    Some(stored) => stored.remaining,
                    None => known.unwrap_or(ttl),
                };
            }
            Fault::UpdateIgnoresVersion => return self.overwrite(key, &record, ttl).await,
            Fault::UpdateCreates if before.is_none() => return self.store.create(key, &record, ttl).await,
            Fault::RetirementIsDropped
                if before.is_some_and(|stored| stored.record.subject > record.subject) =>
            {
                return self.acknowledge();
            }
            Fault::UpdateLeavesAGap if current => {
                self.store.delete(key, Some(expected)).await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
                return self.store.create(key, &record, ttl).await;
            }
            _ => {}
        }
        self.store.update(key, expected, &record, ttl).await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        let ttl = match self.fault {
            Fault::TouchIsDropped => return Ok(()),
            Fault::TouchIsGenerous => ttl * 3,
            _ => self.ttl(ttl),
        };
        self.store.touch(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        if self.has(Fault::EveryDeleteIsDropped) {
            return Ok(self.store.load(key).await?.is_some());
        }
        let expected = expected.filter(|_| !self.has(Fault::DeleteIgnoresVersion));
        self.store.delete(key, expected).await
    }

    fn profile(&self) -> &StoreProfile {
        self.store.profile()
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        self.store.subjects().is_some().then_some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        self.store.sweep()
    }
}

impl FaultyStore {
    fn index(&self) -> Result<&dyn Subjects> {
        self.store
            .subjects()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "naive"))
    }
}

#[async_trait]
impl Subjects for FaultyStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let mut keys = self.index()?.list(subject).await?;
        if self.has(Fault::ListMissesTheNewest) {
            const MOMENT: Duration = Duration::from_millis(500);
            let is_new = |at: &Instant| at.elapsed() < MOMENT;
            self.with_created(|created| keys.retain(|key| !created.get(key).is_some_and(is_new)));
        }
        Ok(keys)
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        match self.fault {
            Fault::ExceptIsIgnored => self.index()?.delete_all(subject, None).await,
            Fault::DeleteAllCountsOnly => {
                let mut keys = self.index()?.list(subject).await?;
                keys.retain(|key| Some(key) != except);
                Ok(keys.len() as u64)
            }
            Fault::DeleteAllLooksOnce => {
                let mut deleted = 0;
                for key in self.index()?.list(subject).await? {
                    if Some(&key) != except {
                        tokio::time::sleep(Duration::from_micros(300)).await;
                        deleted += u64::from(self.store.delete(&key, None).await?);
                    }
                }
                Ok(deleted)
            }
            _ => self.index()?.delete_all(subject, except).await,
        }
    }
}

/// Plants and reads, and shows nothing.
struct Blind(Arc<dyn Raw>);

#[async_trait]
impl Raw for Blind {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        self.0.plant(key, value).await
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        self.0.read(key).await
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        Ok(Vec::new())
    }
}
