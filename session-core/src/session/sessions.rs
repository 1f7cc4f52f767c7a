//! Where sessions come from.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use super::{
    Assurance, OnLimit, Session, SessionError,
    burst::Burst,
    event::{self, reason},
    limit::PerSubject,
    protocol::{Presented, State, Turns},
    writes::{WRITE_IDS, WriteId},
};
use crate::{
    Clock, SessionId, SessionKey, SessionStore, Subject, SystemClock,
    codec::{Codec, Codecs},
};

/// Where sessions come from: a store, a namespace in it, lengths of life, a codec. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Sessions {
    pub(super) inner: Arc<Inner>,
}

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) namespace: String,
    pub(super) lengths: Lengths,
    pub(super) codecs: Codecs,
    pub(super) renew_every: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) on_retired_id: RetiredIdPolicy,
    pub(super) per_subject: Option<PerSubject>,
    pub(super) unknown_ids: Arc<Burst>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) turns: Arc<Turns>,
    /// Whether the client carries the session itself: nobody else writes it.
    pub(super) carried: bool,
    #[cfg(test)]
    pub(super) planted: Option<super::interleavings::Fault>,
}

impl Sessions {
    /// A builder over `store`, with the codecs of this crate whose features are on.
    #[cfg(any(feature = "bincode", feature = "json"))]
    pub fn builder(store: Arc<dyn SessionStore>) -> SessionsBuilder {
        Self::builder_with(store, Codecs::default())
    }

    /// A builder over `store` with codecs of the application's own.
    pub fn builder_with(store: Arc<dyn SessionStore>, codecs: Codecs) -> SessionsBuilder {
        SessionsBuilder {
            inner: Inner {
                store,
                namespace: "session".to_owned(),
                lengths: Lengths::default(),
                codecs,
                renew_every: Some(Duration::from_secs(15 * 60)),
                grace: Duration::from_secs(30),
                on_retired_id: RetiredIdPolicy::Report,
                per_subject: None,
                unknown_ids: Arc::new(Burst::new(100)),
                clock: SystemClock::shared(),
                turns: Arc::default(),
                carried: false,
                #[cfg(test)]
                planted: None,
            },
            per_subject: None,
        }
    }

    /// The session of the client that came with `id`, or with none. Asks nothing of the store: that happens when the
    /// session is first used.
    #[must_use]
    pub fn open(&self, id: Option<SessionId>) -> Session {
        self.open_for(id, None)
    }

    /// [`Sessions::open`], and what stands for the kind of client that the request comes from, if that is known: bytes that
    /// are the same at each of its requests, such as the beginning of a hash of its `User-Agent`. The session keeps them from its
    /// first write and from each log-in on; that adds no write. Where another kind of client presents it later,
    /// [`Session::client_changed`] and an event say so.
    #[must_use]
    pub fn open_for(&self, id: Option<SessionId>, client: Option<[u8; 8]>) -> Session {
        Session::new(self.clone(), id.map(Presented::Id), client)
    }

    /// These sessions, carried by their clients in tokens: `store` stands for one request's token. It holds at most what that
    /// opens to, keeps what it is given for the response, and knows what has been ended.
    ///
    /// Such a session has no other writer: it is not renewed but at a log-in or another change of privilege, and remembers no
    /// writes. Its [`Upkeep`](super::Upkeep) is to be run before the response, which carries what it writes.
    #[must_use]
    pub fn carried(&self, store: Arc<dyn SessionStore>) -> Self {
        let inner = Inner {
            store,
            renew_every: None,
            per_subject: None,
            // Versions of another store mean nothing in this one.
            turns: Arc::default(),
            carried: true,
            ..(*self.inner).clone()
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The session of a token. `open` is called at its first use (and again, where that failed) and names the key to load;
    /// `None` for no token, or for one that is refused. `client` is as for [`Sessions::open_for`].
    pub fn open_token(
        &self,
        client: Option<[u8; 8]>,
        open: impl Fn() -> Option<SessionKey> + Send + Sync + 'static,
    ) -> Session {
        Session::new(self.clone(), Some(Presented::Token(Arc::new(open))), client)
    }

    /// Ends every session of `subject`, now, and tells how many there were: for an account that is disabled, say (OWASP ASVS
    /// 5.0, 7.4.2 and 7.4.5). Disable it first: a log-in that follows makes a new one.
    ///
    /// To end everybody's sessions, change the namespace ([`SessionsBuilder::namespace`]): no id of the old one is anything in
    /// the new, and the old records expire by themselves.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`]: some may live; repeat. `Unsupported` if the store has no index by subject.
    pub async fn log_out_subject(&self, subject: &Subject) -> Result<u64, SessionError> {
        let ended = self.inner.end_all(subject).await?;
        if ended > 0 {
            event::destroyed(reason::ADMIN, ended, None);
        }
        Ok(ended)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn SessionStore> {
        &self.inner.store
    }

    /// The namespace: ids of one are nothing in another.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// The clock for deadlines and grace.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// How many sessions a subject may have at once, if that is limited.
    #[must_use]
    pub fn max_per_subject(&self) -> Option<usize> {
        self.inner.per_subject.map(|limited| limited.limit.get())
    }

    /// [`Codec::tag`] of the codec that writes attributes.
    #[must_use]
    pub fn codec_tag(&self) -> u8 {
        self.inner.codecs.tag()
    }

    /// How long sessions live that have no lengths of their own.
    #[must_use]
    pub fn lengths(&self) -> Lengths {
        self.inner.lengths
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Inner {
    /// Bytes that a session becomes at most in its record.
    pub(super) fn max_len(&self, state: &State) -> usize {
        let names = match self.carried {
            true => WRITE_IDS * size_of::<WriteId>(),
            false => 0,
        };
        state.view().live.max_len() + state.reserve() - names
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("store", &self.store.profile().name)
            .field("namespace", &self.namespace)
            .field("lengths", &self.lengths)
            .field("renew_every", &self.renew_every)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// Chooses what [`Sessions`] are like.
#[derive(Debug)]
#[must_use]
pub struct SessionsBuilder {
    inner: Inner,
    /// Zero is found out when built.
    per_subject: Option<(usize, OnLimit)>,
}

impl SessionsBuilder {
    /// Default: `"session"`. Two applications on one store take two namespaces.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.inner.namespace = namespace.into();
        self
    }

    /// How long sessions live. Default: see [`Lengths::default`].
    pub fn lengths(mut self, lengths: Lengths) -> Self {
        self.inner.lengths = lengths;
        self
    }

    /// Lengths and the interval between renewals for a level: see the table of [`Assurance`].
    pub fn assurance(mut self, assurance: Assurance) -> Self {
        self.inner.lengths = Lengths::for_assurance(assurance);
        self.inner.renew_every = assurance.renew_every();
        self
    }

    /// How many sessions a subject may have at once, and what a log-in does that finds so many (OWASP ASVS 5.0, 7.1.2).
    /// Default: no limit. Needs a store with an index by subject.
    ///
    /// It is held at the commit of each log-in: its record is written, then the subject's sessions are listed, so that two
    /// log-ins at once cannot both be overlooked, and only then does the client get its id. That is one round trip more,
    /// and at the limit one for each session of the subject and each that is ended. Sessions that were there before the limit are
    /// ended at the subject's next log-in, with [`OnLimit::EndOldest`].
    ///
    /// A crash in the middle leaves one record more, whose id nobody has, until it expires: with [`OnLimit::Refuse`] it takes a
    /// place. A renewal without log-in asks for no list: where the store's list is no snapshot, one that moves a session at
    /// this very moment may hide it from a log-in, until the next.
    pub fn max_per_subject(mut self, limit: usize, on_limit: OnLimit) -> Self {
        self.per_subject = Some((limit, on_limit));
        self
    }

    /// The codec that writes attributes. Default: bincode, or JSON without that feature. The codecs of this crate
    /// whose features are on can always be read, so a changed default leaves no session behind.
    pub fn codec(mut self, codec: impl Codec) -> Self {
        self.inner.codecs = Codecs::new(Arc::new(codec));
        self
    }

    /// How long an id of a logged-in session serves before it is replaced. Default: 15 minutes. `None`: until log-in
    /// or another change of privilege. Sessions without a subject keep their ids until then in any case.
    pub fn renew_every(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.inner.renew_every = interval.into();
        self
    }

    /// How long the old id still reaches the session after a periodic renewal, for requests that were on their way.
    /// Default: 30 s; at most 120 s. After a log-in there is no grace.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.inner.grace = grace;
        self
    }

    /// What to do when an old id comes after its grace though the new one is in use. Default: report it.
    pub fn on_retired_id(mut self, policy: RetiredIdPolicy) -> Self {
        self.inner.on_retired_id = policy;
        self
    }

    /// How many unknown ids within 60 s are as usual: one more is the event `unknown_ids_burst`, once in 60 s. Default: 100.
    ///
    /// Ids of sessions that have expired count like made-up ones, since nothing is left to tell them apart: choose more than
    /// the visitors who come back too late. It is counted in this process, for all clients together, however many addresses
    /// they have; of several nodes each counts its own.
    pub fn unknown_ids_burst(mut self, count: u32) -> Self {
        self.inner.unknown_ids = Arc::new(Burst::new(count));
        self
    }

    /// The clock for deadlines and grace. Default: the system's. Idle time is the store's to measure.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.inner.clock = clock;
        self
    }

    #[cfg(test)]
    pub(super) fn planted(mut self, fault: Option<super::interleavings::Fault>) -> Self {
        self.inner.planted = fault;
        self
    }

    /// The sessions.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a value out of its range.
    pub fn build(self) -> Result<Sessions, ConfigError> {
        let mut inner = self.inner;
        if let Some((limit, on_limit)) = self.per_subject {
            let limit = NonZeroUsize::new(limit).ok_or(ConfigError::NoSessionAllowed)?;
            if inner.store.subjects().is_none() {
                return Err(ConfigError::NoIndexBySubject {
                    store: inner.store.profile().name,
                });
            }
            inner.per_subject = Some(PerSubject { limit, on_limit });
        }
        if inner.grace > MAX_GRACE {
            return Err(ConfigError::GraceTooLong { grace: inner.grace });
        }
        if let Some(interval) = inner.renew_every
            && interval < MIN_RENEWAL
        {
            return Err(ConfigError::RenewalTooOften { interval });
        }
        let longest = inner.store.profile().limits.max_ttl;
        if inner.lengths.idle() > longest {
            return Err(ConfigError::IdleTooLong {
                idle: inner.lengths.idle(),
                longest,
            });
        }
        Ok(Sessions {
            inner: Arc::new(inner),
        })
    }
}

/// The longest grace: each second of it is one in which a stolen old id works.
const MAX_GRACE: Duration = Duration::from_secs(120);

/// The shortest interval between renewals.
const MIN_RENEWAL: Duration = Duration::from_secs(1);

/// How long a session lives: without a request (idle), and in all (absolute). Each session keeps its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    idle: Duration,
    absolute: Duration,
}

impl Lengths {
    /// Lengths in whole milliseconds. An absolute length below one second becomes one second; an idle length is kept
    /// between one second and the absolute length.
    #[must_use]
    pub fn new(idle: Duration, absolute: Duration) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let whole = |length: Duration| Duration::from_millis(crate::clock::whole_millis(length));
        let absolute = whole(absolute).max(SECOND);
        Self {
            idle: whole(idle).clamp(SECOND, absolute),
            absolute,
        }
    }

    /// How long the session lives without a request.
    #[must_use]
    pub const fn idle(self) -> Duration {
        self.idle
    }

    /// How long the session lives in all.
    #[must_use]
    pub const fn absolute(self) -> Duration {
        self.absolute
    }

    /// What `touch` may leave undone: a tenth of the idle length, a minute at most.
    pub(super) fn slack(self) -> Duration {
        (self.idle / 10).min(Duration::from_secs(60))
    }
}

impl Default for Lengths {
    /// 30 minutes idle, 8 hours in all: within NIST SP 800-63B-4 for AAL2 (at most 1 h and 24 h) and the OWASP
    /// Session Management Cheat Sheet (15 to 30 minutes, 4 to 8 hours).
    fn default() -> Self {
        Self::new(Duration::from_secs(30 * 60), Duration::from_secs(8 * 60 * 60))
    }
}

/// What to do when an old id comes after its grace though the new one is in use: somebody has kept a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RetiredIdPolicy {
    /// Refuse the old id and report it (a `tracing` event). The session goes on.
    #[default]
    Report,
    /// Refuse it, report it, and end the session for everybody. Not applied to an id from before a log-in: it never
    /// had the session's rights, and a late request of the same browser would end each fresh log-in.
    EndSession,
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The grace is longer than 120 s.
    GraceTooLong {
        /// The grace that was asked for.
        grace: Duration,
    },
    /// Renewal more often than each second.
    RenewalTooOften {
        /// The interval that was asked for.
        interval: Duration,
    },
    /// The idle length is longer than the store can keep a record.
    IdleTooLong {
        /// The idle length that was asked for.
        idle: Duration,
        /// The longest that the store keeps.
        longest: Duration,
    },
    /// A subject may have no session at all.
    NoSessionAllowed,
    /// Sessions per subject are to be limited, and the store has no index by subject.
    NoIndexBySubject {
        /// The store's name.
        store: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GraceTooLong { grace } => write!(f, "a grace of {grace:?} is longer than {MAX_GRACE:?}"),
            Self::RenewalTooOften { interval } => {
                write!(
                    f,
                    "renewal each {interval:?} is more often than each {MIN_RENEWAL:?}"
                )
            }
            Self::IdleTooLong { idle, longest } => {
                write!(
                    f,
                    "an idle length of {idle:?} is longer than the store keeps a record ({longest:?})"
                )
            }
            Self::NoSessionAllowed => f.write_str("a limit of 0 sessions per subject lets nobody log in"),
            Self::NoIndexBySubject { store } => {
                write!(
                    f,
                    "sessions per subject cannot be limited: {store} has no index by subject"
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}
