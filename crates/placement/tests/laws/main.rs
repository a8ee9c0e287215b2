//! The laws of scheduling, in one program.
#![allow(clippy::unwrap_used)]

mod balance;
mod batch;
mod devices;
mod feasible;
mod flows;
mod plans;
mod preempt;
mod random;
mod ranks;
mod service;
mod system;
mod volumes;
mod world;
