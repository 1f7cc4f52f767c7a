//! A user's sessions, for the user to see and to end.

use super::Session;
use crate::{SessionKey, Timestamp};

/// One of a subject's sessions, as [`Session::own_sessions`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnSession {
    /// What [`Session::end_other`] takes. No secret: nobody reaches a session by it. As text (`to_string`) it can go into a
    /// form; which one a form names, the list tells.
    pub key: SessionKey,
    /// When the session began.
    pub created_at: Timestamp,
    /// The last log-in.
    pub authenticated_at: Option<Timestamp>,
    /// When the present id was made.
    pub renewed_at: Timestamp,
    /// Whether it is the session that asks.
    pub is_current: bool,
}

impl Session {
    /// The live sessions of this session's subject, the newest log-in first, for its user to look through (OWASP ASVS 5.0,
    /// 7.5.2); none before log-in. This one is among them once it is stored. One round trip, and one for each.
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`](super::SessionError::Store); `Unsupported` if the store has no index by subject.
    pub async fn own_sessions(&self) -> Result<Vec<OwnSession>, super::SessionError> {
        let state = self.loaded().await?;
        let Some(subject) = &state.view().subject else {
            return Ok(Vec::new());
        };
        let owned = self.inner().owned(subject).await?;
        let current = state.stored();
        let mut sessions: Vec<_> = owned
            .iter()
            .map(|session| OwnSession {
                key: session.key(),
                created_at: session.live().created_at,
                authenticated_at: session.live().authenticated_at,
                renewed_at: session.live().renewed_at,
                is_current: current.is_some_and(|current| session.is(current.key(), &current.live)),
            })
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse((session.authenticated_at, session.key)));
        Ok(sessions)
    }

    /// Ends one of the other sessions of this session's subject, now: nobody reaches it any more when this returns. `false`, and
    /// nothing is ended, if `key` leads to no such session: it has ended, is another subject's, or is this very one (that is
    /// for [`Session::log_out`]).
    ///
    /// # Errors
    ///
    /// As [`Session::log_out`]: the session may live; repeat.
    pub async fn end_other(&self, key: &SessionKey) -> Result<bool, super::SessionError> {
        let state = self.loaded_to_change().await?;
        self.inner().end_other(&state, key).await
    }
}
