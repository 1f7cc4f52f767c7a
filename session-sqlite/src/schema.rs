//! The file, and how it came to be.

use std::{io, path::Path, sync::Mutex};

use session_core::{Error, ErrorKind};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use crate::error::{self, Failure, fail, unavailable};

/// "SSN1": what the header of the file says, so that it is not taken for another program's.
/// <https://www.sqlite.org/fileformat2.html#application_id>
pub(crate) const APPLICATION: i32 = i32::from_be_bytes(*b"SSN1");

/// Bytes of a page, unless somebody has set them otherwise. <https://www.sqlite.org/pragma.html#pragma_page_size>
pub(crate) const PAGE: u64 = 4096;

/// What leads from each version of the table to the next. A released one never changes.
///
/// Ends are indexed by the hour, so that a touch within the hour changes no index.
const MIGRATIONS: &[&str] = &["CREATE TABLE sessions (
         key BLOB NOT NULL PRIMARY KEY,
         value BLOB NOT NULL,
         subject BLOB,
         expires_at INTEGER NOT NULL,
         sweep INTEGER NOT NULL
     );
     CREATE INDEX sessions_subject ON sessions (subject) WHERE subject IS NOT NULL;
     CREATE INDEX sessions_sweep ON sessions (sweep);"];

/// While a file is made, no other store of this process opens it: on POSIX systems, to close a file gives up the locks
/// that the process has on it. <https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>
static MAKING: Mutex<()> = Mutex::new(());

/// Makes the file, for its owner alone, unless it is there. One that is there is not opened.
pub(crate) fn make(path: &Path) -> Result<(), Error> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let guard = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let made = options.open(path).map(drop);
    drop(guard);
    match made {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match std::fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(()),
            Ok(_) => Err(unavailable("the path does not lead to a file")),
            Err(error) => Err(unavailable(format!("the file cannot be opened: {error}"))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(unavailable("the folder of the file is not there"))
        }
        Err(error) => Err(unavailable(format!("the file cannot be made: {error}"))),
    }
}

/// Brings the file to this version. Who opens it at the same time waits, by trying again.
pub(crate) async fn migrate(connection: &mut SqliteConnection) -> Result<(), Failure> {
    // Looked at first, and without a lock: most files are as they must be, and another program's is left as it is.
    if begun(connection).await? < MIGRATIONS.len() {
        run(connection, "BEGIN IMMEDIATE").await?;
        // Somebody may have been faster.
        for (step, at) in MIGRATIONS.iter().zip(1..).skip(begun(connection).await?) {
            run(connection, step).await?;
            run(connection, &format!("PRAGMA user_version = {at}")).await?;
        }
        run(connection, &format!("PRAGMA application_id = {APPLICATION}")).await?;
        run(connection, "COMMIT").await?;
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode = WAL")
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    match mode.as_str() {
        "wal" => Ok(()),
        mode => Err(Failure::Lost(unavailable(format!(
            "the file system has no memory that processes share, which WAL needs: the file stays in mode {mode:?}"
        )))),
    }
}

/// How many steps the file has behind it.
async fn begun(connection: &mut SqliteConnection) -> Result<usize, Failure> {
    let row = sqlx::query(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_application_id, pragma_user_version",
    )
    .fetch_one(connection)
    .await
    .map_err(error::of)?;
    let number = |at: usize| row.try_get::<i32, _>(at).map_err(error::of);
    match (number(0)?, number(1)?, number(2)?) {
        (0, 0, 0) => Ok(0),
        (APPLICATION, version, _) => match usize::try_from(version) {
            Ok(version) if version <= MIGRATIONS.len() => Ok(version),
            _ => Err(Failure::Lost(fail(ErrorKind::NewerFormat).with_detail(format!(
                "the file is of version {version}; this version knows up to {}",
                MIGRATIONS.len()
            )))),
        },
        _ => Err(Failure::Lost(unavailable(
            "the file is a database of another program",
        ))),
    }
}

pub(crate) async fn run(connection: &mut SqliteConnection, sql: &str) -> Result<(), Failure> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map(drop)
        .map_err(error::of)
}
