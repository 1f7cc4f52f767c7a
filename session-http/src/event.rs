//! The events, with stable names in the field `event`. None holds a cookie's value or an id.

use http::StatusCode;

use crate::Error;

/// The target of every event of this crate.
pub(crate) const TARGET: &str = "session_http";

pub(crate) fn cookie_malformed(cookies: usize) {
    tracing::warn!(
        target: TARGET,
        event = "cookie_malformed",
        cookies,
        "a session cookie holds no session id; it was not used"
    );
}

pub(crate) fn cookie_repeated(cookies: usize, ambiguous: bool) {
    tracing::warn!(
        target: TARGET,
        event = "cookie_repeated",
        cookies,
        ambiguous,
        "the session cookie came more than once; if its values differ, none was used"
    );
}

pub(crate) fn cookie_over_http() {
    tracing::warn!(
        target: TARGET,
        event = "cookie_over_http",
        "a Secure session cookie came over plain HTTP; it was not used"
    );
}

pub(crate) fn set_cookie_withheld() {
    tracing::error!(
        target: TARGET,
        event = "set_cookie_withheld",
        "a Secure cookie is not sent over plain HTTP: serve HTTPS, tell the manager's scheme_source where HTTPS ends, \
         or use CookieConfig::insecure_for_development"
    );
}

pub(crate) fn set_cookie_replaced(cookies: usize) {
    tracing::warn!(
        target: TARGET,
        event = "set_cookie_replaced",
        cookies,
        "the application set a cookie of the session's name; it was dropped"
    );
}

/// At `WARN` what the client may try again or was told of, at `ERROR` what somebody must look into.
pub(crate) fn session_failed(error: &Error) {
    #[cfg(feature = "csrf")]
    if let Error::Csrf(refused) = error {
        return csrf_refused(refused);
    }
    let status = error.status();
    let source = std::error::Error::source(error).map(ToString::to_string);
    let source = source.as_deref().unwrap_or_default();
    if status == StatusCode::CONFLICT {
        tracing::warn!(
            target: TARGET,
            event = "session_failed",
            status = status.as_u16(),
            source,
            "{error}"
        );
    } else {
        tracing::error!(
            target: TARGET,
            event = "session_failed",
            status = status.as_u16(),
            source,
            "{error}"
        );
    }
}

/// The span of what follows the response; its parent is the request's.
#[cfg(feature = "tower")]
pub(crate) fn upkeep() -> tracing::Span {
    tracing::debug_span!(target: TARGET, "upkeep")
}

#[cfg(feature = "axum")]
pub(crate) fn layer_missing() {
    tracing::error!(
        target: TARGET,
        event = "layer_missing",
        "a handler asked for the session on a route without SessionLayer"
    );
}

/// At `WARN` what a client sent, at `ERROR` what the application left out.
#[cfg(feature = "csrf")]
fn csrf_refused(error: &crate::CsrfError) {
    match error {
        crate::CsrfError::LayerMissing => tracing::error!(
            target: TARGET,
            event = "layer_missing",
            "a handler asked for a token on a route without CsrfLayer"
        ),
        error => tracing::warn!(
            target: TARGET,
            event = "csrf_refused",
            reason = error.reason(),
            "a request was refused: it may be forged"
        ),
    }
}

#[cfg(feature = "csrf")]
pub(crate) fn csrf_layer_outside() {
    tracing::error!(
        target: TARGET,
        event = "layer_missing",
        "CsrfLayer found no session: it belongs inside SessionLayer"
    );
}
