//! What only the node of an allocation can do or tell: restart, signal, usage, collecting; checks, services.

use std::collections::BTreeMap;

use api::usage::AllocResourceUsage;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use fsm::Table;
use model::AllocId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ReadParams;
use super::at_node::{find, forwarded, get_json, post};
use crate::app::App;
use crate::blocking::{Key, View};
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::read::read;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(restart))
        .routes(routes!(signal))
        .routes(routes!(usage))
        .routes(routes!(collect_by_get, collect))
        .routes(routes!(checks))
        .routes(routes!(checks_by_alloc))
        .routes(routes!(services))
}

/// `AllocationRestartRequest` on the wire.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocationRestartRequest {
    /// Empty: all that run.
    task_name: String,
    /// Those that ended, too.
    all_tasks: bool,
}

/// `AllocSignalRequest` on the wire.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocSignalRequest {
    /// Empty: all that run.
    task: String,
    /// With or without `SIG`.
    signal: String,
}

/// `GenericResponse` on the wire.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct GenericResponse {
    index: u64,
}

/// Restart an allocation's tasks
///
/// One task, all that run, or with `AllTasks` those that ended too. Does not count as an attempt.
#[utoipa::path(post, path = "/v1/client/allocation/{alloc_id}/restart", operation_id = "restartAllocation", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation")), request_body = AllocationRestartRequest,
    responses(
        (status = 200, description = "They are being restarted", body = GenericResponse),
        (status = 400, description = "No such task, or it does not run", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn restart(State(app): State<App>, Path(id): Path<String>, options: Options, body: Whole) -> Answered {
    let request: AllocationRestartRequest = body.decode_optional(&options)?.unwrap_or_default();
    let alloc = find(&app, AllocId::from(id)).await?;
    post(&app, &alloc.node_id, format!("/v1/client/allocation/{}/restart", alloc.id), &request).await?;
    options.style.json(&GenericResponse::default())
}

/// Signal an allocation's tasks
#[utoipa::path(post, path = "/v1/client/allocation/{alloc_id}/signal", operation_id = "signalAllocation", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation")), request_body = AllocSignalRequest,
    responses(
        (status = 200, description = "It was sent", body = GenericResponse),
        (status = 400, description = "No such task or signal, or the task does not run", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn signal(State(app): State<App>, Path(id): Path<String>, options: Options, body: Whole) -> Answered {
    let decoded = body.decode::<AllocSignalRequest>(&options);
    let (request, _) = decoded.map_err(|e| ApiError::bad(format!("Failed to decode body: {}", e.text())))?;
    let alloc = find(&app, AllocId::from(id)).await?;
    post(&app, &alloc.node_id, format!("/v1/client/allocation/{}/signal", alloc.id), &request).await?;
    options.style.json(&GenericResponse::default())
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct UsageParams {
    /// Only this task.
    task: Option<String>,
}

/// What an allocation's tasks use
#[utoipa::path(get, path = "/v1/client/allocation/{alloc_id}/stats", operation_id = "allocationStats", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), UsageParams),
    responses(
        (status = 200, description = "Of the tasks that run", body = AllocResourceUsage),
        (status = 400, description = "No such task", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn usage(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let alloc = find(&app, AllocId::from(id)).await?;
    let query = forwarded(&options.params, &["task"]);
    let path = format!("/v1/client/allocation/{}/stats?{query}", alloc.id);
    get_json(&app, &alloc.node_id, path, options.style).await
}

async fn collected(app: &App, id: String) -> Result<StatusCode, ApiError> {
    let alloc = find(app, AllocId::from(id)).await?;
    post(app, &alloc.node_id, format!("/v1/client/allocation/{}/gc", alloc.id), &()).await?;
    Ok(StatusCode::OK)
}

/// Remove what is left of an allocation on its node
#[utoipa::path(post, path = "/v1/client/allocation/{alloc_id}/gc", operation_id = "collectAllocation", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation")),
    responses(
        (status = 200, description = "Its files are being removed"),
        (status = 400, description = "It has not ended", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn collect(State(app): State<App>, Path(id): Path<String>, _: Options) -> Result<StatusCode, ApiError> {
    collected(&app, id).await
}

/// Remove what is left of an allocation on its node
#[utoipa::path(get, path = "/v1/client/allocation/{alloc_id}/gc", operation_id = "collectAllocationByGet", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation")),
    responses(
        (status = 200, description = "Its files are being removed"),
        (status = 400, description = "It has not ended", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown allocation, or no path to its node", body = String, content_type = "text/plain")))]
async fn collect_by_get(State(app): State<App>, Path(id): Path<String>, _: Options) -> Result<StatusCode, ApiError> {
    collected(&app, id).await
}

/// No service with checks can be registered yet, so no allocation has any: `null`, as the reference says it.
async fn no_checks(app: &App, id: String, options: &Options) -> Answered {
    find(app, AllocId::from(id)).await?;
    options.style.json(&None::<BTreeMap<String, Value>>)
}

/// State of an allocation's checks
#[utoipa::path(get, path = "/v1/client/allocation/{alloc_id}/checks", operation_id = "clientAllocationChecks", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation")),
    responses(
        (status = 200, description = "By check id; `null` without checks", body = Option<Object>),
        (status = 404, description = "Unknown allocation", body = String, content_type = "text/plain")))]
async fn checks(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    no_checks(&app, id, &options).await
}

/// State of an allocation's checks
#[utoipa::path(get, path = "/v1/allocation/{alloc_id}/checks", operation_id = "allocationChecks", tag = "allocations",
    params(("alloc_id" = String, Path, description = "Full id of the allocation")),
    responses(
        (status = 200, description = "By check id; `null` without checks", body = Option<Object>),
        (status = 404, description = "Unknown allocation", body = String, content_type = "text/plain")))]
async fn checks_by_alloc(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    no_checks(&app, id, &options).await
}

/// Services that an allocation registered
#[utoipa::path(get, path = "/v1/allocation/{alloc_id}/services", operation_id = "allocationServices", tag = "allocations",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), ReadParams),
    responses(
        (status = 200, description = "The services", body = Vec<Object>),
        (status = 404, description = "Unknown allocation", body = String, content_type = "text/plain")))]
async fn services(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let id = AllocId::from(id);
    let look = |v: &View| v.row(v.state.alloc(&id).map(|alloc| alloc.modify_index), Table::Allocs);
    let (view, meta) = read(&app, &options, Key::Alloc(id.clone()), look).await?;
    if view.state.alloc(&id).is_none() {
        return Err(ApiError::not_found("allocation not found").at(meta));
    }
    options.style.read::<[Value]>(&[], &meta)
}
