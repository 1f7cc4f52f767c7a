//! How a guarantee ends, and how it compares.

use std::{fmt, future::Future, panic::Location};

use session_core::{Error, ErrorKind, RandomError, Record, SessionKey, Version};

use crate::{BoxError, Cx};

/// What a guarantee returns: kept, or why not.
pub type Verdict = Result<(), Stop>;

/// Why a guarantee did not end as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It does not hold: what was called, what was expected, what was seen.
    Broken(String),
    /// The store answered that it cannot do this at all. Right if it does not claim to, broken otherwise.
    Unsupported,
    /// The backend has no hook to find out; the backend's reason.
    Untested(String),
}

/// A call that should have succeeded failed.
impl From<Error> for Stop {
    #[track_caller]
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Unsupported => Self::Unsupported,
            _ => unexpected(&error),
        }
    }
}

impl From<BoxError> for Stop {
    #[track_caller]
    fn from(error: BoxError) -> Self {
        unexpected(&error)
    }
}

impl From<RandomError> for Stop {
    #[track_caller]
    fn from(error: RandomError) -> Self {
        unexpected(&error)
    }
}

#[track_caller]
fn unexpected(error: &dyn fmt::Display) -> Stop {
    Stop::Broken(format!(
        "{}: expected: success\nseen: {error}",
        Location::caller()
    ))
}

/// The answer of a call as data: its value, or the kind of its error.
pub(crate) trait Answer<T> {
    fn answer(self) -> Result<T, ErrorKind>;
}

impl<T> Answer<T> for Result<T, Error> {
    fn answer(self) -> Result<T, ErrorKind> {
        self.map_err(|error| error.kind())
    }
}

/// `seen` is what was `expected` of `call`.
#[track_caller]
pub(crate) fn same<T: PartialEq + fmt::Debug>(call: impl fmt::Display, seen: T, expected: T) -> Verdict {
    ensure(seen == expected, || {
        format!("{call}\nexpected: {}\nseen: {}", short(&expected), short(&seen))
    })
}

/// `call` was refused with exactly this kind of error.
#[track_caller]
pub(crate) fn refused<T: fmt::Debug>(
    call: impl fmt::Display,
    seen: Result<T, Error>,
    expected: ErrorKind,
) -> Verdict {
    refused_as(call, seen, |kind| kind == expected, &format!("{expected:?}"))
}

/// `call` was refused with a kind of error that `expected` accepts.
#[track_caller]
pub(crate) fn refused_as<T: fmt::Debug>(
    call: impl fmt::Display,
    seen: Result<T, Error>,
    expected: impl FnOnce(ErrorKind) -> bool,
    expectation: &str,
) -> Verdict {
    let right = seen.as_ref().is_err_and(|error| expected(error.kind()));
    ensure(right, || {
        format!("{call}\nexpected: {expectation}\nseen: {}", short(&seen))
    })
}

/// `key` holds exactly this record in this version.
#[track_caller]
pub(crate) fn loads(
    cx: &Cx,
    key: &SessionKey,
    record: &Record,
    version: Version,
) -> impl Future<Output = Verdict> + Send {
    let (store, key, record, caller) = (cx.store(), *key, record.clone(), Location::caller());
    async move {
        let seen = store.load(&key).await.answer();
        let seen = seen.map(|stored| stored.map(|stored| (stored.record, stored.version)));
        same(format!("load, at {caller}"), seen, Ok(Some((record, version))))
    }
}

/// `right` holds, or the guarantee is broken as `why` says.
#[track_caller]
pub(crate) fn ensure(right: bool, why: impl FnOnce() -> String) -> Verdict {
    match right {
        true => Ok(()),
        false => Err(Stop::Broken(format!("{}: {}", Location::caller(), why()))),
    }
}

/// A value for a message: 64 KiB of data would hide the rest of it.
pub(crate) fn short(value: &impl fmt::Debug) -> String {
    const MOST: usize = 400;
    let text = format!("{value:?}");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}… ({} bytes of text)", &text[..end], text.len()),
        None => text,
    }
}
