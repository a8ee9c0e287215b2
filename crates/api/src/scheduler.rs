//! The scheduler: dry runs and traces. Its work it fetches itself.

use std::collections::BTreeMap;

use model::metric::{AllocMetric, PlanAnnotations};
use model::{Evaluation, Index, Job};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::explain::GroupTrace;

/// `POST` [`DryRun`], answered by [`DryRunResult`].
pub const DRY_RUN: &str = "/v1/internal/dry-run";

/// What would happen if this job were registered?
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRun {
    /// Canonical.
    pub job: Job,
    /// The scheduler's replica must have reached this.
    pub wait_index: Index,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DryRunResult {
    pub annotations: PlanAnnotations,
    pub failed_tg_allocs: BTreeMap<String, AllocMetric>,
    pub created_evals: Vec<Evaluation>,
    /// Where each allocation would go, and what those lack that would find no place.
    pub groups: Vec<GroupTrace>,
}
