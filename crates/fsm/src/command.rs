//! What may be asked of the state machine. Each variant's doc ends with who proposes it; the state
//! service refuses it from another role.
//!
//! Ids, moments and seeds are made by the proposer and travel inside: applying reads no clock and draws
//! no random number, so the same log gives the same state everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::alloc::{AllocDeploymentStatus, AllocNetworkStatus, DesiredTransition, TaskState};
use model::autopilot::AutopilotConfiguration;
use model::job::{JobSubmission, JobVersionTag};
use model::keyring::RootKey;
use model::namespace::{Namespace, NodePool};
use model::node::{DrainStrategy, NodeEvent};
use model::scaling::ScalingEvent;
use model::scheduler_config::SchedulerConfiguration;
use model::{
    AllocId, ClientStatus, DeploymentId, DeploymentStatus, Eligibility, EvalId, EvalStatus, Evaluation, Index, Job,
    JobId, NamespaceName, Node, NodeId, NodeStatus, Role, SmallMap, Term, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlanResult};

/// One entry of the log: a command with who asks, under which lease, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Envelope {
    /// Makes a retry harmless: the second of two envelopes with one id gets the first one's reply.
    /// `None` for callers that sent none: at least once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    pub proposer: Role,
    /// The lease under which the proposer acts; a stale term is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseFence>,
    /// The proposer's clock, Unix nanoseconds. Never compared with another machine's.
    pub now: i64,
    pub command: Command,
}

/// Name of a request: when it was made (Unix milliseconds) and 64 random bits, so that one that is
/// older than the window of remembered requests can be refused and not run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RequestId {
    pub at_ms: u64,
    pub random: u64,
}

/// A lease and the term at which its holder got it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseFence {
    pub lease: LeaseName,
    pub term: Term,
}

/// The work that has one owner at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LeaseName {
    Broker,
    Applier,
    Controller,
}

impl LeaseName {
    pub const ALL: [Self; 3] = [Self::Broker, Self::Applier, Self::Controller];

    /// The role whose work it is.
    pub const fn role(self) -> Role {
        *self.owner()
    }

    pub(crate) const fn owner(self) -> &'static Role {
        match self {
            Self::Broker => &Role::Broker,
            Self::Applier => &Role::Applier,
            Self::Controller => &Role::Controller,
        }
    }

    /// The lease a role acts under; `None` for roles of which any number acts at once.
    pub fn of(role: Role) -> Option<Self> {
        Self::ALL.into_iter().find(|lease| lease.role() == role)
    }
}

/// A change somebody asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Command {
    /// First command of a new cluster. Proposed by: state.
    ClusterInit {
        region: String,
        epoch: String,
        /// What the founder's operator wants the cluster to begin with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<Box<Founding>>,
    },
    /// Every state server can do this feature level. Proposed by: state.
    FeatureLevel { level: u32 },

    /// Proposed by: the role the lease is for.
    LeaseAcquire { lease: LeaseName, holder: String, addr: String },
    /// Proposed by: the lease's holder.
    LeaseRelease { lease: LeaseName, holder: String, term: Term },
    /// The holder has not renewed for the time to live. Proposed by: state (the raft leader).
    LeaseExpire { lease: LeaseName, term: Term },

    /// A new job or a new version of one. The same specification again is no new version.
    /// Proposed by: gateway.
    JobRegister(Box<JobRegister>),
    /// Stop a job, or purge it. Proposed by: gateway.
    JobDeregister(Box<JobDeregister>),
    /// The count of a group, and why; with the evaluation that follows. Proposed by: gateway.
    JobScale(Box<JobScale>),
    /// Names a version of a job, or takes the name away. Proposed by: gateway.
    JobTag(Box<JobTag>),
    /// A child of a parameterized job. Proposed by: gateway.
    JobDispatch(Box<JobDispatch>),
    /// A periodic job's turn has come, or is forced. Proposed by: controller, gateway (forced).
    JobLaunch(Box<JobLaunch>),
    /// Proposed by: gateway.
    JobStability { namespace: NamespaceName, job_id: JobId, version: u64, stable: bool },

    /// New evaluations. Proposed by: gateway, controller.
    EvalCreate { evals: Vec<Evaluation> },
    /// New states of evaluations, with the ones that follow from them. Proposed by: scheduler.
    EvalUpdate { evals: Vec<EvalUpdate>, create: Vec<Evaluation> },
    /// Blocked evaluations that may fit now become pending. Proposed by: broker.
    EvalUnblock { evals: Vec<EvalId>, reason: String },
    /// Evaluations given up: duplicates of a blocked one, or past the delivery limit. Proposed by: broker.
    EvalFinish { evals: Vec<EvalUpdate>, create: Vec<Evaluation> },

    /// Several plans in one commit, applied in order, each refused or trimmed on its own.
    /// Proposed by: applier.
    PlanApply { plans: Vec<Plan> },

    /// A node comes up, or tells of new capacity, attributes or drivers. Proposed by: gateway.
    NodeRegister { node: Box<Node>, evals: Vec<Evaluation> },
    /// Proposed by: controller.
    NodeStatusUpdate { updates: Vec<NodeStatusChange>, evals: Vec<Evaluation> },
    /// Nodes that no longer answer get no new work (`true`) until they do again (`false`). No status and no
    /// public row changes. Proposed by: controller.
    NodeSuspect { suspects: BTreeMap<NodeId, bool> },
    /// Proposed by: gateway; applier, of a node on which plans keep failing.
    NodeEligibility { node_id: NodeId, eligibility: Eligibility, event: Option<NodeEvent>, evals: Vec<Evaluation> },
    /// Proposed by: gateway (start, cancel), controller (done).
    NodeDrain {
        node_id: NodeId,
        drain: Option<DrainStrategy>,
        mark_eligible: bool,
        /// What the asker wants to be remembered with the drain; empty keeps what is there.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        meta: BTreeMap<String, String>,
        event: Option<NodeEvent>,
        evals: Vec<Evaluation>,
    },
    /// Forget nodes. Those that are revoked may not come back, whatever certificate they show, before somebody
    /// admits them again. Proposed by: gateway, controller (never revoking).
    NodeDeregister {
        nodes: Vec<NodeId>,
        #[serde(default)]
        revoke: bool,
        evals: Vec<Evaluation>,
    },
    /// Revoked nodes may come back, with certificates that carry this mark and no others; empty: with any.
    /// Proposed by: gateway.
    NodeAdmit {
        nodes: Vec<NodeId>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        admission: String,
    },

    /// What nodes say of their allocations. Proposed by: controller.
    AllocClientUpdate { updates: Vec<AllocClientUpdate>, evals: Vec<Evaluation> },
    /// Ask the scheduler to move or stop allocations. Proposed by: gateway (stop), controller (drain).
    AllocDesiredTransition { transitions: BTreeMap<AllocId, DesiredTransition>, evals: Vec<Evaluation> },

    /// A deployment moves on. Proposed by: controller, gateway (by hand).
    DeploymentUpdate(Box<DeploymentUpdate>),

    /// Proposed by: gateway.
    SchedulerConfigSet { config: Box<SchedulerConfiguration>, cas: Option<Index> },
    /// Proposed by: gateway.
    NamespaceUpsert { namespaces: Vec<Namespace> },
    /// Proposed by: gateway.
    NodePoolUpsert { pools: Vec<NodePool> },

    /// Proposed by: gateway.
    AutopilotSet { config: Box<AutopilotConfiguration>, cas: Option<Index> },
    /// The first root key, or with `replaces` the next one. Proposed by: state.
    RootKeyAdd { key: Box<RootKey>, material: KeyMaterial, replaces: bool },
    /// A key that was published ahead takes the active one's place. Proposed by: state.
    RootKeyActivate { key_id: String },
    /// A key and its secrets are forgotten; never the active one, and one in use only with `force`.
    /// Proposed by: gateway, state (as raft leader, never forcing).
    RootKeyRemove { key_id: String, force: bool },
    /// The state becomes that of a snapshot, brought in piece by piece. Proposed by: gateway, state (abort).
    Restore(RestoreStep),
    /// Refused while nodes or jobs that are not dead use one of them. Proposed by: gateway.
    NodePoolDelete { names: Vec<String> },
    /// Refused while one of them has jobs that are not dead or allocations that run. Proposed by: gateway.
    NamespaceDelete { names: Vec<NamespaceName> },

    /// Forget evaluations by hand, whatever their status; only while the broker is paused.
    /// Proposed by: gateway.
    EvalDelete { evals: Vec<EvalId> },
    /// Count the summaries of all jobs anew. Proposed by: gateway.
    SummariesReconcile,

    /// Rows that are old enough are forgotten. Proposed by: controller.
    Reap { evals: Vec<EvalId>, allocs: Vec<AllocId>, deployments: Vec<DeploymentId>, jobs: Vec<(NamespaceName, JobId)> },
}

/// Configurations of a cluster's beginning; those that are not given are the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Founding {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autopilot: Option<AutopilotConfiguration>,
}

/// How a snapshot comes in: its lines are gathered, and take effect at once or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RestoreStep {
    /// Takes the place of another one that did not get to its end.
    Begin {
        id: String,
    },
    /// The piece after `at` others: whole lines of the snapshot codec.
    Piece {
        id: String,
        at: usize,
        lines: String,
    },
    /// All pieces are here: the state is the snapshot's, on a line of history of its own.
    Commit {
        id: String,
        epoch: String,
    },
    Abort {
        id: String,
    },
}

/// What is secret of a root key. It is stored by the state servers, in their log and snapshots, and never
/// leaves them but in an operator's snapshot. The key it is encrypted with lies beside it, unless the
/// operator keeps that elsewhere: whoever reads a state server's disk can open it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyMaterial {
    /// Nonce, then both secrets, encrypted with AES-256-GCM; base64.
    pub wrapped: String,
    /// The key for that; base64.
    pub wrapping_key: String,
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyMaterial(<redacted>)")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobRegister {
    /// Canonical and valid.
    pub job: Job,
    /// The evaluation to create; `None` for jobs that run on a trigger.
    pub eval: Option<Evaluation>,
    /// The text it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submission: Option<JobSubmission>,
    /// The job's modify index must be this; 0 = must not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_index: Option<Index>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobDeregister {
    pub namespace: NamespaceName,
    pub job_id: JobId,
    pub purge: bool,
    pub eval: Option<Evaluation>,
    pub submit_time: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct JobScale {
    pub namespace: NamespaceName,
    pub job_id: JobId,
    pub group: String,
    /// `None`: the event is only noted.
    pub count: Option<i64>,
    /// What is noted; count, evaluation and index are filled in.
    pub event: ScalingEvent,
    /// Created when the count is set.
    pub eval: Option<Evaluation>,
    /// The job's modify index must be this.
    pub enforce_index: Option<Index>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct JobTag {
    pub namespace: NamespaceName,
    pub job_id: JobId,
    pub name: String,
    /// `None` takes the name away.
    pub set: Option<TagSet>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct TagSet {
    /// `None`: the version that is current when this is applied.
    pub version: Option<u64>,
    pub description: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct JobDispatch {
    pub parent: JobId,
    /// Canonical and valid, in the parent's namespace.
    pub child: Job,
    /// `None` when the child is periodic itself.
    pub eval: Option<Evaluation>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct JobLaunch {
    pub namespace: NamespaceName,
    pub job_id: JobId,
    /// Unix nanoseconds. A turn that is not later than the last one recorded is not taken again.
    pub at: i64,
    /// `None`: the turn is passed over, because the job prohibits overlap and a child runs.
    pub child: Option<Box<Job>>,
    pub eval: Option<Evaluation>,
    /// Somebody wants it now, whatever else runs.
    pub forced: bool,
}

/// What becomes of an evaluation that a scheduler or the broker is done with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EvalUpdate {
    /// The row as it shall stand; create index and time are kept from the old one.
    pub eval: Evaluation,
}

impl EvalUpdate {
    pub fn status(&self) -> EvalStatus {
        self.eval.status
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeStatusChange {
    pub node_id: NodeId,
    pub status: NodeStatus,
    /// Unix seconds.
    pub updated_at: i64,
    pub event: Option<NodeEvent>,
}

/// One allocation's news from its node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AllocClientUpdate {
    pub id: AllocId,
    /// The node that says so; refused when the allocation is another's.
    pub node_id: NodeId,
    pub client_status: ClientStatus,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_description: String,
    /// None: as they were.
    #[serde(skip_serializing_if = "SmallMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, TaskState>))]
    pub task_states: SmallMap<String, TaskState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_status: Option<AllocDeploymentStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_status: Option<Arc<AllocNetworkStatus>>,
    /// Unix nanoseconds.
    pub modify_time: i64,
}

/// What the deployment watcher decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DeploymentUpdate {
    pub id: DeploymentId,
    pub status: Option<DeploymentStatus>,
    pub description: String,
    /// Next batch, or clean-up, for the scheduler.
    pub eval: Option<Evaluation>,
    /// Roll back: this job becomes a new version.
    pub rollback: Option<Box<Job>>,
    /// The deployed version proved itself.
    pub mark_stable: bool,
    /// Groups whose canaries are promoted.
    pub promote: Vec<String>,
    /// New "must progress by" per group.
    pub progress_by: BTreeMap<String, Timestamp>,
    /// Health set by hand.
    pub healthy: Vec<AllocId>,
    pub unhealthy: Vec<AllocId>,
}

/// What a proposer learns when its command was applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Reply {
    Done,
    /// The lease is the caller's from this index on.
    Lease {
        term: Term,
    },
    Job {
        job_modify_index: Index,
        version: u64,
        eval_id: Option<EvalId>,
        eval_index: Option<Index>,
    },
    /// A child of a job, new or already there.
    Child {
        job_id: JobId,
        job_index: Index,
        eval_id: Option<EvalId>,
        eval_index: Option<Index>,
    },
    /// The tag as it stands; `None` when it was taken away.
    Tag {
        tag: Option<JobVersionTag>,
    },
    Node {
        heartbeat: bool,
    },
    Plans {
        results: Vec<PlanResult>,
    },
    /// A compare-and-set's answer.
    Set {
        updated: bool,
    },
    Refused(Refusal),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Refusal {
    #[error("{lease:?} lease is at term {current}, not {given}")]
    StaleLease { lease: LeaseName, given: Term, current: Term },
    #[error("{lease:?} lease is held by {holder}")]
    LeaseHeld { lease: LeaseName, holder: String, term: Term },
    #[error("request is older than the window of remembered requests")]
    RequestTooOld,
    #[error("request id was used before with another body")]
    RequestReused,
    #[error("{role} may not propose {command}")]
    WrongRole { role: Role, command: String },
    #[error("{what} not found")]
    NotFound { what: String },
    /// The text is the one public clients match on.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Invalid(String),
}
