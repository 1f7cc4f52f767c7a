//! Request parts in, session; session out, response headers.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header::SET_COOKIE, request::Parts};
use session_core::{Bytes, ClientAction, Clock, Session, Sessions, Subject, Upkeep};

use crate::{
    CookieConfig, Error, ManagerError, SchemeSource, Transport, UrlConfig, UrlEncoder, cache, client, event,
    rewriting::{self, Original, Rewriting},
    scheme::Scheme,
    transport::{self, Asked, Credential, Form, Presented},
};

#[cfg(feature = "sealed")]
use crate::{Tokens, token::TokenStore};

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
    /// What they carry.
    form: Form,
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
                form: Form::Id,
                scheme_source: SchemeSource::default(),
                client_fingerprint: true,
                on_error: Box::new(Error::response),
            },
            #[cfg(feature = "sealed")]
            tokens: None,
        }
    }

    /// Where the sessions come from. It knows nothing of tokens: a subject's are ended by [`SessionManager::log_out_subject`], not by
    /// [`Sessions::log_out_subject`].
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

    /// Whether the client carries the whole session, in a token.
    #[must_use]
    pub fn is_stateless(&self) -> bool {
        !matches!(self.shared.form, Form::Id)
    }

    /// The session of a request. No I/O: it is loaded at first use.
    ///
    /// The first transport that the request uses decides. What is no session id there, several that differ, or one that
    /// came over plain HTTP by a transport for HTTPS alone is reported as an event and gives a new empty session. So does
    /// an id that is not in the store: the id that a client presents is never adopted. A store that is down gives no
    /// empty session but an error at first use.
    pub fn open(&self, request: &Parts) -> Visit {
        let original = request.extensions.get::<Original>();
        let target = original.map_or(&request.uri, |Original(target)| target);
        self.open_with(target, &request.headers)
    }

    /// [`SessionManager::open`] for frameworks that keep the parts of a request elsewhere.
    pub fn open_with(&self, target: &Uri, headers: &HeaderMap) -> Visit {
        let shared = &*self.shared;
        let plain_http = shared.scheme_source.scheme(target, headers) == Scheme::Http;
        let asked = Asked {
            target,
            headers,
            clock: self.clock(),
            plain_http,
        };
        let presented = transport::read(&shared.transports, &shared.form, &asked);
        let rewriting = shared.rewriting(&asked, &presented);
        let client = shared
            .client_fingerprint
            .then(|| client::fingerprint(shared.sessions.namespace(), headers));
        let opened = shared.open(presented.credential, client);
        Visit {
            session: opened.session,
            #[cfg(feature = "sealed")]
            token: opened.token,
            by: presented.by,
            plain_http,
            rewriting,
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
        let mut headers = self.headers(visit);
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
        headers.urls = visit.encoder_after(&committed.client, self.clock()).await?;
        let transport = self.shared.answers(visit.by);
        headers.handed_out = match committed.client {
            ClientAction::Forget if visit.by.is_some() => transport.removal()?,
            #[cfg(feature = "sealed")]
            _ if visit.token.is_some() => {
                // The response carries what it writes.
                if let Some(upkeep) = headers.upkeep.take() {
                    upkeep.run().await;
                }
                match visit.token.as_ref().and_then(|token| token.issued()) {
                    Some(issued) => transport.store(&issued.text, issued.lasts)?,
                    None => None,
                }
            }
            ClientAction::Store { id, lasts, .. } => transport.store(&id.expose(), lasts)?,
            _ => None,
        };
        if visit.plain_http && transport.is_secure() && headers.handed_out.take().is_some() {
            event::credential_withheld(transport.name());
        }
        Ok(headers)
    }

    /// What a response carries at least. One to a request that did not use its session may be a redirect, which keeps the
    /// session that the URL had.
    pub(crate) fn headers(&self, visit: &Visit) -> ResponseHeaders {
        let used = visit.session.is_used();
        let urls = match used {
            true => UrlEncoder::idle(),
            false => visit.encoder(&ClientAction::Keep, self.clock()),
        };
        ResponseHeaders {
            manager: self.clone(),
            handed_out: None,
            used,
            upkeep: None,
            urls,
            is_in_url: self.shared.is_url(visit.by),
        }
    }

    /// Writes the session into the URLs of a page, for a client that keeps no cookies: commits what the request has changed until now,
    /// since a new session's id is known only then, and encodes for a client that came with the session in its URL or with
    /// none. For every other client, and without [`Transport::Url`], nothing is committed and every URL stays as it is.
    ///
    /// Ask for it last, when the page is made: after a log-in in the same request the links would lead to the old id.
    ///
    /// # Errors
    ///
    /// Those of [`SessionManager::commit`].
    pub async fn urls(&self, visit: &Visit) -> Result<UrlEncoder, Error> {
        if visit.rewriting.is_none() || !visit.session.is_used() {
            return Ok(visit.encoder(&ClientAction::Keep, self.clock()));
        }
        // The upkeep is due again at the last commit.
        let committed = visit.session.commit().await?;
        visit.encoder_after(&committed.client, self.clock()).await
    }

    /// The transport by URL, if there is one.
    #[cfg(feature = "tower")]
    pub(crate) fn url(&self) -> Option<&UrlConfig> {
        self.shared.url()
    }

    fn clock(&self) -> &dyn Clock {
        &**self.shared.sessions.clock()
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

    /// Ends every session of `subject`, now, and tells how many there were (of tokens nobody knows: 1 if there may have been
    /// some). For an account that is disabled, say: disable it first.
    ///
    /// # Errors
    ///
    /// [`Error::Session`]: some may live; repeat. `Unsupported` if the store has no index by subject, or if tokens are not revoked
    /// (`Tokens::without_revocation`).
    pub async fn log_out_subject(&self, subject: &Subject) -> Result<u64, Error> {
        match &self.shared.form {
            Form::Id => Ok(self.shared.sessions.log_out_subject(subject).await?),
            #[cfg(feature = "sealed")]
            Form::Token(tokens) => {
                let nobodys = Arc::new(TokenStore::new(tokens.clone(), None));
                Ok(self
                    .shared
                    .sessions
                    .carried(nobodys)
                    .log_out_subject(subject)
                    .await?)
            }
        }
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
    #[cfg(feature = "sealed")]
    tokens: Option<Tokens>,
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

    /// The client carries the whole session, in tokens of this kind. Default: the store keeps it, and the client has an id.
    #[cfg(feature = "sealed")]
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
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
    /// [`ManagerError`] for transports or tokens that make no sense.
    pub fn build(self) -> Result<SessionManager, ManagerError> {
        transport::check(&self.shared.transports)?;
        #[cfg(feature = "sealed")]
        let shared = self.with_tokens()?;
        #[cfg(not(feature = "sealed"))]
        let shared = self.shared;
        Ok(SessionManager {
            shared: Arc::new(shared),
        })
    }

    #[cfg(feature = "sealed")]
    fn with_tokens(mut self) -> Result<Shared, ManagerError> {
        if let Some(tokens) = self.tokens.take() {
            if self.shared.url().is_some() {
                return Err(ManagerError::TokenInUrl);
            }
            if self.shared.cookies().any(CookieConfig::is_signed) {
                return Err(ManagerError::TokenSignedAgain);
            }
            let name_len = self.shared.cookies().map(|cookie| cookie.name().len()).max();
            let tokens = tokens.build(&self.shared.sessions, name_len.unwrap_or_default())?;
            self.shared.form = Form::Token(tokens);
        }
        Ok(self.shared)
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
    /// What the client carries instead of an id.
    #[cfg(feature = "sealed")]
    token: Option<Arc<TokenStore>>,
    /// The transport that the request used: only then is there something to remove.
    by: Option<usize>,
    /// Whether the request is known to have come without HTTPS.
    plain_http: bool,
    /// For a client that may need the session in its URLs.
    rewriting: Option<Arc<Rewriting>>,
}

impl Visit {
    /// The session. Clones of it share what they change.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Once the session has been committed: an id that led to none is not written again, unless the store could not be asked.
    async fn encoder_after(&self, client: &ClientAction, clock: &dyn Clock) -> Result<UrlEncoder, Error> {
        let is_kept = matches!(client, ClientAction::Keep) && self.rewriting.is_some();
        match is_kept && !self.session.is_degraded() && Box::pin(self.session.info()).await?.is_none() {
            true => Ok(UrlEncoder::idle()),
            false => Ok(self.encoder(client, clock)),
        }
    }

    fn encoder(&self, client: &ClientAction, clock: &dyn Clock) -> UrlEncoder {
        let rewriting = self.rewriting.as_ref();
        rewriting.map_or_else(UrlEncoder::idle, |rewriting| {
            rewriting.encoder(client, clock.now())
        })
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
    urls: UrlEncoder,
    /// Whether the request's URL holds a session.
    is_in_url: bool,
}

impl ResponseHeaders {
    /// Adds them.
    ///
    /// - `Set-Cookie`, or the response's field of a [`HeaderConfig`](crate::HeaderConfig), when the client must keep
    ///   another credential or forget the one it has. A response carries at most one of a name: those that the
    ///   application set itself are dropped, and an event says so of cookies.
    /// - `Vary` and `Cache-Control: no-store`, when the session was used. A `Cache-Control` of the application's own
    ///   stands if it holds `no-store`, or `private` on a response that hands nothing out.
    /// - With the session in the URL: `Location` leads to it, and `Referrer-Policy`, `Cache-Control` and `X-Robots-Tag` keep
    ///   it from others.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let shared = &*self.manager.shared;
        shared.drop_own(headers);
        if let Some((name, value)) = &self.handed_out {
            headers.append(name.clone(), value.clone());
        }
        if self.used {
            cache::depends_on_session(headers, shared.varies_by(), self.handed_out.is_some());
        }
        if self.urls.is_active() {
            rewriting::redirect(headers, &self.urls);
        }
        if self.urls.is_active() || self.is_in_url {
            transport::guard(headers);
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

/// A session, and the token that it may be.
struct Opened {
    session: Session,
    #[cfg(feature = "sealed")]
    token: Option<Arc<TokenStore>>,
}

impl Shared {
    fn open(&self, credential: Option<Credential>, client: Option<[u8; 8]>) -> Opened {
        #[cfg(feature = "sealed")]
        if let Form::Token(tokens) = &self.form {
            let text = match credential {
                Some(Credential::Token(text)) => Some(text),
                _ => None,
            };
            let token = Arc::new(TokenStore::new(tokens.clone(), text));
            let opens = token.clone();
            return Opened {
                session: self
                    .sessions
                    .carried(token.clone())
                    .open_token(client, move || opens.open()),
                token: Some(token),
            };
        }
        let id = match credential {
            Some(Credential::Id(id)) => Some(id),
            _ => None,
        };
        Opened {
            session: self.sessions.open_for(id, client),
            #[cfg(feature = "sealed")]
            token: None,
        }
    }

    /// The way the client came; to one that brought nothing, the first. Beside a URL, a cookie is tried again.
    fn answers(&self, by: Option<usize>) -> &Transport {
        let cookie = |transport: &&Transport| matches!(transport, Transport::Cookie(_));
        let at = by.unwrap_or_default();
        let instead = self.transports.iter().find(cookie).filter(|_| self.is_url(by));
        instead.unwrap_or(&self.transports[at])
    }

    fn url(&self) -> Option<&UrlConfig> {
        self.transports.iter().find_map(|transport| match transport {
            Transport::Url(url) => Some(url),
            _ => None,
        })
    }

    fn is_url(&self, by: Option<usize>) -> bool {
        by.is_some_and(|at| matches!(self.transports[at], Transport::Url(_)))
    }

    /// For a client that came with the session in its URL, or with none.
    fn rewriting(&self, asked: &Asked<'_>, presented: &Presented) -> Option<Arc<Rewriting>> {
        let config = self.url()?;
        if presented.by.is_some() && !self.is_url(presented.by) {
            return None;
        }
        let id = match &presented.credential {
            Some(Credential::Id(id)) => Some(id.clone()),
            _ => None,
        };
        Some(Arc::new(Rewriting::new(config, asked, id)))
    }

    fn cookies(&self) -> impl Iterator<Item = &CookieConfig> {
        self.transports.iter().filter_map(|transport| match transport {
            Transport::Cookie(cookie) => Some(cookie),
            _ => None,
        })
    }

    /// The request's fields that may hold a session.
    fn varies_by(&self) -> impl Iterator<Item = HeaderName> {
        self.transports.iter().filter_map(Transport::varies_by)
    }

    /// Drops what the application put into the fields that are the sessions' own.
    fn drop_own(&self, headers: &mut HeaderMap) {
        for transport in &self.transports {
            match transport {
                Transport::Cookie(cookie) => drop_set_cookie(headers, cookie.name()),
                Transport::Header(header) => _ = headers.remove(header.response_field()),
                Transport::Url(_) => {}
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
