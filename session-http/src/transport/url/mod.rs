//! The id in the URL, for browsers that keep no cookies.

mod credential;
mod encoder;

use std::{borrow::Cow, fmt, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{CACHE_CONTROL, REFERRER_POLICY, USER_AGENT},
    uri::PathAndQuery,
};
use session_core::{SessionId, Timestamp};

use self::credential::Signer;
pub use self::encoder::UrlEncoder;
pub(crate) use self::encoder::{Site, Written};
use super::{Form, Found};
use crate::KeyRing;

/// Carries the session in the path of the URL (`/cart;sid=…`), for browsers that keep no cookies. Off unless a list of transports
/// has it, and only after a cookie: who sends the cookie is never asked for the URL.
///
/// **An id in a URL is one that others see**: it is in the history, in bookmarks, in logs of proxies, and in links that are
/// passed on (OWASP ASVS 5.0, 14.2.1, forbids it). So what is in the URL is not the id alone. It is bound to the
/// `User-Agent` and the time at which the page was made, by a MAC: a link that is passed on to another browser, or is older than
/// [`valid_for`](UrlConfig::valid_for), is nobody's. Somebody on the same browser version who gets a fresh link is still
/// in the session: take this transport only where a visitor without cookies is worth that.
///
/// - URLs are written by [`Session::urls`](crate::Session::urls) (or [`SessionManager::urls`](crate::SessionManager::urls)),
///   `Location` of a response by itself.
/// - [`UrlLayer`](crate::UrlLayer) around the whole router takes the session out of the path before it is routed.
/// - A periodic renewal of the id reaches the links of one page; those of another tab lead nowhere once its grace is over. Where
///   such visitors log in, consider [`renew_every(None)`](session_core::SessionsBuilder::renew_every).
/// - Responses to a request that carries one say `Referrer-Policy: same-origin`, `Cache-Control: no-store` and
///   `X-Robots-Tag: noindex`. (Not `no-referrer`: forms would then come with `Origin: null`, and look forged.)
///
/// ```
/// use session_http::{CookieConfig, KeyRing, SecretKey, SessionManager, Transport, UrlConfig};
/// # let sessions = session_core::Sessions::builder(std::sync::Arc::new(session_core::MemoryStore::new())).build().unwrap();
///
/// let keys = KeyRing::new(SecretKey::generate().unwrap());
/// let transports: [Transport; 2] = [CookieConfig::default().into(), UrlConfig::new(&keys).into()];
/// let manager = SessionManager::builder(sessions).transports(transports).build().unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct UrlConfig {
    parameter: String,
    signer: Signer,
    valid_for: Duration,
    secure: bool,
}

impl UrlConfig {
    /// The parameter's name unless another is chosen.
    pub const DEFAULT_PARAMETER: &str = "sid";

    /// Signed with the first of these keys, and read with all of them.
    pub fn new(keys: &KeyRing) -> Self {
        Self {
            parameter: Self::DEFAULT_PARAMETER.to_owned(),
            signer: Signer::new(keys),
            valid_for: Duration::from_secs(30 * 60),
            secure: true,
        }
    }

    /// The parameter's name. Default: [`UrlConfig::DEFAULT_PARAMETER`].
    ///
    /// # Errors
    ///
    /// [`UrlError`] unless it is 1 to 32 letters and digits.
    pub fn parameter(mut self, name: &str) -> Result<Self, UrlError> {
        if !(1..=32).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(UrlError::Parameter);
        }
        self.parameter = name.to_owned();
        Ok(self)
    }

    /// How long the links of a page lead to its session, in whole minutes and one more. Default: 30 minutes, the idle time of a
    /// session.
    pub fn valid_for(mut self, length: Duration) -> Self {
        self.valid_for = length;
        self
    }

    /// Also over plain HTTP, for development: everybody on the network path can read and use the URL.
    pub fn insecure_for_development(mut self) -> Self {
        self.secure = false;
        self
    }

    /// The parameter's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parameter
    }

    /// Whether it is used over HTTPS alone.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// A request has the parameter once. One that has it several times was put together by two, and neither is believed.
    pub(crate) fn find(&self, form: &Form, target: &Uri, headers: &HeaderMap, now: Timestamp) -> Found {
        let values = self.values(target.path());
        let agent = Self::user_agent(headers);
        let ids = values.map(|value| {
            let id = self
                .signer
                .verify(&self.parameter, agent, value, now, self.valid_for);
            id.unwrap_or_default().as_bytes()
        });
        Found::among(form, ids).once()
    }

    /// Who sends a request, as far as its links are bound to it.
    pub(crate) fn user_agent(headers: &HeaderMap) -> &[u8] {
        headers.get(USER_AGENT).map_or(&[], HeaderValue::as_bytes)
    }

    /// The id as it stands in URLs.
    pub(crate) fn write(&self, id: &SessionId, agent: &[u8], now: Timestamp) -> Written {
        Written(self.signer.sign(&self.parameter, agent, &id.expose(), now))
    }

    /// The values of the parameter in a path, whichever segment they stand in.
    fn values<'p>(&'p self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let may_hold = segments(path).filter(|(_, may_hold)| *may_hold);
        let parameters = may_hold.flat_map(|(segment, _)| segment.split(';').skip(1));
        parameters.filter_map(|parameter| parameter.strip_prefix(&*self.parameter)?.strip_prefix('='))
    }

    /// The path without the parameter; the same if it is not there.
    fn without<'p>(&self, path: &'p str) -> Cow<'p, str> {
        if self.values(path).next().is_none() {
            return Cow::Borrowed(path);
        }
        let ours = |parameter: &&str| {
            let rest = parameter.strip_prefix(&*self.parameter);
            rest.is_some_and(|rest| rest.starts_with('='))
        };
        let segment = |(segment, may_hold): (&str, bool)| {
            if !may_hold {
                return segment.to_owned();
            }
            let mut parts = segment.split(';');
            let name = parts.next().unwrap_or_default();
            let kept: Vec<_> = std::iter::once(name)
                .chain(parts.filter(|parameter| !ours(parameter)))
                .collect();
            kept.join(";")
        };
        Cow::Owned(segments(path).map(segment).collect::<Vec<_>>().join("/"))
    }

    /// The target without the session; `None` if there is none in it.
    pub(crate) fn stripped(&self, target: &Uri) -> Option<Uri> {
        let Cow::Owned(mut path) = self.without(target.path()) else {
            return None;
        };
        if let Some(query) = target.query() {
            path.push('?');
            path.push_str(query);
        }
        let mut parts = target.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
        Uri::from_parts(parts).ok()
    }
}

/// The segments of a path, and whether the parameter may stand there. It may not where it is all that tells the segment from an
/// empty or a dot one: `/;sid=x/evil.example` without it is another host's, and `/a/..;sid=x/b` is what no proxy in front has seen.
fn segments(path: &str) -> impl Iterator<Item = (&str, bool)> {
    let last = path.matches('/').count();
    path.split('/').enumerate().map(move |(at, segment)| {
        let name = segment.split(';').next().unwrap_or_default();
        (segment, !is_dots(name) && (at == last || !name.is_empty()))
    })
}

/// Whether browsers take it for this directory or the one above (WHATWG URL, "single-dot" and "double-dot URL path segment").
fn is_dots(segment: &str) -> bool {
    // `%2e%2e` is the longest. Most segments are seen to be none by their first character.
    segment.len() <= 6
        && segment.starts_with(['.', '%'])
        && matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..")
}

/// No other site learns the URL, no cache keeps the page, no search engine lists it.
pub(crate) fn guard(headers: &mut HeaderMap) {
    let own = headers.get(REFERRER_POLICY).map(HeaderValue::as_bytes);
    if !own.is_some_and(|own| [&b"no-referrer"[..], b"same-origin"].contains(&own)) {
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        HeaderName::from_static("x-robots-tag"),
        HeaderValue::from_static("noindex"),
    );
}

/// Why a session cannot be in URLs this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// The parameter's name is not 1 to 32 letters and digits.
    Parameter,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter => f.write_str("the name of a parameter is 1 to 32 letters and digits"),
        }
    }
}

impl std::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn config() -> UrlConfig {
        UrlConfig::new(&KeyRing::new(SecretKey::generate().unwrap()))
    }

    #[test]
    fn parameter_is_taken_out_wherever_it_stands() {
        let config = config();
        let stripped = |target: &str| {
            let target: Uri = target.parse().unwrap();
            config.stripped(&target).map(|uri| uri.to_string())
        };
        for (target, without) in [
            ("/cart;sid=a", Some("/cart")),
            ("/cart;sid=", Some("/cart")),
            ("/cart;sid=a?x=;sid=b", Some("/cart?x=;sid=b")),
            ("/a;sid=b;c=d/e", Some("/a;c=d/e")),
            ("/;sid=a", Some("/")),
            ("/a;sid=b;sid=c", Some("/a")),
            ("/a;sid=b/c;sid=d", Some("/a/c")),
            ("https://h/a;sid=b", Some("https://h/a")),
            ("/cart", None),
            ("/cart;SID=a", None),
            ("/cart;side=a", None),
            ("/cart;sid", None),
            ("/sid=a", None),
            ("/cart%3Bsid=a", None),
            ("/cart?;sid=a", None),
            ("*", None),
            ("shop.example:443", None),
            // It would be a path that a proxy in front has not seen.
            ("/;sid=a/evil.example", None),
            ("/a/..;sid=b/admin", None),
            ("/a/.;sid=b", None),
            ("/a/%2e%2E;sid=b/admin", None),
        ] {
            assert_eq!(stripped(target).as_deref(), without, "{target}");
        }
    }

    #[test]
    fn own_policies_stand_if_they_are_as_strict() {
        for (own, after) in [
            (None, "same-origin"),
            (Some("no-referrer"), "no-referrer"),
            (Some("same-origin"), "same-origin"),
            (Some("unsafe-url"), "same-origin"),
            (Some("no-referrer, unsafe-url"), "same-origin"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(own) = own {
                headers.insert(REFERRER_POLICY, own.parse().unwrap());
            }
            headers.insert(CACHE_CONTROL, "public".parse().unwrap());
            guard(&mut headers);
            assert_eq!(headers[REFERRER_POLICY], after);
            assert_eq!(headers[CACHE_CONTROL], "no-store");
            assert_eq!(headers["x-robots-tag"], "noindex");
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "a b", "a=b", "a;b", "jsession-id", &"s".repeat(33)] {
            assert_eq!(config().parameter(name), Err(UrlError::Parameter), "{name}");
        }
        assert_eq!(config().parameter("jsessionid").unwrap().name(), "jsessionid");
    }
}
