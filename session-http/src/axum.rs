//! The session as an argument of axum's handlers.

use std::{error, fmt, sync::Arc};

use axum_core::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::{Error, Session, error::plain, event, layer::Failed};

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, MissingLayer> {
        parts.extensions.get::<Self>().cloned().ok_or(MissingLayer)
    }
}

/// A handler asked for the [`Session`] on a route that no [`SessionLayer`](crate::SessionLayer) wraps. Answered with
/// 500 and a text that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingLayer;

impl MissingLayer {
    const TEXT: &str = "This route has no session: session_http::SessionLayer is missing. \
                        Add .layer(SessionLayer::new(manager)) to the router after this route.\n";
}

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::TEXT.trim_ascii_end())
    }
}

impl error::Error for MissingLayer {}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        event::layer_missing();
        plain(StatusCode::INTERNAL_SERVER_ERROR, Self::TEXT).map(Body::from)
    }
}

impl IntoResponse for Error {
    /// [`Error::response`]. Below a [`SessionLayer`](crate::SessionLayer) nothing is committed, and the layer answers as
    /// it answers a failed commit.
    fn into_response(self) -> Response {
        let mut response = self.response().map(Body::from);
        response.extensions_mut().insert(Failed(Arc::new(self)));
        response
    }
}
