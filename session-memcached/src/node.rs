//! One server, as this node of the site reaches it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use memcache::exp::AsyncMetaClient;
use session_core::Error;
use tokio::time::timeout;

use crate::{
    error::{self, unavailable},
    settings::{self, Settings},
};

/// Connections that are kept while nothing is under way: as many as may be at work at once.
const KEPT: usize = 2 * crate::carry::LANES;

/// A server.
pub(crate) struct Node {
    pub(crate) address: Box<str>,
    pub(crate) connect: Duration,
    /// There since the server answered, until something goes wrong.
    link: Mutex<Option<Link>>,
}

/// The way to a server that has answered.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: AsyncMetaClient,
    pub(crate) settings: Settings,
}

impl Node {
    pub(crate) fn new(address: &str, connect: Duration) -> Self {
        Self {
            address: address.into(),
            connect,
            link: Mutex::new(None),
        }
    }

    /// The way to the server. After a failure it is asked first whether it is there, and under which address: a server
    /// that moved is found, and one that is down is known to be so before anything is sent.
    pub(crate) async fn link(&self) -> Result<Link, Error> {
        if let Some(link) = &*self.current() {
            return Ok(link.clone());
        }
        let link = timeout(self.connect, self.open())
            .await
            .unwrap_or_else(|_| {
                Err(unavailable(format!(
                    "connecting took longer than {:?}",
                    self.connect
                )))
            })
            .map_err(|error| self.named(error))?;
        *self.current() = Some(link.clone());
        Ok(link)
    }

    /// Something went wrong on the way.
    pub(crate) fn forget(&self) {
        *self.current() = None;
    }

    fn current(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self) -> Result<Link, Error> {
        let settings = settings::read(&self.address).await?;
        let client = AsyncMetaClient::builder()
            .max_idle(KEPT)
            .connect_timeout(Some(self.connect))
            // Every call has a deadline of its own.
            .io_timeout(None)
            .connect_async(&*self.address)
            .await
            .map_err(|error| Error::from(error::of(error)))?;
        // Makes a connection, which is kept, and needs a server that knows the meta commands.
        client
            .noop()
            .await
            .map_err(|error| Error::from(error::of(error)))?;
        Ok(Link { client, settings })
    }

    /// The same error, which says of which server it is.
    pub(crate) fn named(&self, error: Error) -> Error {
        let text = error.detail().unwrap_or_default();
        let named = format!("{}: {text}", self.address);
        error.with_detail(named)
    }
}
