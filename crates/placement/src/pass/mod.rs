//! One scheduling pass: takes what the reconciler wants and finds nodes for it.
//!
//! Replacements go first, since each frees what it replaces; then what is new. A placement that finds no
//! node takes back the stop that would have made room for it, and is counted as queued.

mod judge;
mod metrics;
mod nodes;
mod parts;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fsm::Plan;
use model::alloc::AllocDeploymentStatus;
use model::alloc::AllocStub;
use model::metric::{AllocMetric, DesiredUpdates};
use model::{
    AllocId, Allocation, Carried, ClientStatus, DeploymentId, DesiredStatus, Evaluation, Index, Job, JobKind, Node,
    TaskGroup,
};

use judge::Judge;
use metrics::add_exhausted;
use parts::{note_followups, note_reach, put_stop, repair_lost};

use crate::explain::{Explain, GroupTrace};
use crate::fit::Held;
use crate::fleet::Slot;
use crate::placer::{Pick, Placer};
use crate::read;
use crate::reconcile::{Changes, Given, Place, Row, reconcile, reconcile_nodes};
use crate::reschedule;
use crate::rng::{Rng, mix};
use crate::schedule::Request;
use crate::volumes::{Variant, resolved, variant};
use crate::work::Work;

/// What a pass found, beside the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub failed: BTreeMap<String, AllocMetric>,
    pub queued: BTreeMap<String, i64>,
    pub desired: BTreeMap<String, DesiredUpdates>,
    pub deployment_id: Option<DeploymentId>,
    /// The job's newest before this decision, whatever became of it.
    pub deployment_before: Option<DeploymentId>,
    pub followups: Vec<Evaluation>,
    /// Something waits for room.
    pub blocks: bool,
    pub classes: BTreeMap<String, bool>,
    pub escaped: bool,
    /// What no change of a node would bring.
    pub missing: BTreeSet<String>,
    /// Allocations of other jobs that make room.
    pub preempted: Vec<AllocStub>,
    /// Evaluations of their jobs.
    pub preempted_jobs: Vec<Evaluation>,
    pub traces: Explain,
}

/// A group, by its name, of one version of the job, and how a search differs from the group's others.
type PlacerKey<'a> = (&'a str, (Index, u64), Variant);

pub(crate) struct Pass<'a, 'p> {
    work: Work<'a>,
    job: &'a Arc<Job>,
    eval: &'a Evaluation,
    now: i64,
    plan: &'p mut Plan,
    changes: Changes<'a>,
    placers: BTreeMap<PlacerKey<'a>, Placer>,
    out: Outcome,
    /// Groups of which one found no node.
    short: BTreeSet<PlacerKey<'a>>,
    ports: Rng,
    preempts: bool,
    clock: &'a dyn Fn() -> i64,
}

impl<'a> Pass<'a, '_> {
    pub(crate) fn run(req: &mut Request<'a>, job: Option<&'a Arc<Job>>, kind: JobKind, plan: &mut Plan) -> Outcome {
        let (state, eval) = (req.state, req.eval);
        let allocs: Vec<Row<'a>> = state.allocs_of_job(&eval.namespace, &eval.job_id).collect();
        let mut work = Work::new(state, req.fleet, job.map(|j| &**j), allocs, req.seed, req.suspects);
        work.retry = req.retry;
        let deploys = matches!(kind, JobKind::Service | JobKind::System);
        let latest = state.latest_deployment(&eval.namespace, &eval.job_id).filter(|_| deploys);
        let judge = Judge::new(&work, job);
        let classify = |alloc: Row<'a>| judge.classify(alloc);
        let req_volumes = req.fleet.volumes();
        let may_run = |group: &TaskGroup, node: &Node| {
            job.is_some_and(|job| crate::feasible::feasible_with(node, job, group, req_volumes).is_ok())
        };
        let given = Given {
            state,
            job,
            batch: matches!(kind, JobKind::Batch | JobKind::SysBatch),
            eval,
            now: req.now,
            allocs: &work.allocs,
            latest,
            classify: &classify,
            may_run: &may_run,
            new_id: &mut *req.new_id,
        };
        let (changes, per_node) = if matches!(kind, JobKind::System | JobKind::SysBatch) {
            let ready = nodes::targets(&work, job);
            let mut nodes = reconcile_nodes(given, ready);
            (std::mem::take(&mut nodes.changes), Some(nodes))
        } else {
            (reconcile(given), None)
        };
        let mut out = Outcome { desired: changes.desired.clone(), ..Outcome::default() };
        repair_lost(&work, &changes, plan);
        for stop in &changes.stop {
            put_stop(plan, stop);
        }
        note_followups(&changes, plan);
        note_reach(&changes, plan);
        plan.deployment_updates.clone_from(&changes.deployment_updates);
        out.deployment_id = changes.deployment.as_ref().map(|d| d.id.clone());
        out.deployment_before = latest.map(|d| d.id.clone());
        out.followups.clone_from(&changes.followups);
        let Some(job) = job.filter(|job| !job.is_stopped()) else { return out };
        out.queued = job.task_groups.iter().map(|g| (g.name().to_owned(), 0)).collect();
        let ports = Rng::new(mix(req.seed));
        let (placers, short) = Default::default();
        let preempts = room::preempts(state, kind);
        let mut pass = Pass {
            work,
            job,
            eval,
            now: req.now,
            plan,
            changes,
            placers,
            out,
            short,
            ports,
            preempts,
            clock: req.clock,
        };
        pass.update_in_place();
        for stop in std::mem::take(&mut pass.changes.stop) {
            pass.work.stop(stop.alloc);
        }
        let new_id = &mut *req.new_id;
        match per_node {
            Some(nodes) => pass.place_on_nodes(nodes, new_id),
            None => {
                let destructive = std::mem::take(&mut pass.changes.destructive);
                let place = std::mem::take(&mut pass.changes.place);
                for wanted in destructive.into_iter().chain(place) {
                    pass.place(wanted, new_id);
                }
            }
        }
        pass.call_preempted(new_id);
        pass.finish()
    }

    fn finish(mut self) -> Outcome {
        for placer in self.placers.values() {
            self.out.escaped |= placer.escaped();
            self.out.missing.extend(placer.missing(&self.work));
            if self.out.blocks {
                for (class, eligible) in placer.classes(&self.work) {
                    let known = self.out.classes.entry(class.to_owned()).or_insert(false);
                    *known |= eligible;
                }
            }
        }
        if self.changes.created {
            self.plan.deployment = self.changes.deployment;
        }
        self.plan.parts.retain(|_, part| {
            !(part.place.is_empty() && part.update.is_empty() && part.stop.is_empty() && part.preempt.is_empty())
        });
        for (node, part) in &mut self.plan.parts {
            part.fence = self.work.state.node_fence(node);
        }
        self.out
    }

    fn update_in_place(&mut self) {
        let deployment = self.active_deployment();
        for alloc in &self.changes.in_place {
            let mut row = Allocation::clone(alloc);
            row.eval_id = self.eval.id.clone();
            row.job_version = Some(self.job.version());
            row.job_incarnation = Some(self.job.incarnation());
            row.job = None;
            if let Some(id) = deployment.as_ref().filter(|id| **id != row.deployment_id) {
                row.deployment_id = id.clone();
                row.deployment_status = None;
            }
            self.plan.parts.entry(alloc.node_id.clone()).or_default().update.push(row);
        }
    }

    fn active_deployment(&self) -> Option<DeploymentId> {
        self.changes.deployment.as_ref().filter(|d| d.status.is_active()).map(|d| d.id.clone())
    }

    /// The version a placement gets, and the deployment it belongs to.
    fn version_for(&self, wanted: &Place<'a>) -> (&'a Arc<Job>, Option<DeploymentId>) {
        let newest = || (self.job, self.active_deployment());
        let Some(least) = wanted.stable_from else { return newest() };
        let state = self.work.state;
        let (namespace, id, incarnation) = (&self.eval.namespace, &self.eval.job_id, self.job.incarnation());
        let of_job = state.deployments_of_job(namespace, id).filter(|d| d.job_create_index == incarnation);
        let stable = of_job.filter(|d| {
            let group = d.task_groups.get(wanted.group);
            group.is_some_and(|g| g.promoted || g.desired_canaries == 0)
        });
        let stable = stable.max_by_key(|d| d.job_version);
        let version = |version: u64| {
            let job = state.job_version(namespace, id, incarnation, version)?;
            job.lookup_group(wanted.group).map(|group| (job, group))
        };
        if let Some((deployment, (job, _))) =
            stable.filter(|d| d.job_version >= least).and_then(|d| version(d.job_version).map(|v| (d, v)))
        {
            return (job, deployment.status.is_active().then(|| deployment.id.clone()));
        }
        match version(least) {
            Some((job, group)) if group.rolling_update().is_none() => (job, None),
            _ => newest(),
        }
    }

    fn placer(&mut self, key: PlacerKey<'a>, job: &Arc<Job>, group: &TaskGroup, name: &str, per_node: bool) {
        if !self.placers.contains_key(&key) {
            let own = key.2.map(|_| resolved(group, name));
            let placer = Placer::new(&mut self.work, job, own.as_ref().unwrap_or(group), per_node);
            let (ids, seats) = (self.work.fleet.ids(), placer.seats());
            let mut trace = GroupTrace::new(group.name(), job.version(), ids, seats, placer.spreads());
            (trace.checked_at, trace.ranked_at) = ((self.clock)(), (self.clock)());
            // Of several searches for one group the first stands for all, until one finds nothing.
            if key.2.is_none() || self.trace(key.0, key.1.1).is_none() {
                self.out.traces.groups.push(trace);
            }
            self.placers.insert(key, placer);
        }
    }

    fn place(&mut self, wanted: Place<'a>, new_id: &mut dyn FnMut() -> String) {
        let (job, deployment) = self.version_for(&wanted);
        let Some(group) = job.lookup_group(wanted.group) else { return };
        let key = (wanted.group, read::revision(job), variant(group, &wanted.name, self.placers.len()));
        if self.short.contains(&key) && wanted.replaces.is_none() {
            self.count_short(key);
            return;
        }
        if let Some(stop) = &wanted.replaces {
            self.work.stop(stop.alloc);
        }
        self.placer(key, job, group, &wanted.name, false);
        let preferred = wanted.previous.and_then(|previous| self.preferred(previous, job, group));
        let penalty: Vec<Slot> = match wanted.previous {
            Some(previous) => {
                reschedule::failed_nodes(previous).iter().filter_map(|id| self.work.fleet.slot(id)).collect()
            }
            None => Vec::new(),
        };
        match self.pick(key, preferred, &penalty) {
            Some((found, metric)) => {
                if let Some(stop) = &wanted.replaces {
                    put_stop(self.plan, stop);
                }
                let id = AllocId::from(new_id());
                self.put(key, job, deployment, wanted, found, metric, id);
            }
            None => {
                if let Some(stop) = &wanted.replaces {
                    self.work.unstop(stop.alloc);
                }
                self.fall_short(key);
            }
        }
    }

    /// A node that keeps the disk of the allocation before.
    fn preferred(&self, previous: Row<'a>, job: &Job, group: &TaskGroup) -> Option<Slot> {
        let disk = group.ephemeral_disk.as_ref()?;
        if !(disk.sticky.unwrap_or(false) || disk.migrate.unwrap_or(false)) {
            return None;
        }
        let before = self.work.state.job_of_alloc(previous)?;
        let same = before.node_pool() == job.node_pool() && before.datacenters == job.datacenters;
        self.work.fleet.slot(&previous.node_id).filter(|_| same)
    }

    /// Finds a node whose ports and cores can in fact be had.
    fn pick(&mut self, key: PlacerKey<'a>, preferred: Option<Slot>, penalty: &[Slot]) -> Option<(Found, AllocMetric)> {
        let placer = self.placers.get_mut(&key)?;
        let mut preferred = preferred.filter(|slot| placer.takes(&self.work, *slot));
        loop {
            let pick = match preferred.take() {
                Some(slot) => Some(placer.only(&self.work, slot)),
                None => placer.pick(&self.work, penalty),
            };
            let Some(pick) = pick else { break };
            match placer.allocate(&self.work, pick.slot, &mut self.ports) {
                Ok((resources, held)) => {
                    let metric = placer.metric(&self.work, Some(&pick));
                    return Some((Found { pick, resources, held }, metric));
                }
                Err(short) => placer.exhaust(&self.work, pick.slot, short),
            }
        }
        self.make_room(key, None)
    }

    #[allow(clippy::too_many_arguments)]
    fn put(
        &mut self,
        key: PlacerKey<'a>,
        job: &Job,
        deployment: Option<DeploymentId>,
        wanted: Place<'a>,
        found: Found,
        metric: AllocMetric,
        id: AllocId,
    ) {
        let node = self.work.fleet.node(found.pick.slot).clone();
        let name = match self.changes.names.get_mut(wanted.group) {
            Some(names) => names.unique(wanted.name),
            None => wanted.name,
        };
        let tracker = wanted.previous.filter(|_| wanted.reschedule).map(|previous| {
            let policy = job.lookup_group(wanted.group).and_then(|g| g.reschedule_policy.as_ref());
            reschedule::track(previous, policy, self.now)
        });
        let canary = wanted.canary && deployment.is_some();
        let alloc = Allocation {
            id: id.clone(),
            namespace: self.eval.namespace.clone(),
            eval_id: self.eval.id.clone(),
            name,
            node_id: node.id.clone(),
            node_name: node.name.clone(),
            job_id: self.eval.job_id.clone(),
            task_group: wanted.group.to_owned(),
            allocated_resources: Some(Arc::new(found.resources)),
            metrics: Some(Carried::new(metric)),
            desired_status: DesiredStatus::Run,
            client_status: ClientStatus::Pending,
            deployment_id: deployment.unwrap_or_default(),
            deployment_status: canary.then(|| AllocDeploymentStatus { canary, ..AllocDeploymentStatus::default() }),
            previous_allocation: wanted.previous.map(|p| p.id.clone()).unwrap_or_default(),
            reschedule_tracker: tracker,
            create_time: self.now,
            modify_time: self.now,
            job_version: Some(job.version()),
            job_incarnation: Some(job.incarnation()),
            preempted_allocations: found.pick.victims.iter().map(|victim| victim.id.clone()).collect(),
            ..Allocation::default()
        };
        self.note_placed(&alloc, job.version(), &found.pick);
        if let Some(placer) = self.placers.get(&key) {
            if !placer.group.volumes.is_empty() {
                self.work.mounts.insert(id.clone(), placer.group.volumes.values().cloned().collect());
            }
            self.work.place(found.pick.slot, placer.group_no, id, found.held);
        }
        self.plan.parts.entry(node.id.clone()).or_default().place.push(alloc);
    }

    /// The first of its group that found no node: its metric stands for all.
    fn fall_short(&mut self, key: PlacerKey<'a>) {
        let Some(placer) = self.placers.get(&key) else { return };
        let metric = placer.metric(&self.work, None);
        let nearest = placer.nearest(&self.work);
        if key.2.is_some() {
            let (ids, seats) = (self.work.fleet.ids(), placer.seats());
            let seen = GroupTrace::new(key.0, key.1.1, ids, seats, placer.spreads());
            let mut traces = self.out.traces.groups.iter_mut();
            if let Some(trace) = traces.find(|t| t.group == key.0 && t.job_version == key.1.1) {
                trace.see(seen);
            }
        }
        self.note_short(key, nearest);
        match self.out.failed.get_mut(key.0) {
            Some(known) => known.coalesced_failures += 1,
            None => {
                self.out.failed.insert(key.0.to_owned(), metric);
            }
        }
        self.count_queued(key);
        self.short.insert(key);
    }

    fn count_short(&mut self, key: PlacerKey<'a>) {
        if let Some(metric) = self.out.failed.get_mut(key.0) {
            metric.coalesced_failures += 1;
        }
        self.count_queued(key);
    }

    fn count_queued(&mut self, key: PlacerKey<'a>) {
        if let Some(trace) = self.trace(key.0, key.1.1) {
            trace.unplaced += 1;
        }
        match self.out.queued.get_mut(key.0) {
            Some(queued) => *queued += 1,
            None => {
                self.out.queued.insert(key.0.to_owned(), 1);
            }
        }
        self.out.blocks = true;
        let Some(placer) = self.placers.get(&key) else { return };
        if let Some(metric) = self.out.failed.get_mut(key.0) {
            add_exhausted(metric, &placer.group);
        }
    }
}

struct Found {
    pick: Pick,
    resources: model::alloc::AllocatedResources,
    held: Held,
}
