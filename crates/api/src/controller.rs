//! The controller: beats and news of nodes in, by way of the gateways.

use fsm::command::AllocClientUpdate;
use model::{Index, NodeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST` [`Beats`], answered by [`BeatsTaken`].
pub const BEATS: &str = "/v1/internal/beats";
/// `POST` [`AllocNews`]: answered once it is committed.
pub const ALLOC_NEWS: &str = "/v1/internal/allocs";

/// `POST` [`Collect`], answered by [`Collected`] once all that is over is forgotten.
pub const COLLECT: &str = "/v1/internal/collect";

/// Forget what is over, however young.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Collect {
    /// What is over at this index counts.
    pub index: Index,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Collected {
    pub commands: usize,
}

/// Signs of life that a gateway gathered in the last moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Beats {
    /// Name of the gateway.
    pub gateway: String,
    pub nodes: Vec<NodeId>,
    /// Nodes whose stream broke: no new placements there until they beat again.
    pub broken: Vec<NodeId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BeatsTaken {
    /// Milliseconds between a node's beats from now on.
    pub period_ms: u64,
    /// Nodes that must register again.
    pub unknown: Vec<NodeId>,
}

/// What nodes say of their allocations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AllocNews {
    pub updates: Vec<AllocClientUpdate>,
}
