//! The memory store, held to the suite.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use session_conformance::{Backend, BoxError, Hook, Server, async_trait};
use session_core::{MemoryStore, SessionStore};

/// A store for each namespace.
#[derive(Default)]
struct Memory(Mutex<HashMap<String, Arc<MemoryStore>>>);

#[async_trait]
impl Backend for Memory {
    const NAME: &'static str = "memory";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    async fn start() -> Result<Self, BoxError> {
        Ok(Self::default())
    }

    fn server(&self) -> Server {
        Server::none()
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        let mut stores = self.0.lock().expect("no panic under this lock");
        Ok(Arc::clone(stores.entry(namespace.to_owned()).or_default()) as _)
    }

    fn reason(hook: Hook) -> &'static str {
        match hook {
            Hook::Raw => "keeps records, not bytes: there is no value to damage",
            Hook::Rival => "runs in this process: no other program has its records",
            Hook::Skewed => "runs in this process, and has its clock",
            Hook::Crash => "runs in this process, and ends with it",
            _ => "runs in this process: there is no server to cut off",
        }
    }
}

session_conformance::main!(Memory);
