//! The counts of a job's groups: how they stand, and setting them.

use std::collections::BTreeMap;

use api::job_changes::{JobScaleStatus, ScalingRequest, TaskGroupScaleStatus};
use api::public::JobRegisterResponse;
use axum::extract::{Path, State};
use fsm::command::JobScale;
use fsm::{Command, State as Rows, Table};
use model::scaling::ScalingEvent;
use model::{ClientStatus, Job, Limits};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ReadParams;
use super::register::{check_registration_is_on, registered};
use crate::app::App;
use crate::blocking::{Key, View};
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::intake::key;
use crate::options::Options;
use crate::read::{fresh, read};
use crate::write::{Trigger, evaluation, propose};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(scale))
}

/// Read how a job's groups are scaled
#[utoipa::path(get, path = "/v1/job/{job_id}/scale", operation_id = "readJobScale", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ReadParams),
    responses(
        (status = 200, description = "Counts, and the newest events of each group", body = JobScaleStatus),
        (status = 404, description = "job not found", body = String, content_type = "text/plain")))]
async fn status(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let (namespace, id) = key(&options, &id);
    let look = |v: &View| {
        let job = v.state.job(&namespace, &id).and_then(|job| job.modify_index);
        let events = v.state.job_scaling(&namespace, &id).map(|row| row.modify_index);
        v.row(job.max(events), Table::Jobs)
    };
    let (view, meta) = read(&app, &options, Key::Job(namespace.clone(), id.clone()), look).await?;
    let job = view.state.job(&namespace, &id);
    let job = job.ok_or_else(|| ApiError::not_found("job not found").at(meta.clone()))?;
    options.style.read(&scale_status(&view.state, job), &meta)
}

fn scale_status(state: &Rows, job: &Job) -> JobScaleStatus {
    let (namespace, id) = job.key();
    let events = state.job_scaling(&namespace, &id);
    let group = |group: &model::TaskGroup| {
        let events = events.and_then(|row| row.groups.get(group.name())).cloned().unwrap_or_default();
        let status = TaskGroupScaleStatus { desired: group.count(), events, ..TaskGroupScaleStatus::default() };
        (group.name().to_owned(), status)
    };
    let mut groups: BTreeMap<_, _> = job.task_groups.iter().map(group).collect();
    for alloc in state.allocs_of_job(&namespace, &id) {
        // Canaries are no part of the count yet.
        if alloc.is_terminal() || alloc.is_canary() || alloc.job_incarnation != job.create_index {
            continue;
        }
        let Some(group) = groups.get_mut(&alloc.task_group) else { continue };
        group.placed += 1;
        group.running += i64::from(alloc.client_status == ClientStatus::Running);
        group.healthy += i64::from(alloc.is_healthy() == Some(true));
        group.unhealthy += i64::from(alloc.is_healthy() == Some(false));
    }
    JobScaleStatus {
        job_create_index: job.incarnation(),
        job_modify_index: job.modify_index.unwrap_or_default(),
        job_stopped: job.is_stopped(),
        task_groups: groups,
        job_id: id,
        namespace,
    }
}

/// Scale a group of a job
///
/// Sets the count, or, without one, only notes the message.
#[utoipa::path(post, path = "/v1/job/{job_id}/scale", operation_id = "scaleJob", tag = "jobs",
    request_body(content = ScalingRequest, example = json!({"Count": 3, "Target": {"Group": "g"}, "Message": "more"})),
    params(("job_id" = String, Path, description = "Id of the job"), super::WriteParams),
    responses(
        (status = 200, description = "The new version and its evaluation", body = JobRegisterResponse),
        (status = 400, description = "The group may not have this count", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such job", body = String, content_type = "text/plain"),
        (status = 409, description = "The job is not at the enforced index", body = String, content_type = "text/plain")))]
async fn scale(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    mut write: Write,
    body: Whole,
) -> Answered {
    let (request, unknown) = body.decode::<ScalingRequest>(&options)?;
    let target = |name: &str| request.target.get(name).map(String::as_str).filter(|value| !value.is_empty());
    if target("Job").is_some_and(|job| job != id) {
        return Err(ApiError::bad("job ID in payload did not match URL"));
    }
    let group = target("Group").ok_or_else(|| ApiError::bad("missing task group name for scaling action"))?;
    if request.error && request.count.is_some() {
        return Err(ApiError::bad("scaling action should not contain count if error is true"));
    }
    check_registration_is_on(&app)?;
    let (namespace, job_id) = key(&options, &id);
    let view = fresh(&app, false).await?;
    let job = view.state.job(&namespace, &job_id);
    let job = job.ok_or_else(|| ApiError::not_found(format!("job {:?} not found", job_id.as_str())))?;
    if let Some(count) = request.count {
        check_total(job, group, count)?;
    }
    let wanted = request.count.is_some() && !job.is_parent();
    let eval = wanted.then(|| evaluation(&mut write, job, Trigger::JobScaling, None));
    let event =
        ScalingEvent { message: request.message, error: request.error, meta: request.meta, ..ScalingEvent::default() };
    let enforce_index = (request.job_modify_index.get() > 0).then_some(request.job_modify_index);
    let command =
        JobScale { namespace, job_id, group: group.to_owned(), count: request.count, event, eval, enforce_index };
    let (index, reply) = propose(&app, &write, Command::JobScale(Box::new(command))).await?;
    let warnings = model::report_warnings(&unknown);
    let response = JobRegisterResponse { warnings, index, known_leader: true, ..registered(reply) };
    options.style.write(&response, index)
}

/// The job as a whole stays within its bounds.
fn check_total(job: &Job, group: &str, count: i64) -> Result<(), ApiError> {
    let most = Limits::default().count_max;
    let before = job.lookup_group(group).map_or(0, |group| group.count());
    let total = job.total_count().saturating_sub(before).saturating_add(count);
    if most > 0 && total > most {
        let text = format!("total count was greater than configured job_max_count: {total} > {most}");
        return Err(ApiError::bad(text));
    }
    Ok(())
}
