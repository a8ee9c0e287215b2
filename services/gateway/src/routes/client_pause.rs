//! A task's hours: how things stand, and what somebody wants instead. Only its node knows.

use axum::extract::{Path, State};
use model::AllocId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::{find, forwarded, get_json, post};
use super::client_allocs::GenericResponse;
use crate::app::App;
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::options::Options;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(pause_state, pause))
}

/// `AllocPauseRequest` on the wire.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocPauseRequest {
    task: String,
    /// `pause`, `run` or `scheduled`.
    schedule_state: String,
}

/// `AllocGetPauseResponse` on the wire.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct AllocGetPauseResponse {
    /// Empty: it follows its hours, and may run; else `scheduled_pause`, `force_pause` or `force_run`.
    schedule_state: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct PauseParams {
    /// The task.
    task: String,
}

/// Whether a task follows its hours, and is in them
#[utoipa::path(get, path = "/v1/client/allocation/{alloc_id}/pause", operation_id = "taskPauseState", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), PauseParams),
    responses(
        (status = 200, description = "How things stand", body = AllocGetPauseResponse),
        (status = 400, description = "No such task", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn pause_state(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let alloc = find(&app, AllocId::from(id)).await?;
    let query = forwarded(&options.params, &["task"]);
    let path = format!("/v1/client/allocation/{}/pause?{query}", alloc.id);
    get_json(&app, &alloc.node_id, path, options.style).await
}

async fn paused(app: &App, id: String, options: &Options, body: &Whole) -> Answered {
    let (request, _) = body.decode::<AllocPauseRequest>(options)?;
    if !matches!(request.schedule_state.as_str(), "pause" | "run" | "scheduled") {
        return Err(ApiError::bad("Not a valid task schedule state"));
    }
    let alloc = find(app, AllocId::from(id)).await?;
    post(app, &alloc.node_id, format!("/v1/client/allocation/{}/pause", alloc.id), &request).await?;
    options.style.json(&GenericResponse::default())
}

/// Pause a task, let it run, or let it follow its hours
///
/// `pause` ends it and keeps it from running; `run` lets it run whatever its hours are; `scheduled` is neither.
/// It does not count as an attempt of the restart policy, and lasts until it is changed again.
#[utoipa::path(post, path = "/v1/client/allocation/{alloc_id}/pause", operation_id = "pauseTask", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation")), request_body = AllocPauseRequest,
    responses(
        (status = 200, description = "It is being done", body = GenericResponse),
        (status = 400, description = "No such task or state, or the task has ended", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn pause(State(app): State<App>, Path(id): Path<String>, options: Options, body: Whole) -> Answered {
    paused(&app, id, &options, &body).await
}
