//! Asking the node that has an allocation, and passing on what it says.
//!
//! ```text
//!   id ─► allocation (this copy; the fresh one if it is not known) ─► its node's address ─► call, or stream
//! ```
//!
//! What the node refuses is passed on with its status and words. A node that cannot be reached is `No path to
//! node`. Streams: once the first byte is out, an error only ends them; a caller that takes nothing for
//! [`STALL`], or is gone, frees everything here and at the node.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use client::error::CallError;
use client::http::{Call, Streaming, Target};
use futures::{Stream, StreamExt};
use model::{AllocId, Allocation, NodeId, Role};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::answer::Style;
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::Params;
use crate::public::Streamed;
use crate::read::fresh;

/// Until the node answers.
pub const ANSWER: Duration = Duration::from_secs(10);
/// For an agent that restarts. An allocation outlives its agent if that is back in as long.
const BACK: Duration = Duration::from_secs(2);
/// Longest silence of a stream with frames: nodes send a beat each second.
pub const FRAMES_SILENCE: Duration = Duration::from_secs(10);
/// Longest time a caller takes nothing of what is there.
pub const STALL: Duration = Duration::from_secs(60);

/// The allocation with its job. One that this copy does not know yet is asked for again when it is fresh.
///
/// # Errors
/// There is none.
pub async fn find(app: &App, id: AllocId) -> Result<Allocation, ApiError> {
    let mut view = app.watches.view();
    if view.state.alloc(&id).is_none() {
        view = fresh(app, false).await?;
    }
    let alloc = view.state.alloc(&id).map(|alloc| super::allocs::with_job(&view.state, alloc));
    alloc.ok_or_else(|| ApiError::not_found(format!("Unknown allocation {:?}", id.as_str())))
}

/// Where a node's agent is. One that just went is waited for: a restarted agent is back within moments, at
/// another address.
///
/// # Errors
/// There is no such node, or it has said no address.
pub async fn target(app: &App, node_id: &NodeId) -> Result<Target, ApiError> {
    let until = tokio::time::Instant::now() + BACK;
    let mut state = app.replica.state();
    while state.is_suspect(node_id) {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let Some(newer) = app.replica.past(state.index(), left).await else { break };
        state = newer;
    }
    let mark = state.admission(node_id).to_owned();
    let node = state.node(node_id);
    let node = node.ok_or_else(|| ApiError::not_found(format!("Unknown node {:?}", node_id.as_str())))?;
    let addr: SocketAddr = node.http_addr.parse().map_err(|_| ApiError::not_found("No path to node"))?;
    Ok(Target::new(addr, Role::Agent).named(node.id.as_str()).admitted(&mark))
}

/// What a failed call to a node is for the public API.
pub fn refused(node_id: &NodeId, error: CallError) -> ApiError {
    match error {
        CallError::Status { status, body, .. }
            if status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE =>
        {
            ApiError::new(status, body.message)
        }
        CallError::Status { status, body, .. } if !body.message.is_empty() => {
            tracing::warn!(node_id = %node_id, status = status.as_u16(), text = body.message, "node cannot answer");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, body.message)
        }
        error => {
            tracing::warn!(node_id = %node_id, error = %error, "node cannot be asked");
            ApiError::not_found("No path to node")
        }
    }
}

/// Reads JSON from the allocation's node and answers it.
///
/// # Errors
/// The node's refusal, or that it cannot be reached.
pub async fn get_json(app: &App, node_id: &NodeId, path: String, style: Style) -> Answered {
    let reply = app.http.call(&target(app, node_id).await?, Call::get(path, ANSWER)).await;
    let reply = reply.map_err(|error| refused(node_id, error))?;
    if style.pretty
        && let Ok(value) = serde_json::from_slice::<serde_json::Value>(&reply.body)
    {
        return style.json(&value);
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], reply.body).into_response())
}

/// Sends JSON to the node; its answer has no content.
///
/// # Errors
/// As [`get_json`].
pub async fn post<T: Serialize + ?Sized>(app: &App, node_id: &NodeId, path: String, body: &T) -> Result<(), ApiError> {
    let target = target(app, node_id).await?;
    let call = Call::post(path, ANSWER).json(body).map_err(|e| ApiError::internal("call cannot be written", &e))?;
    app.http.call(&target, call).await.map(drop).map_err(|error| refused(node_id, error))
}

/// These parameters of a query, as they are, in a query of our own.
pub fn forwarded(params: &Params, names: &[&str]) -> String {
    let pairs = names.iter().filter_map(|name| Some((name, params.get(name)?)));
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
    pairs.join("&")
}

pub fn percent_encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let encode = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(encode).collect()
}

/// A place among the streams that go on at the same time.
///
/// # Errors
/// There is none left.
pub fn stream_permit(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let permit = app.log_streams.clone().try_acquire_owned();
    permit.map_err(|_| ApiError::too_many("too many log streams, try again later"))
}

/// An answer that goes on as the node's does, with this content type unless the node says one.
pub fn passed_on(
    app: &App,
    streaming: Streaming,
    permit: OwnedSemaphorePermit,
    kind: Option<&'static str>,
) -> Response {
    let of_node = streaming.headers().get(header::CONTENT_TYPE).cloned();
    let kind = kind.map(header::HeaderValue::from_static).or(of_node);
    let kind = kind.unwrap_or(header::HeaderValue::from_static("text/plain; charset=utf-8"));
    let shutdown = app.shutdown.clone();
    let pieces = streaming.into_stream().take_until(async move { shutdown.requested().await });
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::from_stream(taken(pieces, permit))).into_response();
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response.extensions_mut().insert(Streamed);
    response
}

/// The same pieces, as long as somebody takes them.
pub(super) fn taken(
    pieces: impl Stream<Item = Result<Bytes, CallError>> + Send + 'static,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, CallError>> + Send {
    let (sender, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        let _held = permit;
        futures::pin_mut!(pieces);
        loop {
            let piece = tokio::select! {
                piece = pieces.next() => piece,
                () = sender.closed() => return,
            };
            let Some(piece) = piece else { return };
            if !matches!(tokio::time::timeout(STALL, sender.send(piece)).await, Ok(Ok(()))) {
                return;
            }
        }
    });
    futures::stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn a_parameter_cannot_add_to_the_query() {
        let options = Options::for_test(&[("task", "a&b=c/é"), ("other", "x"), ("path", "")]);
        assert_eq!(forwarded(&options.params, &["task", "none", "path"]), "task=a%26b%3Dc%2F%C3%A9&path=");
    }

    #[tokio::test]
    async fn a_caller_that_is_gone_frees_its_place() {
        let places = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let permit = places.clone().try_acquire_owned().unwrap();
        let endless = futures::stream::pending::<Result<Bytes, CallError>>();
        let stream = taken(endless, permit);
        assert_eq!(places.available_permits(), 0);
        drop(stream);
        let freed = tokio::time::timeout(Duration::from_secs(5), places.acquire()).await;
        assert!(freed.is_ok());
    }
}
