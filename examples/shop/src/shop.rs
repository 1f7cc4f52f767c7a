//! The site as a service: routes, and what wraps them all.

use std::{error, fmt, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::Response,
};
use session_core::{ConfigError, SessionStore, Sessions};
use session_http::{
    CookieConfig, CookieError, CsrfConfigError, CsrfLayer, ManagerError, SchemeSource, SessionLayer,
    SessionManager, Transport, UrlLayer,
};
use tower_layer::Layer;
use tracing::info;

use crate::{failure, mode::Mode, routes};

/// Bytes of a form at most. The longest form is the preferences', with a note of 200 characters.
const LARGEST_FORM: usize = 16 * 1024;

/// The site: a service that keeps its visitors' sessions in `store`.
///
/// With `https_proxy` the cookie is Secure and named `__Host-session`, for a proxy that speaks HTTPS to the browsers.
/// Without, it is the development cookie, for plain HTTP on loopback.
///
/// `mode` is where the sessions are: with a token, `store` only remembers what has been ended.
///
/// # Errors
///
/// [`SetupError`] if sessions or cookie are configured in a way that cannot work: tokens over a store that may forget who
/// logged out, say.
pub fn shop(store: Arc<dyn SessionStore>, mode: &Mode, https_proxy: bool) -> Result<Router, SetupError> {
    let (sessions, tokens) = mode.apply(Sessions::builder(store).namespace("shop"));
    // Persistent, so that "remember me" outlives the browser; `Max-Age` runs to the session's own end.
    let cookie = CookieConfig::builder().persistent(true);
    let (cookie, scheme) = if https_proxy {
        (cookie, SchemeSource::AlwaysHttps)
    } else {
        (cookie.insecure_for_development(), SchemeSource::RequestTarget)
    };
    let mut transports: Vec<Transport> = vec![cookie.build()?.into()];
    let urls = mode.urls().map(|urls| match https_proxy {
        true => urls,
        false => urls.insecure_for_development(),
    });
    transports.extend(urls.map(Transport::from));
    let mut manager = SessionManager::builder(sessions.build()?)
        .transports(transports)
        .scheme_source(scheme)
        .on_error(failure::session);
    if let Some(tokens) = tokens {
        manager = manager.tokens(tokens);
    }
    let manager = manager.build()?;
    let csrf = CsrfLayer::builder().longest_form(LARGEST_FORM).build()?;
    let routes = routes::routes()
        .layer(csrf)
        .layer(SessionLayer::new(manager.clone()))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .layer(middleware::map_response(harden))
        .layer(middleware::from_fn(log));
    // Around the routes: the session is out of the path before one is chosen, and before a line is logged.
    Ok(Router::new().fallback_service(UrlLayer::new(manager).layer(routes)))
}

/// Pages take nothing from other sites, run no script of their own making, and are not framed.
async fn harden(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 3] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
        ),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// One line per request. The route stands for the path: what a visitor types is in no log.
async fn log(request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        _ => "other",
    };
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    info!(
        method,
        route = route.as_ref().map_or("none", MatchedPath::as_str),
        status = response.status().as_u16(),
        milliseconds = start.elapsed().as_millis(),
        "answered"
    );
    response
}

/// The site cannot be set up with these settings.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The sessions' configuration.
    Sessions(ConfigError),
    /// The cookie's configuration.
    Cookie(CookieError),
    /// How sessions travel.
    Manager(ManagerError),
    /// What is done about forged requests.
    Csrf(CsrfConfigError),
}

impl From<ConfigError> for SetupError {
    fn from(error: ConfigError) -> Self {
        Self::Sessions(error)
    }
}

impl From<CookieError> for SetupError {
    fn from(error: CookieError) -> Self {
        Self::Cookie(error)
    }
}

impl From<ManagerError> for SetupError {
    fn from(error: ManagerError) -> Self {
        Self::Manager(error)
    }
}

impl From<CsrfConfigError> for SetupError {
    fn from(error: CsrfConfigError) -> Self {
        Self::Csrf(error)
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sessions(error) => write!(f, "sessions: {error}"),
            Self::Cookie(error) => write!(f, "cookie: {error}"),
            Self::Manager(error) => write!(f, "sessions: {error}"),
            Self::Csrf(error) => write!(f, "forged requests: {error}"),
        }
    }
}

impl error::Error for SetupError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Sessions(error) => Some(error),
            Self::Cookie(error) => Some(error),
            Self::Manager(error) => Some(error),
            Self::Csrf(error) => Some(error),
        }
    }
}
