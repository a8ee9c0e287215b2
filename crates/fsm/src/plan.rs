//! A plan: what a scheduler wants done for one evaluation, node by node, and what became of it.
//!
//! Safety rests on two numbers that a plan states and the state machine checks. The *node fence* of each
//! part says at which state of the node's capacity the part was verified; a part that is past it is
//! dropped, with the stops paired with its placements. The *snapshot index* says which plans of the job
//! the scheduler had seen; an older one than the job's last applied plan is refused whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::alloc::AllocatedResources;
use model::{
    AllocId, Allocation, ClientStatus, Deployment, DeploymentId, DeploymentStatus, DesiredStatus, EvalId, Evaluation,
    Index, JobId, NamespaceName, NodeFence, NodeId,
};
use serde::{Deserialize, Serialize};

/// Why an evaluation is made for a job that lost allocations to another.
pub const TRIGGER_PREEMPTION: &str = "preemption";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Plan {
    pub eval_id: EvalId,
    pub namespace: NamespaceName,
    pub job_id: JobId,
    /// Create index of the job the plan is for; 0 when the job is gone (only stops pass then).
    pub job_incarnation: Index,
    pub job_version: u64,
    /// Index of the snapshot it was made from.
    pub snapshot_index: Index,
    pub priority: i64,
    /// All of it or nothing.
    pub all_at_once: bool,
    pub parts: BTreeMap<NodeId, PlanPart>,
    /// What a placement of a group holds that does not say it itself; see [`Plan::lean`].
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, AllocatedResources>))]
    pub resources: BTreeMap<String, Arc<AllocatedResources>>,
    /// A deployment to create.
    pub deployment: Option<Deployment>,
    pub deployment_updates: Vec<PlanDeploymentUpdate>,
    /// The evaluation as it shall stand once the whole plan is in. Not applied when a part was dropped.
    pub eval: Option<Evaluation>,
    /// Blocked and follow-up evaluations that come with it; same condition.
    pub create_evals: Vec<Evaluation>,
    /// Unix nanoseconds: create and modify time of what it writes.
    pub now: i64,
}

/// What happens on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PlanPart {
    /// The node's fence when the fit was checked (by the scheduler; the applier puts its own).
    pub fence: NodeFence,
    /// The applier found that it does not fit: the state machine drops the part, with what is paired
    /// with it, and reports this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<PartDropped>,
    /// New allocations. `job` is unset. What the plan, the node and the state machine say of them they need not say; see
    /// [`Plan::lean`].
    pub place: Vec<Allocation>,
    /// Allocations that stay and take a new version of the job in place (same resources).
    pub update: Vec<Allocation>,
    pub stop: Vec<PlanStop>,
    /// Allocations of other jobs that make room.
    pub preempt: Vec<PlanPreempt>,
}

impl PlanPart {
    /// The node's fence once this part had its turn, done or dropped: what the next part for the node must state.
    pub fn fence_after(&self) -> NodeFence {
        NodeFence(self.fence.get() + self.place.len() as u64)
    }
}

/// An allocation's end, as far as the cluster decides it. With neither a terminal desired status nor a
/// client status it only notes the follow-up evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PlanStop {
    pub id: AllocId,
    pub desired_status: DesiredStatus,
    pub description: String,
    /// Set when the node can no longer say so itself (lost, unknown).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_status: Option<ClientStatus>,
    pub followup_eval_id: EvalId,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PlanPreempt {
    pub id: AllocId,
    pub by: AllocId,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PlanDeploymentUpdate {
    pub id: DeploymentId,
    pub status: DeploymentStatus,
    pub description: String,
}

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PlanResult {
    /// Where it was committed; 0 when nothing was.
    pub index: Index,
    /// Set when the whole plan was refused.
    pub refused: Option<PlanRefusal>,
    /// Parts that were dropped, and why.
    pub dropped: BTreeMap<NodeId, PartDropped>,
    /// Allocations placed.
    pub placed: Vec<AllocId>,
    /// The scheduler must look at a snapshot at least this new before it tries again.
    pub refresh_index: Index,
    /// Ports the applier picked anew: (allocation, label, port).
    pub repicked_ports: Vec<(AllocId, String, u16)>,
}

impl PlanResult {
    /// True when everything in the plan was done.
    pub fn is_full(&self) -> bool {
        self.refused.is_none() && self.dropped.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PlanRefusal {
    #[error("snapshot is older than the job's last plan")]
    StaleSnapshot,
    #[error("evaluation is already finished")]
    EvalFinished,
    #[error("evaluation not found")]
    EvalNotFound,
    #[error("job is stopped or gone")]
    JobStopped,
    #[error("plan is all or nothing and a part of it no longer fits")]
    NotAllAtOnce,
    #[error("plan is larger than the limit")]
    TooLarge,
    #[error("plan contradicts itself or the evaluation it is for")]
    Malformed,
    #[error("scheduler's delivery is no longer valid")]
    StaleDelivery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PartDropped {
    #[error("the node is gone")]
    NodeGone,
    #[error("the node takes no work")]
    NodeNotReady,
    #[error("the node is full")]
    NodeFull,
    #[error("the node changed since the part was verified")]
    FencePassed,
    #[error("no longer feasible on the changed node")]
    Infeasible,
    #[error("a port is taken")]
    PortTaken,
}
