//! What happens to a request's body that its handler did not want?
//!
//! A handler that refuses a request answers before it has read all of the body. To close the connection with
//! bytes unread resets it, and a caller that is still sending never sees the answer (HTTP/1). So the rest is read
//! and thrown away, for a while and up to a size; then the connection is closed after all.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures::StreamExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

const WITHIN: Duration = Duration::from_secs(3);
const BYTES_MAX: usize = 64 << 20;

/// A body whose rest is read when nobody wants it any more.
pub(super) struct Lingering(Option<Incoming>);

impl Lingering {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let rest = self.0.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // Whoever does not come to an end by then is cut off.
                let _ = tokio::time::timeout(WITHIN, discard(body)).await;
            });
        }
    }
}

async fn discard(body: Incoming) {
    let (mut pieces, mut left) = (axum::body::Body::new(body).into_data_stream(), BYTES_MAX);
    while let Some(Ok(piece)) = pieces.next().await {
        let Some(rest) = left.checked_sub(piece.len()) else { return };
        left = rest;
    }
}
