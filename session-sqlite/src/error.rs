//! What SQLite said, in the words of the contract.

use std::time::Duration;

use session_core::{Error, ErrorKind};

use crate::BACKEND;

/// Why a statement has no result.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Another process, or another store of this one, is writing. Nothing was written.
    Busy,
    /// There is no room. Nothing was written.
    Full,
    /// Whatever else: the connection is not used again. Whether a commit was executed is not known.
    Lost(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Busy => locked(),
            Failure::Full => {
                fail(ErrorKind::Full).with_detail("the disk is full, or the file as large as it may be")
            }
            Failure::Lost(error) => error,
        }
    }
}

pub(crate) fn fail(kind: ErrorKind) -> Error {
    Error::new(kind, BACKEND)
}

pub(crate) fn unavailable(detail: impl Into<String>) -> Error {
    fail(ErrorKind::Unavailable).with_detail(detail)
}

/// Until the deadline, another process was writing.
pub(crate) fn locked() -> Error {
    unavailable("another process kept the file locked until the deadline")
}

/// Until the deadline, somebody was writing, who need not be another process: a write of this one may be on its way.
pub(crate) fn not_begun(length: Duration) -> Error {
    unavailable(format!(
        "not begun within {length:?}: another process keeps the file locked, or the disk is slow"
    ))
}

/// Characters of SQLite's text that are told.
const MOST: usize = 200;

/// Result codes: <https://www.sqlite.org/rescode.html>
pub(crate) fn of(error: sqlx::Error) -> Failure {
    let sqlx::Error::Database(database) = &error else {
        return Failure::Lost(match error {
            sqlx::Error::Io(io) => unavailable(io.to_string()),
            other => unavailable(other.to_string().chars().take(MOST).collect::<String>()),
        });
    };
    let code: u32 = database
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    let message: String = database.message().chars().take(MOST).collect();
    // The lower byte is the kind, the rest says more.
    let words = match code & 0xff {
        5 | 6 => return Failure::Busy,
        13 => return Failure::Full,
        8 => "the file, or its folder, may not be written",
        10 => "the disk does not do what it should",
        11 => "the file is damaged",
        14 => "the file cannot be opened: is it there, and may this user read and write it and its folder?",
        26 => "the file is no SQLite database",
        _ => "SQLite",
    };
    Failure::Lost(unavailable(format!("{words}: {message} ({code})")))
}
