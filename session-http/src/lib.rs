#![doc = include_str!("../README.md")]

#[cfg(feature = "axum")]
mod axum;
mod cache;
mod client;
#[cfg(feature = "csrf")]
mod csrf;
mod digest;
mod error;
mod event;
mod host;
mod keys;
#[cfg(feature = "tower")]
mod layer;
mod mac;
mod manager;
mod manager_error;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tower")]
mod outage;
mod rewriting;
mod scheme;
#[cfg(feature = "sealed")]
mod token;
mod transport;
#[cfg(feature = "tower")]
mod url_layer;

// Both are in this crate's API.
pub use http;
pub use session_core;

#[cfg(feature = "axum")]
pub use self::axum::MissingLayer;
#[cfg(feature = "csrf")]
pub use self::csrf::{
    CSRF_ATTRIBUTE, CsrfBody, CsrfConfigError, CsrfError, CsrfLayer, CsrfLayerBuilder, CsrfService,
    CsrfToken, RequireToken,
};
#[cfg(feature = "metrics")]
pub use self::metrics::METRICS;
#[cfg(feature = "sealed")]
pub use self::token::Tokens;
#[cfg(feature = "jwt")]
pub use self::token::{Jwt, JwtAlgorithm, JwtError, JwtKey};
pub use self::{
    error::Error,
    event::EVENTS,
    keys::{KeyRing, SecretKey, SecretKeyError},
    manager::{ResponseHeaders, SessionManager, SessionManagerBuilder, Visit},
    manager_error::ManagerError,
    scheme::SchemeSource,
    transport::{
        CookieConfig, CookieConfigBuilder, CookieError, HeaderConfig, HeaderError, SameSite, Transport,
        UrlConfig, UrlEncoder, UrlError,
    },
};
#[cfg(feature = "tower")]
pub use self::{
    layer::{Session, SessionLayer, SessionService},
    outage::{Outage, OutageLayer, OutageService},
    url_layer::{UrlLayer, UrlService},
};

/// The quick start of the workspace's README compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../README.md")]
struct WorkspaceReadme;
