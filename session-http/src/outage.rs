//! What a route does while the store is down.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header::CACHE_CONTROL};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Session, event};

/// What a route does while the store cannot be reached. (OWASP ASVS 5.0, 16.5.2 and 16.5.3: go on safely when another
/// service fails, and never fail open.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Outage {
    /// A session that cannot be loaded is an error: 503, whatever the page. As without an [`OutageLayer`].
    #[default]
    FailClosed,
    /// The handler gets an empty session that it can read and not change
    /// ([`tolerate_outage`](session_core::Session::tolerate_outage)), and
    /// [`is_degraded`](session_core::Session::is_degraded) to say so on its page. What changes the session is 503 as ever, and
    /// the client's cookie stays. For pages that are worth showing to a visitor who is not known; not for any that
    /// do something, or that show less to strangers.
    ReadOnly,
}

/// Chooses what the routes within do while the store cannot be reached. It goes inside
/// [`SessionLayer`](crate::SessionLayer), and the innermost one counts.
///
/// - Only a store that is `Unavailable` when the session is loaded is tolerated, never a record that cannot be read.
/// - The response of a request that went on without its session is `Cache-Control: no-store`, whatever the handler wrote, and an
///   event `outage_tolerated` tells of it.
///
/// ```
/// use axum::{Router, routing::get};
/// use session_http::{Error, Outage, OutageLayer, Session};
///
/// async fn products(session: Session) -> Result<String, Error> {
///     let subject = session.subject().await?;
///     Ok(match (subject, session.is_degraded()) {
///         (_, true) => "products; your cart cannot be reached right now".to_owned(),
///         (Some(_), false) => "products, and your cart".to_owned(),
///         (None, false) => "products".to_owned(),
///     })
/// }
///
/// let routes: Router = Router::new()
///     .route("/", get(products))
///     .route_layer(OutageLayer::new(Outage::ReadOnly));
/// # let _ = routes;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct OutageLayer {
    outage: Outage,
}

impl OutageLayer {
    /// A layer for routes that do so.
    #[must_use]
    pub const fn new(outage: Outage) -> Self {
        Self { outage }
    }
}

impl<S> Layer<S> for OutageLayer {
    type Service = OutageService<S>;

    fn layer(&self, inner: S) -> OutageService<S> {
        OutageService {
            inner,
            outage: self.outage,
        }
    }
}

/// What [`OutageLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct OutageService<S> {
    inner: S,
    outage: Outage,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for OutageService<S>
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

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let Some(session) = request.extensions().get::<Session>().cloned() else {
            event::outage_layer_outside();
            return Box::pin(self.inner.call(request));
        };
        match self.outage {
            Outage::FailClosed => {
                session.fail_closed();
                Box::pin(self.inner.call(request))
            }
            Outage::ReadOnly => {
                session.tolerate_outage();
                let handled = self.inner.call(request);
                Box::pin(async move {
                    let mut response = handled.await?;
                    if session.is_degraded() {
                        event::outage_tolerated();
                        // Above all `private`: the browser would keep the page beyond the outage.
                        let no_store = HeaderValue::from_static("no-store");
                        response.headers_mut().insert(CACHE_CONTROL, no_store);
                    }
                    Ok(response)
                })
            }
        }
    }
}
