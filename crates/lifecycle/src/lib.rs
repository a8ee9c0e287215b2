//! The life of an allocation on its node, as a machine without I/O.
//!
//! Question it answers: given what the cluster wants, what happened to the tasks and what time it is, what
//! must the node do next and what must it say?
//!
//! ```text
//!   wait() ──► Event ──► Machine::step(event, now) ──► [Effect] ──► perform(effects)
//! ```
//!
//! A task: `Waiting → Starting → Running → (Backoff → Waiting …) → Dead`; see [`task`]. A group stop:
//! delay → leader → main tasks → sidecars → poststop tasks; see [`machine`].
//!
//! Invariants: nothing starts while its [`gates`] are closed or the group is stopping (poststop tasks
//! excepted); every start has a number, and news of an older start is dropped; a timer that was replaced is
//! dropped when it fires; the machine never compares clocks of two machines, and a clock that jumps only
//! shifts restart windows.
//!
//! Deliberately absent: tokens, services, templates, networks. They are hooks the agent runs around
//! [`Effect::StartTask`] and on [`Effect::Stopping`]; networks go on [`Effect::Finished`].
//!
//! Driven by the agent, one machine per allocation. Nothing in here can fail; bad input is ignored, and
//! requests of people that make no sense are refused with a [`RequestError`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod events;
pub mod gates;
pub mod health;
pub mod machine;
pub mod pausing;
mod requests;
pub mod restart;
pub mod saved;
pub mod spec;
pub mod status;
mod stopping;
pub mod task;

pub use machine::{Effect, Event, Machine, Report, StartFailure, StartFailureKind, TaskExit, Timer, TimerKind};
pub use pausing::Wish;
pub use requests::RequestError;
pub use saved::Saved;
pub use spec::{AllocSpec, Class, HealthSpec, OfNode, TaskSpec};
