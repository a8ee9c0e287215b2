//! When does a process wake that waits for nothing in particular?
//!
//! The timer wheel of a runtime wakes its thread twice for most waits: at the slot (64 ms wide) that the moment
//! lies in, and at the moment. And tasks that look around once a second each do so at a moment of their own. A
//! process with nothing to do woke more for that than for all else. So who can name a *window* instead of a
//! moment says so here: the wait ends at the roundest moment of the window, counted in slots of the wheel
//! since it began. Waits whose windows are wide enough end together, once a second.
//!
//! Invariants
//! * No wait ends before its window, and none after it, except a window without a slot's beginning: it is waited
//!   for to its end.
//! * Decisions rest on no such moment: deadlines of calls and leases are kept elsewhere, and exactly.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// Width of a slot of tokio's wheel, beyond its first 64 ms.
const SLOT: Duration = Duration::from_millis(64);
/// Moments are no rounder than 64 slots, the width of a slot of the wheel's next level.
const ROUNDEST: u32 = 6;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// The process's runtime, and with it its wheel, is about to be made. Without this, windows are kept all the
/// same, only not at the wheel's slots.
pub fn begin() {
    let _ = ORIGIN.set(Instant::now());
}

/// Ends between `earliest` and `latest` from now, together with other such waits.
pub async fn between(earliest: Duration, latest: Duration) {
    let now = Instant::now();
    tokio::time::sleep_until(within(now + earliest, now + latest)).await;
}

/// Ends once about `period` has passed, in step with others: rather a bit early than late.
pub async fn about(period: Duration) {
    let now = Instant::now();
    tokio::time::sleep_until(near(now, now + period)).await;
}

/// For a task that looked at `last` and would look again at `due`: the roundest moment from half of that time to a
/// tenth beyond it. (Half: so that who is out of step gets into it.)
pub fn near(last: Instant, due: Instant) -> Instant {
    let period = due.saturating_duration_since(last);
    within(last + period / 2, due + period / 10)
}

/// The roundest moment of a window, the later of two as round; its end if there is none.
pub fn within(earliest: Instant, latest: Instant) -> Instant {
    let origin = *ORIGIN.get_or_init(Instant::now);
    let from = latest.saturating_duration_since(earliest);
    let last = latest.saturating_duration_since(origin);
    let first = last.saturating_sub(from);
    for round in (0..=ROUNDEST).rev() {
        let step = SLOT * (1 << round);
        let offset = step.as_nanos() * (last.as_nanos() / step.as_nanos());
        if offset >= first.as_nanos() && offset > 0 {
            return u64::try_from(offset).map_or(latest, |nanos| origin + Duration::from_nanos(nanos));
        }
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_wait_ends_within_its_window_at_its_roundest_moment() {
        let origin = *ORIGIN.get_or_init(Instant::now);
        let at = |from, to| (within(origin + ms(from), origin + ms(to)) - origin).as_millis();
        assert_eq!(at(1_000, 1_100), 1_024);
        assert_eq!(at(500, 1_100), 1_024);
        assert_eq!(at(1_100, 1_200), 1_152);
        assert_eq!(at(4_000, 5_000), 4_096);
        assert_eq!(at(1_030, 1_080), 1_080, "no slot begins in it");
        assert_eq!(at(1_024, 1_024), 1_024);
        for from in 1..3_000 {
            for width in [0, 1, 63, 64, 200, 900] {
                let end = at(from, from + width);
                assert!(u128::from(from) <= end && end <= u128::from(from + width), "{from} {width}: {end}");
            }
        }
    }

    #[test]
    fn who_looks_once_a_second_gets_into_step_with_the_others_and_stays() {
        let origin = *ORIGIN.get_or_init(Instant::now);
        for start in (1..1_024).step_by(13) {
            let mut at = origin + ms(start);
            let mut gaps = Vec::new();
            for _ in 0..6 {
                // The work between takes a moment.
                let next = near(at + ms(2), at + ms(1_002));
                gaps.push((next - at).as_millis());
                at = next;
            }
            assert_eq!((at - origin).as_millis() % 1_024, 0, "{start}");
            assert!(gaps.iter().all(|gap| (500..=1_103).contains(gap)), "{gaps:?}");
            assert_eq!(gaps[3..], [1_024; 3], "{start}");
        }
    }
}
