//! What one transport holds, judged before any store is asked.

use session_core::SessionId;

use crate::event;

/// What one transport of a request holds.
///
/// Malformed values are passed over. Of several different well-formed ones none is used: somebody else has planted one
/// of them, nobody can tell which, and trying them against the store would let the planter choose.
#[derive(Debug)]
pub(crate) struct Found {
    first: Option<SessionId>,
    count: usize,
    malformed: usize,
    ambiguous: bool,
}

impl Found {
    /// Judges every value that stands where a session id may stand.
    pub(crate) fn among<'v>(values: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut found = Self {
            first: None,
            count: 0,
            malformed: 0,
            ambiguous: false,
        };
        for value in values {
            found.count += 1;
            match (&found.first, parse(value)) {
                (_, None) => found.malformed += 1,
                (None, parsed) => found.first = parsed,
                (Some(first), Some(other)) => found.ambiguous |= !is_one(first, &other),
            }
        }
        found
    }

    /// For fields that a request has once, or not at all: several are ambiguous even if they are equal.
    pub(crate) fn once(mut self) -> Self {
        self.ambiguous |= self.count > 1;
        self
    }

    /// Whether the client used this transport at all, whatever it put there.
    pub(crate) const fn is_sent(&self) -> bool {
        self.count > 0
    }

    /// Whether this is the id `other`, and no other.
    pub(crate) fn is_same(&self, other: Option<&SessionId>) -> bool {
        match (&self.first, other) {
            (Some(one), Some(other)) => !self.ambiguous && is_one(one, other),
            _ => false,
        }
    }

    /// The one id, if there is exactly one. What is odd is reported.
    pub(crate) fn judged(self, transport: &'static str) -> Option<SessionId> {
        if self.malformed > 0 {
            event::credential_malformed(transport, self.malformed);
        }
        if self.count > 1 {
            event::credential_repeated(transport, self.count, self.ambiguous);
        }
        self.first.filter(|_| !self.ambiguous)
    }
}

fn parse(text: &[u8]) -> Option<SessionId> {
    if text.len() != SessionId::TEXT_LEN {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Both come from one client: the time that this takes tells it nothing.
fn is_one(one: &SessionId, other: &SessionId) -> bool {
    one.expose() == other.expose()
}
