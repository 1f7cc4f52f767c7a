//! What is due at the end of a request that wrote nothing, off the response's path.

use std::{sync::Arc, time::Duration};

use super::Loaded;
use crate::{
    ErrorKind, SessionKey, Subject, Version,
    session::{SessionError, envelope::Live, event, sessions::Inner},
};

/// A write that need not delay the response.
pub(in crate::session) enum Task {
    /// The idle time begins anew.
    Touch { key: SessionKey, ttl: Duration },
    /// The client came with the new id: the response that carried it had arrived.
    Confirm {
        key: SessionKey,
        version: Version,
        live: Arc<Live>,
        subject: Option<Subject>,
    },
}

/// Attempts to set a mark that the next request sets too.
const MOST_CONFIRMS: usize = 3;

impl Inner {
    pub(super) fn due(&self, loaded: &Loaded) -> Option<Task> {
        let ttl = self.ttl(&loaded.live).ok()?;
        let key = loaded.key;
        if loaded.presented && !loaded.live.confirmed && !self.carried {
            let (version, subject) = (loaded.version, loaded.subject.clone());
            return Some(Task::Confirm {
                key,
                version,
                live: loaded.live.clone(),
                subject,
            });
        }
        // Above its length by more than the store rounds: the lengths have been cut, or the deadline is near.
        let rounding = self.store.profile().limits.granularity + Duration::from_secs(1);
        let stale = loaded.remaining + loaded.live.lengths.slack() < ttl || loaded.remaining > ttl + rounding;
        stale.then_some(Task::Touch { key, ttl })
    }

    pub(in crate::session) async fn upkeep(&self, task: Task) {
        let (key, outcome) = match task {
            Task::Touch { key, ttl } => {
                let touched = self.store.touch(&key, ttl).await.map_err(SessionError::from);
                if touched.is_ok() {
                    event::touched(&key);
                }
                (key, touched)
            }
            Task::Confirm {
                key,
                version,
                live,
                subject,
            } => (key, self.confirm(key, version, live, subject).await),
        };
        match outcome {
            Ok(()) => {}
            // Logged out, or renewed, meanwhile: as it should be.
            Err(error) if error.store_kind() == Some(ErrorKind::NotFound) => {}
            Err(error) => event::upkeep_failed(&key, &error),
        }
    }

    async fn confirm(
        &self,
        key: SessionKey,
        mut version: Version,
        mut live: Arc<Live>,
        mut subject: Option<Subject>,
    ) -> Result<(), SessionError> {
        for _ in 0..MOST_CONFIRMS {
            Arc::make_mut(&mut live).confirmed = true;
            let record = self.record(&live, &subject)?;
            match self.store.update(&key, version, &record, self.ttl(&live)?).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                outcome => return outcome.map(drop).map_err(SessionError::from),
            }
            let chain = self.follow(key, 0).await?;
            match chain.end {
                Some((_, found)) if !found.live.confirmed => {
                    (version, live, subject) = (found.version, found.live, found.subject);
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}
