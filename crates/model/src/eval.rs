//! An evaluation: a request to a scheduler to look at a job again.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::DeploymentId;
use crate::ids::EvalId;
use crate::ids::Index;
use crate::ids::JobId;
use crate::ids::NamespaceName;
use crate::ids::NodeId;
use crate::metric::AllocMetric;
use crate::metric::PlanAnnotations;
use crate::nil;
use crate::nil::is_default;
use crate::status::EvalStatus;
use crate::time::Nanos;
use crate::time::Timestamp;

/// `Evaluation` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Evaluation {
    #[serde(rename = "ID")]
    pub id: EvalId,
    pub priority: i64,
    #[serde(rename = "Type")]
    pub kind: String,
    pub triggered_by: String,
    pub namespace: NamespaceName,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    #[serde(skip_serializing_if = "is_default")]
    pub job_modify_index: Index,
    #[serde(rename = "NodeID", skip_serializing_if = "NodeId::is_empty")]
    pub node_id: NodeId,
    #[serde(skip_serializing_if = "is_default")]
    pub node_modify_index: Index,
    #[serde(rename = "DeploymentID", skip_serializing_if = "DeploymentId::is_empty")]
    pub deployment_id: DeploymentId,
    pub status: EvalStatus,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status_description: String,
    #[serde(skip_serializing_if = "is_default")]
    pub wait: Nanos,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "EvalId::is_empty")]
    pub next_eval: EvalId,
    #[serde(skip_serializing_if = "EvalId::is_empty")]
    pub previous_eval: EvalId,
    #[serde(skip_serializing_if = "EvalId::is_empty")]
    pub blocked_eval: EvalId,
    #[serde(with = "nil", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub related_evals: Vec<EvalStub>,
    #[serde(rename = "FailedTGAllocs", with = "nil", skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub failed_tg_allocs: BTreeMap<String, AllocMetric>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_annotations: Option<PlanAnnotations>,
    #[serde(with = "nil", skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub class_eligibility: BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub escaped_computed_class: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub quota_limit_reached: String,
    #[serde(with = "nil", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub missing_non_node_resources: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub annotate_plan: bool,
    #[serde(with = "nil", skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub queued_allocations: BTreeMap<String, i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub snapshot_index: Index,
    #[serde(skip_serializing_if = "is_default")]
    pub create_index: Index,
    #[serde(skip_serializing_if = "is_default")]
    pub modify_index: Index,
    pub create_time: i64,
    pub modify_time: i64,
    #[serde(rename = "LeaderACL", skip_serializing_if = "String::is_empty")]
    pub leader_acl: String,
}

/// `EvaluationStub` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct EvalStub {
    #[serde(rename = "ID")]
    pub id: EvalId,
    pub priority: i64,
    #[serde(rename = "Type")]
    pub kind: String,
    pub triggered_by: String,
    pub namespace: NamespaceName,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    #[serde(rename = "DeploymentID")]
    pub deployment_id: DeploymentId,
    pub status: EvalStatus,
    pub status_description: String,
    pub wait_until: Timestamp,
    pub next_eval: EvalId,
    pub previous_eval: EvalId,
    pub blocked_eval: EvalId,
    pub create_index: Index,
    pub modify_index: Index,
    pub create_time: i64,
    pub modify_time: i64,
}
