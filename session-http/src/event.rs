//! The events, with stable names in the field `event`. None holds a cookie's value or an id.

use crate::Error;

/// The target of every event of this crate.
pub(crate) const TARGET: &str = "session_http";

pub(crate) fn credential_malformed(transport: &'static str, values: usize) {
    tracing::warn!(
        target: TARGET,
        event = "credential_malformed",
        transport,
        values,
        "what a client presented for its session is none; it was not used"
    );
}

pub(crate) fn credential_repeated(transport: &'static str, values: usize, ambiguous: bool) {
    tracing::warn!(
        target: TARGET,
        event = "credential_repeated",
        transport,
        values,
        ambiguous,
        "a request presents more than one session by one transport; if ambiguous, none was used"
    );
}

pub(crate) fn credential_over_http(transport: &'static str) {
    tracing::warn!(
        target: TARGET,
        event = "credential_over_http",
        transport,
        "what belongs on HTTPS alone came over plain HTTP; it was not used"
    );
}

pub(crate) fn credential_withheld(transport: &'static str) {
    tracing::error!(
        target: TARGET,
        event = "credential_withheld",
        transport,
        "a session is not handed out over plain HTTP: serve HTTPS, tell the manager's scheme_source where HTTPS ends, \
         or use insecure_for_development"
    );
}

pub(crate) fn transport_ignored(transport: &'static str) {
    tracing::warn!(
        target: TARGET,
        event = "transport_ignored",
        transport,
        "a request presents a session by one transport and something else by another, which was not used"
    );
}

/// At `INFO` what an honest client may come with, at `WARN` what somebody made.
#[cfg(feature = "sealed")]
pub(crate) fn token_refused(reason: &'static str, is_ordinary: bool) {
    const TEXT: &str = "a client's token is no session";
    match is_ordinary {
        true => tracing::info!(target: TARGET, event = "token_refused", reason, "{TEXT}"),
        false => tracing::warn!(target: TARGET, event = "token_refused", reason, "{TEXT}"),
    }
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
    if status.is_client_error() {
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

#[cfg(feature = "tower")]
pub(crate) fn outage_tolerated() {
    tracing::warn!(
        target: TARGET,
        event = "outage_tolerated",
        "the store cannot be reached; the request was answered without its session"
    );
}

#[cfg(feature = "tower")]
pub(crate) fn outage_layer_outside() {
    tracing::error!(
        target: TARGET,
        event = "outage_layer_outside",
        "an OutageLayer found no session: put it inside SessionLayer; until then its routes fail closed"
    );
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
