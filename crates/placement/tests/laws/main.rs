//! The laws of scheduling, in one program.
#![allow(clippy::unwrap_used)]

mod batch;
mod feasible;
mod plans;
mod service;
mod world;
