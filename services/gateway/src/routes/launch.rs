//! Jobs that start others: dispatch, and a periodic job's turn out of turn.

use std::collections::BTreeSet;

use api::job_changes::{JobDispatchRequest, JobDispatchResponse, PeriodicForceResponse};
use axum::extract::{Path, State};
use fsm::command::{JobDispatch, JobLaunch};
use fsm::{Command, Reply};
use model::Job;
use model::bytes::Bytes;
use model::launch::PAYLOAD_BYTES_MAX;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::register::check_registration_is_on;
use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::intake::key;
use crate::options::Options;
use crate::read::fresh;
use crate::write::{Trigger, evaluation, propose};

/// Longest prefix of a child's name.
const PREFIX_BYTES_MAX: usize = 128;
const TOKEN_BYTES_MAX: usize = 512;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(dispatch)).routes(routes!(dispatch_payload)).routes(routes!(force))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct DispatchParams {
    /// While a child with this token is there, it is answered instead of another being made.
    idempotency_token: Option<String>,
}

/// Dispatch a parameterized job
///
/// A child of it runs with this payload and these metadata.
#[utoipa::path(post, path = "/v1/job/{job_id}/dispatch", operation_id = "dispatchJob", tag = "jobs",
    request_body(content = JobDispatchRequest, example = json!({"Payload": "aGVsbG8=", "Meta": {"who": "me"}})),
    params(("job_id" = String, Path, description = "Id of the job"), DispatchParams, super::WriteParams),
    responses(
        (status = 200, description = "The child", body = JobDispatchResponse),
        (status = 400, description = "Not what the job asks for", body = String, content_type = "text/plain"),
        (status = 403, description = "Registration is switched off", body = String, content_type = "text/plain"),
        (status = 404, description = "parameterized job not found", body = String, content_type = "text/plain")))]
async fn dispatch(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let request = body.decode_optional::<JobDispatchRequest>(&options)?.unwrap_or_default();
    if !request.job_id.is_empty() && request.job_id != id {
        return Err(ApiError::bad("Job ID does not match"));
    }
    start(&app, &options, write, &id, request).await
}

/// Dispatch a parameterized job with a body as its payload
#[utoipa::path(post, path = "/v1/job/{job_id}/dispatch/payload", operation_id = "dispatchJobPayload", tag = "jobs",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("job_id" = String, Path, description = "Id of the job"), DispatchParams, super::WriteParams),
    responses(
        (status = 200, description = "The child", body = JobDispatchResponse),
        (status = 400, description = "Not what the job asks for", body = String, content_type = "text/plain"),
        (status = 404, description = "parameterized job not found", body = String, content_type = "text/plain")))]
async fn dispatch_payload(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let request = JobDispatchRequest { payload: Bytes(body.0.to_vec()), ..JobDispatchRequest::default() };
    start(&app, &options, write, &id, request).await
}

async fn start(app: &App, options: &Options, mut write: Write, id: &str, request: JobDispatchRequest) -> Answered {
    check_registration_is_on(app)?;
    let token = options.params.text("idempotency_token").map(str::to_owned);
    if token.as_ref().is_some_and(|token| token.len() > TOKEN_BYTES_MAX) {
        return Err(ApiError::bad(format!("an idempotency token has at most {TOKEN_BYTES_MAX} bytes")));
    }
    let (namespace, job_id) = key(options, id);
    let view = fresh(app, false).await?;
    let parent = view.state.job(&namespace, &job_id);
    let parent = parent.ok_or_else(|| ApiError::not_found("parameterized job not found"))?;
    let mut child = child(parent, &request, &mut write)?;
    child.dispatch_idempotency_token = token.or_else(|| child.dispatch_idempotency_token.take());
    let eval = (!child.is_periodic()).then(|| evaluation(&mut write, &child, Trigger::JobRegister, None));
    let command = JobDispatch { parent: job_id, child, eval };
    let (index, reply) = propose(app, &write, Command::JobDispatch(Box::new(command))).await?;
    let Reply::Child { job_id, job_index, eval_id, eval_index } = reply else {
        return Err(ApiError::internal("dispatch was answered by something else", &"no child"));
    };
    let response = JobDispatchResponse {
        dispatched_job_id: job_id,
        eval_id: eval_id.unwrap_or_default().to_string(),
        eval_create_index: eval_index.unwrap_or_default(),
        job_create_index: job_index,
        index,
    };
    options.style.write(&response, index)
}

/// The child that a request asks for, if the job takes it.
fn child(parent: &Job, request: &JobDispatchRequest, write: &mut Write) -> Result<Job, ApiError> {
    let id = parent.id();
    let config = parent.parameterized_job.as_ref().filter(|_| parent.is_parameterized());
    let config =
        config.ok_or_else(|| ApiError::bad(format!("Specified job {:?} is not a parameterized job", id.as_str())))?;
    if parent.is_stopped() {
        return Err(ApiError::bad(format!("Specified job {:?} is stopped", id.as_str())));
    }
    let bytes = request.payload.0.len();
    let text = match config.payload.as_str() {
        "required" if bytes == 0 => "Payload is not provided but required by parameterized job".to_owned(),
        "forbidden" if bytes > 0 => "Payload provided but forbidden by parameterized job".to_owned(),
        _ if bytes > PAYLOAD_BYTES_MAX => format!("Payload exceeds maximum size; {bytes} > {PAYLOAD_BYTES_MAX}"),
        _ => String::new(),
    };
    if !text.is_empty() {
        return Err(ApiError::bad(text));
    }
    let takes: BTreeSet<&String> = config.meta_required.iter().chain(&config.meta_optional).collect();
    let extra: Vec<&str> = request.meta.keys().filter(|key| !takes.contains(key)).map(String::as_str).collect();
    if !extra.is_empty() {
        let text = format!("Dispatch request included unpermitted metadata keys: [{}]", extra.join(" "));
        return Err(ApiError::bad(text));
    }
    let given = |key: &&String| request.meta.contains_key(*key);
    let missing: Vec<&str> = config.meta_required.iter().filter(|key| !given(key)).map(String::as_str).collect();
    if !missing.is_empty() {
        let text = format!("Dispatch did not provide required meta keys: [{}]", missing.join(" "));
        return Err(ApiError::bad(text));
    }
    if !(0..=100).contains(&request.priority) {
        return Err(ApiError::bad("job priority must be between [1, 100]"));
    }
    let prefix = request.id_prefix_template.as_str();
    if prefix.len() > PREFIX_BYTES_MAX || prefix.contains([' ', '\0', '/']) {
        return Err(ApiError::bad("the prefix of the dispatched job's id is too long, or no part of an id"));
    }
    // A write that is named makes the same child again.
    let (at_s, random) = (write.request.at_ms / 1000, write.mint());
    let name = format!("{at_s}-{}", random.get(..8).unwrap_or_default());
    let name = if prefix.is_empty() { name } else { format!("{prefix}-{name}") };
    let mut child = parent.dispatched_child(&name);
    child.payload = request.payload.clone();
    child.meta.extend(request.meta.clone());
    if request.priority > 0 {
        child.priority = Some(request.priority);
    }
    Ok(child)
}

/// Launch a periodic job now
///
/// Whatever its schedule says and whatever of it still runs.
#[utoipa::path(post, path = "/v1/job/{job_id}/periodic/force", operation_id = "forcePeriodicJob", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), super::WriteParams),
    responses(
        (status = 200, description = "Launched", body = PeriodicForceResponse),
        (status = 400, description = "It is not periodic, or its clock stands", body = String, content_type = "text/plain"),
        (status = 404, description = "job not found", body = String, content_type = "text/plain")))]
async fn force(State(app): State<App>, Path(id): Path<String>, options: Options, mut write: Write) -> Answered {
    check_registration_is_on(&app)?;
    let (namespace, job_id) = key(&options, &id);
    let view = fresh(&app, false).await?;
    let parent = view.state.job(&namespace, &job_id).ok_or_else(|| ApiError::not_found("job not found"))?;
    if !parent.is_periodic() {
        return Err(ApiError::bad("can't force launch non-periodic job"));
    }
    if !parent.is_periodic_active() {
        return Err(ApiError::bad("can't force run non-tracked job"));
    }
    let at_s = i64::try_from(write.request.at_ms / 1000).unwrap_or_default();
    let child = parent.periodic_child(at_s);
    let eval = Some(evaluation(&mut write, &child, Trigger::PeriodicJob, None));
    let (at, child) = (at_s.saturating_mul(1_000_000_000), Some(Box::new(child)));
    let command = JobLaunch { namespace, job_id, at, child, eval, forced: true };
    let (index, reply) = propose(&app, &write, Command::JobLaunch(Box::new(command))).await?;
    let (eval_id, eval_index) = match reply {
        Reply::Child { eval_id, eval_index, .. } => (eval_id.unwrap_or_default(), eval_index.unwrap_or_default()),
        _ => Default::default(),
    };
    let response = PeriodicForceResponse { eval_id: eval_id.to_string(), eval_create_index: eval_index, index };
    options.style.write(&response, index)
}
