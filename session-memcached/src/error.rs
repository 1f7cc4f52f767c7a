//! What the client and the server said, in the words of the contract.

use memcache::exp::Error as Client;
use session_core::{Error, ErrorKind};

use crate::BACKEND;

/// Characters of a server's text that are told.
const MOST: usize = 200;

/// Why a command has no result.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// It was not executed, and the connection is gone.
    NotSent(Error),
    /// Whether it was executed is not known; the connection is gone.
    Lost(Error),
    /// The server refused it.
    Refused(Error),
}

impl Failure {
    /// The same for a command that came after the one that it tells of: the client gives a batch up at the first refusal,
    /// and those after it were sent and not answered. What was said of the first is not said of them.
    pub(crate) fn of_later(self) -> Self {
        match self {
            Self::Refused(error) => Self::Lost(unavailable(format!(
                "sent after a command that was refused: {error}"
            ))),
            other => other,
        }
    }

    /// Whether the server is there, and has no memory: nothing is wrong with the way to it.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Refused(error) if error.kind() == ErrorKind::Full)
    }

    /// With another text.
    pub(crate) fn told(self, tell: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::NotSent(error) => Self::NotSent(tell(error)),
            Self::Lost(error) => Self::Lost(tell(error)),
            Self::Refused(error) => Self::Refused(tell(error)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error) | Failure::Lost(error) | Failure::Refused(error) => error,
        }
    }
}

pub(crate) fn fail(kind: ErrorKind) -> Error {
    Error::new(kind, BACKEND)
}

pub(crate) fn unavailable(detail: impl Into<String>) -> Error {
    fail(ErrorKind::Unavailable).with_detail(detail)
}

/// The client's error about a command.
pub(crate) fn of(error: Client) -> Failure {
    match error {
        // The client says so of commands that change something, when they were sent and their reply was none: that may have
        // been a refusal.
        Client::Ambiguous { source, .. } => match of(*source) {
            refused @ Failure::Refused(_) => refused,
            other => Failure::Lost(other.into()),
        },
        // It names the key, which the rest of an error does not.
        Client::Timeout { .. } => Failure::NotSent(unavailable("the server does not answer")),
        Client::Io(error) => Failure::NotSent(unavailable(error.to_string())),
        Client::Server(text) => Failure::Refused(of_server(&text)),
        // "ERROR" is said of an unknown command.
        Client::Rejected(text) if text == "ERROR" => Failure::Refused(unavailable(
            "the server does not know the meta commands: memcached 1.6 is needed",
        )),
        Client::Rejected(text) => Failure::Refused(unavailable(told(&text))),
        // A reply out of turn, or none of this protocol: the connection is given up by the client.
        Client::Protocol(text) => {
            tracing::error!(text = told(&text), "a reply is none to its command");
            Failure::Lost(unavailable("a reply is none to its command"))
        }
        other => Failure::Refused(unavailable(told(&other.to_string()))),
    }
}

fn of_server(text: &str) -> Error {
    let kind = match text {
        // Nothing may be evicted (-M), or nothing of that size can be. <protocol.txt>
        _ if text.contains("out of memory") => ErrorKind::Full,
        // Busy reading what it keeps on disk (extstore), a transient condition, or whatever a newer server says.
        _ => ErrorKind::Unavailable,
    };
    fail(kind).with_detail(told(text))
}

fn told(text: &str) -> String {
    text.chars().take(MOST).collect()
}
