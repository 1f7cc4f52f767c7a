//! A store whose server is down.

use std::{future::pending, time::Duration};

use session_conformance::async_trait;
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep,
    Version,
};

use crate::{list::Fault, naive::NAME};

#[derive(Debug)]
pub(crate) struct Down {
    fault: Option<Fault>,
    profile: StoreProfile,
}

impl Down {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        let profile = StoreProfile::new(NAME);
        Self { fault, profile }
    }

    async fn down<T>(&self) -> Result<T> {
        match self.fault {
            Some(Fault::UnreachableHangs) => pending().await,
            Some(Fault::UnreachablePanics) => panic!("connection refused"),
            _ => Err(Error::new(ErrorKind::Unavailable, NAME)),
        }
    }
}

#[async_trait]
impl SessionStore for Down {
    async fn create(&self, _: &SessionKey, _: &Record, _: Duration) -> Result<Version> {
        self.down().await
    }

    async fn load(&self, _: &SessionKey) -> Result<Option<Stored>> {
        match self.fault {
            Some(Fault::UnreachableIsAbsent) => Ok(None),
            _ => self.down().await,
        }
    }

    async fn update(&self, _: &SessionKey, _: Version, _: &Record, _: Duration) -> Result<Version> {
        self.down().await
    }

    async fn touch(&self, _: &SessionKey, _: Duration) -> Result<()> {
        self.down().await
    }

    async fn delete(&self, _: &SessionKey, _: Option<Version>) -> Result<bool> {
        self.down().await
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        None
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}
