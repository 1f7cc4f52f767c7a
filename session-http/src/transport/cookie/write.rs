//! `Set-Cookie`: the id for the browser to keep, or the request to forget it.

use std::time::Duration;

use cookie::{
    Cookie,
    time::{self, OffsetDateTime},
};
use http::HeaderValue;

use super::{CookieConfig, CookieError, SameSite};

impl CookieConfig {
    /// `Set-Cookie` with the credential of a session that `lasts` until its absolute deadline.
    pub(crate) fn store(&self, credential: &str, lasts: Duration) -> Result<HeaderValue, CookieError> {
        let signed = self
            .signer
            .as_ref()
            .map(|signer| signer.sign(&self.name, credential));
        let mut cookie = self.with_value(signed.as_ref().map_or(credential, |signed| signed));
        if self.persistent {
            cookie.set_max_age(time::Duration::seconds(max_age(lasts)));
        }
        to_header(&cookie)
    }

    /// `Set-Cookie` that removes the cookie: the same name and attributes, no value, an end in the past. `Expires`
    /// stands beside `Max-Age=0` for clients that know no other.
    pub(crate) fn removal(&self) -> Result<HeaderValue, CookieError> {
        let mut cookie = self.with_value("");
        cookie.set_max_age(time::Duration::ZERO);
        cookie.set_expires(OffsetDateTime::UNIX_EPOCH);
        to_header(&cookie)
    }

    /// The cookie with all its attributes but those of time.
    fn with_value<'c>(&'c self, value: &'c str) -> Cookie<'c> {
        let mut cookie = Cookie::new(self.name.as_str(), value);
        cookie.set_secure(self.secure);
        cookie.set_http_only(self.http_only);
        cookie.set_same_site(match self.same_site {
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::None => cookie::SameSite::None,
        });
        cookie.set_path(self.path.as_str());
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.as_str());
        }
        cookie.set_partitioned(self.partitioned);
        cookie
    }
}

/// Whether this `Set-Cookie` sets the cookie of that name, as a browser reads it.
pub(crate) fn is_named(set_cookie: &HeaderValue, name: &str) -> bool {
    let pair = set_cookie
        .as_bytes()
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    match pair.iter().position(|&byte| byte == b'=') {
        Some(at) => pair[..at].trim_ascii() == name.as_bytes(),
        None => false,
    }
}

pub(super) fn check_size(size: usize, limit: usize) -> Result<(), CookieError> {
    if size > limit {
        return Err(CookieError::TooLarge { size, limit });
    }
    Ok(())
}

/// Whole seconds, rounded up: the cookie outlives its session by less than a second, never the other way round.
fn max_age(lasts: Duration) -> i64 {
    let seconds = lasts
        .as_secs()
        .saturating_add(u64::from(lasts.subsec_nanos() > 0));
    let capped = seconds.clamp(1, CookieConfig::MAX_AGE_LIMIT);
    i64::try_from(capped).unwrap_or(i64::MAX)
}

/// The whole cookie is measured and its octets checked here, whoever made its value.
fn to_header(cookie: &Cookie<'_>) -> Result<HeaderValue, CookieError> {
    check_size(
        cookie.name().len() + cookie.value().len(),
        CookieConfig::SIZE_LIMIT,
    )?;
    if !cookie.value().bytes().all(is_cookie_octet) {
        return Err(CookieError::Value);
    }
    let mut header = HeaderValue::try_from(cookie.to_string()).map_err(|_| CookieError::Value)?;
    // `Debug` then hides it, and HTTP/2 keeps it out of the compression table.
    header.set_sensitive(true);
    Ok(header)
}

/// RFC 6265bis, section 4.1.1: `cookie-octet`.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}
