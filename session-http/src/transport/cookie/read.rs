//! `Cookie`: what the client presents.

use http::{HeaderMap, header::COOKIE};

use super::CookieConfig;
use crate::transport::{Form, Found};

impl CookieConfig {
    /// What all `Cookie` fields hold under this name.
    ///
    /// Names are compared exactly, case included: browsers check prefixes without regard to case, so `__host-session`
    /// may have been planted from where `__Host-session` may not. A repeated cookie is tolerated where all that are
    /// well-formed are the same.
    pub(crate) fn find(&self, form: &Form, headers: &HeaderMap) -> Found {
        let values = values(headers, &self.name);
        match &self.signer {
            None => Found::among(form, values),
            // Without a good signature it is nothing, as if it were malformed.
            Some(signer) => Found::among(
                form,
                values.map(|value| signer.verify(&self.name, value).unwrap_or_default()),
            ),
        }
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
