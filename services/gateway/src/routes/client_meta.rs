//! Metadata of a node, from the node itself.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use client::http::Call;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::{ANSWER, get_json, refused, target};
use super::client_nodes::{NodeParams, node};
use crate::app::App;
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::Options;
use crate::public::AskedMethod;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read, apply))
}

/// `NodeMetaApplyRequest` on the wire.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
struct NodeMetaApplyRequest {
    #[serde(rename = "NodeID")]
    node_id: String,
    /// `null` unsets a key.
    meta: BTreeMap<String, Option<String>>,
}

/// `NodeMetaResponse` on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[allow(dead_code, reason = "documentation; nodes write it")]
struct NodeMetaResponse {
    meta: BTreeMap<String, String>,
    /// What was changed; `null` for a key that was unset.
    dynamic: BTreeMap<String, Option<String>>,
    /// What the node's configuration says.
    #[serde(rename = "Static")]
    configured: BTreeMap<String, String>,
}

/// Read a node's metadata
#[utoipa::path(get, path = "/v1/client/metadata", operation_id = "readNodeMeta", tag = "client", params(NodeParams),
    responses(
        (status = 200, description = "All of it, what was changed, what is configured", body = NodeMetaResponse),
        (status = 400, description = "No node is named", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown node, or no path to it", body = String, content_type = "text/plain")))]
async fn read(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    let id = node(&app, &asked, &options, "").await?;
    get_json(&app, &id, "/v1/client/metadata".to_owned(), options.style).await
}

/// Change a node's metadata
///
/// By `POST` only. The node keeps it over restarts, and jobs see it as `${meta.key}`.
#[utoipa::path(post, path = "/v1/client/metadata", operation_id = "applyNodeMeta", tag = "client", params(NodeParams),
    request_body = NodeMetaApplyRequest,
    responses(
        (status = 200, description = "As it is now", body = NodeMetaResponse),
        (status = 400, description = "No node is named, or a key or value is not usable", body = String, content_type = "text/plain"),
        (status = 404, description = "Unknown node, or no path to it", body = String, content_type = "text/plain"),
        (status = 405, description = "PUT", body = String, content_type = "text/plain")))]
async fn apply(
    State(app): State<App>,
    AskedMethod(method): AskedMethod,
    asked: Asked,
    options: Options,
    body: Whole,
) -> Answered {
    if method != axum::http::Method::POST {
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Invalid method"));
    }
    let (request, _) = body.decode::<NodeMetaApplyRequest>(&options)?;
    if request.meta.is_empty() {
        return Err(ApiError::bad("missing required Meta object"));
    }
    let id = node(&app, &asked, &options, &request.node_id).await?;
    let call = Call::post("/v1/client/metadata", ANSWER).json(&request);
    let call = call.map_err(|e| ApiError::internal("call cannot be written", &e))?;
    let reply = app.http.call(&target(&app, &id).await?, call).await.map_err(|error| refused(&id, error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], reply.body).into_response())
}
