//! What only a node itself can do or tell: its usage, collecting what has ended there.

use api::usage::HostStats;
use axum::extract::State;
use axum::http::StatusCode;
use model::NodeId;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::{get_json, post};
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::Options;
use crate::read::fresh;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(usage)).routes(routes!(collect_by_get, collect))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
pub(super) struct NodeParams {
    /// Full id of the node; the one of the machine asked unless given.
    node_id: Option<String>,
}

/// The node that is asked about: by the query, or else by the body, or else the one of the machine asked.
pub(super) async fn node(app: &App, asked: &Asked, options: &Options, in_body: &str) -> Result<NodeId, ApiError> {
    let id = options.params.text("node_id").or(Some(in_body).filter(|id| !id.is_empty()));
    let id = id.map(NodeId::from).or_else(|| asked.node.clone());
    let id = id.ok_or_else(|| ApiError::bad("No local Node and node_id not provided"))?;
    if app.watches.view().state.node(&id).is_none() && fresh(app, false).await?.state.node(&id).is_none() {
        return Err(ApiError::not_found(format!("Unknown node {id}")));
    }
    Ok(id)
}

/// What a node's host uses
#[utoipa::path(get, path = "/v1/client/stats", operation_id = "nodeStats", tag = "client", params(NodeParams),
    responses(
        (status = 200, description = "Processors, memory, disks", body = HostStats),
        (status = 400, description = "No node is named", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown node, or no path to it", body = String, content_type = "text/plain")))]
async fn usage(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    let id = node(&app, &asked, &options, "").await?;
    get_json(&app, &id, "/v1/client/stats".to_owned(), options.style).await
}

async fn collected(app: &App, asked: &Asked, options: &Options) -> Result<StatusCode, ApiError> {
    let id = node(app, asked, options, "").await?;
    post(app, &id, "/v1/client/gc".to_owned(), &()).await?;
    Ok(StatusCode::OK)
}

/// Remove what is left of allocations that have ended on a node
#[utoipa::path(post, path = "/v1/client/gc", operation_id = "collectNode", tag = "client", params(NodeParams),
    responses(
        (status = 200, description = "Their files are being removed"),
        (status = 400, description = "No node is named", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown node, or no path to it", body = String, content_type = "text/plain")))]
async fn collect(State(app): State<App>, asked: Asked, options: Options) -> Result<StatusCode, ApiError> {
    collected(&app, &asked, &options).await
}

/// Remove what is left of allocations that have ended on a node
#[utoipa::path(get, path = "/v1/client/gc", operation_id = "collectNodeByGet", tag = "client", params(NodeParams),
    responses(
        (status = 200, description = "Their files are being removed"),
        (status = 400, description = "No node is named", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown node, or no path to it", body = String, content_type = "text/plain")))]
async fn collect_by_get(State(app): State<App>, asked: Asked, options: Options) -> Result<StatusCode, ApiError> {
    collected(&app, &asked, &options).await
}
