//! Job files in: text to a job.

use api::public::JobsParseRequest;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jobspec::{API_FILE_NAME, Diagnostics, Inputs, Parsed, STACK_BYTES, Source};
use model::job::JobSubmission;
use tokio::sync::oneshot;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::findings::{self, Findings};
use crate::intake::{self, Envelope};
use crate::options::Options;

/// What the variables' text is called in messages.
const VARIABLES_NAME: &str = "input.hcl#variables";
/// What a parse needs beside the parser's own stack.
const STACK_MORE_BYTES: usize = 256 * 1024;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(parse))
}

/// A job file, and what its variables are given.
pub struct Text {
    source: String,
    var_files: Vec<(String, String)>,
    vars: Vec<(String, String)>,
}

impl Text {
    fn new(source: String, variables: &str, vars: Vec<(String, String)>) -> Self {
        let var_files = match variables {
            "" => Vec::new(),
            text => vec![(VARIABLES_NAME.to_owned(), text.to_owned())],
        };
        Self { source, var_files, vars }
    }

    /// The file that a job was made from.
    pub fn of_submission(given: &JobSubmission) -> Self {
        let vars = given.variable_flags.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Self::new(given.source.clone(), &given.variables, vars)
    }
}

/// Parse a job file
///
/// HCL, or its JSON form, to a job. With `Validate` (of this server) a job that could not be registered is
/// refused, in the sentences of `/v1/validate/job`. With
/// `Accept: application/vnd.steppe.diagnostics+json` what is wrong comes as a list with places in the text.
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
    let mut parsed = match aside(&app, Text::new(request.job_hcl, &request.variables, Vec::new())).await? {
        Ok(parsed) => parsed,
        Err(found) => return refuse(&headers, &found),
    };
    if request.validate {
        let mut job = parsed.job.clone();
        intake::settle(&app, &options, Envelope::default(), &mut job)?;
        let problems = model::validate(&job);
        if !problems.is_empty() && findings::wanted(&headers) {
            let found = Findings::of(&parsed.places, jobspec::Severity::Error, &problems);
            return found.answer(StatusCode::BAD_REQUEST);
        }
        if !problems.is_empty() {
            return Err(ApiError::bad(model::report(&problems)));
        }
    }
    if request.canonicalize {
        parsed.job.canonicalize_parsed();
        options.style.json(&model::parse_shape(&parsed.job))
    } else {
        options.style.json(&parsed.json)
    }
}

fn refuse(headers: &HeaderMap, found: &Diagnostics) -> Answered {
    if !findings::wanted(headers) {
        return Err(ApiError::bad(format!("Failed to parse job: {}", found.reference_text())));
    }
    findings::answer(StatusCode::BAD_REQUEST, found)
}

/// Parses on a thread with the stack that the parser may need; only so many at a time.
///
/// # Errors
/// There is no thread for it.
pub async fn aside(app: &App, text: Text) -> Result<Result<Parsed, Diagnostics>, ApiError> {
    let permit = app.parses.clone().acquire_owned().await;
    let (send, done) = oneshot::channel();
    let work = move || {
        let _permit = permit;
        // Nobody listens any more when the caller is gone.
        let _ = send.send(parse_text(text));
    };
    std::thread::Builder::new()
        .name("parse".to_owned())
        .stack_size(STACK_BYTES + STACK_MORE_BYTES)
        .spawn(work)
        .map_err(|e| ApiError::internal("no thread for a parse", &e))?;
    done.await.map_err(|e| ApiError::internal("parse broke off", &e))
}

fn parse_text(text: Text) -> Result<Parsed, Diagnostics> {
    let inputs = Inputs {
        var_files: text.var_files,
        vars: text.vars,
        now_unix_ns: client::clock::unix_nanos(),
        seed: (crate::app::random_unit() * f64::from(u32::MAX)) as u64,
        ..Inputs::default()
    };
    jobspec::parse(Source { name: API_FILE_NAME, text: &text.source }, &inputs)
}
