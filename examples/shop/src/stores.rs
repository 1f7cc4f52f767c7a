//! Which store keeps the sessions: chosen by a URL, from the backends that this shop was built with.

use std::{fmt, sync::Arc};

use session_core::{MemoryStore, SessionStore};

/// The URLs that this build understands, for messages. One entry per backend, as in [`open`].
const POSSIBLE: &[&str] = &["memory:"];

/// A store that is ready to keep sessions.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn SessionStore>,
    /// Where the sessions are, for the line that the shop prints (`"in memory"`).
    pub place: &'static str,
}

/// Opens the store that a URL names.
///
/// # Errors
///
/// [`StoreUrlError`] if the URL names none of the backends in this build, or none at all.
// Asynchronous although memory is not: a backend on the network connects here.
pub async fn open(url: &str) -> Result<Opened, StoreUrlError> {
    let (scheme, rest) = url.split_once(':').ok_or(StoreUrlError::NoScheme)?;
    match scheme {
        "memory" if rest.is_empty() => Ok(Opened {
            store: Arc::new(MemoryStore::new()),
            place: "in memory",
        }),
        "memory" => Err(StoreUrlError::Rest),
        // A backend is one more arm, behind its feature, and one more entry in `POSSIBLE`.
        _ => Err(StoreUrlError::Unknown {
            scheme: scheme.chars().take(32).collect(),
        }),
    }
}

/// The URL names no store that this shop can open. Only its scheme is told: the rest may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrlError {
    /// There is no `scheme:` in front.
    NoScheme,
    /// No backend of this build has the scheme.
    Unknown {
        /// What was asked for, at most 32 characters of it.
        scheme: String,
    },
    /// `memory:` is the whole URL; something follows it.
    Rest,
}

impl fmt::Display for StoreUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => f.write_str("--store wants a URL that begins with a scheme")?,
            Self::Unknown { scheme } => {
                write!(f, "--store {scheme:?}: this shop was not built with such a store")?;
            }
            Self::Rest => f.write_str("--store: nothing may follow \"memory:\"")?,
        }
        write!(f, "; it was built with: {}", POSSIBLE.join(", "))
    }
}

impl std::error::Error for StoreUrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_possible_url_opens() {
        for url in POSSIBLE {
            open(url).await.unwrap();
        }
    }

    #[tokio::test]
    async fn other_urls_are_refused_without_repeating_their_password() {
        let error = open("redis://ann:hunter2@127.0.0.1/").await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("\"redis\"") && text.contains("memory:"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        for url in [
            "",
            "memory",
            "hunter2",
            "memory:hunter2",
            "memory://?size=1",
            "\u{1b}[31m:",
        ] {
            let text = open(url).await.unwrap_err().to_string();
            assert!(text.contains("built with: memory:"), "{text}");
            assert!(!text.contains("hunter2") && !text.contains('\u{1b}'), "{text}");
        }
    }
}
