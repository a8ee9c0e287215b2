//! Placements that are bound to their node: there or nowhere.
//!
//! A node that may not run the group is passed over quietly (unless no node at all may); one that has no
//! room is counted as queued, and the evaluation waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fsm::plan::PlanDeploymentUpdate;
use model::metric::AllocMetric;
use model::{AllocId, DeploymentId, DeploymentStatus, Job, NodeId};

use super::metrics::{merge_filtered, tally};
use super::parts::put_stop;
use super::{Found, Pass, PlacerKey};
use crate::fleet::Slot;
use crate::placer::SUSPECT;
use crate::read;
use crate::reconcile::{NodeChanges, NodePlace, Place, SUCCESSFUL};
use crate::seats::Standing;
use crate::volumes::variant;
use crate::work::Work;

/// What became of the placements that found no room.
#[derive(Default)]
struct Misses {
    /// Metrics over the nodes that may not run a group.
    filtered: BTreeMap<String, AllocMetric>,
    /// How many of the group's wanted allocations may run nowhere.
    infeasible: BTreeMap<String, i64>,
    placed: BTreeSet<String>,
}

impl<'a> Pass<'a, '_> {
    pub(super) fn place_on_nodes(&mut self, nodes: NodeChanges<'a>, new_id: &mut dyn FnMut() -> String) {
        let mut misses = Misses { placed: nodes.present, ..Misses::default() };
        for NodePlace { node, place } in nodes.place {
            self.place_on(&node, place, &mut misses, new_id);
        }
        for (group, metric) in misses.filtered {
            match self.out.failed.get_mut(&group) {
                Some(known) => merge_filtered(known, &metric),
                None if !misses.placed.contains(&group) => {
                    self.out.failed.insert(group, metric);
                }
                None => {}
            }
        }
        self.settle_deployment(&misses.infeasible, nodes.settled);
        let available = available(&self.work, self.job);
        for metric in self.out.failed.values_mut() {
            metric.nodes_in_pool = available.values().sum();
            metric.nodes_available.clone_from(&available);
        }
    }

    fn place_on(&mut self, node: &NodeId, place: Place<'a>, misses: &mut Misses, new_id: &mut dyn FnMut() -> String) {
        let job = self.job;
        let Some((group, slot)) = job.lookup_group(place.group).zip(self.work.fleet.slot(node)) else { return };
        let key = (place.group, read::revision(job), variant(group, &place.name, self.placers.len()));
        if let Some(stop) = &place.replaces {
            self.work.stop(stop.alloc);
        }
        self.placer(key, job, group, &place.name, true);
        let Some(placer) = self.placers.get_mut(&key) else { return };
        let found =
            if placer.takes(&self.work, slot) { self.allot(key, slot) } else { self.make_room(key, Some(slot)) };
        let Some((found, metric)) = found else {
            self.miss(key, slot, &place, misses);
            return;
        };
        if !misses.placed.contains(place.group) {
            misses.placed.insert(place.group.to_owned());
        }
        if let Some(stop) = &place.replaces {
            put_stop(self.plan, stop);
        }
        let (id, deployment) = (AllocId::from(new_id()), self.active_deployment());
        self.put(key, job, deployment, place, found, metric, id);
    }

    /// Hands out what is asked of that node.
    fn allot(&mut self, key: PlacerKey<'a>, slot: Slot) -> Option<(Found, AllocMetric)> {
        let placer = self.placers.get_mut(&key)?;
        let pick = placer.only(&self.work, slot);
        match placer.allocate(&self.work, slot, &mut self.ports) {
            Ok((resources, held)) => {
                let metric = placer.metric(&self.work, Some(&pick));
                Some((Found { pick, resources, held }, metric))
            }
            Err(short) => {
                placer.exhaust(&self.work, slot, short);
                self.make_room(key, Some(slot))
            }
        }
    }

    fn miss(&mut self, key: PlacerKey<'a>, slot: Slot, place: &Place<'a>, misses: &mut Misses) {
        let Some(placer) = self.placers.get(&key) else { return };
        let (standing, why) = placer.standing(slot);
        let (why, is_filtered) = (why.to_owned(), matches!(standing, Standing::Filtered(_)));
        let may_not = is_filtered && why != SUSPECT;
        if let Some(stop) = &place.replaces {
            // It may not stay where it may not run; one that only finds no room stays.
            if may_not { put_stop(self.plan, stop) } else { self.work.unstop(stop.alloc) }
        }
        let node = self.work.fleet.node(slot).clone();
        let fresh = || AllocMetric { node_pool: self.job.node_pool().to_owned(), ..AllocMetric::default() };
        if may_not {
            tally(misses.filtered.entry(place.group.to_owned()).or_insert_with(fresh), &why, true, &node);
            *misses.infeasible.entry(place.group.to_owned()).or_default() += 1;
            if let Some(desired) = self.out.desired.get_mut(place.group).filter(|_| place.replaces.is_none()) {
                desired.place = desired.place.saturating_sub(1);
            }
            return;
        }
        tally(self.out.failed.entry(place.group.to_owned()).or_insert_with(fresh), &why, is_filtered, &node);
        self.count_queued(key);
    }

    /// The deployment's totals follow the nodes that may run the job; it succeeds when all of them do.
    fn settle_deployment(&mut self, infeasible: &BTreeMap<String, i64>, settled: bool) {
        let Some(deployment) = &mut self.changes.deployment else { return };
        for (group, number) in infeasible {
            if let Some(state) = deployment.task_groups.get_mut(group) {
                state.desired_total = (state.desired_total - number).max(0);
            }
        }
        if self.changes.created {
            deployment.task_groups.retain(|_, state| state.desired_total > 0);
            if deployment.task_groups.is_empty() {
                self.withdraw_deployment();
            }
            return;
        }
        let id = deployment.id.clone();
        let known = self.work.state.deployment(&id).map(|known| &known.task_groups);
        let is_known = |name: &String| known.is_some_and(|known| known.contains_key(name));
        deployment.task_groups.retain(|name, state| state.desired_total > 0 || is_known(name));
        if known != Some(&deployment.task_groups) {
            self.plan.deployment = Some(deployment.clone());
            return;
        }
        let quiet = settled && !self.out.blocks && self.plan.parts.values().all(|part| part.place.is_empty());
        let healthy = deployment.task_groups.values().all(|s| s.healthy_allocs >= s.desired_total);
        if quiet && healthy && deployment.status.is_active() {
            let (status, description) = (DeploymentStatus::Successful, SUCCESSFUL.to_owned());
            self.plan.deployment_updates.push(PlanDeploymentUpdate { id, status, description });
        }
    }

    /// No node may run it, so there is nothing to deploy.
    fn withdraw_deployment(&mut self) {
        let Some(id) = self.out.deployment_id.take() else { return };
        self.changes.created = false;
        for part in self.plan.parts.values_mut() {
            let rows = part.place.iter_mut().chain(&mut part.update).filter(|row| row.deployment_id == id);
            rows.for_each(|row| row.deployment_id = DeploymentId::default());
        }
    }
}

pub(super) fn targets(work: &Work<'_>, job: Option<&Arc<Job>>) -> BTreeSet<NodeId> {
    let Some(job) = job else { return BTreeSet::new() };
    let may = |node: &&Arc<model::Node>| {
        node.is_ready() && node.is_in_pool(job.node_pool()) && read::in_datacenters(job, &node.datacenter)
    };
    work.state.nodes().filter(may).map(|node| node.id.clone()).collect()
}

fn available(work: &Work<'_>, job: &Job) -> model::SmallMap<String, i64> {
    let mut available = model::SmallMap::new();
    for node in work.state.nodes().filter(|node| node.is_ready() && node.is_in_pool(job.node_pool())) {
        if read::in_datacenters(job, &node.datacenter) {
            *available.entry(node.datacenter.clone()).or_default() += 1;
        }
    }
    available
}
