//! How a session's credential travels: which request field carries it, and how the response hands out another.

mod cookie;
mod found;
mod header;
mod url;

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{COOKIE, SET_COOKIE},
};

use self::found::Found;
pub(crate) use self::{
    cookie::is_named,
    found::{Credential, Form},
    url::{Site, guard},
};
pub use self::{
    cookie::{CookieConfig, CookieConfigBuilder, CookieError, SameSite},
    header::{HeaderConfig, HeaderError},
    url::{UrlConfig, UrlEncoder, UrlError},
};
use session_core::Clock;

use crate::{Error, ManagerError, event};

/// One way for a session's credential to travel.
///
/// A manager may have several, in the order in which they count. **The first that a request uses decides**: the others
/// are not asked, whatever they carry (OWASP, "Used vs. Accepted Session ID Exchange Mechanisms"), and an event reports
/// a different credential among them. A response hands a new credential out the way the request brought the old one;
/// to a client that brought none, the first way of the list is used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Transport {
    /// A cookie: for browsers.
    Cookie(CookieConfig),
    /// A header field of request and response: for clients that are no browsers.
    Header(HeaderConfig),
    /// The path of the URL: for browsers that keep no cookies. After a cookie only.
    Url(UrlConfig),
}

/// A request, as far as transports look at it.
pub(crate) struct Asked<'r> {
    pub(crate) target: &'r Uri,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) clock: &'r dyn Clock,
    /// Whether it is known to have come without HTTPS.
    pub(crate) plain_http: bool,
}

impl Transport {
    /// The name that events use.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Cookie(_) => "cookie",
            Self::Header(_) => "header",
            Self::Url(_) => "url",
        }
    }

    /// Whether it is used over HTTPS alone.
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.is_secure(),
            Self::Header(header) => header.is_secure(),
            Self::Url(url) => url.is_secure(),
        }
    }

    fn find(&self, form: &Form, asked: &Asked<'_>) -> Found {
        match self {
            Self::Cookie(cookie) => cookie.find(form, asked.headers),
            Self::Header(header) => header.find(form, asked.headers),
            Self::Url(url) => url.find(form, asked.target, asked.headers, asked.clock.now()),
        }
    }

    /// The response's field that hands `credential` out, of a session that `lasts` until its absolute deadline. A URL has none: the
    /// next one that the client follows has it.
    pub(crate) fn store(
        &self,
        credential: &str,
        lasts: Duration,
    ) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        Ok(match self {
            Self::Cookie(cookie) => Some((SET_COOKIE, cookie.store(credential, lasts)?)),
            Self::Header(header) => Some(header.store(credential)?),
            Self::Url(_) => None,
        })
    }

    /// The response's field that makes the client forget.
    pub(crate) fn removal(&self) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        Ok(match self {
            Self::Cookie(cookie) => Some((SET_COOKIE, cookie.removal()?)),
            Self::Header(header) => Some(header.store("")?),
            Self::Url(_) => None,
        })
    }

    /// The field that responses vary by, besides the URL.
    pub(crate) fn varies_by(&self) -> Option<HeaderName> {
        match self {
            Self::Cookie(_) => Some(COOKIE),
            Self::Header(header) => Some(header.request_field().clone()),
            Self::Url(_) => None,
        }
    }
}

impl From<UrlConfig> for Transport {
    fn from(url: UrlConfig) -> Self {
        Self::Url(url)
    }
}

impl From<CookieConfig> for Transport {
    fn from(cookie: CookieConfig) -> Self {
        Self::Cookie(cookie)
    }
}

impl From<HeaderConfig> for Transport {
    fn from(header: HeaderConfig) -> Self {
        Self::Header(header)
    }
}

/// What a request brought.
pub(crate) struct Presented {
    /// What the transport that the request used held, if that was exactly one of the right form.
    pub(crate) credential: Option<Credential>,
    /// Which transport the request used.
    pub(crate) by: Option<usize>,
}

/// Asks the transports in their order. The first that the request uses decides, whatever it holds.
pub(crate) fn read(transports: &[Transport], form: &Form, asked: &Asked<'_>) -> Presented {
    let mut presented = Presented {
        credential: None,
        by: None,
    };
    for (at, transport) in transports.iter().enumerate() {
        let found = transport.find(form, asked);
        if !found.is_sent() {
            continue;
        }
        if presented.by.is_none() {
            presented.by = Some(at);
            presented.credential = found.judged(transport.name());
            if asked.plain_http && transport.is_secure() && presented.credential.take().is_some() {
                event::credential_over_http(transport.name());
            }
        } else if !found.is_same(presented.credential.as_ref()) {
            event::transport_ignored(transport.name());
        }
    }
    presented
}

/// # Errors
///
/// [`ManagerError`] for a list that makes no sense.
pub(crate) fn check(transports: &[Transport]) -> Result<(), ManagerError> {
    let name = |transport: &Transport| match transport {
        Transport::Cookie(cookie) => cookie.name().to_owned(),
        Transport::Header(header) => header.request_field().as_str().to_owned(),
        // One is enough.
        Transport::Url(_) => "url".to_owned(),
    };
    if transports.is_empty() {
        return Err(ManagerError::NoTransport);
    }
    let cookie = transports
        .iter()
        .position(|transport| matches!(transport, Transport::Cookie(_)));
    let url = transports
        .iter()
        .position(|transport| matches!(transport, Transport::Url(_)));
    if url.is_some_and(|url| cookie.is_none_or(|cookie| cookie > url)) {
        return Err(ManagerError::UrlBeforeCookie);
    }
    for (at, one) in transports.iter().enumerate() {
        let again = |other: &&Transport| one.name() == other.name() && name(one) == name(other);
        if let Some(other) = transports[at + 1..].iter().find(again) {
            return Err(ManagerError::RepeatedTransport { name: name(other) });
        }
    }
    Ok(())
}
