//! What must change so that a per-node job (system, sysbatch) runs once on every node it may run on.
//!
//! Each node is looked at by itself: what it must have is one allocation per group and index. What is
//! there and fits stays, what changed is replaced within the update block's limit, what is missing is
//! placed on that node or nowhere. What is on a node out of reach is unknown until it is back or its time
//! is over; nothing else runs in its place.
//!
//! `canary` is a share here, in percent of the nodes whose allocation must be replaced: so many, and
//! `max_parallel` at most, are replaced first, and the others wait for the promotion.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use model::deployment::DeploymentState;
use model::metric::DesiredUpdates;
use model::{ClientStatus, Job, JobKind, Node, NodeId, NodeStatus, TaskGroup, Timestamp};

use super::{Changes, Given, NOT_NEEDED, Place, Reconciler, Row, Stop, UPDATING, Update};
use crate::read;

const TAINTED: &str = "alloc not needed as node is tainted";

/// A placement bound to its node.
#[derive(Clone, Debug)]
pub(crate) struct NodePlace<'a> {
    pub node: NodeId,
    pub place: Place<'a>,
}

/// What a per-node job needs.
#[derive(Debug, Default)]
pub(crate) struct NodeChanges<'a> {
    pub changes: Changes<'a>,
    pub place: Vec<NodePlace<'a>>,
    /// Groups of which an allocation stays.
    pub present: BTreeSet<String>,
    /// Nothing that is there has to change.
    pub settled: bool,
}

struct Diff<'a, 'b> {
    reconciler: Reconciler<'a, 'b>,
    sysbatch: bool,
    place: Vec<NodePlace<'a>>,
    updates: BTreeMap<String, Vec<Row<'a>>>,
    present: BTreeSet<String>,
    ready: BTreeSet<NodeId>,
    settled: bool,
}

/// See the module's text. `ready` are the nodes the job may be placed on, as far as pool, datacenter and
/// readiness say.
pub(crate) fn reconcile_nodes<'a>(given: Given<'a, '_>, ready: BTreeSet<NodeId>) -> NodeChanges<'a> {
    let job = given.job.filter(|job| !job.is_stopped());
    let mut reconciler = Reconciler::new(given);
    let Some(job) = job else {
        return NodeChanges { changes: reconciler.run(), ..NodeChanges::default() };
    };
    reconciler.pick_deployment(false);
    let sysbatch = read::kind(job) == JobKind::SysBatch;
    let (place, updates, present) = Default::default();
    let mut diff = Diff { reconciler, sysbatch, place, updates, present, ready, settled: true };
    diff.run(job);
    diff.reconciler.describe_deployment();
    NodeChanges { changes: diff.reconciler.out, place: diff.place, present: diff.present, settled: diff.settled }
}

impl<'a> Diff<'a, '_> {
    fn run(&mut self, job: &'a Job) {
        let mut live: BTreeMap<(&NodeId, &str), Row<'a>> = BTreeMap::new();
        let mut ended: BTreeMap<(&NodeId, &str), Row<'a>> = BTreeMap::new();
        let required = required(job);
        for alloc in self.reconciler.given.allocs.iter().copied() {
            let key = (&alloc.node_id, alloc.name.as_str());
            if alloc.is_terminal() {
                let newest = ended.entry(key).or_insert(alloc);
                if newest.create_index < alloc.create_index {
                    *newest = alloc;
                }
                continue;
            }
            match live.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(alloc);
                }
                // Two of one name on one node are one too many.
                Entry::Occupied(_) => self.stop(Stop::new(alloc, NOT_NEEDED)),
            }
        }
        for group in &job.task_groups {
            self.reconciler.out.desired.entry(group.name().to_owned()).or_default();
        }
        for alloc in live.values().copied() {
            self.existing(job, alloc, required.contains_key(alloc.name.as_str()));
        }
        for node in self.ready.clone() {
            for (name, group) in &required {
                if !live.contains_key(&(&node, name.as_str())) {
                    self.missing(job, &node, name, group, ended.get(&(&node, name.as_str())).copied());
                }
            }
        }
        for group in &job.task_groups {
            self.update_group(job, group);
        }
    }

    fn desired(&mut self, group: &str) -> &mut DesiredUpdates {
        self.reconciler.out.desired.entry(group.to_owned()).or_default()
    }

    fn stop(&mut self, stop: Stop<'a>) {
        let group = stop.alloc.task_group.clone();
        self.desired(&group).stop += 1;
        self.reconciler.out.stop.push(stop);
    }

    fn ignore(&mut self, alloc: Row<'a>) {
        self.desired(&alloc.task_group).ignore += 1;
        self.present.insert(alloc.task_group.clone());
    }

    /// What becomes of an allocation that has not ended.
    fn existing(&mut self, job: &Job, alloc: Row<'a>, required: bool) {
        let node = self.reconciler.given.state.node(&alloc.node_id);
        let status = node.map(|node| node.status);
        let tainted = node.is_none_or(|node| node.is_tainted());
        let changed = read::alloc_revision(alloc) != read::revision(job);
        let gone = matches!(status, None | Some(NodeStatus::Down));
        let away = status == Some(NodeStatus::Disconnected);
        let group = self.reconciler.group_of(alloc);
        let expired = group.is_some_and(|group| alloc.is_expired(group, Timestamp(self.reconciler.given.now)));
        let kept = group.is_some_and(|group| group.lost_after().0 > 0);
        let runs = alloc.client_status == ClientStatus::Running;
        let migrate = alloc.desired_transition.should_migrate();
        if runs && required && !tainted && !migrate && alloc.needs_reconnect() {
            self.desired(&alloc.task_group).reconnect += 1;
            self.reconciler.out.reconnected.push(alloc);
        }
        match node {
            _ if !required => self.stop(Stop::new(alloc, NOT_NEEDED)),
            _ if migrate && !gone => {
                self.desired(&alloc.task_group).migrate += 1;
                self.reconciler.out.stop.push(Stop::new(alloc, TAINTED));
            }
            _ if expired => self.stop(Stop::lost(alloc)),
            _ if alloc.client_status == ClientStatus::Unknown => self.ignore(alloc),
            _ if tainted && self.sysbatch && alloc.ran_successfully() => self.ignore(alloc),
            _ if away && runs && kept => {
                self.desired(&alloc.task_group).disconnect += 1;
                self.present.insert(alloc.task_group.clone());
                self.reconciler.out.unknown.push((alloc, model::EvalId::default()));
            }
            _ if gone || away && runs => self.stop(Stop::lost(alloc)),
            _ if tainted => self.ignore(alloc),
            Some(node) if !node.is_ready() && changed => self.stop(Stop::new(alloc, NOT_NEEDED)),
            Some(node) if !node.is_ready() => self.ignore(alloc),
            Some(node) if !self.is_target(job, node) => self.stop(Stop::new(alloc, NOT_NEEDED)),
            _ if changed => self.updates.entry(alloc.task_group.clone()).or_default().push(alloc),
            _ => self.ignore(alloc),
        }
    }

    fn is_target(&self, job: &Job, node: &Node) -> bool {
        node.is_in_pool(job.node_pool()) && read::in_datacenters(job, &node.datacenter)
    }

    fn missing(&mut self, job: &Job, node: &NodeId, name: &str, group: &'a TaskGroup, ended: Option<Row<'a>>) {
        if let Some(ended) = ended.filter(|_| self.sysbatch) {
            let stopped = ended.server_terminal() && !ended.client_terminal();
            if read::alloc_revision(ended) == read::revision(job) && !stopped {
                self.ignore(ended);
                return;
            }
        }
        let place = Place {
            group: group.name(),
            name: name.to_owned(),
            previous: ended,
            reschedule: false,
            lost: false,
            canary: ended.is_some_and(|ended| self.is_own_canary(ended)),
            stable_from: None,
            replaces: None,
        };
        self.place.push(NodePlace { node: node.clone(), place });
        self.desired(group.name()).place += 1;
    }

    /// A canary of the deployment that is under way.
    fn is_own_canary(&self, alloc: Row<'a>) -> bool {
        alloc.is_canary() && self.reconciler.current_id().is_some_and(|id| alloc.deployment_id == *id)
    }

    /// Canaries that run where the job may run, and those that are about to be tried again.
    fn canaries(&self, group: &str) -> usize {
        let of_group = self.reconciler.given.allocs.iter().filter(|a| a.task_group == group && !a.is_terminal());
        let live = of_group.filter(|a| self.is_own_canary(a) && self.ready.contains(&a.node_id)).count();
        live + self.place.iter().filter(|wanted| wanted.place.canary && wanted.place.group == group).count()
    }

    /// How many canaries there shall be, if the update begins with some.
    fn wanted_canaries(&self, job: &Job, group: &TaskGroup, replaceable: usize) -> Option<usize> {
        let update = group.rolling_update().filter(|update| update.canary() > 0)?;
        let (state, _) = self.reconciler.group_state(group);
        if self.sysbatch || state.promoted || job.version() == 0 || replaceable == 0 {
            return None;
        }
        let all = replaceable + self.canaries(group.name());
        Some(canaries_of(update.canary(), all, usize::try_from(update.max_parallel()).unwrap_or(0)))
    }

    /// Replaces as many changed allocations as the update block lets go at once, canaries first, and keeps
    /// the group's part of the deployment.
    fn update_group(&mut self, job: &'a Job, group: &'a TaskGroup) {
        let name = group.name();
        let updates = self.updates.remove(name).unwrap_or_default();
        let (mut in_place, mut destructive) = (Vec::new(), Vec::new());
        for alloc in updates {
            match (self.reconciler.given.classify)(alloc) {
                Update::Ignore => self.ignore(alloc),
                Update::InPlace => in_place.push(alloc),
                Update::Destructive => destructive.push(alloc),
            }
        }
        let changed = !in_place.is_empty() || !destructive.is_empty();
        if !in_place.is_empty() {
            self.present.insert(name.to_owned());
        }
        // Where the group may not run any more nothing is replaced: that limit is for others.
        let given = &self.reconciler.given;
        let may = |a: &Row<'a>| given.state.node(&a.node_id).is_some_and(|node| (given.may_run)(group, node));
        let (mut destructive, unfit): (Vec<Row<'a>>, Vec<Row<'a>>) = destructive.into_iter().partition(may);
        let held = self.reconciler.paused || self.reconciler.failed;
        let canaries = self.wanted_canaries(job, group, destructive.len());
        let now = match canaries {
            _ if held => 0,
            Some(wanted) => wanted.saturating_sub(self.canaries(name)),
            None => self.limit(job, group),
        };
        let now = now.min(destructive.len());
        let desired = self.desired(name);
        desired.in_place_update += super::len(&in_place);
        let replaced = if canaries.is_some() { &mut desired.canary } else { &mut desired.destructive_update };
        *replaced += u64::try_from(now).unwrap_or(0);
        desired.destructive_update += super::len(&unfit);
        desired.ignore += u64::try_from(destructive.len() - now).unwrap_or(0);
        let total =
            [desired.place, desired.in_place_update, desired.ignore, desired.canary, desired.destructive_update];
        let total: u64 = total.into_iter().chain([desired.disconnect]).sum();
        self.settled &= !changed && desired.migrate == 0;
        self.reconciler.out.in_place.extend(in_place);
        for alloc in destructive.drain(..now) {
            self.replace(alloc, canaries.is_some());
        }
        for alloc in unfit {
            self.replace(alloc, false);
        }
        self.deploy(job, group, i64::try_from(total).unwrap_or(i64::MAX), changed, canaries);
    }

    fn replace(&mut self, alloc: Row<'a>, canary: bool) {
        let place = Place {
            group: &alloc.task_group,
            name: alloc.name.clone(),
            previous: Some(alloc),
            reschedule: false,
            lost: false,
            canary,
            stable_from: None,
            replaces: Some(Stop::new(alloc, UPDATING)),
        };
        self.place.push(NodePlace { node: alloc.node_id.clone(), place });
    }

    fn limit(&self, job: &Job, group: &TaskGroup) -> usize {
        let of =
            |update: Option<&model::job::UpdateStrategy>| update.map_or(0, model::job::UpdateStrategy::max_parallel);
        let Some(most) = [of(group.update.as_ref()), of(job.update.as_ref())].into_iter().find(|n| *n > 0) else {
            return usize::MAX;
        };
        let unproven = match self.reconciler.current_id() {
            Some(id) if !self.sysbatch => {
                let of_group = self.reconciler.given.allocs.iter().filter(|a| a.task_group == group.name());
                of_group.filter(|a| a.deployment_id == *id && !a.is_terminal() && a.is_healthy().is_none()).count()
            }
            _ => 0,
        };
        usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(unproven)
    }

    /// Keeps the group's total in the deployment, or makes a deployment for a version that has none yet. A
    /// version that got as far as it is without one goes on without.
    fn deploy(&mut self, job: &'a Job, group: &'a TaskGroup, total: i64, changed: bool, canaries: Option<usize>) {
        if self.sysbatch || group.rolling_update().is_none() {
            return;
        }
        let (mut state, existed) = self.reconciler.group_state(group);
        let same_version = self
            .reconciler
            .old
            .is_some_and(|old| old.job_version == job.version() && old.job_create_index == job.incarnation());
        let of_group = self.reconciler.given.allocs.iter().filter(|a| a.task_group == group.name());
        let current: Vec<_> = of_group.filter(|a| read::alloc_revision(a) == read::revision(job)).collect();
        let without = current.iter().any(|a| a.deployment_id.is_empty());
        let held = self.reconciler.paused || self.reconciler.failed;
        if let Some(wanted) = canaries {
            state.desired_canaries = i64::try_from(wanted).unwrap_or(0);
        }
        let new = total > 0 && !held && !same_version && !without && (changed || current.is_empty());
        if existed || new {
            self.reconciler.deploy(job, group, DeploymentState { desired_total: total, ..state });
        }
    }
}

/// How many of `all` are `percent` of them, rounded up; `most` at most.
pub(crate) fn canaries_of(percent: i64, all: usize, most: usize) -> usize {
    let share = usize::try_from(percent.min(100)).unwrap_or(0);
    share.saturating_mul(all).div_ceil(100).min(most)
}

fn required(job: &Job) -> BTreeMap<String, &TaskGroup> {
    let mut required = BTreeMap::new();
    for group in &job.task_groups {
        for index in 0..u32::try_from(read::group_count(group)).unwrap_or(u32::MAX) {
            required.insert(model::alloc_state::alloc_name(job.name(), group.name(), index), group);
        }
    }
    required
}
