//! Whether a task follows its hours, and how things stand: `alloc pause`.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use lifecycle::Wish;
use model::AllocId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::tasks::refused;
use super::{App, Said, bad, unknown_alloc};
use crate::runner::asks::Ask;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(pause_state, pause))
}

/// `AllocPauseRequest` on the wire.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Pause {
    task: String,
    /// `pause`, `run` or `scheduled`.
    schedule_state: String,
}

/// `AllocGetPauseResponse` on the wire.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct PauseState {
    /// Empty: it follows its hours, and may run; else `scheduled_pause`, `force_pause` or `force_run`.
    schedule_state: String,
}

#[derive(Deserialize)]
struct PauseQuery {
    #[serde(default)]
    task: String,
}

fn unknown_task(task: &str) -> String {
    format!("Could not find task runner for task: {task}")
}

/// Whether a task follows its hours, and is in them
#[utoipa::path(get, path = "/v1/client/allocation/{alloc}/pause", operation_id = "taskPauseState", tag = "tasks",
    params(("alloc" = String, Path, description = "Allocation id"), ("task" = String, Query, description = "The task")),
    responses(
        (status = 200, description = "How things stand", body = PauseState),
        (status = 400, description = "No such task", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here", body = String, content_type = "text/plain")))]
async fn pause_state(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<PauseQuery>,
) -> Result<Json<PauseState>, Said> {
    let id = AllocId::from(alloc);
    let view = app.roster.view(&id).ok_or_else(|| unknown_alloc(&id))?;
    let state = view.report.task_states.get(&query.task).ok_or_else(|| bad(unknown_task(&query.task)))?;
    Ok(Json(PauseState { schedule_state: state.paused.clone() }))
}

/// Pause a task, let it run, or let it follow its hours
#[utoipa::path(post, path = "/v1/client/allocation/{alloc}/pause", operation_id = "pauseTask", tag = "tasks",
    params(("alloc" = String, Path, description = "Allocation id")), request_body = Pause,
    responses(
        (status = 204, description = "It is being done"),
        (status = 400, description = "No such task or state, or the task has ended", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here", body = String, content_type = "text/plain")))]
async fn pause(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Json(request): Json<Pause>,
) -> Result<StatusCode, Said> {
    let id = AllocId::from(alloc);
    let wish = Wish::parse(&request.schedule_state).ok_or_else(|| bad("Not a valid task schedule state"))?;
    let task = request.task;
    tracing::info!(alloc_id = %id, task, state = request.schedule_state, "pausing was asked for");
    let asked = app.roster.ask(&id, |answer| Ask::Pause { task, wish, answer }).await;
    asked.map_err(|error| refused(&id, error, unknown_task))?;
    Ok(StatusCode::NO_CONTENT)
}
