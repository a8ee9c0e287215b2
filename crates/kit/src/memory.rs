//! When does a process give memory back?
//!
//! The allocator keeps what was freed, below whatever is still in use at the end of each of its heaps, so
//! a process that built large things once (its routes' documents at the start, a burst of jobs later)
//! stays as large as it ever was. Giving the free pages back takes a call, and the locks of the heaps one
//! after the other for its time.
//!
//! ```text
//!   each PERIOD: did the process work hard since?
//!      no, or busy BUSY_MAX times running ──► trim, on a blocking thread
//!      yes                                ──► not now: who works needs the pages and the locks
//! ```
//!
//! Invariant: trimming takes no more than a thousandth of the time. It cannot fail; where the C library
//! is another one it does nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::background::{Background, Spec};

const PERIOD: Duration = Duration::from_secs(10);
/// Working hard: more than this much of one processor.
const BUSY_SHARE: f64 = 0.3;
/// Periods in a row that hard work may put trimming off.
const BUSY_MAX: u32 = 5;
/// Trimming takes at most one part in this many of the time.
const COST_PARTS: u32 = 1_000;

/// Decides whether to trim now. Pure: told the processor time used since it was asked last.
struct Pace {
    busy: u32,
    /// Time to let go by before the next trim.
    debt: Duration,
}

impl Pace {
    const fn new() -> Self {
        Self { busy: 0, debt: Duration::ZERO }
    }

    fn due(&mut self, worked: Duration, elapsed: Duration) -> bool {
        self.debt = self.debt.saturating_sub(elapsed);
        let busy = worked.as_secs_f64() > elapsed.as_secs_f64() * BUSY_SHARE;
        self.busy = if busy { self.busy + 1 } else { 0 };
        if self.debt > Duration::ZERO || (busy && self.busy <= BUSY_MAX) {
            return false;
        }
        self.busy = 0;
        true
    }

    fn took(&mut self, time: Duration) {
        self.debt = time.saturating_mul(COST_PARTS);
    }
}

/// Gives back free memory from now on, in the background.
pub fn keep(background: &Background) {
    let spec = Spec { name: "memory", period: PERIOD, limit: PERIOD };
    let pace = Arc::new(Mutex::new(Pace::new()));
    let (mut at, mut used) = (Instant::now(), processor_time());
    background.spawn(spec, move || {
        let (elapsed, worked) = (at.elapsed(), processor_time().saturating_sub(used));
        // The activation at the start comes before there is anything to tell.
        let told = elapsed > PERIOD / 2;
        if told {
            (at, used) = (at + elapsed, used + worked);
        }
        let due = told && lock(&pace).due(worked, elapsed);
        let pace = Arc::clone(&pace);
        async move {
            if !due {
                return Ok::<_, tokio::task::JoinError>("not now".to_owned());
            }
            let took = tokio::task::spawn_blocking(|| {
                let start = Instant::now();
                trim();
                start.elapsed()
            });
            let took = took.await?;
            lock(&pace).took(took);
            Ok(format!("trimmed in {} \u{b5}s", took.as_micros()))
        }
    });
}

fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processor time of all threads of this process since its start.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().unwrap_or_default()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn trim() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // SAFETY: a function of the C library this process is linked with, declared as documented; it may be
    // called from any thread at any time and touches only memory that is free.
    unsafe { malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_millis(50);
    const BUSY: Duration = Duration::from_secs(9);

    #[test]
    fn hard_work_puts_trimming_off_but_not_for_ever() {
        let mut pace = Pace::new();
        assert!(pace.due(IDLE, PERIOD));
        let put_off = (0..100).take_while(|_| !pace.due(BUSY, PERIOD)).count();
        assert_eq!(put_off, BUSY_MAX as usize);
        assert!(!pace.due(BUSY, PERIOD));
        assert!(pace.due(IDLE, PERIOD));
    }

    #[test]
    fn trimming_takes_at_most_a_thousandth_of_the_time() {
        let mut pace = Pace::new();
        let (mut trims, periods, cost) = (0_u32, 600_u32, Duration::from_millis(100));
        for _ in 0..periods {
            if pace.due(IDLE, PERIOD) {
                trims += 1;
                pace.took(cost);
            }
        }
        assert!(trims > 10 && cost * (trims - 1) * COST_PARTS <= PERIOD * periods, "{trims}");
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn free_memory_under_memory_in_use_goes_back() {
        // In a process of its own: what other tests take and give back meanwhile would be counted, too.
        const ALONE: &str = "STEPPE_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
            itself.args(["--exact", "memory::tests::free_memory_under_memory_in_use_goes_back"]);
            let output = itself.env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let mut blocks: Vec<Vec<u8>> = (0..16_384).map(|_| vec![1; 4_000]).collect();
        let full = resident();
        let last = blocks.pop();
        drop(blocks);
        trim();
        let after = resident();
        assert!(after + (48 << 20) < full, "{full} B before, {after} B after");
        drop(last);
    }
}
