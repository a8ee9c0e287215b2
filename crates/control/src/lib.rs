//! What the controller decides: one pure function or machine per concern.
//!
//! Every decision is level-triggered. It follows from the state and the moment alone, so a controller that
//! takes over, or asks twice, comes to the same one; once its effect is in the state there is nothing
//! left to decide.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod alloc;
pub mod deployment;
pub mod drain;
pub mod heartbeat;
pub mod keyring;
pub mod node;
pub mod periodic;
pub mod reap;
pub mod reschedule;
pub mod trigger;

pub use trigger::Trigger;
