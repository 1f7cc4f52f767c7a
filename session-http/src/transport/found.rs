//! What one transport holds, judged before any store is asked.

#[cfg(feature = "sealed")]
use std::sync::Arc;

use session_core::SessionId;

use crate::event;
#[cfg(feature = "sealed")]
use crate::token;

/// What a client may present: an id, or a token that holds the session itself.
pub(crate) enum Credential {
    Id(SessionId),
    /// A text that has a token's form. Whether it is one of ours is found out at the session's first use.
    #[cfg(feature = "sealed")]
    Token(String),
}

/// What a manager's clients present. It is one of the two: a token is never tried as an id, nor an id as a token.
#[derive(Debug)]
pub(crate) enum Form {
    Id,
    #[cfg(feature = "sealed")]
    Token(Arc<token::Shared>),
}

impl Form {
    fn parse(&self, text: &[u8]) -> Option<Credential> {
        match self {
            Self::Id if text.len() != SessionId::TEXT_LEN => None,
            Self::Id => std::str::from_utf8(text).ok()?.parse().ok().map(Credential::Id),
            #[cfg(feature = "sealed")]
            Self::Token(tokens) if !tokens.is_well_formed(text) => None,
            #[cfg(feature = "sealed")]
            Self::Token(_) => Some(Credential::Token(std::str::from_utf8(text).ok()?.to_owned())),
        }
    }
}

impl Credential {
    /// Both come from one client: the time that this takes tells it nothing.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Id(one), Self::Id(other)) => one.expose() == other.expose(),
            #[cfg(feature = "sealed")]
            (Self::Token(one), Self::Token(other)) => one == other,
            #[cfg(feature = "sealed")]
            _ => false,
        }
    }
}

/// What one transport of a request holds.
///
/// Malformed values are passed over. Of several different well-formed ones none is used: somebody else has planted one
/// of them, nobody can tell which, and trying them against the store would let the planter choose.
pub(crate) struct Found {
    first: Option<Credential>,
    count: usize,
    malformed: usize,
    ambiguous: bool,
}

impl Found {
    /// Judges every value that stands where a credential may stand.
    pub(crate) fn among<'v>(form: &Form, values: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut found = Self {
            first: None,
            count: 0,
            malformed: 0,
            ambiguous: false,
        };
        for value in values {
            found.count += 1;
            match (&found.first, form.parse(value)) {
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

    /// Whether this is `other`, and nothing else.
    pub(crate) fn is_same(&self, other: Option<&Credential>) -> bool {
        match (&self.first, other) {
            (Some(one), Some(other)) => !self.ambiguous && one.is(other),
            _ => false,
        }
    }

    /// The one credential, if there is exactly one. What is odd is reported.
    pub(crate) fn judged(self, transport: &'static str) -> Option<Credential> {
        if self.malformed > 0 {
            event::credential_malformed(transport, self.malformed);
        }
        if self.count > 1 {
            event::credential_repeated(transport, self.count, self.ambiguous);
        }
        self.first.filter(|_| !self.ambiguous)
    }
}
