//! Request parts in, session; session out, response headers.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header::SET_COOKIE, request::Parts};
use session_core::{Bytes, ClientAction, Session, Sessions, Upkeep};

use crate::{
    CookieConfig, Error, SchemeSource, Transport, TransportError, cache, client, event, scheme::Scheme,
    transport,
};

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
    /// Never empty, and in the order in which they count.
    transports: Vec<Transport>,
    scheme_source: SchemeSource,
    /// Whether a session remembers what kind of client it is of.
    client_fingerprint: bool,
    on_error: Box<OnError>,
}

type OnError = dyn Fn(&Error) -> Response<Bytes> + Send + Sync;

impl SessionManager {
    /// A manager with the default cookie.
    #[must_use]
    pub fn new(sessions: Sessions) -> Self {
        Self {
            shared: Arc::new(Self::builder(sessions).shared),
        }
    }

    /// A builder, to choose the transports and the rest.
    pub fn builder(sessions: Sessions) -> SessionManagerBuilder {
        SessionManagerBuilder {
            shared: Shared {
                sessions,
                transports: vec![CookieConfig::default().into()],
                scheme_source: SchemeSource::default(),
                client_fingerprint: true,
                on_error: Box::new(Error::response),
            },
        }
    }

    /// Where the sessions come from.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// How sessions travel, in the order in which the ways count. Never empty.
    #[must_use]
    pub fn transports(&self) -> &[Transport] {
        &self.shared.transports
    }

    /// The first cookie among the transports.
    #[must_use]
    pub fn cookie(&self) -> Option<&CookieConfig> {
        self.shared.cookies().next()
    }

    /// The session of a request. No I/O: it is loaded at first use.
    ///
    /// The first transport that the request uses decides. What is no session id there, several that differ, or one that
    /// came over plain HTTP by a transport for HTTPS alone is reported as an event and gives a new empty session. So does
    /// an id that is not in the store: the id that a client presents is never adopted. A store that is down gives no
    /// empty session but an error at first use.
    pub fn open(&self, request: &Parts) -> Visit {
        self.open_with(&request.uri, &request.headers)
    }

    /// [`SessionManager::open`] for frameworks that keep the parts of a request elsewhere.
    pub fn open_with(&self, target: &Uri, headers: &HeaderMap) -> Visit {
        let shared = &*self.shared;
        let plain_http = shared.scheme_source.scheme(target, headers) == Scheme::Http;
        let presented = transport::read(&shared.transports, headers, plain_http);
        let client = shared
            .client_fingerprint
            .then(|| client::fingerprint(shared.sessions.namespace(), headers));
        Visit {
            session: shared.sessions.open_for(presented.id, client),
            by: presented.by,
            plain_http,
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
            handed_out: None,
            used: visit.session.is_used(),
            upkeep: None,
        };
        if !headers.used {
            return Ok(headers);
        }
        #[cfg(feature = "metrics")]
        let measured = crate::metrics::Commit::begin();
        let committed = visit.session.commit().await;
        #[cfg(feature = "metrics")]
        measured.end(committed.is_ok());
        let committed = committed?;
        headers.upkeep = committed.upkeep;
        // The way the client came; to one that brought nothing, the first.
        let transport = &self.shared.transports[visit.by.unwrap_or_default()];
        headers.handed_out = match committed.client {
            ClientAction::Store { id, lasts, .. } => Some(transport.store(&id.expose(), lasts)?),
            ClientAction::Forget if visit.by.is_some() => Some(transport.removal()?),
            _ => None,
        };
        if visit.plain_http && transport.is_secure() && headers.handed_out.take().is_some() {
            event::credential_withheld(transport.name());
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
        self.shared.drop_own(headers);
        cache::depends_on_session(headers, self.shared.varies_by(), true);
        response
    }

    /// Whether a header carried the session of this visit.
    #[cfg(feature = "csrf")]
    pub(crate) fn is_in_header(&self, visit: &Visit) -> bool {
        visit
            .by
            .is_some_and(|at| matches!(self.shared.transports[at], Transport::Header(_)))
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
            .field("transports", &self.shared.transports)
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
    /// This cookie, and no other transport. Default: [`CookieConfig::default`].
    pub fn cookie(self, cookie: CookieConfig) -> Self {
        self.transports([cookie])
    }

    /// How sessions travel. The first transport that a request uses decides, and its response uses the same; a client
    /// that brought nothing is answered by the first of the list. Default: the default cookie.
    ///
    /// An API and pages for browsers had better have a manager each, over the same [`Sessions`]: then a log-in by the API
    /// is answered in the API's way.
    pub fn transports<T: Into<Transport>>(mut self, transports: impl IntoIterator<Item = T>) -> Self {
        self.shared.transports = transports.into_iter().map(Into::into).collect();
        self
    }

    /// Where a request's scheme is learnt. Default: [`SchemeSource::RequestTarget`].
    pub fn scheme_source(mut self, source: SchemeSource) -> Self {
        self.shared.scheme_source = source;
        self
    }

    /// Whether a session remembers what kind of client it began or logged in with, for
    /// [`client_changed`](session_core::Session::client_changed): 8 bytes of a hash of `User-Agent`, without its version
    /// numbers. Default: it does, since that writes nothing which would not be written anyway; it makes a record 21 bytes
    /// longer. Without `User-Agent` in the requests (an API's, say) it tells nothing.
    pub fn client_fingerprint(mut self, remember: bool) -> Self {
        self.shared.client_fingerprint = remember;
        self
    }

    /// Makes the response to a request whose session failed. Default: [`Error::response`]. Show the client nothing of
    /// the error but its kind.
    pub fn on_error(mut self, answer: impl Fn(&Error) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        self.shared.on_error = Box::new(answer);
        self
    }

    /// The manager.
    ///
    /// # Errors
    ///
    /// [`TransportError`] for a list of transports that makes no sense.
    pub fn build(self) -> Result<SessionManager, TransportError> {
        transport::check(&self.shared.transports)?;
        Ok(SessionManager {
            shared: Arc::new(self.shared),
        })
    }
}

impl fmt::Debug for SessionManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManagerBuilder")
            .field("sessions", &self.shared.sessions)
            .field("transports", &self.shared.transports)
            .field("scheme_source", &self.shared.scheme_source)
            .finish_non_exhaustive()
    }
}

/// One request's session, with what its response must know of the request.
#[derive(Debug, Clone)]
#[must_use = "what it changed is lost unless it is committed"]
pub struct Visit {
    session: Session,
    /// The transport that the request used: only then is there something to remove.
    by: Option<usize>,
    /// Whether the request is known to have come without HTTPS.
    plain_http: bool,
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
    handed_out: Option<(HeaderName, HeaderValue)>,
    used: bool,
    upkeep: Option<Upkeep>,
}

impl ResponseHeaders {
    /// Adds them.
    ///
    /// - `Set-Cookie`, or the response's field of a [`HeaderConfig`](crate::HeaderConfig), when the client must keep
    ///   another credential or forget the one it has. A response carries at most one of a name: those that the
    ///   application set itself are dropped, and an event says so of cookies.
    /// - `Vary` and `Cache-Control: no-store`, when the session was used. A `Cache-Control` of the application's own
    ///   stands if it holds `no-store`, or `private` on a response that hands nothing out.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let shared = &*self.manager.shared;
        shared.drop_own(headers);
        if let Some((name, value)) = &self.handed_out {
            headers.append(name.clone(), value.clone());
        }
        if self.used {
            cache::depends_on_session(headers, shared.varies_by(), self.handed_out.is_some());
        }
    }

    /// The header field that hands a credential out or removes one, if there is one.
    #[must_use]
    pub fn handed_out(&self) -> Option<(&HeaderName, &HeaderValue)> {
        self.handed_out.as_ref().map(|(name, value)| (name, value))
    }

    /// Work that is due after the response has been sent, if there is some: run it in a task of its own. Dropping it
    /// only leaves the session's idle time shorter.
    #[must_use]
    pub fn take_upkeep(&mut self) -> Option<Upkeep> {
        self.upkeep.take()
    }
}

impl Shared {
    fn cookies(&self) -> impl Iterator<Item = &CookieConfig> {
        self.transports.iter().filter_map(|transport| match transport {
            Transport::Cookie(cookie) => Some(cookie),
            _ => None,
        })
    }

    /// The request's fields that may hold a session.
    fn varies_by(&self) -> impl Iterator<Item = HeaderName> {
        self.transports.iter().map(Transport::varies_by)
    }

    /// Drops what the application put into the fields that are the sessions' own.
    fn drop_own(&self, headers: &mut HeaderMap) {
        for transport in &self.transports {
            match transport {
                Transport::Cookie(cookie) => drop_set_cookie(headers, cookie.name()),
                Transport::Header(header) => _ = headers.remove(header.response_field()),
            }
        }
    }
}

/// RFC 6265bis, section 4.1.1: a response never sets one cookie twice, and this name is ours alone.
fn drop_set_cookie(headers: &mut HeaderMap, name: &str) {
    let all = headers.get_all(SET_COOKIE);
    let ours = all
        .iter()
        .filter(|value| transport::is_named(value, name))
        .count();
    if ours == 0 {
        return;
    }
    let others: Vec<_> = all
        .iter()
        .filter(|value| !transport::is_named(value, name))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for value in others {
        headers.append(SET_COOKIE, value);
    }
    event::set_cookie_replaced(ours);
}
