//! When streams that have nothing to say give a sign of life.
//!
//! All of them in the same moment: a process wakes once a second for all who listen, not once for each.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// Who listens hears something at least this often.
const EVERY: Duration = Duration::from_secs(1);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Ends at the next beat, within [`EVERY`].
pub async fn next() {
    tokio::time::sleep_until(after(*START, Instant::now())).await;
}

fn after(start: Instant, now: Instant) -> Instant {
    let beats = now.saturating_duration_since(start).as_secs() / EVERY.as_secs() + 1;
    start + EVERY * u32::try_from(beats).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_one_second_share_their_beat() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(after(start, at(0)), at(1_000));
        assert_eq!(after(start, at(1)), after(start, at(999)));
        assert_eq!(after(start, at(1_000)), at(2_000));
    }
}
