//! Row changes: what a command did, and what the feed carries. Everything that a state server or a
//! follower holds is derived from these, in the same way on all of them.

use std::sync::Arc;

use model::autopilot::AutopilotConfiguration;
use model::job::JobSubmission;
use model::keyring::RootKey;
use model::launch::PeriodicLaunch;
use model::namespace::{Namespace, NodePool};
use model::scaling::JobScaling;
use model::scheduler_config::SchedulerConfiguration;
use model::summary::JobSummary;
use model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, Index, Job, JobId, JobStatus, NamespaceName,
    Node, NodeId, Term,
};
use serde::{Deserialize, Serialize};

use crate::command::{AllocClientUpdate, LeaseName};

/// One row change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Change {
    Cluster(ClusterMeta),
    Lease(Lease),
    /// The current version of a job, and its version row.
    Job(Arc<Job>),
    /// A job's status moved; nothing else of it did. On the version row too.
    JobStatus {
        namespace: NamespaceName,
        id: JobId,
        status: JobStatus,
        index: Index,
    },
    JobGone {
        namespace: NamespaceName,
        id: JobId,
    },
    /// A version of a job other than the current one. Who follows these follows the jobs too.
    JobVersion(Arc<Job>),
    JobVersionGone {
        namespace: NamespaceName,
        id: JobId,
        incarnation: Index,
        version: u64,
    },
    JobSubmission {
        namespace: NamespaceName,
        id: JobId,
        version: u64,
        submission: Option<Arc<JobSubmission>>,
    },
    JobSummary(Arc<JobSummary>),
    JobSummaryGone {
        namespace: NamespaceName,
        id: JobId,
    },
    Node(Arc<Node>),
    NodeGone {
        id: NodeId,
    },
    /// Whether a node is thought not to answer. Internal: on no public wire, and no news of the table. A node
    /// that goes down or away is suspect no longer, without a change of its own.
    NodeSuspect {
        id: NodeId,
        suspect: bool,
    },
    /// Whether a node's certificates are no longer taken; if they are again, only those of this admission, or
    /// any when it is empty. Internal: on no public wire, and no news of the table.
    NodeRevoked {
        id: NodeId,
        revoked: bool,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        admission: String,
    },
    /// Placements on a node were dropped whose turn was counted on: its fence moves as if they had been
    /// made. Internal, and no news of the table.
    NodeFence {
        id: NodeId,
        by: u64,
    },
    /// Row of an allocation; `job` is unset, `job_version` and `job_incarnation` are set.
    Alloc(Arc<Allocation>),
    /// A node's news, as a delta on the row.
    AllocClient {
        update: AllocClientUpdate,
        index: Index,
    },
    AllocGone {
        id: AllocId,
    },
    Eval(Arc<Evaluation>),
    EvalGone {
        id: EvalId,
    },
    Deployment(Arc<Deployment>),
    DeploymentGone {
        id: DeploymentId,
    },
    Namespace(Arc<Namespace>),
    NamespaceGone {
        name: NamespaceName,
    },
    NodePool(Arc<NodePool>),
    NodePoolGone {
        name: String,
    },
    SchedulerConfig(Arc<SchedulerConfiguration>),
    Autopilot(Arc<AutopilotConfiguration>),
    /// What is public of a root key.
    RootKey(Arc<RootKey>),
    /// A root key is gone; where its secrets were, they are, too.
    RootKeyGone {
        key_id: String,
    },
    /// What was done to a job's counts.
    JobScaling(Arc<JobScaling>),
    JobScalingGone {
        namespace: NamespaceName,
        id: JobId,
    },
    /// When a periodic job was launched last.
    PeriodicLaunch(Arc<PeriodicLaunch>),
    PeriodicLaunchGone {
        namespace: NamespaceName,
        id: JobId,
    },
    /// Index of the last plan applied for a job; 0 forgets it.
    JobFence {
        namespace: NamespaceName,
        id: JobId,
        incarnation: Index,
        index: Index,
    },
    /// No row: room appeared on a node. What blocked evaluations wait for.
    Capacity {
        node: NodeId,
        class: String,
        pool: String,
        datacenter: String,
    },
}

/// Tables, for following some of them only and for the index of blocking queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Table {
    Cluster,
    Leases,
    Jobs,
    JobVersions,
    JobSubmissions,
    JobSummaries,
    Nodes,
    Allocs,
    Evals,
    Deployments,
    Namespaces,
    NodePools,
    SchedulerConfig,
    JobFences,
    Capacity,
    Autopilot,
    RootKeys,
    JobScaling,
    PeriodicLaunches,
}

impl Table {
    pub const ALL: [Self; 19] = [
        Self::Cluster,
        Self::Leases,
        Self::Jobs,
        Self::JobVersions,
        Self::JobSubmissions,
        Self::JobSummaries,
        Self::Nodes,
        Self::Allocs,
        Self::Evals,
        Self::Deployments,
        Self::Namespaces,
        Self::NodePools,
        Self::SchedulerConfig,
        Self::JobFences,
        Self::Capacity,
        Self::Autopilot,
        Self::RootKeys,
        Self::JobScaling,
        Self::PeriodicLaunches,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Leases => "leases",
            Self::Jobs => "jobs",
            Self::JobVersions => "job_versions",
            Self::JobSubmissions => "job_submissions",
            Self::JobSummaries => "job_summaries",
            Self::Nodes => "nodes",
            Self::Allocs => "allocs",
            Self::Evals => "evals",
            Self::Deployments => "deployments",
            Self::Namespaces => "namespaces",
            Self::NodePools => "node_pools",
            Self::SchedulerConfig => "scheduler_config",
            Self::JobFences => "job_fences",
            Self::Capacity => "capacity",
            Self::Autopilot => "autopilot",
            Self::RootKeys => "root_keys",
            Self::JobScaling => "job_scaling",
            Self::PeriodicLaunches => "periodic_launches",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }
}

impl Change {
    pub const fn table(&self) -> Table {
        match self {
            Self::Cluster(_) => Table::Cluster,
            Self::Lease(_) => Table::Leases,
            Self::Job(_) | Self::JobStatus { .. } | Self::JobGone { .. } => Table::Jobs,
            Self::JobVersion(_) | Self::JobVersionGone { .. } => Table::JobVersions,
            Self::JobSubmission { .. } => Table::JobSubmissions,
            Self::JobSummary(_) | Self::JobSummaryGone { .. } => Table::JobSummaries,
            Self::Node(_)
            | Self::NodeGone { .. }
            | Self::NodeSuspect { .. }
            | Self::NodeRevoked { .. }
            | Self::NodeFence { .. } => Table::Nodes,
            Self::Alloc(_) | Self::AllocClient { .. } | Self::AllocGone { .. } => Table::Allocs,
            Self::Eval(_) | Self::EvalGone { .. } => Table::Evals,
            Self::Deployment(_) | Self::DeploymentGone { .. } => Table::Deployments,
            Self::Namespace(_) | Self::NamespaceGone { .. } => Table::Namespaces,
            Self::NodePool(_) | Self::NodePoolGone { .. } => Table::NodePools,
            Self::SchedulerConfig(_) => Table::SchedulerConfig,
            Self::JobFence { .. } => Table::JobFences,
            Self::JobScaling(_) | Self::JobScalingGone { .. } => Table::JobScaling,
            Self::PeriodicLaunch(_) | Self::PeriodicLaunchGone { .. } => Table::PeriodicLaunches,
            Self::Capacity { .. } => Table::Capacity,
            Self::Autopilot(_) => Table::Autopilot,
            Self::RootKey(_) | Self::RootKeyGone { .. } => Table::RootKeys,
        }
    }
}

/// Facts of the cluster as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ClusterMeta {
    pub region: String,
    /// Names this line of history; a restore from a snapshot begins another.
    pub epoch: String,
    pub feature_level: u32,
}

/// Who owns a piece of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    pub name: LeaseName,
    /// Name of the process; empty when nobody holds it.
    pub holder: String,
    /// Where it is served, `host:port`.
    pub addr: String,
    /// Grows by one at each change of holder.
    pub term: Term,
    /// Index at which it was acquired.
    pub index: Index,
}

/// One line of the feed: what was committed at one index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FeedLine {
    #[serde(rename = "i")]
    pub index: Index,
    /// The index of the line before; a gap means something was missed.
    #[serde(rename = "p")]
    pub previous: Index,
    #[serde(rename = "e")]
    pub epoch: String,
    /// Rolling hash of all changes up to here, hexadecimal.
    #[serde(rename = "h")]
    pub hash: String,
    /// What kind of command it was, see [`crate::Command::cause`].
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}
