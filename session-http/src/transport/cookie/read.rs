//! `Cookie`: what the client presents.

use http::{HeaderMap, header::COOKIE};

use super::CookieConfig;
use crate::transport::Found;

impl CookieConfig {
    /// What all `Cookie` fields hold under this name.
    ///
    /// Names are compared exactly, case included: browsers check prefixes without regard to case, so `__host-session`
    /// may have been planted from where `__Host-session` may not. A repeated cookie is tolerated where all that are
    /// well-formed are the same.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Found {
        Found::among(values(headers, &self.name))
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
