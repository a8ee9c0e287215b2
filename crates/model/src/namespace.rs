//! Namespaces and node pools.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::ids::Index;
use crate::nil;
use crate::span_text;
use crate::time::Nanos;

/// `Namespace` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Namespace {
    pub name: String,
    pub description: String,
    pub quota: String,
    pub capabilities: Option<NamespaceCapabilities>,
    pub node_pool_configuration: Option<NamespaceNodePoolConfiguration>,
    pub vault_configuration: Option<NamespaceVaultConfiguration>,
    pub consul_configuration: Option<NamespaceConsulConfiguration>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub meta: BTreeMap<String, String>,
    pub create_index: Index,
    pub modify_index: Index,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub required_extra_claims: BTreeMap<String, String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub optional_extra_claims: BTreeMap<String, String>,
    pub hash: Bytes,
}

/// `NamespaceCapabilities` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NamespaceCapabilities {
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub enabled_task_drivers: Vec<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub disabled_task_drivers: Vec<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub enabled_network_modes: Vec<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub disabled_network_modes: Vec<String>,
}

/// `NamespaceNodePoolConfiguration` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NamespaceNodePoolConfiguration {
    pub default: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub allowed: Vec<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub denied: Vec<String>,
}

/// `NamespaceVaultConfiguration` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NamespaceVaultConfiguration {
    pub default: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub allowed: Vec<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub denied: Vec<String>,
}

/// `NamespaceConsulConfiguration` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NamespaceConsulConfiguration {
    pub default: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub allowed: Vec<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub denied: Vec<String>,
}

/// `NodePool` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodePool {
    pub name: String,
    pub description: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub meta: BTreeMap<String, String>,
    #[serde(rename = "NodeIdentityTTL", with = "span_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "24h0m0s", default = ""))]
    pub node_identity_ttl: Nanos,
    pub scheduler_configuration: Option<NodePoolSchedulerConfiguration>,
    pub create_index: Index,
    pub modify_index: Index,
    pub hash: Bytes,
}

/// `NodePoolSchedulerConfiguration` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodePoolSchedulerConfiguration {
    pub scheduler_algorithm: String,
    pub memory_oversubscription_enabled: Option<bool>,
}
