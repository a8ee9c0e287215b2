//! Does a plan still fit, now that other plans have gone before it?
//!
//! Node by node, against what the replica's rows hold together ([`crate::room`]), what is in flight, and the plans before
//! it in the same batch. A
//! part that does not fit is marked, never removed: what goes with it (paired stops, all-or-nothing) is
//! the state machine's rule. A dynamic port that was taken meanwhile is picked anew.
//!
//! Invariant: every part that is not marked carries the fence its node will have when the plan's turn
//! comes, unless somebody else takes room there. Those before it move the fence by as many placements as
//! they have, whether they go through or not; so the node then holds at most what was counted here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fsm::{PartDropped, Plan, PlanPart, State};
use model::{AllocId, Allocation, ClientStatus, Job, Node, NodeFence, NodeId};
use placement::Fleet;

use crate::overlay::{Effect, Overlay};

/// The view one batch is checked in.
pub struct Checker<'a> {
    state: &'a State,
    /// Sums over the rows of `state`.
    fleet: &'a Fleet,
    overlay: &'a Overlay,
    /// Rows that hold nothing any more, by node: what is in flight and earlier plans have declared them lost.
    gone: ByNode,
    /// What earlier plans of the batch do.
    effect: Effect,
    plans: usize,
}

type ByNode = HashMap<NodeId, HashSet<AllocId>>;

/// What goes with a plan.
struct Leaving {
    all: HashSet<AllocId>,
    /// Those that have rows, by node.
    rows: ByNode,
}

/// Ports that were picked anew: (allocation, label, port).
pub type Repicked = Vec<(AllocId, String, u16)>;

impl<'a> Checker<'a> {
    /// `fleet` counts the rows of `state`.
    pub fn new(state: &'a State, fleet: &'a Fleet, overlay: &'a Overlay) -> Self {
        let mut gone = ByNode::new();
        sort_by_node(fleet, overlay.stopped(), &mut gone);
        Self { state, fleet, overlay, gone, effect: Effect::default(), plans: 0 }
    }

    /// What the plans checked do together, for the overlay.
    pub fn finish(self) -> Effect {
        self.effect
    }

    /// Checks the next plan and fills in its fences; `seed` makes the choice of new ports.
    pub fn check(&mut self, plan: &mut Plan, seed: u64) -> Repicked {
        let mut repicked = Vec::new();
        let job =
            self.state.job_version(&plan.namespace, &plan.job_id, plan.job_incarnation, plan.job_version).cloned();
        let all: HashSet<AllocId> = plan
            .parts
            .values()
            .flat_map(|part| part.stop.iter().map(|s| &s.id).chain(part.preempt.iter().map(|p| &p.id)))
            .cloned()
            .collect();
        let mut rows = ByNode::new();
        sort_by_node(self.fleet, all.iter(), &mut rows);
        let leaving = Leaving { all, rows };
        let changed_after = plan.snapshot_index;
        for (node_id, part) in &mut plan.parts {
            if part.place.is_empty() {
                part.fence = self.fence(node_id);
                continue;
            }
            part.refused =
                self.check_part(node_id, part, job.as_deref(), &leaving, changed_after.get(), seed, &mut repicked);
            part.fence = self.fence(node_id);
        }
        self.take(plan);
        repicked
    }

    #[allow(clippy::too_many_arguments)]
    fn check_part(
        &self,
        node_id: &NodeId,
        part: &mut PlanPart,
        job: Option<&Job>,
        leaving: &Leaving,
        snapshot: u64,
        seed: u64,
        repicked: &mut Repicked,
    ) -> Option<PartDropped> {
        let Some(node) = self.state.node(node_id) else { return Some(PartDropped::NodeGone) };
        if !node.is_ready() || self.state.is_suspect(node_id) {
            return Some(PartDropped::NodeNotReady);
        }
        if node.modify_index.get() > snapshot
            && let Some(job) = job
        {
            let infeasible = part.place.iter().any(|alloc| {
                job.lookup_group(&alloc.task_group).is_none_or(|group| placement::feasible(node, job, group).is_err())
            });
            if infeasible {
                return Some(PartDropped::Infeasible);
            }
        }
        match self.verify(node, leaving, &part.place) {
            Ok(()) => None,
            Err(placement::Misfit::Network(_)) => {
                let existing: Vec<Arc<Allocation>> = self.on_node(node_id, &leaving.all).cloned().collect();
                let existing = || existing.iter().map(AsRef::as_ref);
                let mut fresh = Vec::new();
                for at in 0..part.place.len() {
                    let (before, rest) = part.place.split_at_mut(at);
                    let Some(alloc) = rest.first_mut() else { break };
                    match placement::repick_ports(node, existing().chain(before.iter()), alloc, seed) {
                        Ok(ports) => {
                            fresh.extend(ports.into_iter().map(|(label, port)| (alloc.id.clone(), label, port)))
                        }
                        Err(_) => return Some(PartDropped::PortTaken),
                    }
                }
                repicked.extend(fresh);
                placement::verify(node, existing(), &part.place).err().map(|_| PartDropped::NodeFull)
            }
            Err(_) => Some(PartDropped::NodeFull),
        }
    }

    /// Whether the placements go onto the node beside everything that takes room there.
    fn verify(&self, node: &Node, leaving: &Leaving, place: &[Allocation]) -> Result<(), placement::Misfit> {
        let (with_plan, before) = (leaving.rows.get(&node.id), self.gone.get(&node.id));
        let left =
            before.into_iter().flatten().filter(|id| !with_plan.is_some_and(|with_plan| with_plan.contains(*id)));
        let coming = self.in_flight(&node.id, &leaving.all).map(AsRef::as_ref);
        self.fleet.verify(node, with_plan.into_iter().flatten().chain(left), coming, place)
    }

    /// What is on its way to a node and has no row yet, this plan's leavers aside.
    fn in_flight<'b>(
        &'b self,
        node: &'b NodeId,
        leaving: &'b HashSet<AllocId>,
    ) -> impl Iterator<Item = &'b Arc<Allocation>> {
        self.overlay.placed(node).chain(self.effect.on_node(node)).filter(|alloc| self.stays(&alloc.id, leaving))
    }

    fn stays(&self, alloc: &AllocId, leaving: &HashSet<AllocId>) -> bool {
        let stopped = self.effect.stopped.contains_key(alloc) || self.overlay.is_stopped(alloc);
        !stopped && !leaving.contains(alloc)
    }

    /// What takes room on a node, row by row, this plan's leavers aside.
    fn on_node<'b>(
        &'b self,
        node: &'b NodeId,
        leaving: &'b HashSet<AllocId>,
    ) -> impl Iterator<Item = &'b Arc<Allocation>> {
        let rows = self.state.allocs_of_node(node).filter(|alloc| !alloc.client_terminal());
        rows.filter(|alloc| self.stays(&alloc.id, leaving)).chain(self.in_flight(node, leaving))
    }

    /// The fence a node has once everything before had its turn: it grows by one for each placement, made or
    /// dropped.
    fn fence(&self, node: &NodeId) -> NodeFence {
        NodeFence(self.state.node_fence(node).get() + self.overlay.moves(node) + self.effect.moves(node))
    }

    /// The plan's own effect, for the plans behind it.
    fn take(&mut self, plan: &Plan) {
        let number = self.plans;
        self.plans += 1;
        let fits = plan.parts.values().all(|part| part.refused.is_none());
        if plan.all_at_once && !fits {
            return;
        }
        for (node, part) in plan.parts.iter().filter(|(_, part)| part.refused.is_none()) {
            if !part.place.is_empty() {
                let held = part.place.iter().map(|alloc| (number, Arc::new(what_it_holds(node, alloc))));
                self.effect.placed.entry(node.clone()).or_default().extend(held);
                *self.effect.moved.entry(node.clone()).or_default() += part.place.len() as u64;
            }
            let lost = part.stop.iter().filter(|s| s.client_status.is_some_and(ClientStatus::is_terminal));
            let lost: Vec<&AllocId> = lost.map(|stop| &stop.id).collect();
            sort_by_node(self.fleet, lost.iter().copied(), &mut self.gone);
            self.effect.stopped.extend(lost.into_iter().map(|id| (id.clone(), number)));
        }
    }

    /// Takes a plan that could not be checked: nothing of it is to be done, only its turn is counted.
    pub fn skip(&mut self, plan: &mut Plan) {
        self.plans += 1;
        for part in plan.parts.values_mut().filter(|part| !part.place.is_empty() || !part.update.is_empty()) {
            part.refused = Some(PartDropped::NodeFull);
        }
    }
}

/// Adds allocations to the nodes on which they are counted.
fn sort_by_node<'a>(fleet: &Fleet, allocs: impl Iterator<Item = &'a AllocId>, by_node: &mut ByNode) {
    for id in allocs {
        if let Some(node) = fleet.node_of(id) {
            by_node.entry(node.clone()).or_default().insert(id.clone());
        }
    }
}

/// As much of an allocation as others must know to keep clear of it.
fn what_it_holds(node: &NodeId, alloc: &Allocation) -> Allocation {
    Allocation {
        id: alloc.id.clone(),
        node_id: node.clone(),
        desired_status: alloc.desired_status,
        client_status: alloc.client_status,
        allocated_resources: alloc.allocated_resources.clone(),
        ..Allocation::default()
    }
}
