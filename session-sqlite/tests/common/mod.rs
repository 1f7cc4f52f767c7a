//! The store on SQLite, registered with the suite: a file for each namespace.

mod behind;
mod copied;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use session_conformance::{Backend, BoxError, Crash, Hook, Raw, Rival, Server, async_trait};
use session_core::SessionStore;
use session_sqlite::{
    SqliteStore,
    sqlx::{
        self, SqlitePool,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    },
};

use self::{behind::Behind, copied::Copied};

/// A machine that builds and tests at once may be slow; that a deadline is kept is shown by the suite.
const DEADLINE: Duration = Duration::from_secs(3);

pub(crate) struct Files {
    folder: PathBuf,
    version: String,
}

#[async_trait]
impl Backend for Files {
    const NAME: &'static str = "sqlite";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    async fn start() -> Result<Self, BoxError> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sqlite");
        // Of an earlier run.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let pool = SqlitePool::connect("sqlite::memory:").await?;
        let version = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&pool)
            .await?;
        Ok(Self { folder, version })
    }

    fn server(&self) -> Server {
        Server::new("SQLite", self.version.clone())
    }

    async fn open(&self, namespace: &str) -> Result<Arc<dyn SessionStore>, BoxError> {
        opened(&self.file(namespace)).await
    }

    fn reason(hook: Hook) -> &'static str {
        match hook {
            Hook::Wire => "a file is not reached over a wire",
            Hook::Skewed => "there is no other clock than this machine's",
            _ => "not registered",
        }
    }

    async fn unreachable(&self) -> Option<Arc<dyn SessionStore>> {
        let store = SqliteStore::builder(self.folder.join("no folder/sessions.db")).build();
        Some(Arc::new(store.ok()?))
    }

    async fn raw(&self, namespace: &str) -> Option<Arc<dyn Raw>> {
        Some(Arc::new(Behind::new(pool(&self.file(namespace)))))
    }

    async fn rival(&self, namespace: &str) -> Option<Arc<dyn Rival>> {
        Some(Arc::new(Behind::new(pool(&self.file(namespace)))))
    }

    async fn crash(&self, namespace: &str) -> Option<Result<Arc<dyn Crash>, BoxError>> {
        let crash: Arc<dyn Crash> = Arc::new(Copied::new(self.file(namespace)));
        Some(Ok(crash))
    }
}

impl Files {
    fn file(&self, namespace: &str) -> PathBuf {
        self.folder.join(format!("{namespace}.db"))
    }
}

async fn opened(path: &Path) -> Result<Arc<dyn SessionStore>, BoxError> {
    let store = SqliteStore::builder(path)
        .read_deadline(DEADLINE)
        .write_deadline(DEADLINE)
        .connect_deadline(DEADLINE)
        .build()?;
    store.ready().await?;
    Ok(Arc::new(store))
}

/// Connections as another program has them.
fn pool(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path);
    SqlitePoolOptions::new().connect_lazy_with(options)
}
