//! Results, as files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Guarantee, Server};

/// How a guarantee ended on a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Outcome {
    /// It holds.
    Kept,
    /// It does not hold.
    Broken,
    /// The store does not claim the capability that it is about, and answers so.
    Unsupported,
    /// The backend has no hook to find out.
    Untested,
}

/// One result: what `CONFORMANCE_REPORT_DIR` gets a JSON file of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The backend's name.
    pub backend: String,
    /// The version of the crate that has the store.
    pub backend_version: String,
    /// The server behind the store.
    pub server: String,
    /// The version that the server reported.
    pub server_version: String,
    /// The guarantee's topic.
    pub group: String,
    /// The guarantee's name.
    pub guarantee: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the guarantee is new, and fails no run.
    pub provisional: bool,
    /// Why it is broken, unsupported or untested. Empty if kept.
    pub reason: String,
    /// How long it took.
    pub milliseconds: u64,
}

impl Report {
    pub(crate) fn new(
        (backend, backend_version): (&str, &str),
        server: Server,
        guarantee: &Guarantee,
        (outcome, reason): (Outcome, String),
        took: Duration,
    ) -> Self {
        Self {
            backend: backend.to_owned(),
            backend_version: backend_version.to_owned(),
            server: server.name,
            server_version: server.version,
            group: guarantee.group.to_owned(),
            guarantee: guarantee.name.to_owned(),
            outcome,
            provisional: guarantee.provisional,
            reason,
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Writes the result to `dir/<backend>.<server>.<guarantee>.json`, over the one of an earlier run.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, or the file not written.
    pub fn write(&self, dir: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let plain = |text: &str| text.replace(|each: char| !each.is_ascii_alphanumeric(), "-");
        let (backend, server) = (plain(&self.backend), plain(&self.server));
        let path = dir.join(format!("{backend}.{server}.{}.json", self.guarantee));
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        fs::write(&path, text)?;
        Ok(path)
    }
}
