//! Where sessions are kept: what the servers share.

use std::path::Path;

use session_bench::Result;
use session_testbed::{Kind, RedisServer};
use tempfile::TempDir;

use super::variant::{Place, Variant};

/// A folder for files and, if it is needed, a Redis. They are removed when dropped.
pub(super) struct Places {
    folder: TempDir,
    redis: Option<Redis>,
}

struct Redis {
    url: String,
    version: String,
    _own: RedisServer,
}

impl Places {
    pub(super) async fn open(variants: &[Variant]) -> Result<Self> {
        let redis = match variants.iter().any(|variant| variant.is_in(Place::Redis)) {
            true => Some(Redis::start().await?),
            false => None,
        };
        let folder = tempfile::Builder::new().prefix("session-bench-").tempdir()?;
        Ok(Self { folder, redis })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of Redis; none where no variant needs it.
    pub(super) fn redis(&self) -> &str {
        self.redis.as_ref().map_or("", |redis| &redis.url)
    }

    pub(super) fn told(&self) -> String {
        let folder = self.folder.path();
        let files = format!("SQLite's file in {}", folder.parent().unwrap_or(folder).display());
        match &self.redis {
            Some(redis) => format!("Redis {}, no persistence; {files}", redis.version),
            None => files,
        }
    }
}

impl Redis {
    async fn start() -> Result<Self> {
        let server = RedisServer::start(Kind::Redis, &["--save", ""]).await?;
        let url = server.direct_url().await?;
        let (_, version) = server.version().await?;
        Ok(Self {
            url,
            version,
            _own: server,
        })
    }
}
