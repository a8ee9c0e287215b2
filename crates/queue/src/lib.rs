//! The evaluation queue: which evaluation goes to which scheduler, when, and what happens if that
//! scheduler fails, falls silent or dies.
//!
//! [`Broker`] is a machine without a clock, I/O or randomness. Its shell (the `broker` service) feeds it
//! rows, time and calls, and performs the [`Effect`]s it hands back. No evaluation is ever enqueued by
//! a call: a row in state `pending` *is* the message, a row in state `blocked` *is* the wait for room.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blocked;
mod broker;
mod effect;
mod finish;
mod kind;
mod limits;
mod ready;
mod stats;
mod time;

pub use blocked::Freed;
pub use broker::{Acked, Broker, Delivery, QueueError, SessionId};
pub use effect::{Effect, UnblockReason};
pub use kind::Kind;
pub use limits::Limits;
pub use stats::{Asked, BlockedResources, KindStats, Place, Stats};
pub use time::Now;
