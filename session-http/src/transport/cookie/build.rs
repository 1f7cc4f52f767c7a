//! What browsers reject, refused when the cookie is built.

use std::net::IpAddr;

use session_core::SessionId;

use super::{
    CookieConfig, CookieError, SameSite,
    sign::{SIGNATURE_LEN, Signer},
    write::check_size,
};
use crate::KeyRing;

/// What a prefix of the name requires. RFC 6265bis, sections 4.1.3.1 and 4.1.3.2; draft-ietf-httpbis-layered-cookies,
/// sections 4.1.3.3 and 4.1.3.4. The longer prefix comes first.
const PREFIXES: [Prefix; 4] = [
    Prefix::new("__Host-Http-", true, true),
    Prefix::new("__Host-", false, true),
    Prefix::new("__Http-", true, false),
    Prefix::new("__Secure-", false, false),
];

/// Builds a [`CookieConfig`].
#[derive(Debug, Clone)]
#[must_use]
pub struct CookieConfigBuilder {
    name: Option<String>,
    cookie: CookieConfig,
}

impl CookieConfigBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: None,
            cookie: CookieConfig::default(),
        }
    }

    /// The name. Default: [`CookieConfig::DEFAULT_NAME`].
    ///
    /// Prefer the prefix `__Host-` (or `__Host-Http-`, which newer browsers check against scripts too): no other site
    /// and no plain HTTP response can then plant a cookie of this name. `__Secure-` and `__Http-` are for cookies
    /// shared among subdomains.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Which requests from other sites carry the cookie. Default: [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.cookie.same_site = same_site;
        self
    }

    /// Whether scripts cannot read the cookie. Default: `true`. Turn it off only where a script must read the id; a
    /// script that was smuggled in then reads it too.
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.cookie.http_only = http_only;
        self
    }

    /// The path below which the browser sends the cookie. Default: `/`. It keeps nothing secret from other paths of
    /// the same host.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.cookie.path = path.into();
        self
    }

    /// Sends the cookie to this domain and all its subdomains. Default: to this host alone, which is safer: every
    /// subdomain could read and replace it.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.cookie.domain = Some(domain.into());
        self
    }

    /// Keeps the cookie apart for each site in whose frame this one is embedded (CHIPS). Default: `false`.
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.cookie.partitioned = partitioned;
        self
    }

    /// Whether the cookie outlives the browser, with a `Max-Age` up to the session's absolute deadline (at most
    /// [`CookieConfig::MAX_AGE_LIMIT`]). Default: `false`, the browser drops it when it closes.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.cookie.persistent = persistent;
        self
    }

    /// Signs the id with the first of these keys (HMAC-SHA-256 of the cookie's name and the id), and takes only ids that one of
    /// them signed: a made-up id then costs no question to the store. Default: not signed, for an id of 256 random bits is not
    /// found by trying. Whoever has an id without its signature, from a copy of the store's clients say, cannot use it.
    ///
    /// Ids that were handed out before are refused from then on: their visitors begin anew.
    pub fn signed(mut self, keys: &KeyRing) -> Self {
        self.cookie.signer = Some(Signer::new(keys));
        self
    }

    /// For development over plain HTTP: no `Secure`, and [`CookieConfig::DEVELOPMENT_NAME`] unless another name is
    /// chosen. Everybody on the network path can read and replace such a cookie: never use it in production.
    pub fn insecure_for_development(mut self) -> Self {
        self.cookie.secure = false;
        self
    }

    /// The cookie.
    ///
    /// # Errors
    ///
    /// A [`CookieError`] for each combination that browsers reject, silently change, or drop.
    pub fn build(self) -> Result<CookieConfig, CookieError> {
        let mut cookie = self.cookie;
        cookie.name = match self.name {
            Some(name) => name,
            None if cookie.secure => CookieConfig::DEFAULT_NAME.to_owned(),
            None => CookieConfig::DEVELOPMENT_NAME.to_owned(),
        };
        check_name(&cookie)?;
        check_path(&cookie.path)?;
        if let Some(domain) = &cookie.domain {
            check_domain(domain)?;
        }
        if let Some(prefix) = PREFIXES.iter().find(|prefix| prefix.starts(&cookie.name)) {
            prefix.check(&cookie)?;
        }
        if !cookie.secure && cookie.same_site == SameSite::None {
            return Err(CookieError::SameSiteNoneWithoutSecure);
        }
        if !cookie.secure && cookie.partitioned {
            return Err(CookieError::PartitionedWithoutSecure);
        }
        Ok(cookie)
    }
}

fn check_name(cookie: &CookieConfig) -> Result<(), CookieError> {
    let name = &cookie.name;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(CookieError::Name);
    }
    let signature = if cookie.signer.is_some() { SIGNATURE_LEN } else { 0 };
    check_size(
        name.len() + SessionId::TEXT_LEN + signature,
        CookieConfig::SIZE_LIMIT,
    )
}

fn check_path(path: &str) -> Result<(), CookieError> {
    let printable = path
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b';');
    if !path.starts_with('/') || path.ends_with(' ') || !printable {
        return Err(CookieError::Path);
    }
    check_size(path.len(), CookieConfig::ATTRIBUTE_LIMIT)
}

fn check_domain(domain: &str) -> Result<(), CookieError> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    check_size(domain.len(), CookieConfig::ATTRIBUTE_LIMIT)?;
    if domain.len() > 253
        || !domain.contains('.')
        || !domain.split('.').all(is_label)
        || domain.parse::<IpAddr>().is_ok()
    {
        return Err(CookieError::Domain);
    }
    Ok(())
}

struct Prefix {
    text: &'static str,
    http_only: bool,
    host_only: bool,
}

impl Prefix {
    const fn new(text: &'static str, http_only: bool, host_only: bool) -> Self {
        Self {
            text,
            http_only,
            host_only,
        }
    }

    /// Browsers compare without regard to case (RFC 6265bis, section 5.4).
    fn starts(&self, name: &str) -> bool {
        name.get(..self.text.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(self.text))
    }

    fn check(&self, cookie: &CookieConfig) -> Result<(), CookieError> {
        let missing = if !cookie.secure {
            "Secure"
        } else if self.http_only && !cookie.http_only {
            "HttpOnly"
        } else if self.host_only && cookie.path != "/" {
            "Path=/"
        } else if self.host_only && cookie.domain.is_some() {
            "leaving Domain out"
        } else {
            return Ok(());
        };
        Err(CookieError::Prefix {
            prefix: self.text,
            requires: missing,
        })
    }
}
