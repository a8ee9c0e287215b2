//! Processes that die, freeze, and lose their data, while people work with the cluster: real processes, and
//! chance that `STEPPE_SEED` repeats. `STEPPE_LONG=1` (`./scripts/test --long`) does more of the same.
#![allow(clippy::unwrap_used)]

#[path = "faults/cycles.rs"]
mod cycles;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/each.rs"]
mod each;
#[path = "faults/leader.rs"]
mod leader;
#[path = "faults/minority.rs"]
mod minority;
#[path = "faults/refused.rs"]
mod refused;
