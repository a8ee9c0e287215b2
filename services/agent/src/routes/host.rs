//! What is asked about this node itself: what it uses, its metadata.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, Said, bad};
use crate::meta::{Changes, MetaError};
use crate::stats::core_mhz;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(usage)).routes(routes!(read_meta, apply_meta))
}

/// What the host uses
#[utoipa::path(get, path = "/v1/client/stats", operation_id = "hostUsage", tag = "host",
    responses(
        (status = 200, description = "Processors, memory, disks", body = api::usage::HostStats),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody)))]
async fn usage(State(app): State<App>) -> Json<api::usage::HostStats> {
    let host = app.roster.host();
    let mhz = core_mhz(&host.node.borrow());
    Json(app.sampler.host(&host.alloc_base, mhz).await)
}

/// `NodeMetaResponse` on the wire.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct NodeMeta {
    meta: BTreeMap<String, String>,
    dynamic: Changes,
    #[serde(rename = "Static")]
    configured: BTreeMap<String, String>,
}

/// `NodeMetaApplyRequest` on the wire.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ApplyMeta {
    /// `null` unsets a key.
    meta: Changes,
}

fn shown(app: &App) -> Json<NodeMeta> {
    let configured = app.maker.configured_meta();
    let dynamic = app.maker.dynamic().changes();
    Json(NodeMeta { meta: app.maker.dynamic().over(configured.clone()), dynamic, configured })
}

/// What is said of this node
#[utoipa::path(get, path = "/v1/client/metadata", operation_id = "readMeta", tag = "host",
    responses(
        (status = 200, description = "All of it, what was changed, what is configured", body = NodeMeta),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody)))]
async fn read_meta(State(app): State<App>) -> Json<NodeMeta> {
    shown(&app)
}

/// Change what is said of this node
///
/// The node is registered again with it.
#[utoipa::path(post, path = "/v1/client/metadata", operation_id = "applyMeta", tag = "host", request_body = ApplyMeta,
    responses(
        (status = 200, description = "As it is now", body = NodeMeta),
        (status = 400, description = "A key or value is not usable, or there are too many", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 500, description = "It cannot be stored", body = String, content_type = "text/plain")))]
async fn apply_meta(State(app): State<App>, Json(request): Json<ApplyMeta>) -> Result<Json<NodeMeta>, Said> {
    let maker = app.maker.clone();
    let keys: Vec<String> = request.meta.keys().cloned().collect();
    let applying = tokio::task::spawn_blocking(move || maker.dynamic().apply(request.meta));
    let failed = |text: String| Said(StatusCode::INTERNAL_SERVER_ERROR, text);
    match applying.await.map_err(|e| failed(e.to_string()))? {
        Ok(()) => {}
        Err(error @ MetaError::Io(_)) => {
            tracing::error!(error = %crate::runner::chain(&error), "metadata is not stored");
            return Err(failed(error.to_string()));
        }
        Err(error) => return Err(bad(error.to_string())),
    }
    tracing::info!(keys = keys.join(" "), "metadata was changed");
    app.fingerprint.poke();
    Ok(shown(&app))
}
