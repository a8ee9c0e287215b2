//! Files of an allocation, from the node that has them. Whether a path may be read is decided there.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::any;
use client::http::Call;
use model::AllocId;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::{ANSWER, FRAMES_SILENCE, find, forwarded, get_json, passed_on, refused, stream_permit, target};
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::Options;

/// Longest silence of a file's bytes: they are there already.
const BYTES_SILENCE: Duration = Duration::from_secs(30);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(stat))
        .routes(routes!(cat))
        .routes(routes!(read_at))
        .routes(routes!(stream))
}

/// Paths that are none of the above, in the reference's words.
pub fn odd_paths() -> Router<App> {
    let no_id = || async { ApiError::bad("must provide a valid alloc id") };
    Router::new()
        .route("/v1/client/fs/{action}", any(no_id))
        .route("/v1/client/fs/{action}/", any(no_id))
        .route("/v1/client/fs/{action}/{*rest}", any(|| async { ApiError::not_found("Invalid method") }))
}

/// `AllocFileInfo` on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code, reason = "documentation; nodes write it")]
struct AllocFileInfo {
    name: String,
    is_dir: bool,
    size: u64,
    /// `-rw-r--r--`
    file_mode: String,
    mod_time: String,
    /// Of one file only.
    content_type: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct PathParam {
    /// In the allocation's directory: `web/local/index.html`.
    path: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct PartParams {
    /// Bytes to pass over.
    offset: i64,
    /// Bytes to read; to the end unless given.
    limit: Option<i64>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct StreamParams {
    /// Go on as the file grows; true unless given.
    follow: Option<bool>,
    /// Bytes to pass over.
    offset: Option<i64>,
    /// Count `offset` from the `start` (default) or the `end`.
    origin: Option<String>,
}

fn named(options: &Options) -> Result<(), ApiError> {
    options.params.text("path").map(drop).ok_or_else(|| ApiError::bad("must provide a file name"))
}

/// List a directory of an allocation
#[utoipa::path(get, path = "/v1/client/fs/ls/{alloc_id}", operation_id = "listAllocFiles", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), PathParam),
    responses(
        (status = 200, description = "Entries by name", body = Vec<AllocFileInfo>),
        (status = 400, description = "The path leads out of the allocation, or is no directory", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, no path to its node, or no such file", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let alloc = find(&app, AllocId::from(id)).await?;
    let path = format!("/v1/client/fs/ls/{}?{}", alloc.id, forwarded(&options.params, &["path"]));
    get_json(&app, &alloc.node_id, path, options.style).await
}

/// Look at a file of an allocation
#[utoipa::path(get, path = "/v1/client/fs/stat/{alloc_id}", operation_id = "statAllocFile", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), PathParam),
    responses(
        (status = 200, description = "What it is", body = AllocFileInfo),
        (status = 400, description = "No path, or one that leads out of the allocation", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, no path to its node, or no such file", body = String, content_type = "text/plain")))]
async fn stat(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    named(&options)?;
    let alloc = find(&app, AllocId::from(id)).await?;
    let path = format!("/v1/client/fs/stat/{}?{}", alloc.id, forwarded(&options.params, &["path"]));
    get_json(&app, &alloc.node_id, path, options.style).await
}

/// Read a file of an allocation
#[utoipa::path(get, path = "/v1/client/fs/cat/{alloc_id}", operation_id = "readAllocFile", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), PathParam),
    responses(
        (status = 200, description = "Its bytes; their type is told by the first of them", content((String = "application/octet-stream"), (String = "text/plain"), (String = "*/*"))),
        (status = 400, description = "No path, or one that cannot be read", body = String, content_type = "text/plain"),
        (status = 403, description = "A secret", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, no path to its node, or no such file", body = String, content_type = "text/plain")))]
async fn cat(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    named(&options)?;
    streamed(&app, id, "cat", &forwarded(&options.params, &["path"]), None).await
}

/// Read a part of a file of an allocation
#[utoipa::path(get, path = "/v1/client/fs/readat/{alloc_id}", operation_id = "readAllocFileAt", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), PathParam, PartParams),
    responses(
        (status = 200, description = "The bytes; their type is told by the first of them", content((String = "application/octet-stream"), (String = "text/plain"), (String = "*/*"))),
        (status = 400, description = "A parameter is missing or wrong, or the path cannot be read", body = String, content_type = "text/plain"),
        (status = 403, description = "A secret", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, no path to its node, or no such file", body = String, content_type = "text/plain")))]
async fn read_at(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    named(&options)?;
    streamed(&app, id, "readat", &forwarded(&options.params, &["path", "offset", "limit"]), None).await
}

/// Follow a file of an allocation
///
/// A stream of frames. `{}` is a beat; `FileEvent` tells of `file truncated` and `file deleted`.
#[utoipa::path(get, path = "/v1/client/fs/stream/{alloc_id}", operation_id = "streamAllocFile", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), PathParam, StreamParams),
    responses(
        (status = 200, description = "Frames", body = Object, example = json!({"Data": "aGVsbG8K", "File": "web/local/f", "Offset": 6})),
        (status = 400, description = "A parameter is missing or wrong, or the path cannot be read", body = String, content_type = "text/plain"),
        (status = 403, description = "A secret", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn stream(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    named(&options)?;
    let query = forwarded(&options.params, &["path", "follow", "offset", "origin"]);
    streamed(&app, id, "stream", &query, Some("application/json")).await
}

async fn streamed(app: &App, id: String, action: &str, query: &str, kind: Option<&'static str>) -> Answered {
    let alloc = find(app, AllocId::from(id)).await?;
    let permit = stream_permit(app)?;
    let silence = if kind.is_some() { FRAMES_SILENCE } else { BYTES_SILENCE };
    let call = Call::get(format!("/v1/client/fs/{action}/{}?{query}", alloc.id), ANSWER);
    let opened = app.http.open(target(app, &alloc.node_id).await?, call, silence).await;
    let streaming = opened.map_err(|error| refused(&alloc.node_id, error))?;
    Ok(passed_on(app, streaming, permit, kind))
}
