//! What must change so that a counted job (service, batch) is as asked for: how many to place, which to
//! stop, replace, move or update in place, and what becomes of the deployment. Which *node* an allocation
//! goes to is none of its business.
//!
//! ```text
//!  deployment ──> old (to cancel) | current
//!  per group:  all ─ canary clean-up ─ classify ─┬ ignore
//!                                                ├ lost, expiring ─────> stop, place
//!                                                ├ migrate ────────────> stop, place
//!                                                ├ disconnecting ──────> unknown; reschedule: now | later | stays
//!                                                ├ reconnecting ───────> stays, or one of it and its replacements stops
//!                                                └ untainted ─ reschedule: now | later | stays
//!              stays ─ too many? stop ─ changed? ignore | in place | destructive (within the budget)
//! ```
//!
//! Pure and ordered: the same rows give the same result, without regard to map order. Sets are vectors
//! in the order of (index, id). Invariants: never places more than the count, apart from moves; every
//! allocation gets at most one stop; a stop has a reason.

mod deployment;
mod group;
mod lost;
mod nodes;
mod reconnect;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fsm::State;
use fsm::plan::PlanDeploymentUpdate;
use model::metric::DesiredUpdates;
use model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentId, EvalId, Evaluation, Job, Nanos, Node, TaskGroup,
    Timestamp,
};

pub(crate) use deployment::SUCCESSFUL;
#[cfg(test)]
pub(crate) use nodes::canaries_of;
pub(crate) use nodes::{NodeChanges, NodePlace, reconcile_nodes};

use lost::Class;

use crate::names::Names;
use crate::read;

pub(crate) type Row<'a> = &'a Arc<Allocation>;

pub(crate) const NOT_NEEDED: &str = "alloc not needed due to job update";
pub(crate) const MIGRATING: &str = "alloc is being migrated";
pub(crate) const UPDATING: &str = "alloc is being updated due to job update";
pub(crate) const LOST: &str = "alloc is lost since its node is down";
pub(crate) const RESCHEDULED: &str = "alloc was rescheduled because it failed";
const RECONNECTED: &str = "alloc not needed due to disconnected client reconnect";
const FOLLOW_UP: &str = "created for delayed rescheduling";
const FOLLOW_UP_TIMEOUT: &str = "created for delayed disconnect timeout";
const TRIGGER_TIMEOUT: &str = "max-disconnect-timeout";
const TRIGGER_FAILURE: &str = "alloc-failure";
const TRIGGER_RESCHEDULE: &str = "alloc-reschedule";

/// Follow-ups within this time of the first share its evaluation.
const BATCH_WINDOW: i64 = 5_000_000_000;

/// What a changed specification means for an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    Ignore,
    InPlace,
    Destructive,
}

/// An allocation to place.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub group: &'a str,
    pub name: String,
    pub previous: Option<Row<'a>>,
    /// It failed and is tried again: the tracker goes on.
    pub reschedule: bool,
    pub lost: bool,
    pub canary: bool,
    /// While canaries run, others get the stable version, no older than this.
    pub stable_from: Option<u64>,
    /// Stopped together with the placement, and only then.
    pub replaces: Option<Stop<'a>>,
}

/// An allocation to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop<'a> {
    pub alloc: Row<'a>,
    pub description: &'static str,
    pub client_status: Option<ClientStatus>,
    pub followup: EvalId,
}

impl<'a> Stop<'a> {
    pub(crate) fn new(alloc: Row<'a>, description: &'static str) -> Self {
        Self { alloc, description, client_status: None, followup: EvalId::default() }
    }

    pub(crate) fn lost(alloc: Row<'a>) -> Self {
        Self { client_status: Some(ClientStatus::Lost), ..Self::new(alloc, LOST) }
    }
}

/// All that must change.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    /// The deployment that new allocations belong to, while it is active.
    pub deployment: Option<Deployment>,
    /// `deployment` is new.
    pub created: bool,
    pub deployment_updates: Vec<PlanDeploymentUpdate>,
    pub place: Vec<Place<'a>>,
    pub destructive: Vec<Place<'a>>,
    pub in_place: Vec<Row<'a>>,
    pub stop: Vec<Stop<'a>>,
    /// Become unknown, as their node is out of reach; the evaluation looks at them when their time is up.
    pub unknown: Vec<(Row<'a>, EvalId)>,
    /// Are no longer unknown.
    pub reconnected: Vec<Row<'a>>,
    /// Allocations that only take note of their follow-up evaluation.
    pub followup_of: Vec<(Row<'a>, EvalId)>,
    pub desired: BTreeMap<String, DesiredUpdates>,
    pub followups: Vec<Evaluation>,
    pub names: BTreeMap<String, Names<'a>>,
}

/// What is known.
pub(crate) struct Given<'a, 'b> {
    pub state: &'a State,
    pub job: Option<&'a Arc<Job>>,
    pub batch: bool,
    pub eval: &'a Evaluation,
    pub now: i64,
    pub allocs: &'b [Row<'a>],
    pub latest: Option<&'a Arc<Deployment>>,
    pub classify: &'b dyn Fn(Row<'a>) -> Update,
    /// Whether a node may run a group of the job at all.
    pub may_run: &'b dyn Fn(&TaskGroup, &Node) -> bool,
    pub new_id: model::ids::NewId<'b>,
}

pub(crate) struct Reconciler<'a, 'b> {
    given: Given<'a, 'b>,
    out: Changes<'a>,
    old: Option<&'a Deployment>,
    /// The job's groups by name.
    groups: BTreeMap<&'a str, &'a TaskGroup>,
    /// Allocations that go out of reach by this decision.
    away: BTreeSet<&'a AllocId>,
    paused: bool,
    failed: bool,
    complete: bool,
}

/// See the module's text.
pub(crate) fn reconcile<'a>(given: Given<'a, '_>) -> Changes<'a> {
    Reconciler::new(given).run()
}

impl<'a, 'b> Reconciler<'a, 'b> {
    fn new(given: Given<'a, 'b>) -> Self {
        let out = Changes::default();
        let groups = given.job.iter().flat_map(|job| &job.task_groups);
        // Of two with one name the first counts.
        let groups = groups.rev().map(|group| (group.name(), group)).collect();
        Self { given, out, old: None, groups, away: BTreeSet::new(), paused: false, failed: false, complete: true }
    }

    fn run(mut self) -> Changes<'a> {
        let job = self.given.job;
        let stopped = job.is_none_or(|job| job.is_stopped());
        self.pick_deployment(stopped);
        let mut groups = by_group(self.given.allocs);
        if stopped {
            for (name, all) in groups {
                self.stop_all(name, &all);
            }
            if let Some(job) = job {
                for group in &job.task_groups {
                    self.out.desired.entry(group.name().to_owned()).or_default();
                }
            }
            return self.out;
        }
        let job = job.expect("a job that is not stopped is there");
        for group in &job.task_groups {
            let all = groups.remove(group.name()).unwrap_or_default();
            self.group(job, group, all);
        }
        for (name, all) in groups {
            self.stop_all(name, &all);
        }
        self.finish_deployment();
        self.out
    }

    /// Stops whatever still runs of a group.
    fn stop_all(&mut self, name: &str, all: &[Row<'a>]) {
        let living: Vec<Row<'a>> = all.iter().copied().filter(|a| !a.is_terminal()).collect();
        let desired = self.out.desired.entry(name.to_owned()).or_default();
        desired.stop += len(&living);
        for alloc in living {
            let lost = matches!(self.class(alloc), Class::Lost | Class::Expiring);
            self.out.stop.push(if lost { Stop::lost(alloc) } else { Stop::new(alloc, NOT_NEEDED) });
        }
    }

    /// The job's or the allocation's own version of its group.
    fn group_of(&self, alloc: Row<'a>) -> Option<&'a TaskGroup> {
        if self.given.job.is_some_and(|job| read::revision(job) == read::alloc_revision(alloc)) {
            return self.groups.get(alloc.task_group.as_str()).copied();
        }
        let job = self.given.state.job_of_alloc(alloc).or(self.given.job)?;
        job.lookup_group(&alloc.task_group)
    }

    fn current_id(&self) -> Option<&DeploymentId> {
        self.out.deployment.as_ref().map(|d| &d.id)
    }

    /// Evaluations at the given moments, batched: the id for each.
    fn follow_up(&mut self, mut later: Vec<(Row<'a>, i64)>, first: &str, rest: &str) -> Vec<(Row<'a>, EvalId)> {
        later.sort_by(|a, b| (a.1, &a.0.id).cmp(&(b.1, &b.0.id)));
        let mut ids = Vec::with_capacity(later.len());
        let mut batch: Option<(i64, EvalId)> = None;
        for (alloc, at) in later {
            let id = match &batch {
                Some((first, id)) if at - first <= BATCH_WINDOW => id.clone(),
                _ => {
                    let trigger = if batch.is_none() { first } else { rest };
                    let eval = self.follow_up_eval(at, trigger);
                    let id = eval.id.clone();
                    self.out.followups.push(eval);
                    batch = Some((at, id.clone()));
                    id
                }
            };
            ids.push((alloc, id));
        }
        ids
    }

    fn follow_up_eval(&mut self, at: i64, trigger: &str) -> Evaluation {
        let eval = self.given.eval;
        Evaluation {
            id: EvalId::from((self.given.new_id)()),
            namespace: eval.namespace.clone(),
            priority: eval.priority,
            kind: eval.kind.clone(),
            triggered_by: trigger.to_owned(),
            job_id: eval.job_id.clone(),
            job_modify_index: self.given.job.map(|j| j.job_modify_index()).unwrap_or_default(),
            status: model::EvalStatus::Pending,
            status_description: if trigger == TRIGGER_TIMEOUT { FOLLOW_UP_TIMEOUT } else { FOLLOW_UP }.to_owned(),
            wait_until: Some(Timestamp(at)),
            wait: Nanos::default(),
            previous_eval: eval.id.clone(),
            create_time: self.given.now,
            modify_time: self.given.now,
            ..Evaluation::default()
        }
    }
}

/// The allocations of each group in their order. What is asked of a row here is asked at once: in a large job the
/// rows are far apart.
fn by_group<'a>(allocs: &[Row<'a>]) -> BTreeMap<&'a str, Vec<Row<'a>>> {
    type Keyed<'a> = (Option<usize>, &'a AllocId, Row<'a>);
    let mut groups: BTreeMap<&'a str, Vec<Keyed<'a>>> = BTreeMap::new();
    for alloc in allocs.iter().copied() {
        let keyed = (read::name_index(&alloc.name), &alloc.id, alloc);
        groups.entry(&alloc.task_group).or_default().push(keyed);
    }
    let rows = |mut all: Vec<Keyed<'a>>| {
        all.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        all.into_iter().map(|(.., row)| row).collect()
    };
    groups.into_iter().map(|(name, all)| (name, rows(all))).collect()
}

/// Puts allocations into the order of every set: by index and id.
fn in_order(set: &mut Vec<Row<'_>>) {
    set.sort_by_cached_key(|alloc| (read::name_index(&alloc.name), &alloc.id));
}

pub(crate) fn len<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap_or(u64::MAX)
}
