//! What one transport holds, judged before any store is asked.

use session_core::SessionId;

use crate::event;

/// What a client presents to be known again.
pub(crate) trait Credential: Sized {
    /// Reads it, if it is well-formed.
    fn parse(text: &[u8]) -> Option<Self>;

    /// Whether both are one. Both come from one client: the time that this takes tells it nothing.
    fn is(&self, other: &Self) -> bool;
}

impl Credential for SessionId {
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    fn is(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

/// What one transport of a request holds.
///
/// Malformed values are passed over. Of several different well-formed ones none is used: somebody else has planted one
/// of them, nobody can tell which, and trying them against the store would let the planter choose.
#[derive(Debug)]
pub(crate) struct Found<C> {
    first: Option<C>,
    count: usize,
    malformed: usize,
    ambiguous: bool,
}

impl<C: Credential> Found<C> {
    /// Judges every value that stands where a credential may stand. `None` is one that is malformed already.
    pub(crate) fn among<'v>(values: impl Iterator<Item = Option<&'v [u8]>>) -> Self {
        let mut found = Self {
            first: None,
            count: 0,
            malformed: 0,
            ambiguous: false,
        };
        for value in values {
            found.count += 1;
            match (&found.first, value.and_then(C::parse)) {
                (_, None) => found.malformed += 1,
                (None, parsed) => found.first = parsed,
                (Some(first), Some(other)) => found.ambiguous |= !first.is(&other),
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

    /// Whether this is the credential `other`, and no other.
    pub(crate) fn is_same(&self, other: Option<&C>) -> bool {
        match (&self.first, other) {
            (Some(one), Some(other)) => !self.ambiguous && one.is(other),
            _ => false,
        }
    }

    /// The one credential, if there is exactly one. What is odd is reported.
    pub(crate) fn judged(self, transport: &'static str) -> Option<C> {
        if self.malformed > 0 {
            event::credential_malformed(transport, self.malformed);
        }
        if self.count > 1 {
            event::credential_repeated(transport, self.count, self.ambiguous);
        }
        self.first.filter(|_| !self.ambiguous)
    }
}
