//! The process that answers, as such: reading its machine's configuration again, profiles.

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::Options;

/// What the reference, a Go program, can be profiled for.
const PROFILES: [&str; 8] = ["profile", "trace", "heap", "goroutine", "allocs", "block", "mutex", "threadcreate"];
/// A command line is not longer.
const CMDLINE_BYTES_MAX: usize = 1 << 20;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(reload)).routes(routes!(cmdline)).routes(routes!(profile))
}

/// Read the configuration of the machine asked again
///
/// As SIGHUP does. What is wrong with the files, and what waits for the next start, is said in the machine's log.
#[utoipa::path(post, path = "/v1/agent/reload", operation_id = "reloadAgent", tag = "agent",
    responses(
        (status = 200, description = "It is being read"),
        (status = 409, description = "No process keeps the machine's", body = String, content_type = "text/plain"),
        (status = 501, description = "The machine asked is no server", body = String, content_type = "text/plain")))]
async fn reload(asked: Asked) -> Result<StatusCode, ApiError> {
    asked.server_only()?;
    kit::process::reload_machine().map_err(|error| {
        tracing::warn!(%error, "configuration is not read again: no process keeps this machine's");
        ApiError::new(StatusCode::CONFLICT, "no configuration to read again: this machine is not run by `steppe agent`")
    })?;
    Ok(StatusCode::OK)
}

fn allowed(app: &App, asked: &Asked, options: &Options) -> Result<(), ApiError> {
    if !app.machine.enable_debug {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Permission denied"));
    }
    let elsewhere = options.params.text("server_id").or(options.params.text("node_id"));
    if elsewhere.is_some() || !asked.server {
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "ask the server itself: this is not passed on"));
    }
    Ok(())
}

/// Read the command line of the process that answers
#[utoipa::path(get, path = "/v1/agent/pprof/cmdline", operation_id = "readCmdline", tag = "agent",
    responses(
        (status = 200, description = "Words, with a zero byte between them", body = String, content_type = "text/plain"),
        (status = 403, description = "Without `enable_debug`", body = String, content_type = "text/plain")))]
async fn cmdline(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    allowed(&app, &asked, &options)?;
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut text = words.join("\0").into_bytes();
    text.truncate(CMDLINE_BYTES_MAX);
    let mut response = ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Refuse a profile
///
/// They are of the Go runtime, which there is none of here.
#[utoipa::path(get, path = "/v1/agent/pprof/{profile}", operation_id = "readProfile", tag = "agent",
    params(("profile" = String, Path, description = "`heap`, `goroutine`, `profile` …")),
    responses(
        (status = 403, description = "Without `enable_debug`", body = String, content_type = "text/plain"),
        (status = 404, description = "No such profile", body = String, content_type = "text/plain"),
        (status = 501, description = "Why there is none, and what to use instead", body = String, content_type = "text/plain")))]
async fn profile(State(app): State<App>, asked: Asked, Path(name): Path<String>, options: Options) -> Answered {
    allowed(&app, &asked, &options)?;
    if !PROFILES.contains(&name.as_str()) {
        return Err(ApiError::not_found(format!("Pprof profile not found profile: {name}")));
    }
    let text = format!(
        "there is no profile {name:?}: it is the Go runtime's, and no such runtime is here; \
         on the machine, `perf record -g -p PID` and /proc/PID show what a process does"
    );
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, text))
}
