//! Jobs out, and jobs looked at again.

use std::collections::BTreeMap;

use api::public::{JobDeregisterResponse, JobEvaluateRequest, JobRegisterResponse};
use axum::extract::{Path, State};
use fsm::{Command, Reply, State as Rows};
use model::alloc::DesiredTransition;
use model::{AllocId, ClientStatus, Index, Job};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::intake;
use crate::options::Options;
use crate::read::fresh;
use crate::write::{Trigger, eval_priority, evaluation, propose};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(deregister)).routes(routes!(evaluate))
}

/// How to stop a job.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct StopParams {
    /// Forget the job instead of keeping it as stopped.
    purge: Option<bool>,
    /// Priority of the evaluation, 1 to 100.
    eval_priority: Option<i64>,
    /// Tasks end without waiting for their shutdown delay.
    no_shutdown_delay: Option<bool>,
    /// In all regions; there is one.
    global: Option<bool>,
}

/// Stop a job
///
/// A job that is not there is as stopped as can be: 200.
#[utoipa::path(delete, path = "/v1/job/{job_id}", operation_id = "stopJob", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), StopParams, super::WriteParams),
    responses(
        (status = 200, description = "Stopped", body = JobDeregisterResponse),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn deregister(State(app): State<App>, Path(id): Path<String>, options: Options, mut write: Write) -> Answered {
    let purge = options.params.flag("purge")?.unwrap_or(false);
    let hurry = options.params.flag("no_shutdown_delay")?.unwrap_or(false);
    options.params.flag("global")?;
    let priority = eval_priority(options.params.int("eval_priority")?.unwrap_or(0))?;
    let (namespace, job_id) = intake::key(&options, &id);
    let view = fresh(&app, false).await?;
    let Some(job) = view.state.job(&namespace, &job_id) else {
        return options.style.write(&JobDeregisterResponse::default(), Index(0));
    };
    let eval = (!job.is_parent()).then(|| evaluation(&mut write, job, Trigger::JobDeregister, priority));
    if hurry {
        hurry_allocs(&app, &write, &view.state, job).await?;
    }
    let command = fsm::command::JobDeregister { namespace, job_id, purge, eval, submit_time: 0 };
    let (index, reply) = propose(&app, &write, Command::JobDeregister(Box::new(command))).await?;
    options.style.write(&JobDeregisterResponse { index, ..deregistered(reply) }, index)
}

fn deregistered(reply: Reply) -> JobDeregisterResponse {
    let Reply::Job { job_modify_index, eval_id, eval_index, .. } = reply else {
        return JobDeregisterResponse::default();
    };
    JobDeregisterResponse {
        eval_id: eval_id.unwrap_or_default().to_string(),
        eval_create_index: eval_index.unwrap_or_default(),
        job_modify_index,
        ..JobDeregisterResponse::default()
    }
}

/// Tells the allocations of the job that their tasks need not wait.
async fn hurry_allocs(app: &App, write: &Write, state: &Rows, job: &Job) -> Result<(), ApiError> {
    let (namespace, id) = job.key();
    let wish = DesiredTransition { no_shutdown_delay: Some(true), ..DesiredTransition::default() };
    let live = state.allocs_of_job(&namespace, &id).filter(|alloc| !alloc.client_terminal());
    let transitions: BTreeMap<_, _> = live.map(|alloc| (alloc.id.clone(), wish.clone())).collect();
    if transitions.is_empty() {
        return Ok(());
    }
    let command = Command::AllocDesiredTransition { transitions, evals: Vec::new() };
    propose(app, &write.part(), command).await.map(|_| ())
}

/// Evaluate a job
///
/// Has a scheduler look at the job again.
#[utoipa::path(post, path = "/v1/job/{job_id}/evaluate", operation_id = "evaluateJob", tag = "jobs",
    request_body(content = Option<JobEvaluateRequest>, example = json!({"JobID": "hello", "EvalOptions": {"ForceReschedule": true}})),
    params(("job_id" = String, Path, description = "Id of the job"), super::WriteParams),
    responses(
        (status = 200, description = "The evaluation", body = JobRegisterResponse),
        (status = 400, description = "Malformed, or not a job that is evaluated", body = String, content_type = "text/plain"),
        (status = 404, description = "job not found", body = String, content_type = "text/plain")))]
async fn evaluate(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    mut write: Write,
    body: Whole,
) -> Answered {
    let force = match body.decode_optional::<JobEvaluateRequest>(&options)? {
        Some(request) if request.job_id.is_empty() => return Err(ApiError::bad("Job ID must be specified")),
        Some(request) if request.job_id != id => return Err(ApiError::bad("JobID not same as job name")),
        Some(request) => request.eval_options.force_reschedule,
        None => false,
    };
    let (namespace, job_id) = intake::key(&options, &id);
    let view = fresh(&app, false).await?;
    let job = view.state.job(&namespace, &job_id).ok_or_else(|| ApiError::not_found("job not found"))?;
    if job.is_periodic() {
        return Err(ApiError::bad("can't evaluate periodic job"));
    }
    if job.is_parameterized() {
        return Err(ApiError::bad("can't evaluate parameterized job"));
    }
    let eval = evaluation(&mut write, job, Trigger::JobRegister, None);
    let eval_id = eval.id.to_string();
    let transitions = if force { to_reschedule(&view.state, job) } else { BTreeMap::new() };
    let command = Command::AllocDesiredTransition { transitions, evals: vec![eval] };
    let (index, _) = propose(&app, &write, command).await?;
    let response = JobRegisterResponse {
        eval_id,
        eval_create_index: index,
        job_modify_index: job.job_modify_index(),
        index,
        ..JobRegisterResponse::default()
    };
    options.style.write(&response, index)
}

/// Failed allocations that nothing replaced.
fn to_reschedule(state: &Rows, job: &Job) -> BTreeMap<AllocId, DesiredTransition> {
    let (namespace, id) = job.key();
    let wish = DesiredTransition { force_reschedule: Some(true), ..DesiredTransition::default() };
    state
        .allocs_of_job(&namespace, &id)
        .filter(|alloc| alloc.client_status == ClientStatus::Failed && alloc.next_allocation.is_empty())
        .filter(|alloc| !alloc.server_terminal())
        .map(|alloc| (alloc.id.clone(), wish.clone()))
        .collect()
}
