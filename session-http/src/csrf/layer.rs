//! The tower layer that refuses forged requests.

use std::{
    borrow::Cow,
    error::Error as StdError,
    future::{Future, ready},
    mem::replace,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use session_core::Bytes;
use tower_layer::Layer;
use tower_service::Service;

use super::{CsrfBody, CsrfConfigError, CsrfError, RequireToken, Settings, origin};
use crate::{
    Error, Session,
    error::plain,
    event,
    layer::{Failed, hide},
};

/// Refuses forged requests, and gives [`Session::csrf_token`](crate::Session::csrf_token) what it needs. Goes inside
/// [`SessionLayer`](crate::SessionLayer), around the pages as well as around what their forms are sent to.
///
/// Every request but GET, HEAD, OPTIONS and TRACE, which must change nothing, is checked before its handler runs
/// (OWASP, "Cross-Site Request Forgery Prevention"; ASVS 5.0, 3.5.1 and 3.5.3; NIST SP 800-63B-4, 5.1):
///
/// 1. *Where it comes from.* `Sec-Fetch-Site` must be `same-origin` or `none`; without that header, `Origin` must name
///    the host that was asked, whatever the scheme. [Allowed origins](CsrfLayerBuilder::allow_origin) pass. With neither
///    header it is no browser's, and goes on.
/// 2. *The token*, where [`RequireToken`] asks the session for one: in the header `X-CSRF-Token`, else in the field
///    `csrf_token` of an `application/x-www-form-urlencoded` body, which is read up to 64 KiB and handed on as it came.
///    Other bodies (JSON, multipart) need the header, or
///    [a handler that checks itself](CsrfLayer::token_left_to_handler). Several headers or fields are refused. A session
///    that came in a header ([`HeaderConfig`](crate::HeaderConfig)) needs none: no browser sends that by itself.
///
/// A refused request is answered by [`SessionManager::error_response`](crate::SessionManager::error_response) with
/// [`Error::Csrf`]: 403 and a line of text, or the page that
/// [`on_error`](crate::SessionManagerBuilder::on_error) makes. The event `csrf_refused` tells the reason. The
/// handler did not run, and nothing is committed. If the session cannot be loaded, the answer is the session's own error,
/// on a route that [tolerates an outage](crate::OutageLayer) too: nobody can tell then whose request it is.
///
/// A safe method costs nothing here, an unsafe one the load that its handler would need anyway. Routes that take
/// requests from other programs with credentials of their own (webhooks) go outside this layer.
///
/// ```
/// use axum::{Router, response::Html, routing::get};
/// use session_http::{CsrfLayer, Error, Session};
///
/// async fn form(session: Session) -> Result<Html<String>, Error> {
///     let token = session.csrf_token().await?;
///     let token = token.map(|token| token.hidden_field()).unwrap_or_default();
///     Ok(Html(format!("<form method=post>{token}<button>Send</button></form>")))
/// }
///
/// let routes: Router = Router::new()
///     .route("/address", get(form).post(async || "changed"))
///     .layer(CsrfLayer::new());
/// # let _ = routes;
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct CsrfLayer {
    settings: Arc<Settings>,
    left_to_handler: bool,
}

impl CsrfLayer {
    /// The header's default name. No page of another site can send it without being allowed to by CORS.
    pub const DEFAULT_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

    /// The field's default name.
    pub const DEFAULT_FIELD: &str = "csrf_token";

    /// Bytes of a form that are read by default.
    pub const DEFAULT_LONGEST_FORM: usize = 64 * 1024;

    /// A layer with the defaults.
    pub fn new() -> Self {
        Self::of(Self::builder().settings)
    }

    /// A builder that begins with the defaults.
    pub fn builder() -> CsrfLayerBuilder {
        CsrfLayerBuilder {
            settings: Settings {
                require: RequireToken::default(),
                header: Self::DEFAULT_HEADER,
                field: Self::DEFAULT_FIELD.to_owned(),
                longest_form: Self::DEFAULT_LONGEST_FORM,
                allowed_origins: Vec::new(),
            },
        }
    }

    /// The same layer for routes whose handlers call [`Session::check_csrf`](crate::Session::check_csrf), which they
    /// then must: this one checks where a request comes from, and not the token. For multipart forms, say.
    pub fn token_left_to_handler(self) -> Self {
        Self {
            left_to_handler: true,
            ..self
        }
    }

    fn of(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            left_to_handler: false,
        }
    }
}

impl Default for CsrfLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CsrfLayer {
    type Service = CsrfService<S>;

    fn layer(&self, inner: S) -> CsrfService<S> {
        CsrfService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Builds a [`CsrfLayer`].
#[derive(Debug)]
#[must_use]
pub struct CsrfLayerBuilder {
    settings: Settings,
}

impl CsrfLayerBuilder {
    /// Whose requests must carry a token. Default: [`RequireToken::LoggedIn`].
    pub fn require_token(mut self, require: RequireToken) -> Self {
        self.settings.require = require;
        self
    }

    /// The header that carries the token. Default: [`CsrfLayer::DEFAULT_HEADER`].
    pub fn header(mut self, name: HeaderName) -> Self {
        self.settings.header = name;
        self
    }

    /// The form's field that carries the token. Default: [`CsrfLayer::DEFAULT_FIELD`].
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.settings.field = name.into();
        self
    }

    /// Bytes of a form that are read to find its token; a longer one is refused with 413.
    /// Default: [`CsrfLayer::DEFAULT_LONGEST_FORM`].
    pub fn longest_form(mut self, bytes: usize) -> Self {
        self.settings.longest_form = bytes;
        self
    }

    /// Another origin whose pages may send requests, as browsers write it: `https://app.example`. A token is asked of them,
    /// too. Default: none.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.settings.allowed_origins.push(origin.into());
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// [`CsrfConfigError`]: the field's name could not stand in a page as it is, or an origin is one that no browser sends.
    pub fn build(self) -> Result<CsrfLayer, CsrfConfigError> {
        let Settings {
            field,
            allowed_origins,
            ..
        } = &self.settings;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if field.is_empty() || !field.bytes().all(is_plain) {
            return Err(CsrfConfigError::Field);
        }
        if let Some(origin) = allowed_origins.iter().find(|origin| !origin::is_origin(origin)) {
            let origin = origin.clone();
            return Err(CsrfConfigError::Origin { origin });
        }
        Ok(CsrfLayer::of(self.settings))
    }
}

/// What [`CsrfLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct CsrfService<S> {
    inner: S,
    layer: CsrfLayer,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CsrfService<S>
where
    S: Service<Request<CsrfBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ReqBody::Error: Into<Box<dyn StdError + Send + Sync>>,
    ResBody: From<Bytes> + Send + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let Some(session) = request.extensions_mut().get_mut::<Session>() else {
            event::csrf_layer_outside();
            let text = "CsrfLayer found no session: it belongs inside session_http::SessionLayer.\n";
            let response = plain(StatusCode::INTERNAL_SERVER_ERROR, text);
            return Box::pin(ready(Ok(response.map(ResBody::from))));
        };
        session.csrf = Some(Arc::clone(&self.layer.settings));
        let session = session.clone();
        hide(request.headers_mut(), self.layer.settings.header.clone());
        if request.method().is_safe() {
            return Box::pin(self.inner.call(request.map(CsrfBody::unread)));
        }
        let layer = self.layer.clone();
        // The one that was found ready.
        let ready = self.inner.clone();
        let mut inner = replace(&mut self.inner, ready);
        Box::pin(async move {
            match layer.check(&session, request).await {
                Ok(request) => inner.call(request).await,
                Err(error) => {
                    let mut response = error.response().map(ResBody::from);
                    response.extensions_mut().insert(Failed(Arc::new(error)));
                    Ok(response)
                }
            }
        })
    }
}

impl CsrfLayer {
    /// The request, to be handed on.
    async fn check<B>(&self, session: &Session, request: Request<B>) -> Result<Request<CsrfBody<B>>, Error>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let settings = &self.settings;
        if !origin::is_ours(&request, &settings.allowed_origins) {
            return Err(CsrfError::Origin.into());
        }
        // Nobody's form is read without need.
        if self.left_to_handler || !session.must_send_token().await? {
            return Ok(request.map(CsrfBody::unread));
        }
        let mut in_header = request.headers().get_all(&settings.header).iter();
        if let Some(token) = in_header.next() {
            let token = token.to_str().ok().filter(|_| in_header.next().is_none());
            let token = token.ok_or(CsrfError::TokenWrong)?;
            session.check_csrf(Some(token)).await?;
            return Ok(request.map(CsrfBody::unread));
        }
        if !is_form(request.headers()) {
            return Err(CsrfError::TokenMissing.into());
        }
        let (parts, body) = request.into_parts();
        let (form, body) = CsrfBody::read(body, settings.longest_form).await?;
        let token = only_field(&form, &settings.field)?;
        session.check_csrf(token.as_deref()).await?;
        Ok(Request::from_parts(parts, body))
    }
}

/// Whether the body is a form in the one coding that is read here.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next()).is_some_and(|kind| {
        kind.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// The value of the field of this name, of which there may be one.
fn only_field<'f>(form: &'f [u8], name: &str) -> Result<Option<Cow<'f, str>>, CsrfError> {
    let mut values = form_urlencoded::parse(form).filter(|(field, _)| field == name);
    let first = values.next().map(|(_, value)| value);
    match values.next() {
        Some(_) => Err(CsrfError::TokenWrong),
        None => Ok(first),
    }
}
