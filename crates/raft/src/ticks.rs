//! How often does a node that has nothing to do wake up?
//!
//! openraft looks at its clock 64 times in 13 heartbeats, and the timer wheel of a runtime wakes twice for most
//! waits: at the slot (64 ms wide) that the moment lies in, and at the moment. An idle group woke more for
//! that than for all else. So a wait of openraft's that is long enough for a wheel ends at a slot's beginning,
//! where one wake does: at the last of those within half a heartbeat or, by chance, now and then an earlier one.
//!
//! By chance, since two followers that come to the same moment after a split vote must not meet there again and again:
//! of the four looks between one try and the next, each is out of step with the other's in one case of four or five.
//!
//! Invariants
//! * A wait never ends early, and less than half a heartbeat late.
//! * A heartbeat is due between two slots ([`Grid::heartbeat`]), so that a wake which is some microseconds early or
//!   late does not decide whether it goes out: it does at most one heartbeat after the last.
//! * Short waits, with which openraft gathers what was flushed, end when they say.
//!
//! The grid belongs to a runtime, whose wheel begins with it: each of its threads knows it. On other threads,
//! and with heartbeats too short for a grid, every wait ends when it says.

use std::cell::Cell;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::time::Duration;

use openraft::{AsyncRuntime, Instant as _, OptionalSend};
use openraft_rt_tokio::{TokioInstant as Instant, TokioRuntime};

/// Width of a slot of tokio's wheel, beyond its first 64 ms.
const SLOT: Duration = Duration::from_millis(64);
/// One wait of so many is as long as chance says.
const ODD: u32 = 4;
/// Waits up to this are not for the wheel.
const SHORT: Duration = Duration::from_millis(1);

thread_local! {
    static GRID: Cell<Option<Grid>> = const { Cell::new(None) };
}

/// Moments at which the threads of one runtime like to wake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    origin: Instant,
    /// Of half a heartbeat.
    slots: u32,
}

impl Grid {
    /// For a runtime that is about to be made; none if a heartbeat has no room for two slots.
    pub fn new(heartbeat: Duration) -> Option<Self> {
        let slots = u32::try_from(heartbeat.as_millis() / 2 / SLOT.as_millis()).ok()?;
        (slots > 0).then(|| Self { origin: Instant::now(), slots })
    }

    /// After how long a heartbeat shall be due, for it to go out within `heartbeat`: the last look before that is
    /// half of it after the one before, and the next at most another half later.
    pub fn heartbeat(self, heartbeat: Duration) -> Duration {
        heartbeat / 2 + SLOT / 2
    }

    /// For a thread of that runtime, as it starts.
    pub fn enter(self) {
        GRID.set(Some(self));
    }

    /// A slot's beginning that is not before `wanted`: the last within half a heartbeat or, as `chance` says, another;
    /// `wanted` itself, if that is hardly a wait.
    fn settle(self, now: Instant, wanted: Instant, chance: u32) -> Instant {
        if wanted <= now + SHORT {
            return wanted;
        }
        let slots = (wanted - self.origin).as_nanos().div_ceil(SLOT.as_nanos());
        let later = if chance.is_multiple_of(ODD) { chance / ODD % self.slots } else { self.slots - 1 };
        u32::try_from(slots).map_or(wanted, |slots| self.origin + SLOT * slots.saturating_add(later))
    }
}

/// Seldom the same on two nodes at once: what std gives without asking the system each time.
fn chance() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() >> 33).unwrap_or_default()
}

/// tokio, with waits that end on the thread's grid.
#[derive(Debug)]
pub struct Calm(TokioRuntime);

type Inner = TokioRuntime;

impl AsyncRuntime for Calm {
    type JoinError = <Inner as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Inner as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Inner as AsyncRuntime>::Sleep;
    type Instant = <Inner as AsyncRuntime>::Instant;
    type TimeoutError = <Inner as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Inner as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Inner as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <Inner as AsyncRuntime>::Mpsc;
    type Watch = <Inner as AsyncRuntime>::Watch;
    type Oneshot = <Inner as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Inner as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Inner::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Inner::sleep(duration)
    }

    /// What openraft's ticks wait with.
    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Inner::sleep_until(GRID.get().map_or(deadline, |grid| grid.settle(Instant::now(), deadline, chance())))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Inner::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Inner::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Inner::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Inner::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(Inner::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Inner::spawn_blocking(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_on_the_grid_never_early_and_less_than_half_a_heartbeat_late() {
        let grid = Grid::new(Duration::from_millis(256)).unwrap();
        assert_eq!(grid.slots, 2);
        for (ms, chance) in (3..1_000).step_by(7).zip(0..) {
            let wanted = grid.origin + Duration::from_millis(ms);
            let end = grid.settle(grid.origin, wanted, chance);
            assert!(end >= wanted && end < wanted + SLOT * 2, "{ms}");
            assert_eq!((end - grid.origin).as_millis() % 64, 0, "{ms}");
        }
    }

    #[test]
    fn two_that_came_to_the_same_moment_need_not_come_to_the_next_one_together() {
        let grid = Grid::new(Duration::from_millis(256)).unwrap();
        let wanted = grid.origin + Duration::from_millis(400);
        assert_ne!(grid.settle(grid.origin, wanted, 0), grid.settle(grid.origin, wanted, 1));
        let drawn: std::collections::BTreeSet<Instant> =
            (0..1_000).map(|_| grid.settle(grid.origin, wanted, chance())).collect();
        assert_eq!(drawn.len(), 2, "{drawn:?}");
    }

    /// openraft looks 64 times in 13 heartbeats, and counts from when it looked last.
    #[test]
    fn a_heartbeat_goes_out_at_most_one_heartbeat_after_the_last_whatever_the_wakes_lateness() {
        let heartbeat = Duration::from_millis(256);
        let grid = Grid::new(heartbeat).unwrap();
        let due = grid.heartbeat(heartbeat);
        let look = due * 13 / 64;
        let late = |n: u32| Duration::from_micros(u64::from(n * 7_919 % 2_000));
        let (mut now, mut last) = (grid.origin, grid.origin);
        for n in 0..2_000 {
            now = grid.settle(now, now + look, chance()) + late(n);
            if now >= last + due {
                assert!(now - last <= heartbeat + Duration::from_millis(2), "{:?}", now - last);
                last = now;
            }
        }
    }

    #[test]
    fn a_short_wait_and_a_past_one_end_when_they_say() {
        let grid = Grid::new(Duration::from_millis(256)).unwrap();
        let now = grid.origin + Duration::from_millis(300);
        for wanted in [now + Duration::from_micros(1), now, grid.origin] {
            assert_eq!(grid.settle(now, wanted, 1), wanted);
        }
    }

    #[test]
    fn heartbeats_of_tests_are_too_short_for_a_grid() {
        assert!(Grid::new(Duration::from_millis(127)).is_none());
        assert_eq!(Grid::new(Duration::from_millis(2_560)).unwrap().slots, 20);
    }
}
