//! Requests and answers of the public API about running a cluster: nodes' fates, scheduler configuration,
//! evaluations in bulk.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use model::nil;
use model::node::DrainStrategy;
use model::scheduler_config::SchedulerConfiguration;
use model::{EvalId, Index, Nanos};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `NodeUpdateEligibilityRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeUpdateEligibilityRequest {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// `eligible` or `ineligible`.
    pub eligibility: String,
}

/// `NodeUpdateDrainRequest` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeUpdateDrainRequest {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// How to drain; absent ends a drain.
    pub drain_spec: Option<DrainSpec>,
    /// Whether the node may be used again when the drain is ended.
    pub mark_eligible: bool,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub meta: BTreeMap<String, String>,
}

/// `DrainSpec` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct DrainSpec {
    /// How long work may take to leave; 0 for as long as it takes, negative for not at all.
    pub deadline: Nanos,
    /// System jobs stay.
    pub ignore_system_jobs: bool,
}

impl From<DrainSpec> for DrainStrategy {
    fn from(spec: DrainSpec) -> Self {
        Self { deadline: spec.deadline, ignore_system_jobs: spec.ignore_system_jobs, ..Self::default() }
    }
}

/// `NodeDrainUpdateResponse` and `NodeEligibilityUpdateResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeChangeResponse {
    pub node_modify_index: Index,
    #[serde(rename = "EvalIDs", with = "nil")]
    #[schema(nullable)]
    pub eval_ids: Vec<EvalId>,
    pub eval_create_index: Index,
    pub index: Index,
}

/// `NodeUpdateResponse` on the wire; a purge is answered by the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeUpdateResponse {
    #[serde(rename = "HeartbeatTTL")]
    pub heartbeat_ttl: Nanos,
    #[serde(rename = "EvalIDs", with = "nil")]
    #[schema(nullable)]
    pub eval_ids: Vec<EvalId>,
    pub eval_create_index: Index,
    pub node_modify_index: Index,
    pub features: u64,
    #[serde(rename = "LeaderRPCAddr")]
    pub leader_rpc_addr: String,
    pub num_nodes: usize,
    #[serde(with = "nil")]
    #[schema(nullable)]
    pub servers: Vec<NodeServerInfo>,
    pub scheduling_eligibility: String,
    pub signed_identity: Option<String>,
    pub index: Index,
    pub last_contact: Nanos,
    pub known_leader: bool,
    pub next_token: String,
}

/// `NodeServerInfo` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeServerInfo {
    #[serde(rename = "RPCAdvertiseAddr")]
    pub rpc_advertise_addr: String,
    #[serde(rename = "RPCMajorVersion")]
    pub rpc_major_version: i32,
    #[serde(rename = "RPCMinorVersion")]
    pub rpc_minor_version: i32,
    pub datacenter: String,
}

/// `SchedulerConfigurationResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct SchedulerConfigurationResponse {
    pub scheduler_config: Option<SchedulerConfiguration>,
    pub index: Index,
    pub last_contact: Nanos,
    pub known_leader: bool,
    pub next_token: String,
}

/// `SchedulerSetConfigurationResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct SchedulerSetConfigurationResponse {
    pub updated: bool,
    pub index: Index,
}

/// `EvalDeleteRequest` on the wire: ids or a filter, not both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct EvalDeleteRequest {
    #[serde(rename = "EvalIDs", with = "nil")]
    #[schema(nullable)]
    pub eval_ids: Vec<EvalId>,
    pub filter: String,
    pub region: String,
    pub namespace: String,
    #[serde(rename = "SecretID", skip_serializing_if = "String::is_empty")]
    pub secret_id: String,
}

/// `EvalDeleteResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
pub struct EvalDeleteResponse {
    pub count: usize,
    pub index: Index,
}
