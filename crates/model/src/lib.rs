//! The nouns of the orchestrator, in their one form: the wire form of the compatible public API.
//!
//! * A pointer field of the reference is an `Option` here; after [`canonicalize`] every one that has a
//!   default is `Some`.
//! * Empty slices and maps are `null` on the wire ([`nil`]).
//! * No clock, no randomness, no I/O: what a row needs of those comes in from outside.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod alloc;
pub mod alloc_state;
pub mod autopilot;
pub mod bytes;
pub mod canonicalize;
mod carried;
pub mod carried_scores;
pub mod changed;
pub mod connect;
pub mod cron;
pub mod deployment;
pub mod diff;
pub mod disconnect;
pub mod driver_config;
pub mod eval;
pub mod group;
pub mod hash;
pub mod host_network;
pub mod hours;
pub mod ids;
pub mod job;
pub mod keyring;
pub mod launch;
pub mod metric;
pub mod namespace;
mod nearest;
pub mod nil;
pub mod node;
pub mod node_state;
pub mod parse_shape;
pub mod resources;
pub mod scaling;
pub mod scheduler_config;
pub mod scores;
pub mod service;
pub mod small_map;
pub mod span_text;
pub mod sparse;
pub mod status;
pub mod summary;
pub mod task;
pub mod time;
pub mod unbuilt;
pub mod usage;
pub mod validate;

pub use access::TaskStage;
pub use alloc::Allocation;
pub use carried::Carried;
pub use deployment::Deployment;
pub use eval::Evaluation;
pub use group::TaskGroup;
pub use ids::{AllocId, DeploymentId, EvalId, Index, JobId, NamespaceName, NodeFence, NodeId, Term};
pub use job::Job;
pub use nearest::nearest;
pub use node::Node;
pub use parse_shape::parse_shape;
pub use small_map::SmallMap;
pub use status::{
    ClientStatus, DeploymentStatus, DesiredStatus, Eligibility, EvalStatus, JobKind, JobStatus, NodeStatus, Role,
    TaskStateKind,
};
pub use task::Task;
pub use time::{Nanos, Timestamp};
pub use unbuilt::unbuilt;
pub use usage::Usage;
pub use validate::{
    Limits, Problem, Sentence, labelled, report, report_warnings, validate, validate_within, warnings, warnings_in,
    without_effect,
};
