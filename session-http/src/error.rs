//! What went wrong with a request's session, and how the client is told.

use std::{error, fmt};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use session_core::{Bytes, ErrorKind, SessionError};

#[cfg(feature = "csrf")]
use crate::CsrfError;
use crate::{CookieError, HeaderError};

/// What went wrong with a request's session. Holds no id.
///
/// Made from [`SessionError`], so a handler may return `Result<_, session_http::Error>` and use `?` on the session's
/// calls: with the feature `axum` it is a response, and the layer answers it as it answers a failed commit.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The session could not be loaded, changed or committed.
    Session(SessionError),
    /// The cookie could not be made.
    Cookie(CookieError),
    /// The header field that hands the session out could not be made.
    Header(HeaderError),
    /// The request may be forged, or cannot be told from one that is. The handler did not run.
    #[cfg(feature = "csrf")]
    Csrf(CsrfError),
}

impl Error {
    /// The status that the client is told by default.
    ///
    /// | status | when |
    /// |---|---|
    /// | 503 | the store is unavailable or full, or the record is of a newer version; a later try may succeed |
    /// | 409 | the session was logged out meanwhile, or others were faster every time, or the user is logged in as often as allowed; nothing was written |
    /// | 403 | the last log-in is too long ago for what was asked ([`require_fresh`](session_core::Session::require_fresh)) |
    /// | 500 | everything else: an unreadable or oversized record, a value that its codec refuses, no randomness |
    ///
    /// For a request that [`CsrfLayer`](crate::CsrfLayer) refused, [`CsrfError::status`](crate::CsrfError::status).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Session(SessionError::Store(error)) => match error.kind() {
                ErrorKind::Unavailable | ErrorKind::Full | ErrorKind::NewerFormat => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Session(
                SessionError::Gone | SessionError::Contended { .. } | SessionError::TooManySessions { .. },
            ) => StatusCode::CONFLICT,
            Self::Session(SessionError::NotFresh { .. }) => StatusCode::FORBIDDEN,
            #[cfg(feature = "csrf")]
            Self::Csrf(error) => error.status(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The response that the client gets by default: [`Error::status`] and one line of plain text that tells nothing
    /// of the site's inside. 503 comes with `Retry-After`.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let status = self.status();
        #[cfg(feature = "csrf")]
        if let Self::Csrf(error) = self {
            return plain(status, error.text());
        }
        let text = match status {
            _ if matches!(self, Self::Session(SessionError::TooManySessions { .. })) => {
                "You are logged in on as many devices as allowed. Log out on one of them and try again.\n"
            }
            StatusCode::FORBIDDEN => "This needs a fresh login. Please log in again.\n",
            StatusCode::SERVICE_UNAVAILABLE => {
                "Your session cannot be reached right now. Please try again.\n"
            }
            StatusCode::CONFLICT => {
                "Your session has changed meanwhile; nothing was saved. Please try again.\n"
            }
            _ => "Something went wrong with your session.\n",
        };
        let mut response = plain(status, text);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<CookieError> for Error {
    fn from(error: CookieError) -> Self {
        Self::Cookie(error)
    }
}

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

#[cfg(feature = "csrf")]
impl From<CsrfError> for Error {
    fn from(error: CsrfError) -> Self {
        Self::Csrf(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(_) => f.write_str("the session failed"),
            Self::Cookie(_) => f.write_str("the session's cookie could not be made"),
            Self::Header(_) => f.write_str("the session's header field could not be made"),
            #[cfg(feature = "csrf")]
            Self::Csrf(_) => f.write_str("the request was refused"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            Self::Cookie(error) => Some(error),
            Self::Header(error) => Some(error),
            #[cfg(feature = "csrf")]
            Self::Csrf(error) => Some(error),
        }
    }
}

/// A response of plain text that nobody stores.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
