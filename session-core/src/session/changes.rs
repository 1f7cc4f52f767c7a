//! What a request changed, kept so that it can be applied again to a newer state.

use std::{fmt, sync::Arc};

use super::{
    Lengths, SessionError,
    attributes::{Attribute, Value},
    envelope::Live,
};
use crate::{Subject, Timestamp};

/// What `update` runs: the old value in, the new one out. Run again when the commit meets a newer state.
pub(super) type Change = Arc<dyn Fn(Option<Value<'_>>) -> Result<Attribute, SessionError> + Send + Sync>;

/// The changes of one request, in the order of the calls. All of them are kept, those too that change nothing of what was
/// loaded: what they say holds for the state that the commit meets.
#[derive(Default, Clone)]
pub(super) struct Changes {
    edits: Vec<Edit>,
    log_in: Option<LogIn>,
}

/// What happened to the attributes.
#[derive(Clone)]
enum Edit {
    Put(String, Attribute),
    Remove(String),
    Update(String, Change),
    Clear,
}

/// A log-in during this request.
#[derive(Debug, Clone)]
pub(super) struct LogIn {
    pub(super) subject: Subject,
    pub(super) lengths: Lengths,
    pub(super) at: Timestamp,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.log_in.is_none()
    }

    /// Whom a log-in during this request made the session's subject.
    pub(super) fn logs_in(&self) -> Option<&Subject> {
        self.log_in.as_ref().map(|log_in| &log_in.subject)
    }

    pub(super) fn put(&mut self, name: &str, attribute: Attribute) {
        self.forget(name);
        self.edits.push(Edit::Put(name.to_owned(), attribute));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.forget(name);
        self.edits.push(Edit::Remove(name.to_owned()));
    }

    pub(super) fn update(&mut self, name: &str, change: Change) {
        self.edits.push(Edit::Update(name.to_owned(), change));
    }

    pub(super) fn clear(&mut self) {
        self.edits.clear();
        self.edits.push(Edit::Clear);
    }

    /// What came before a plain value or a removal makes no difference any more.
    fn forget(&mut self, name: &str) {
        self.edits.retain(|edit| edit.name() != Some(name));
    }

    pub(super) fn log_in(&mut self, log_in: LogIn) {
        self.log_in = Some(log_in);
    }

    /// Applies the changes to a state. The same changes on a newer state give the merged one.
    ///
    /// # Errors
    ///
    /// What an update's closure meets: a value that it cannot read, or whose result cannot be stored.
    pub(super) fn apply(&self, live: &mut Live, subject: &mut Option<Subject>) -> Result<(), SessionError> {
        for edit in &self.edits {
            match edit {
                Edit::Put(name, attribute) => {
                    live.attributes.insert(name, attribute.clone());
                }
                Edit::Remove(name) => {
                    live.attributes.remove(name);
                }
                Edit::Update(name, change) => {
                    let attribute = change(live.attributes.get(name))?;
                    live.attributes.insert(name, attribute);
                }
                Edit::Clear => live.clear(),
            }
        }
        if let Some(log_in) = &self.log_in {
            log_in.apply(live, subject);
        }
        Ok(())
    }
}

impl Edit {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Put(name, _) | Self::Remove(name) | Self::Update(name, _) => Some(name),
            Self::Clear => None,
        }
    }
}

impl LogIn {
    pub(super) fn apply(&self, live: &mut Live, subject: &mut Option<Subject>) {
        *subject = Some(self.subject.clone());
        live.authenticated_at = Some(self.at);
        live.lengths = self.lengths;
        // A new authentication begins both lengths anew (NIST SP 800-63B-4, section 5.2).
        live.deadline = self.at.after(self.lengths.absolute());
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field(
                "attributes",
                &self.edits.iter().map(Edit::name).collect::<Vec<_>>(),
            )
            .field("log_in", &self.log_in.is_some())
            .finish()
    }
}
