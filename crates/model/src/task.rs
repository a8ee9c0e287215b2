//! A task: one program, container or function that a driver runs.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::group::RestartPolicy;
use crate::group::ScalingPolicy;
use crate::job::Affinity;
use crate::job::Constraint;
use crate::nil;
use crate::resources::Resources;
use crate::service::Service;
use crate::time::Nanos;

/// `Task` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Task {
    pub name: String,
    pub driver: String,
    pub user: String,
    pub lifecycle: Option<TaskLifecycle>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub config: BTreeMap<String, Value>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub constraints: Vec<Constraint>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub affinities: Vec<Affinity>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub env: BTreeMap<String, String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub services: Vec<Service>,
    pub resources: Option<Resources>,
    pub restart_policy: Option<RestartPolicy>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub meta: BTreeMap<String, String>,
    pub kill_timeout: Option<Nanos>,
    pub log_config: Option<LogConfig>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub artifacts: Vec<TaskArtifact>,
    pub vault: Option<Vault>,
    pub consul: Option<Consul>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub templates: Vec<Template>,
    pub dispatch_payload: Option<DispatchPayloadConfig>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub volume_mounts: Vec<VolumeMount>,
    #[serde(rename = "CSIPluginConfig")]
    pub csi_plugin_config: Option<TaskCSIPluginConfig>,
    pub leader: bool,
    pub shutdown_delay: Nanos,
    pub kill_signal: String,
    pub kind: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub scaling_policies: Vec<ScalingPolicy>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub secrets: Vec<Secret>,
    pub identity: Option<WorkloadIdentity>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub identities: Vec<WorkloadIdentity>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub actions: Vec<Action>,
    pub schedule: Option<TaskSchedule>,
}

/// `LogConfig` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    pub max_files: Option<i64>,
    #[serde(rename = "MaxFileSizeMB")]
    pub max_file_size_mb: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    pub disabled: Option<bool>,
}

/// `TaskLifecycle` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskLifecycle {
    pub hook: String,
    pub sidecar: bool,
}

/// `Action` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Action {
    pub name: String,
    pub command: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub args: Vec<String>,
}

/// `Secret` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Secret {
    pub name: String,
    pub provider: String,
    pub path: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub config: BTreeMap<String, Value>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub env: BTreeMap<String, String>,
}

/// `TaskSchedule` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskSchedule {
    pub cron: Option<TaskScheduleCron>,
}

/// `TaskScheduleCron` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskScheduleCron {
    pub start: String,
    pub end: String,
    pub timezone: String,
}

/// `Template` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Template {
    pub source_path: Option<String>,
    pub dest_path: Option<String>,
    pub embedded_tmpl: Option<String>,
    pub change_mode: Option<String>,
    pub change_script: Option<ChangeScript>,
    pub change_signal: Option<String>,
    pub once: Option<bool>,
    pub splay: Option<Nanos>,
    pub perms: Option<String>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub left_delim: Option<String>,
    pub right_delim: Option<String>,
    pub envvars: Option<bool>,
    pub vault_grace: Option<Nanos>,
    pub wait: Option<WaitConfig>,
    pub err_missing_key: Option<bool>,
}

/// `ChangeScript` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ChangeScript {
    pub command: Option<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub args: Vec<String>,
    pub timeout: Option<Nanos>,
    pub fail_on_error: Option<bool>,
    pub run_on_first_render: Option<bool>,
}

/// `WaitConfig` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitConfig {
    pub min: Option<Nanos>,
    pub max: Option<Nanos>,
}

/// `TaskArtifact` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskArtifact {
    pub getter_source: Option<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub getter_options: BTreeMap<String, String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub getter_headers: BTreeMap<String, String>,
    pub getter_mode: Option<String>,
    pub getter_insecure: Option<bool>,
    pub relative_dest: Option<String>,
    pub chown: bool,
}

/// `DispatchPayloadConfig` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DispatchPayloadConfig {
    pub file: String,
}

/// `VolumeMount` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeMount {
    pub volume: Option<String>,
    pub destination: Option<String>,
    pub read_only: Option<bool>,
    pub propagation_mode: Option<String>,
    #[serde(rename = "SELinuxLabel")]
    pub se_linux_label: Option<String>,
}

/// `TaskCSIPluginConfig` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskCSIPluginConfig {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Type")]
    pub kind: String,
    pub mount_dir: String,
    pub stage_publish_base_dir: String,
    pub health_timeout: Nanos,
}

/// `Vault` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Vault {
    #[serde(with = "nil", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub policies: Vec<String>,
    pub role: String,
    pub namespace: Option<String>,
    pub cluster: String,
    pub env: Option<bool>,
    pub disable_file: Option<bool>,
    pub change_mode: Option<String>,
    pub change_signal: Option<String>,
    pub allow_token_expiration: Option<bool>,
}

/// `Consul` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Consul {
    pub namespace: String,
    pub cluster: String,
    pub partition: String,
}

/// `WorkloadIdentity` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct WorkloadIdentity {
    pub name: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub audience: Vec<String>,
    pub change_mode: String,
    pub change_signal: String,
    pub env: bool,
    pub file: bool,
    pub filepath: String,
    pub service_name: String,
    #[serde(rename = "TTL")]
    pub ttl: Nanos,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub extra_claims: Vec<String>,
}
