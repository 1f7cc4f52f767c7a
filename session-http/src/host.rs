//! The host that a request asks.

use http::{HeaderMap, HeaderName, Uri, header};

/// The host that was asked: the target's (HTTP/2, and RFC 9112, section 3.2.2), else the header's.
pub(crate) fn own_host<'r>(target: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    match target.authority() {
        Some(authority) => Some(authority.as_str()),
        None => one(headers, &header::HOST)?,
    }
}

/// The header's only value: `None` if it is absent, `Some(None)` if it is there twice or is no text.
pub(crate) fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()))
}
