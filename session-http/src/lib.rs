#![doc = include_str!("../README.md")]

#[cfg(feature = "axum")]
mod axum;
mod cache;
mod client;
#[cfg(feature = "csrf")]
mod csrf;
mod error;
mod event;
#[cfg(feature = "tower")]
mod layer;
mod manager;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "tower")]
mod outage;
mod scheme;
mod transport;

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
pub use self::{
    error::Error,
    event::EVENTS,
    manager::{ResponseHeaders, SessionManager, SessionManagerBuilder, Visit},
    scheme::SchemeSource,
    transport::{
        CookieConfig, CookieConfigBuilder, CookieError, HeaderConfig, HeaderError, SameSite, Transport,
        TransportError,
    },
};
#[cfg(feature = "tower")]
pub use self::{
    layer::{Session, SessionLayer, SessionService},
    outage::{Outage, OutageLayer, OutageService},
};

/// The quick start of the workspace's README compiles.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../README.md")]
struct WorkspaceReadme;
