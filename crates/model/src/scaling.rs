//! What was done to the counts of a job's groups, and why.
//!
//! Source: the wire form of the compatible interface (`types.json`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::{EvalId, Index, JobId, NamespaceName};
use crate::nil;

/// Events kept per group.
pub const EVENTS_MAX: usize = 20;

/// `ScalingEvent` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ScalingEvent {
    /// Unix nanoseconds.
    pub time: i64,
    /// `None`: only something to note.
    pub count: Option<i64>,
    pub previous_count: i64,
    pub message: String,
    pub error: bool,
    #[serde(with = "nil")]
    pub meta: BTreeMap<String, Value>,
    #[serde(rename = "EvalID")]
    pub eval_id: Option<EvalId>,
    pub create_index: Index,
}

/// The row of a job's scaling events, newest first. Never on the public wire as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct JobScaling {
    pub namespace: NamespaceName,
    #[serde(rename = "JobID")]
    pub job_id: JobId,
    #[serde(with = "nil")]
    pub groups: BTreeMap<String, Vec<ScalingEvent>>,
    pub modify_index: Index,
}

impl JobScaling {
    /// Adds an event, and forgets the oldest of its group beyond [`EVENTS_MAX`].
    pub fn add(&mut self, group: &str, event: ScalingEvent) {
        let events = self.groups.entry(group.to_owned()).or_default();
        events.insert(0, event);
        events.truncate(EVENTS_MAX);
    }
}
