//! Why an allocation was placed where it is, or nowhere.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alloc::AllocStub;
use crate::carried_scores;
use crate::ids::NodeId;
use crate::nil;
use crate::resources::Resources;
use crate::scores::Scores;
use crate::small_map::SmallMap;
use crate::time::Nanos;

/// `AllocationMetric` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct AllocMetric {
    pub nodes_evaluated: i64,
    pub nodes_filtered: i64,
    pub nodes_in_pool: i64,
    pub node_pool: String,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, i64>))]
    pub nodes_available: SmallMap<String, i64>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, i64>))]
    pub class_filtered: SmallMap<String, i64>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, i64>))]
    pub constraint_filtered: SmallMap<String, i64>,
    pub nodes_exhausted: i64,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, i64>))]
    pub class_exhausted: SmallMap<String, i64>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, i64>))]
    pub dimension_exhausted: SmallMap<String, i64>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub quota_exhausted: Vec<String>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, Resources>))]
    pub resources_exhausted: SmallMap<String, Resources>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, f64>))]
    pub scores: SmallMap<String, f64>,
    pub allocation_time: Nanos,
    pub coalesced_failures: i64,
    #[serde(with = "carried_scores")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub score_meta_data: Vec<NodeScoreMeta>,
}

/// `NodeScoreMeta` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeScoreMeta {
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    /// What `NormScore` is the mean of, and `balance`, which is not in it: nodes that have one count as equally full.
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable, value_type = BTreeMap<String, f64>))]
    pub scores: Scores,
    pub norm_score: f64,
}

/// `PlanAnnotations` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct PlanAnnotations {
    #[serde(rename = "DesiredTGUpdates", with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub desired_tg_updates: BTreeMap<String, DesiredUpdates>,
    #[serde(with = "nil")]
    #[cfg_attr(feature = "openapi", schema(nullable))]
    pub preempted_allocs: Vec<AllocStub>,
}

/// `DesiredUpdates` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct DesiredUpdates {
    pub ignore: u64,
    pub place: u64,
    pub migrate: u64,
    pub stop: u64,
    pub in_place_update: u64,
    pub destructive_update: u64,
    pub canary: u64,
    pub preemptions: u64,
    pub disconnect: u64,
    pub reconnect: u64,
    pub reschedule_now: u64,
    pub reschedule_later: u64,
}

impl DesiredUpdates {
    /// Every counter by a short name, that of what stays as it is first.
    pub fn counters(&self) -> [(&'static str, u64); 12] {
        // Taken apart, so that a counter that is added cannot be forgotten.
        let Self {
            ignore,
            place,
            migrate,
            stop,
            in_place_update,
            destructive_update,
            canary,
            preemptions,
            disconnect,
            reconnect,
            reschedule_now,
            reschedule_later,
        } = *self;
        [
            ("ignore", ignore),
            ("place", place),
            ("migrate", migrate),
            ("stop", stop),
            ("in-place", in_place_update),
            ("destructive", destructive_update),
            ("canary", canary),
            ("preemptions", preemptions),
            ("disconnect", disconnect),
            ("reconnect", reconnect),
            ("now", reschedule_now),
            ("later", reschedule_later),
        ]
    }

    /// Those that are not 0, what changes first.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut all = self.counters();
        all.rotate_left(1);
        all.into_iter().filter(|(_, number)| *number > 0)
    }
}
