//! Request parts in, session; session out, response headers.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, Response, Uri, header::SET_COOKIE, request::Parts};
use session_core::{Bytes, ClientAction, Session, Sessions, Upkeep};

use crate::{CookieConfig, Error, SchemeSource, cache, cookie, event, scheme::Scheme};

/// Opens the session of a request and commits it before its response is sent. Knows no framework; cheap to clone.
///
/// ```
/// use http::{HeaderMap, Request, Response};
/// use session_core::{Bytes, Sessions};
/// use session_http::SessionManager;
///
/// async fn answer(manager: &SessionManager, request: Request<()>) -> Response<Bytes> {
///     let (parts, ()) = request.into_parts();
///     let visit = manager.open(&parts);
///     let mut response = match visit.session().insert("seen", &true).await {
///         Ok(()) => Response::new(Bytes::from_static(b"hello")),
///         Err(error) => return manager.error_response(&error.into()),
///     };
///     match manager.commit(&visit).await {
///         Ok(mut headers) => {
///             headers.apply(response.headers_mut());
///             if let Some(upkeep) = headers.take_upkeep() {
///                 tokio::spawn(upkeep.run());
///             }
///             response
///         }
///         // The handler's response is not sent: it would tell of a change that was not kept.
///         Err(error) => manager.error_response(&error),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct SessionManager {
    shared: Arc<Shared>,
}

struct Shared {
    sessions: Sessions,
    cookie: CookieConfig,
    scheme_source: SchemeSource,
    on_error: Box<OnError>,
}

type OnError = dyn Fn(&Error) -> Response<Bytes> + Send + Sync;

impl SessionManager {
    /// A manager with the default cookie.
    #[must_use]
    pub fn new(sessions: Sessions) -> Self {
        Self::builder(sessions).build()
    }

    /// A builder, to choose the cookie and the rest.
    pub fn builder(sessions: Sessions) -> SessionManagerBuilder {
        SessionManagerBuilder {
            shared: Shared {
                sessions,
                cookie: CookieConfig::default(),
                scheme_source: SchemeSource::default(),
                on_error: Box::new(Error::response),
            },
        }
    }

    /// Where the sessions come from.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// The cookie that carries the id.
    #[must_use]
    pub fn cookie(&self) -> &CookieConfig {
        &self.shared.cookie
    }

    /// The session of a request. No I/O: it is loaded at first use.
    ///
    /// A cookie that holds no session id, several that hold different ones, or a `Secure` one that came over plain HTTP
    /// is reported as an event and gives a new empty session. So does an id that is not in the store: the id that a
    /// client presents is never adopted. A store that is down gives no empty session but an error at first use.
    pub fn open(&self, request: &Parts) -> Visit {
        self.open_with(&request.uri, &request.headers)
    }

    /// [`SessionManager::open`] for frameworks that keep the parts of a request elsewhere.
    pub fn open_with(&self, target: &Uri, headers: &HeaderMap) -> Visit {
        let cookie = &self.shared.cookie;
        let over_http =
            cookie.is_secure() && self.shared.scheme_source.scheme(target, headers) == Scheme::Http;
        let mut presented = cookie::read(headers, cookie.name());
        if over_http && presented.id.take().is_some() {
            event::cookie_over_http();
        }
        Visit {
            session: self.shared.sessions.open(presented.id),
            sent: presented.sent,
            over_http,
        }
    }

    /// Writes what the request changed, before its response is sent, and tells what the response must carry.
    /// A session that nobody asked for anything costs nothing.
    ///
    /// # Errors
    ///
    /// [`Error`]: the change was not kept, or it is not known whether it was. The handler's response must not be sent;
    /// answer with [`SessionManager::error_response`].
    pub async fn commit(&self, visit: &Visit) -> Result<ResponseHeaders, Error> {
        let mut headers = ResponseHeaders {
            manager: self.clone(),
            set_cookie: None,
            used: visit.session.is_used(),
            upkeep: None,
        };
        if !headers.used {
            return Ok(headers);
        }
        let committed = visit.session.commit().await?;
        headers.upkeep = committed.upkeep;
        headers.set_cookie = match committed.client {
            ClientAction::Store { id, lasts, .. } => Some(self.shared.cookie.store(&id, lasts)?),
            ClientAction::Forget if visit.sent => Some(self.shared.cookie.removal()?),
            _ => None,
        };
        if visit.over_http && headers.set_cookie.take().is_some() {
            event::set_cookie_withheld();
        }
        Ok(headers)
    }

    /// The response to a request whose session failed: [`Error::response`], or what
    /// [`SessionManagerBuilder::on_error`] makes of it; never stored by a cache, and without a session cookie.
    #[must_use]
    pub fn error_response(&self, error: &Error) -> Response<Bytes> {
        event::session_failed(error);
        let mut response = (self.shared.on_error)(error);
        let headers = response.headers_mut();
        drop_set_cookie(headers, self.shared.cookie.name());
        cache::depends_on_session(headers, true);
        response
    }

    /// Whether both are clones of one manager.
    #[cfg(feature = "tower")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager")
            .field("sessions", &self.shared.sessions)
            .field("cookie", &self.shared.cookie)
            .field("scheme_source", &self.shared.scheme_source)
            .finish_non_exhaustive()
    }
}

/// Builds a [`SessionManager`].
#[must_use]
pub struct SessionManagerBuilder {
    shared: Shared,
}

impl SessionManagerBuilder {
    /// The cookie. Default: [`CookieConfig::default`].
    pub fn cookie(mut self, cookie: CookieConfig) -> Self {
        self.shared.cookie = cookie;
        self
    }

    /// Where a request's scheme is learnt. Default: [`SchemeSource::RequestTarget`].
    pub fn scheme_source(mut self, source: SchemeSource) -> Self {
        self.shared.scheme_source = source;
        self
    }

    /// Makes the response to a request whose session failed. Default: [`Error::response`]. Show the client nothing of
    /// the error but its kind.
    pub fn on_error(mut self, answer: impl Fn(&Error) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        self.shared.on_error = Box::new(answer);
        self
    }

    /// The manager.
    #[must_use]
    pub fn build(self) -> SessionManager {
        SessionManager {
            shared: Arc::new(self.shared),
        }
    }
}

impl fmt::Debug for SessionManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManagerBuilder")
            .field("sessions", &self.shared.sessions)
            .field("cookie", &self.shared.cookie)
            .field("scheme_source", &self.shared.scheme_source)
            .finish_non_exhaustive()
    }
}

/// One request's session, with what its response must know of the request.
#[derive(Debug, Clone)]
#[must_use = "what it changed is lost unless it is committed"]
pub struct Visit {
    session: Session,
    /// Whether the client sent a cookie of our name: only then is there one to remove.
    sent: bool,
    /// Whether the cookie is `Secure` and the request is known to have come without HTTPS.
    over_http: bool,
}

impl Visit {
    /// The session. Clones of it share what they change.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }
}

/// What a committed session adds to its response.
#[derive(Debug)]
#[must_use = "the client learns its id from these headers"]
pub struct ResponseHeaders {
    manager: SessionManager,
    set_cookie: Option<HeaderValue>,
    used: bool,
    upkeep: Option<Upkeep>,
}

impl ResponseHeaders {
    /// Adds them.
    ///
    /// - `Set-Cookie`, when the client must keep another id or forget the one it has. A response carries at most one of
    ///   this name: those that the application set itself are dropped, and an event says so.
    /// - `Vary: Cookie` and `Cache-Control: no-store`, when the session was used. A `Cache-Control` of the application's
    ///   own stands if it holds `no-store`, or `private` on a response that sets no session cookie.
    pub fn apply(&self, headers: &mut HeaderMap) {
        drop_set_cookie(headers, self.manager.cookie().name());
        if let Some(set_cookie) = &self.set_cookie {
            headers.append(SET_COOKIE, set_cookie.clone());
        }
        if self.used {
            cache::depends_on_session(headers, self.set_cookie.is_some());
        }
    }

    /// The session cookie to set or remove, if there is one.
    #[must_use]
    pub fn set_cookie(&self) -> Option<&HeaderValue> {
        self.set_cookie.as_ref()
    }

    /// Work that is due after the response has been sent, if there is some: run it in a task of its own. Dropping it
    /// only leaves the session's idle time shorter.
    #[must_use]
    pub fn take_upkeep(&mut self) -> Option<Upkeep> {
        self.upkeep.take()
    }
}

/// RFC 6265bis, section 4.1.1: a response never sets one cookie twice, and this name is ours alone.
fn drop_set_cookie(headers: &mut HeaderMap, name: &str) {
    let all = headers.get_all(SET_COOKIE);
    let ours = all.iter().filter(|value| cookie::is_named(value, name)).count();
    if ours == 0 {
        return;
    }
    let others: Vec<_> = all
        .iter()
        .filter(|value| !cookie::is_named(value, name))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for value in others {
        headers.append(SET_COOKIE, value);
    }
    event::set_cookie_replaced(ours);
}
