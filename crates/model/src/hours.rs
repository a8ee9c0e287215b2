//! The hours of a task: between which moments it is to run (`schedule` in a job file).
//!
//! ```text
//!   start: minute hour day month weekday year ──┐
//!   end:   minute hour, of any day ─────────────┴─► look(now): open or not, and until when
//! ```
//!
//! Hours begin at each start and end at the first end after it, which may be past midnight. So they are open
//! exactly if something started since the last end.

use jiff::tz::TimeZone;

use crate::cron::{CronError, Schedule, zone_named};
use crate::task::TaskScheduleCron;
use crate::time::Timestamp;

/// Every end comes at least once in so long: a day, and the hour that clocks are put back.
const DAY: i64 = 26 * 3_600_000_000_000;
const SECOND: i64 = 1_000_000_000;

#[derive(Clone, Debug)]
pub struct Hours {
    cron: TaskScheduleCron,
    zone_name: String,
    start: Schedule,
    end: Schedule,
    zone: TimeZone,
}

impl PartialEq for Hours {
    fn eq(&self, other: &Self) -> bool {
        self.cron == other.cron && self.zone_name == other.zone_name
    }
}

impl Hours {
    /// `local` is the zone that `Local`, or none, stands for.
    ///
    /// # Errors
    /// A part cannot be read.
    pub fn new(cron: &TaskScheduleCron, local: &str) -> Result<Self, CronError> {
        let zone_name = match cron.timezone.as_str() {
            "" | "Local" => local,
            name => name,
        };
        let end = format!("{} * * *", cron.end.trim());
        Ok(Self {
            start: Schedule::parse(&cron.start)?,
            end: Schedule::parse(&end)?,
            zone: zone_named(zone_name)?,
            zone_name: zone_name.to_owned(),
            cron: cron.clone(),
        })
    }

    /// Whether they are open, and when that changes; `None` when never again.
    pub fn look(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let mut last_end = Timestamp(now.0.saturating_sub(DAY));
        while let Some(end) = self.end.next(last_end, &self.zone).filter(|end| *end <= now) {
            last_end = end;
        }
        let since = Timestamp(last_end.0.saturating_sub(SECOND));
        let open = self.start.next(since, &self.zone).is_some_and(|start| start <= now);
        let of = if open { &self.end } else { &self.start };
        (open, of.next(now, &self.zone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp(i64::try_from(at.as_nanosecond()).unwrap())
    }

    fn hours(start: &str, end: &str, zone: &str) -> Hours {
        let cron = TaskScheduleCron { start: start.into(), end: end.into(), timezone: zone.into() };
        Hours::new(&cron, "Europe/Berlin").unwrap()
    }

    fn look(hours: &Hours, at: &str) -> (bool, Option<Timestamp>) {
        hours.look(moment(at))
    }

    #[test]
    fn hours_are_open_from_a_start_to_the_next_end() {
        let work = hours("30 8 * * mon-fri *", "0 17", "UTC");
        assert_eq!(look(&work, "2026-03-02T08:29:59Z"), (false, Some(moment("2026-03-02T08:30:00Z"))));
        assert_eq!(look(&work, "2026-03-02T08:30:00Z"), (true, Some(moment("2026-03-02T17:00:00Z"))));
        assert_eq!(look(&work, "2026-03-02T16:59:59Z"), (true, Some(moment("2026-03-02T17:00:00Z"))));
        assert_eq!(look(&work, "2026-03-06T17:00:00Z"), (false, Some(moment("2026-03-09T08:30:00Z"))));
    }

    #[test]
    fn hours_may_pass_midnight() {
        let night = hours("0 22 * * * *", "0 6", "UTC");
        assert_eq!(look(&night, "2026-03-02T23:00:00Z"), (true, Some(moment("2026-03-03T06:00:00Z"))));
        assert_eq!(look(&night, "2026-03-03T05:59:00Z"), (true, Some(moment("2026-03-03T06:00:00Z"))));
        assert_eq!(look(&night, "2026-03-03T06:00:00Z"), (false, Some(moment("2026-03-03T22:00:00Z"))));
    }

    #[test]
    fn local_is_the_zone_of_the_node() {
        for zone in ["", "Local", "Europe/Berlin"] {
            let work = hours("0 9 * * * *", "0 10", zone);
            assert_eq!(look(&work, "2026-07-01T07:30:00Z"), (true, Some(moment("2026-07-01T08:00:00Z"))), "{zone}");
        }
    }

    #[test]
    fn the_last_year_ends_it() {
        let once = hours("0 9 1 1 * 2020", "0 10", "UTC");
        assert_eq!(look(&once, "2026-07-01T07:30:00Z"), (false, None));
    }

    #[test]
    fn a_part_that_cannot_be_read_says_which() {
        let cron = |start: &str, end: &str, zone: &str| {
            let cron = TaskScheduleCron { start: start.into(), end: end.into(), timezone: zone.into() };
            Hours::new(&cron, "UTC").map(drop).unwrap_err().to_string()
        };
        assert_eq!(cron("0 25 * * * *", "0 1", "UTC"), "syntax error in hour field: '25'");
        assert_eq!(cron("0 2 * * * *", "61 1", "UTC"), "syntax error in minute field: '61'");
        assert_eq!(cron("0 2 * * * *", "6 1", "Moon"), "unknown time zone Moon");
    }
}
