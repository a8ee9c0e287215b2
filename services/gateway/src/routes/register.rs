//! Jobs in: register, validate, plan.

use api::public::{
    JobPlanRequest, JobPlanResponse, JobRegisterRequest, JobRegisterResponse, JobValidateRequest, JobValidateResponse,
};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use fsm::{Command, Reply};
use jobspec::Severity;
use model::diff::{JobDiff, annotate, diff_jobs};
use model::job::JobSubmission;
use model::{Job, Timestamp};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::findings::{self, Findings};
use crate::intake::{self, Envelope};
use crate::options::Options;
use crate::read::fresh;
use crate::write::{Trigger, eval_priority, evaluation, propose};

/// Largest source text kept with a job; a larger one is left out.
pub const SOURCE_BYTES_MAX: usize = 1_000_000;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(update))
        .routes(routes!(validate))
        .routes(routes!(plan))
}

/// Register a job
///
/// A new job, or a new version of one. The same specification again makes no new version. `PUT` is the
/// same. With `Accept: application/vnd.steppe.diagnostics+json` what is wrong with the job comes as a list,
/// with lines and columns when `Submission` carries the job file.
#[utoipa::path(post, path = "/v1/jobs", operation_id = "registerJob", tag = "jobs",
    request_body(content = JobRegisterRequest, description = "The job, in an envelope",
        example = json!({"Job": {"ID": "hello", "Datacenters": ["*"], "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t",
            "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["1000"]}}]}]}})),
    params(super::WriteParams),
    responses(
        (status = 200, description = "Registered", body = JobRegisterResponse),
        (status = 400, description = "Malformed, or all that is wrong with the job", body = String, content_type = "text/plain"),
        (status = 403, description = "Registration is switched off", body = String, content_type = "text/plain"),
        (status = 409, description = "The job is not at the enforced index", body = String, content_type = "text/plain"),
        (status = 413, description = "The body is too large", body = String, content_type = "text/plain")))]
pub(super) async fn register(
    State(app): State<App>,
    headers: HeaderMap,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let (request, unknown) = body.decode(&options)?;
    accept(&app, &headers, &options, write, request, unknown, None).await
}

/// Register a job under its id
#[utoipa::path(post, path = "/v1/job/{job_id}", operation_id = "updateJob", tag = "jobs",
    request_body = JobRegisterRequest, params(("job_id" = String, Path, description = "Id of the job"), super::WriteParams),
    responses(
        (status = 200, description = "Registered", body = JobRegisterResponse),
        (status = 400, description = "Malformed, or not the job of the path", body = String, content_type = "text/plain")))]
async fn update(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let (request, unknown) = body.decode(&options)?;
    accept(&app, &headers, &options, write, request, unknown, Some(&id)).await
}

async fn accept(
    app: &App,
    headers: &HeaderMap,
    options: &Options,
    mut write: Write,
    request: JobRegisterRequest,
    unknown: Vec<String>,
    path_id: Option<&str>,
) -> Answered {
    let mut job = intake::job_of(request.job, "Job ID hasn't been provided")?;
    if path_id.is_some_and(|id| job.id() != id) {
        return Err(ApiError::bad("Job ID does not match name"));
    }
    let priority = eval_priority(request.eval_priority)?;
    let envelope = Envelope { region: &request.region, namespace: &request.namespace };
    let mut warnings = unknown;
    warnings.extend(intake::settle(app, options, envelope, &mut job)?);
    if let Err(refused) = intake::check(&job).and_then(|()| intake::check_built(&job)) {
        let submission = request.submission.as_ref();
        return findings::refuse(app, headers, submission, &refused.problems, refused.text).await;
    }
    check_registration_is_on(app)?;
    if request.preserve_counts || request.preserve_resources {
        let view = fresh(app, false).await?;
        if let Some(old) = view.state.job(&job.namespace(), &job.id()) {
            intake::preserve(old, &mut job, request.preserve_counts, request.preserve_resources);
        }
    }
    let submission = keep_source(request.submission, &mut warnings);
    let warnings = intake::warnings(app, &job, &warnings);
    // When it is registered is for the state machine to say.
    job.submit_time = Some(0);
    job.dispatched = false;
    let eval = (!job.is_parent()).then(|| evaluation(&mut write, &job, Trigger::JobRegister, priority));
    let enforce_index = request.enforce_index.then_some(request.job_modify_index);
    let command = Command::JobRegister(Box::new(fsm::command::JobRegister { job, eval, submission, enforce_index }));
    let (index, reply) = propose(app, &write, command).await?;
    let response = JobRegisterResponse { warnings, index, ..registered(reply) };
    options.style.write(&response, index)
}

/// What the state machine says of a job that was registered or looked at again.
pub(super) fn registered(reply: Reply) -> JobRegisterResponse {
    let Reply::Job { job_modify_index, eval_id, eval_index, .. } = reply else {
        return JobRegisterResponse::default();
    };
    JobRegisterResponse {
        eval_id: eval_id.unwrap_or_default().to_string(),
        eval_create_index: eval_index.unwrap_or_default(),
        job_modify_index,
        ..JobRegisterResponse::default()
    }
}

pub(super) fn check_registration_is_on(app: &App) -> Result<(), ApiError> {
    if app.watches.view().state.scheduler_config().reject_job_registration {
        let text = "Job registration, dispatch, and scale are disabled by the scheduler configuration";
        return Err(ApiError::new(StatusCode::FORBIDDEN, text));
    }
    Ok(())
}

fn keep_source(submission: Option<JobSubmission>, warnings: &mut Vec<String>) -> Option<JobSubmission> {
    let submission = submission.filter(|s| !s.source.is_empty())?;
    let flags: usize = submission.variable_flags.iter().map(|(k, v)| k.len() + v.len()).sum();
    let bytes = submission.source.len() + submission.variables.len() + flags;
    if bytes > SOURCE_BYTES_MAX {
        warnings.push(format!("job source of {bytes} bytes exceeds the limit of {SOURCE_BYTES_MAX} and is not kept"));
        return None;
    }
    Some(submission)
}

/// Validate a job
///
/// Answers 200 also when the job is not valid: see `ValidationErrors`. With
/// `Accept: application/vnd.steppe.diagnostics+json` the answer is a list, one entry per finding with the
/// parts of the job around it and its path, and with lines and columns when `Submission` carries the job file.
#[utoipa::path(post, path = "/v1/validate/job", operation_id = "validateJob", tag = "jobs",
    request_body = JobValidateRequest, params(super::WriteParams),
    responses(
        (status = 200, description = "What was found", body = JobValidateResponse),
        (status = 400, description = "Malformed", body = String, content_type = "text/plain")))]
async fn validate(State(app): State<App>, headers: HeaderMap, options: Options, body: Whole) -> Answered {
    let (request, mut told) = body.decode::<JobValidateRequest>(&options)?;
    let mut job = request.job.ok_or_else(|| ApiError::bad("Job must be specified"))?;
    let envelope = Envelope { region: &request.region, namespace: &request.namespace };
    told.extend(intake::settle(&app, &options, envelope, &mut job)?);
    let problems = model::validate(&job);
    if findings::wanted(&headers) {
        let places = findings::places(&app, request.submission.as_ref()).await;
        let mut all = Findings::of(&places, Severity::Error, &problems);
        all.add(&places, Severity::Warning, &model::warnings_in(&job));
        all.add(&places, Severity::Warning, &intake::unbuilt_parts(&job));
        for text in told.iter().chain(&intake::more_warnings(&app, &job)) {
            all.add_plain(Severity::Warning, text);
        }
        return all.answer(StatusCode::OK);
    }
    told.extend(intake::unbuilt(&job));
    options.style.json(&JobValidateResponse {
        driver_config_validated: true,
        error: model::report(&problems),
        validation_errors: problems.iter().map(ToString::to_string).collect(),
        warnings: intake::warnings(&app, &job, &told),
    })
}

/// Plan a job
///
/// What registering it would do, found out by a scheduler, and with `Diff` what it would change. Nothing
/// is changed.
#[utoipa::path(post, path = "/v1/job/{job_id}/plan", operation_id = "planJob", tag = "jobs",
    request_body = JobPlanRequest, params(("job_id" = String, Path, description = "Id of the job"),
        ("explain" = Option<bool>, Query, description = "Also where each allocation would go, and what lacks"),
        super::WriteParams),
    responses(
        (status = 200, description = "What would happen", body = JobPlanResponse),
        (status = 400, description = "Malformed, or all that is wrong with the job", body = String, content_type = "text/plain"),
        (status = 503, description = "No scheduler answers", body = String, content_type = "text/plain")))]
async fn plan(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    options: Options,
    body: Whole,
) -> Answered {
    let (request, mut told) = body.decode::<JobPlanRequest>(&options)?;
    let mut job = intake::job_of(request.job, "Job must have a valid ID")?;
    if job.id() != id.as_str() {
        return Err(ApiError::bad("Job ID does not match"));
    }
    let envelope = Envelope { region: &request.region, namespace: &request.namespace };
    told.extend(intake::settle(&app, &options, envelope, &mut job)?);
    if let Err(refused) = intake::check(&job) {
        let submission = request.submission.as_ref();
        return findings::refuse(&app, &headers, submission, &refused.problems, refused.text).await;
    }
    told.extend(intake::unbuilt(&job));
    let view = fresh(&app, false).await?;
    let present = view.state.job(&job.namespace(), &job.id());
    let index = present.map(|old| old.job_modify_index()).unwrap_or_default();
    let warnings = intake::warnings(&app, &job, &told);
    let mut diff = request.diff.then(|| difference(present.map(AsRef::as_ref), &job)).transpose()?;
    let next_periodic_launch = next_launch(&job);
    let result = crate::dry_run::ask(&app, job).await?;
    if let Some(diff) = &mut diff {
        annotate(diff, Some(&result.annotations));
    }
    let explain = options.params.get("explain") == Some("true");
    let response = JobPlanResponse {
        placements: if explain { result.groups } else { Vec::new() },
        diff,
        next_periodic_launch,
        annotations: Some(result.annotations),
        failed_tg_allocs: result.failed_tg_allocs,
        created_evals: result.created_evals,
        job_modify_index: index,
        warnings,
        index,
    };
    options.style.write(&response, index)
}

/// When it would be launched first.
fn next_launch(job: &Job) -> Option<Timestamp> {
    let config = job.periodic.as_ref().filter(|_| job.is_periodic_active())?;
    config.next(Timestamp(client::clock::unix_nanos())).ok().flatten()
}

/// What registering the job would change. What the cluster fills in when it does is no change.
fn difference(present: Option<&Job>, job: &Job) -> Result<JobDiff, ApiError> {
    let mut job = job.clone();
    job.stop = Some(job.is_stopped());
    job.node_pool = Some(job.node_pool().to_owned());
    diff_jobs(present, &job).map_err(|error| ApiError::internal("jobs cannot be compared", &error))
}
