//! The session taken out of the path before it is routed, as a tower layer.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{SessionManager, rewriting::Original, transport};

/// Takes the session out of the path of a request, so that routes, handlers and logs see the path without it, and
/// [`SessionLayer`](crate::SessionLayer) finds it all the same. For managers with [`Transport::Url`](crate::Transport::Url); with
/// others it does nothing.
///
/// It belongs **around** the router, since a router's own layers run once the route has been found:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, ServiceExt, extract::Request};
/// use session_http::{SessionLayer, SessionManager, UrlLayer};
/// use tower::Layer;
///
/// # fn app(routes: Router, manager: SessionManager) {
/// let app = routes.layer(SessionLayer::new(manager.clone()));
/// let app = UrlLayer::new(manager).layer(app);
/// let service = ServiceExt::<Request>::into_make_service(app); // for `axum::serve`
/// # }
/// # }
/// ```
///
/// Whatever answers a request whose URL holds a session, an error page too, its response tells nobody: `Referrer-Policy:
/// same-origin`, `Cache-Control: no-store`, `X-Robots-Tag: noindex`.
#[derive(Debug, Clone)]
pub struct UrlLayer {
    manager: SessionManager,
}

impl UrlLayer {
    /// For the sessions of `manager`.
    #[must_use]
    pub fn new(manager: SessionManager) -> Self {
        Self { manager }
    }
}

impl<S> Layer<S> for UrlLayer {
    type Service = UrlService<S>;

    fn layer(&self, inner: S) -> UrlService<S> {
        let manager = self.manager.clone();
        UrlService { inner, manager }
    }
}

/// What [`UrlLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct UrlService<S> {
    inner: S,
    manager: SessionManager,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for UrlService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let Some(url) = self.manager.url() else {
            return Box::pin(self.inner.call(request));
        };
        let stripped = url.stripped(request.uri());
        // Without a session too: a router between may take more from the path, and links are written for what the client asked.
        if request.extensions().get::<Original>().is_none() {
            let original = Original(request.uri().clone());
            request.extensions_mut().insert(original);
        }
        let Some(stripped) = stripped else {
            return Box::pin(self.inner.call(request));
        };
        *request.uri_mut() = stripped;
        let answered = self.inner.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            transport::guard(response.headers_mut());
            Ok(response)
        })
    }
}
