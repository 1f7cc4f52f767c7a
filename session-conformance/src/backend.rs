//! What a backend registers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use session_core::{SessionKey, SessionStore};

use crate::{Crash, Rival, Wire};

/// Any error, for the two calls that may fail before the suite begins.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A backend under test: how to start its server, how to open a store on it, and the hooks that let the suite look
/// behind the store's back.
#[async_trait]
pub trait Backend: Send + Sync + Sized + 'static {
    /// The backend's name in the report and in the matrix.
    const NAME: &'static str;

    /// The version of the crate that has the store: `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;

    /// How many guarantees are checked at once, unless `--test-threads` says it. Most wait for an end rather than for a
    /// processor; a server that has a process for each connection is better asked by fewer, for calls have deadlines.
    const AT_ONCE: usize = 32;

    /// Starts or finds the server. Called once in a process, before the first guarantee.
    ///
    /// # Errors
    ///
    /// The server is not there. The message names the command that provides it; the run ends, and nothing passes.
    async fn start() -> Result<Self, BoxError>;

    /// The server behind the store, as it calls itself.
    fn server(&self) -> Server;

    /// A store on `namespace` (17 lower-case letters and digits), where nothing was before.
    ///
    /// Two stores on one namespace share their records, as two nodes of a site do: with connections of their own where
    /// there are connections. Stores on two namespaces share nothing.
    ///
    /// # Errors
    ///
    /// The store cannot be opened: the guarantee is broken.
    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError>;

    /// Why a hook below is missing. It stands in the report and under the matrix.
    fn reason(hook: Hook) -> &'static str;

    /// A store whose server is down: nobody listens at its address.
    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        None
    }

    /// Access to the bytes that the server holds for the stores on `namespace`.
    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        let _ = namespace;
        None
    }

    /// The way to the server, on which the suite makes faults.
    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        None
    }

    /// Another program that uses the same database as the stores on `namespace`, and may lock their records.
    ///
    /// The stores should have deadlines of about three seconds: a call that meets a lock is to outlast a moment, and there
    /// are guarantees that wait for the deadline's end.
    async fn rival(&self, namespace: &str) -> Option<Arc<dyn Rival>> {
        let _ = namespace;
        None
    }

    /// A store on `namespace`, as [`Backend::open`] has it, but on a server whose clock differs from this process's by
    /// [`Skew::BY`]. Two of one namespace and one skew share their records.
    ///
    /// # Errors
    ///
    /// Inside: the server does not start, and the guarantee is broken.
    async fn skewed(&self, namespace: &str, by: Skew) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        let _ = (namespace, by);
        None
    }

    /// A server of this namespace's own that can be killed.
    ///
    /// # Errors
    ///
    /// Inside: the server does not start, and the guarantee is broken.
    async fn crash(&self, namespace: &str) -> Option<Result<Arc<dyn Crash>, BoxError>> {
        let _ = namespace;
        None
    }
}

/// The hooks that a backend may be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hook {
    /// [`Backend::unreachable`]
    Unreachable,
    /// [`Backend::raw`]
    Raw,
    /// [`Backend::wire`]
    Wire,
    /// [`Backend::rival`]
    Rival,
    /// [`Backend::skewed`]
    Skewed,
    /// [`Backend::crash`]
    Crash,
}

/// How a server's clock differs from this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skew {
    /// The server's is ahead by [`Skew::BY`].
    Ahead,
    /// The server's is behind by [`Skew::BY`].
    Behind,
}

impl Skew {
    /// By how much: an hour.
    pub const BY: Duration = Duration::from_secs(60 * 60);
}

/// The bytes that a server holds, behind its store's back.
#[async_trait]
pub trait Raw: Send + Sync {
    /// Puts `value` where the server keeps `key`'s value (the bytes made by [`session_core::head::seal`]), as a fault
    /// or another program would. A record that is there keeps the rest of what belongs to it; a new one lives for at
    /// least a minute.
    ///
    /// # Errors
    ///
    /// The server refused.
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError>;

    /// The value that the server keeps under `key`, if any.
    ///
    /// # Errors
    ///
    /// The server refused.
    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError>;

    /// Everything that the server holds, keys, values and indexes, in any form that shows each byte string whole.
    ///
    /// # Errors
    ///
    /// The server refused.
    async fn dump(&self) -> Result<Vec<u8>, BoxError>;
}

/// A server, as it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `"Redis"`, `"PostgreSQL"`, `"this process"` …
    pub name: String,
    /// The version that it reported. Empty where there is no server.
    pub version: String,
}

impl Server {
    /// A server of that name and version.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
        }
    }

    /// No server: the store keeps its records in the process.
    #[must_use]
    pub fn none() -> Self {
        Self::new("this process", "")
    }
}

/// A [`Backend`] whose type is forgotten.
#[async_trait]
pub(crate) trait Open: Send + Sync {
    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError>;
    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>>;
    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>>;
    async fn wire(&self) -> Option<Arc<dyn Wire>>;
    async fn rival(&self, namespace: &str) -> Option<Arc<dyn Rival>>;
    async fn skewed(&self, namespace: &str, by: Skew) -> Option<Result<Arc<dyn SessionStore>, BoxError>>;
    async fn crash(&self, namespace: &str) -> Option<Result<Arc<dyn Crash>, BoxError>>;
    fn reason(&self, hook: Hook) -> &'static str;
}

#[async_trait]
impl<B: Backend> Open for B {
    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        Backend::open(self, namespace).await
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        Backend::unreachable(self).await
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        Backend::raw(self, namespace).await
    }

    async fn wire(&self) -> Option<Arc<dyn Wire>> {
        Backend::wire(self).await
    }

    async fn rival(&self, namespace: &str) -> Option<Arc<dyn Rival>> {
        Backend::rival(self, namespace).await
    }

    async fn skewed(&self, namespace: &str, by: Skew) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        Backend::skewed(self, namespace, by).await
    }

    async fn crash(&self, namespace: &str) -> Option<Result<Arc<dyn Crash>, BoxError>> {
        Backend::crash(self, namespace).await
    }

    fn reason(&self, hook: Hook) -> &'static str {
        B::reason(hook)
    }
}
