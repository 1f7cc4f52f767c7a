//! What a guarantee is given.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::{Limits, SessionId, SessionKey, SessionStore, Subject, Version};

use crate::{
    BoxError, Crash, Hook, Proxy, Raw, Rival, Skew, Stop, Wire,
    backend::Open,
    callers::callers,
    witness::{Calls, Witness},
};

/// What a guarantee is given: a store on a namespace of its own, fresh keys, the backend's hooks, a seed.
///
/// Clones share it.
#[derive(Clone)]
pub struct Cx {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Arc<dyn Open>,
    namespace: String,
    store: Arc<dyn SessionStore>,
    calls: Arc<Calls>,
    seed: u64,
}

impl Cx {
    /// A life that no guarantee outlives.
    pub const LONG: Duration = Duration::from_secs(60 * 60);

    /// Added to every wait for an end: two clocks measure it, and timers are coarse.
    const MARGIN: Duration = Duration::from_millis(50);

    pub(crate) async fn new(backend: Arc<dyn Open>, calls: Arc<Calls>, seed: u64) -> Result<Self, Stop> {
        let namespace = fresh_namespace()?;
        let store = open(&*backend, &namespace, &calls).await?;
        let inner = Inner {
            backend,
            namespace,
            store,
            calls,
            seed,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The store under test.
    #[must_use]
    pub fn store(&self) -> Arc<dyn SessionStore> {
        Arc::clone(&self.inner.store)
    }

    /// The namespace of [`Cx::store`].
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// `count` stores on the same records, as so many nodes of a site have: [`Cx::store`] and others.
    ///
    /// # Errors
    ///
    /// A store cannot be opened.
    pub async fn nodes(&self, count: usize) -> Result<Vec<Arc<dyn SessionStore>>, Stop> {
        let mut nodes = vec![self.store()];
        while nodes.len() < count {
            nodes.push(open(&*self.inner.backend, self.namespace(), &self.inner.calls).await?);
        }
        Ok(nodes)
    }

    /// `count` stores on the same records, in a namespace that nobody has used: they are opened at once.
    ///
    /// # Errors
    ///
    /// A store cannot be opened.
    pub async fn nodes_at_once(&self, count: usize) -> Result<Vec<Arc<dyn SessionStore>>, Stop> {
        let namespace = fresh_namespace()?;
        callers(count, |_| {
            let (cx, namespace) = (self.clone(), namespace.clone());
            async move { open(&*cx.inner.backend, &namespace, &cx.inner.calls).await }
        })
        .await
    }

    /// A store on another namespace of the same server.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub async fn elsewhere(&self) -> Result<Arc<dyn SessionStore>, Stop> {
        open(&*self.inner.backend, &fresh_namespace()?, &self.inner.calls).await
    }

    /// A key that nobody has used.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        match SessionId::random() {
            Ok(id) => id.key(self.namespace()),
            Err(error) => panic!("{error}"),
        }
    }

    /// `count` keys that nobody has used.
    #[must_use]
    pub fn keys(&self, count: usize) -> Vec<SessionKey> {
        (0..count).map(|_| self.key()).collect()
    }

    /// A subject that nobody has used.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match Subject::new(format!("subject {}", self.key())) {
            Ok(subject) => subject,
            Err(error) => panic!("{error}"),
        }
    }

    /// The number that every random choice of this run comes from (`CONFORMANCE_SEED`).
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// Random numbers that depend on the seed and on `stream` alone.
    #[must_use]
    pub fn rng(&self, stream: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.inner.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The store's declared limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.inner.store.profile().limits.clone()
    }

    /// A life short enough to wait for its end: a second, or the store's shortest.
    #[must_use]
    pub fn short(&self) -> Duration {
        self.limits().min_ttl.max(Duration::from_secs(1))
    }

    /// What `remaining` may tell at most of a life that was set to `ttl` this moment: the life may last longer by the
    /// granularity, and be told by as much too long.
    #[must_use]
    pub fn most(&self, ttl: Duration) -> Duration {
        ttl.saturating_add(self.limits().granularity * 2)
    }

    /// Waits until a life of `ttl` that was set before `acknowledged` is over, by the store's own granularity.
    pub async fn ended(&self, acknowledged: Instant, ttl: Duration) {
        let limits = self.limits();
        let end = acknowledged + ttl.max(limits.min_ttl) + limits.granularity + Self::MARGIN;
        tokio::time::sleep_until(end.into()).await;
    }

    /// A store whose server is down.
    ///
    /// # Errors
    ///
    /// [`Stop::Untested`] if the backend has no such hook.
    pub async fn unreachable(&self) -> Result<Arc<dyn SessionStore>, Stop> {
        match self.inner.backend.unreachable().await {
            Some(store) => Ok(Witness::wrap(store, Arc::clone(&self.inner.calls))),
            None => Err(self.missing(Hook::Unreachable)),
        }
    }

    /// The bytes that the server holds for [`Cx::store`].
    ///
    /// # Errors
    ///
    /// [`Stop::Untested`] if the backend has no such hook.
    pub async fn raw(&self) -> Result<Arc<dyn Raw>, Stop> {
        match self.inner.backend.raw(self.namespace()).await {
            Some(raw) => Ok(raw),
            None => Err(self.missing(Hook::Raw)),
        }
    }

    /// Another program that uses the same database as [`Cx::store`].
    ///
    /// # Errors
    ///
    /// [`Stop::Untested`] if the backend has no such hook.
    pub async fn rival(&self) -> Result<Arc<dyn Rival>, Stop> {
        match self.inner.backend.rival(self.namespace()).await {
            Some(rival) => Ok(rival),
            None => Err(self.missing(Hook::Rival)),
        }
    }

    /// A store on a server whose clock is not this process's.
    ///
    /// # Errors
    ///
    /// [`Stop::Untested`] if the backend has no such hook.
    pub async fn skewed(&self, by: Skew) -> Result<Arc<dyn SessionStore>, Stop> {
        match self.inner.backend.skewed(self.namespace(), by).await {
            Some(Ok(store)) => Ok(Witness::wrap(store, Arc::clone(&self.inner.calls))),
            Some(Err(error)) => Err(no_store(&error)),
            None => Err(self.missing(Hook::Skewed)),
        }
    }

    /// A server that can be killed. It has nothing in common with [`Cx::store`]: see [`Cx::opened`].
    ///
    /// # Errors
    ///
    /// [`Stop::Untested`] if the backend has no such hook.
    pub async fn crash(&self) -> Result<Arc<dyn Crash>, Stop> {
        match self.inner.backend.crash(self.namespace()).await {
            Some(Ok(server)) => Ok(server),
            Some(Err(error)) => Err(Stop::Broken(format!("the server does not start: {error}"))),
            None => Err(self.missing(Hook::Crash)),
        }
    }

    /// A store on a server that can be killed, as it is now.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub async fn opened(&self, server: &dyn Crash) -> Result<Arc<dyn SessionStore>, Stop> {
        match server.open().await {
            Ok(store) => Ok(Witness::wrap(store, Arc::clone(&self.inner.calls))),
            Err(error) => Err(no_store(&error)),
        }
    }

    /// A store on the same records as [`Cx::store`], and the proxy through which alone it reaches the server. It does so
    /// until the proxy is dropped.
    ///
    /// # Errors
    ///
    /// [`Stop::Untested`] if the backend has no such hook.
    pub async fn behind_proxy(&self) -> Result<(Proxy, Arc<dyn SessionStore>), Stop> {
        let (proxy, wire) = self.proxy().await?;
        match wire.open(self.namespace(), proxy.addresses()).await {
            Ok(store) => Ok((proxy, Witness::wrap(store, Arc::clone(&self.inner.calls)))),
            Err(error) => Err(no_store(&error)),
        }
    }

    /// The same for a store with a password that has `secret` in it and that the server refuses.
    ///
    /// # Errors
    ///
    /// [`Stop::Untested`] if the backend has no such hook, or its server knows no passwords.
    pub async fn denied(
        &self,
        secret: &str,
    ) -> Result<(Proxy, Result<Arc<dyn SessionStore>, BoxError>), Stop> {
        let (proxy, wire) = self.proxy().await?;
        match wire
            .open_denied(self.namespace(), proxy.addresses(), secret)
            .await
        {
            Some(Ok(store)) => Ok((proxy, Ok(Witness::wrap(store, Arc::clone(&self.inner.calls))))),
            Some(Err(error)) => Ok((proxy, Err(error))),
            None => Err(Stop::Untested("the server knows no passwords".to_owned())),
        }
    }

    async fn proxy(&self) -> Result<(Proxy, Arc<dyn Wire>), Stop> {
        let Some(wire) = self.inner.backend.wire().await else {
            return Err(self.missing(Hook::Wire));
        };
        let framing = Arc::clone(&wire);
        let proxy = Proxy::start(
            &wire.servers(),
            move |bytes| framing.reply_len(bytes),
            self.inner.seed,
        )
        .await
        .map_err(|error| Stop::Broken(format!("no port for the proxy: {error}")))?;
        Ok((proxy, wire))
    }

    fn missing(&self, hook: Hook) -> Stop {
        match self.inner.backend.reason(hook) {
            "" => Stop::Broken(format!(
                "the hook {hook:?} is missing, and the backend gives no reason"
            )),
            reason => Stop::Untested(reason.to_owned()),
        }
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx")
            .field("namespace", &self.inner.namespace)
            .field("seed", &self.inner.seed)
            .finish_non_exhaustive()
    }
}

async fn open(
    backend: &dyn Open,
    namespace: &str,
    calls: &Arc<Calls>,
) -> Result<Arc<dyn SessionStore>, Stop> {
    match backend.open(namespace).await {
        Ok(store) => Ok(Witness::wrap(store, Arc::clone(calls))),
        Err(error) => Err(no_store(&error)),
    }
}

fn no_store(error: &BoxError) -> Stop {
    Stop::Broken(format!("the store cannot be opened: {error}"))
}

/// A letter and 16 hexadecimal digits: allowed in a table's name, a key's prefix and a URL.
fn fresh_namespace() -> Result<String, Stop> {
    let version = Version::random().map_err(|error| Stop::Broken(error.to_string()))?;
    let digits = version.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}"));
    Ok(std::iter::once("c".to_owned()).chain(digits).collect())
}
