//! The gateway in process, through its listeners; one program, because each would link the whole gateway anew.
#![allow(clippy::unwrap_used)]

mod agents;
mod events;
mod job_changes;
mod launches;
mod node_fate;
mod operate;
mod reads;
mod scaling_policies;
mod support;
mod surface;
mod sweep;
mod writes;
