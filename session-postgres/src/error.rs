//! What the client and the server said, in the words of the contract.

use session_core::{Error, ErrorKind};
use sqlx::error::DatabaseError;

use crate::BACKEND;

/// Why a statement has no result.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The connection broke: whether the statement was executed is not known.
    Lost(Error),
    /// The server refused it as a whole, and will again.
    Refused(Error),
    /// The server refused it as a whole because of what others do at the moment.
    Busy,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(error) | Failure::Refused(error) => error,
            Failure::Busy => locked(),
        }
    }
}

pub(crate) fn fail(kind: ErrorKind) -> Error {
    Error::new(kind, BACKEND)
}

pub(crate) fn unavailable(detail: impl Into<String>) -> Error {
    fail(ErrorKind::Unavailable).with_detail(detail)
}

/// Until the deadline, another transaction had a lock on the record.
pub(crate) fn locked() -> Error {
    unavailable("another transaction kept the record locked until the deadline")
}

/// The reply is none to this statement: the connection is out of step.
pub(crate) fn out_of_step() -> Failure {
    Failure::Lost(unavailable("the reply belongs to another statement"))
}

/// The client's error about a statement.
pub(crate) fn of(error: sqlx::Error) -> Failure {
    match &error {
        sqlx::Error::Database(database) => of_server(&**database),
        // A reply of another shape than the statement has.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnIndexOutOfBounds { .. } => out_of_step(),
        _ => Failure::Lost(of_connection(error)),
    }
}

/// Why there is no connection.
pub(crate) fn of_connection(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(database) => match of_server(&**database) {
            Failure::Lost(error) | Failure::Refused(error) => error,
            Failure::Busy => locked(),
        },
        sqlx::Error::PoolTimedOut => unavailable("no connection of the pool was free"),
        sqlx::Error::PoolClosed => unavailable("the pool is closed"),
        sqlx::Error::Io(io) => unavailable(io.to_string()),
        // The configuration, TLS, a protocol error: none of these texts has a password or a value in it.
        other => unavailable(other.to_string().chars().take(MOST).collect::<String>()),
    }
}

/// Characters of a server's text that are told.
const MOST: usize = 200;

/// SQLSTATE: <https://www.postgresql.org/docs/17/errcodes-appendix.html>
fn of_server(error: &dyn DatabaseError) -> Failure {
    let code = error.code().unwrap_or_default().into_owned();
    // The message, not the detail: that repeats keys and values.
    let message: String = error.message().chars().take(MOST).collect();
    let told = |kind| fail(kind).with_detail(format!("{code}: {message}"));
    match code.as_str() {
        // Serialization failure (a database whose default isolation is not read committed), deadlock, lock timeout:
        // nothing was written, and the next try may succeed.
        "40001" | "40P01" | "55P03" => Failure::Busy,
        // Disk full.
        "53100" => Failure::Refused(told(ErrorKind::Full)),
        // Wrong user or password. The server's text names the user; it is not repeated.
        "28P01" | "28000" => Failure::Refused(unavailable(format!(
            "{code}: the server refused the user or the password"
        ))),
        // The table was never made here, or by another name.
        "42P01" | "3F000" => Failure::Refused(unavailable(format!(
            "{code}: {message}: has PostgresStore::migrate been called?"
        ))),
        // A standby, or a primary that became one: another connection may lead to the new primary.
        "25006" => Failure::Lost(told(ErrorKind::Unavailable)),
        // A shutdown, a crash of another process, a session that was terminated: the connection is gone with it.
        _ if code.starts_with("57P") || code.starts_with("08") => Failure::Lost(told(ErrorKind::Unavailable)),
        _ => Failure::Refused(told(ErrorKind::Unavailable)),
    }
}
