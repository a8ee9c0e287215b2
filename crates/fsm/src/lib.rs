//! Truth: how a command changes the state, and how a follower's copy stays the same.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod change;
pub mod command;
pub mod plan;
pub mod state;

pub use change::{Change, ClusterMeta, FeedLine, Lease, Table};
pub use command::{Command, Envelope, LeaseFence, LeaseName, Refusal, Reply, RequestId};
pub use plan::{PartDropped, Plan, PlanPart, PlanPreempt, PlanRefusal, PlanResult, PlanStop};
pub use state::State;
