//! Why a backend has no store to give.

use std::{error, fmt};

use crate::Error;

/// Why a backend that was asked to connect has no store to give. `C` is what it says of a configuration that cannot be.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError<C> {
    /// What was configured, by a URL say, cannot be.
    Config(C),
    /// It may be right, and the server cannot be used: it does not answer, or not to this user, or is another one.
    Store(Error),
}

impl<C> From<Error> for ConnectError<C> {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl<C: fmt::Display> fmt::Display for ConnectError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl<C: error::Error + 'static> error::Error for ConnectError<C> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Store(error) => error.source(),
        }
    }
}
