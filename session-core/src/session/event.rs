//! What happens to sessions, declared in one place: each event is a `tracing` event with the field `event`, and with the feature
//! `metrics` a counter. None holds an id or a value. A key, which is no secret, is a field and never a label: labels
//! take a handful of values, all of them in this file or names of errors.

use tracing::{Level, field::display as text};

use super::{OnLimit, SessionError};
use crate::{Error, SessionKey, event::EventInfo};

/// The target of every event of this crate.
const TARGET: &str = "session";

/// One line for each event: its level, its name, its fields, perhaps a label or how many times it counts, and what it means.
/// Makes a function of each, and the list.
macro_rules! session_events {
    ($(
        $level:ident $name:ident($($field:ident: $type:ty = $value:expr),*)
        $(label $label:ident)? $(times $times:ident)?
        $meaning:literal
    )*) => {
        /// Every event of a session's life.
        pub const EVENTS: &[EventInfo] = &[$(
            EventInfo::new(stringify!($name), stringify!($level), $meaning),
        )*];

        $(
            pub(super) fn $name($($field: $type),*) {
                tracing::event!(
                    target: TARGET, Level::$level, event = stringify!($name), $($field = $value,)* $meaning
                );
                #[cfg(feature = "metrics")]
                crate::event::counted!(
                    crate::metrics::EVENTS_TOTAL, $name, times!($($times)?) $(, "reason" => $label)?
                );
            }
        )*
    };
}

/// How often an event counts.
#[cfg(feature = "metrics")]
macro_rules! times {
    () => {
        1
    };
    ($times:ident) => {
        $times
    };
}

session_events! {
    DEBUG created(key: &SessionKey = text(key))
        "a new session was stored"
    TRACE loaded(key: &SessionKey = text(key))
        "a client's id reached its session"
    DEBUG renewed(old: &SessionKey = text(old), new: &SessionKey = text(new))
        "a session was given a new id"
    TRACE touched(key: &SessionKey = text(key))
        "a session's idle time began anew"
    DEBUG expired(key: &SessionKey = text(key))
        "a client's id led to a session at its absolute end"
    DEBUG destroyed(reason: &'static str = reason, sessions: u64 = sessions, key: Option<&SessionKey> = key.map(text))
        label reason times sessions
        "sessions were ended on request; counted by session"

    DEBUG conflict(key: &SessionKey = text(key))
        "a commit lost a race: others had written since it loaded the session"
    DEBUG merged(key: &SessionKey = text(key))
        "after a conflict, the changes were applied to the newer state and written"
    INFO gone(key: Option<&SessionKey> = key.map(text))
        "a commit found its session ended: nothing was written"
    INFO contended(key: Option<&SessionKey> = key.map(text), attempts: u32 = attempts)
        "a commit gave up: others were faster every time"
    DEBUG commit_failed(reason: &'static str = reason, error: &SessionError = text(error))
        label reason
        "a commit failed otherwise; its caller has the error"

    WARN renewal_failed(error: &SessionError = text(error))
        "a periodic renewal failed; the session goes on under its present id"
    INFO renewal_repeated(key: &SessionKey = text(key))
        "a response with a new id never arrived; the id is renewed again"
    WARN upkeep_failed(key: &SessionKey = text(key), error: &SessionError = text(error))
        "after a response, the idle time was not begun anew, or a new id not marked as arrived"
    INFO record_left(key: &SessionKey = text(key), error: &Error = text(error))
        "a record that nobody reaches any more could not be removed; it is left to expire"
    WARN store_unreachable(error: &Error = text(error))
        "a request goes on without its session, read-only, as its route allows"

    DEBUG unknown_id(key: &SessionKey = text(key))
        "a client's id led to nothing: its session has expired or was ended, or the id was made up"
    DEBUG stale_id(key: &SessionKey = text(key), too_deep: bool = too_deep)
        "a retired id led to no session: it has ended, or its id was renewed more often than a request follows"
    WARN retired_id(key: &SessionKey = text(key), used_since: bool = used_since)
        "a retired id came after its grace and was refused; if the new one was used since, somebody kept a copy"
    WARN client_changed(key: &SessionKey = text(key))
        "a session was presented by another kind of client than it began or logged in with"
    WARN too_many_sessions(limit: usize = limit, sessions: usize = sessions, on_limit: OnLimit = tracing::field::debug(on_limit))
        "a log-in found its subject at the limit of sessions"
    WARN unknown_ids_burst(limit: u32 = limit)
        "more unknown ids within a minute than are to be expected: somebody may be guessing"
}

/// Why a session was ended: values of a label.
pub(super) mod reason {
    /// By its own client.
    pub(in crate::session) const LOGOUT: &str = "logout";
    /// With all others of its subject.
    pub(in crate::session) const EVERYWHERE: &str = "everywhere";
    /// From another session of its subject.
    pub(in crate::session) const ELSEWHERE: &str = "elsewhere";
    /// To make room for a newer log-in.
    pub(in crate::session) const LIMIT: &str = "limit";
    /// By the application, for a subject.
    pub(in crate::session) const ADMIN: &str = "admin";
    /// Because a retired id was used.
    pub(in crate::session) const THEFT: &str = "theft";
}
