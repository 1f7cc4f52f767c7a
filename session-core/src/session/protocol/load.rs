//! From a client's id to its session: following retired ids while their grace runs.

use std::sync::Arc;

use bytes::Bytes;

use super::{Loaded, Phase, Presented, State, View};
use crate::{
    ErrorKind, SessionKey, Subject, Timestamp, Version,
    session::{
        RetiredIdPolicy, SessionError, client,
        envelope::{self, Cause, Envelope, Live, Retired, Unreadable},
        event::{self, reason},
        sessions::Inner,
    },
};

/// Retired ids that a request may pass: renewals that overtook it.
const MOST_LINKS: usize = 4;

/// Retired ids that a log-out passes: it may come late, and must not miss.
const MOST_LINKS_AT_LOG_OUT: usize = 32;

/// What a key led to.
pub(super) struct Chain {
    /// Retired keys, in the order in which they were passed.
    pub(super) links: Vec<(SessionKey, Retired)>,
    /// The session at the end, if it still lives.
    pub(super) end: Option<(SessionKey, Found)>,
    /// Whether there are more links than were followed.
    too_deep: bool,
    /// Whether the session at the end is at its absolute end.
    expired: bool,
}

/// A live session in the store.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) version: Version,
    pub(super) subject: Option<Subject>,
    pub(super) live: Arc<Live>,
    pub(super) remaining: std::time::Duration,
}

/// What a chain means to the client that came with its first id.
enum Verdict {
    /// There is no session.
    Absent,
    /// The session is the client's.
    Open,
    /// The response that carried the new id never arrived: the client gets another.
    Resend,
    /// The id has been replaced for good.
    Refused {
        /// Though the new id is in use: somebody has kept a copy of the old one.
        used_since: bool,
        cause: Cause,
    },
}

impl Chain {
    /// Whether the grace of every link runs.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        self.links.iter().all(|(_, retired)| now < retired.grace_ends)
    }

    pub(super) fn passed(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.links.iter().map(|(key, _)| *key)
    }

    fn verdict(&self, now: Timestamp) -> Verdict {
        let Some((_, found)) = &self.end else {
            return Verdict::Absent;
        };
        let Some(ended) = self
            .links
            .iter()
            .position(|(_, retired)| now >= retired.grace_ends)
        else {
            return Verdict::Open;
        };
        let used_since = found.live.confirmed
            || self.links[ended + 1..]
                .iter()
                .any(|(_, retired)| retired.confirmed);
        let mut causes = self.links.iter().filter(|(_, retired)| now >= retired.grace_ends);
        match causes.any(|(_, retired)| retired.cause == Cause::Privilege) {
            true => Verdict::Refused {
                used_since,
                cause: Cause::Privilege,
            },
            false if used_since => Verdict::Refused {
                used_since,
                cause: Cause::Periodic,
            },
            false => Verdict::Resend,
        }
    }
}

impl Inner {
    /// Loads the session at its first use, and never again. A store that cannot be reached is an error, but where the
    /// application goes on without it: then `true`.
    pub(in crate::session) async fn load_or_go_on(
        &self,
        state: &mut State,
        tolerant: bool,
    ) -> Result<bool, SessionError> {
        match self.load(state).await {
            Err(SessionError::Store(error)) if tolerant && error.kind() == ErrorKind::Unavailable => {
                event::store_unreachable(&error);
                state.go_on_without(error, Live::new(self.clock.now(), self.lengths));
                Ok(true)
            }
            outcome => outcome.map(|()| matches!(state.phase, Phase::Unreachable(_))),
        }
    }

    /// Loads the session at its first use, and never again.
    async fn load(&self, state: &mut State) -> Result<(), SessionError> {
        if !matches!(state.phase, Phase::Unloaded) {
            return Ok(());
        }
        let key = match &state.presented {
            Some(Presented::Id(id)) => Some(id.key(&self.namespace)),
            Some(Presented::Token(open)) => open(),
            Some(Presented::Connection(key)) => Some(*key),
            None => None,
        };
        let phase = match (key, &state.presented) {
            (Some(key), Some(Presented::Connection(_))) => Box::pin(self.reach_again(key)).await?,
            (Some(key), _) => self.reach(key, state).await?,
            (None, _) => Phase::New,
        };
        match &phase {
            Phase::Stored(loaded) => {
                state.show(loaded.view());
                state.client_changed = client::differs(&loaded.live, state.client);
                if state.client_changed {
                    event::client_changed(&loaded.key);
                }
            }
            _ => state.show(View::of_new(Live::new(self.clock.now(), self.lengths))),
        }
        state.phase = phase;
        Ok(())
    }

    /// A connection presents no id that could have been copied: it follows periodic renewals however long ago they were. A log-in
    /// it does not follow, for whoever opened it before must not come into the rights of whoever logged in.
    async fn reach_again(&self, key: SessionKey) -> Result<Phase, SessionError> {
        let Chain { links, end, .. } = self.follow_to_the_end(key).await?;
        let is_of_another = links.iter().any(|(_, retired)| retired.cause == Cause::Privilege);
        let path = links.into_iter().map(|(key, _)| key).collect();
        Ok(match end {
            Some((end, found)) if !is_of_another => {
                Phase::Stored(Box::new(Self::loaded(end, false, path, found)))
            }
            _ => Phase::New,
        })
    }

    async fn reach(&self, key: SessionKey, state: &mut State) -> Result<Phase, SessionError> {
        let chain = self.follow(key, MOST_LINKS).await?;
        let now = self.clock.now();
        let verdict = chain.verdict(now);
        let ended = chain
            .links
            .iter()
            .map(|(_, retired)| retired.grace_ends)
            .filter(|ended| *ended <= now)
            .max();
        let Chain {
            links,
            end,
            too_deep,
            expired,
        } = chain;
        let Some((end, found)) = end else {
            state.refused = links.last().map(|(_, retired)| retired.new_key);
            // Renewed more often than a request can follow: its browser has, or will have, a newer id.
            state.overtaken = too_deep;
            match links.is_empty() {
                _ if expired => event::expired(&key),
                // Of a token, who refused it has told.
                true if self.carried => {}
                true => self.unknown_id(&key),
                false => event::stale_id(&key, too_deep),
            }
            return Ok(Phase::New);
        };
        match verdict {
            Verdict::Absent => Ok(Phase::New),
            Verdict::Refused { used_since, cause } => {
                state.refused = Some(key);
                state.overtaken = ended.is_some_and(|ended| now.since(ended) < self.grace);
                event::retired_id(&key, used_since);
                if used_since && cause == Cause::Periodic && self.on_retired_id == RetiredIdPolicy::EndSession
                {
                    let path = links.iter().map(|(key, _)| *key).collect();
                    if Box::pin(self.end(&Self::loaded(end, false, path, found))).await? {
                        event::destroyed(reason::THEFT, 1, Some(&end));
                    }
                }
                Ok(Phase::New)
            }
            Verdict::Open | Verdict::Resend => {
                let presented = links.is_empty();
                if matches!(verdict, Verdict::Resend) {
                    event::renewal_repeated(&key);
                    state.renewal = Some(Cause::Periodic);
                } else if presented && self.is_renewal_due(&found, now) {
                    state.renewal = Some(Cause::Periodic);
                }
                event::loaded(&end);
                let path = links.iter().map(|(key, _)| *key).collect();
                Ok(Phase::Stored(Box::new(Self::loaded(end, presented, path, found))))
            }
        }
    }

    fn unknown_id(&self, key: &SessionKey) {
        event::unknown_id(key);
        if self.unknown_ids.is_exceeded_by_one_more(self.clock.monotonic()) {
            event::unknown_ids_burst(self.unknown_ids.limit);
        }
    }

    pub(super) fn loaded(key: SessionKey, presented: bool, path: Vec<SessionKey>, found: Found) -> Loaded {
        let Found {
            version,
            subject,
            live,
            remaining,
        } = found;
        Loaded {
            key,
            presented,
            path,
            version,
            subject,
            live,
            remaining,
        }
    }

    fn is_renewal_due(&self, found: &Found, now: Timestamp) -> bool {
        found.subject.is_some()
            && self
                .renew_every
                .is_some_and(|interval| now.since(found.live.renewed_at) >= interval)
    }

    /// Follows retired ids from `key` to a session, whether or not their grace runs.
    pub(super) async fn follow(&self, key: SessionKey, most_links: usize) -> Result<Chain, SessionError> {
        let (mut links, mut key) = (Vec::new(), key);
        loop {
            let Some(stored) = self.store.load(&key).await? else {
                return Ok(Chain {
                    links,
                    end: None,
                    too_deep: false,
                    expired: false,
                });
            };
            match self.open_envelope(&stored.record.data)? {
                Envelope::Live(live) if live.deadline <= self.clock.now() => {
                    return Ok(Chain {
                        links,
                        end: None,
                        too_deep: false,
                        expired: true,
                    });
                }
                Envelope::Live(live) => {
                    let (version, remaining) = (stored.version, stored.remaining);
                    let found = Found {
                        version,
                        subject: stored.record.subject,
                        live,
                        remaining,
                    };
                    return Ok(Chain {
                        links,
                        end: Some((key, found)),
                        too_deep: false,
                        expired: false,
                    });
                }
                Envelope::Retired(retired) => {
                    let next = retired.new_key;
                    links.push((key, retired));
                    if links.len() > most_links {
                        return Ok(Chain {
                            links,
                            end: None,
                            too_deep: true,
                            expired: false,
                        });
                    }
                    key = next;
                }
            }
        }
    }

    /// As far as a log-out must go.
    pub(super) async fn follow_to_the_end(&self, key: SessionKey) -> Result<Chain, SessionError> {
        self.follow(key, MOST_LINKS_AT_LOG_OUT).await
    }

    /// As far as a request may go.
    pub(super) async fn follow_grace(&self, key: SessionKey) -> Result<Chain, SessionError> {
        self.follow(key, MOST_LINKS).await
    }

    fn open_envelope(&self, data: &Bytes) -> Result<Envelope, SessionError> {
        envelope::decode(data).map_err(|unreadable| match unreadable {
            Unreadable::Newer(format) => self.corrupt(
                ErrorKind::NewerFormat,
                format!("session envelope of format {format}"),
            ),
            Unreadable::Corrupt(why) => self.corrupt(ErrorKind::Corrupt, format!("session envelope: {why}")),
        })
    }
}
