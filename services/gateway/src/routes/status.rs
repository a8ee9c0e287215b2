//! Who leads, who takes part, which regions there are.

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::raft_status;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(leader)).routes(routes!(peers)).routes(routes!(regions))
}

/// Read the leader's address
#[utoipa::path(get, path = "/v1/status/leader", operation_id = "readLeader", tag = "status",
    responses(
        (status = 200, description = "host:port", body = String, content_type = "application/json", example = json!("10.0.0.1:4647")),
        (status = 500, description = "No cluster leader", body = String, content_type = "text/plain")))]
async fn leader(State(app): State<App>, options: Options) -> Answered {
    let leader = raft_status::ask(&app).await.and_then(|status| status.leader);
    options.style.json(&leader.ok_or_else(ApiError::no_leader)?.addr)
}

/// List the addresses of the state servers
#[utoipa::path(get, path = "/v1/status/peers", operation_id = "listPeers", tag = "status",
    responses((status = 200, description = "host:port of each", body = Vec<String>)))]
async fn peers(State(app): State<App>, options: Options) -> Answered {
    let status = raft_status::ask(&app).await.unwrap_or_default();
    let voters = status.peers.into_iter().filter(|peer| peer.voter);
    options.style.json(&voters.map(|peer| peer.addr).collect::<Vec<_>>())
}

/// List regions
#[utoipa::path(get, path = "/v1/regions", operation_id = "listRegions", tag = "status",
    responses((status = 200, description = "Names", body = Vec<String>, example = json!(["global"]))))]
async fn regions(State(app): State<App>, options: Options) -> Answered {
    options.style.json(&[&app.region])
}
