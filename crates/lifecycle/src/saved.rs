//! What an agent stores of a machine, to go on after a restart.

use std::collections::BTreeMap;

use model::Timestamp;
use model::alloc::TaskState;
use serde::{Deserialize, Serialize};

use crate::pausing::Wish;
use crate::restart::Tracker;

/// Everything that cannot be had from the specification. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    pub tasks: BTreeMap<String, SavedTask>,
    /// The group was being stopped for a reason of its own, not because the cluster wanted it.
    pub stopping: bool,
    pub poststop_cancelled: bool,
    pub run_time_over: bool,
    pub health: Option<SavedHealth>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedTask {
    pub state: TaskState,
    pub start: u64,
    pub tracker: Tracker,
    pub setup_done: bool,
    /// The driver held it: it must be recovered.
    pub held: bool,
    pub wish: Wish,
}

/// A verdict, and when it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHealth {
    pub healthy: bool,
    pub at: Timestamp,
}
