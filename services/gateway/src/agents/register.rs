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

use super::{fresh, taken, trusted_node};
use crate::app::App;

/// An agent waits 5 s for all of it.
const READ: Duration = Duration::from_secs(2);
const PROPOSE: Duration = Duration::from_secs(4);
/// How long this gateway may take to see what it wrote; no harm if it does not.
const SEE: Duration = Duration::from_millis(500);
/// Milliseconds between beats until a controller says.
const PERIOD_MS: u64 = 1_000;
/// Largest registration.
pub const BODY_BYTES_MAX: usize = 2 << 20;
const NAME_BYTES_MAX: usize = 256;

/// Register a node
///
/// Again whenever something about the node changes.
#[utoipa::path(post, path = REGISTER, operation_id = "registerNode", tag = "agents", request_body = Register,
    responses(
        (status = 200, description = "Registered", body = Registered),
        (status = 400, description = "The node cannot be registered as it is", body = ErrorBody),
        (status = 403, description = "Not the caller's node", body = ErrorBody),
        (status = 409, description = "The node is known under another secret", body = ErrorBody),
        (status = 413, description = "The registration is too large", body = ErrorBody),
        (status = 503, description = "No leader", body = ErrorBody),
        (status = 504, description = "Whether the node is registered is not known; try again", body = ErrorBody)))]
pub async fn register(
    State(app): State<App>,
    peer: Peer,
    Json(request): Json<Register>,
) -> Result<Json<Registered>, Refused> {
    let node = accepted(request.node)?;
    let id = trusted_node(&app, &peer, node.id.as_str())?;
    let state = &fresh(&app, READ).await?.state;
    // This copy was perhaps behind; what is fresh is looked at once more, and the log looks again.
    taken(state, &id, &peer.admission)?;
    let evals = evals(state, &node);
    let command = Command::NodeRegister { node: Box::new(node), evals };
    let (index, _) = app.state.propose(command, None, PROPOSE).await.map_err(refused)?;
    // The node's stream and beats come next, and need not be told that it is unknown.
    let _ = app.replica.reached(index, SEE).await;
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
    if node.id.is_empty() {
        return Err(bad("missing node ID for client registration"));
    }
    if node.datacenter.is_empty() {
        return Err(bad("missing datacenter for client registration"));
    }
    if node.name.is_empty() {
        return Err(bad("missing node name for client registration"));
    }
    if node.name.len() > NAME_BYTES_MAX {
        return Err(bad(&format!("node name is longer than {NAME_BYTES_MAX} bytes")));
    }
    if node.secret_id.is_empty() {
        return Err(bad("missing node secret ID for client registration"));
    }
    if node.node_pool.is_empty() {
        model::access::NODE_POOL_DEFAULT.clone_into(&mut node.node_pool);
    }
    // The first beat makes it ready.
    node.status = NodeStatus::Initializing;
    node.computed_class = node.computed_class();
    node.create_index = Index(0);
    node.modify_index = Index(0);
    Ok(node)
}

/// Jobs that this registration concerns. A copy of the state that lags would not know all of them.
fn evals(state: &fsm::State, node: &Node) -> Vec<Evaluation> {
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
        ProposeError::Rejected(cause) if cause.status().is_some_and(|status| status.as_u16() == 413) => {
            Refused::new(Code::TooLarge, "the registration is too large")
        }
        ProposeError::Rejected(cause) => {
            tracing::error!(error = %cause, "a node's registration was rejected");
            Refused::new(Code::Internal, "internal error")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            id: "n".into(),
            name: "node-1".into(),
            datacenter: "dc1".into(),
            secret_id: "secret".into(),
            ..Node::default()
        }
    }

    #[test]
    fn a_node_without_what_it_needs_is_refused_with_the_reason() {
        type Spoil = fn(&mut Node);
        let cases: [(Spoil, &str); 5] = [
            (|node| node.id = "".into(), "missing node ID for client registration"),
            (|node| node.datacenter.clear(), "missing datacenter for client registration"),
            (|node| node.name.clear(), "missing node name for client registration"),
            (|node| node.secret_id = "".into(), "missing node secret ID for client registration"),
            (|node| node.name = "x".repeat(NAME_BYTES_MAX + 1), "node name is longer than 256 bytes"),
        ];
        for (spoil, text) in cases {
            let mut node = node();
            spoil(&mut node);
            let refused = accepted(node).unwrap_err();
            assert_eq!((refused.0.code(), refused.0.message.as_str()), (Code::BadRequest, text));
        }
    }

    #[test]
    fn what_only_the_cluster_decides_is_not_taken_from_the_node() {
        let said = Node {
            status: NodeStatus::Ready,
            computed_class: "v1:1".into(),
            create_index: Index(7),
            modify_index: Index(8),
            ..node()
        };
        let taken = accepted(said).unwrap();
        assert_eq!(taken.status, NodeStatus::Initializing);
        assert_eq!((taken.create_index, taken.modify_index), (Index(0), Index(0)));
        assert_eq!(taken.node_pool, "default");
        assert_eq!(taken.computed_class, taken.computed_class());
        assert_ne!(taken.computed_class, "v1:1");
    }
}
