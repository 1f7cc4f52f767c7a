//! What a crash of the process leaves: the files as they are at a moment.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use session_conformance::{BoxError, Crash, async_trait};
use session_core::SessionStore;
use session_sqlite::sqlx;

use super::{opened, pool};

pub(crate) struct Copied(Mutex<PathBuf>);

impl Copied {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(Mutex::new(path))
    }

    fn current(&self) -> PathBuf {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(ending);
    name.into()
}

#[async_trait]
impl Crash for Copied {
    async fn open(&self) -> Result<Arc<dyn SessionStore>, BoxError> {
        opened(&self.current()).await
    }

    async fn crash(&self) -> Result<(), BoxError> {
        let (from, to) = (self.current(), beside(&self.current(), "-after"));
        let pool = pool(&from);
        // Nothing is half written while this is open; and as it reads at the end of the log, the log is not begun anew.
        let mut still = pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("SELECT count(*) FROM sessions")
            .fetch_one(&mut *still)
            .await?;
        // The log first: a checkpoint may run, and takes only from the log what is in this copy of it. By another
        // process: to close one of the files here would give up the locks on it.
        for ending in ["-wal", ""] {
            let done = std::process::Command::new("cp")
                .args([beside(&from, ending), beside(&to, ending)])
                .status()?;
            if !done.success() {
                return Err(format!("cp: {done}").into());
            }
        }
        still.rollback().await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
        Ok(())
    }

    /// They go on with the files that were copied.
    fn stores_reconnect(&self) -> bool {
        false
    }
}
