//! The session of every request, as a tower layer.

use std::{
    future::{Future, poll_fn},
    ops::Deref,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, Request, Response, header::Entry};
use session_core::{Bytes, ErrorKind, SessionError};
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

use crate::{
    Error, ResponseHeaders, SessionManager, Transport, UrlEncoder, Visit, event, rewriting::Original,
};

/// Gives every request its [`Session`] and commits it before the response is sent.
///
/// - The session lies in the request's extensions; handlers of axum take it as an argument. It is loaded at first use:
///   a request that does not ask for it costs nothing.
/// - When the handler has answered, whatever the status, its changes are written, and only then is the response passed
///   on. If they cannot be, the client gets [`SessionManager::error_response`] instead.
/// - A handler that panics, that is dropped because its client went away, or that answers with [`Error`] changes nothing.
///   (A logout is not a change that waits: [`log_out`](session_core::Session::log_out) deletes at once.)
/// - A commit that has begun is finished in a task of its own, even if the client goes away meanwhile; so is the upkeep
///   that follows it.
/// - What happens while the body is sent comes too late for the commit: end with
///   [`commit`](session_core::Session::commit) there, or change the session before.
/// - The request's fields that may hold a session are marked as sensitive, so that `Debug` of the headers hides them.
/// - Applied twice, the inner layer of the same manager does nothing.
///
/// It needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct SessionLayer {
    manager: SessionManager,
}

impl SessionLayer {
    /// A layer with the sessions of `manager`.
    #[must_use]
    pub fn new(manager: SessionManager) -> Self {
        Self { manager }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService {
            inner,
            manager: self.manager.clone(),
        }
    }
}

/// What [`SessionLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct SessionService<S> {
    inner: S,
    manager: SessionManager,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    ResBody: From<Bytes> + Send + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let outer = request.extensions().get::<Session>();
        if outer.is_some_and(|session| session.manager.is(&self.manager)) {
            return Box::pin(self.inner.call(request));
        }
        let manager = self.manager.clone();
        let original = request.extensions().get::<Original>();
        let target = original.map_or(request.uri(), |Original(target)| target);
        let visit = manager.open_with(target, request.headers());
        for field in manager.transports().iter().filter_map(Transport::varies_by) {
            hide(request.headers_mut(), field);
        }
        request.extensions_mut().insert(Session {
            visit: visit.clone(),
            manager: manager.clone(),
            #[cfg(feature = "csrf")]
            csrf: None,
            #[cfg(feature = "csrf")]
            in_header: manager.is_in_header(&visit),
        });
        let handled = self.inner.call(request);
        Box::pin(async move {
            let mut response = handled.await?;
            let failed = match response.extensions_mut().remove::<Failed>() {
                Some(Failed(error)) => error,
                None => match commit(manager.clone(), visit).await {
                    Ok(headers) => {
                        headers.apply(response.headers_mut());
                        return Ok(response);
                    }
                    Err(error) => Arc::new(error),
                },
            };
            let mut response = manager.error_response(&failed).map(ResBody::from);
            // For the layer of another manager further out: what it was to commit belongs to the same handler.
            response.extensions_mut().insert(Failed(failed));
            Ok(response)
        })
    }
}

/// A request's session, as [`SessionLayer`] put it into the request's extensions: everything that
/// [`session_core::Session`] can do. An argument of axum's handlers, with the feature `axum`.
#[derive(Debug, Clone)]
pub struct Session {
    visit: Visit,
    manager: SessionManager,
    /// What a [`CsrfLayer`](crate::CsrfLayer) between here and the handler asks for.
    #[cfg(feature = "csrf")]
    pub(crate) csrf: Option<Arc<crate::csrf::Settings>>,
    /// Whether a header carried it, which no browser sends by itself.
    #[cfg(feature = "csrf")]
    pub(crate) in_header: bool,
}

impl Session {
    /// The manager that opened it.
    #[must_use]
    pub fn manager(&self) -> &SessionManager {
        &self.manager
    }

    /// [`SessionManager::urls`] for this request.
    ///
    /// # Errors
    ///
    /// Those of [`SessionManager::commit`].
    pub async fn urls(&self) -> Result<UrlEncoder, Error> {
        let (manager, visit) = (self.manager.clone(), self.visit.clone());
        to_its_end(Box::pin(async move { manager.urls(&visit).await })).await
    }
}

impl Deref for Session {
    type Target = session_core::Session;

    fn deref(&self) -> &session_core::Session {
        self.visit.session()
    }
}

/// In a response's extensions: the handler gave up with this error, so nothing is committed.
#[derive(Debug, Clone)]
pub(crate) struct Failed(pub(crate) Arc<Error>);

/// Commits, and starts the upkeep that is due. Once begun, it ends, even if the future returned is dropped.
async fn commit(manager: SessionManager, visit: Visit) -> Result<ResponseHeaders, Error> {
    if !visit.session().is_used() {
        return Ok(manager.headers(&visit));
    }
    let work = async move {
        let mut headers = manager.commit(&visit).await?;
        if let Some(upkeep) = headers.take_upkeep() {
            tokio::spawn(upkeep.run().instrument(event::upkeep()));
        }
        Ok(headers)
    };
    to_its_end(Box::pin(work)).await
}

/// Runs `work` here as long as it does not wait: most commits have nothing to write. What has to wait goes on in a task
/// of its own, since whoever waits for it may go away: between the two writes of a renewal, say.
pub(crate) async fn to_its_end<T, W>(mut work: Pin<Box<W>>) -> Result<T, Error>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Error>> + Send + 'static,
{
    let begun = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    if let Poll::Ready(done) = begun {
        return done;
    }
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and the outcome is not known.
            Err(_) => {
                let error = session_core::Error::new(ErrorKind::Unavailable, "session-http");
                Err(SessionError::Store(error.with_detail("shut down while committing")).into())
            }
        },
    }
}

/// `Debug` of the headers then hides this field.
pub(crate) fn hide(headers: &mut HeaderMap, field: HeaderName) {
    if let Entry::Occupied(mut values) = headers.entry(field) {
        for value in values.iter_mut() {
            value.set_sensitive(true);
        }
    }
}
