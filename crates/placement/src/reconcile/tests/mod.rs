//! Scenes for the reconciler: a job of one group `g`, its allocations, its deployment, and what comes out.
//!
//! A scene is written as rows: who is there, on which node, in which state. The job is at version 1; old
//! allocations are of version 0, and what their change means is the scene's to say.

mod canaries;
mod filters;
mod groups;
mod reconnect;
mod retry;

use std::ops::Range;
use std::sync::Arc;

use model::alloc::{AllocDeploymentStatus, AllocState, RescheduleEvent, RescheduleTracker, TaskState};
use model::deployment::DeploymentState;
use model::group::{DisconnectStrategy, ReschedulePolicy};
use model::job::UpdateStrategy;
use model::metric::DesiredUpdates;
use model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentStatus, DesiredStatus, EvalId, Evaluation, Job, Nanos,
    NodeId, NodeStatus, TaskGroup, TaskStateKind, Timestamp,
};

use super::{Changes, Given, Place, Reconciler, Row, Stop, Update, reconcile};
use crate::world::{self, SECOND, World};

/// Node numbers of a scene.
pub(super) const READY: u64 = 1;
pub(super) const DOWN: u64 = 2;
pub(super) const AWAY: u64 = 3;
pub(super) const DRAINING: u64 = 4;
pub(super) const GONE: u64 = 9;

pub(super) const EVAL: &str = "eeeeeeee-0000-4000-8000-000000000001";
const DEPLOYMENT: &str = "dddddddd-0000-4000-8000-000000000001";
const OLD_DEPLOYMENT: &str = "dddddddd-0000-4000-8000-000000000000";
pub(super) const NOW: i64 = 1_800_000_000 * SECOND;

pub(super) struct Scene {
    pub job: Job,
    pub allocs: Vec<Allocation>,
    pub deployment: Option<Deployment>,
    /// What a changed specification means for old allocations.
    pub update: Update,
    pub job_gone: bool,
    pub stopped: bool,
    /// The job has a new incarnation: what there is belongs to the one before.
    pub reborn: bool,
    pub eval: &'static str,
}

/// What came out, in words.
#[derive(Debug, Default)]
pub(super) struct Got {
    /// Counters that are not 0, of group `g`.
    pub counts: String,
    pub all: std::collections::BTreeMap<String, DesiredUpdates>,
    /// `[index] flags`
    pub place: Vec<String>,
    pub stop: Vec<String>,
    pub destructive: Vec<String>,
    pub unknown: Vec<String>,
    pub reconnected: Vec<String>,
    /// trigger and seconds from now
    pub followups: Vec<(String, i64)>,
    /// Allocations that note one.
    pub noted: Vec<String>,
    pub created: Option<Deployment>,
    pub updates: Vec<String>,
}

pub(super) fn alloc_id(n: usize) -> AllocId {
    AllocId::from(world::uuid(0xc000_0000 + n as u64))
}

pub(super) fn policy(attempts: i64, delay_s: i64) -> ReschedulePolicy {
    ReschedulePolicy {
        attempts: Some(attempts),
        interval: Some(Nanos::from_secs(3_600)),
        delay: Some(Nanos::from_secs(delay_s)),
        delay_function: Some("constant".into()),
        max_delay: None,
        unlimited: Some(false),
    }
}

/// Says the counters that are not 0.
pub(super) fn words(desired: &DesiredUpdates) -> String {
    let counters = desired.counters().into_iter().filter(|(_, n)| *n > 0);
    let said: Vec<String> = counters.map(|(what, n)| format!("{what} {n}")).collect();
    said.join(", ")
}

fn index(name: &str) -> String {
    name.find('[').map_or(name, |at| &name[at..]).to_owned()
}

fn say_place(place: &Place<'_>) -> String {
    let flags = [
        ("canary", place.canary),
        ("again", place.reschedule),
        ("lost", place.lost),
        ("stable", place.stable_from.is_some()),
    ];
    let said: String = flags.iter().filter(|(_, on)| *on).map(|(flag, _)| format!(" {flag}")).collect();
    index(&place.name) + &said
}

fn say_stop(stop: &Stop<'_>) -> String {
    let lost = if stop.client_status == Some(ClientStatus::Lost) { " lost" } else { "" };
    let later = if stop.followup.is_empty() { "" } else { " later" };
    format!("{}{lost}{later}", index(&stop.alloc.name))
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort_by_key(|name| (name.len(), name.clone()));
    list
}

impl Scene {
    pub fn new(kind: &str, count: i64) -> Self {
        let mut job = world::job(kind, count);
        job.task_groups[0].reschedule_policy = Some(ReschedulePolicy { unlimited: Some(false), ..policy(0, 5) });
        Self {
            job,
            allocs: Vec::new(),
            deployment: None,
            update: Update::Destructive,
            job_gone: false,
            stopped: false,
            reborn: false,
            eval: EVAL,
        }
    }

    pub fn service(count: i64) -> Self {
        Self::new("service", count)
    }

    pub fn batch(count: i64) -> Self {
        Self::new("batch", count)
    }

    pub fn group(mut self, set: impl FnOnce(&mut TaskGroup)) -> Self {
        set(&mut self.job.task_groups[0]);
        self
    }

    pub fn rolling(self, max_parallel: i64, canary: i64) -> Self {
        let update = UpdateStrategy { max_parallel: Some(max_parallel), canary: Some(canary), ..Default::default() };
        self.group(|group| group.update = Some(update))
    }

    pub fn rescheduled(self, attempts: i64, delay_s: i64) -> Self {
        self.group(|group| group.reschedule_policy = Some(policy(attempts, delay_s)))
    }

    pub fn disconnects(self, set: impl FnOnce(&mut DisconnectStrategy)) -> Self {
        let mut block = DisconnectStrategy { lost_after: Some(Nanos::from_secs(300)), ..DisconnectStrategy::default() };
        set(&mut block);
        self.group(|group| group.disconnect = Some(block))
    }

    pub fn update(mut self, update: Update) -> Self {
        self.update = update;
        self
    }

    /// One more allocation, running on a ready node.
    pub fn one(mut self, version: u64, index: usize, set: impl FnOnce(&mut Allocation)) -> Self {
        let task = TaskState {
            state: TaskStateKind::Running,
            started_at: Some(Timestamp(NOW - 60 * SECOND)),
            ..TaskState::default()
        };
        let mut alloc = Allocation {
            id: alloc_id(self.allocs.len()),
            name: format!("j.g[{index}]"),
            node_id: NodeId::from(world::uuid(READY)),
            task_group: "g".into(),
            desired_status: DesiredStatus::Run,
            client_status: ClientStatus::Running,
            job_version: Some(version),
            create_index: model::Index(20 + self.allocs.len() as u64),
            modify_time: NOW - 30 * SECOND,
            task_states: [("t".to_owned(), task)].into(),
            ..Allocation::default()
        };
        set(&mut alloc);
        self.allocs.push(alloc);
        self
    }

    pub fn new_ones(self, range: Range<usize>) -> Self {
        range.fold(self, |scene, index| scene.one(1, index, |_| {}))
    }

    pub fn old_ones(self, range: Range<usize>) -> Self {
        range.fold(self, |scene, index| scene.one(0, index, |_| {}))
    }

    /// Changes those that were added at these places.
    pub fn each(mut self, range: Range<usize>, set: impl Fn(&mut Allocation)) -> Self {
        self.allocs[range].iter_mut().for_each(set);
        self
    }

    /// The deployment of the present version.
    pub fn deployed(mut self, status: DeploymentStatus, set: impl FnOnce(&mut DeploymentState)) -> Self {
        let mut state = DeploymentState { desired_total: self.job.task_groups[0].count(), ..Default::default() };
        set(&mut state);
        self.deployment = Some(Deployment {
            id: DEPLOYMENT.into(),
            job_version: 1,
            status,
            task_groups: [("g".to_owned(), state)].into(),
            ..Deployment::default()
        });
        self
    }

    /// The deployment of the version before.
    pub fn deployed_before(self, status: DeploymentStatus, set: impl FnOnce(&mut DeploymentState)) -> Self {
        let mut scene = self.deployed(status, set);
        let deployment = scene.deployment.as_mut().unwrap();
        (deployment.id, deployment.job_version) = (OLD_DEPLOYMENT.into(), 0);
        scene
    }

    pub fn run(&self) -> Got {
        self.with(|given| Got::of(reconcile(given)))
    }

    /// Where each allocation stands.
    pub fn classes(&self) -> Vec<String> {
        self.with(|given| {
            let rows = given.allocs;
            let reconciler = Reconciler::new(given);
            rows.iter().map(|alloc| format!("{:?}", reconciler.class(alloc))).collect()
        })
    }

    /// What the filter of failed ones says of each: `stay`, `now`, `later` or `drop`.
    pub fn fates(&self) -> Vec<&'static str> {
        self.with(|given| {
            let rows = given.allocs;
            let mut reconciler = Reconciler::new(given);
            reconciler.pick_deployment(false);
            let (mut gone, mut rest) = (Vec::new(), Vec::new());
            for alloc in rows.iter().copied() {
                let away = reconciler.class(alloc) == super::Class::Disconnecting;
                if away { gone.push(alloc) } else { rest.push(alloc) }
            }
            let mut fates = reconciler.split_failed(&rest);
            fates.extend(reconciler.split_disconnecting(&gone));
            let has = |list: &[Row<'_>], alloc: Row<'_>| list.iter().any(|a| a.id == alloc.id);
            let fate = |alloc: &Row<'_>| match () {
                () if has(&fates.now, alloc) => "now",
                () if fates.later.iter().any(|(a, _)| a.id == alloc.id) => "later",
                () if has(&fates.stay, alloc) => "stay",
                () => "drop",
            };
            rows.iter().map(fate).collect()
        })
    }

    fn with<T>(&self, run: impl for<'a> FnOnce(Given<'a, '_>) -> T) -> T {
        let mut world = World::new();
        world.now = NOW;
        for n in [READY, DOWN, AWAY, DRAINING] {
            world.add_node(world::node(n));
        }
        let node = |n| NodeId::from(world::uuid(n));
        world.set_status(&node(DOWN), NodeStatus::Down);
        world.set_status(&node(AWAY), NodeStatus::Disconnected);
        world.drain(&node(DRAINING));
        world.register_only_unchecked(&self.job);
        world.register_only_unchecked(&world::changed(&self.job, "new"));
        let key = (self.job.namespace(), self.job.id());
        let mut job = Job::clone(world.state.job(&key.0, &key.1).unwrap());
        assert_eq!(job.version(), 1);
        let born = job.create_index;
        job.stop = Some(self.stopped);
        if self.reborn {
            job.create_index = Some(model::Index(9_999));
        }
        let job = Arc::new(job);
        let own = |alloc: &Allocation| {
            Arc::new(Allocation {
                job_id: key.1.clone(),
                namespace: key.0.clone(),
                job_incarnation: born,
                ..alloc.clone()
            })
        };
        let rows: Vec<Arc<Allocation>> = self.allocs.iter().map(own).collect();
        let allocs: Vec<Row<'_>> = rows.iter().collect();
        let created = born.unwrap_or_default();
        let latest = self.deployment.as_ref().map(|d| Arc::new(Deployment { job_create_index: created, ..d.clone() }));
        let eval = Evaluation { id: EvalId::from(self.eval), ..world.eval_for(&self.job, "job-register") };
        let mut next = 0;
        let mut new_id = || {
            next += 1;
            world::uuid(0xb000_0000 + next)
        };
        let current = super::read::revision(&job);
        let classify = |alloc: Row<'_>| {
            if super::read::alloc_revision(alloc) == current { Update::Ignore } else { self.update }
        };
        run(Given {
            state: &world.state,
            job: (!self.job_gone).then_some(&job),
            batch: self.job.kind_text() == "batch",
            eval: &eval,
            now: NOW,
            allocs: &allocs,
            latest: latest.as_ref(),
            classify: &classify,
            may_run: &|_, _| true,
            new_id: &mut new_id,
        })
    }
}

impl Got {
    fn of(changes: Changes<'_>) -> Self {
        let seconds = |eval: &Evaluation| (eval.wait_until.unwrap_or_default().unix_nanos() - NOW) / SECOND;
        let name = |alloc: &Row<'_>| index(&alloc.name);
        let replaced = changes.place.iter().filter_map(|p| p.replaces.as_ref());
        let ids: std::collections::BTreeSet<_> = changes.stop.iter().map(|s| &s.alloc.id).collect();
        assert_eq!(ids.len(), changes.stop.len(), "stopped twice");
        Self {
            counts: changes.desired.get("g").map(words).unwrap_or_default(),
            place: sorted(changes.place.iter().map(say_place).collect()),
            stop: sorted(changes.stop.iter().chain(replaced).map(say_stop).collect()),
            destructive: sorted(changes.destructive.iter().map(|p| index(&p.name)).collect()),
            unknown: sorted(changes.unknown.iter().map(|(alloc, _)| name(alloc)).collect()),
            reconnected: sorted(changes.reconnected.iter().map(name).collect()),
            followups: changes.followups.iter().map(|eval| (eval.triggered_by.clone(), seconds(eval))).collect(),
            noted: sorted(changes.followup_of.iter().map(|(alloc, _)| name(alloc)).collect()),
            updates: changes.deployment_updates.iter().map(|u| u.status.to_string()).collect(),
            created: changes.deployment.filter(|_| changes.created),
            all: changes.desired,
        }
    }

    /// What the new deployment wants of `g`: its total and its canaries.
    pub fn wants(&self) -> Option<(i64, i64)> {
        let group = self.created.as_ref()?.task_groups.get("g")?;
        Some((group.desired_total, group.desired_canaries))
    }
}

// What befalls an allocation.

pub(super) fn on(node: u64) -> impl Fn(&mut Allocation) {
    move |alloc| alloc.node_id = NodeId::from(world::uuid(node))
}

pub(super) fn client(alloc: &mut Allocation, status: ClientStatus) {
    alloc.client_status = status;
}

/// It failed so many seconds ago.
pub(super) fn failed(seconds: i64) -> impl Fn(&mut Allocation) {
    move |alloc| {
        client(alloc, ClientStatus::Failed);
        alloc.task_states.values_mut().for_each(|task| {
            (task.state, task.failed) = (TaskStateKind::Dead, true);
            task.finished_at = Some(Timestamp(NOW - seconds * SECOND));
        });
    }
}

pub(super) fn complete(alloc: &mut Allocation) {
    client(alloc, ClientStatus::Complete);
    alloc.task_states.values_mut().for_each(|task| task.state = TaskStateKind::Dead);
}

pub(super) fn stopped(alloc: &mut Allocation) {
    alloc.desired_status = DesiredStatus::Stop;
}

pub(super) fn migrating(alloc: &mut Allocation) {
    alloc.desired_transition.migrate = Some(true);
}

/// It was tried again so often, `seconds` ago the last time.
pub(super) fn tried(times: usize, seconds: i64) -> impl Fn(&mut Allocation) {
    move |alloc| {
        let event = RescheduleEvent {
            reschedule_time: NOW - seconds * SECOND,
            delay: Nanos::from_secs(5),
            ..RescheduleEvent::default()
        };
        alloc.reschedule_tracker = Some(RescheduleTracker { events: vec![event; times], last_reschedule: "ok".into() });
    }
}

/// Of the present deployment, with or without a verdict.
pub(super) fn judged(healthy: Option<bool>) -> impl Fn(&mut Allocation) {
    move |alloc| {
        alloc.deployment_id = DEPLOYMENT.into();
        let canary = alloc.is_canary();
        alloc.deployment_status = Some(AllocDeploymentStatus { healthy, canary, ..AllocDeploymentStatus::default() });
    }
}

pub(super) fn canary(alloc: &mut Allocation) {
    alloc.deployment_id = DEPLOYMENT.into();
    alloc.deployment_status = Some(AllocDeploymentStatus { canary: true, ..AllocDeploymentStatus::default() });
}

/// What was recorded of its client status, and how long ago.
pub(super) fn recorded(states: &[(ClientStatus, i64)]) -> impl Fn(&mut Allocation) {
    let state = |(status, ago): &(ClientStatus, i64)| AllocState {
        value: status.to_string(),
        time: Timestamp(NOW - ago * SECOND),
        ..AllocState::default()
    };
    let states: Vec<AllocState> = states.iter().map(state).collect();
    move |alloc| alloc.alloc_states.clone_from(&states)
}

/// Out of reach for so many seconds.
pub(super) fn unknown(seconds: i64) -> impl Fn(&mut Allocation) {
    move |alloc| {
        on(AWAY)(alloc);
        client(alloc, ClientStatus::Unknown);
        recorded(&[(ClientStatus::Unknown, seconds)])(alloc);
    }
}

/// Was out of reach and runs on a ready node.
pub(super) fn back(alloc: &mut Allocation) {
    unknown(60)(alloc);
    on(READY)(alloc);
    client(alloc, ClientStatus::Running);
}

/// The deployment's group has the canaries that were added at these places.
pub(super) fn has_canaries(wanted: i64, places: Range<usize>) -> impl FnOnce(&mut DeploymentState) {
    move |state| {
        state.desired_canaries = wanted;
        state.placed_canaries = places.map(alloc_id).collect();
    }
}

pub(super) fn list(range: Range<usize>) -> Vec<String> {
    range.map(|i| format!("[{i}]")).collect()
}
