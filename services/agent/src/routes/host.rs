//! What is asked about this node itself.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use crate::stats::core_mhz;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(usage))
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
