//! What is done to an allocation's tasks, and asked about them: restart, signal, usage, collecting.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use driver::DriverError;
use driver::contract::signal_number;
use lifecycle::RequestError;
use model::AllocId;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, Said, bad, unknown_alloc};
use crate::roster::Roster;
use crate::runner::asks::{Ask, AskError, Running};
use crate::stats::core_mhz;

/// News of an end goes out at once; it is waited for so long before the files go.
const NEWS_WITHIN: Duration = Duration::from_secs(5);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(restart))
        .routes(routes!(signal))
        .routes(routes!(usage))
        .routes(routes!(collect))
        .routes(routes!(collect_all))
}

/// `AllocationRestartRequest` on the wire.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Restart {
    /// Empty: all that run.
    task_name: String,
    /// Those that ended, too.
    all_tasks: bool,
}

/// `AllocSignalRequest` on the wire.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Signal {
    /// Empty: all that run.
    task: String,
    /// With or without `SIG`.
    signal: String,
}

fn named(task: String) -> Option<String> {
    Some(task).filter(|task| !task.is_empty())
}

/// A refusal; `unknown` is said of a task that is not there.
pub fn refused(id: &AllocId, error: AskError, unknown: impl FnOnce(&str) -> String) -> Said {
    match error {
        AskError::Request(RequestError::UnknownTask(task)) => bad(unknown(&task)),
        AskError::Request(RequestError::NotRunning(_) | RequestError::NothingRuns) => bad("Task not running"),
        AskError::Request(error) => bad(error.to_string()),
        AskError::Driver(DriverError::NotFound) => bad("Task not running"),
        AskError::Driver(error) => bad(error.to_string()),
        AskError::Gone => unknown_alloc(id),
        AskError::Busy => Said(StatusCode::SERVICE_UNAVAILABLE, AskError::Busy.to_string()),
    }
}

/// Restart tasks
#[utoipa::path(post, path = "/v1/client/allocation/{alloc}/restart", operation_id = "restartTasks", tag = "tasks",
    params(("alloc" = String, Path, description = "Allocation id")), request_body = Restart,
    responses(
        (status = 204, description = "They are being restarted"),
        (status = 400, description = "No such task, or it does not run", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here", body = String, content_type = "text/plain")))]
async fn restart(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Json(request): Json<Restart>,
) -> Result<StatusCode, Said> {
    let id = AllocId::from(alloc);
    let (task, all) = (named(request.task_name), request.all_tasks);
    tracing::info!(alloc_id = %id, task = task.as_deref().unwrap_or(""), all, "restart was asked for");
    let asked = app.roster.ask(&id, |answer| Ask::Restart { task, all, answer }).await;
    asked.map_err(|error| refused(&id, error, |task| format!("Could not find task runner for task: {task}")))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signal tasks
#[utoipa::path(post, path = "/v1/client/allocation/{alloc}/signal", operation_id = "signalTasks", tag = "tasks",
    params(("alloc" = String, Path, description = "Allocation id")), request_body = Signal,
    responses(
        (status = 204, description = "It was sent"),
        (status = 400, description = "No such task or signal, or the task does not run", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here", body = String, content_type = "text/plain")))]
async fn signal(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Json(request): Json<Signal>,
) -> Result<StatusCode, Said> {
    let id = AllocId::from(alloc);
    let (task, signal) = (named(request.task), request.signal);
    if let Some(task) = task.as_deref()
        && app.roster.view(&id).is_some_and(|view| !view.report.task_states.contains_key(task))
    {
        return Err(bad("Task not found"));
    }
    if signal_number(&signal).is_none() {
        return Err(bad(format!("unknown signal {signal:?}")));
    }
    tracing::info!(alloc_id = %id, task = task.as_deref().unwrap_or(""), signal, "signal was asked for");
    let asked = app.roster.ask(&id, |answer| Ask::Signal { task, signal, answer }).await;
    asked.map_err(|error| refused(&id, error, |_| "Task not found".to_owned()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The task of that name, if it runs.
///
/// # Errors
/// The allocation, or the task, is not here; the task has not started or has ended.
pub async fn running(roster: &Roster, id: &AllocId, task: &str) -> Result<Running, Said> {
    let view = roster.view(id).ok_or_else(|| unknown_alloc(id))?;
    let state = view.report.task_states.get(task).ok_or_else(|| bad(format!("unknown task name {task:?}")))?;
    if state.started_at.is_none() {
        return Err(Said(StatusCode::NOT_FOUND, format!("task {task:?} not started yet.")));
    }
    let all = roster.ask(id, |answer| Ask::Running { answer }).await;
    let all = all.map_err(|error| refused(id, error, |_| "Task not found".to_owned()))?;
    let not_running = || Said(StatusCode::NOT_FOUND, format!("task {task:?} is not running."));
    all.into_iter().find(|running| running.task == task).ok_or_else(not_running)
}

#[derive(Deserialize)]
struct UsageQuery {
    #[serde(default)]
    task: String,
}

/// What tasks use
#[utoipa::path(get, path = "/v1/client/allocation/{alloc}/stats", operation_id = "taskUsage", tag = "tasks",
    params(("alloc" = String, Path, description = "Allocation id"),
           ("task" = Option<String>, Query, description = "Only this task")),
    responses(
        (status = 200, description = "Of the tasks that run", body = api::usage::AllocResourceUsage),
        (status = 400, description = "No such task", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here", body = String, content_type = "text/plain"),
        (status = 500, description = "A driver cannot tell", body = String, content_type = "text/plain")))]
async fn usage(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<api::usage::AllocResourceUsage>, Said> {
    let id = AllocId::from(alloc);
    let view = app.roster.view(&id).ok_or_else(|| unknown_alloc(&id))?;
    if !query.task.is_empty() && !view.report.task_states.contains_key(&query.task) {
        return Err(bad(format!("unknown task name {:?}", query.task)));
    }
    let all = app.roster.ask(&id, |answer| Ask::Running { answer }).await;
    let mut all = all.map_err(|error| refused(&id, error, |_| "Task not found".to_owned()))?;
    all.retain(|running| query.task.is_empty() || running.task == query.task);
    let mhz = core_mhz(&app.roster.host().node.borrow());
    let usage = app.sampler.tasks(all, mhz).await;
    usage.map(Json).map_err(|error| Said(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// Remove what is left of an allocation that has ended
#[utoipa::path(post, path = "/v1/client/allocation/{alloc}/gc", operation_id = "collectAllocation", tag = "tasks",
    params(("alloc" = String, Path, description = "Allocation id")),
    responses(
        (status = 204, description = "Its files are being removed"),
        (status = 400, description = "It has not ended", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here", body = String, content_type = "text/plain"),
        (status = 503, description = "The cluster has not heard yet how it ended", body = String, content_type = "text/plain")))]
async fn collect(State(app): State<App>, Path(alloc): Path<String>) -> Result<StatusCode, Said> {
    let id = AllocId::from(alloc);
    let deadline = Instant::now() + NEWS_WITHIN;
    loop {
        let view = app.roster.view(&id).ok_or_else(|| unknown_alloc(&id))?;
        if !view.report.client_status.is_terminal() || view.finished.is_none() {
            return Err(bad(format!("allocation {id} is not terminal: it cannot be collected")));
        }
        if app.roster.host().outbox.is_told(&id) {
            break;
        }
        if Instant::now() >= deadline {
            let text = "the cluster has not heard yet how the allocation ended, try again";
            return Err(Said(StatusCode::SERVICE_UNAVAILABLE, text.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tracing::info!(alloc_id = %id, "collecting was asked for");
    app.roster.collect(&id);
    Ok(StatusCode::NO_CONTENT)
}

/// Remove what is left of all allocations that have ended
///
/// One whose end the cluster has not heard of stays.
#[utoipa::path(post, path = "/v1/client/gc", operation_id = "collectAllocations", tag = "tasks",
    responses(
        (status = 204, description = "Their files are being removed"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody)))]
async fn collect_all(State(app): State<App>) -> StatusCode {
    let views = app.roster.views();
    let over = views.iter().filter(|view| view.report.client_status.is_terminal() && view.finished.is_some());
    let told = over.filter(|view| app.roster.host().outbox.is_told(&view.alloc.id));
    let removed = told.filter(|view| app.roster.collect(&view.alloc.id)).count();
    tracing::info!(removed, allocs = views.len(), "collecting was asked for");
    StatusCode::NO_CONTENT
}
