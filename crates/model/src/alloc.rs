//! An allocation: one instance of a task group placed on a node.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::carried::Carried;
use crate::ids::AllocId;
use crate::ids::DeploymentId;
use crate::ids::EvalId;
use crate::ids::Index;
use crate::ids::JobId;
use crate::ids::NamespaceName;
use crate::ids::NodeId;
use crate::job::Job;
use crate::metric::AllocMetric;
use crate::nil;
use crate::nil::is_default;
use crate::resources::DNSConfig;
use crate::resources::NetworkResource;
use crate::resources::Resources;
use crate::small_map::SmallMap;
use crate::status::ClientStatus;
use crate::status::DesiredStatus;
use crate::status::TaskStateKind;
use crate::task::TaskLifecycle;
use crate::time::Nanos;
use crate::time::Timestamp;

/// `Allocation` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Allocation {
    #[serde(rename = "ID")]
    pub id: AllocId,
    pub namespace: NamespaceName,
    #[serde(rename = "EvalID")]
    pub eval_id: EvalId,
    pub name: String,
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    pub node_name: String,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Arc<Job>>,
    pub task_group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Box<Resources>>,
    #[serde(with = "nil", skip_serializing_if = "SmallMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, Resources>))]
    pub task_resources: SmallMap<String, Resources>,
    // Never changed once it is placed, as its metrics: what follows of a row's life shares both with the row before.
    pub allocated_resources: Option<Arc<AllocatedResources>>,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<AllocMetric>))]
    pub metrics: Option<Carried<AllocMetric>>,
    pub desired_status: DesiredStatus,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub desired_description: String,
    #[serde(skip_serializing_if = "is_default")]
    pub desired_transition: DesiredTransition,
    pub client_status: ClientStatus,
    pub client_description: String,
    #[serde(with = "nil", skip_serializing_if = "SmallMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, TaskState>))]
    pub task_states: SmallMap<String, TaskState>,
    #[serde(rename = "DeploymentID", skip_serializing_if = "DeploymentId::is_empty")]
    pub deployment_id: DeploymentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_status: Option<AllocDeploymentStatus>,
    #[serde(rename = "FollowupEvalID", skip_serializing_if = "EvalId::is_empty")]
    pub followup_eval_id: EvalId,
    #[serde(skip_serializing_if = "AllocId::is_empty")]
    pub previous_allocation: AllocId,
    #[serde(skip_serializing_if = "AllocId::is_empty")]
    pub next_allocation: AllocId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reschedule_tracker: Option<RescheduleTracker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_status: Option<Arc<AllocNetworkStatus>>,
    #[serde(with = "nil", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub preempted_allocations: Vec<AllocId>,
    #[serde(skip_serializing_if = "AllocId::is_empty")]
    pub preempted_by_allocation: AllocId,
    pub create_index: Index,
    pub modify_index: Index,
    pub alloc_modify_index: Index,
    pub create_time: i64,
    pub modify_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_resources: Option<Box<Resources>>,
    #[serde(with = "nil", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub alloc_states: Vec<AllocState>,
    #[serde(with = "nil", skip_serializing_if = "SmallMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, String>))]
    pub signed_identities: SmallMap<String, String>,
    #[serde(rename = "SigningKeyID", skip_serializing_if = "String::is_empty")]
    pub signing_key_id: String,
    /// Internal: the version of the job this allocation runs. Rows carry it instead of `job`; a
    /// public answer carries `job` instead of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_version: Option<u64>,
    /// Internal: create index of the job (its incarnation), see `job_version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_incarnation: Option<Index>,
}

/// `AllocatedResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocatedResources {
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, AllocatedTaskResources>))]
    pub tasks: SmallMap<String, AllocatedTaskResources>,
    pub shared: AllocatedSharedResources,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(schema_with = task_lifecycles))]
    pub task_lifecycles: SmallMap<String, Option<TaskLifecycle>>,
}

/// A map, or `null`, of what may be `null`, too: the derived schema has no word for the inner one.
#[cfg(feature = "openapi")]
fn task_lifecycles() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Ref, Schema, SchemaType, Type};
    let one = OneOfBuilder::new()
        .item(Ref::from_schema_name("TaskLifecycle"))
        .item(ObjectBuilder::new().schema_type(Type::Null));
    let map = SchemaType::from_iter([Type::Object, Type::Null]);
    ObjectBuilder::new().schema_type(map).additional_properties(Some(Schema::OneOf(one.build()))).into()
}

/// `AllocatedTaskResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocatedTaskResources {
    pub cpu: AllocatedCpuResources,
    pub memory: AllocatedMemoryResources,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub networks: Vec<NetworkResource>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub devices: Vec<AllocatedDeviceResource>,
}

/// `AllocatedCpuResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocatedCpuResources {
    pub cpu_shares: i64,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub reserved_cores: Vec<u16>,
}

/// `AllocatedMemoryResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocatedMemoryResources {
    #[serde(rename = "MemoryMB")]
    pub memory_mb: i64,
    #[serde(rename = "MemoryMaxMB")]
    pub memory_max_mb: i64,
}

/// `AllocatedDeviceResource` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocatedDeviceResource {
    pub vendor: String,
    #[serde(rename = "Type")]
    pub kind: String,
    pub name: String,
    #[serde(rename = "DeviceIDs", with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub device_ids: Vec<String>,
}

/// `AllocatedSharedResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocatedSharedResources {
    #[serde(rename = "DiskMB")]
    pub disk_mb: i64,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub networks: Vec<NetworkResource>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub ports: Vec<PortMapping>,
}

/// `PortMapping` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct PortMapping {
    pub label: String,
    pub value: i64,
    pub to: i64,
    #[serde(rename = "HostIP")]
    pub host_ip: String,
}

/// `DesiredTransition` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DesiredTransition {
    pub migrate: Option<bool>,
    pub reschedule: Option<bool>,
    pub force_reschedule: Option<bool>,
    pub no_shutdown_delay: Option<bool>,
    pub migrate_disable_placement: Option<bool>,
}

/// `AllocDeploymentStatus` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocDeploymentStatus {
    pub healthy: Option<bool>,
    pub timestamp: Timestamp,
    pub canary: bool,
    pub modify_index: Index,
}

/// `RescheduleTracker` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct RescheduleTracker {
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub events: Vec<RescheduleEvent>,
    pub last_reschedule: String,
}

/// `RescheduleEvent` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct RescheduleEvent {
    pub reschedule_time: i64,
    #[serde(rename = "PrevAllocID")]
    pub prev_alloc_id: AllocId,
    #[serde(rename = "PrevNodeID")]
    pub prev_node_id: NodeId,
    pub delay: Nanos,
}

/// `AllocNetworkStatus` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocNetworkStatus {
    pub interface_name: String,
    pub address: String,
    #[serde(rename = "AddressIPv6")]
    pub address_ipv6: String,
    #[serde(rename = "DNS")]
    pub dns: Option<DNSConfig>,
}

/// `TaskState` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskState {
    pub state: TaskStateKind,
    pub failed: bool,
    pub restarts: u64,
    pub last_restart: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = Vec<TaskEvent>))]
    pub events: Carried<Vec<TaskEvent>>,
    /// What became of the hours of the task: empty while they are followed and open.
    pub paused: String,
}

impl TaskState {
    /// It is not to run now: its hours are over, or somebody wants it so.
    pub fn is_paused(&self) -> bool {
        matches!(self.paused.as_str(), "scheduled_pause" | "force_pause")
    }
}

/// `TaskEvent` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskEvent {
    #[serde(rename = "Type")]
    pub kind: String,
    pub time: i64,
    pub message: String,
    pub display_message: String,
    #[serde(with = "crate::nil::object")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    pub details: SmallMap<String, String>,
    pub fails_task: bool,
    pub restart_reason: String,
    pub setup_error: String,
    pub driver_error: String,
    pub exit_code: i64,
    pub signal: i64,
    pub kill_timeout: Nanos,
    pub kill_error: String,
    pub kill_reason: String,
    pub start_delay: i64,
    pub download_error: String,
    pub validation_error: String,
    pub disk_limit: i64,
    pub failed_sibling: String,
    pub vault_error: String,
    pub task_signal_reason: String,
    pub task_signal: String,
    pub driver_message: String,
    pub generic_source: String,
}

/// `AllocListStub` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocStub {
    #[serde(rename = "ID")]
    pub id: AllocId,
    #[serde(rename = "EvalID")]
    pub eval_id: EvalId,
    pub name: String,
    pub namespace: NamespaceName,
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    pub node_name: String,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    pub job_type: String,
    pub job_version: u64,
    pub task_group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_resources: Option<Arc<AllocatedResources>>,
    pub desired_status: DesiredStatus,
    pub desired_description: String,
    pub client_status: ClientStatus,
    pub client_description: String,
    pub desired_transition: DesiredTransition,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, TaskState>))]
    pub task_states: SmallMap<String, TaskState>,
    pub deployment_status: Option<AllocDeploymentStatus>,
    #[serde(rename = "FollowupEvalID")]
    pub followup_eval_id: EvalId,
    pub next_allocation: AllocId,
    pub reschedule_tracker: Option<RescheduleTracker>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub preempted_allocations: Vec<AllocId>,
    pub preempted_by_allocation: AllocId,
    pub create_index: Index,
    pub modify_index: Index,
    pub create_time: i64,
    pub modify_time: i64,
}

/// `AllocState` on the wire: one recorded change of a client field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocState {
    pub field: i64,
    pub value: String,
    pub time: Timestamp,
}
