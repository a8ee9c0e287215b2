//! What gateways ask of an agent: output and files of tasks, what they use, commands beside them, restarts,
//! signals, collecting.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use driver::logs::{LogReader, Origin};
use kit::background::Task;
use kit::guard::require;
use kit::process::Shutdown;
use model::{AllocId, Role};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::link::Link;
use crate::node::Maker;
use crate::roster::Roster;
use crate::stats::Sampler;

mod exec;
mod files;
mod frames;
mod host;
mod membership;
mod pausing;
mod tasks;

const GATEWAYS: &[Role] = &[Role::Gateway];
/// Outputs and files read at the same time.
const READERS_MAX: usize = 256;
/// Commands beside tasks at the same time.
const SESSIONS_MAX: usize = 64;

#[derive(Clone)]
pub struct App {
    link: Arc<Link>,
    roster: Roster,
    readers: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    sampler: Arc<Sampler>,
    maker: Maker,
    /// Looks at the host, and at what is said of it, again.
    fingerprint: Task,
    shutdown: Shutdown,
}

impl App {
    pub fn new(link: Arc<Link>, roster: Roster, maker: Maker, fingerprint: Task, shutdown: Shutdown) -> Self {
        Self {
            link,
            roster,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            sampler: Arc::default(),
            maker,
            fingerprint,
            shutdown,
        }
    }
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(logs))
        .merge(files::router())
        .merge(tasks::router())
        .merge(pausing::router())
        .merge(exec::router())
        .merge(host::router())
        .merge(membership::router())
        .layer(require(GATEWAYS))
}

/// An answer the gateway passes on as it is: a status and a sentence.
#[derive(Debug, PartialEq, Eq)]
struct Said(StatusCode, String);

impl IntoResponse for Said {
    fn into_response(self) -> Response {
        (self.0, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.1).into_response()
    }
}

fn bad(text: impl Into<String>) -> Said {
    Said(StatusCode::BAD_REQUEST, text.into())
}

/// The allocation was here once, or never.
fn not_here(id: &AllocId) -> Said {
    Said(StatusCode::NOT_FOUND, format!("state for allocation {id} not found on client"))
}

fn unknown_alloc(id: &AllocId) -> Said {
    Said(StatusCode::NOT_FOUND, format!("Unknown allocation {:?}", id.as_str()))
}

/// A parameter that is true or false.
fn flag(name: &str, given: &str) -> Result<bool, Said> {
    let text =
        || format!("failed to parse {name} field to boolean: strconv.ParseBool: parsing {given:?}: invalid syntax");
    parse_bool(given).ok_or_else(|| bad(text()))
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Ask {
    task: String,
    stream: String,
    follow: bool,
    plain: bool,
    origin: Origin,
    offset: u64,
}

impl Ask {
    fn read(query: &HashMap<String, String>) -> Result<Self, Said> {
        let get = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let flag = |name: &str| flag(name, get(name));
        if get("task").is_empty() {
            return Err(bad("must provide task name"));
        }
        let follow = flag("follow")?;
        if !matches!(get("type"), "stdout" | "stderr") {
            return Err(bad("must provide log type (stdout/stderr)"));
        }
        let offset = match get("offset") {
            "" => 0,
            text => text.parse::<i64>().map_err(|_| {
                bad(format!("error parsing offset: strconv.ParseInt: parsing {text:?}: invalid syntax"))
            })?,
        };
        let origin = match get("origin") {
            "" | "start" => Origin::Start,
            "end" => Origin::End,
            _ => return Err(bad("origin must be start or end")),
        };
        let plain = flag("plain")?;
        let (task, stream) = (get("task").to_owned(), get("type").to_owned());
        Ok(Self { task, stream, follow, plain, origin, offset: u64::try_from(offset).unwrap_or(0) })
    }
}

/// The spellings the compatible interface takes; nothing at all is false.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Output of a task
///
/// A stream of frames (JSON objects with `Offset`, `Data` in base64, `File`, `FileEvent`, nothing between
/// them; an empty one each second when there is nothing to say), or with `plain` the bytes themselves.
/// With `follow` it goes on until the caller hangs up.
#[utoipa::path(get, path = "/v1/client/fs/logs/{alloc}", operation_id = "taskLogs", tag = "tasks",
    params(
        ("alloc" = String, Path, description = "Allocation id"),
        ("task" = String, Query, description = "Name of the task"),
        ("type" = String, Query, description = "`stdout` or `stderr`"),
        ("follow" = Option<bool>, Query, description = "Go on with what is written later"),
        ("plain" = Option<bool>, Query, description = "Bytes instead of frames"),
        ("origin" = Option<String>, Query, description = "Count `offset` from the `start` (default) or the `end`"),
        ("offset" = Option<i64>, Query, description = "Bytes to pass over")),
    responses(
        (status = 200, description = "Frames, or bytes", body = String, content_type = "application/json"),
        (status = 400, description = "A parameter is missing or wrong, or the task is not part of the group", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here, or the task has not started", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many outputs are being read", body = String, content_type = "text/plain")))]
async fn logs(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Response> {
    let ask = Ask::read(&query).map_err(Said::into_response)?;
    let readers = Arc::clone(&app.readers);
    let permit = readers.try_acquire_owned().map_err(|_| {
        Said(StatusCode::TOO_MANY_REQUESTS, "too many logs are being read on this node".to_owned()).into_response()
    })?;
    let plain = ask.plain;
    let reader = open(&app, &AllocId::from(alloc), ask).await.map_err(Said::into_response)?;
    let stream = frames::stream(reader, plain, permit, app.shutdown);
    let kind = if plain { "text/plain" } else { "application/json" };
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(stream)).into_response())
}

async fn open(app: &App, id: &AllocId, ask: Ask) -> Result<LogReader, Said> {
    let not_found = |text: String| Said(StatusCode::NOT_FOUND, text);
    let Some(view) = app.roster.view(id) else {
        return Err(not_here(id));
    };
    let Some(state) = view.report.task_states.get(&ask.task) else {
        return Err(bad(format!("unknown task name {:?}", ask.task)));
    };
    let not_started = format!("task {:?} not started yet. No logs available", ask.task);
    if state.started_at.is_none() {
        return Err(not_found(not_started));
    }
    let dir = app.roster.host().alloc_base.join(id.as_str());
    let opening = move || LogReader::open(&dir, &ask.task, &ask.stream, ask.follow, ask.origin, ask.offset);
    match tokio::task::spawn_blocking(opening).await {
        Ok(Ok(reader)) => Ok(reader),
        Ok(Err(driver::logs::LogError::NotFound)) => Err(not_found(not_started)),
        Ok(Err(error)) => {
            tracing::warn!(alloc_id = %id, error = %error, "logs cannot be read");
            Err(Said(StatusCode::INTERNAL_SERVER_ERROR, "failed to read logs".to_owned()))
        }
        Err(_) => Err(Said(StatusCode::INTERNAL_SERVER_ERROR, "failed to read logs".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&str, &str)]) -> Result<Ask, String> {
        let query = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Ask::read(&query).map_err(|said| said.1)
    }

    #[test]
    fn wrong_parameters_get_the_sentences_clients_match_logs_16() {
        assert_eq!(ask(&[("type", "stdout")]).unwrap_err(), "must provide task name");
        let wrong = |name: &str, value: &str| ask(&[("type", "stdout"), ("task", "t"), (name, value)]).unwrap_err();
        assert_eq!(wrong("type", "stdin"), "must provide log type (stdout/stderr)");
        assert_eq!(wrong("origin", "middle"), "origin must be start or end");
        assert!(wrong("follow", "x").starts_with("failed to parse follow field to boolean: "));
        assert!(wrong("plain", "x").starts_with("failed to parse plain field to boolean: "));
        assert!(wrong("offset", "x").starts_with("error parsing offset: "));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let got = ask(&[("type", "stderr"), ("task", "t")]).unwrap();
        assert_eq!((got.follow, got.plain, got.origin, got.offset), (false, false, Origin::Start, 0));
        assert_eq!(ask(&[("type", "stderr"), ("task", "t"), ("offset", "-4")]).unwrap().offset, 0);
    }
}
