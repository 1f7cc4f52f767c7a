//! Forged requests: pages of other sites that make a visitor's browser send something with the visitor's cookie.

mod body;
mod error;
mod layer;
mod origin;
mod token;

use http::HeaderName;
use session_core::SessionError;

pub use self::{
    body::CsrfBody,
    error::{CsrfConfigError, CsrfError},
    layer::{CsrfLayer, CsrfLayerBuilder, CsrfService},
    token::{CSRF_ATTRIBUTE, CsrfToken},
};

/// Whose requests must carry a token.
///
/// A visitor without a session needs none: there is nothing that a forged request could use but the login itself, and
/// that is for where the request comes from to tell, and for `SameSite`. A session for everybody who looks at a form
/// would let made-up visitors fill the store (CVE-2015-5143).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RequireToken {
    /// Those of a session that belongs to a subject. A page that was opened before the log-in is refused after it.
    #[default]
    LoggedIn,
    /// Those of any session that is stored, so that nobody's page may change a guest's cart either. The price: a form
    /// that was opened before the session began carries no token, and is refused once it has begun in another tab.
    AnySession,
}

/// What a [`CsrfLayer`] asks for.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    require: RequireToken,
    header: HeaderName,
    field: String,
    longest_form: usize,
    allowed_origins: Vec<String>,
}

impl Settings {
    /// Whether requests of this session must carry a token.
    async fn protect(&self, session: &session_core::Session) -> Result<bool, SessionError> {
        if session.subject().await?.is_some() {
            return Ok(true);
        }
        Ok(match self.require {
            RequireToken::LoggedIn => false,
            // Stored, or about to be.
            RequireToken::AnySession => session.info().await?.is_some() || !session.names().await?.is_empty(),
        })
    }
}
