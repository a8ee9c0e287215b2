//! Placement: what an evaluation needs, and where it goes.
//!
//! Pure functions of a snapshot. [`schedule`] turns an evaluation into a plan; [`Fleet`] holds the nodes
//! as flat numbers that follow the feed; [`verify`], [`feasible`] and [`repick_ports`] are the rules by
//! which the applier checks a plan again, the same that the scheduler used.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod absurd;
mod ask;
mod constraint;
mod cores;
mod device;
mod explain;
mod feasible;
mod fit;
mod fleet;
mod names;
mod pass;
mod placer;
mod ports;
mod preempt;
mod ranking;
mod read;
mod reconcile;
mod rejected;
mod reschedule;
mod rng;
pub mod sampling;
mod schedule;
pub mod score;
mod seats;
mod spread;
mod updates;
mod version;
pub mod volume;
mod volumes;
mod work;

pub use explain::{Explain, GroupTrace, Nearest, Placed, Quantity, Verdict};
pub use feasible::{Filter, feasible};
pub use fit::{Amounts, Misfit, repick_ports, verify};
pub use fleet::Fleet;
pub use rejected::{RejectionLimits, Rejections};
pub use schedule::{BLOCKED_CONFLICTS, BLOCKED_REMAINING, Decision, DryRun, Request, dry_run, give_up, schedule};
pub use volumes::{Claim, Volumes};

#[cfg(test)]
extern crate self as placement;

#[cfg(test)]
mod full_scan;
#[cfg(test)]
mod vectors;
#[cfg(test)]
#[path = "../tests/laws/world/mod.rs"]
mod world;
