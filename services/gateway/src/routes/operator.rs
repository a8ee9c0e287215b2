//! The group of state servers, as operators see it.

use api::public::{RaftConfiguration, RaftServer};
use api::state::RaftPeer;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::raft_status;

/// What clients of the compatible interface take as "a voter by id".
const RAFT_PROTOCOL: &str = "3";

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(configuration))
}

/// Read the raft configuration
#[utoipa::path(get, path = "/v1/operator/raft/configuration", operation_id = "readRaftConfiguration", tag = "operator",
    responses(
        (status = 200, description = "The servers that hold the log", body = RaftConfiguration),
        (status = 503, description = "No state server answers", body = String, content_type = "text/plain")))]
async fn configuration(State(app): State<App>, options: Options) -> Answered {
    let status = raft_status::ask(&app).await;
    let status = status.ok_or_else(|| ApiError::not_ready("no state server answers"))?;
    let leader = status.leader.map(|leader| leader.id);
    let servers = status.peers.iter().map(|peer| shown(&app, peer, leader == Some(peer.id)));
    options.style.json(&RaftConfiguration { servers: servers.collect(), ..RaftConfiguration::default() })
}

/// A state server in the form in which clients know them.
pub fn shown(app: &App, peer: &RaftPeer, leader: bool) -> RaftServer {
    RaftServer {
        id: peer.id.to_string(),
        node: format!("{}.{}", peer.name, app.region),
        address: peer.addr.clone(),
        leader,
        voter: peer.voter,
        raft_protocol: RAFT_PROTOCOL.to_owned(),
    }
}
