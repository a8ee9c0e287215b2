//! The suite as a whole: the control plane in one process ([`plane`]), and, as a black box, the processes
//! that `scripts/up` starts (in `tests/`).
#![allow(clippy::unwrap_used)]

pub mod cluster;
pub mod dev;
pub mod disk;
pub mod fleet;
pub mod history;
pub mod leftovers;
pub mod load;
pub mod machine;
pub mod nouns;
pub mod plane;
pub mod ports;
pub mod wires;
