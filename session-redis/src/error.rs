//! What the client and the server said, in the words of the contract.

use redis::{RedisError, ServerErrorKind, Value};
use session_core::{Error, ErrorKind, Result};

use crate::{BACKEND, connection::Failure};

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let unavailable = || Self::new(ErrorKind::Unavailable, BACKEND);
        match failure {
            Failure::Redis(error) => of(&error),
            Failure::Connect(limit) => {
                unavailable().with_detail(format!("connecting took longer than {limit:?}"))
            }
            Failure::Deadline(limit) => unavailable().with_detail(format!("no reply within {limit:?}")),
            Failure::Ended => unavailable().with_detail("the runtime that connected has ended"),
        }
    }
}

/// The client's error.
pub(crate) fn of(error: &RedisError) -> Error {
    use redis::ErrorKind as Redis;
    let kind = match (error.kind(), error.code()) {
        // `maxmemory` is reached and nothing may be evicted. Sessions that exist can be read, touched and deleted.
        (_, Some("OOM")) => ErrorKind::Full,
        // Another program keeps a list or a set under the key of a session.
        (_, Some("WRONGTYPE")) => ErrorKind::Corrupt,
        // A script or a command that does not exist there: an older server than 7.0, or one that renamed commands. The
        // contract has no word for a server that is the wrong one, and a store that never works is down.
        (Redis::Server(ServerErrorKind::ResponseError), _) => ErrorKind::Unavailable,
        // Wrong user or password, or an ACL that forbids a command: somebody has to change that, and meanwhile the
        // store is down. It is not tried again within a call.
        (Redis::AuthenticationFailed | Redis::Server(ServerErrorKind::NoPerm), _)
        | (_, Some("NOAUTH" | "WRONGPASS")) => ErrorKind::Unavailable,
        // A replica: a failover is under way, or the address is wrong. Nothing was written.
        (Redis::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown), _) => ErrorKind::Unavailable,
        // Loading, busy with a script, too few replicas, cannot save to disk: passes, or somebody sees to it.
        (Redis::Server(ServerErrorKind::BusyLoading), _) | (_, Some("BUSY" | "NOREPLICAS" | "MISCONF")) => {
            ErrorKind::Unavailable
        }
        // A node of a Cluster, to which this store does not speak.
        (Redis::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::ClusterDown), _) => {
            ErrorKind::Unavailable
        }
        // Refused, reset, closed, no such host, replies that are none: whether a write arrived is unknown.
        // And whatever a newer server says: nothing is made of what is not understood.
        _ => ErrorKind::Unavailable,
    };
    let told = Error::new(kind, BACKEND).with_detail(detail(error));
    match error.is_io_error() {
        // A server's text is not passed on whole: it may repeat what it was sent.
        true => told.with_source(error.clone()),
        false => told,
    }
}

/// A reply that no server gives: the connection is out of step, or something else answers.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, BACKEND).with_detail(what)
}

/// The number in a reply.
pub(crate) fn integer(value: Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(number),
        Value::ServerError(error) => Err(of(&error.into())),
        _ => Err(unexpected(
            "the server answered with something else than a number",
        )),
    }
}

/// What an operator should know. Neither the password, which no server repeats, nor what was sent.
fn detail(error: &RedisError) -> String {
    const MOST: usize = 200;
    let text = match error.kind() {
        redis::ErrorKind::AuthenticationFailed => {
            return "the server refused the user or the password".to_owned();
        }
        _ => match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => error.to_string(),
        },
    };
    // "unknown command 'x', with args beginning with: …"
    let text = text.split(", with args").next().unwrap_or_default();
    text.chars().take(MOST).collect()
}
