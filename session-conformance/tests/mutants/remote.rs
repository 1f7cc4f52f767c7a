//! The naive store behind a wire: a server that speaks over TCP, and a client with a pool, deadlines, and a switch for
//! each fault.

mod client;
mod frame;
mod server;

use std::{net::SocketAddr, sync::Arc};

use session_conformance::{BoxError, Wire, async_trait};
use session_core::{SessionStore, StoreProfile};

use self::client::RemoteStore;
pub(crate) use self::server::Listening;
use crate::list::Fault;

/// The only password that the server knows.
const PASSWORD: &str = "right";

pub(crate) struct NaiveWire {
    server: Arc<Listening>,
    profile: StoreProfile,
    fault: Option<Fault>,
}

impl NaiveWire {
    pub(crate) fn new(server: Arc<Listening>, profile: StoreProfile, fault: Option<Fault>) -> Self {
        Self {
            server,
            profile,
            fault,
        }
    }

    fn store(&self, namespace: &str, at: &[SocketAddr], password: String) -> Arc<dyn SessionStore> {
        Arc::new(RemoteStore::new(
            at[0],
            namespace.to_owned(),
            password,
            self.profile.clone(),
            self.fault,
        ))
    }
}

#[async_trait]
impl Wire for NaiveWire {
    fn servers(&self) -> Vec<SocketAddr> {
        vec![self.server.address()]
    }

    fn reply_len(&self, bytes: &[u8]) -> Option<usize> {
        frame::length(bytes)
    }

    async fn open(&self, namespace: &str, at: &[SocketAddr]) -> Result<Arc<dyn SessionStore>, BoxError> {
        Ok(self.store(namespace, at, PASSWORD.to_owned()))
    }

    async fn open_denied(
        &self,
        namespace: &str,
        at: &[SocketAddr],
        secret: &str,
    ) -> Option<Result<Arc<dyn SessionStore>, BoxError>> {
        Some(Ok(self.store(namespace, at, format!("not {secret}"))))
    }
}
