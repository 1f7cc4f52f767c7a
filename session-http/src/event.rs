//! The events, with stable names in the field `event`. None holds a cookie's value or an id. With the feature `metrics` each is
//! counted too.

use session_core::EventInfo;

use crate::Error;

/// The target of every event of this crate.
pub(crate) const TARGET: &str = "session_http";

/// One line for each event: its level, its name, and what it means. An event that is not here has no name to be emitted by.
macro_rules! events {
    ($($level:literal $name:ident $meaning:literal)*) => {
        /// Every event of this crate; [`session_core::EVENTS`] are those of the one below.
        pub const EVENTS: &[EventInfo] = &[$(EventInfo::new(stringify!($name), $level, $meaning),)*];

        // Without all features some are never emitted.
        #[allow(non_upper_case_globals, dead_code)]
        mod name {
            $(pub(super) const $name: &str = stringify!($name);)*
        }
    };
}

events! {
    "WARN" credential_malformed "what a client presented for its session is none; it was not used"
    "WARN" credential_over_http "what belongs on HTTPS alone came over plain HTTP; it was not used"
    "WARN" credential_repeated "a request presents more than one session by one transport; if they differ, none was used"
    "ERROR" credential_withheld "a session was not handed out, because its request came over plain HTTP"
    "WARN" csrf_refused "a request was refused: it may be forged"
    "ERROR" layer_missing "a route lacks SessionLayer or CsrfLayer, or has them in the wrong order"
    "ERROR" outage_layer_outside "an OutageLayer stands outside SessionLayer, where it does nothing"
    "WARN" outage_tolerated "a request was answered without its session, because the store cannot be reached"
    "WARN, ERROR" session_failed "a session could not be loaded, changed or committed; at ERROR where it is not the client's to repeat"
    "WARN" set_cookie_replaced "the application set a cookie of the session's name; it was dropped"
    "INFO, WARN" token_refused "a client's token is no session; at INFO where an honest client may come with it"
    "WARN" transport_ignored "a request presents a session by one transport and something else by another, which was not used"
}

/// Emits an event, and counts it, perhaps with a label.
macro_rules! emit {
    ($level:ident $name:ident $(label $label:ident = $value:expr)?, $($event:tt)+) => {{
        tracing::event!(target: TARGET, tracing::Level::$level, event = name::$name, $($event)+);
        #[cfg(feature = "metrics")]
        {
            let label = emit!(@label $($label = $value)?);
            crate::metrics::count(name::$name, label);
        }
    }};
    (@label) => { None };
    (@label $label:ident = $value:expr) => { Some((stringify!($label), $value.into())) };
}

pub(crate) fn credential_malformed(transport: &'static str, values: usize) {
    emit!(
        WARN credential_malformed,
        transport,
        values,
        "what a client presented for its session is none; it was not used"
    );
}

pub(crate) fn credential_repeated(transport: &'static str, values: usize, ambiguous: bool) {
    emit!(
        WARN credential_repeated,
        transport,
        values,
        ambiguous,
        "a request presents more than one session by one transport; if ambiguous, none was used"
    );
}

pub(crate) fn credential_over_http(transport: &'static str) {
    emit!(
        WARN credential_over_http,
        transport,
        "what belongs on HTTPS alone came over plain HTTP; it was not used"
    );
}

pub(crate) fn credential_withheld(transport: &'static str) {
    emit!(
        ERROR credential_withheld,
        transport,
        "a session is not handed out over plain HTTP: serve HTTPS, tell the manager's scheme_source where HTTPS ends, \
         or use insecure_for_development"
    );
}

pub(crate) fn transport_ignored(transport: &'static str) {
    emit!(
        WARN transport_ignored,
        transport,
        "a request presents a session by one transport and something else by another, which was not used"
    );
}

/// At `INFO` what an honest client may come with, at `WARN` what somebody made.
#[cfg(feature = "sealed")]
pub(crate) fn token_refused(reason: &'static str, is_ordinary: bool) {
    match is_ordinary {
        true => {
            emit!(INFO token_refused label reason = reason, reason, "a client's token is no session any more")
        }
        false => emit!(WARN token_refused label reason = reason, reason, "a client's token is no session"),
    }
}

pub(crate) fn set_cookie_replaced(cookies: usize) {
    emit!(
        WARN set_cookie_replaced,
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
        emit!(
            WARN session_failed label status = status.as_str().to_owned(),
            status = status.as_u16(),
            source,
            "{error}"
        );
    } else {
        emit!(
            ERROR session_failed label status = status.as_str().to_owned(),
            status = status.as_u16(),
            source,
            "{error}"
        );
    }
}

#[cfg(feature = "tower")]
pub(crate) fn outage_tolerated() {
    emit!(
        WARN outage_tolerated,
        "the store cannot be reached; the request was answered without its session"
    );
}

#[cfg(feature = "tower")]
pub(crate) fn outage_layer_outside() {
    emit!(
        ERROR outage_layer_outside,
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
    emit!(
        ERROR layer_missing,
        "a handler asked for the session on a route without SessionLayer"
    );
}

/// At `WARN` what a client sent, at `ERROR` what the application left out.
#[cfg(feature = "csrf")]
fn csrf_refused(error: &crate::CsrfError) {
    match error {
        crate::CsrfError::LayerMissing => emit!(
            ERROR layer_missing,
            "a handler asked for a token on a route without CsrfLayer"
        ),
        error => emit!(
            WARN csrf_refused label reason = error.reason(),
            reason = error.reason(),
            "a request was refused: it may be forged"
        ),
    }
}

#[cfg(feature = "csrf")]
pub(crate) fn csrf_layer_outside() {
    emit!(
        ERROR layer_missing,
        "CsrfLayer found no session: it belongs inside SessionLayer"
    );
}
