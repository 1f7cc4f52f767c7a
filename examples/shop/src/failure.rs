//! What can go wrong in a request, and the page that says so.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, StatusCode, header},
    response::{IntoResponse, Response as AxumResponse},
};
use session_core::{ErrorKind, SessionError};
use session_http::{CsrfError, Error};
use tracing::{info, warn};

use crate::pages::error::{self, Way};

/// Why a request was not answered as asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The session cannot be read or changed.
    Session(Error),
    /// There is no such page.
    NoSuchPage,
    /// The page is there, but not for this method.
    WrongMethod,
    /// The shop does not sell that.
    NoSuchProduct,
    /// The form is not one of the shop's: the status tells which way.
    Form(StatusCode),
    /// The note is too long.
    LongNote,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Session(error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Session(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> AxumResponse {
        let page = match self {
            // The layer commits nothing then, and answers with `session`, as to a failed commit.
            Self::Session(error) => return error.into_response(),
            Self::NoSuchPage => error::page(
                StatusCode::NOT_FOUND,
                "There is no such page",
                "The address may be mistyped, or the page may have moved.",
                Way::List,
            ),
            Self::WrongMethod => error::page(
                StatusCode::METHOD_NOT_ALLOWED,
                "This page cannot be asked that way",
                "Its forms know how. Please begin at the list.",
                Way::List,
            ),
            Self::NoSuchProduct => error::page(
                StatusCode::NOT_FOUND,
                "We do not sell that",
                "It may be gone from the catalogue. The rest of your cart is as it was.",
                Way::List,
            ),
            Self::Form(status) => form(status),
            Self::LongNote => error::page(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The note is too long",
                "A note has at most 200 characters. Nothing was changed: go back and shorten it.",
                Way::Preferences,
            ),
        };
        page.map(Body::from)
    }
}

/// The page for a session that cannot be read or changed, for [`session_http`]'s layer, which leaves the visitor's
/// cookie alone: what is stored may be readable again in a moment.
pub(crate) fn session(error: &Error) -> Response<Bytes> {
    let error = match error {
        Error::Session(error) => error,
        // `session_http` has logged it.
        Error::Csrf(refused) => return forged(refused),
        error => {
            warn!(%error, "a session's cookie could not be made");
            return unreadable();
        }
    };
    match error {
        SessionError::Gone => {
            info!("a session was ended while it was being used");
            return gone();
        }
        error => warn!(%error, "a session could not be read or changed"),
    }
    match error {
        SessionError::TooLarge { .. } => error::page(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Your session is full",
            "It cannot hold more. Nothing was changed.",
            Way::List,
        ),
        SessionError::Contended { .. } => unavailable(),
        SessionError::Store(error) => match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Full | ErrorKind::NewerFormat => unavailable(),
            ErrorKind::Unsupported => error::page(
                StatusCode::NOT_IMPLEMENTED,
                "This store cannot do that",
                "It keeps no index of users, so your other sessions cannot be found. Nothing was changed.",
                Way::Session,
            ),
            _ => unreadable(),
        },
        _ => unreadable(),
    }
}

/// The page for a request that another site may have made.
fn forged(refused: &CsrfError) -> Response<Bytes> {
    match refused {
        CsrfError::Origin => error::page(
            StatusCode::FORBIDDEN,
            "Another site sent this form",
            "We only take forms from our own pages. Nothing was changed.",
            Way::List,
        ),
        CsrfError::TokenMissing | CsrfError::TokenWrong => error::page(
            StatusCode::FORBIDDEN,
            "This form is out of date",
            "Its page was opened before you logged in, or for another login. Nothing was changed: go back, reload \
             the page and send it again.",
            Way::List,
        ),
        CsrfError::LayerMissing => unreadable(),
        refused => form(refused.status()),
    }
}

/// The page for a form that is not one of the shop's.
fn form(status: StatusCode) -> Response<Bytes> {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return error::page(
            status,
            "That is too much",
            "The form is larger than any of ours. Nothing was changed.",
            Way::List,
        );
    }
    error::page(
        status,
        "We could not read the form",
        "Something in it is missing or is not what we expect. Nothing was changed.",
        Way::List,
    )
}

fn gone() -> Response<Bytes> {
    error::page(
        StatusCode::CONFLICT,
        "You have been logged out",
        "This session was ended in the meantime: it was logged out in another tab or on another device, or it \
         expired. What you just asked for was not done.",
        Way::Login,
    )
}

fn unavailable() -> Response<Bytes> {
    let mut page = error::page(
        StatusCode::SERVICE_UNAVAILABLE,
        "We cannot reach your session right now",
        "Your session and your cart are kept. Please try again in a moment; what you just asked for may or may not \
         have been done.",
        Way::Again,
    );
    page.headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    page
}

fn unreadable() -> Response<Bytes> {
    error::page(
        StatusCode::INTERNAL_SERVER_ERROR,
        "We cannot read your session",
        "Something is wrong on our side. Nothing was changed or deleted.",
        Way::Again,
    )
}
