//! Writing what passes of a plan.

use std::collections::{BTreeMap, BTreeSet};

use model::alloc::{AllocDeploymentStatus, AllocState};
use model::deployment::DeploymentState;
use model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentStatus, DesiredStatus, Node, NodeId, NodeStatus, Timestamp,
};

use super::plan_verdict::Dropped;
use super::tx::Tx;
use super::{deployment, job};
use crate::plan::{Plan, PlanPart, PlanPreempt, PlanStop};

/// Which field of an allocation a recorded change is of: its client status.
const STATE_CLIENT_STATUS: i64 = 0;

/// When the plan's rows were made.
fn moment(tx: &Tx, plan: &Plan) -> i64 {
    if plan.now == 0 { tx.now } else { plan.now }
}

/// Does everything that was not dropped. Returns what was placed.
pub(super) fn all(tx: &mut Tx, plan: &Plan, dropped: &Dropped) -> Vec<AllocId> {
    deployments(tx, plan);
    let links = stops(tx, plan, dropped);
    let mut placed = Vec::new();
    for (node_id, part) in plan.parts.iter().filter(|(node, _)| dropped.places(node)) {
        let Some(node) = tx.state.node(node_id).cloned() else { continue };
        preempt(tx, plan, part);
        for row in &part.place {
            place(tx, plan, &node, row);
            if !links.contains(&row.previous_allocation) {
                link(tx, &row.previous_allocation, &row.id);
            }
            placed.push(row.id.clone());
        }
    }
    for (node, part) in plan.parts.iter().filter(|(node, _)| dropped.updates(node)) {
        for row in &part.update {
            update(tx, plan, node, row);
        }
    }
    placed
}

/// Does the stops. Returns the allocations whose row names its successor already.
pub(super) fn stops(tx: &mut Tx, plan: &Plan, dropped: &Dropped) -> BTreeSet<AllocId> {
    let placing = plan.parts.iter().filter(|(node, _)| dropped.places(node));
    let successors: BTreeMap<&AllocId, &AllocId> = placing
        .flat_map(|(_, part)| &part.place)
        .filter(|row| !row.previous_allocation.is_empty())
        .map(|row| (&row.previous_allocation, &row.id))
        .collect();
    let mut linked = BTreeSet::new();
    for wanted in plan.parts.values().flat_map(|part| &part.stop).filter(|wanted| dropped.stops(wanted)) {
        let successor = successors.get(&wanted.id).copied();
        if stop(tx, plan, wanted, successor) && successor.is_some() {
            linked.insert(wanted.id.clone());
        }
    }
    linked
}

/// False when the row is not there, or another job's.
fn stop(tx: &mut Tx, plan: &Plan, wanted: &PlanStop, successor: Option<&AllocId>) -> bool {
    let own = |row: &Allocation| row.job_id == plan.job_id && row.namespace == plan.namespace;
    let Some(old) = tx.state.alloc(&wanted.id).filter(|row| own(row)).cloned() else { return false };
    let mut new = Allocation::clone(&old);
    if !old.server_terminal() {
        new.desired_status = wanted.desired_status;
        if !wanted.description.is_empty() {
            new.desired_description.clone_from(&wanted.description);
        }
    }
    // How it ended is the node's to say, if it has said so.
    let ready = tx.state.node(&old.node_id).is_some_and(|node| node.status == NodeStatus::Ready);
    let news = |status: &ClientStatus| match status {
        // It is recorded as what it says it is, so that it is not unknown any more.
        ClientStatus::Running => old.client_status == *status && old.needs_reconnect(),
        // It came back before it was known to be away.
        ClientStatus::Unknown => old.client_status != *status && !ready,
        _ => old.client_status != *status,
    };
    if let Some(status) = wanted.client_status.filter(|status| !old.client_terminal() && news(status)) {
        new.client_status = status;
        let time = Timestamp(moment(tx, plan));
        new.alloc_states.push(AllocState { field: STATE_CLIENT_STATUS, value: status.to_string(), time });
    }
    if !wanted.followup_eval_id.is_empty() {
        new.followup_eval_id = wanted.followup_eval_id.clone();
    }
    if let Some(successor) = successor {
        new.next_allocation = successor.clone();
    }
    if new != *old {
        put_server_write(tx, plan, new);
    }
    true
}

fn put_server_write(tx: &mut Tx, plan: &Plan, mut row: Allocation) {
    row.modify_index = tx.index;
    row.alloc_modify_index = tx.index;
    row.modify_time = moment(tx, plan);
    tx.put_alloc(row);
}

/// Makes room, where the victim has not ended by itself.
fn preempt(tx: &mut Tx, plan: &Plan, part: &PlanPart) {
    if part.place.is_empty() {
        return;
    }
    for PlanPreempt { id, by } in &part.preempt {
        let Some(old) = tx.state.alloc(id).filter(|row| !row.is_terminal()) else { continue };
        let mut new = Allocation::clone(old);
        new.desired_status = DesiredStatus::Evict;
        new.desired_description = format!("Preempted by alloc ID {by}");
        new.preempted_by_allocation = by.clone();
        put_server_write(tx, plan, new);
    }
}

fn place(tx: &mut Tx, plan: &Plan, node: &Node, row: &Allocation) {
    let now = moment(tx, plan);
    let canary = row.deployment_status.as_ref().is_some_and(|status| status.canary);
    let status = AllocDeploymentStatus { canary, modify_index: tx.index, ..AllocDeploymentStatus::default() };
    let new = Allocation {
        namespace: plan.namespace.clone(),
        job_id: plan.job_id.clone(),
        eval_id: plan.eval_id.clone(),
        node_id: node.id.clone(),
        node_name: node.name.clone(),
        job: None,
        job_version: Some(row.job_version.unwrap_or(plan.job_version)),
        job_incarnation: Some(plan.job_incarnation),
        desired_status: DesiredStatus::Run,
        client_status: ClientStatus::Pending,
        signing_key_id: tx.state.active_root_key().map(|key| key.meta.key_id.clone()).unwrap_or_default(),
        next_allocation: AllocId::default(),
        deployment_status: canary.then_some(status),
        allocated_resources: plan.holds(row),
        create_index: tx.index,
        modify_index: tx.index,
        alloc_modify_index: tx.index,
        create_time: now,
        modify_time: now,
        ..row.clone()
    };
    deployment::count_placed(tx, &new, now);
    tx.put_alloc(new);
}

/// The allocation before names the one that takes its place. No news for its node.
fn link(tx: &mut Tx, before: &AllocId, after: &AllocId) {
    let Some(old) = tx.state.alloc(before) else { return };
    let mut new = Allocation::clone(old);
    new.next_allocation = after.clone();
    new.modify_index = tx.index;
    tx.put_alloc(new);
}

/// The allocation goes on under another version of its job. What the node said of it stays, and what it
/// holds of the node: an update in place takes no room.
fn update(tx: &mut Tx, plan: &Plan, node: &NodeId, row: &Allocation) {
    let own = |old: &Allocation| {
        old.job_id == plan.job_id
            && old.namespace == plan.namespace
            && old.node_id == *node
            && old.job_incarnation == Some(plan.job_incarnation)
            && !old.is_terminal()
    };
    let Some(old) = tx.state.alloc(&row.id).filter(|old| own(old)).cloned() else { return };
    let mut new = Allocation::clone(&old);
    new.eval_id = plan.eval_id.clone();
    new.job_version = Some(row.job_version.unwrap_or(plan.job_version));
    new.desired_description.clone_from(&row.desired_description);
    if row.metrics.is_some() {
        new.metrics.clone_from(&row.metrics);
    }
    if !row.followup_eval_id.is_empty() {
        new.followup_eval_id = row.followup_eval_id.clone();
    }
    let joins = !row.deployment_id.is_empty() && row.deployment_id != old.deployment_id;
    if joins {
        // Its health is judged anew.
        new.deployment_id = row.deployment_id.clone();
        new.deployment_status = None;
        deployment::count_placed(tx, &new, moment(tx, plan));
    }
    put_server_write(tx, plan, new);
}

fn deployments(tx: &mut Tx, plan: &Plan) {
    for wanted in &plan.deployment_updates {
        let own =
            |row: &Deployment| row.job_id == plan.job_id && row.namespace == plan.namespace && row.status.is_active();
        let Some(row) = tx.deployment(&wanted.id).filter(|row| own(row)) else { continue };
        row.status = wanted.status;
        row.status_description.clone_from(&wanted.description);
        let (created, version) = (row.job_create_index, row.job_version);
        if wanted.status == DeploymentStatus::Successful {
            job::mark_stable(tx, &plan.namespace, &plan.job_id, created, version, true);
        }
    }
    if let Some(wanted) = &plan.deployment {
        deployment_row(tx, plan, wanted);
    }
}

/// A new deployment, or more groups for one that is there. Counters are never the plan's, and a canary is
/// one that was placed.
fn deployment_row(tx: &mut Tx, plan: &Plan, wanted: &Deployment) {
    let fresh = |group: &DeploymentState| DeploymentState {
        placed_canaries: Vec::new(),
        placed_allocs: 0,
        healthy_allocs: 0,
        unhealthy_allocs: 0,
        promoted: false,
        ..group.clone()
    };
    if let Some(row) = tx.deployment(&wanted.id) {
        for (name, group) in &wanted.task_groups {
            let entry = row.task_groups.entry(name.clone()).or_insert_with(|| fresh(group));
            entry.desired_total = group.desired_total;
            entry.desired_canaries = group.desired_canaries;
        }
        return;
    }
    let now = moment(tx, plan);
    let row = Deployment {
        namespace: plan.namespace.clone(),
        job_id: plan.job_id.clone(),
        job_version: plan.job_version,
        job_create_index: plan.job_incarnation,
        task_groups: wanted.task_groups.iter().map(|(name, group)| (name.clone(), fresh(group))).collect(),
        create_time: now,
        modify_time: now,
        ..wanted.clone()
    };
    tx.new_deployment(row);
}
