//! Which store keeps the sessions: chosen by a URL, from the backends that this shop was built with.

use std::{fmt, sync::Arc};

use session_core::{ConnectError, MemoryStore, SessionStore};

/// The URLs that this build understands, for messages. One entry per backend, as in [`open`].
const POSSIBLE: &[&str] = &[
    "memory:",
    #[cfg(feature = "sqlite")]
    "sqlite:PATH",
    #[cfg(feature = "dynamodb")]
    "dynamodb://KEY:SECRET@REGION/TABLE",
    #[cfg(feature = "memcached")]
    "memcached://HOST,HOST",
    #[cfg(feature = "postgres")]
    "postgres://HOST/DATABASE",
    #[cfg(feature = "redis")]
    "redis://HOST",
    #[cfg(feature = "redis")]
    "rediss://HOST",
    #[cfg(feature = "redis")]
    "redis+unix:///PATH",
    #[cfg(feature = "redis")]
    "redis+sentinel://HOST,HOST/SERVICE",
    #[cfg(feature = "redis")]
    "redis+cluster://HOST,HOST",
];

/// A store that is ready to keep sessions.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn SessionStore>,
    /// Where the sessions are, for the line that the shop prints (`"in memory"`).
    pub place: String,
}

/// Opens the store that a URL names.
///
/// # Errors
///
/// [`StoreUrlError`] if the URL names none of the backends in this build, or none at all, or if its server does not answer.
// Asynchronous although memory is not: a backend on the network connects here.
pub async fn open(url: &str) -> Result<Opened, StoreUrlError> {
    let (scheme, rest) = url.split_once(':').ok_or(StoreUrlError::NoScheme)?;
    match scheme {
        "memory" if rest.is_empty() => Ok(Opened {
            store: Arc::new(MemoryStore::new()),
            place: "in memory".to_owned(),
        }),
        "memory" => Err(StoreUrlError::Rest),
        #[cfg(feature = "dynamodb")]
        "dynamodb" => opened(session_dynamodb::DynamoDbStore::connect(url).await, "in DynamoDB"),
        #[cfg(feature = "memcached")]
        "memcached" => opened(
            session_memcached::MemcachedStore::connect(url).await,
            "in memcached",
        ),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => opened(
            session_postgres::PostgresStore::connect(url).await,
            "in PostgreSQL",
        ),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
        | "rediss+cluster" => opened(session_redis::RedisStore::connect(url).await, "in Redis"),
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let path = rest.split('?').next().unwrap_or_default();
            opened(
                session_sqlite::SqliteStore::connect(url).await,
                format!("in {path}"),
            )
        }
        // A backend is one more arm, behind its feature, and one more entry in `POSSIBLE`.
        _ => Err(StoreUrlError::Unknown {
            scheme: scheme.chars().take(32).collect(),
        }),
    }
}

/// What a backend gave. Neither of its texts shows a password.
#[cfg(any(
    feature = "dynamodb",
    feature = "memcached",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
fn opened<S: SessionStore, C: fmt::Display>(
    connected: Result<S, ConnectError<C>>,
    place: impl Into<String>,
) -> Result<Opened, StoreUrlError> {
    match connected {
        Ok(store) => Ok(Opened {
            store: Arc::new(store),
            place: place.into(),
        }),
        Err(ConnectError::Config(error)) => Err(StoreUrlError::Wrong(error.to_string())),
        Err(error) => Err(StoreUrlError::Unusable(error.to_string())),
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
    /// The backend does not understand the URL; its words.
    Wrong(String),
    /// The URL may be right, and its server does not answer, or not to us, or its file cannot be used; the backend's words.
    Unusable(String),
}

impl fmt::Display for StoreUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme => f.write_str("--store wants a URL that begins with a scheme")?,
            Self::Unknown { scheme } => {
                write!(f, "--store {scheme:?}: this shop was not built with such a store")?;
            }
            Self::Rest => f.write_str("--store: nothing may follow \"memory:\"")?,
            Self::Wrong(text) => return write!(f, "--store: {text}"),
            Self::Unusable(text) => return write!(f, "--store cannot be used: {text}"),
        }
        write!(f, "; it was built with: {}", POSSIBLE.join(", "))
    }
}

impl std::error::Error for StoreUrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_opens() {
        assert_eq!(POSSIBLE[0], "memory:");
        open("memory:").await.unwrap();
    }

    #[tokio::test]
    async fn other_urls_are_refused_without_repeating_their_password() {
        let error = open("mongodb://ann:hunter2@127.0.0.1/").await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("\"mongodb\"") && text.contains("memory:"), "{text}");
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
