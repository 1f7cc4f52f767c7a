//! The body of a request, read or not.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pin_project_lite::pin_project;
use session_core::Bytes;

use super::CsrfError;

pin_project! {
    /// The body that [`CsrfLayer`](crate::CsrfLayer) passes on: the client's own, or the same bytes and trailers once
    /// more if the layer has looked for the token in it.
    pub struct CsrfBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<B> {
        Unread { #[pin] body: B },
        Read { data: Option<Bytes>, trailers: Option<HeaderMap> },
    }
}

impl<B> CsrfBody<B> {
    /// A body that nobody has read.
    pub(super) fn unread(body: B) -> Self {
        Self {
            inner: Inner::Unread { body },
        }
    }
}

impl<B> CsrfBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Reads a body of at most so many bytes; them, and the body once more.
    pub(super) async fn read(body: B, longest: usize) -> Result<(Bytes, Self), CsrfError> {
        // The client said so beforehand.
        if body.size_hint().lower() > u64::try_from(longest).unwrap_or(u64::MAX) {
            return Err(CsrfError::FormTooLong);
        }
        let collected = Limited::new(body, longest).collect().await;
        let collected = collected.map_err(|error| match is_too_long(&*error) {
            true => CsrfError::FormTooLong,
            false => CsrfError::FormUnreadable,
        })?;
        let trailers = collected.trailers().cloned();
        let bytes = collected.to_bytes();
        let data = Some(bytes.clone()).filter(|bytes| !bytes.is_empty());
        let inner = Inner::Read { data, trailers };
        Ok((bytes, Self { inner }))
    }
}

/// By this limit, or by one that the server has set further out.
fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(found) = error {
        if found.is::<LengthLimitError>() {
            return true;
        }
        error = found.source();
    }
    false
}

impl<B: Body<Data = Bytes>> Body for CsrfBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().inner.project() {
            InnerProj::Unread { body } => body.poll_frame(context),
            InnerProj::Read { data, trailers } => {
                let data = data.take().map(Frame::data);
                Poll::Ready(data.or_else(|| trailers.take().map(Frame::trailers)).map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Unread { body } => body.is_end_stream(),
            Inner::Read { data, trailers } => data.is_none() && trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Unread { body } => body.size_hint(),
            Inner::Read { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
        }
    }
}

impl<B> fmt::Debug for CsrfBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfBody")
            .field("read", &matches!(self.inner, Inner::Read { .. }))
            .finish_non_exhaustive()
    }
}
