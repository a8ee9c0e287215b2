//! The clocks a caller needs: one that goes on while the machine sleeps, for leases, and the wall clock,
//! for times in commands.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since boot, sleep included (`CLOCK_BOOTTIME`). A lease must not outlive a suspended machine.
pub fn boot_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(t.tv_sec.try_into().unwrap_or(0), t.tv_nsec.try_into().unwrap_or(0))
}

/// Unix nanoseconds.
pub fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
