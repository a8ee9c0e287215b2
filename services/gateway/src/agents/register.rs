//! Nodes come in.

use std::time::Duration;

use api::node::{REGISTER, Register, Registered};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use client::state::{ProposeError, new_uuid};
use control::Trigger;
use control::node::{evals_for_node, registration_needs_evals};
use fsm::{Command, Refusal};
use kit::guard::{Peer, Refused};
use model::{Evaluation, Index, Node, NodeStatus, Timestamp};

use super::own_node;
use crate::app::App;

const PROPOSE: Duration = Duration::from_secs(10);
/// Milliseconds between beats until a controller says.
const PERIOD_MS: u64 = 1_000;
const NAME_BYTES_MAX: usize = 256;

/// Register a node
///
/// Again whenever something about the node changes.
#[utoipa::path(post, path = REGISTER, operation_id = "registerNode", tag = "agents", request_body = Register,
    responses(
        (status = 200, description = "Registered", body = Registered),
        (status = 400, description = "The node cannot be registered as it is", body = ErrorBody),
        (status = 403, description = "Not the caller's node", body = ErrorBody),
        (status = 503, description = "No leader", body = ErrorBody)))]
pub async fn register(
    State(app): State<App>,
    peer: Peer,
    Json(request): Json<Register>,
) -> Result<Json<Registered>, Refused> {
    let id = own_node(&peer, request.node.id.as_str())?;
    let node = accepted(request.node)?;
    let evals = evals(&app, &node);
    let command = Command::NodeRegister { node: Box::new(node), evals };
    let (index, _) = app.state.propose(command, None, PROPOSE).await.map_err(refused)?;
    // The first sign of life: from here on the controller waits for the next.
    let period_ms = match app.beats.alive(id).await {
        Ok(taken) if taken.period_ms > 0 => taken.period_ms,
        _ => PERIOD_MS,
    };
    Ok(Json(Registered { index, period_ms }))
}

/// The node with what the cluster fills in, and without what only the cluster writes.
fn accepted(mut node: Node) -> Result<Node, Refused> {
    let bad = |text: &str| Refused::new(Code::BadRequest, text);
    if node.datacenter.is_empty() {
        return Err(bad("missing datacenter for client registration"));
    }
    if node.name.is_empty() || node.name.len() > NAME_BYTES_MAX {
        return Err(bad("missing node name for client registration"));
    }
    if node.secret_id.is_empty() {
        return Err(bad("missing node secret ID for client registration"));
    }
    if node.node_pool.is_empty() {
        model::access::NODE_POOL_DEFAULT.clone_into(&mut node.node_pool);
    }
    if node.status != NodeStatus::Ready {
        node.status = NodeStatus::Initializing;
    }
    node.computed_class = node.computed_class();
    node.create_index = Index(0);
    node.modify_index = Index(0);
    Ok(node)
}

/// Jobs that this registration concerns, as this gateway's copy of the state has it.
fn evals(app: &App, node: &Node) -> Vec<Evaluation> {
    let state = &app.watches.view().state;
    if !registration_needs_evals(state.node(&node.id).map(AsRef::as_ref), node) {
        return Vec::new();
    }
    let now = Timestamp(client::clock::unix_nanos());
    evals_for_node(state, &node.id, Trigger::NodeUpdate, now, &mut new_uuid)
}

fn refused(error: ProposeError) -> Refused {
    match error {
        ProposeError::Refused(refusal) => {
            let code = match refusal {
                Refusal::Invalid(_) => Code::BadRequest,
                _ => Code::Conflict,
            };
            Refused::new(code, refusal.to_string())
        }
        ProposeError::Unavailable(_) => Refused::new(Code::NoLeader, "no cluster leader"),
        ProposeError::Unknown(_) => Refused::new(Code::UnknownOutcome, "whether the node is registered is not known"),
        ProposeError::Rejected(_) => Refused::new(Code::TooLarge, "the registration is too large"),
    }
}
