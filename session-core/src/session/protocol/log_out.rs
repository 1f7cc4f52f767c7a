//! Ending a session under every id that reaches it.
//!
//! Deleting whatever is under the client's key would leave the session alive that another request has just renewed:
//! so the deletion names the version, and a conflict is followed to where the session went.

use super::{Attempts, Loaded, Phase, State, View, planted};
use crate::{
    ErrorKind, SessionKey, Subject,
    session::{
        SessionError,
        changes::Changes,
        envelope::Live,
        event::{self, reason},
        sessions::Inner,
    },
};

impl Inner {
    pub(in crate::session) async fn log_out(&self, state: &mut State) -> Result<(), SessionError> {
        if let Phase::Stored(loaded) = &state.phase {
            if self.end(loaded).await? {
                event::destroyed(reason::LOGOUT, 1, Some(&loaded.key));
            }
            state.phase = Phase::New;
        } else if let Some(key) = state.refused {
            // An id past its grace reaches nothing, but who logs out with it means its session.
            let chain = self.follow_to_the_end(key).await?;
            let path = chain.passed().collect();
            if let Some((key, found)) = chain.end
                && self.end(&Self::loaded(key, false, path, found)).await?
            {
                event::destroyed(reason::LOGOUT, 1, Some(&key));
            }
        }
        state.presented = None;
        state.handed_out = None;
        state.unknown = None;
        state.refused = None;
        state.overtaken = false;
        state.renewal = None;
        state.changes = Changes::default();
        state.show(View::of_new(Live::new(self.clock.now(), self.lengths)));
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
        let Some(subject) = &state.view().subject else {
            return Ok(0);
        };
        let except = state.stored().map(|loaded| &loaded.key).filter(|_| but_this);
        let ended = self.subjects()?.delete_all(subject, except).await?;
        if ended > 0 {
            let reason = match but_this {
                true => reason::ELSEWHERE,
                false => reason::EVERYWHERE,
            };
            event::destroyed(reason, ended, None);
        }
        Ok(ended)
    }

    /// Deletes a session, wherever it has gone since it was loaded, and then the retired records on the way to it.
    /// What was loaded stays as it is: should this fail, a later commit must meet the conflict, not write old content
    /// over what others wrote. `false` if another call had ended it before.
    pub(super) async fn end(&self, loaded: &Loaded) -> Result<bool, SessionError> {
        self.end_of(loaded, None).await
    }

    /// [`Inner::end`], unless the session has become another's than `subject`'s.
    pub(super) async fn end_of(
        &self,
        loaded: &Loaded,
        subject: Option<&Subject>,
    ) -> Result<bool, SessionError> {
        let (mut key, mut version, mut path) = (loaded.key, loaded.version, loaded.path.clone());
        let mut attempts = Attempts::default();
        // Whether a call without a reply may have been the one that deleted it: then it was ours.
        let mut lost = false;
        let ended = loop {
            let expected = if planted!(self, UnconditionalDelete) {
                None
            } else {
                Some(version)
            };
            match self.store.delete(&key, expected).await {
                Ok(was_there) => break was_there || lost,
                Err(error) => match error.kind() {
                    ErrorKind::Conflict => attempts.after_conflict(&self.turns, &key).await?,
                    ErrorKind::Unavailable => {
                        lost = true;
                        attempts.after_loss(error).await?;
                    }
                    _ => return Err(error.into()),
                },
            }
            let chain = self.follow_to_the_end(key).await?;
            path.extend(chain.passed());
            let Some((end, found)) = chain.end else { break lost };
            if subject.is_some() && found.subject.as_ref() != subject && !planted!(self, EndsForeign) {
                return Ok(false);
            }
            // Whoever wrote it since wrote it after ours had failed.
            lost &= (key, version) == (end, found.version);
            (key, version) = (end, found.version);
        };
        for retired in &path {
            self.remove_retired(retired).await;
        }
        Ok(ended)
    }

    /// A retired record that stays reaches nothing: its removal is not worth an error.
    async fn remove_retired(&self, key: &SessionKey) {
        if let Err(error) = self.store.delete(key, None).await {
            event::record_left(key, &error);
        }
    }
}
