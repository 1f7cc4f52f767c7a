//! sqlx: one statement for each call, which is a transaction of its own.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use session_bench::{
    Result,
    contest::{self, Contestant, Held, TOUCH_EVERY, TTL},
};
use session_core::async_trait;
use session_sqlite::sqlx::{
    Row, Sqlite, SqlitePool, query,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
    },
};

/// Connections that read, as session-sqlite has.
const READERS: u32 = 4;

/// sqlx with statements that are prepared once. SQLite has one writer at a time: who writes waits for the one connection, not for
/// the lock of the file.
pub(crate) struct Raw {
    readers: SqlitePool,
    writer: SqlitePool,
    value: Vec<u8>,
}

impl Raw {
    /// In a file of its own, which is made; sessions of `size` bytes.
    pub(crate) async fn open(file: &Path, size: usize) -> Result<Self> {
        let mut value = vec![0; size];
        fastrand::fill(&mut value);
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                // Nobody closes the file.
                .test_before_acquire(false)
                .connect_with(options.clone())
        };
        let writer = pool(1).await?;
        query(
            "CREATE TABLE sessions (
                 key BLOB NOT NULL PRIMARY KEY,
                 value BLOB NOT NULL,
                 version BLOB NOT NULL,
                 expires_at INTEGER NOT NULL)",
        )
        .execute(&writer)
        .await?;
        Ok(Self {
            readers: pool(READERS).await?,
            writer,
            value,
        })
    }

    /// Executes a statement that changes one row.
    async fn change(&self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<()> {
        match query.execute(&self.writer).await?.rows_affected() {
            1 => Ok(()),
            _ => Err("the session is not there, or has another version".into()),
        }
    }
}

/// The time, in milliseconds since 1970, so much later.
fn after(length: Duration) -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from((since.unwrap_or_default() + length).as_millis()).unwrap_or(i64::MAX)
}

fn now() -> i64 {
    after(Duration::ZERO)
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> &'static str {
        "sqlx"
    }

    async fn create(&self) -> Result<Held> {
        let held = Held::random();
        let query = query("INSERT INTO sessions (key, value, version, expires_at) VALUES (?, ?, ?, ?)")
            .bind(&held.id[..])
            .bind(&self.value[..])
            .bind(&held.version[..])
            .bind(after(TTL));
        self.change(query).await?;
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let query = query("SELECT value, expires_at FROM sessions WHERE key = ? AND expires_at > ?")
            .bind(&held.id[..])
            .bind(now());
        let row = query.fetch_optional(&self.readers).await?;
        let value: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
        match value {
            Some(value) if value.len() == self.value.len() => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let version = contest::version();
        let query = query(
            "UPDATE sessions SET value = ?, version = ?, expires_at = ?
             WHERE key = ? AND version = ? AND expires_at > ?",
        )
        .bind(&self.value[..])
        .bind(&version[..])
        .bind(after(TTL))
        .bind(&held.id[..])
        .bind(&held.version[..])
        .bind(now());
        self.change(query).await?;
        held.version = version;
        Ok(())
    }

    async fn touch(&self, held: &Held) -> Result<()> {
        let query = query("UPDATE sessions SET expires_at = ? WHERE key = ? AND expires_at > ?")
            .bind(after(TTL))
            .bind(&held.id[..])
            .bind(now());
        self.change(query).await
    }

    /// As often as ours.
    async fn visit(&self, held: &Held) -> Result<()> {
        self.load(held).await?;
        match fastrand::u32(..TOUCH_EVERY) {
            0 => self.touch(held).await,
            _ => Ok(()),
        }
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        self.change(query("DELETE FROM sessions WHERE key = ?").bind(&held.id[..]))
            .await
    }
}
