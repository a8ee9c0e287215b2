//! Which parts of a plan pass? Those whose node is there, ready and at the fence they were verified at,
//! and which the applier did not refuse itself.
//!
//! A dropped part loses its placements and what makes room for them. Its in-place updates and stops pass,
//! with two exceptions: a node that is not there or not ready takes no updates, and an allocation whose
//! replacement was dropped is not stopped, unless the plan only states that its node lost it.
//!
//! A stop that is withheld may be what made room for another placement on that node, so that part is
//! dropped too, and so on until nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use model::{AllocId, NodeId, NodeStatus};

use super::tx::Tx;
use crate::plan::{PartDropped, Plan, PlanPart, PlanStop};

/// What of a plan is not to be done.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Parts whose placements are dropped, and why.
    pub reasons: BTreeMap<NodeId, PartDropped>,
    /// Nodes that take no in-place updates.
    no_updates: BTreeSet<NodeId>,
    /// Allocations that go on because their replacement was dropped.
    withheld: BTreeSet<AllocId>,
}

impl Dropped {
    /// Everything but stops: the plan of a job that is to run no longer.
    pub fn placements(plan: &Plan) -> Self {
        let nodes = || plan.parts.keys().cloned();
        let reasons = nodes().map(|node| (node, PartDropped::FencePassed)).collect();
        Self { reasons, no_updates: nodes().collect(), withheld: BTreeSet::new() }
    }

    pub fn places(&self, node: &NodeId) -> bool {
        !self.reasons.contains_key(node)
    }

    pub fn updates(&self, node: &NodeId) -> bool {
        !self.no_updates.contains(node)
    }

    pub fn stops(&self, stop: &PlanStop) -> bool {
        stop.client_status.is_some() || !self.withheld.contains(&stop.id)
    }

    fn withhold(&mut self, plan: &Plan) {
        let (mut replaced, mut still) = (BTreeSet::new(), BTreeSet::new());
        for (node, part) in &plan.parts {
            let side = if self.places(node) { &mut still } else { &mut replaced };
            side.extend(part.place.iter().filter_map(|row| row.previous_allocation.non_empty()));
        }
        self.withheld = replaced.difference(&still).copied().cloned().collect();
    }
}

pub(super) fn verdict(tx: &Tx, plan: &Plan) -> Dropped {
    let mut dropped = Dropped::default();
    for (node, part) in &plan.parts {
        if let Some(reason) = reason(tx, node, part) {
            dropped.reasons.insert(node.clone(), reason);
        }
        let ready = tx.state.node(node).is_some_and(|node| node.status == NodeStatus::Ready);
        if !ready {
            dropped.no_updates.insert(node.clone());
        }
    }
    if dropped.reasons.is_empty() {
        return dropped;
    }
    loop {
        dropped.withhold(plan);
        let starved: Vec<NodeId> = plan
            .parts
            .iter()
            .filter(|(node, part)| dropped.places(node) && !part.place.is_empty())
            .filter(|(_, part)| part.stop.iter().any(|stop| !dropped.stops(stop)))
            .map(|(node, _)| node.clone())
            .collect();
        if starved.is_empty() {
            return dropped;
        }
        dropped.reasons.extend(starved.into_iter().map(|node| (node, PartDropped::NodeFull)));
    }
}

/// Why a part's placements cannot be done; `None` when they can, or when there are none.
fn reason(tx: &Tx, id: &NodeId, part: &PlanPart) -> Option<PartDropped> {
    if part.place.is_empty() && part.update.is_empty() {
        return None;
    }
    if part.refused.is_some() {
        return part.refused;
    }
    let Some(node) = tx.state.node(id) else { return Some(PartDropped::NodeGone) };
    if node.status != NodeStatus::Ready {
        return Some(PartDropped::NodeNotReady);
    }
    if part.place.is_empty() {
        return None;
    }
    if !node.is_ready() {
        return Some(PartDropped::NodeNotReady);
    }
    (part.fence != tx.state.node_fence(id)).then_some(PartDropped::FencePassed)
}
