//! Truth: how a command changes the state, and how a follower's copy stays the same.
//!
//! ```text
//!   Envelope ──► apply ──► Outcome { reply, changes } ──► FeedLine ──► State::follow
//!                  │ each change through State::commit                      │
//!                  ▼                                                        ▼
//!             the servers' State ◄──── the same tables, hash and fences ────► a follower's State
//! ```
//!
//! Pure: no clock, no randomness, no I/O. The same log gives the same state, byte for byte.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
pub mod brief;
mod cause;
mod change;
mod check;
pub mod command;
mod commit;
mod follow;
mod hash;
mod lean;
pub mod plan;
pub mod snapshot;
pub mod state;
mod status;
mod versions;
mod window;

pub use apply::{Outcome, apply, apply_entry};
pub use change::{Change, ClusterMeta, FeedLine, Lease, Table};
pub use check::Broken;
pub use command::{Command, Envelope, KeyMaterial, LeaseFence, LeaseName, Refusal, Reply, RequestId, RestoreStep};
pub use commit::{version_key, version_of};
pub use follow::FollowError;
pub use plan::{PartDropped, Plan, PlanDeploymentUpdate, PlanPart, PlanPreempt, PlanRefusal, PlanResult, PlanStop};
pub use snapshot::{SnapshotError, read_snapshot, write_snapshot};
pub use state::{Admission, State};
pub use versions::VERSIONS_TRACKED;
pub use window::{REQUESTS_MAX, WINDOW_MS};
