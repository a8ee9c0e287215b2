//! One command at work: a copy of the state, the changes made to it so far, and what is still to follow
//! from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::summary::{JobChildrenSummary, JobSummary, TaskGroupSummary};
use model::{
    Allocation, ClientStatus, Deployment, DeploymentId, Index, Job, JobId, JobStatus, NamespaceName, NodeId, Role,
    Timestamp,
};

use super::job;
use crate::change::Change;
use crate::command::{AllocClientUpdate, Envelope, Refusal};
use crate::state::{JobKey, State};

pub(super) struct Tx {
    pub state: State,
    pub index: Index,
    /// The proposer's clock, Unix nanoseconds.
    pub now: i64,
    pub proposer: Role,
    changes: Vec<Change>,
    deployments: BTreeMap<DeploymentId, Deployment>,
    summaries: BTreeMap<JobKey, JobSummary>,
    /// Jobs whose status may have moved, and whether evaluations of theirs were forgotten.
    touched: BTreeMap<JobKey, bool>,
    /// Incarnations that may have versions nobody needs.
    loose: BTreeSet<(NamespaceName, JobId, Index)>,
    roomier: BTreeSet<NodeId>,
}

impl Tx {
    pub fn new(state: State, index: Index, envelope: &Envelope) -> Self {
        Self {
            state,
            index,
            now: envelope.now,
            proposer: envelope.proposer,
            changes: Vec::new(),
            deployments: BTreeMap::new(),
            summaries: BTreeMap::new(),
            touched: BTreeMap::new(),
            loose: BTreeSet::new(),
            roomier: BTreeSet::new(),
        }
    }

    pub fn put(&mut self, change: Change) {
        self.state.commit(self.index, &change);
        self.changes.push(change);
    }

    /// Writes a node's news; `row` is what it comes to.
    pub fn put_news(&mut self, update: AllocClientUpdate, row: Allocation) {
        self.state.commit_told(self.index, row);
        self.changes.push(Change::AllocClient { update, index: self.index });
    }

    /// How many changes were made so far.
    pub fn changes_len(&self) -> usize {
        self.changes.len()
    }

    pub fn moment(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// Writes an allocation's row and accounts for what it means to its job and its node.
    pub fn put_alloc(&mut self, row: Allocation) {
        let before = self.state.alloc(&row.id).cloned();
        self.account(before.as_deref(), &row);
        self.put(Change::Alloc(Arc::new(row)));
    }

    /// What a row's change means to its job's summary and status, and to its node's room.
    pub fn account(&mut self, before: Option<&Allocation>, after: &Allocation) {
        let status = before.map(|row| row.client_status);
        if status != Some(after.client_status) {
            self.count(after, status);
        }
        if let Some(before) = before {
            let ended = !before.is_terminal() && after.is_terminal();
            // A node that still ran what was to stop has its room back only now.
            let left = !before.client_terminal() && after.client_terminal();
            if ended || left {
                self.roomier(&after.node_id);
            }
            let same = before.job_version == after.job_version && before.job_incarnation == after.job_incarnation;
            if !same {
                self.loosen(before);
            }
        }
        if before.is_none_or(|before| before.is_terminal() != after.is_terminal()) {
            self.touch(&after.job_key());
        }
    }

    fn count(&mut self, row: &Allocation, before: Option<ClientStatus>) {
        let incarnation = row.job_incarnation;
        let Some(group) = self.group_summary(row, incarnation) else { return };
        match before {
            None => group.queued = (group.queued - 1).max(0),
            Some(status) => uncount(group, status),
        }
        *bucket(group, row.client_status) += 1;
    }

    /// Takes a row that is forgotten out of what counts the present.
    pub fn uncount_gone(&mut self, row: &Allocation) {
        let live = !row.client_terminal();
        if let Some(group) = self.group_summary(row, row.job_incarnation).filter(|_| live) {
            uncount(group, row.client_status);
        }
    }

    fn group_summary(&mut self, row: &Allocation, incarnation: Option<Index>) -> Option<&mut TaskGroupSummary> {
        let job = self.state.job(&row.namespace, &row.job_id)?;
        if job.create_index != incarnation {
            return None;
        }
        let summary = self.summary(&row.job_key())?;
        Some(summary.summary.entry(row.task_group.clone()).or_default())
    }

    /// The summary of a job that has one, to be changed.
    pub fn summary(&mut self, key: &JobKey) -> Option<&mut JobSummary> {
        if !self.summaries.contains_key(key) {
            let row = JobSummary::clone(self.state.job_summaries.get(key)?);
            self.summaries.insert(key.clone(), row);
        }
        self.summaries.get_mut(key)
    }

    /// The summary of a job, made if there is none.
    pub fn summary_or_new(&mut self, key: &JobKey) -> &mut JobSummary {
        if self.summary(key).is_none() {
            let row = JobSummary {
                namespace: key.0.clone(),
                job_id: key.1.clone(),
                children: Some(JobChildrenSummary::default()),
                create_index: self.index,
                ..JobSummary::default()
            };
            self.summaries.insert(key.clone(), row);
        }
        self.summaries.entry(key.clone()).or_default()
    }

    /// A child's status counts in its parent's summary. What ended stays counted.
    pub fn count_child(&mut self, child: &Job, before: Option<JobStatus>, after: Option<JobStatus>) {
        let Some(parent) = child.parent_id.as_deref().filter(|id| !id.is_empty()) else { return };
        if before == after {
            return;
        }
        let key = (child.namespace(), JobId::from(parent));
        let Some(summary) = self.summary(&key) else { return };
        let children = summary.children.get_or_insert_default();
        let count = |children: &mut JobChildrenSummary, status: JobStatus, by: i64| {
            let count = match status {
                JobStatus::Pending => &mut children.pending,
                JobStatus::Running => &mut children.running,
                JobStatus::Dead => &mut children.dead,
            };
            *count = (*count + by).max(0);
        };
        before.into_iter().for_each(|status| count(children, status, -1));
        after.into_iter().for_each(|status| count(children, status, 1));
    }

    pub fn forget_summary(&mut self, key: &JobKey) {
        self.summaries.remove(key);
        self.touched.remove(key);
        if self.state.job_summaries.contains_key(key) {
            self.put(Change::JobSummaryGone { namespace: key.0.clone(), id: key.1.clone() });
        }
    }

    /// A deployment to be changed; written when the command ends.
    pub fn deployment(&mut self, id: &DeploymentId) -> Option<&mut Deployment> {
        if !self.deployments.contains_key(id) {
            let row = Deployment::clone(self.state.deployment(id)?);
            self.deployments.insert(id.clone(), row);
        }
        self.deployments.get_mut(id)
    }

    pub fn new_deployment(&mut self, row: Deployment) {
        self.deployments.insert(row.id.clone(), row);
    }

    pub fn forget_deployment(&mut self, id: &DeploymentId) {
        self.deployments.remove(id);
        if self.state.deployment(id).is_some() {
            self.put(Change::DeploymentGone { id: id.clone() });
        }
    }

    /// The job's status may have moved.
    pub fn touch(&mut self, key: &JobKey) {
        self.touched.entry(key.clone()).or_default();
    }

    pub fn touch_evals_gone(&mut self, key: &JobKey) {
        self.touched.insert(key.clone(), true);
    }

    /// The row no longer needs its version of the job.
    pub fn loosen(&mut self, row: &Allocation) {
        if let Some(incarnation) = row.job_incarnation {
            self.loosen_job(&row.job_key(), incarnation);
        }
    }

    pub fn loosen_job(&mut self, key: &JobKey, incarnation: Index) {
        self.loose.insert((key.0.clone(), key.1.clone(), incarnation));
    }

    /// Room appeared on the node.
    pub fn roomier(&mut self, node: &NodeId) {
        if !self.roomier.contains(node) {
            self.roomier.insert(node.clone());
        }
    }

    /// Writes what follows from everything done, and gives the new state with its changes.
    pub fn settle(mut self) -> (State, Vec<Change>) {
        self.settle_deployments();
        for (namespace, id, incarnation) in std::mem::take(&mut self.loose) {
            job::prune(&mut self, &namespace, &id, incarnation);
        }
        for (key, evals_gone) in std::mem::take(&mut self.touched) {
            self.settle_status(&key, evals_gone);
        }
        for (key, mut summary) in std::mem::take(&mut self.summaries) {
            let old = self.state.job_summaries.get(&key);
            if old.is_none_or(|old| old.summary != summary.summary || old.children != summary.children) {
                summary.modify_index = self.index;
                self.put(Change::JobSummary(Arc::new(summary)));
            }
        }
        for id in std::mem::take(&mut self.roomier) {
            if let Some(node) = self.state.node(&id).filter(|node| node.is_ready()) {
                let class = node.computed_class.clone();
                let (pool, datacenter) = (node.pool().to_owned(), node.datacenter.clone());
                self.put(Change::Capacity { node: id, class, pool, datacenter });
            }
        }
        (self.state, self.changes)
    }

    fn settle_deployments(&mut self) {
        for (id, mut row) in std::mem::take(&mut self.deployments) {
            let old = self.state.deployment(&id);
            if old.is_some_and(|old| **old == row) {
                continue;
            }
            let created = old.is_none();
            let moved = old.is_none_or(|old| old.status != row.status);
            row.modify_index = self.index;
            row.modify_time = self.now.max(row.create_time);
            if created {
                row.create_index = self.index;
            }
            if moved {
                self.touch(&(row.namespace.clone(), row.job_id.clone()));
            }
            self.put(Change::Deployment(Arc::new(row)));
        }
    }

    fn settle_status(&mut self, key: &JobKey, evals_gone: bool) {
        let Some(job) = self.state.job(&key.0, &key.1) else { return };
        let was = job.status.as_deref().and_then(JobStatus::parse);
        let forgotten = was == Some(JobStatus::Dead);
        let status = self.state.derive_status(job, evals_gone || forgotten);
        if was != Some(status) {
            let job = std::sync::Arc::clone(job);
            self.count_child(&job, was, Some(status));
            let (namespace, id) = key.clone();
            self.put(Change::JobStatus { namespace, id, status, index: self.index });
        }
    }
}

/// Ended allocations stay counted: those numbers are history.
fn uncount(group: &mut TaskGroupSummary, status: ClientStatus) {
    if !matches!(status, ClientStatus::Complete | ClientStatus::Failed) {
        let count = bucket(group, status);
        *count = (*count - 1).max(0);
    }
}

/// The counter that a client status falls under.
pub(crate) fn bucket(group: &mut TaskGroupSummary, status: ClientStatus) -> &mut i64 {
    match status {
        ClientStatus::Pending => &mut group.starting,
        ClientStatus::Running => &mut group.running,
        ClientStatus::Complete => &mut group.complete,
        ClientStatus::Failed => &mut group.failed,
        ClientStatus::Lost => &mut group.lost,
        ClientStatus::Unknown => &mut group.unknown,
    }
}

/// Ids made by proposers: what indexes, paths and logs can carry.
pub(super) fn valid_id(id: &str, what: &str) -> Result<(), Refusal> {
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits { Ok(()) } else { Err(Refusal::Invalid(format!("{id:?} is no id for {what}"))) }
}
