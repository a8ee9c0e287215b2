//! What may be forgotten?
//!
//! Rows are kept for a while after they are over, so that people can look back. How long is measured by
//! the moments that stand in the rows: thresholds are hours, clocks differ by less. Each activation names
//! a bounded number of rows; what is left is found again by the next.
//!
//! Order: a job goes with its evaluations and allocations in one command where they fit into it, else
//! they go first and the job in a later one. What is not over is never named, and the state machine
//! checks that once more.

use std::collections::BTreeSet;

use fsm::State;
use fsm::command::Command;
use model::{
    AllocId, Allocation, ClientStatus, DeploymentId, DesiredStatus, EvalId, Evaluation, Job, JobId, NamespaceName,
    Nanos, Node, NodeId, NodeStatus, Timestamp,
};

/// How long rows that are over are kept, and how many one activation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub eval: Nanos,
    pub batch_eval: Nanos,
    pub job: Nanos,
    pub deployment: Nanos,
    pub node: Nanos,
    /// Rows in one command.
    pub rows_max: usize,
    /// Commands in one activation.
    pub commands_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        const HOUR_S: i64 = 3_600;
        Self {
            eval: Nanos::from_secs(HOUR_S),
            batch_eval: Nanos::from_secs(24 * HOUR_S),
            job: Nanos::from_secs(4 * HOUR_S),
            deployment: Nanos::from_secs(HOUR_S),
            node: Nanos::from_secs(24 * HOUR_S),
            rows_max: 2_048,
            commands_max: 8,
        }
    }
}

impl Settings {
    /// Everything that is over, however young: a collection that somebody asks for.
    pub fn forced() -> Self {
        let now = Nanos(0);
        Self { eval: now, batch_eval: now, job: now, deployment: now, node: now, ..Self::default() }
    }
}

/// The commands that forget what is old enough; none when nothing is.
pub fn decide(state: &State, settings: &Settings, now: Timestamp) -> Vec<Command> {
    let view = View { state, settings, now };
    let mut batch = Batch::new(settings);
    view.jobs(&mut batch);
    view.evals(&mut batch);
    view.deployments(&mut batch);
    view.nodes(&mut batch);
    batch.finish()
}

struct View<'a> {
    state: &'a State,
    settings: &'a Settings,
    now: Timestamp,
}

impl View<'_> {
    fn is_older(&self, at_ns: i64, than: Nanos) -> bool {
        self.now.unix_nanos().saturating_sub(at_ns) >= than.0
    }

    fn jobs(&self, batch: &mut Batch<'_>) {
        for job in self.state.jobs().filter(|job| self.is_collectible(job)) {
            let (namespace, id) = job.key();
            let evals: Vec<_> = self.state.evals_of_job(&namespace, &id).collect();
            let allocs: Vec<_> = self.state.allocs_of_job(&namespace, &id).collect();
            let over = evals
                .iter()
                .all(|eval| eval.status.is_terminal() && self.is_older(eval.modify_time, self.settings.job))
                && allocs.iter().all(|alloc| self.may_forget(alloc, self.settings.job));
            if over {
                let evals = evals.iter().map(|eval| eval.id.clone()).collect();
                let allocs = allocs.iter().map(|alloc| alloc.id.clone()).collect();
                batch.job((namespace, id), evals, allocs);
            }
        }
    }

    /// Dead, over for good, old, and nobody named one of its versions.
    fn is_collectible(&self, job: &Job) -> bool {
        let over = if job.is_parent() || job.is_periodic() || job.is_parameterized() {
            job.is_stopped()
        } else {
            job.is_stopped() || job.is_batch()
        };
        let (namespace, id) = job.key();
        over && is_dead(job)
            && self.is_older(job.submit_time.unwrap_or(0), self.settings.job)
            && self.state.job_versions(&namespace, &id).iter().all(|version| version.version_tag.is_none())
    }

    fn evals(&self, batch: &mut Batch<'_>) {
        for eval in self.state.evals().filter(|eval| eval.status.is_terminal()) {
            let is_batch = eval.kind == "batch";
            let keep = if is_batch { self.settings.batch_eval } else { self.settings.eval };
            if batch.is_full() {
                return;
            }
            if !self.is_older(eval.modify_time, keep) {
                continue;
            }
            let job = self.state.job(&eval.namespace, &eval.job_id);
            let stays = is_batch && job.is_some_and(|job| !(is_dead(job) && job.is_stopped()));
            let mut all = !stays;
            for alloc in self.state.allocs_of_eval(&eval.id) {
                let older_spec = !stays || job.is_some_and(|job| is_of_older_spec(alloc, job));
                if older_spec && self.may_forget(alloc, keep) {
                    batch.alloc(&alloc.id);
                } else {
                    all = false;
                }
            }
            if all {
                batch.eval(eval);
            }
        }
    }

    /// Ended on its node, old, and no longer needed to decide on a replacement.
    fn may_forget(&self, alloc: &Allocation, keep: Nanos) -> bool {
        if !alloc.is_terminal() || alloc.client_status == ClientStatus::Running {
            return false;
        }
        if !self.is_older(alloc.modify_time, keep) {
            return false;
        }
        let Some(job) = self.state.job(&alloc.namespace, &alloc.job_id) else { return true };
        if job.is_stopped()
            || is_dead(job)
            || alloc.desired_status == DesiredStatus::Stop
            || alloc.client_status != ClientStatus::Failed
            || alloc.next_allocation.non_empty().is_some()
        {
            return true;
        }
        let version = self.state.job_of_alloc(alloc).unwrap_or(job);
        let Some(policy) = version.lookup_group(&alloc.task_group).and_then(|group| group.rescheduling()) else {
            return true;
        };
        let last = alloc.reschedule_tracker.as_ref().and_then(|tracker| tracker.events.last());
        let interval = policy.interval.unwrap_or_default();
        !policy.is_unlimited() && last.is_some_and(|event| self.is_older(event.reschedule_time, interval))
    }

    fn deployments(&self, batch: &mut Batch<'_>) {
        let over = self.state.deployments().filter(|row| {
            !row.status.is_active()
                && self.is_older(row.modify_time, self.settings.deployment)
                && self.state.allocs_of_deployment(&row.id).all(|alloc| alloc.is_terminal())
        });
        for row in over {
            batch.deployment(&row.id);
        }
    }

    fn nodes(&self, batch: &mut Batch<'_>) {
        let over = |node: &Node| {
            node.status == NodeStatus::Down
                && self.is_older(node.status_updated_at.saturating_mul(1_000_000_000), self.settings.node)
                && self.state.allocs_of_node(&node.id).all(|alloc| alloc.is_terminal())
        };
        for node in self.state.nodes().filter(|node| over(node)) {
            batch.node(&node.id);
        }
    }
}

fn is_dead(job: &Job) -> bool {
    job.status.as_deref() == Some("dead")
}

/// Made for an earlier specification of the job, or an earlier job of that name.
fn is_of_older_spec(alloc: &Allocation, job: &Job) -> bool {
    alloc.job_incarnation() != Some(job.incarnation()) || alloc.job_version().is_some_and(|v| v < job.version())
}

/// Gathers rows into commands of bounded size, and at most so many of them.
struct Batch<'a> {
    settings: &'a Settings,
    done: Vec<Command>,
    evals: BTreeSet<EvalId>,
    allocs: BTreeSet<AllocId>,
    deployments: Vec<DeploymentId>,
    jobs: Vec<(NamespaceName, JobId)>,
    nodes: Vec<NodeId>,
    named_evals: BTreeSet<EvalId>,
    named_allocs: BTreeSet<AllocId>,
}

impl<'a> Batch<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            done: Vec::new(),
            evals: BTreeSet::new(),
            allocs: BTreeSet::new(),
            deployments: Vec::new(),
            jobs: Vec::new(),
            nodes: Vec::new(),
            named_evals: BTreeSet::new(),
            named_allocs: BTreeSet::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.done.len() >= self.settings.commands_max
    }

    fn rows(&self) -> usize {
        self.evals.len() + self.allocs.len() + self.deployments.len() + self.jobs.len()
    }

    /// Makes room for that many rows in the present command.
    fn reserve(&mut self, rows: usize) {
        if self.rows() > 0 && self.rows() + rows > self.settings.rows_max {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.rows() == 0 {
            return;
        }
        let command = Command::Reap {
            evals: std::mem::take(&mut self.evals).into_iter().collect(),
            allocs: std::mem::take(&mut self.allocs).into_iter().collect(),
            deployments: std::mem::take(&mut self.deployments),
            jobs: std::mem::take(&mut self.jobs),
        };
        self.done.push(command);
    }

    fn eval(&mut self, eval: &Evaluation) {
        if !self.is_full() && self.named_evals.insert(eval.id.clone()) {
            self.reserve(1);
            self.evals.insert(eval.id.clone());
        }
    }

    fn alloc(&mut self, id: &AllocId) {
        if !self.is_full() && self.named_allocs.insert(id.clone()) {
            self.reserve(1);
            self.allocs.insert(id.clone());
        }
    }

    /// A job with all that belongs to it. One that does not fit into a command goes with the last part.
    fn job(&mut self, key: (NamespaceName, JobId), evals: Vec<EvalId>, allocs: Vec<AllocId>) {
        let whole = 1 + evals.len() + allocs.len();
        if whole <= self.settings.rows_max {
            self.reserve(whole);
        }
        for id in allocs {
            self.alloc(&id);
        }
        for id in evals {
            if !self.is_full() && self.named_evals.insert(id.clone()) {
                self.reserve(1);
                self.evals.insert(id);
            }
        }
        if !self.is_full() {
            self.reserve(1);
        }
        if !self.is_full() {
            self.jobs.push(key);
        }
    }

    fn deployment(&mut self, id: &DeploymentId) {
        if !self.is_full() {
            self.reserve(1);
            self.deployments.push(id.clone());
        }
    }

    fn node(&mut self, id: &NodeId) {
        if self.nodes.len() < self.settings.rows_max {
            self.nodes.push(id.clone());
        }
    }

    fn finish(mut self) -> Vec<Command> {
        self.close();
        self.done.truncate(self.settings.commands_max);
        if !self.nodes.is_empty() {
            self.done.push(Command::NodeDeregister { nodes: self.nodes, revoke: false, evals: Vec::new() });
        }
        self.done
    }
}
