//! `Cookie`: what the client presents, judged before any store is asked.

use http::{HeaderMap, header::COOKIE};
use session_core::SessionId;

use crate::event;

/// What the client presented under the cookie's name.
#[derive(Debug)]
pub(crate) struct Presented {
    /// The one id, if there is exactly one well-formed one.
    pub(crate) id: Option<SessionId>,
    /// Whether there was a cookie of this name at all, whatever its value.
    pub(crate) sent: bool,
}

/// Reads the cookie `name` from all `Cookie` fields.
///
/// Names are compared exactly, case included: browsers check prefixes without regard to case, so `__host-session` may
/// have been planted from where `__Host-session` may not. A value counts if it is a session id, 43 characters of
/// base64url and nothing else; anything else under this name is reported and passed over. Of several different
/// well-formed values none is used: somebody else has planted one of them, nobody can tell which, and trying them
/// against the store would let the planter choose.
pub(crate) fn read(headers: &HeaderMap, name: &str) -> Presented {
    let mut found: Option<(&[u8], SessionId)> = None;
    let (mut count, mut malformed, mut ambiguous) = (0_usize, 0_usize, false);
    for value in values(headers, name) {
        count += 1;
        match (&found, parse(value)) {
            (_, None) => malformed += 1,
            (None, Some(id)) => found = Some((value, id)),
            // Both come from the client: the time that this takes tells it nothing.
            (Some((first, _)), Some(_)) => ambiguous |= *first != value,
        }
    }
    if malformed > 0 {
        event::cookie_malformed(malformed);
    }
    if count > 1 {
        event::cookie_repeated(count, ambiguous);
    }
    Presented {
        id: found.filter(|_| !ambiguous).map(|(_, id)| id),
        sent: count > 0,
    }
}

/// The values of every cookie of this name, in the order sent. Bytes, not text: another cookie may hold anything.
fn values<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b';'))
        .filter_map(move |pair| {
            pair.trim_ascii()
                .strip_prefix(name.as_bytes())?
                .strip_prefix(b"=")
        })
}

fn parse(value: &[u8]) -> Option<SessionId> {
    if value.len() != SessionId::TEXT_LEN {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
