//! The cookie that carries the session id.

mod build;
mod read;
mod sign;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;

pub use self::build::CookieConfigBuilder;
use self::sign::Signer;
pub(crate) use self::write::is_named;

/// How the session's cookie looks. Whatever browsers would reject is an error when it is built.
///
/// The default is `__Host-session` with `Secure`, `HttpOnly`, `SameSite=Lax` and `Path=/`, no `Domain`, kept until the
/// browser closes. Its value is the id, 43 characters.
///
/// ```
/// use session_http::{CookieConfig, CookieError, SameSite};
///
/// let cookie = CookieConfig::builder().same_site(SameSite::Strict).persistent(true).build()?;
/// assert_eq!(cookie.name(), "__Host-session");
///
/// let refused = CookieConfig::builder().domain("example.org").build();
/// assert!(matches!(refused, Err(CookieError::Prefix { .. })));
/// # Ok::<(), CookieError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieConfig {
    name: String,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
    path: String,
    domain: Option<String>,
    partitioned: bool,
    persistent: bool,
    signer: Option<Signer>,
}

impl CookieConfig {
    /// The name unless another is chosen. Generic on purpose: it names no product (OWASP, "Session ID Name
    /// Fingerprinting").
    pub const DEFAULT_NAME: &str = "__Host-session";

    /// The name that [`CookieConfig::insecure_for_development`] uses.
    pub const DEVELOPMENT_NAME: &str = "session";

    /// The longest `Max-Age`, in seconds: 400 days, where browsers cap it (RFC 6265bis, section 5.5).
    pub const MAX_AGE_LIMIT: u64 = 34_560_000;

    /// Bytes of name and value together; browsers drop a longer cookie (RFC 6265bis, section 5.6).
    pub const SIZE_LIMIT: usize = 4096;

    /// Bytes of one attribute's value; browsers ignore a longer one (RFC 6265bis, section 5.6).
    pub const ATTRIBUTE_LIMIT: usize = 1024;

    /// A builder that begins with the defaults.
    pub fn builder() -> CookieConfigBuilder {
        CookieConfigBuilder::new()
    }

    /// A cookie for development over plain HTTP: named `session`, without `Secure`, otherwise as the default.
    ///
    /// Everybody on the network path can read and replace it: never use it in production.
    #[must_use]
    pub fn insecure_for_development() -> Self {
        Self {
            name: Self::DEVELOPMENT_NAME.to_owned(),
            secure: false,
            ..Self::default()
        }
    }

    /// The cookie's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the cookie travels over HTTPS alone.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the id in it is signed ([`CookieConfigBuilder::signed`]).
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signer.is_some()
    }

    /// Whether the cookie outlives the browser: `Max-Age` then runs to the session's absolute deadline.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self {
            name: Self::DEFAULT_NAME.to_owned(),
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            path: "/".to_owned(),
            domain: None,
            partitioned: false,
            persistent: false,
            signer: None,
        }
    }
}

/// On which requests from other sites the browser sends the cookie. A second line of defence against request forgery,
/// never the only one (RFC 6265bis, section 8.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SameSite {
    /// On none.
    Strict,
    /// When a link leads here from another site, not on forms that are posted from there. The default.
    #[default]
    Lax,
    /// On all. Needs `Secure`.
    None,
}

impl fmt::Display for SameSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        })
    }
}

/// Why a cookie would be rejected, silently changed or dropped by browsers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CookieError {
    /// The name is empty or holds something else than letters, digits and ``!#$%&'*+-.^_`|~`` (RFC 9110, "token").
    Name,
    /// The value holds something else than cookie octets: a control character, space, quote, comma, semicolon,
    /// backslash or something outside ASCII (RFC 6265bis, section 4.1.1).
    Value,
    /// The path does not begin with `/`, ends in a space, or holds a control character, a semicolon or something
    /// outside ASCII. Browsers would use another path instead.
    Path,
    /// The domain is not a host name of two labels or more, written without a leading dot. Browsers would reject an
    /// address or a single label; without `Domain` the cookie is for this host, whatever it is called.
    Domain,
    /// The name's prefix promises what the attributes do not keep; browsers reject the cookie.
    Prefix {
        /// The prefix, in its usual spelling: browsers compare it without regard to case.
        prefix: &'static str,
        /// What it requires and is missing.
        requires: &'static str,
    },
    /// `SameSite=None` needs `Secure`.
    SameSiteNoneWithoutSecure,
    /// `Partitioned` needs `Secure`.
    PartitionedWithoutSecure,
    /// More bytes than browsers keep: of name and value together, or of one attribute.
    TooLarge {
        /// Bytes measured.
        size: usize,
        /// Bytes that browsers keep: [`CookieConfig::SIZE_LIMIT`] or [`CookieConfig::ATTRIBUTE_LIMIT`].
        limit: usize,
    },
}

impl fmt::Display for CookieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("a cookie's name is one or more letters, digits or !#$%&'*+-.^_`|~"),
            Self::Value => f.write_str("the cookie's value holds a character that no cookie may hold"),
            Self::Path => {
                f.write_str("a cookie's path begins with / and is printable ASCII without semicolon")
            }
            Self::Domain => f.write_str(
                "a cookie's domain is a host name of two or more labels, without leading dot, and no address",
            ),
            Self::Prefix { prefix, requires } => {
                write!(
                    f,
                    "browsers reject a cookie whose name begins with {prefix} without {requires}"
                )
            }
            Self::SameSiteNoneWithoutSecure => f.write_str("browsers reject SameSite=None without Secure"),
            Self::PartitionedWithoutSecure => f.write_str("browsers reject Partitioned without Secure"),
            Self::TooLarge { size, limit } => {
                write!(f, "{size} bytes of a cookie, and browsers keep {limit} at most")
            }
        }
    }
}

impl std::error::Error for CookieError {}
