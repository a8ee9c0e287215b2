//! Changing the group of state servers by hand.

use api::public::{LeadershipTransferResponse, RaftServer};
use api::state::{ChangePeers, RAFT_PEERS, RaftPeer, RaftStatus};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use client::anyone::Unheard;
use client::http::Call;
use model::Role;
use serde::de::IgnoredAny;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::operator::shown;
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::raft_status;

const CHANGE: std::time::Duration = std::time::Duration::from_secs(10);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(remove_peer)).routes(routes!(transfer))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct PeerParams {
    /// Id of the server, as the raft configuration lists it.
    id: String,
}

/// Remove a server from the raft group
///
/// One that lives stays out until it is started again.
#[utoipa::path(delete, path = "/v1/operator/raft/peer", operation_id = "removeRaftPeer", tag = "operator", params(PeerParams),
    responses(
        (status = 200, description = "Removed"),
        (status = 400, description = "No id, or an address", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such server", body = String, content_type = "text/plain")))]
async fn remove_peer(State(app): State<App>, options: Options) -> Answered {
    if options.params.has("address") {
        return Err(ApiError::bad("removing a peer by its address is not supported, use its id"));
    }
    let id = options.params.text("id").ok_or_else(|| ApiError::bad("Must specify the peer's ID to remove"))?;
    let status = status(&app).await?;
    let peer = find(&status, |peer| peer.id.to_string() == id)
        .ok_or_else(|| ApiError::not_found(format!("id {id:?} was not found in the Raft configuration")))?;
    change(&app, &ChangePeers::Remove { id: peer.id }).await?;
    Ok(StatusCode::OK.into_response())
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct TransferParams {
    /// Id of the server that is to lead; or its address.
    id: Option<String>,
    /// `host:port` of the server that is to lead.
    address: Option<String>,
}

/// Transfer leadership
#[utoipa::path(post, path = "/v1/operator/raft/transfer-leadership", operation_id = "transferLeadership", tag = "operator", params(TransferParams),
    responses(
        (status = 200, description = "That server leads", body = LeadershipTransferResponse),
        (status = 400, description = "Not exactly one id or address, or it cannot lead", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such server", body = String, content_type = "text/plain")))]
async fn transfer(State(app): State<App>, options: Options) -> Answered {
    let wanted: Vec<(&str, &str)> = ["id", "address"]
        .into_iter()
        .flat_map(|name| options.params.all(name).map(move |value| (name, value)))
        .collect();
    let [(name, value)] = wanted[..] else {
        return Err(ApiError::bad("must specify exactly one of id or address of the server that is to lead"));
    };
    if value.is_empty() {
        return Err(ApiError::bad(format!("{name} of the server that is to lead must not be empty")));
    }
    let status = status(&app).await?;
    let matches = |peer: &RaftPeer| if name == "id" { peer.id.to_string() == value } else { peer.addr == value };
    let to = find(&status, matches)
        .ok_or_else(|| ApiError::not_found(format!("{name} {value:?} was not found in the Raft configuration")))?;
    if !to.voter {
        return Err(ApiError::bad(format!("{} has no vote yet, it cannot lead", to.name)));
    }
    let from = status.leader.clone().ok_or_else(ApiError::no_leader)?;
    let noop = from.id == to.id;
    if !noop {
        change(&app, &ChangePeers::TransferLeadership { to: to.id }).await?;
    }
    let server = |peer: &RaftPeer, leads: bool| -> RaftServer { shown(&app, peer, leads) };
    let answer = LeadershipTransferResponse {
        from: server(&from, noop),
        to: server(to, true),
        noop,
        last_index: app.replica.index(),
        ..LeadershipTransferResponse::default()
    };
    options.style.json(&answer)
}

async fn status(app: &App) -> Result<RaftStatus, ApiError> {
    raft_status::ask(app).await.ok_or_else(|| ApiError::not_ready("no state server answers"))
}

fn find(status: &RaftStatus, matches: impl Fn(&RaftPeer) -> bool) -> Option<&RaftPeer> {
    status.peers.iter().find(|peer| matches(peer))
}

/// Asks any state server; it hands the change to the leader.
pub async fn change(app: &App, change: &ChangePeers) -> Result<(), ApiError> {
    let call = Call::post(RAFT_PEERS, CHANGE).json(change);
    let call = call.map_err(|e| ApiError::internal("change cannot be written", &e))?;
    let asked = app.any(Role::State).ask::<IgnoredAny>(&call).await;
    asked.map(|_| ()).map_err(|error| match error {
        Unheard::Refused { status, body } => ApiError::new(status, body.message),
        Unheard::Silent { last: Some(error), .. } => {
            tracing::warn!(error = %error, "raft membership is not changed");
            ApiError::no_leader()
        }
        Unheard::Silent { last: None, .. } => ApiError::not_ready("no state server is known"),
    })
}
