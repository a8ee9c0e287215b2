//! The laws of the controller's decisions, in one program.
#![allow(clippy::unwrap_used)]

mod allocs;
mod deployments;
mod drain;
mod keyring;
mod nodes;
mod periodic;
mod reap;
mod world;
