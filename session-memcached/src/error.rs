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
    /// The server refused it, or one before it in the same batch, and nothing else is known.
    Suspected(Error),
}

impl Failure {
    /// What a failure is that many commands of a batch share: a refusal is the first one's, and those after it were sent
    /// and not answered.
    pub(crate) fn at(self, first: bool) -> Self {
        match self {
            Self::Suspected(error) if first => Self::Refused(error),
            Self::Suspected(error) => Self::Lost(error),
            other => other,
        }
    }

    /// Whether the server is there, and has no memory: nothing is wrong with the way to it.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Refused(error) | Self::Lost(error) if error.kind() == ErrorKind::Full)
    }

    /// With another text.
    pub(crate) fn told(self, tell: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::NotSent(error) => Self::NotSent(tell(error)),
            Self::Lost(error) => Self::Lost(tell(error)),
            Self::Refused(error) => Self::Refused(tell(error)),
            Self::Suspected(error) => Self::Suspected(tell(error)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(error)
            | Failure::Lost(error)
            | Failure::Refused(error)
            | Failure::Suspected(error) => error,
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
        // The client says so of commands that change something, when they were sent and not answered.
        Client::Ambiguous { source, .. } => match of(*source) {
            Failure::Suspected(error) => Failure::Suspected(error),
            other => Failure::Lost(other.into()),
        },
        // It names the key, which the rest of an error does not.
        Client::Timeout { .. } => Failure::NotSent(unavailable("the server does not answer")),
        Client::Io(error) => Failure::NotSent(unavailable(error.to_string())),
        Client::Server(text) => Failure::Suspected(of_server(&text)),
        // "ERROR" is said of an unknown command.
        Client::Rejected(text) if text == "ERROR" => Failure::Suspected(unavailable(
            "the server does not know the meta commands: memcached 1.6 is needed",
        )),
        Client::Rejected(text) => Failure::Suspected(unavailable(told(&text))),
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
