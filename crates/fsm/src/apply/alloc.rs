//! What nodes say of their allocations, and what operators and drains ask for.
//!
//! A client status moves forward only: an ended allocation may still learn *how* it ended (lost turns out
//! to be complete), but never lives again; `unknown` is not ended, so its node may bring it back.

use std::collections::BTreeMap;

use model::alloc::{AllocDeploymentStatus, DesiredTransition};
use model::{AllocId, Allocation, ClientStatus, DesiredStatus, EvalStatus, Evaluation, Node, NodeId, NodeStatus, Role};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::tx::Tx;
use super::{deployment, eval};
use crate::change::Change;
use crate::command::{AllocClientUpdate, Refusal, Reply};
use crate::commit::{is_news, told};

/// Updates one command may carry.
const UPDATES_MAX: usize = 50_000;

/// News of unknown allocations, and news from a node that does not own the allocation, are left out; a
/// command with nothing but the latter is refused.
pub(super) fn client_update(
    tx: &mut Tx,
    updates: &[AllocClientUpdate],
    evals: &[Evaluation],
) -> Result<Reply, Refusal> {
    if updates.len() > UPDATES_MAX {
        return Err(Refusal::Invalid(format!("a command carries at most {UPDATES_MAX} updates")));
    }
    let foreign =
        |update: &AllocClientUpdate| tx.state.alloc(&update.id).is_some_and(|row| row.node_id != update.node_id);
    if !updates.is_empty() && updates.iter().all(foreign) {
        return Err(Refusal::Invalid("allocation belongs to another node".to_owned()));
    }
    let mut heard: BTreeSet<NodeId> = BTreeSet::new();
    for update in updates {
        let Some(old) = tx.state.alloc(&update.id).filter(|row| row.node_id == update.node_id).cloned() else {
            continue;
        };
        heard.insert(old.node_id.clone());
        if !old.client_terminal() || update.client_status.is_terminal() {
            take_news(tx, &old, update);
        }
    }
    for node in heard {
        note_sync(tx, &node);
    }
    eval::insert_all(tx, evals)?;
    Ok(Reply::Done)
}

fn take_news(tx: &mut Tx, old: &Allocation, update: &AllocClientUpdate) {
    let mut delta = update.clone();
    delta.deployment_status = health_news(tx, old, update.deployment_status.as_ref());
    if delta.modify_time == 0 {
        delta.modify_time = tx.now;
    }
    let orphan = delta.client_status.is_terminal() && !old.server_terminal() && is_orphan(tx, old);
    if !orphan && !is_news(old, &delta) {
        return;
    }
    let mut new = told(old, &delta, tx.index);
    let reconnected = old.client_status == ClientStatus::Unknown
        && matches!(new.client_status, ClientStatus::Running | ClientStatus::Complete | ClientStatus::Failed);
    let unstamped = reconnected && !old.followup_eval_id.is_empty();
    deployment::count_health(tx, old, &new);
    if unstamped {
        cancel_followup(tx, old);
        new.followup_eval_id = Default::default();
    }
    if orphan {
        new.desired_status = DesiredStatus::Stop;
        new.alloc_modify_index = tx.index;
    }
    if unstamped || orphan {
        tx.put_alloc(new);
    } else {
        tx.account(Some(old), &new);
        tx.put_news(delta, new);
    }
}

/// It neither runs nor is to run.
pub(super) fn is_over(row: &Allocation) -> bool {
    row.is_terminal() && row.client_status != ClientStatus::Running
}

/// Forgets a row that is over.
pub(super) fn forget(tx: &mut Tx, row: &Allocation) {
    tx.uncount_gone(row);
    tx.loosen(row);
    tx.put(Change::AllocGone { id: row.id.clone() });
}

/// Its job, in its incarnation, is gone.
fn is_orphan(tx: &Tx, row: &Allocation) -> bool {
    tx.state.job(&row.namespace, &row.job_id).is_none_or(|job| job.create_index != row.job_incarnation)
}

/// A verdict counts when it is new or the other way round; it cannot be taken back, and whether the
/// allocation is a canary is not the node's to say.
fn health_news(tx: &Tx, old: &Allocation, said: Option<&AllocDeploymentStatus>) -> Option<AllocDeploymentStatus> {
    let said = said?;
    let healthy = said.healthy.filter(|healthy| old.is_healthy() != Some(*healthy))?;
    let timestamp = if said.timestamp.is_zero() { tx.moment() } else { said.timestamp };
    Some(AllocDeploymentStatus { healthy: Some(healthy), timestamp, canary: old.is_canary(), modify_index: tx.index })
}

/// The node is back before its time was up: the evaluation that waits for the end of that time is not
/// needed, unless another allocation of the job still waits for it.
fn cancel_followup(tx: &mut Tx, row: &Allocation) {
    let shared = tx
        .state
        .allocs_of_job(&row.namespace, &row.job_id)
        .any(|other| other.id != row.id && !other.is_terminal() && other.followup_eval_id == row.followup_eval_id);
    let eval = tx.state.eval(&row.followup_eval_id).filter(|eval| !eval.status.is_terminal()).cloned();
    if let Some(eval) = eval.filter(|_| !shared) {
        eval::set_status(tx, &eval, EvalStatus::Cancelled, "allocation is known again");
    }
}

/// A node that is not ready yet shows that it has told of its allocations. For a ready one nobody asks,
/// and a row per batch would be dear.
fn note_sync(tx: &mut Tx, id: &NodeId) {
    let waiting = |node: &Node| matches!(node.status, NodeStatus::Initializing | NodeStatus::Disconnected);
    if let Some(node) = tx.state.node(id).filter(|node| waiting(node)) {
        let mut node = Node::clone(node);
        node.last_alloc_update_index = tx.index;
        node.modify_index = tx.index;
        tx.put(Change::Node(Arc::new(node)));
    }
}

pub(super) fn transition(
    tx: &mut Tx,
    transitions: &BTreeMap<AllocId, DesiredTransition>,
    evals: &[Evaluation],
) -> Result<Reply, Refusal> {
    if !transitions.is_empty() && transitions.keys().all(|id| tx.state.alloc(id).is_none()) {
        return Err(Refusal::NotFound { what: "allocation".to_owned() });
    }
    for (id, wish) in transitions {
        let Some(old) = tx.state.alloc(id) else { continue };
        // A drain that was cancelled meanwhile moves nothing more.
        let by_drain = tx.proposer == Role::Controller && wish.should_migrate();
        if by_drain && !tx.state.node(&old.node_id).is_some_and(|node| node.is_draining()) {
            continue;
        }
        let mut new = Allocation::clone(old);
        new.desired_transition.merge(wish);
        if new.desired_transition == old.desired_transition {
            continue;
        }
        new.modify_index = tx.index;
        new.alloc_modify_index = tx.index;
        new.modify_time = tx.now;
        tx.put_alloc(new);
    }
    eval::insert_all(tx, evals)?;
    Ok(Reply::Done)
}
