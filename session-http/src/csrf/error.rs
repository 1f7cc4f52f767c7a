//! Why a request was refused, and what a layer cannot be built with.

use std::{error, fmt};

use http::StatusCode;

/// Why a request was refused. The handler did not run, or stopped there, and nothing is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrfError {
    /// A browser says that the request comes from another site, or does not say it clearly. 403.
    Origin,
    /// The session's requests must carry a token, and this one has none where it belongs. 403.
    TokenMissing,
    /// The token is not one of this session since its last log-in, it is damaged, or there are several. 403.
    TokenWrong,
    /// The form is longer than is read to find its token. 413.
    FormTooLong,
    /// The form's body broke off, or could not be read otherwise. 400.
    FormUnreadable,
    /// A handler asked for a token on a route that no [`CsrfLayer`](crate::CsrfLayer) wraps. 500.
    LayerMissing,
}

impl CsrfError {
    /// The status that the client is told by default: it stands at each of the reasons.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Origin | Self::TokenMissing | Self::TokenWrong => StatusCode::FORBIDDEN,
            Self::FormTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::FormUnreadable => StatusCode::BAD_REQUEST,
            Self::LayerMissing => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word for it in the event `csrf_refused`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::TokenMissing => "token_missing",
            Self::TokenWrong => "token_wrong",
            Self::FormTooLong => "form_too_long",
            Self::FormUnreadable => "form_unreadable",
            Self::LayerMissing => "layer_missing",
        }
    }

    /// What the client reads by default.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::Origin => "This request came from another site. Nothing was done.\n",
            Self::TokenMissing | Self::TokenWrong => {
                "This page is out of date. Nothing was done. Please reload it and try again.\n"
            }
            Self::FormTooLong => "This form is too long. Nothing was done.\n",
            Self::FormUnreadable => "This form could not be read. Nothing was done.\n",
            Self::LayerMissing => {
                "This route has no protection against forged requests: session_http::CsrfLayer is missing. \
                 Add .layer(CsrfLayer::new()) to the router, inside SessionLayer.\n"
            }
        }
    }
}

impl fmt::Display for CsrfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Origin => "the request came from another site",
            Self::TokenMissing => "the token is missing",
            Self::TokenWrong => "the token is not this session's",
            Self::FormTooLong => "the form is too long to look for its token",
            Self::FormUnreadable => "the form could not be read",
            Self::LayerMissing => "the route has no CsrfLayer",
        })
    }
}

impl error::Error for CsrfError {}

/// What a [`CsrfLayer`](crate::CsrfLayer) cannot be built with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CsrfConfigError {
    /// The name of the form's field is empty, or holds something else than letters, digits, `-` and `_`.
    Field,
    /// An allowed origin is not written as browsers write it: `https://shop.example` or `http://127.0.0.1:3000`, in
    /// lower case, without a path, without the scheme's own port.
    Origin {
        /// The origin that was given.
        origin: String,
    },
}

impl fmt::Display for CsrfConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field => f.write_str("the field's name is one or more letters, digits, - or _"),
            Self::Origin { origin } => {
                write!(
                    f,
                    "{origin:?} is no origin as browsers write it: https://shop.example, say"
                )
            }
        }
    }
}

impl error::Error for CsrfConfigError {}
