//! When does a periodic job fall due next?
//!
//! 5 to 7 fields: seconds (only with 7), minute, hour, day of month, month, day of week, year (with 6 or
//! 7); what follows the seventh is ignored. A field is a comma list of `*`, numbers, names, ranges, each
//! with an optional `/step`; days also take `L`, `W` and `#`. `@hourly` and its like stand for a whole
//! specification. A day fits when it fits both day fields; where both are restricted, either.
//!
//! ```text
//!   text ─► Schedule: a set for each field ─► next(after): walks days, then the clock of a day
//!                                                └─► in the zone: local time ─► moment
//! ```
//!
//! Invariants
//! * The next moment is later than the one asked about.
//! * A local time that the clocks skip falls due as much later as they were put forward. One that comes
//!   twice falls due the first time; where every hour is asked for, both times.
//!
//! Pure: the zones' rules are compiled in. Source of the grammar: the reference's validation table.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Weekday, date, datetime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

use crate::job::PeriodicConfig;
use crate::time::Timestamp;

/// The compiled-in rules: those of the machine may differ from server to server.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A field: its name, its least and greatest number, its names, and the letters days take.
struct Field {
    name: &'static str,
    least: u16,
    most: u16,
    names: &'static [&'static str],
    extra: &'static str,
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const ALIASES: [(&str, &str); 6] = [
    ("@annually", "0 0 1 1 *"),
    ("@yearly", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const FIELDS: [Field; 7] = [
    Field { name: "second", least: 0, most: 59, names: &[], extra: "" },
    Field { name: "minute", least: 0, most: 59, names: &[], extra: "" },
    Field { name: "hour", least: 0, most: 23, names: &[], extra: "" },
    Field { name: "day-of-month", least: 1, most: 31, names: &[], extra: "lw" },
    Field { name: "month", least: 1, most: 12, names: MONTHS, extra: "" },
    Field { name: "day-of-week", least: 0, most: 7, names: DAYS, extra: "l#" },
    Field { name: "year", least: 1970, most: 2099, names: &[], extra: "" },
];
const YEAR_MAX: i16 = 2099;

/// Why a specification cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("missing field(s)")]
    Fields,
    #[error("syntax error in {field} field: '{text}'")]
    Syntax { field: &'static str, text: String },
    #[error("unknown time zone {0}")]
    Zone(String),
}

/// A day of a month or week that is no plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// The last day of the month.
    LastDay,
    /// The last working day of the month.
    LastWeekday,
    /// The working day nearest to a day of the month.
    NearestWeekday(u16),
    /// The last such weekday of the month.
    LastOf(u16),
    /// The n-th such weekday of the month.
    Nth(u16, u16),
}

/// What one field takes.
#[derive(Clone, Debug, Default)]
struct Set {
    any: bool,
    numbers: BTreeSet<u16>,
    special: Vec<Special>,
}

impl Set {
    fn has(&self, number: u16) -> bool {
        self.any || self.numbers.contains(&number)
    }
}

/// A specification that was read.
#[derive(Clone, Debug)]
pub struct Schedule {
    second: Set,
    minute: Set,
    hour: Set,
    day: Set,
    month: Set,
    weekday: Set,
    year: Set,
}

impl Schedule {
    /// # Errors
    /// See [`CronError`].
    pub fn parse(spec: &str) -> Result<Self, CronError> {
        let spec = spec.trim().to_ascii_lowercase();
        let alias = ALIASES.iter().find(|(name, _)| *name == spec).map(|(_, means)| *means);
        let parts: Vec<&str> = alias.unwrap_or(&spec).split_ascii_whitespace().take(FIELDS.len()).collect();
        let fields = match parts.len() {
            7 => FIELDS.iter(),
            6 => FIELDS[1..].iter(),
            5 => FIELDS[1..6].iter(),
            _ => return Err(CronError::Fields),
        };
        let mut sets = Vec::with_capacity(7);
        for (part, field) in parts.iter().zip(fields) {
            let read = read_field(part, field);
            sets.push(read.ok_or_else(|| CronError::Syntax { field: field.name, text: (*part).to_owned() })?);
        }
        let any = || Set { any: true, ..Set::default() };
        if sets.len() < 7 {
            sets.insert(0, Set { numbers: BTreeSet::from([0]), ..Set::default() });
        }
        let mut sets = sets.into_iter();
        let mut next = || sets.next().unwrap_or_else(any);
        Ok(Self {
            second: next(),
            minute: next(),
            hour: next(),
            day: next(),
            month: next(),
            weekday: next(),
            year: next(),
        })
    }

    /// The first moment behind `after`; `None` when there is none any more.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_nanosecond(after.unix_nanos().into()).ok()?;
        let mut from = zone.to_datetime(after);
        // Local times are looked at until one's moment is behind: clocks that are put back show some twice.
        let mut found = loop {
            let local = self.next_local(from)?;
            let moment = zone.to_ambiguous_timestamp(local).compatible().ok()?;
            if moment > after {
                break moment;
            }
            from = local;
        };
        if self.hour.any || self.hour.numbers.len() == 24 {
            found = self.second_pass(after, found, zone).map_or(found, |moment| moment.min(found));
        }
        Some(Timestamp(i64::try_from(found.as_nanosecond()).ok()?))
    }

    /// The first moment between `after` and `before` whose local time comes for the second time.
    fn second_pass(&self, after: jiff::Timestamp, before: jiff::Timestamp, zone: &TimeZone) -> Option<jiff::Timestamp> {
        let second = jiff::SignedDuration::from_secs(1);
        // The clocks were put back at most a day before.
        let since = after.checked_sub(jiff::SignedDuration::from_hours(24)).ok()?;
        let changes = zone.following(since).map(|change| change.timestamp()).take_while(|at| *at < before);
        for change in changes.take(4) {
            let mut from = zone.to_datetime(change.max(after)).checked_sub(second).ok()?;
            if change <= after {
                from = zone.to_datetime(after);
            }
            while let Some(local) = self.next_local(from) {
                let ambiguous = zone.to_ambiguous_timestamp(local);
                if !matches!(ambiguous.offset(), AmbiguousOffset::Fold { .. }) {
                    break;
                }
                let moment = ambiguous.later().ok()?;
                if moment > after && moment < before {
                    return Some(moment);
                }
                from = local;
            }
        }
        None
    }

    /// The first local time behind `after`.
    fn next_local(&self, after: DateTime) -> Option<DateTime> {
        let mut day = after.date();
        let mut clock = Some((after.hour(), after.minute(), after.second()));
        while day.year() <= YEAR_MAX {
            if !self.year.has(u16::try_from(day.year()).unwrap_or(0)) {
                day = date(day.year().checked_add(1)?, 1, 1);
                clock = None;
                continue;
            }
            if self.fits_day(day)
                && let Some((h, m, s)) = self.next_clock(clock)
            {
                return Some(datetime(day.year(), day.month(), day.day(), h, m, s, 0));
            }
            day = day.tomorrow().ok()?;
            clock = None;
        }
        None
    }

    /// The first time of a day, behind `after` if given.
    fn next_clock(&self, after: Option<(i8, i8, i8)>) -> Option<(i8, i8, i8)> {
        let has = |set: &Set, n: i8| set.has(u16::try_from(n).unwrap_or(u16::MAX));
        let first = |set: &Set, from: i8| (from..60).find(|n| has(set, *n));
        let (from_h, from_m, from_s) = after.unwrap_or((0, 0, -1));
        for h in (from_h..24).filter(|h| has(&self.hour, *h)) {
            let least_m = if h == from_h { from_m } else { 0 };
            for m in (least_m..60).filter(|m| has(&self.minute, *m)) {
                let least_s = if (h, m) == (from_h, from_m) { from_s + 1 } else { 0 };
                if let Some(s) = first(&self.second, least_s) {
                    return Some((h, m, s));
                }
            }
        }
        None
    }

    fn fits_day(&self, day: Date) -> bool {
        let number = |n: i8| u16::try_from(n).unwrap_or(0);
        if !self.month.has(number(day.month())) {
            return false;
        }
        let weekday = number(day.weekday().to_sunday_zero_offset());
        let special = |set: &Set| set.special.iter().any(|special| fits_special(*special, day));
        let by_day = self.day.any || self.day.numbers.contains(&number(day.day())) || special(&self.day);
        let by_weekday = self.weekday.any || self.weekday.numbers.contains(&weekday) || special(&self.weekday);
        if self.day.any || self.weekday.any { by_day && by_weekday } else { by_day || by_weekday }
    }
}

fn fits_special(special: Special, day: Date) -> bool {
    let last = day.last_of_month();
    let works = |day: Date| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
    let weekday = |n: u16| u16::try_from(day.weekday().to_sunday_zero_offset()) == Ok(n % 7);
    match special {
        Special::LastDay => day == last,
        Special::LastWeekday => {
            works(day)
                && (day.day()..last.day()).all(|n| date(day.year(), day.month(), n + 1).weekday() != day.weekday())
                && (day.day() + 1..=last.day()).all(|n| !works(date(day.year(), day.month(), n)))
        }
        Special::NearestWeekday(n) => {
            let Ok(n) = i8::try_from(n) else { return false };
            n <= last.day() && day == nearest_working(date(day.year(), day.month(), n))
        }
        Special::LastOf(n) => weekday(n) && day.day() + 7 > last.day(),
        Special::Nth(n, nth) => weekday(n) && u16::try_from((day.day() + 6) / 7) == Ok(nth),
    }
}

/// The working day of the same month that is nearest.
fn nearest_working(day: Date) -> Date {
    let step = |by: i8| date(day.year(), day.month(), day.day() + by);
    match day.weekday() {
        Weekday::Saturday if day.day() == 1 => step(2),
        Weekday::Saturday => step(-1),
        Weekday::Sunday if day == day.last_of_month() => step(-2),
        Weekday::Sunday => step(1),
        _ => day,
    }
}

fn read_field(part: &str, field: &Field) -> Option<Set> {
    let mut set = Set::default();
    for item in part.split(',') {
        read_item(item, field, &mut set)?;
    }
    Some(set)
}

fn read_item(item: &str, field: &Field, set: &mut Set) -> Option<()> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step.parse::<u16>().ok().filter(|n| (1..=field.most).contains(n))?)),
        None => (item, None),
    };
    // Before names, which may go on after three letters.
    if let Some(special) = special(range, field) {
        set.special.push(step.is_none().then_some(special)?);
        return Some(());
    }
    let (from, to) = if matches!(range, "*" | "?") {
        if step.is_none() {
            set.any = true;
            return Some(());
        }
        (field.least, if field.extra.contains('#') { 6 } else { field.most })
    } else if let Some((from, to)) = range.split_once('-') {
        let (from, to) = (number(from, field)?, number(to, field)?);
        (from <= to).then_some((from, to))?
    } else if let Some(one) = number(range, field) {
        // `5/15` is from 5 on.
        (one, if step.is_some() { field.most } else { one })
    } else {
        return None;
    };
    let numbers = (from..=to).step_by(usize::from(step.unwrap_or(1)));
    // The week's seventh day is its day 0.
    set.numbers.extend(numbers.map(|n| if field.extra.contains('#') { n % 7 } else { n }));
    Some(())
}

fn number(text: &str, field: &Field) -> Option<u16> {
    if let Some(at) = field.names.iter().position(|name| text.starts_with(name)) {
        return u16::try_from(at).ok().map(|at| at + field.least);
    }
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (field.least..=field.most).contains(n))
}

/// `L`, `LW`, `15W`, `5L`, `mon#2`.
fn special(text: &str, field: &Field) -> Option<Special> {
    let takes = |letter: char| field.extra.contains(letter);
    match text {
        "l" if takes('w') => return Some(Special::LastDay),
        "lw" if takes('w') => return Some(Special::LastWeekday),
        // Of a week: its last day.
        "l" if takes('#') => return Some(Special::LastOf(6)),
        _ => {}
    }
    if let Some((day, nth)) = text.split_once('#') {
        let nth = nth.parse::<u16>().ok().filter(|n| (1..=5).contains(n))?;
        return takes('#').then_some(Special::Nth(number(day, field)?, nth));
    }
    match (text.strip_suffix('w'), text.strip_suffix('l')) {
        (Some(day), _) if takes('w') => Some(Special::NearestWeekday(number(day, field)?)),
        (_, Some(day)) if takes('#') => Some(Special::LastOf(number(day, field)?)),
        _ => None,
    }
}

/// Whether a zone has that name.
pub fn is_zone(name: &str) -> bool {
    zone_named(name).is_ok()
}

/// The zone of that name; UTC if there is none, or if it is `Local`.
pub(crate) fn zone_named(name: &str) -> Result<TimeZone, CronError> {
    match name {
        "" | "UTC" | "utc" | "Local" => Ok(TimeZone::UTC),
        name => ZONES.get(name).map_err(|_| CronError::Zone(name.to_owned())),
    }
}

impl PeriodicConfig {
    /// The specifications, whichever way they are written.
    pub fn schedules(&self) -> impl Iterator<Item = &str> {
        let one = self.spec.as_deref().filter(|spec| !spec.is_empty());
        self.specs.iter().map(String::as_str).chain(one)
    }

    /// The zone its times are in; UTC unless named.
    ///
    /// # Errors
    /// No zone has that name.
    pub fn zone(&self) -> Result<TimeZone, CronError> {
        zone_named(self.time_zone.as_deref().unwrap_or(""))
    }

    /// The first moment behind `after` at which one of the specifications falls due.
    ///
    /// # Errors
    /// A specification or the zone cannot be read.
    pub fn next(&self, after: Timestamp) -> Result<Option<Timestamp>, CronError> {
        let zone = self.zone()?;
        let mut first = None;
        for spec in self.schedules() {
            let next = Schedule::parse(spec)?.next(after, &zone);
            first = first.into_iter().chain(next).min();
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp(i64::try_from(at.as_nanosecond()).unwrap())
    }

    fn text(at: Timestamp) -> String {
        jiff::Timestamp::from_nanosecond(at.unix_nanos().into()).unwrap().to_string()
    }

    fn due(specs: &[&str], zone: &str, after: &str, count: usize) -> Vec<String> {
        let config = PeriodicConfig {
            specs: specs.iter().map(|s| (*s).to_owned()).collect(),
            time_zone: Some(zone.to_owned()),
            ..PeriodicConfig::default()
        };
        let mut at = moment(after);
        let mut out = Vec::new();
        while out.len() < count {
            let Some(next) = config.next(at).unwrap() else { break };
            assert!(next > at, "{specs:?}");
            at = next;
            out.push(text(at));
        }
        out
    }

    #[test]
    fn fields_say_when() {
        let after = "2026-11-21T11:29:30Z"; // a Saturday
        for (spec, expected) in [
            ("30 11 * * *", "2026-11-21T11:30:00Z"),
            ("29 11 * * *", "2026-11-22T11:29:00Z"),
            ("*/15 * * * *", "2026-11-21T11:30:00Z"),
            ("5/20 * * * *", "2026-11-21T11:45:00Z"),
            ("0 0 1 1 *", "2027-01-01T00:00:00Z"),
            ("0 12 * * mon-fri", "2026-11-23T12:00:00Z"),
            ("0 12 * * 7", "2026-11-22T12:00:00Z"),
            ("0 0 13 * fri", "2026-11-27T00:00:00Z"),
            ("0 0 L * *", "2026-11-30T00:00:00Z"),
            ("0 0 LW * *", "2026-11-30T00:00:00Z"),
            ("0 0 29W * *", "2026-11-30T00:00:00Z"),
            ("0 0 28W * *", "2026-11-27T00:00:00Z"),
            ("0 0 * * 5L", "2026-11-27T00:00:00Z"),
            ("5 4 * * SUN#2", "2026-12-13T04:05:00Z"),
            ("0 0 29 feb *", "2028-02-29T00:00:00Z"),
            ("15 0 0 1 1 * 2030", "2030-01-01T00:00:15Z"),
            ("0 0 1 1 * 2031", "2031-01-01T00:00:00Z"),
            ("@hourly", "2026-11-21T12:00:00Z"),
            ("@weekly", "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(due(&[spec], "", after, 1), [expected], "{spec}");
        }
        assert_eq!(due(&["0 0 31 2 *"], "", after, 1), Vec::<String>::new(), "a day that never comes");
        assert_eq!(due(&["0 0 1 1 * 1999"], "", after, 1), Vec::<String>::new(), "a year that is over");
    }

    #[test]
    fn periodic_010_of_several_specifications_the_earliest_counts() {
        let all = due(&["0 6 * * *", "30 5 * * *"], "", "2026-11-21T00:00:00Z", 3);
        assert_eq!(all, ["2026-11-21T05:30:00Z", "2026-11-21T06:00:00Z", "2026-11-22T05:30:00Z"]);
    }

    #[test]
    fn periodic_011_times_are_those_of_the_zone() {
        let berlin = due(&["0 9 * * *"], "Europe/Berlin", "2026-03-28T00:00:00Z", 2);
        assert_eq!(berlin, ["2026-03-28T08:00:00Z", "2026-03-29T07:00:00Z"], "clocks went forward in between");
    }

    #[test]
    fn a_time_that_the_clocks_skip_falls_due_an_hour_later() {
        let berlin = due(&["30 2 * * *"], "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(berlin, ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn a_time_that_comes_twice_falls_due_once_unless_every_hour_is_meant() {
        let once = due(&["30 2 * * *"], "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(once, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        let each = due(&["30 * * * *"], "Europe/Berlin", "2026-10-24T23:00:00Z", 4);
        assert_eq!(
            each,
            ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
        );
        let often = due(&["*/20 * * * *"], "Europe/Berlin", "2026-10-25T00:30:00Z", 5);
        let clocks: Vec<&str> = often.iter().map(|at| &at[11..16]).collect();
        assert_eq!(clocks, ["00:40", "01:00", "01:20", "01:40", "02:00"]);
    }

    #[test]
    fn a_specification_that_can_be_read_is_accepted() {
        for good in [
            "0 0 1 1 *",
            "*/15 0-6,12 L jan-mar mon-fri",
            "0 30 4 15W * ? 2030",
            "@hourly",
            "5 4 * * SUN#2",
            "0 0 * * 7",
            "0 0 LW * *",
            "0 0 * * 5L",
            "1 2 3 4 5 2030",
            "* * * * * * * ignored",
        ] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_specification_that_cannot_be_read_says_where() {
        let why = |spec: &str| Schedule::parse(spec).unwrap_err().to_string();
        assert_eq!(why("not cron"), "missing field(s)");
        assert_eq!(why(""), "missing field(s)");
        assert_eq!(why("60 * * * *"), "syntax error in minute field: '60'");
        for bad in ["* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "1,,2 * * * *"]
        {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
        let config = PeriodicConfig { time_zone: Some("Mars/Olympus".into()), ..PeriodicConfig::default() };
        assert_eq!(config.zone().unwrap_err().to_string(), "unknown time zone Mars/Olympus");
    }
}
