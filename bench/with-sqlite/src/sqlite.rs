//! What is measured on files.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use session_bench::{
    Result,
    arena::{Arena, Ground},
    contest::{POPULATION, quantile},
    options::Options,
    ours::Ours,
    peer::Peer,
    report::Progress,
};
use session_sqlite::{
    SqliteStore,
    sqlx::{self, SqlitePool},
};
use tempfile::TempDir;
use tower_sessions_rusqlite_store::{RusqliteStore, tokio_rusqlite::Connection};
use tower_sessions_sqlx_store::{
    SqliteStore as SqlxStore,
    sqlx::{
        SqlitePool as PeerPool,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};

use crate::raw::sqlite::Raw;

/// Who takes part.
const WHO: &str = "session-sqlite; tower-sessions, sqlx: tower-sessions-sqlx-store 0.15 with the pool of sqlx 0.8 as it is; \
                   tower-sessions, rusqlite: tower-sessions-rusqlite-store 0.14, one connection; sqlx: the pool of sqlx 0.9, four \
                   connections that read and one that writes, as session-sqlite has; a file each, all in WAL mode with synchronous=FULL";

/// Syncs that are timed, to tell what is beneath all writes.
const SYNCS: usize = 50;

/// A folder, and who is measured in it.
pub(crate) async fn open(options: &Options, progress: &mut Progress) -> Result<Arena> {
    progress.tell("making the files");
    let folder = tempfile::Builder::new().prefix("session-bench-").tempdir()?;
    let told = told(folder.path()).await?;
    let size = options.size;
    let file = |name: &str| folder.path().join(name);
    Ok(Arena {
        contestants: vec![
            Arc::new(Ours::new(
                "session-sqlite",
                SqliteStore::open(file("session.db")).await?,
                size,
            )),
            Arc::new(Peer::new(
                "tower-sessions, sqlx",
                by_sqlx(&file("sqlx-store.db")).await?,
                size,
            )),
            Arc::new(Peer::new(
                "tower-sessions, rusqlite",
                by_rusqlite(&file("rusqlite-store.db")).await?,
                size,
            )),
            Arc::new(Raw::open(&file("sqlx.db"), size).await?),
        ],
        ground: Box::new(Folder { told, _own: folder }),
        who: WHO,
        sessions: POPULATION,
    })
}

async fn by_sqlx(file: &Path) -> Result<SqlxStore> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let store = SqlxStore::new(PeerPool::connect_with(options).await?);
    store.migrate().await?;
    Ok(store)
}

async fn by_rusqlite(file: &Path) -> Result<RusqliteStore> {
    let connection = Connection::open(file).await?;
    connection
        .call(|connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(())
        })
        .await?;
    let store = RusqliteStore::new(connection);
    store.migrate().await?;
    Ok(store)
}

struct Folder {
    told: String,
    /// Removed when dropped.
    _own: TempDir,
}

impl Ground for Folder {
    fn told(&self) -> String {
        self.told.clone()
    }
}

async fn told(folder: &Path) -> Result<String> {
    let memory = SqlitePool::connect("sqlite::memory:").await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&memory)
        .await?;
    let parent = folder.parent().unwrap_or(folder);
    let sync = sync(&folder.join("sync"))?;
    Ok(format!(
        "SQLite {version} in {}, where 4 KiB are written and synced in {} us",
        parent.display(),
        sync.as_micros()
    ))
}

/// How long a small write takes to reach the disk there: the median.
fn sync(file: &Path) -> Result<Duration> {
    let mut file = File::create(file)?;
    let mut lengths = Vec::new();
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        lengths.push(begun.elapsed());
    }
    lengths.sort_unstable();
    Ok(quantile(&lengths, 0.5))
}
