//! What the client and the server said, in the words of the contract.

use redis::{RedisError, ServerErrorKind};
use session_core::{Error, ErrorKind};

use crate::{BACKEND, connection::Failure};

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let text = match failure {
            Failure::Redis { error, .. } => return of(&error),
            Failure::Connect(limit) => format!("connecting took longer than {limit:?}"),
            Failure::Deadline(limit) => format!("no reply within {limit:?}"),
            Failure::Nowhere(text) => text,
            Failure::Strange(what) => return unexpected(what),
            // The primary has it, and the replicas will unless it is lost before: whoever asks again finds it.
            Failure::Replicas {
                confirmed,
                wanted,
                within,
            } => format!("written, but {confirmed} of {wanted} replicas confirmed it within {within:?}"),
            Failure::Unconfirmed => {
                "written, but the connection broke before replicas confirmed it".to_owned()
            }
            Failure::Full => "too many calls are waiting for the server".to_owned(),
            Failure::Ended => "the runtime that had the connection, or the call, has ended".to_owned(),
        };
        Self::new(ErrorKind::Unavailable, BACKEND).with_detail(text)
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
        // A Cluster that has lost a part of its slots, or a node of one that was taken for a server of its own.
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

/// What an operator should know. Neither the password, which no server repeats, nor what was sent.
pub(crate) fn detail(error: &RedisError) -> String {
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
