//! The laws of the state machine, in one program: each would compile the whole machine anew.
#![allow(clippy::unwrap_used)]

mod allocs;
mod cluster;
mod deployments;
mod evals;
mod jobs;
mod launches;
mod nodes;
mod pipeline;
mod plans;
mod random;
mod restore;
mod snapshots;
mod submit;
mod world;
