//! A server that can be killed.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::SessionStore;

use crate::BoxError;

/// A server of one guarantee's own, which can be killed, and which keeps its disk.
///
/// It has the settings on which the store's claim of durability rests, and no others.
#[async_trait]
pub trait Crash: Send + Sync {
    /// A store on the server as it is now: after a crash, on what that left. All stores share their records.
    ///
    /// # Errors
    ///
    /// The store cannot be opened: the guarantee is broken.
    async fn open(&self) -> Result<Arc<dyn SessionStore>, BoxError>;

    /// Kills the server as a crash would (`SIGKILL`: it has no time to write anything), and starts it again on what is on
    /// its disk. Returns when it answers. Stores that are open have calls under way meanwhile.
    ///
    /// Where the server is a library, a copy of its files as they are at this moment is what a crash of the process leaves.
    ///
    /// # Errors
    ///
    /// The server does not come back.
    async fn crash(&self) -> Result<(), BoxError>;

    /// Whether stores that were open at the crash work on the server that came back. Where they do not (they go on with the
    /// files that were copied, say), what they answer once [`Crash::crash`] was called counts for nothing.
    fn stores_reconnect(&self) -> bool {
        true
    }
}
