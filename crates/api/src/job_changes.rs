//! Requests and answers about a job's counts, versions, children and rollouts, in the compatible wire form.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use model::bytes::Bytes;
use model::nil;
use model::scaling::ScalingEvent;
use model::{AllocId, DeploymentId, EvalId, Index, JobId, NamespaceName, Nanos, NodeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `ScalingRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ScalingRequest {
    /// Absent: the message is only noted.
    pub count: Option<i64>,
    /// `Group`, and `Job` unless it is the path's.
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub target: BTreeMap<String, String>,
    pub message: String,
    pub error: bool,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub meta: BTreeMap<String, Value>,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
    pub policy_override: bool,
    pub job_modify_index: Index,
}

/// `JobScaleStatusResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobScaleStatus {
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    pub namespace: NamespaceName,
    pub job_create_index: Index,
    pub job_modify_index: Index,
    pub job_stopped: bool,
    pub task_groups: BTreeMap<String, TaskGroupScaleStatus>,
}

/// `TaskGroupScaleStatus` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskGroupScaleStatus {
    pub desired: i64,
    pub placed: i64,
    pub running: i64,
    pub healthy: i64,
    pub unhealthy: i64,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub events: Vec<ScalingEvent>,
}

/// `JobRevertRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobRevertRequest {
    #[serde(rename = "JobID")]
    pub job_id: String,
    pub job_version: u64,
    /// The version that must be the current one.
    pub enforce_prior_version: Option<u64>,
    pub consul_token: String,
    pub vault_token: String,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `JobStabilityRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobStabilityRequest {
    #[serde(rename = "JobID")]
    pub job_id: String,
    pub job_version: u64,
    pub stable: bool,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `JobStabilityResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobStabilityResponse {
    pub index: Index,
}

/// `TagVersionRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct TagVersionRequest {
    pub version: u64,
    /// The current version, whichever that is.
    pub latest: bool,
    pub description: String,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `JobTagResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobTagResponse {
    pub name: String,
    pub description: String,
    pub tagged_time: i64,
    pub index: Index,
    pub last_contact: Nanos,
    pub known_leader: bool,
    pub next_token: String,
}

/// `NamespacedID` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NamespacedId {
    #[serde(rename = "ID")]
    pub id: JobId,
    pub namespace: NamespaceName,
}

/// `JobStatusesRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobStatusesRequest {
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub jobs: Vec<NamespacedId>,
    pub include_children: bool,
}

/// `JobStatusesJob` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobStatusesJob {
    #[serde(rename = "ID")]
    pub id: JobId,
    pub namespace: NamespaceName,
    pub name: String,
    #[serde(rename = "Type")]
    pub kind: String,
    pub node_pool: String,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub datacenters: Vec<String>,
    pub priority: i64,
    pub version: u64,
    pub submit_time: i64,
    pub modify_index: Index,
    pub allocs: Vec<JobStatusesAlloc>,
    pub group_count_sum: i64,
    /// Of a parent, instead of allocations.
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub child_statuses: Vec<String>,
    #[serde(rename = "ParentID")]
    pub parent_id: String,
    pub latest_deployment: Option<JobStatusesLatestDeployment>,
    pub stop: bool,
    pub is_pack: bool,
    pub status: String,
}

/// `JobStatusesAlloc` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobStatusesAlloc {
    #[serde(rename = "ID")]
    pub id: AllocId,
    pub group: String,
    pub client_status: String,
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    pub deployment_status: JobStatusesDeployment,
    pub job_version: u64,
    #[serde(rename = "FollowupEvalID")]
    pub followup_eval_id: EvalId,
    pub has_paused_task: bool,
}

/// `JobStatusesDeployment` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobStatusesDeployment {
    pub canary: bool,
    pub healthy: Option<bool>,
}

/// `JobStatusesLatestDeployment` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobStatusesLatestDeployment {
    #[serde(rename = "ID")]
    pub id: DeploymentId,
    pub is_active: bool,
    pub job_version: u64,
    pub status: String,
    pub status_description: String,
    pub all_auto_promote: bool,
    pub requires_promotion: bool,
}

/// `JobDispatchRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobDispatchRequest {
    #[serde(rename = "JobID")]
    pub job_id: String,
    pub payload: Bytes,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub meta: BTreeMap<String, String>,
    /// Put into the child's name.
    pub id_prefix_template: String,
    /// 1 to 100; 0: the parent's.
    pub priority: i64,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `JobDispatchResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobDispatchResponse {
    #[serde(rename = "DispatchedJobID")]
    pub dispatched_job_id: JobId,
    #[serde(rename = "EvalID")]
    pub eval_id: String,
    pub eval_create_index: Index,
    pub job_create_index: Index,
    pub index: Index,
}

/// `PeriodicForceResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeriodicForceResponse {
    #[serde(rename = "EvalID")]
    pub eval_id: String,
    pub eval_create_index: Index,
    pub index: Index,
}

/// The requests about a deployment, as far as they are alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeploymentRequest {
    #[serde(rename = "DeploymentID")]
    pub deployment_id: String,
    /// Of a pause.
    pub pause: bool,
    /// Of a promotion: all groups.
    pub all: bool,
    /// Of a promotion: these groups.
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub groups: Vec<String>,
    /// Of a promotion; the cluster's clock is what counts.
    pub promoted_at: i64,
    /// Of allocations' health.
    #[serde(rename = "HealthyAllocationIDs", with = "nil")]
    #[schema(nullable)]
    pub healthy_allocation_ids: Vec<AllocId>,
    #[serde(rename = "UnhealthyAllocationIDs", with = "nil")]
    #[schema(nullable)]
    pub unhealthy_allocation_ids: Vec<AllocId>,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `DeploymentUpdateResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeploymentUpdateResponse {
    #[serde(rename = "EvalID")]
    pub eval_id: String,
    pub eval_create_index: Index,
    pub deployment_modify_index: Index,
    pub reverted_job_version: Option<u64>,
    pub index: Index,
}
