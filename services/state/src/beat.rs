//! When streams that have nothing to say give a sign of life.
//!
//! All of them in the same moment: a process wakes once a second for all who listen, not once for each.

use std::time::Duration;

use tokio::time::Instant;

/// Who listens hears something at least this often: a round number of the timer's slots ([`client::calm`]).
const EVERY: Duration = Duration::from_millis(1_024);

/// Ends at the next beat, within [`EVERY`].
pub async fn next() {
    tokio::time::sleep_until(after(Instant::now())).await;
}

fn after(now: Instant) -> Instant {
    // A beat that is just over is not the next one.
    let soon = now + Duration::from_millis(1);
    client::calm::within(soon, soon + EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_one_second_share_their_beat() {
        let beat = after(Instant::now());
        let at = |ms| beat + Duration::from_millis(ms);
        assert_eq!(after(at(1)), at(1_024));
        assert_eq!(after(at(500)), at(1_024));
        assert_eq!(after(at(1_022)), at(1_024));
        assert_eq!(after(at(1_024)), at(2_048));
    }
}
