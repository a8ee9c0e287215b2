//! Requests and answers of the public API, in the compatible wire form.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use model::diff::JobDiff;
use model::eval::Evaluation;
use model::ids::Index;
use model::ids::Term;
use model::job::Job;
use model::job::JobSubmission;
use model::metric::AllocMetric;
use model::metric::PlanAnnotations;
use model::nil;
use model::time::Nanos;
use model::time::Timestamp;

use crate::explain::GroupTrace;

/// `JobRegisterRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobRegisterRequest {
    pub submission: Option<JobSubmission>,
    pub job: Option<Job>,
    pub enforce_index: bool,
    pub job_modify_index: Index,
    pub policy_override: bool,
    pub preserve_counts: bool,
    pub preserve_resources: bool,
    pub eval_priority: i64,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `JobRegisterResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobRegisterResponse {
    #[serde(rename = "EvalID")]
    pub eval_id: String,
    pub eval_create_index: Index,
    pub job_modify_index: Index,
    pub warnings: String,
    pub last_contact: Nanos,
    pub known_leader: bool,
    pub next_token: String,
    pub index: Index,
}

/// `JobDeregisterResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobDeregisterResponse {
    #[serde(rename = "EvalID")]
    pub eval_id: String,
    pub eval_create_index: Index,
    pub job_modify_index: Index,
    #[serde(rename = "VolumeEvalID")]
    pub volume_eval_id: String,
    pub volume_eval_index: Index,
    pub index: Index,
    pub last_contact: Nanos,
    pub known_leader: bool,
    pub next_token: String,
}

/// `JobPlanRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobPlanRequest {
    /// What the job was made from: findings then say lines and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission: Option<JobSubmission>,
    pub job: Option<Job>,
    pub diff: bool,
    pub policy_override: bool,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `JobPlanResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobPlanResponse {
    pub annotations: Option<PlanAnnotations>,
    #[serde(rename = "FailedTGAllocs", with = "nil")]
    #[schema(nullable)]
    pub failed_tg_allocs: BTreeMap<String, AllocMetric>,
    pub job_modify_index: Index,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub created_evals: Vec<Evaluation>,
    pub diff: Option<JobDiff>,
    pub next_periodic_launch: Option<Timestamp>,
    pub warnings: String,
    pub index: Index,
    /// With `explain=true`: where each allocation would go, and what those lack that would find no place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placements: Vec<GroupTrace>,
}

/// `JobValidateRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobValidateRequest {
    /// What the job was made from: findings then say lines and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submission: Option<JobSubmission>,
    pub job: Option<Job>,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `JobValidateResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobValidateResponse {
    pub driver_config_validated: bool,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub validation_errors: Vec<String>,
    pub error: String,
    pub warnings: String,
}

/// `JobsParseRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobsParseRequest {
    #[serde(rename = "JobHCL")]
    pub job_hcl: String,
    pub variables: String,
    pub canonicalize: bool,
    /// Whether to refuse what could not be registered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub validate: bool,
}

/// `JobVersionsResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobVersionsResponse {
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub versions: Vec<Job>,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub diffs: Vec<JobDiff>,
    pub index: Index,
    pub last_contact: Nanos,
    pub known_leader: bool,
    pub next_token: String,
}

/// `JobEvaluateRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct JobEvaluateRequest {
    #[serde(rename = "JobID")]
    pub job_id: String,
    pub eval_options: EvalOptions,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `EvalOptions` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct EvalOptions {
    pub force_reschedule: bool,
}

/// `AllocStopResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocStopResponse {
    #[serde(rename = "EvalID")]
    pub eval_id: String,
    pub index: Index,
}

/// `ServerMembers` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServerMembers {
    pub server_name: String,
    pub server_region: String,
    #[serde(rename = "ServerDC")]
    pub server_dc: String,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub members: Vec<AgentMember>,
}

/// `AgentMember` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgentMember {
    pub name: String,
    pub addr: String,
    pub port: u16,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub tags: BTreeMap<String, String>,
    pub status: String,
    pub protocol_min: u8,
    pub protocol_max: u8,
    pub protocol_cur: u8,
    pub delegate_min: u8,
    pub delegate_max: u8,
    pub delegate_cur: u8,
}

/// `AgentSelf` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentSelf {
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub config: BTreeMap<String, Value>,
    pub member: AgentMember,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub stats: BTreeMap<String, BTreeMap<String, String>>,
}

/// Answer of `PUT /v1/agent/join`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentJoinResponse {
    pub num_joined: u64,
    /// What went wrong with those that were not; empty when nothing did.
    pub error: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub warning: String,
}

/// `AgentHealthResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentHealthResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<AgentHealth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<AgentHealth>,
}

/// `AgentHealth` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentHealth {
    pub ok: bool,
    pub message: String,
}

/// `RaftConfiguration` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftConfiguration {
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub servers: Vec<RaftServer>,
    pub index: Index,
}

/// `RaftServer` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct RaftServer {
    #[serde(rename = "ID")]
    pub id: String,
    pub node: String,
    pub address: String,
    pub leader: bool,
    pub voter: bool,
    pub raft_protocol: String,
}

/// `OperatorHealthReply` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct OperatorHealthReply {
    /// Every server is healthy.
    pub healthy: bool,
    /// How many healthy voters may fail before there is no quorum.
    pub failure_tolerance: u64,
    pub servers: Vec<ServerHealth>,
    pub leader: String,
    pub voters: Vec<String>,
}

/// `ServerHealth` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServerHealth {
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    pub address: String,
    /// `alive` or `failed`.
    pub serf_status: String,
    pub version: String,
    pub leader: bool,
    /// As text, such as `20ms`.
    pub last_contact: String,
    pub last_term: Term,
    pub last_index: Index,
    pub healthy: bool,
    pub voter: bool,
    /// Since when it has been healthy, or not.
    pub stable_since: Timestamp,
}

/// `LeadershipTransferResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct LeadershipTransferResponse {
    pub from: RaftServer,
    pub to: RaftServer,
    /// That server led already.
    pub noop: bool,
    pub err: Option<String>,
    pub last_index: Index,
    pub request_time: i64,
}

/// What `PUT /v1/agent/join` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct JoinResponse {
    pub num_joined: usize,
    pub error: String,
}

/// Public keys in the form of RFC 7517.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JsonWebKeys {
    pub keys: Vec<JsonWebKey>,
}

/// One public key: Ed25519, RFC 8037.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JsonWebKey {
    #[serde(rename = "use")]
    pub usage: String,
    pub kty: String,
    pub kid: String,
    pub crv: String,
    pub alg: String,
    pub x: String,
}
