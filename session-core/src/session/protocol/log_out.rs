//! Ending a session under every id that reaches it.
//!
//! Deleting whatever is under the client's key would leave the session alive that another request has just renewed:
//! so the deletion names the version, and a conflict is followed to where the session went.

use super::{Attempts, Loaded, Phase, State, planted};
use crate::{
    ErrorKind, SessionKey, Subject,
    session::{SessionError, changes::Changes, envelope::Live, sessions::Inner},
};

impl Inner {
    pub(in crate::session) async fn log_out(&self, state: &mut State) -> Result<(), SessionError> {
        if let Phase::Stored(loaded) = &state.phase {
            self.end(loaded).await?;
            tracing::debug!(target: "session", key = %loaded.key, "destroyed");
            state.phase = Phase::New;
        } else if let Some(key) = state.refused {
            // An id past its grace reaches nothing, but who logs out with it means its session.
            let chain = self.follow_to_the_end(key).await?;
            let path = chain.passed().collect();
            if let Some((key, found)) = chain.end {
                self.end(&Self::loaded(key, false, path, found)).await?;
            }
        }
        state.presented = None;
        state.handed_out = None;
        state.unknown = None;
        state.refused = None;
        state.overtaken = false;
        state.renewal = None;
        state.changes = Changes::default();
        state.view.live = Live::new(self.clock.now(), self.lengths);
        state.view.subject = None;
        // Whatever it came with: a cookie that held no id is to go as well.
        state.forget = true;
        Ok(())
    }

    /// Ends every session of the subject, or every one but this.
    pub(in crate::session) async fn delete_all(
        &self,
        state: &State,
        but_this: bool,
    ) -> Result<u64, SessionError> {
        let Some(subject) = &state.view.subject else {
            return Ok(0);
        };
        let except = state.stored().map(|loaded| &loaded.key).filter(|_| but_this);
        Ok(self.subjects()?.delete_all(subject, except).await?)
    }

    /// Deletes a session, wherever it has gone since it was loaded, and then the retired records on the way to it.
    /// What was loaded stays as it is: should this fail, a later commit must meet the conflict, not write old content
    /// over what others wrote.
    pub(super) async fn end(&self, loaded: &Loaded) -> Result<(), SessionError> {
        self.end_of(loaded, None).await
    }

    /// [`Inner::end`], unless the session has become another's than `subject`'s.
    pub(super) async fn end_of(
        &self,
        loaded: &Loaded,
        subject: Option<&Subject>,
    ) -> Result<(), SessionError> {
        let (mut key, mut version, mut path) = (loaded.key, loaded.version, loaded.path.clone());
        let mut attempts = Attempts::default();
        loop {
            let expected = if planted!(self, UnconditionalDelete) {
                None
            } else {
                Some(version)
            };
            match self.store.delete(&key, expected).await {
                Ok(_) => break,
                Err(error) => match error.kind() {
                    ErrorKind::Conflict => attempts.after_conflict().await?,
                    ErrorKind::Unavailable => attempts.after_loss(error).await?,
                    _ => return Err(error.into()),
                },
            }
            let chain = self.follow_to_the_end(key).await?;
            path.extend(chain.passed());
            let Some((end, found)) = chain.end else { break };
            if subject.is_some() && found.subject.as_ref() != subject && !planted!(self, EndsForeign) {
                return Ok(());
            }
            (key, version) = (end, found.version);
        }
        for retired in &path {
            self.remove_retired(retired).await;
        }
        Ok(())
    }

    /// A retired record that stays reaches nothing: its removal is not worth an error.
    async fn remove_retired(&self, key: &SessionKey) {
        if let Err(error) = self.store.delete(key, None).await {
            tracing::info!(target: "session", %key, %error, "a retired record is left to expire");
        }
    }
}
