//! Why there is no server.

use std::fmt;

/// The result of a call here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// There is no server. The text says what was tried, and which command provides what is missing.
#[derive(Debug)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
