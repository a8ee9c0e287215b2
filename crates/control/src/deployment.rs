//! Where does a deployment go next?
//!
//! ```text
//!   running ─┬─ an allocation is unhealthy and may not be replaced ──► failed (+ rollback)
//!            ├─ no progress by the deadline ─────────────────────────► failed (+ rollback)
//!            ├─ all groups healthy and promoted ─────────────────────► successful (version stable)
//!            ├─ all canaries healthy, auto_promote ──────────────────► promoted, evaluation
//!            ├─ an allocation is unhealthy and may be replaced ──────► its reschedule flag, evaluation
//!            └─ an allocation became healthy ────────────────────────► evaluation: the next batch
//! ```
//!
//! The first line that applies is decided; the next call, on the state with its effect, looks further.
//!
//! Invariants
//! * Only the newest deployment of a job's present version moves; an older one is the scheduler's to
//!   cancel, and a purged job's is left alone.
//! * An evaluation is wanted only if no other of the job has seen, or will see, the newest verdict.
//! * A rollback never leads to the specification that just failed.
//!
//! Who drives it: the controller's shell for each active deployment, when a row of it changed and at
//! [`Decision::wake_at`]. What it cannot do is see that a client never reports health: the progress
//! deadline is there for that. Deliberately absent: counters (the state machine keeps them) and
//! promotion by hand (the gateway's).

pub mod hand;

use std::collections::BTreeMap;

use fsm::State;
use fsm::command::{Command, DeploymentUpdate};
use model::alloc::DesiredTransition;
use model::deployment::DeploymentState;
use model::ids::NewId;
use model::{AllocId, Allocation, Deployment, DeploymentStatus, EvalStatus, Evaluation, Index, Job, Nanos, Timestamp};

use crate::reschedule::may_reschedule;
use crate::trigger::Trigger;

/// The texts that clients show and match on.
pub mod text {
    pub const RUNNING: &str = "Deployment is running";
    pub const RUNNING_MANUAL: &str = "Deployment is running but requires manual promotion";
    pub const RUNNING_AUTO: &str = "Deployment is running pending automatic promotion";
    pub const PAUSED: &str = "Deployment is paused";
    pub const BY_HAND: &str = "Deployment marked as failed";
    pub const SUCCESSFUL: &str = "Deployment completed successfully";
    pub const UNHEALTHY: &str = "Failed due to unhealthy allocations";
    pub const DEADLINE: &str = "Failed due to progress deadline";

    pub fn rolling_back(why: &str, version: u64) -> String {
        format!("{why} - rolling back to job version {version}")
    }

    pub fn same_spec(why: &str, version: u64) -> String {
        format!("{why} - not rolling back to stable job version {version} as current job has same specification")
    }

    pub fn no_target(why: &str) -> String {
        format!("{why} - no stable job version to auto revert to")
    }
}

/// What to do about one deployment now, and when to look again without news.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// One command at most.
    pub command: Option<Command>,
    pub wake_at: Option<Timestamp>,
}

/// Decides; see the module's documentation.
pub fn decide(state: &State, deployment: &Deployment, now: Timestamp, new_id: NewId<'_>) -> Decision {
    let Some(job) = moving(state, deployment) else { return Decision::default() };
    let view = View { state, deployment, job, now };
    Decision { command: view.command(new_id), wake_at: view.wake_at() }
}

/// The job, if the deployment is one the watcher moves.
fn moving<'a>(state: &'a State, deployment: &Deployment) -> Option<&'a Job> {
    if deployment.status != DeploymentStatus::Running {
        return None;
    }
    let job = state.job(&deployment.namespace, &deployment.job_id)?;
    let present = job.incarnation() == deployment.job_create_index && job.version() == deployment.job_version;
    (present && !job.is_stopped()).then_some(&**job)
}

struct View<'a> {
    state: &'a State,
    deployment: &'a Deployment,
    job: &'a Job,
    now: Timestamp,
}

/// What an unhealthy allocation asks for.
enum Unhealthy {
    Fail,
    Replace,
    Nothing,
}

impl View<'_> {
    fn command(&self, new_id: NewId<'_>) -> Option<Command> {
        let mut failed_groups = Vec::new();
        let mut replace = Vec::new();
        for alloc in self.allocs() {
            match self.unhealthy(alloc) {
                Unhealthy::Fail => failed_groups.push(alloc.task_group.as_str()),
                Unhealthy::Replace => replace.push(alloc.id.clone()),
                Unhealthy::Nothing => {}
            }
        }
        if !failed_groups.is_empty() {
            return Some(self.fail(text::UNHEALTHY, &failed_groups, new_id));
        }
        if self.is_successful() {
            return Some(update(DeploymentUpdate {
                status: Some(DeploymentStatus::Successful),
                description: text::SUCCESSFUL.to_owned(),
                mark_stable: true,
                ..self.blank()
            }));
        }
        let late: Vec<&str> =
            self.pressed().filter(|(_, group)| group.require_progress_by <= self.now).map(|(name, _)| name).collect();
        if !late.is_empty() {
            return Some(self.fail(text::DEADLINE, &late, new_id));
        }
        if let Some(groups) = self.promotable() {
            let eval = self.eval(new_id);
            return Some(update(DeploymentUpdate { promote: groups, eval: Some(eval), ..self.blank() }));
        }
        if !replace.is_empty() {
            return Some(self.replace(replace, new_id));
        }
        self.wants_eval().then(|| update(DeploymentUpdate { eval: Some(self.eval(new_id)), ..self.blank() }))
    }

    /// The next moment at which a deadline may have passed.
    fn wake_at(&self) -> Option<Timestamp> {
        self.pressed().map(|(_, group)| group.require_progress_by).min()
    }

    /// Groups that must make progress by a moment and have not all they need.
    fn pressed(&self) -> impl Iterator<Item = (&str, &DeploymentState)> {
        self.deployment.task_groups.iter().map(|(name, group)| (name.as_str(), group)).filter(|(_, group)| {
            !group.require_progress_by.is_zero() && group.progress_deadline > Nanos(0) && is_short(group)
        })
    }

    fn blank(&self) -> DeploymentUpdate {
        DeploymentUpdate { id: self.deployment.id.clone(), ..DeploymentUpdate::default() }
    }

    fn allocs(&self) -> impl Iterator<Item = &Allocation> {
        self.state.allocs_of_deployment(&self.deployment.id).map(|alloc| &**alloc)
    }

    fn unhealthy(&self, alloc: &Allocation) -> Unhealthy {
        let over = alloc.server_terminal() || alloc.next_allocation.non_empty().is_some();
        if alloc.is_healthy() != Some(false) || over {
            return Unhealthy::Nothing;
        }
        let deadline = self.deployment.task_groups.get(&alloc.task_group).map(|group| group.progress_deadline);
        let policy = self.job.lookup_group(&alloc.task_group).and_then(|group| group.rescheduling());
        let said = alloc.deployment_status.as_ref().map_or(Timestamp::ZERO, |status| status.timestamp);
        let patient = deadline.is_some_and(|deadline| deadline > Nanos(0));
        if alloc.desired_transition.should_reschedule() {
            Unhealthy::Nothing
        } else if patient && may_reschedule(policy, alloc.reschedule_tracker.as_ref(), said) {
            Unhealthy::Replace
        } else {
            Unhealthy::Fail
        }
    }

    fn healthy_live<'b>(&self, allocs: impl Iterator<Item = &'b Allocation>) -> i64 {
        let healthy = allocs.filter(|alloc| !alloc.is_terminal() && alloc.is_healthy() == Some(true)).count();
        i64::try_from(healthy).unwrap_or(i64::MAX)
    }

    fn is_successful(&self) -> bool {
        !self.deployment.task_groups.is_empty()
            && self.deployment.task_groups.iter().all(|(name, group)| {
                let promoted = group.desired_canaries == 0 || group.promoted;
                promoted && self.healthy_live(self.allocs().filter(|a| a.task_group == *name)) >= group.desired_total
            })
    }

    /// The groups to promote, once every group with canaries promotes by itself and has them healthy.
    fn promotable(&self) -> Option<Vec<String>> {
        let waiting: Vec<_> =
            self.deployment.task_groups.iter().filter(|(_, g)| g.desired_canaries > 0 && !g.promoted).collect();
        let ready = |group: &DeploymentState| {
            let canaries = group.placed_canaries.iter().filter_map(|id| self.state.alloc(id)).map(|a| &**a);
            group.auto_promote && self.healthy_live(canaries) >= group.desired_canaries
        };
        let all = !waiting.is_empty() && waiting.iter().all(|(_, group)| ready(group));
        all.then(|| waiting.into_iter().map(|(name, _)| name.clone()).collect())
    }

    /// Whether a verdict has come that no evaluation of the job has seen or will see.
    fn wants_eval(&self) -> bool {
        let verdict = |alloc: &Allocation| {
            let status = alloc.deployment_status.as_ref()?;
            (status.healthy == Some(true)).then_some(status.modify_index)
        };
        let Some(newest) = self.allocs().filter_map(verdict).max() else { return false };
        !self.state.evals_of_job(&self.deployment.namespace, &self.deployment.job_id).any(|eval| covers(eval, newest))
    }

    fn eval(&self, new_id: NewId<'_>) -> Evaluation {
        let key = (&self.deployment.namespace, &self.deployment.job_id);
        let mut eval = Trigger::DeploymentWatcher.eval(key.0, key.1, self.job, self.now, new_id);
        eval.deployment_id = self.deployment.id.clone();
        eval.job_modify_index = self.job.job_modify_index();
        if self.deployment.eval_priority > 0 {
            eval.priority = self.deployment.eval_priority;
        }
        eval
    }

    fn replace(&self, allocs: Vec<AllocId>, new_id: NewId<'_>) -> Command {
        let flag = DesiredTransition { reschedule: Some(true), ..DesiredTransition::default() };
        let transitions: BTreeMap<_, _> = allocs.into_iter().map(|id| (id, flag.clone())).collect();
        Command::AllocDesiredTransition { transitions, evals: vec![self.eval(new_id)] }
    }

    fn fail(&self, why: &str, groups: &[&str], new_id: NewId<'_>) -> Command {
        update(self.failed(why, groups, new_id))
    }

    fn failed(&self, why: &str, groups: &[&str], new_id: NewId<'_>) -> DeploymentUpdate {
        let reverts = groups.iter().any(|name| self.deployment.task_groups.get(*name).is_some_and(|g| g.auto_revert));
        let (description, rollback) = if reverts { self.rollback(why) } else { (why.to_owned(), None) };
        DeploymentUpdate {
            status: Some(DeploymentStatus::Failed),
            description,
            rollback: rollback.map(Box::new),
            eval: Some(self.eval(new_id)),
            ..self.blank()
        }
    }

    /// The newest stable version, unless it says the same as the one that failed.
    fn rollback(&self, why: &str) -> (String, Option<Job>) {
        let versions = self.state.job_versions(&self.deployment.namespace, &self.deployment.job_id);
        let Some(stable) = versions.into_iter().rev().find(|version| version.is_stable()) else {
            return (text::no_target(why), None);
        };
        if !stable.spec_changed(self.job) {
            return (text::same_spec(why, stable.version()), None);
        }
        let mut job = Job::clone(stable);
        job.stable = Some(false);
        job.version_tag = None;
        (text::rolling_back(why, stable.version()), Some(job))
    }
}

fn update(update: DeploymentUpdate) -> Command {
    Command::DeploymentUpdate(Box::new(update))
}

/// Fewer healthy allocations than the group's present step needs. One that only waits for its promotion
/// is not short.
fn is_short(group: &DeploymentState) -> bool {
    let waits = group.desired_canaries > 0 && !group.promoted;
    group.healthy_allocs < if waits { group.desired_canaries } else { group.desired_total }
}

/// Whether the evaluation saw everything up to `index`, or will.
fn covers(eval: &Evaluation, index: Index) -> bool {
    match eval.status {
        EvalStatus::Pending => {
            let delayed = eval.wait.0 > 0 || eval.wait_until.is_some_and(|until| !until.is_zero());
            eval.create_index > index && !delayed
        }
        EvalStatus::Cancelled => false,
        EvalStatus::Blocked | EvalStatus::Complete | EvalStatus::Failed => eval.snapshot_index >= index,
    }
}
