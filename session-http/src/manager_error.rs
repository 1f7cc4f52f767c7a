//! What makes no sense when a manager is built.

use std::{error, fmt};

/// Why there is no [`SessionManager`](crate::SessionManager).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManagerError {
    /// There is no transport.
    NoTransport,
    /// Two transports of one kind have one name: one of them would never be asked.
    RepeatedTransport {
        /// The name.
        name: String,
    },
    /// The URL is to be asked before a cookie, or without one.
    UrlBeforeCookie,
    /// Tokens are to travel in URLs, which are too long then, and in logs.
    #[cfg(feature = "sealed")]
    TokenInUrl,
    /// Tokens are to travel in a signed cookie: they are authenticated already.
    #[cfg(feature = "sealed")]
    TokenSignedAgain,
    /// Sessions are limited per subject ([`max_per_subject`](session_core::SessionsBuilder::max_per_subject)), and nobody counts
    /// tokens.
    #[cfg(feature = "sealed")]
    LimitWithTokens {
        /// Sessions that a subject may have.
        limit: usize,
    },
    /// Sessions that cannot be ended live longer than
    /// [`Tokens::LONGEST_WITHOUT_REVOCATION`](crate::Tokens::LONGEST_WITHOUT_REVOCATION).
    #[cfg(feature = "sealed")]
    TooLongWithoutRevocation {
        /// Their absolute length.
        absolute: std::time::Duration,
    },
    /// The store cannot remember for so long that a session was ended.
    #[cfg(feature = "sealed")]
    TooLongForStore {
        /// The absolute length of sessions.
        absolute: std::time::Duration,
        /// The longest that the store keeps.
        longest: std::time::Duration,
    },
    /// The store may evict the mark of a session that was ended, which would bring it back.
    #[cfg(feature = "sealed")]
    RevocationMayBeEvicted {
        /// The store's name.
        store: &'static str,
    },
    /// JWTs hold attributes as JSON, and the sessions write them otherwise.
    #[cfg(feature = "jwt")]
    CodecNotJson,
}

impl fmt::Display for ManagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTransport => f.write_str("a manager needs a transport"),
            Self::RepeatedTransport { name } => write!(f, "two transports of one kind are named {name:?}"),
            Self::UrlBeforeCookie => {
                f.write_str("the URL is for clients without cookies: put a cookie before it in the list")
            }
            #[cfg(feature = "sealed")]
            Self::TokenInUrl => {
                f.write_str("a token does not belong in a URL: leave the transport by URL out")
            }
            #[cfg(feature = "sealed")]
            Self::TokenSignedAgain => {
                f.write_str("tokens are authenticated already: leave `signed` out of their cookie")
            }
            #[cfg(feature = "sealed")]
            Self::LimitWithTokens { limit } => write!(
                f,
                "nobody counts tokens, so a subject cannot be limited to {limit} of them: leave `max_per_subject` out, or \
                 keep the sessions in the store"
            ),
            #[cfg(feature = "sealed")]
            Self::TooLongWithoutRevocation { absolute } => write!(
                f,
                "sessions that nothing can end may live 15 minutes at most, and these live {absolute:?}: shorten their \
                 absolute length, or leave `without_revocation` out"
            ),
            #[cfg(feature = "sealed")]
            Self::TooLongForStore { absolute, longest } => write!(
                f,
                "sessions live {absolute:?}, and the store remembers for {longest:?} at most which of them were ended"
            ),
            #[cfg(feature = "sealed")]
            Self::RevocationMayBeEvicted { store } => write!(
                f,
                "{store} may evict what tells that a session was ended, and a logged-out session would be back: take a store \
                 that evicts nothing (for Redis, tell its builder `may_evict(false)` if that is so), or call `accept_eviction`"
            ),
            #[cfg(feature = "jwt")]
            Self::CodecNotJson => f.write_str("JWTs hold JSON: build the sessions with `.codec(JsonCodec)`"),
        }
    }
}

impl error::Error for ManagerError {}
