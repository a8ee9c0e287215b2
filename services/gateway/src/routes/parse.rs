//! Job files in: text to a job.

use api::public::JobsParseRequest;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use jobspec::{API_FILE_NAME, Diagnostics, Inputs, Parsed, STACK_BYTES, Source};
use tokio::sync::oneshot;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::options::Options;

/// Asks for diagnostics as JSON instead of a sentence.
pub const DIAGNOSTICS: &str = "application/vnd.steppe.diagnostics+json";
/// What the variables' text is called in messages.
const VARIABLES_NAME: &str = "input.hcl#variables";
/// What a parse needs beside the parser's own stack.
const STACK_MORE_BYTES: usize = 256 * 1024;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(parse))
}

/// Parse a job file
///
/// HCL, or its JSON form, to a job. With `Accept: application/vnd.steppe.diagnostics+json` what is wrong
/// comes as a list with places in the text.
#[utoipa::path(post, path = "/v1/jobs/parse", operation_id = "parseJob", tag = "jobs",
    request_body(content = JobsParseRequest, example = json!({"JobHCL": "job \"a\" {\n}", "Canonicalize": true})),
    responses(
        (status = 200, description = "The job, as a client writes it", body = Object),
        (status = 400, description = "What is wrong with the text", body = String, content_type = "text/plain")))]
async fn parse(State(app): State<App>, headers: HeaderMap, options: Options, body: Whole) -> Answered {
    let (request, _) = body.decode::<JobsParseRequest>(&options)?;
    if request.job_hcl.is_empty() {
        return Err(ApiError::bad("Job spec is empty"));
    }
    let canonicalize = request.canonicalize;
    match parse_aside(&app, request).await? {
        Ok(mut parsed) if canonicalize => {
            parsed.job.canonicalize_parsed();
            options.style.json(&model::parse_shape(&parsed.job))
        }
        Ok(parsed) => options.style.json(&parsed.json),
        Err(found) => refuse(&headers, &found),
    }
}

fn refuse(headers: &HeaderMap, found: &Diagnostics) -> Answered {
    if !wants_diagnostics(headers) {
        return Err(ApiError::bad(format!("Failed to parse job: {}", found.reference_text())));
    }
    diagnostics(StatusCode::BAD_REQUEST, found)
}

/// Whether the caller asks for findings as data.
pub(super) fn wants_diagnostics(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains(DIAGNOSTICS))
}

pub(super) fn diagnostics(status: StatusCode, found: &impl serde::Serialize) -> Answered {
    let json = serde_json::to_vec(found).map_err(|e| ApiError::internal("diagnostics cannot be written", &e))?;
    Ok((status, [(header::CONTENT_TYPE, DIAGNOSTICS)], json).into_response())
}

/// On a thread with the stack that the parser may need; only so many at a time.
async fn parse_aside(app: &App, request: JobsParseRequest) -> Result<Result<Parsed, Diagnostics>, ApiError> {
    let permit = app.parses.clone().acquire_owned().await;
    let (send, done) = oneshot::channel();
    let work = move || {
        let _permit = permit;
        // Nobody listens any more when the caller is gone.
        let _ = send.send(parse_text(&request));
    };
    std::thread::Builder::new()
        .name("parse".to_owned())
        .stack_size(STACK_BYTES + STACK_MORE_BYTES)
        .spawn(work)
        .map_err(|e| ApiError::internal("no thread for a parse", &e))?;
    done.await.map_err(|e| ApiError::internal("parse broke off", &e))
}

fn parse_text(request: &JobsParseRequest) -> Result<Parsed, Diagnostics> {
    let var_files = match request.variables.as_str() {
        "" => Vec::new(),
        text => vec![(VARIABLES_NAME.to_owned(), text.to_owned())],
    };
    let inputs = Inputs {
        var_files,
        now_unix_ns: client::clock::unix_nanos(),
        seed: (crate::app::random_unit() * f64::from(u32::MAX)) as u64,
        ..Inputs::default()
    };
    jobspec::parse(Source { name: API_FILE_NAME, text: &request.job_hcl }, &inputs)
}
