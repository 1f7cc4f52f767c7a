//! How a session's credential travels: which request field carries it, and how the response hands out another.

mod cookie;
mod found;
mod header;

use std::{fmt, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};
use session_core::SessionId;

pub(crate) use self::cookie::is_named;
use self::found::Found;
pub use self::{
    cookie::{CookieConfig, CookieConfigBuilder, CookieError, SameSite},
    header::{HeaderConfig, HeaderError},
};
use crate::{Error, event};

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
}

impl Transport {
    /// The name that events use.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Cookie(_) => "cookie",
            Self::Header(_) => "header",
        }
    }

    /// Whether it is used over HTTPS alone.
    pub(crate) fn is_secure(&self) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.is_secure(),
            Self::Header(header) => header.is_secure(),
        }
    }

    fn find(&self, headers: &HeaderMap) -> Found {
        match self {
            Self::Cookie(cookie) => cookie.find(headers),
            Self::Header(header) => header.find(headers),
        }
    }

    /// The response's field that hands `credential` out, of a session that `lasts` until its absolute deadline.
    pub(crate) fn store(
        &self,
        credential: &str,
        lasts: Duration,
    ) -> Result<(HeaderName, HeaderValue), Error> {
        Ok(match self {
            Self::Cookie(cookie) => (SET_COOKIE, cookie.store(credential, lasts)?),
            Self::Header(header) => header.store(credential)?,
        })
    }

    /// The response's field that makes the client forget.
    pub(crate) fn removal(&self) -> Result<(HeaderName, HeaderValue), Error> {
        Ok(match self {
            Self::Cookie(cookie) => (SET_COOKIE, cookie.removal()?),
            Self::Header(header) => header.store("")?,
        })
    }

    /// The field that responses vary by.
    pub(crate) fn varies_by(&self) -> HeaderName {
        match self {
            Self::Cookie(_) => COOKIE,
            Self::Header(header) => header.request_field().clone(),
        }
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
#[derive(Debug)]
pub(crate) struct Presented {
    /// The id, if the transport that the request used held exactly one well-formed one.
    pub(crate) id: Option<SessionId>,
    /// Which transport the request used.
    pub(crate) by: Option<usize>,
}

/// Asks the transports in their order. The first that the request uses decides, whatever it holds.
pub(crate) fn read(transports: &[Transport], headers: &HeaderMap, plain_http: bool) -> Presented {
    let mut presented = Presented { id: None, by: None };
    for (at, transport) in transports.iter().enumerate() {
        let found = transport.find(headers);
        if !found.is_sent() {
            continue;
        }
        if presented.by.is_none() {
            presented.by = Some(at);
            presented.id = found.judged(transport.name());
            if plain_http && transport.is_secure() && presented.id.take().is_some() {
                event::credential_over_http(transport.name());
            }
        } else if !found.is_same(presented.id.as_ref()) {
            event::transport_ignored(transport.name());
        }
    }
    presented
}

/// A list of transports that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportError {
    /// There is none.
    None,
    /// Two of one kind have one name: one of them would never be asked.
    Repeated {
        /// The name.
        name: String,
    },
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("a manager needs a transport"),
            Self::Repeated { name } => write!(f, "two transports of one kind are named {name:?}"),
        }
    }
}

impl std::error::Error for TransportError {}

/// # Errors
///
/// [`TransportError`].
pub(crate) fn check(transports: &[Transport]) -> Result<(), TransportError> {
    let name = |transport: &Transport| match transport {
        Transport::Cookie(cookie) => cookie.name().to_owned(),
        Transport::Header(header) => header.request_field().as_str().to_owned(),
    };
    if transports.is_empty() {
        return Err(TransportError::None);
    }
    for (at, one) in transports.iter().enumerate() {
        let again = |other: &&Transport| one.name() == other.name() && name(one) == name(other);
        if let Some(other) = transports[at + 1..].iter().find(again) {
            return Err(TransportError::Repeated { name: name(other) });
        }
    }
    Ok(())
}
