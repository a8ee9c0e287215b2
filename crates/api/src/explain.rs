//! Why an evaluation came out as it did: what the scheduler that decided it remembers, and what the public
//! API makes of it.
//!
//! Moments are Unix nanoseconds of the clock of the process that saw them.

use std::collections::BTreeMap;

use model::metric::{AllocMetric, DesiredUpdates};
use model::{AllocId, ClientStatus, EvalId, EvalStatus, JobId, NamespaceName, NodeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET` with an evaluation's id, answered by [`EvalTrace`]; `gone` when this scheduler has none (any more).
pub const TRACE: &str = "/v1/internal/traces/{eval_id}";

pub fn trace_path(eval: &EvalId) -> String {
    TRACE.replace("{eval_id}", eval.as_str())
}

/// What happened to an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    #[default]
    Created,
    /// It waits for its time.
    Waiting,
    /// It waits for room.
    Blocked,
    /// A scheduler took it.
    Dequeued,
    /// Each node was checked for one group.
    Feasibility,
    /// The nodes that passed were ranked and chosen from.
    Ranking,
    PlanSubmitted,
    PlanAccepted,
    /// Wholly or in parts; decided again afterwards.
    PlanRejected,
    AllocCreated,
    Finished,
}

/// One line of an evaluation's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Moment {
    /// Unix nanoseconds.
    pub time: i64,
    pub what: Happening,
    /// In words, for people.
    pub detail: String,
}

/// How a node stood for a group when its search began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Other pool or datacenter, or takes no work.
    #[default]
    NoCandidate,
    /// A check failed: see the reason.
    Filtered,
    /// It may run the group and has no room: see the reason.
    Exhausted,
    Fits,
}

/// One node, as a group saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeVerdict {
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    /// Empty when the node is gone.
    pub node_name: String,
    pub standing: Standing,
    /// The first check that failed, or what is short.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Final score, of a node that fits; the better the higher, but see `balance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What the score is the mean of, and `balance`, which is not in it: by how much the free shares of cpu and
    /// memory come nearer to each other. Nodes that have one count as equally full, whatever their `binpack`: all
    /// else alike, the one with the highest is chosen.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
}

/// One group's search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct GroupTrace {
    pub task_group: String,
    pub job_version: u64,
    pub placed: Vec<Placement>,
    /// Allocations that found no place.
    pub unplaced: u64,
    /// The nearest changes that would place one of them, the smallest first.
    pub needs: Vec<String>,
    /// Every node; none in a dry run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeVerdict>,
}

/// What a scheduler remembers of an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct EvalTrace {
    /// Name of the scheduler.
    pub scheduler: String,
    pub timeline: Vec<Moment>,
    /// Of the last decision.
    pub groups: Vec<GroupTrace>,
}

/// An allocation that was placed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct Placement {
    #[serde(rename = "AllocID")]
    pub alloc_id: AllocId,
    pub name: String,
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    pub node_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_status: Option<ClientStatus>,
    /// What the score is the mean of, and `balance`, which is not in it: see [`NodeVerdict`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    /// The node's when it was chosen.
    pub score: f64,
    /// Allocations that had to leave for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preempted: Vec<AllocId>,
}

/// What became of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct GroupExplanation {
    pub task_group: String,
    /// What the scheduler meant to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<DesiredUpdates>,
    /// Allocations that found no place.
    pub unplaced: i64,
    /// Counts of nodes by reason, when some found no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<AllocMetric>,
    pub placed: Vec<Placement>,
    /// The nearest changes that would place what is not placed, the smallest first.
    pub needs: Vec<String>,
    /// Every node, unless a summary was asked for.
    pub nodes: Vec<NodeVerdict>,
}

/// Why an evaluation came out as it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct EvalExplanation {
    #[serde(rename = "EvalID")]
    pub eval_id: EvalId,
    pub namespace: NamespaceName,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    #[serde(rename = "Type")]
    pub kind: String,
    pub triggered_by: String,
    pub status: EvalStatus,
    pub status_description: String,
    /// Waits for room in this one's stead.
    #[serde(rename = "BlockedEval", skip_serializing_if = "EvalId::is_empty")]
    pub blocked_eval: EvalId,
    /// The scheduler that decided last; empty when none remembers it.
    pub scheduler: String,
    /// Oldest first.
    pub timeline: Vec<Moment>,
    pub groups: Vec<GroupExplanation>,
}
