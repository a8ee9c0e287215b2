//! What a change of a node asks of the jobs on it, and what its history says.

use std::collections::{BTreeMap, BTreeSet};

use fsm::State;
use model::ids::NewId;
use model::node::NodeEvent;
use model::{Allocation, Evaluation, Job, JobKind, Node, NodeId, NodeStatus, Timestamp};

use crate::trigger::Trigger;

/// The texts of a node's history.
pub mod event {
    pub const REGISTERED: &str = "Node registered";
    pub const REREGISTERED: &str = "Node re-registered";
    pub const HEARTBEAT_MISSED: &str = "Node heartbeat missed";
    pub const REREGISTERED_BY_HEARTBEAT: &str = "Node reregistered by heartbeat";
    pub const INELIGIBLE: &str = "Node marked as ineligible for scheduling";
    pub const ELIGIBLE: &str = "Node marked as eligible for scheduling";
    pub const DRAIN_SET: &str = "Node drain strategy set";
    pub const DRAIN_UNSET: &str = "Node drain strategy unset";
    pub const DRAIN_COMPLETE: &str = "Node drain complete";

    pub const CLUSTER: &str = "Cluster";
    pub const DRAIN: &str = "Drain";
    pub const HEARTBEAT: &str = "Heartbeat";
}

/// One line of a node's history.
pub fn node_event(message: &str, now: Timestamp) -> NodeEvent {
    let subsystem = match message {
        event::HEARTBEAT_MISSED => event::HEARTBEAT,
        event::DRAIN_SET | event::DRAIN_UNSET | event::DRAIN_COMPLETE => event::DRAIN,
        _ => event::CLUSTER,
    };
    NodeEvent {
        message: message.to_owned(),
        subsystem: subsystem.to_owned(),
        timestamp: now,
        details: BTreeMap::new(),
        ..NodeEvent::default()
    }
}

/// Whether the jobs concerned must be looked at when a node's status changes.
pub fn transition_needs_evals(from: NodeStatus, to: NodeStatus) -> bool {
    use NodeStatus::{Disconnected, Down, Initializing, Ready};
    match (from, to) {
        (from, to) if from == to => false,
        (_, Down | Disconnected) | (Disconnected, _) => true,
        (Initializing | Down, Ready) => true,
        _ => false,
    }
}

/// Whether a registration says something that may change where jobs fit. More cpu or memory does not:
/// that wakes blocked evaluations. A new node needs none before it is ready.
pub fn registration_needs_evals(old: Option<&Node>, new: &Node) -> bool {
    let Some(old) = old else { return false };
    let devices = |node: &Node| node.node_resources.as_ref().map(|r| r.devices.clone()).unwrap_or_default();
    let drivers = |node: &Node| -> Vec<_> {
        node.drivers.iter().map(|(name, d)| (name.clone(), d.detected, d.healthy, d.attributes.clone())).collect()
    };
    // The host networks that have an address: one may come up after the agent.
    let networks = |node: &Node| -> BTreeSet<String> {
        let told = node.node_resources.iter().flat_map(|resources| &resources.node_networks);
        told.flat_map(|network| &network.addresses).map(|address| address.alias.clone()).collect()
    };
    old.datacenter != new.datacenter
        || old.name != new.name
        || old.node_class != new.node_class
        || old.node_pool != new.node_pool
        || old.attributes != new.attributes
        || old.meta != new.meta
        || old.host_volumes != new.host_volumes
        || drivers(old) != drivers(new)
        || devices(old) != devices(new)
        || networks(old) != networks(new)
}

/// One evaluation for each job that a change of the node concerns: jobs with live work on it, and jobs
/// that want to run on every node like it.
pub fn evals_for_node(
    state: &State,
    node_id: &NodeId,
    trigger: Trigger,
    now: Timestamp,
    new_id: NewId<'_>,
) -> Vec<Evaluation> {
    let node = state.node(node_id);
    let mut seen = BTreeSet::new();
    let mut evals = Vec::new();
    let mut add = |key: (model::NamespaceName, model::JobId), job: &Job| {
        if seen.contains(&key) {
            return;
        }
        let mut eval = trigger.eval(&key.0, &key.1, job, now, &mut *new_id);
        eval.node_id = node_id.clone();
        eval.node_modify_index = node.map(|node| node.modify_index).unwrap_or_default();
        evals.push(eval);
        seen.insert(key);
    };
    for alloc in state.allocs_of_node(node_id) {
        let Some(job) = state.job_of_alloc(alloc) else { continue };
        if concerns(alloc, job) {
            let current = state.job(&alloc.namespace, &alloc.job_id).unwrap_or(job);
            add(alloc.job_key(), current);
        }
    }
    let Some(node) = node else { return evals };
    for job in state.jobs().filter(|job| job.is_per_node() && wants_every_node(job) && runs_on(job, node)) {
        add(job.key(), job);
    }
    evals
}

/// Whether an allocation makes its job care for its node. System work is found by its job instead.
fn concerns(alloc: &Allocation, job: &Job) -> bool {
    match job.kind() {
        Some(JobKind::Service) => !(alloc.server_terminal() && alloc.client_terminal()),
        Some(JobKind::Batch) => !alloc.client_terminal(),
        Some(JobKind::System | JobKind::SysBatch) | None => false,
    }
}

/// System jobs always; sysbatch jobs while they are under way, since what is over is not begun again
/// for a node that comes later.
fn wants_every_node(job: &Job) -> bool {
    if job.is_stopped() || job.is_parent() {
        return false;
    }
    job.kind() == Some(JobKind::System) || job.status.as_deref() != Some("dead")
}

/// Whether the node is in the job's pool and one of its datacenters.
pub fn runs_on(job: &Job, node: &Node) -> bool {
    node.is_in_pool(job.node_pool()) && job.datacenters.iter().any(|pattern| glob(pattern, &node.datacenter))
}

/// Matches a pattern in which `*` stands for any text.
fn glob(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < t.len() {
        if at < p.len() && p[at] == b'*' {
            star = Some((at, from));
            at += 1;
        } else if at < p.len() && p[at] == t[from] {
            at += 1;
            from += 1;
        } else if let Some((star_at, star_from)) = star {
            star = Some((star_at, star_from + 1));
            at = star_at + 1;
            from = star_from + 1;
        } else {
            return false;
        }
    }
    p[at..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expect) in [
            ("*", "dc1", true),
            ("dc1", "dc1", true),
            ("dc1", "dc12", false),
            ("dc*", "dc12", true),
            ("*-eu", "a-eu", true),
            ("*-eu", "a-us", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern, text), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn a_status_change_needs_evals_when_work_may_start_or_must_move() {
        use NodeStatus::{Disconnected, Down, Initializing, Ready};
        for (from, to, expect) in [
            (Ready, Down, true),
            (Initializing, Down, true),
            (Initializing, Ready, true),
            (Down, Ready, true),
            (Ready, Disconnected, true),
            (Disconnected, Initializing, true),
            (Ready, Ready, false),
            (Down, Down, false),
            (Down, Initializing, false),
        ] {
            assert_eq!(transition_needs_evals(from, to), expect, "{from} {to}");
        }
    }
}
