//! The tables, with their indexes. A clone is cheap (shared trees), so a reader takes one and keeps a
//! consistent view while writers go on.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::ordmap::RangedIter;
use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{OrdMap, OrdSet};
use model::autopilot::AutopilotConfiguration;
use model::job::JobSubmission;
use model::keyring::{RootKey, RootKeyState};
use model::launch::{PERIODIC, PeriodicLaunch};
use model::namespace::{Namespace, NodePool};
use model::scaling::JobScaling;
use model::scheduler_config::SchedulerConfiguration;
use model::summary::JobSummary;
use model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, Index, Job, JobId, NamespaceName, Node,
    NodeFence, NodeId,
};
use serde::{Deserialize, Serialize};

use crate::apply::Staged;
use crate::change::{ClusterMeta, Lease, Table};
use crate::command::KeyMaterial;
use crate::command::LeaseName;
use crate::hash;
use crate::window::Window;

pub type JobKey = (NamespaceName, JobId);
/// A version of an incarnation of a job.
pub type VersionKey = (NamespaceName, JobId, Index, u64);

/// A node that was purged and introduced anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    pub at: Index,
    /// What its certificates carry, and older ones do not.
    pub mark: String,
}

/// Everything the cluster knows at one index.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) index: Index,
    pub(crate) hash: u64,
    pub(crate) cluster: ClusterMeta,
    pub(crate) leases: OrdMap<LeaseName, Arc<Lease>>,
    pub(crate) jobs: OrdMap<JobKey, Arc<Job>>,
    pub(crate) job_versions: OrdMap<VersionKey, Arc<Job>>,
    pub(crate) job_submissions: OrdMap<(NamespaceName, JobId, u64), Arc<JobSubmission>>,
    pub(crate) job_summaries: OrdMap<JobKey, Arc<JobSummary>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    /// Nodes that are not down and are thought not to answer.
    pub(crate) suspects: OrdSet<NodeId>,
    /// Nodes whose certificates are no longer taken, with the index at which they were purged.
    pub(crate) revoked: OrdMap<NodeId, Index>,
    /// Nodes that were revoked and admitted again: only certificates of that admission are taken.
    pub(crate) admissions: OrdMap<NodeId, Arc<Admission>>,
    pub(crate) allocs: OrdMap<AllocId, Arc<Allocation>>,
    pub(crate) evals: OrdMap<EvalId, Arc<Evaluation>>,
    pub(crate) deployments: OrdMap<DeploymentId, Arc<Deployment>>,
    pub(crate) namespaces: OrdMap<NamespaceName, Arc<Namespace>>,
    pub(crate) node_pools: OrdMap<String, Arc<NodePool>>,
    pub(crate) scheduler_config: Option<Arc<SchedulerConfiguration>>,
    pub(crate) autopilot: Option<Arc<AutopilotConfiguration>>,
    pub(crate) root_keys: OrdMap<String, Arc<RootKey>>,
    pub(crate) job_scaling: OrdMap<JobKey, Arc<JobScaling>>,
    pub(crate) periodic_launches: OrdMap<JobKey, Arc<PeriodicLaunch>>,
    pub(crate) job_fences: OrdMap<(NamespaceName, JobId, Index), Index>,
    // derived, never on the wire
    pub(crate) node_fences: OrdMap<NodeId, NodeFence>,
    pub(crate) allocs_by_node: OrdSet<(NodeId, AllocId)>,
    pub(crate) allocs_by_job: OrdSet<(NamespaceName, JobId, AllocId)>,
    pub(crate) allocs_by_eval: OrdSet<(EvalId, AllocId)>,
    pub(crate) allocs_by_deployment: OrdSet<(DeploymentId, AllocId)>,
    pub(crate) evals_by_job: OrdSet<(NamespaceName, JobId, EvalId)>,
    pub(crate) deployments_by_job: OrdSet<(NamespaceName, JobId, DeploymentId)>,
    /// Evaluations a scheduler may still look at.
    pub(crate) open_evals: OrdSet<(NamespaceName, JobId, EvalId)>,
    /// Allocations per version of a job.
    pub(crate) version_use: OrdMap<VersionKey, VersionUse>,
    pub(crate) table_index: [Index; Table::ALL.len()],
    /// Tables this copy holds; `None` for all of them.
    pub(crate) followed: Option<BTreeSet<Table>>,
    // the state servers' own, never in the feed
    pub(crate) requests: Window,
    /// What is secret of the root keys.
    pub(crate) key_material: OrdMap<String, Arc<KeyMaterial>>,
    /// A snapshot on its way in.
    pub(crate) staged: Option<Arc<Staged>>,
    /// How far indexes are ahead of the log's: a restore takes them beyond those of both histories.
    pub(crate) offset: u64,
}

/// How many allocation rows run one version of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VersionUse {
    pub rows: u64,
    /// Those that are not terminal.
    pub live: u64,
}

impl State {
    /// Index of the last command in it.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Rolling hash of all changes up to here, as the feed carries it.
    pub fn hash_text(&self) -> String {
        hash::text(self.hash)
    }

    /// True when this copy holds the rows of the table.
    pub fn follows(&self, table: Table) -> bool {
        self.followed.as_ref().is_none_or(|tables| tables.contains(&table))
    }

    pub fn cluster(&self) -> &ClusterMeta {
        &self.cluster
    }

    /// Index of the last change in a table; what a blocking query on a list waits for.
    pub fn table_index(&self, table: Table) -> Index {
        self.table_index[table as usize]
    }

    pub fn lease(&self, name: LeaseName) -> Option<&Arc<Lease>> {
        self.leases.get(&name)
    }

    pub fn leases(&self) -> impl DoubleEndedIterator<Item = &Arc<Lease>> {
        self.leases.values()
    }

    pub fn job(&self, namespace: &NamespaceName, id: &JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&(namespace.clone(), id.clone()))
    }

    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    /// One version of one incarnation of a job.
    pub fn job_version(
        &self,
        namespace: &NamespaceName,
        id: &JobId,
        incarnation: Index,
        version: u64,
    ) -> Option<&Arc<Job>> {
        self.job_versions.get(&(namespace.clone(), id.clone(), incarnation, version))
    }

    /// The version of the job that an allocation runs.
    pub fn job_of_alloc(&self, alloc: &Allocation) -> Option<&Arc<Job>> {
        self.job_version(&alloc.namespace, &alloc.job_id, alloc.job_incarnation?, alloc.job_version?)
    }

    pub fn job_submission(&self, namespace: &NamespaceName, id: &JobId, version: u64) -> Option<&Arc<JobSubmission>> {
        self.job_submissions.get(&(namespace.clone(), id.clone(), version))
    }

    pub fn job_summary(&self, namespace: &NamespaceName, id: &JobId) -> Option<&Arc<JobSummary>> {
        self.job_summaries.get(&(namespace.clone(), id.clone()))
    }

    /// What was done to the counts of a job's groups.
    pub fn job_scaling(&self, namespace: &NamespaceName, id: &JobId) -> Option<&Arc<JobScaling>> {
        self.job_scaling.get(&(namespace.clone(), id.clone()))
    }

    /// When a periodic job was launched last.
    pub fn periodic_launch(&self, namespace: &NamespaceName, id: &JobId) -> Option<&Arc<PeriodicLaunch>> {
        self.periodic_launches.get(&(namespace.clone(), id.clone()))
    }

    /// The children of a job, of either kind.
    pub fn children_of_job<'a>(
        &'a self,
        namespace: &NamespaceName,
        id: &JobId,
    ) -> impl Iterator<Item = &'a Arc<Job>> + use<'a> {
        let (namespace, parent) = (namespace.clone(), id.clone());
        let prefix = format!("{parent}/");
        self.jobs
            .range((namespace.clone(), JobId::from(prefix.as_str()))..)
            .take_while(move |((of, id), _)| *of == namespace && id.as_str().starts_with(&prefix))
            .map(|(_, job)| job)
            .filter(move |job| job.parent_id.as_deref() == Some(parent.as_str()))
    }

    /// Whether a launched child of a periodic job is not over: an evaluation of it is open, or an
    /// allocation of it lives.
    pub fn is_child_live(&self, namespace: &NamespaceName, id: &JobId) -> bool {
        self.children_of_job(namespace, id).filter(|job| job.id().as_str().contains(PERIODIC)).any(|job| {
            let child = job.id();
            self.open_evals_of_job(namespace, &child).next().is_some()
                || self.live_allocs(namespace, &child, job.incarnation()) > 0
        })
    }

    pub fn node(&self, id: &NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(id)
    }

    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the node is thought not to answer: nothing new is placed there.
    pub fn is_suspect(&self, id: &NodeId) -> bool {
        self.suspects.contains(id)
    }

    pub fn suspects(&self) -> impl DoubleEndedIterator<Item = &NodeId> {
        self.suspects.iter()
    }

    /// Whether the node was purged and its certificates with it: whoever listens to agents must refuse it.
    pub fn is_revoked(&self, id: &NodeId) -> bool {
        self.revoked.contains_key(id)
    }

    /// Whether a certificate of this node with this mark must be refused: the node was purged, or purged and
    /// admitted again since the certificate was made.
    pub fn shuts_out(&self, id: &NodeId, admission: &str) -> bool {
        self.is_revoked(id) || self.admissions.get(id).is_some_and(|row| row.mark != admission)
    }

    /// The mark that a node's certificates must carry; empty: any will do.
    pub fn admission(&self, id: &NodeId) -> &str {
        self.admissions.get(id).map_or("", |row| &row.mark)
    }

    /// Nodes that were admitted again, with the marks of their certificates.
    pub fn admissions(&self) -> impl Iterator<Item = (&NodeId, &Arc<Admission>)> {
        self.admissions.iter()
    }

    pub(crate) fn write_revocation(&mut self, index: Index, id: &NodeId, revoked: bool, admission: &str) {
        self.revoked.remove(id);
        self.admissions.remove(id);
        if revoked {
            self.revoked.insert(id.clone(), index);
        } else if !admission.is_empty() {
            let row = Admission { at: index, mark: admission.to_owned() };
            self.admissions.insert(id.clone(), Arc::new(row));
        }
    }

    /// Nodes that are revoked, with the index at which they were.
    pub fn revoked(&self) -> impl Iterator<Item = (&NodeId, &Index)> {
        self.revoked.iter()
    }

    pub fn node_fence(&self, id: &NodeId) -> NodeFence {
        self.node_fences.get(id).copied().unwrap_or_default()
    }

    /// Index of the last plan applied for this incarnation of a job; 0 when none was.
    pub fn job_fence(&self, namespace: &NamespaceName, id: &JobId, incarnation: Index) -> Index {
        self.job_fences.get(&(namespace.clone(), id.clone(), incarnation)).copied().unwrap_or_default()
    }

    pub fn alloc(&self, id: &AllocId) -> Option<&Arc<Allocation>> {
        self.allocs.get(id)
    }

    pub fn allocs(&self) -> impl DoubleEndedIterator<Item = &Arc<Allocation>> {
        self.allocs.values()
    }

    pub fn allocs_of_node<'a>(&'a self, id: &NodeId) -> impl Iterator<Item = &'a Arc<Allocation>> {
        let (from, id) = ((id.clone(), AllocId::default()), id.clone());
        self.allocs_by_node
            .range(from..)
            .take_while(move |(node, _)| *node == id)
            .filter_map(|(_, alloc)| self.allocs.get(alloc))
    }

    pub fn allocs_of_job<'a>(
        &'a self,
        namespace: &NamespaceName,
        id: &JobId,
    ) -> impl Iterator<Item = &'a Arc<Allocation>> {
        let mut rows = Ascending::new(&self.allocs);
        of_job(&self.allocs_by_job, namespace, id).filter_map(move |alloc| rows.get(alloc))
    }

    pub fn allocs_of_eval<'a>(&'a self, id: &EvalId) -> impl Iterator<Item = &'a Arc<Allocation>> {
        let (from, id) = ((id.clone(), AllocId::default()), id.clone());
        self.allocs_by_eval
            .range(from..)
            .take_while(move |(eval, _)| *eval == id)
            .filter_map(|(_, alloc)| self.allocs.get(alloc))
    }

    pub fn allocs_of_deployment<'a>(&'a self, id: &DeploymentId) -> impl Iterator<Item = &'a Arc<Allocation>> {
        let (from, id) = ((id.clone(), AllocId::default()), id.clone());
        self.allocs_by_deployment
            .range(from..)
            .take_while(move |(deployment, _)| *deployment == id)
            .filter_map(|(_, alloc)| self.allocs.get(alloc))
    }

    pub fn eval(&self, id: &EvalId) -> Option<&Arc<Evaluation>> {
        self.evals.get(id)
    }

    pub fn evals(&self) -> impl DoubleEndedIterator<Item = &Arc<Evaluation>> {
        self.evals.values()
    }

    pub fn evals_of_job<'a>(
        &'a self,
        namespace: &NamespaceName,
        id: &JobId,
    ) -> impl Iterator<Item = &'a Arc<Evaluation>> {
        of_job(&self.evals_by_job, namespace, id).filter_map(|eval| self.evals.get(eval))
    }

    /// Evaluations of a job that are not finished: pending or blocked.
    pub fn open_evals_of_job<'a>(
        &'a self,
        namespace: &NamespaceName,
        id: &JobId,
    ) -> impl Iterator<Item = &'a Arc<Evaluation>> {
        of_job(&self.open_evals, namespace, id).filter_map(|eval| self.evals.get(eval))
    }

    /// All evaluations that are not finished.
    pub fn open_evals(&self) -> impl Iterator<Item = &Arc<Evaluation>> {
        self.open_evals.iter().filter_map(|(_, _, eval)| self.evals.get(eval))
    }

    /// How many allocations of this incarnation of a job are not terminal.
    pub fn live_allocs(&self, namespace: &NamespaceName, id: &JobId, incarnation: Index) -> u64 {
        let key = |version| (namespace.clone(), id.clone(), incarnation, version);
        self.version_use.range(key(0)..=key(u64::MAX)).map(|(_, used)| used.live).sum()
    }

    pub fn deployment(&self, id: &DeploymentId) -> Option<&Arc<Deployment>> {
        self.deployments.get(id)
    }

    pub fn deployments(&self) -> impl DoubleEndedIterator<Item = &Arc<Deployment>> {
        self.deployments.values()
    }

    pub fn deployments_of_job<'a>(
        &'a self,
        namespace: &NamespaceName,
        id: &JobId,
    ) -> impl Iterator<Item = &'a Arc<Deployment>> {
        of_job(&self.deployments_by_job, namespace, id).filter_map(|deployment| self.deployments.get(deployment))
    }

    /// The newest deployment of a job by create index.
    pub fn latest_deployment(&self, namespace: &NamespaceName, id: &JobId) -> Option<&Arc<Deployment>> {
        self.deployments_of_job(namespace, id).max_by_key(|d| d.create_index)
    }

    pub fn namespace(&self, name: &NamespaceName) -> Option<&Arc<Namespace>> {
        self.namespaces.get(name)
    }

    pub fn namespaces(&self) -> impl DoubleEndedIterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    pub fn node_pool(&self, name: &str) -> Option<&Arc<NodePool>> {
        self.node_pools.get(name)
    }

    pub fn node_pools(&self) -> impl DoubleEndedIterator<Item = &Arc<NodePool>> {
        self.node_pools.values()
    }

    /// How the cluster schedules; the defaults until somebody sets it.
    pub fn autopilot(&self) -> Arc<AutopilotConfiguration> {
        self.autopilot.clone().unwrap_or_default()
    }

    pub fn root_keys(&self) -> impl DoubleEndedIterator<Item = &Arc<RootKey>> {
        self.root_keys.values()
    }

    /// The key that signs.
    pub fn active_root_key(&self) -> Option<&Arc<RootKey>> {
        self.root_keys.values().find(|key| key.meta.state == RootKeyState::Active)
    }

    /// What is secret of a root key; on state servers only.
    pub fn key_material(&self, key_id: &str) -> Option<&Arc<KeyMaterial>> {
        self.key_material.get(key_id)
    }

    /// What is to be added to an index of the log to get the state's.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The snapshot that is on its way in, and how many pieces of it are here.
    pub fn staged(&self) -> Option<(&str, usize)> {
        self.staged.as_ref().map(|staged| (staged.id.as_str(), staged.pieces.len()))
    }

    pub fn scheduler_config(&self) -> Arc<SchedulerConfiguration> {
        self.scheduler_config.clone().unwrap_or_default()
    }
}

/// The entries of one job in an index that begins with the job's key.
fn of_job<'a, T: Clone + Default + Ord>(
    index: &'a OrdSet<(NamespaceName, JobId, T)>,
    namespace: &NamespaceName,
    id: &JobId,
) -> impl Iterator<Item = &'a T> + use<'a, T> {
    // Up to the first id that comes after this one: no entry has to be compared.
    let after = JobId::from(format!("{id}\0"));
    let range = (namespace.clone(), id.clone(), T::default())..(namespace.clone(), after, T::default());
    index.range(range).map(|(_, _, entry)| entry)
}

/// Looks up ids that ascend. Where they stand close together in the table it goes through the table, else it
/// looks each of them up.
struct Ascending<'a, K, V> {
    table: &'a OrdMap<K, V>,
    rest: Option<RangedIter<'a, K, V, DefaultSharedPtr>>,
    /// Grows with what is found on the way, falls with what is not.
    patience: u32,
}

impl<'a, K: Ord + Clone, V> Ascending<'a, K, V> {
    /// Entries that are passed over on the way to the next one.
    const STEPS: usize = 4;
    const PATIENCE: u32 = 32;
    const MISS: u32 = 8;

    fn new(table: &'a OrdMap<K, V>) -> Self {
        Self { table, rest: None, patience: Self::PATIENCE }
    }

    fn get(&mut self, id: &K) -> Option<&'a V> {
        if self.patience == 0 {
            return self.table.get(id);
        }
        let rest = self.rest.get_or_insert_with(|| self.table.range::<_, K>(id..));
        if let Some((_, row)) = rest.by_ref().take(Self::STEPS).find(|(key, _)| *key == id) {
            self.patience = (self.patience + 1).min(Self::PATIENCE);
            return Some(row);
        }
        (self.rest, self.patience) = (None, self.patience.saturating_sub(Self::MISS));
        self.table.get(id)
    }
}
