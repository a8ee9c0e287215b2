//! A node: one machine that runs tasks.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::AllocId;
use crate::ids::Index;
use crate::ids::NodeId;
use crate::nil;
use crate::nil::object;
use crate::resources::NetworkResource;
use crate::status::Eligibility;
use crate::status::NodeStatus;
use crate::time::Nanos;
use crate::time::Timestamp;

/// Attribute that tells the place an agent runs at, this start of this host with this data directory, from that
/// of a copy of its data elsewhere.
pub const PLACE: &str = "unique.agent.place";

/// `Node` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Node {
    #[serde(rename = "ID")]
    pub id: NodeId,
    pub datacenter: String,
    pub name: String,
    #[serde(rename = "HTTPAddr")]
    pub http_addr: String,
    #[serde(rename = "TLSEnabled")]
    pub tls_enabled: bool,
    #[serde(with = "object")]
    pub attributes: BTreeMap<String, String>,
    pub node_resources: Option<NodeResources>,
    pub reserved_resources: Option<NodeReservedResources>,
    #[serde(with = "object")]
    pub links: BTreeMap<String, String>,
    #[serde(with = "object")]
    pub meta: BTreeMap<String, String>,
    pub node_class: String,
    pub node_pool: String,
    pub cgroup_parent: String,
    /// On the wire for older clients; what counts is `drain_strategy`.
    pub drain: bool,
    pub drain_strategy: Option<DrainStrategy>,
    pub scheduling_eligibility: Eligibility,
    pub status: NodeStatus,
    pub status_description: String,
    pub status_updated_at: i64,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub events: Vec<NodeEvent>,
    #[serde(with = "object")]
    pub drivers: BTreeMap<String, DriverInfo>,
    #[serde(with = "object")]
    pub host_volumes: BTreeMap<String, HostVolumeInfo>,
    #[serde(rename = "GCVolumesOnNodeGC")]
    pub gc_volumes_on_node_gc: bool,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub host_networks: BTreeMap<String, HostNetworkInfo>,
    #[serde(rename = "CSIControllerPlugins", with = "object")]
    pub csi_controller_plugins: BTreeMap<String, CSIInfo>,
    #[serde(rename = "CSINodePlugins", with = "object")]
    pub csi_node_plugins: BTreeMap<String, CSIInfo>,
    pub last_drain: Option<DrainMetadata>,
    pub create_index: Index,
    pub modify_index: Index,
    pub node_max_allocs: i64,
    #[serde(rename = "SecretID")]
    pub secret_id: String,
    pub computed_class: String,
    #[serde(rename = "IdentitySigningKeyID")]
    pub identity_signing_key_id: String,
    pub last_missed_heartbeat_index: Index,
    pub last_alloc_update_index: Index,
}

/// `NodeResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeResources {
    pub cpu: NodeCpuResources,
    pub memory: NodeMemoryResources,
    pub disk: NodeDiskResources,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub networks: Vec<NetworkResource>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub devices: Vec<NodeDeviceResource>,
    pub min_dynamic_port: i64,
    pub max_dynamic_port: i64,
    pub processors: NodeProcessors,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub node_networks: Vec<NodeNetworkResource>,
}

/// `NodeCpuResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeCpuResources {
    pub cpu_shares: i64,
    pub total_cpu_cores: u16,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub reservable_cpu_cores: Vec<u16>,
}

/// `NodeMemoryResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeMemoryResources {
    #[serde(rename = "MemoryMB")]
    pub memory_mb: i64,
}

/// `NodeDiskResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeDiskResources {
    #[serde(rename = "DiskMB")]
    pub disk_mb: i64,
}

/// `NodeDeviceResource` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeDeviceResource {
    pub vendor: String,
    #[serde(rename = "Type")]
    pub kind: String,
    pub name: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub instances: Vec<NodeDevice>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub attributes: BTreeMap<String, Attribute>,
}

/// `NodeDevice` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeDevice {
    #[serde(rename = "ID")]
    pub id: String,
    pub healthy: bool,
    pub health_description: String,
    pub locality: Option<NodeDeviceLocality>,
}

/// `NodeDeviceLocality` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeDeviceLocality {
    #[serde(rename = "PciBusID")]
    pub pci_bus_id: String,
}

/// `Attribute` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Attribute {
    pub float_val: Option<f64>,
    pub int_val: Option<i64>,
    pub string_val: Option<String>,
    pub bool_val: Option<bool>,
    pub unit: String,
}

/// `NodeReservedResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeReservedResources {
    pub cpu: NodeReservedCpuResources,
    pub memory: NodeReservedMemoryResources,
    pub disk: NodeReservedDiskResources,
    pub networks: NodeReservedNetworkResources,
}

/// `NodeReservedCpuResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeReservedCpuResources {
    pub cpu_shares: u64,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub reserved_cpu_cores: Vec<u16>,
}

/// `NodeReservedMemoryResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeReservedMemoryResources {
    #[serde(rename = "MemoryMB")]
    pub memory_mb: u64,
}

/// `NodeReservedDiskResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeReservedDiskResources {
    #[serde(rename = "DiskMB")]
    pub disk_mb: u64,
}

/// `NodeReservedNetworkResources` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeReservedNetworkResources {
    pub reserved_host_ports: String,
}

/// `DrainStrategy` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DrainStrategy {
    pub deadline: Nanos,
    pub ignore_system_jobs: bool,
    pub force_deadline: Timestamp,
    pub started_at: Timestamp,
}

/// `DrainMetadata` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DrainMetadata {
    pub started_at: Timestamp,
    pub updated_at: Timestamp,
    pub status: String,
    #[serde(rename = "AccessorID")]
    pub accessor_id: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub meta: BTreeMap<String, String>,
}

/// `NodeEvent` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeEvent {
    pub message: String,
    pub subsystem: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub details: BTreeMap<String, String>,
    pub timestamp: Timestamp,
    pub create_index: Index,
}

/// `DriverInfo` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverInfo {
    #[serde(with = "object")]
    pub attributes: BTreeMap<String, String>,
    pub detected: bool,
    pub healthy: bool,
    pub health_description: String,
    pub update_time: Timestamp,
}

/// `HostVolumeInfo` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct HostVolumeInfo {
    pub path: String,
    pub read_only: bool,
    #[serde(rename = "ID")]
    pub id: String,
}

/// `HostNetworkInfo` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct HostNetworkInfo {
    pub name: String,
    #[serde(rename = "CIDR")]
    pub cidr: String,
    pub interface: String,
    pub reserved_ports: String,
}

/// `CSIInfo` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct CSIInfo {
    #[serde(rename = "PluginID")]
    pub plugin_id: String,
    #[serde(rename = "AllocID")]
    pub alloc_id: AllocId,
    pub healthy: bool,
    pub health_description: String,
    pub update_time: Timestamp,
    pub requires_controller_plugin: bool,
    pub requires_topologies: bool,
    pub controller_info: Option<CSIControllerInfo>,
    pub node_info: Option<CSINodeInfo>,
    pub provider: String,
    pub provider_version: String,
}

/// `CSIControllerInfo` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct CSIControllerInfo {
    pub supports_create_delete: bool,
    pub supports_attach_detach: bool,
    pub supports_list_volumes: bool,
    pub supports_get_capacity: bool,
    pub supports_create_delete_snapshot: bool,
    pub supports_list_snapshots: bool,
    pub supports_clone: bool,
    pub supports_read_only_attach: bool,
    pub supports_expand: bool,
    pub supports_list_volumes_attached_nodes: bool,
    pub supports_condition: bool,
    pub supports_get: bool,
}

/// `CSINodeInfo` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct CSINodeInfo {
    #[serde(rename = "ID")]
    pub id: String,
    pub max_volumes: i64,
    pub accessible_topology: Option<CSITopology>,
    pub requires_node_stage_volume: bool,
    pub supports_stats: bool,
    pub supports_expand: bool,
    pub supports_condition: bool,
}

/// `CSITopology` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct CSITopology {
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub segments: BTreeMap<String, String>,
}

/// `NodeListStub` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeListStub {
    pub address: String,
    #[serde(rename = "ID")]
    pub id: NodeId,
    #[serde(with = "nil", skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub attributes: BTreeMap<String, String>,
    pub datacenter: String,
    pub name: String,
    pub node_pool: String,
    pub node_class: String,
    pub version: String,
    pub drain: bool,
    pub scheduling_eligibility: Eligibility,
    pub status: NodeStatus,
    pub status_description: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub drivers: BTreeMap<String, DriverInfo>,
    #[serde(with = "object")]
    pub host_volumes: BTreeMap<String, HostVolumeInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_resources: Option<NodeResources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_resources: Option<NodeReservedResources>,
    pub last_drain: Option<DrainMetadata>,
    pub create_index: Index,
    pub modify_index: Index,
}

/// `NodeNetworkResource` on the wire: one interface of a node with its addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeNetworkResource {
    pub mode: String,
    pub device: String,
    pub mac_address: String,
    /// Megabits per second.
    pub speed: i64,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub addresses: Vec<NodeNetworkAddress>,
}

/// `NodeNetworkAddress` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeNetworkAddress {
    pub family: String,
    pub alias: String,
    pub address: String,
    pub reserved_ports: String,
    pub gateway: String,
}

/// `NodeProcessorResources` on the wire: the processors as the node sees them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeProcessors {
    pub topology: Option<Topology>,
}

/// `Topology` on the wire: NUMA nodes and cores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Topology {
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub nodes: Vec<u16>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub distances: Vec<Vec<u16>>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub cores: Vec<Core>,
    pub override_total_compute: u64,
    #[serde(rename = "OverrideWitholdCompute")]
    pub override_withhold_compute: u64,
    /// Internal: which memory node each PCI bus hangs on, for devices that are to be near their cores.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bus_associativity: BTreeMap<String, u16>,
}

/// `Core` on the wire: one logical processor. Speeds are MHz.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Core {
    #[serde(rename = "SocketID")]
    pub socket_id: u16,
    #[serde(rename = "NodeID")]
    pub node_id: u16,
    #[serde(rename = "ID")]
    pub id: u16,
    pub grade: bool,
    pub disable: bool,
    pub base_speed: u64,
    pub max_speed: u64,
    pub guess_speed: u64,
}
