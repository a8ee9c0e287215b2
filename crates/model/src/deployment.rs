//! A deployment: the rollout of one version of a job.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::AllocId;
use crate::ids::DeploymentId;
use crate::ids::Index;
use crate::ids::JobId;
use crate::ids::NamespaceName;
use crate::nil;
use crate::status::DeploymentStatus;
use crate::time::Nanos;
use crate::time::Timestamp;

/// `Deployment` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct Deployment {
    #[serde(rename = "ID")]
    pub id: DeploymentId,
    pub namespace: NamespaceName,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    pub job_version: u64,
    pub job_modify_index: Index,
    pub job_spec_modify_index: Index,
    pub job_create_index: Index,
    pub is_multiregion: bool,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub task_groups: BTreeMap<String, DeploymentState>,
    pub status: DeploymentStatus,
    pub status_description: String,
    pub create_index: Index,
    pub modify_index: Index,
    pub create_time: i64,
    pub modify_time: i64,
    pub eval_priority: i64,
}

/// `DeploymentState` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DeploymentState {
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub placed_canaries: Vec<AllocId>,
    pub auto_revert: bool,
    pub progress_deadline: Nanos,
    pub require_progress_by: Timestamp,
    pub promoted: bool,
    pub desired_canaries: i64,
    pub desired_total: i64,
    pub placed_allocs: i64,
    pub healthy_allocs: i64,
    pub unhealthy_allocs: i64,
    pub auto_promote: bool,
}
