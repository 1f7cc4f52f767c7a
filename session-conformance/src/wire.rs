//! The way to a server, for the guarantees that need a fault on it.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use session_core::SessionStore;

use crate::BoxError;

/// How a store reaches its servers, so that the suite can put a [`Proxy`](crate::Proxy) in between.
///
/// In clear text over TCP: what a proxy cannot read it cannot cut at the right place.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Where the servers listen.
    fn servers(&self) -> Vec<SocketAddr>;

    /// The length in bytes of the first whole reply in `bytes`, which are what a server said on one connection after
    /// the replies before it; `None`: more is needed.
    ///
    /// A reply is what a server says to one request; where it says something unasked, that is a reply too.
    fn reply_len(&self, bytes: &[u8]) -> Option<usize>;

    /// A store on `namespace` that reaches the servers at `at`, as many addresses in the order of
    /// [`Wire::servers`], with deadlines of about half a second: guarantees wait for their end.
    ///
    /// # Errors
    ///
    /// The store cannot be opened: the guarantee is broken.
    async fn open(&self, namespace: &str, at: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError>;

    /// The same with a user or a password that the servers refuse, `secret` being part of the password. `None`: the
    /// server knows no passwords.
    ///
    /// # Errors
    ///
    /// Inside: a store that connects when it is opened says so here. What it says must not show `secret` either.
    async fn open_denied(
        &self,
        namespace: &str,
        at: &[SocketAddr],
        secret: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>>;
}
