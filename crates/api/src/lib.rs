//! Shapes on the wire between services, and between the gateway and its public: request and answer
//! types, paths, headers, and the one table from error codes to HTTP statuses.
//!
//! Nouns (jobs, nodes, …) are `model`'s, commands and plans are `fsm`'s; what stands here is only what
//! wraps them. Nothing here waits, talks or reads a clock.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod applier;
pub mod broker;
pub mod controller;
pub mod error;
pub mod explain;
pub mod filter;
pub mod go_json;
pub mod headers;
pub mod job_changes;
pub mod node;
pub mod operate;
pub mod process;
pub mod public;
pub mod scheduler;
pub mod search;
pub mod state;
pub mod usage;

pub use error::{Code, ErrorBody};
