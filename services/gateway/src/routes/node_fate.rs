//! What becomes of a node: whether it may be used, that it is to be left, that it is to be forgotten.

use api::operate::{
    NodeChangeResponse, NodeServerInfo, NodeUpdateDrainRequest, NodeUpdateEligibilityRequest, NodeUpdateResponse,
};
use axum::extract::{Path, State};
use control::Trigger;
use control::node::{evals_for_node, event, node_event};
use fsm::{Command, State as Rows};
use model::{Eligibility, EvalId, Evaluation, Index, Node, NodeId, Timestamp};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::WriteParams;
use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::list::check_uuid;
use crate::options::Options;
use crate::raft_status;
use crate::read::fresh;
use crate::write::propose;

/// Pairs of a drain's meta data, and bytes of each half.
const META_MAX: usize = 64;
const META_BYTES_MAX: usize = 1_024;
/// Longest deadline; a longer one is a mistake. Without one a drain waits for ever.
const DEADLINE_NS_MAX: i64 = 10 * 365 * 86_400 * 1_000_000_000;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(eligibility))
        .routes(routes!(drain))
        .routes(routes!(evaluate))
        .routes(routes!(purge))
}

/// The node that a path names.
fn known<'a>(state: &'a Rows, id: &NodeId) -> Result<&'a Node, ApiError> {
    state.node(id).map(AsRef::as_ref).ok_or_else(|| ApiError::not_found("node not found"))
}

/// One evaluation for each job that the node concerns. Their times are filled in where the command is applied.
fn evals(state: &Rows, id: &NodeId, write: &mut Write) -> Vec<Evaluation> {
    let mut mint = || write.mint();
    evals_for_node(state, id, Trigger::NodeUpdate, Timestamp::ZERO, &mut mint)
}

fn ids(evals: &[Evaluation]) -> Vec<EvalId> {
    evals.iter().map(|eval| eval.id.clone()).collect()
}

fn changed(eval_ids: Vec<EvalId>, index: Index) -> NodeChangeResponse {
    let eval_create_index = if eval_ids.is_empty() { Index(0) } else { index };
    NodeChangeResponse { node_modify_index: index, eval_ids, eval_create_index, index }
}

/// Set a node's eligibility
///
/// An ineligible node keeps what runs on it and gets nothing new.
#[utoipa::path(post, path = "/v1/node/{node_id}/eligibility", operation_id = "setNodeEligibility", tag = "nodes",
    request_body(content = NodeUpdateEligibilityRequest, example = json!({"Eligibility": "ineligible"})),
    params(("node_id" = String, Path, description = "Full id"), WriteParams),
    responses(
        (status = 200, description = "Set", body = NodeChangeResponse),
        (status = 400, description = "Malformed", body = String, content_type = "text/plain"),
        (status = 404, description = "node not found", body = String, content_type = "text/plain"),
        (status = 409, description = "The node is draining", body = String, content_type = "text/plain")))]
async fn eligibility(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    mut write: Write,
    body: Whole,
) -> Answered {
    let (request, _) = body.decode::<NodeUpdateEligibilityRequest>(&options)?;
    check_uuid("node", &id)?;
    let wanted = request.eligibility;
    let eligibility = Eligibility::parse(&wanted)
        .ok_or_else(|| ApiError::bad(format!("invalid scheduling eligibility {wanted:?}")))?;
    let node_id = NodeId::from(id);
    let view = fresh(&app, false).await?;
    let node = known(&view.state, &node_id)?;
    let opens = eligibility == Eligibility::Eligible && !node.is_eligible() && !node.is_draining();
    let evals = if opens { evals(&view.state, &node_id, &mut write) } else { Vec::new() };
    let text = if eligibility == Eligibility::Eligible { event::ELIGIBLE } else { event::INELIGIBLE };
    let eval_ids = ids(&evals);
    let event = Some(node_event(text, Timestamp::ZERO));
    let (index, _) = propose(&app, &write, Command::NodeEligibility { node_id, eligibility, event, evals }).await?;
    options.style.write(&changed(eval_ids, index), index)
}

fn check_drain(request: &NodeUpdateDrainRequest) -> Result<(), ApiError> {
    let deadline = request.drain_spec.as_ref().map_or(0, |spec| spec.deadline.0);
    if deadline > DEADLINE_NS_MAX {
        return Err(ApiError::bad("drain deadline is longer than ten years"));
    }
    let long = |text: &String| text.len() > META_BYTES_MAX;
    if request.meta.len() > META_MAX || request.meta.iter().any(|(key, value)| long(key) || long(value)) {
        let text = format!("drain meta has more than {META_MAX} pairs, or one of more than {META_BYTES_MAX} bytes");
        return Err(ApiError::bad(text));
    }
    Ok(())
}

/// Drain a node
///
/// Moves the node's work elsewhere, as fast as each group's migrate block lets it go, and all of it when the
/// deadline has passed. Without a `DrainSpec` a drain is ended.
#[utoipa::path(post, path = "/v1/node/{node_id}/drain", operation_id = "drainNode", tag = "nodes",
    request_body(content = NodeUpdateDrainRequest,
        example = json!({"DrainSpec": {"Deadline": 3_600_000_000_000_i64, "IgnoreSystemJobs": false}, "Meta": {"why": "new kernel"}})),
    params(("node_id" = String, Path, description = "Full id"), WriteParams),
    responses(
        (status = 200, description = "The drain is set, or ended", body = NodeChangeResponse),
        (status = 400, description = "Malformed", body = String, content_type = "text/plain"),
        (status = 404, description = "node not found", body = String, content_type = "text/plain")))]
async fn drain(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    mut write: Write,
    body: Whole,
) -> Answered {
    let (request, _) = body.decode::<NodeUpdateDrainRequest>(&options)?;
    check_uuid("node", &id)?;
    check_drain(&request)?;
    let node_id = NodeId::from(id);
    let view = fresh(&app, false).await?;
    let node = known(&view.state, &node_id)?;
    let drain = request.drain_spec.map(Into::into);
    let opens = drain.is_none() && request.mark_eligible && (!node.is_eligible() || node.is_draining());
    let evals = if opens { evals(&view.state, &node_id, &mut write) } else { Vec::new() };
    let text = if drain.is_some() { event::DRAIN_SET } else { event::DRAIN_UNSET };
    let eval_ids = ids(&evals);
    let command = Command::NodeDrain {
        node_id,
        drain,
        mark_eligible: request.mark_eligible,
        meta: request.meta,
        event: Some(node_event(text, Timestamp::ZERO)),
        evals,
    };
    let (index, _) = propose(&app, &write, command).await?;
    options.style.write(&changed(eval_ids, index), index)
}

/// Evaluate a node
///
/// Has schedulers look again at every job that the node concerns.
#[utoipa::path(post, path = "/v1/node/{node_id}/evaluate", operation_id = "evaluateNode", tag = "nodes",
    params(("node_id" = String, Path, description = "Full id"), WriteParams),
    responses(
        (status = 200, description = "The evaluations", body = NodeUpdateResponse),
        (status = 404, description = "node not found", body = String, content_type = "text/plain")))]
async fn evaluate(State(app): State<App>, Path(id): Path<String>, options: Options, mut write: Write) -> Answered {
    check_uuid("node", &id)?;
    let id = NodeId::from(id);
    let view = fresh(&app, false).await?;
    let node = known(&view.state, &id)?;
    let evals = evals(&view.state, &id, &mut write);
    let mut response = update_response(&app, &view.state, &evals).await;
    response.scheduling_eligibility = node.scheduling_eligibility.to_string();
    response.node_modify_index = node.modify_index;
    let mut index = view.state.index();
    if !evals.is_empty() {
        (index, _) = propose(&app, &write, Command::EvalCreate { evals }).await?;
        response.eval_create_index = index;
    }
    options.style.write(&response, index)
}

/// Purge a node
///
/// Forgets the node; its work is placed elsewhere. A node that is alive and still trusted registers again.
#[utoipa::path(post, path = "/v1/node/{node_id}/purge", operation_id = "purgeNode", tag = "nodes",
    params(("node_id" = String, Path, description = "Full id"), WriteParams),
    responses(
        (status = 200, description = "Forgotten", body = NodeUpdateResponse),
        (status = 404, description = "node not found", body = String, content_type = "text/plain")))]
async fn purge(State(app): State<App>, Path(id): Path<String>, options: Options, mut write: Write) -> Answered {
    check_uuid("node", &id)?;
    let id = NodeId::from(id);
    let view = fresh(&app, false).await?;
    known(&view.state, &id)?;
    let evals = evals(&view.state, &id, &mut write);
    let response = update_response(&app, &view.state, &evals).await;
    let (index, _) =
        propose(&app, &write, Command::NodeDeregister { nodes: vec![id], revoke: app.purge_revokes, evals }).await?;
    let eval_create_index = if response.eval_ids.is_empty() { Index(0) } else { index };
    options.style.write(
        &NodeUpdateResponse { eval_create_index, node_modify_index: index, index, known_leader: true, ..response },
        index,
    )
}

/// What the reference also tells of the cluster. Without a leader it is left out.
async fn update_response(app: &App, state: &Rows, evals: &[Evaluation]) -> NodeUpdateResponse {
    let status = raft_status::ask(app).await.unwrap_or_default();
    let server = |rpc_advertise_addr: String| NodeServerInfo {
        rpc_advertise_addr,
        datacenter: app.datacenter.clone(),
        ..NodeServerInfo::default()
    };
    NodeUpdateResponse {
        eval_ids: ids(evals),
        num_nodes: state.node_count(),
        leader_rpc_addr: status.leader.map(|leader| leader.addr).unwrap_or_default(),
        servers: status.peers.into_iter().map(|peer| server(peer.addr)).collect(),
        ..NodeUpdateResponse::default()
    }
}
