//! How does one row change alter the tables? The one piece of code that writes them: the state machine
//! commits each change it makes, a follower commits the changes it is told of, so both hold the same.
//!
//! Invariants
//! * Derived indexes, version counts and node fences follow from the rows before and after, from nothing
//!   else.
//! * A node's fence grows by exactly one for each change that takes capacity away (see [`takes_capacity`]
//!   and [`loses_capacity`]), and for each placement that was dropped although its turn was counted on
//!   ([`Change::NodeFence`]). It begins at a value no earlier node of that id can have had, so a plan made
//!   for a purged node never fits the one that took its id.
//! * Committing never fails and never looks beyond the rows concerned.

use std::sync::Arc;

use model::alloc::AllocDeploymentStatus;
use model::{
    AllocId, Allocation, ClientStatus, Deployment, EvalId, Evaluation, Index, Job, JobId, JobStatus, NamespaceName,
    Node, NodeFence, NodeId,
};

use crate::change::{Change, Table};
use crate::command::AllocClientUpdate;
use crate::state::{State, VersionKey};

/// Fences of a node that is created at index `i` begin at `i << 20`: more placements than that are never
/// made on one node within one index.
pub(crate) const FENCE_SHIFT: u32 = 20;

impl State {
    /// Writes one row change that was made at `index`.
    pub fn commit(&mut self, index: Index, change: &Change) {
        match change {
            Change::Cluster(meta) => self.cluster = meta.clone(),
            Change::Lease(lease) => drop(self.leases.insert(lease.name, Arc::new(lease.clone()))),
            Change::Job(job) => {
                self.write_job(job);
                self.table_index[Table::JobVersions as usize] = index;
            }
            Change::JobStatus { namespace, id, status, index: at } => {
                self.write_job_status(namespace, id, *status, *at);
                self.table_index[Table::JobVersions as usize] = index;
            }
            Change::JobGone { namespace, id } => drop(self.jobs.remove(&(namespace.clone(), id.clone()))),
            Change::JobVersion(job) => drop(self.job_versions.insert(version_key(job), Arc::clone(job))),
            Change::JobVersionGone { namespace, id, incarnation, version } => {
                self.job_versions.remove(&(namespace.clone(), id.clone(), *incarnation, *version));
            }
            Change::JobSubmission { namespace, id, version, submission } => {
                let key = (namespace.clone(), id.clone(), *version);
                match submission {
                    Some(submission) => drop(self.job_submissions.insert(key, Arc::clone(submission))),
                    None => drop(self.job_submissions.remove(&key)),
                }
            }
            Change::JobSummary(row) => {
                self.job_summaries.insert((row.namespace.clone(), row.job_id.clone()), Arc::clone(row));
            }
            Change::JobSummaryGone { namespace, id } => {
                self.job_summaries.remove(&(namespace.clone(), id.clone()));
            }
            Change::Node(node) => self.write_node(index, node),
            Change::NodeGone { id } => {
                self.nodes.remove(id);
                self.node_fences.remove(id);
                self.suspects.remove(id);
            }
            // None of these is anything that a reader of nodes would see.
            Change::NodeSuspect { id, suspect } => {
                self.write_suspect(id, *suspect);
                self.index = self.index.max(index);
                return;
            }
            Change::NodeRevoked { id, revoked, admission } => {
                self.write_revocation(index, id, *revoked, admission);
                self.index = self.index.max(index);
                return;
            }
            Change::NodeFence { id, by } => {
                if let Some(fence) = self.node_fences.get_mut(id) {
                    *fence = NodeFence(fence.get().saturating_add(*by));
                }
                self.index = self.index.max(index);
                return;
            }
            Change::Alloc(alloc) => self.write_alloc(Arc::clone(alloc)),
            Change::AllocClient { update, index: at } => {
                if let Some(old) = self.allocs.get(&update.id) {
                    self.write_alloc(Arc::new(told(old, update, *at)));
                }
            }
            Change::AllocGone { id } => self.remove_alloc(id),
            Change::Eval(eval) => self.write_eval(Arc::clone(eval)),
            Change::EvalGone { id } => self.remove_eval(id),
            Change::Deployment(deployment) => self.write_deployment(Arc::clone(deployment)),
            Change::DeploymentGone { id } => {
                if let Some(gone) = self.deployments.remove(id) {
                    self.deployments_by_job.remove(&(gone.namespace.clone(), gone.job_id.clone(), id.clone()));
                }
            }
            Change::Namespace(row) => drop(self.namespaces.insert(row.name.as_str().into(), Arc::clone(row))),
            Change::NamespaceGone { name } => drop(self.namespaces.remove(name)),
            Change::NodePool(row) => drop(self.node_pools.insert(row.name.clone(), Arc::clone(row))),
            Change::NodePoolGone { name } => drop(self.node_pools.remove(name)),
            Change::SchedulerConfig(config) => self.scheduler_config = Some(Arc::clone(config)),
            Change::Autopilot(config) => self.autopilot = Some(Arc::clone(config)),
            Change::RootKeyGone { key_id } => {
                self.root_keys.remove(key_id);
                self.key_material.remove(key_id);
            }
            Change::RootKey(key) => drop(self.root_keys.insert(key.meta.key_id.clone(), Arc::clone(key))),
            Change::JobScaling(row) => {
                self.job_scaling.insert((row.namespace.clone(), row.job_id.clone()), Arc::clone(row));
            }
            Change::JobScalingGone { namespace, id } => {
                self.job_scaling.remove(&(namespace.clone(), id.clone()));
            }
            Change::PeriodicLaunch(row) => {
                self.periodic_launches.insert((row.namespace.clone(), row.id.clone()), Arc::clone(row));
            }
            Change::PeriodicLaunchGone { namespace, id } => {
                self.periodic_launches.remove(&(namespace.clone(), id.clone()));
            }
            Change::JobFence { namespace, id, incarnation, index: at } => {
                let key = (namespace.clone(), id.clone(), *incarnation);
                if at.get() == 0 {
                    self.job_fences.remove(&key);
                } else {
                    self.job_fences.insert(key, *at);
                }
            }
            Change::Capacity { .. } => {}
        }
        self.table_index[change.table() as usize] = index;
        self.index = self.index.max(index);
    }

    fn write_job(&mut self, job: &Arc<Job>) {
        self.job_versions.insert(version_key(job), Arc::clone(job));
        self.jobs.insert(job.key(), Arc::clone(job));
    }

    fn write_job_status(&mut self, namespace: &NamespaceName, id: &JobId, status: JobStatus, at: Index) {
        let Some(job) = self.job(namespace, id) else { return };
        let mut job = Job::clone(job);
        job.status = Some(status.as_str().to_owned());
        job.modify_index = Some(at);
        self.write_job(&Arc::new(job));
    }

    fn write_node(&mut self, index: Index, node: &Arc<Node>) {
        let fence = match (self.nodes.get(&node.id), self.node_fences.get(&node.id)) {
            (Some(old), Some(fence)) if loses_capacity(old, node) => fence.next(),
            (Some(_), Some(fence)) => *fence,
            _ => NodeFence(index.get() << FENCE_SHIFT),
        };
        self.node_fences.insert(node.id.clone(), fence);
        if node.is_down() {
            self.suspects.remove(&node.id);
        }
        self.nodes.insert(node.id.clone(), Arc::clone(node));
    }

    fn write_suspect(&mut self, id: &NodeId, suspect: bool) {
        let alive = self.nodes.get(id).is_some_and(|node| !node.is_down());
        if suspect && alive {
            self.suspects.insert(id.clone());
        } else {
            self.suspects.remove(id);
        }
    }

    fn write_alloc(&mut self, new: Arc<Allocation>) {
        let old = self.allocs.insert(new.id.clone(), Arc::clone(&new));
        if takes_capacity(old.as_deref(), &new) {
            self.bump_fence(&new.node_id);
        }
        self.index_alloc(old.as_deref(), Some(&new));
    }

    /// Writes a restored row: as [`Self::write_alloc`], but fences come from the snapshot.
    pub(crate) fn restore_alloc(&mut self, row: Arc<Allocation>) {
        let old = self.allocs.insert(row.id.clone(), Arc::clone(&row));
        self.index_alloc(old.as_deref(), Some(&row));
    }

    /// Commits a node's news whose row was made already: `row` is what [`Change::AllocClient`] comes to.
    pub(crate) fn commit_told(&mut self, index: Index, row: Allocation) {
        self.write_alloc(Arc::new(row));
        self.table_index[Table::Allocs as usize] = index;
        self.index = self.index.max(index);
    }

    fn remove_alloc(&mut self, id: &AllocId) {
        if let Some(gone) = self.allocs.remove(id) {
            self.index_alloc(Some(&gone), None);
        }
    }

    fn bump_fence(&mut self, node: &NodeId) {
        if let Some(fence) = self.node_fences.get(node).copied() {
            self.node_fences.insert(node.clone(), fence.next());
        }
    }

    fn index_alloc(&mut self, old: Option<&Allocation>, new: Option<&Allocation>) {
        self.count_version(old, new);
        let any = match (old, new) {
            (Some(old), Some(new)) if same_keys(old, new) => return,
            (old, new) => [(old, false), (new, true)],
        };
        for (alloc, add) in any.into_iter().filter_map(|(alloc, add)| Some((alloc?, add))) {
            let id = || alloc.id.clone();
            set(&mut self.allocs_by_node, (alloc.node_id.clone(), id()), add);
            set(&mut self.allocs_by_job, (alloc.namespace.clone(), alloc.job_id.clone(), id()), add);
            set(&mut self.allocs_by_eval, (alloc.eval_id.clone(), id()), add);
            if let Some(deployment) = alloc.deployment_id.non_empty() {
                set(&mut self.allocs_by_deployment, (deployment.clone(), id()), add);
            }
        }
    }

    fn count_version(&mut self, old: Option<&Allocation>, new: Option<&Allocation>) {
        if let (Some(old), Some(new)) = (old, new)
            && counts_alike(old, new)
        {
            return;
        }
        let entry = |alloc: &Allocation| Some((version_of(alloc)?, u64::from(!alloc.is_terminal())));
        let (old, new) = (old.and_then(entry), new.and_then(entry));
        if let Some((key, live)) = old {
            let mut used = self.version_use.get(&key).copied().unwrap_or_default();
            used.rows = used.rows.saturating_sub(1);
            used.live = used.live.saturating_sub(live);
            if used.rows == 0 {
                self.version_use.remove(&key);
            } else {
                self.version_use.insert(key, used);
            }
        }
        if let Some((key, live)) = new {
            let used = self.version_use.entry(key).or_default();
            used.rows += 1;
            used.live += live;
        }
    }

    pub(crate) fn write_eval(&mut self, new: Arc<Evaluation>) {
        let key = (new.namespace.clone(), new.job_id.clone(), new.id.clone());
        let open = !new.status.is_terminal();
        match self.evals.insert(new.id.clone(), Arc::clone(&new)) {
            Some(old) if (&old.namespace, &old.job_id) == (&new.namespace, &new.job_id) => {
                if old.status.is_terminal() == open {
                    set(&mut self.open_evals, key, open);
                }
                return;
            }
            Some(old) => self.unindex_eval(&old),
            None => {}
        }
        if open {
            self.open_evals.insert(key.clone());
        }
        self.evals_by_job.insert(key);
    }

    fn remove_eval(&mut self, id: &EvalId) {
        if let Some(gone) = self.evals.remove(id) {
            self.unindex_eval(&gone);
        }
    }

    fn unindex_eval(&mut self, eval: &Evaluation) {
        let key = (eval.namespace.clone(), eval.job_id.clone(), eval.id.clone());
        self.open_evals.remove(&key);
        self.evals_by_job.remove(&key);
    }

    pub(crate) fn write_deployment(&mut self, row: Arc<Deployment>) {
        let key = (row.namespace.clone(), row.job_id.clone(), row.id.clone());
        if self.deployments.insert(row.id.clone(), row).is_none() {
            self.deployments_by_job.insert(key);
        }
    }
}

fn set<T: Ord + Clone>(index: &mut imbl::OrdSet<T>, entry: T, add: bool) {
    if add {
        index.insert(entry);
    } else {
        index.remove(&entry);
    }
}

fn same_keys(a: &Allocation, b: &Allocation) -> bool {
    a.node_id == b.node_id
        && a.job_id == b.job_id
        && a.namespace == b.namespace
        && a.eval_id == b.eval_id
        && a.deployment_id == b.deployment_id
}

fn counts_alike(a: &Allocation, b: &Allocation) -> bool {
    a.is_terminal() == b.is_terminal()
        && a.job_version == b.job_version
        && a.job_incarnation == b.job_incarnation
        && a.job_id == b.job_id
        && a.namespace == b.namespace
}

/// What names a version of a job: its namespace and id, its incarnation, its number.
pub fn version_key(job: &Job) -> VersionKey {
    let (namespace, id) = job.key();
    (namespace, id, job.incarnation(), job.version())
}

/// The version of the job an allocation row runs.
pub fn version_of(alloc: &Allocation) -> Option<VersionKey> {
    Some((alloc.namespace.clone(), alloc.job_id.clone(), alloc.job_incarnation?, alloc.job_version?))
}

/// The row with a node's news, at `index`.
pub(crate) fn told(old: &Allocation, update: &AllocClientUpdate, index: Index) -> Allocation {
    let mut row = old.clone();
    merge_client(&mut row, update);
    row.modify_index = index;
    row
}

/// Whether a node's news says anything that its row does not say, the time aside: what [`merge_client`] writes.
pub(crate) fn is_news(row: &Allocation, update: &AllocClientUpdate) -> bool {
    let judged = |said: &AllocDeploymentStatus| {
        said.healthy.is_some()
            && row.deployment_status.as_ref().is_none_or(|known| {
                (known.healthy, known.timestamp, known.modify_index)
                    != (said.healthy, said.timestamp, said.modify_index)
            })
    };
    row.client_status != update.client_status
        || row.client_description != update.client_description
        || (!update.task_states.is_empty() && row.task_states != update.task_states)
        || (update.network_status.is_some() && row.network_status != update.network_status)
        || update.deployment_status.as_ref().is_some_and(judged)
}

/// The node's part of a row takes on what the node said.
fn merge_client(row: &mut Allocation, update: &AllocClientUpdate) {
    row.client_status = update.client_status;
    row.client_description.clone_from(&update.client_description);
    if !update.task_states.is_empty() {
        row.task_states.clone_from(&update.task_states);
    }
    if let Some(network) = &update.network_status {
        row.network_status = Some(network.clone());
    }
    if let Some(AllocDeploymentStatus { healthy: Some(healthy), timestamp, modify_index, .. }) =
        &update.deployment_status
    {
        let status = row.deployment_status.get_or_insert_default();
        status.healthy = Some(*healthy);
        status.timestamp = *timestamp;
        status.modify_index = *modify_index;
    }
    if update.modify_time != 0 {
        row.modify_time = update.modify_time;
    }
}

/// True when a row's change may take something from its node that was free before: it is new, it comes
/// back from a terminal or unknown state, or it holds other resources or another node.
fn takes_capacity(old: Option<&Allocation>, new: &Allocation) -> bool {
    if new.is_terminal() {
        return false;
    }
    let Some(old) = old else { return true };
    old.is_terminal()
        || (old.client_status == ClientStatus::Unknown && new.client_status != ClientStatus::Unknown)
        || old.node_id != new.node_id
        || !same_resources(old, new)
}

fn same_resources(old: &Allocation, new: &Allocation) -> bool {
    match (&old.allocated_resources, &new.allocated_resources) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
        (old, new) => old.is_none() && new.is_none(),
    }
}

/// True when a node's change may make a placement wrong that fitted before: it is no longer ready, or it
/// has less of something, or something else.
fn loses_capacity(old: &Node, new: &Node) -> bool {
    old.is_ready() && !new.is_ready() || !grew_or_same(old, new)
}

/// True when everything a node had is still there.
fn grew_or_same(old: &Node, new: &Node) -> bool {
    if old.node_max_allocs != new.node_max_allocs || old.reserved_resources != new.reserved_resources {
        return false;
    }
    match (&old.node_resources, &new.node_resources) {
        (old, new) if old == new => true,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => {
            let amounts = old.cpu.cpu_shares <= new.cpu.cpu_shares
                && old.memory.memory_mb <= new.memory.memory_mb
                && old.disk.disk_mb <= new.disk.disk_mb;
            let mut like_new = old.clone();
            like_new.cpu.cpu_shares = new.cpu.cpu_shares;
            like_new.memory = new.memory.clone();
            like_new.disk = new.disk.clone();
            amounts && like_new == *new
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::node::NodeResources;

    fn node(cpu: i64) -> Node {
        let mut resources = NodeResources::default();
        resources.cpu.cpu_shares = cpu;
        Node { id: "n".into(), node_resources: Some(resources), status: model::NodeStatus::Ready, ..Node::default() }
    }

    fn alloc() -> Allocation {
        Allocation { id: "a".into(), node_id: "n".into(), ..Allocation::default() }
    }

    #[test]
    fn a_fence_grows_by_one_for_each_change_that_takes_capacity() {
        let mut state = State::default();
        let mut put = |index: u64, change: Change| {
            state.commit(Index(index), &change);
            state.node_fence(&"n".into()).get()
        };
        let row = |edit: &dyn Fn(&mut Allocation)| {
            let mut row = alloc();
            edit(&mut row);
            Change::Alloc(Arc::new(row))
        };
        let first = put(3, Change::Node(Arc::new(node(100))));
        assert_eq!(first, 3 << 20);
        assert_eq!(put(4, row(&|_| ())), first + 1, "a placement");
        assert_eq!(put(5, row(&|a| a.client_status = ClientStatus::Running)), first + 1, "it runs");
        assert_eq!(put(6, row(&|a| a.client_status = ClientStatus::Unknown)), first + 1, "unknown");
        assert_eq!(put(7, row(&|a| a.client_status = ClientStatus::Running)), first + 2, "back from unknown");
        assert_eq!(put(8, row(&|a| a.client_status = ClientStatus::Lost)), first + 2, "lost");
        assert_eq!(put(9, row(&|a| a.client_status = ClientStatus::Running)), first + 3, "back from lost");
        assert_eq!(put(10, row(&|a| a.allocated_resources = Some(Default::default()))), first + 4, "other resources");
        assert_eq!(put(11, Change::Node(Arc::new(node(200)))), first + 4, "the node grew");
        assert_eq!(put(12, Change::Node(Arc::new(node(150)))), first + 5, "the node shrank");
        let mut down = node(150);
        down.status = model::NodeStatus::Down;
        assert_eq!(put(13, Change::Node(Arc::new(down.clone()))), first + 6, "down");
        down.scheduling_eligibility = model::Eligibility::Ineligible;
        assert_eq!(put(14, Change::Node(Arc::new(down))), first + 6, "down already");
        put(15, Change::NodeGone { id: "n".into() });
        assert_eq!(put(16, Change::Node(Arc::new(node(1)))), 16 << 20, "a purged node's fences never come back");
    }
}
