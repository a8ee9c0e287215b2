//! The laws of scheduling, in one program.
#![allow(clippy::unwrap_used)]

mod batch;
mod feasible;
mod flows;
mod plans;
mod service;
mod system;
mod world;
