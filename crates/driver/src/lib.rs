//! Touching a host: running tasks, finding out what the host offers, opening files users name.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod beneath;
pub mod cgroup;
pub mod content;
pub mod contract;
pub mod cores;
pub mod devices;
pub mod docker;
pub mod env;
pub mod fingerprint;
pub mod host_mount;
pub mod host_networks;
pub mod host_stats;
pub mod logs;
pub mod mock;
mod netns;
pub mod orphans;
pub mod procfs;
pub mod raw_exec;
pub mod rotate;
pub mod session;
mod signals;
pub mod supervisor;
pub mod tail;
pub mod taskdir;
mod usage;

pub use contract::{Driver, DriverError, ExitResult, Handle, TaskConfig};
