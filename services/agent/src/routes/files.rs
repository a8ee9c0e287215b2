//! The files of an allocation, for reading.
//!
//! Every path is opened by `driver::beneath`, which refuses whatever leads out of the allocation's directory,
//! secrets, and what is no regular file. Here its refusals get the words that clients match on.

use std::collections::HashMap;
use std::num::IntErrorKind;
use std::path::PathBuf;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use driver::beneath::{BeneathError, Entry, Root};
use driver::content;
use driver::logs::Origin;
use driver::tail::{FileReader, Part};
use model::{AllocId, Timestamp};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, Said, bad, flag, frames, not_here};

type Asked = HashMap<String, String>;

const NO_SNIFFING: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(stat))
        .routes(routes!(cat))
        .routes(routes!(read_at))
        .routes(routes!(stream))
}

/// `AllocFileInfo` on the wire.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct FileInfo {
    name: String,
    is_dir: bool,
    size: u64,
    file_mode: String,
    #[schema(value_type = String)]
    mod_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

impl FileInfo {
    fn of(entry: Entry) -> Self {
        let Entry { name, is_dir, size, file_mode, mod_time } = entry;
        Self { name, is_dir, size, file_mode, mod_time, content_type: None }
    }
}

/// A directory that is asked about, and the path in it.
struct Place {
    dir: PathBuf,
    path: String,
}

impl Place {
    fn of(app: &App, alloc: &str, query: &Asked) -> Result<Self, Said> {
        let id = AllocId::from(alloc);
        // Unknown ids are refused here, so that no id can be a path.
        if app.roster.view(&id).is_none() {
            return Err(not_here(&id));
        }
        let path = query.get("path").cloned().unwrap_or_default();
        Ok(Self { dir: app.roster.host().alloc_base.join(id.as_str()), path })
    }

    /// A path must be said.
    fn named(self) -> Result<Self, Said> {
        if self.path.is_empty() { Err(bad("must provide a file name")) } else { Ok(self) }
    }

    /// A refusal in the words of the compatible interface; `verb` is what was tried.
    fn said(&self, verb: &str, error: BeneathError) -> Said {
        let Self { dir, path } = self;
        match error {
            BeneathError::Escapes => bad("Path escapes the alloc directory"),
            BeneathError::NotFound => {
                let full = dir.join(path.trim_start_matches('/'));
                Said(StatusCode::NOT_FOUND, format!("{verb} {}: no such file or directory", full.display()))
            }
            BeneathError::Secret(path) => {
                Said(StatusCode::FORBIDDEN, format!("Reading secret file prohibited: {path}"))
            }
            BeneathError::IsDirectory(path) => bad(format!("file {path:?} is a directory")),
            BeneathError::NotDirectory(path) => bad(format!("file {path:?} is not a directory")),
            BeneathError::Special(path) => bad(format!("file {path:?} is no regular file")),
            error @ (BeneathError::Malformed | BeneathError::TooMany) => bad(error.to_string()),
            BeneathError::Io { path, source } => match source.raw_os_error() {
                // What the path is, not what we are.
                Some(20) => bad(format!("{verb} {path}: not a directory")),
                Some(36) => bad(format!("{verb} {path}: file name too long")),
                Some(40) => bad(format!("{verb} {path}: too many levels of symbolic links")),
                Some(6) => bad(format!("{verb} {path}: no such device or address")),
                Some(13) => Said(StatusCode::FORBIDDEN, format!("{verb} {path}: permission denied")),
                _ => {
                    tracing::warn!(path, error = %source, "file of an allocation cannot be read");
                    Said(StatusCode::INTERNAL_SERVER_ERROR, "failed to read the file".to_owned())
                }
            },
        }
    }

    /// Does something with the directory off the async threads.
    async fn with<T: Send + 'static>(
        self,
        verb: &'static str,
        work: impl FnOnce(&std::path::Path, &str) -> Result<T, BeneathError> + Send + 'static,
    ) -> Result<T, Said> {
        let working = tokio::task::spawn_blocking(move || {
            let done = work(&self.dir, &self.path);
            done.map_err(|error| self.said(verb, error))
        });
        let failed = |_| Said(StatusCode::INTERNAL_SERVER_ERROR, "failed to read the file".to_owned());
        working.await.map_err(failed)?
    }
}

/// Entries of a directory
#[utoipa::path(get, path = "/v1/client/fs/ls/{alloc}", operation_id = "listFiles", tag = "files",
    params(("alloc" = String, Path, description = "Allocation id"),
           ("path" = Option<String>, Query, description = "Directory, `/` unless given")),
    responses(
        (status = 200, description = "Entries by name", body = [FileInfo]),
        (status = 400, description = "The path leads out of the allocation, or is no directory", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation or the path is not here", body = String, content_type = "text/plain")))]
async fn list(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<Asked>,
) -> Result<Json<Vec<FileInfo>>, Said> {
    let place = Place::of(&app, &alloc, &query)?;
    let entries = place.with("open", |dir, path| Root::open(dir)?.list(path)).await?;
    Ok(Json(entries.into_iter().map(FileInfo::of).collect()))
}

/// One file or directory
#[utoipa::path(get, path = "/v1/client/fs/stat/{alloc}", operation_id = "statFile", tag = "files",
    params(("alloc" = String, Path, description = "Allocation id"), ("path" = String, Query, description = "File or directory")),
    responses(
        (status = 200, description = "What it is", body = FileInfo),
        (status = 400, description = "No path, or one that leads out of the allocation", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation or the path is not here", body = String, content_type = "text/plain")))]
async fn stat(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<Asked>,
) -> Result<Json<FileInfo>, Said> {
    let place = Place::of(&app, &alloc, &query)?.named()?;
    let info = place
        .with("stat", |dir, path| {
            let entry = Root::open(dir)?.stat(path)?;
            // What may not be read has no content to tell of.
            let head = if entry.is_dir { None } else { FileReader::open(dir, path, Part::WHOLE).ok() };
            let head = head.and_then(|file| file.head().ok());
            let content_type = head.map(|head| content::content_type(&entry.name, &head).to_owned());
            Ok(FileInfo { content_type: Some(content_type.unwrap_or_default()), ..FileInfo::of(entry) })
        })
        .await?;
    Ok(Json(info))
}

/// A whole file
#[utoipa::path(get, path = "/v1/client/fs/cat/{alloc}", operation_id = "readFile", tag = "files",
    params(("alloc" = String, Path, description = "Allocation id"), ("path" = String, Query, description = "File")),
    responses(
        (status = 200, description = "Its bytes; their type is told by the first of them", content((String = "application/octet-stream"), (String = "text/plain"), (String = "*/*"))),
        (status = 400, description = "No path, or one that cannot be read", body = String, content_type = "text/plain"),
        (status = 403, description = "A secret, or the caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation or the file is not here", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many files are being read", body = String, content_type = "text/plain")))]
async fn cat(State(app): State<App>, Path(alloc): Path<String>, Query(query): Query<Asked>) -> Result<Response, Said> {
    let place = Place::of(&app, &alloc, &query)?.named()?;
    bytes(app, place, Part::WHOLE).await
}

/// A part of a file
#[utoipa::path(get, path = "/v1/client/fs/readat/{alloc}", operation_id = "readFileAt", tag = "files",
    params(("alloc" = String, Path, description = "Allocation id"), ("path" = String, Query, description = "File"),
           ("offset" = i64, Query, description = "Bytes to pass over"),
           ("limit" = Option<i64>, Query, description = "Bytes to read; to the end unless given")),
    responses(
        (status = 200, description = "The bytes; their type is told by the first of them", content((String = "application/octet-stream"), (String = "text/plain"), (String = "*/*"))),
        (status = 400, description = "A parameter is missing or wrong, or the path cannot be read", body = String, content_type = "text/plain"),
        (status = 403, description = "A secret, or the caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation or the file is not here", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many files are being read", body = String, content_type = "text/plain")))]
async fn read_at(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<Asked>,
) -> Result<Response, Said> {
    let place = Place::of(&app, &alloc, &query)?.named()?;
    let number = |name: &str| match query.get(name).map(String::as_str) {
        None | Some("") => Ok(None),
        Some(text) => whole(name, text).map(Some),
    };
    let offset =
        number("offset")?.ok_or_else(|| bad("error parsing offset: strconv.ParseInt: parsing \"\": invalid syntax"))?;
    let offset = u64::try_from(offset).map_err(|_| bad("offset must not be negative"))?;
    // Zero and less: no limit.
    let limit = number("limit")?.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    bytes(app, place, Part { offset, limit, ..Part::WHOLE }).await
}

async fn bytes(app: App, place: Place, part: Part) -> Result<Response, Said> {
    let permit = permit(&app)?;
    let name = place.path.clone();
    let (reader, head) = place
        .with("stat", move |dir, path| {
            let reader = FileReader::open(dir, path, part)?;
            let head = reader.head().map_err(|source| BeneathError::Io { path: path.to_owned(), source })?;
            Ok((reader, head))
        })
        .await?;
    let stream = frames::stream(reader, true, permit, app.shutdown);
    let kind = [(header::CONTENT_TYPE, content::harmless_type(&name, &head)), NO_SNIFFING];
    Ok((kind, Body::from_stream(stream)).into_response())
}

/// A file, frame by frame, as it grows
///
/// Frames as of logs. `FileEvent` tells of `file truncated` (what follows begins at the start) and `file
/// deleted` (the last frame).
#[utoipa::path(get, path = "/v1/client/fs/stream/{alloc}", operation_id = "streamFile", tag = "files",
    params(("alloc" = String, Path, description = "Allocation id"), ("path" = String, Query, description = "File"),
           ("follow" = Option<bool>, Query, description = "Go on as it grows; true unless given"),
           ("offset" = Option<i64>, Query, description = "Bytes to pass over"),
           ("origin" = Option<String>, Query, description = "Count `offset` from the `start` (default) or the `end`")),
    responses(
        (status = 200, description = "Frames", body = String, content_type = "application/json"),
        (status = 400, description = "A parameter is missing or wrong, or the path cannot be read", body = String, content_type = "text/plain"),
        (status = 403, description = "A secret, or the caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many files are being read", body = String, content_type = "text/plain")))]
async fn stream(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<Asked>,
) -> Result<Response, Said> {
    let place = Place::of(&app, &alloc, &query)?.named()?;
    let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let follow = if get("follow").is_empty() { true } else { flag("follow", get("follow"))? };
    let offset = match get("offset") {
        "" => 0,
        text => whole("offset", text)?,
    };
    let origin = match get("origin") {
        "" | "start" => Origin::Start,
        "end" => Origin::End,
        _ => return Err(bad("origin must be start or end")),
    };
    let part = Part { origin, offset: u64::try_from(offset).unwrap_or(0), limit: None, follow };
    let permit = permit(&app)?;
    let opened = place.with("stat", move |dir, path| FileReader::open(dir, path, part)).await;
    // There is nothing to stream: the caller's mistake, whatever it is.
    let reader = opened.map_err(|Said(status, text)| match status {
        StatusCode::NOT_FOUND => bad(text),
        status => Said(status, text),
    })?;
    let stream = frames::stream(reader, false, permit, app.shutdown);
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response())
}

/// A number of the query, refused in the words of the compatible interface.
fn whole(name: &str, text: &str) -> Result<i64, Said> {
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        bad(format!("error parsing {name}: strconv.ParseInt: parsing {text:?}: {why}"))
    })
}

fn permit(app: &App) -> Result<OwnedSemaphorePermit, Said> {
    let busy = |_| Said(StatusCode::TOO_MANY_REQUESTS, "too many files are being read on this node".to_owned());
    app.readers.clone().try_acquire_owned().map_err(busy)
}
