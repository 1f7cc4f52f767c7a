//! What a request changed, kept so that it can be applied again to a newer state.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    Lengths, SessionError,
    envelope::{Attribute, Live},
};
use crate::{Subject, Timestamp};

/// What `update` runs: the old value in, the new one out. Run again when the commit meets a newer state.
pub(super) type Change = Arc<dyn Fn(Option<&Attribute>) -> Result<Attribute, SessionError> + Send + Sync>;

/// The changes of one request, in order.
#[derive(Default, Clone)]
pub(super) struct Changes {
    /// Whether every attribute that was there goes, before `attributes` applies.
    cleared: bool,
    /// Per attribute: a plain value or its removal, or a chain of updates on top of that.
    attributes: BTreeMap<String, Edit>,
    log_in: Option<LogIn>,
}

/// What happened to one attribute.
#[derive(Default, Clone)]
struct Edit {
    /// `Some(None)`: removed. `None`: the updates start from what is there.
    base: Option<Option<Attribute>>,
    updates: Vec<Change>,
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
        !self.cleared && self.attributes.is_empty() && self.log_in.is_none()
    }

    pub(super) fn put(&mut self, name: &str, attribute: Attribute) {
        self.attributes.insert(
            name.to_owned(),
            Edit {
                base: Some(Some(attribute)),
                updates: Vec::new(),
            },
        );
    }

    /// `stored`: whether the attribute is in the record that these changes apply to.
    pub(super) fn remove(&mut self, name: &str, stored: bool) {
        if stored && !self.cleared {
            self.attributes.insert(
                name.to_owned(),
                Edit {
                    base: Some(None),
                    updates: Vec::new(),
                },
            );
        } else {
            self.attributes.remove(name);
        }
    }

    pub(super) fn update(&mut self, name: &str, change: Change) {
        self.attributes
            .entry(name.to_owned())
            .or_default()
            .updates
            .push(change);
    }

    /// `stored`: whether the record that these changes apply to has attributes at all.
    pub(super) fn clear(&mut self, stored: bool) {
        self.attributes.clear();
        self.cleared = stored;
    }

    pub(super) fn log_in(&mut self, log_in: LogIn) {
        self.log_in = Some(log_in);
    }

    /// Whether `name` has been changed.
    pub(super) fn touches(&self, name: &str) -> bool {
        self.cleared || self.attributes.contains_key(name)
    }

    /// Applies the changes to a state. The same changes on a newer state give the merged one.
    ///
    /// # Errors
    ///
    /// What an update's closure meets: a value that it cannot read, or whose result cannot be stored.
    pub(super) fn apply(&self, live: &mut Live, subject: &mut Option<Subject>) -> Result<(), SessionError> {
        if self.cleared {
            live.attributes.clear();
        }
        for (name, edit) in &self.attributes {
            match &edit.base {
                Some(Some(attribute)) => {
                    live.attributes.insert(name.clone(), attribute.clone());
                }
                Some(None) => {
                    live.attributes.remove(name);
                }
                None => {}
            }
            for change in &edit.updates {
                let attribute = change(live.attributes.get(name))?;
                live.attributes.insert(name.clone(), attribute);
            }
        }
        if let Some(log_in) = &self.log_in {
            log_in.apply(live, subject);
        }
        Ok(())
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
            .field("cleared", &self.cleared)
            .field("attributes", &self.attributes.keys().collect::<Vec<_>>())
            .field("log_in", &self.log_in.is_some())
            .finish()
    }
}
