//! Timestamps: RFC 3339 in, arithmetic and formatting. No clock is read.

use super::{Context, Failure, Function, Outcome, Want, param, text};
use crate::duration;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    Function {
        name: "formatdate",
        params: &[param("format", Want::Text), param("time", Want::Text)],
        rest: None,
        body: formatdate,
    },
    Function {
        name: "timeadd",
        params: &[param("timestamp", Want::Text), param("duration", Want::Text)],
        rest: None,
        body: timeadd,
    },
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DAY_S: i64 = 86_400;

/// A moment as its zone writes it.
struct Moment {
    /// Seconds since 1970 on the clock of the zone.
    local_s: i64,
    nanos: i64,
    zone_min: i64,
}

/// Days since 1970-01-01. Source: H. Hinnant, "chrono-compatible low-level date algorithms".
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn parse(given: &str) -> Option<Moment> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        given.get(range).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
    };
    let mark = |at: usize, one_of: &[u8]| given.as_bytes().get(at).is_some_and(|byte| one_of.contains(byte));
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let shaped = mark(4, b"-") && mark(7, b"-") && mark(10, b"T") && mark(13, b":") && mark(16, b":");
    let days_of_month = days_from_civil(year + month / 12, month % 12 + 1, 1) - days_from_civil(year, month, 1);
    let sane = (1..=12).contains(&month) && day >= 1 && day <= days_of_month && hour < 24 && minute < 60 && second < 60;
    if !shaped || !sane {
        return None;
    }
    let mut rest = given.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        if end == 0 {
            return None;
        }
        nanos = format!("{:0<9}", &fraction[..end]).get(..9)?.parse().ok()?;
        rest = &fraction[end..];
    }
    let zone_min = if rest == "Z" { 0 } else { zone(rest)? };
    let local_s = days_from_civil(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
    Some(Moment { local_s, nanos, zone_min })
}

/// `+hh:mm` as minutes.
fn zone(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let part = |part: &str, max: i64| -> Option<i64> {
        let value = part.parse().ok()?;
        (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()) && value < max).then_some(value)
    };
    Some(sign * (part(hours, 24)? * 60 + part(minutes, 60)?))
}

fn moment(args: &[Value], i: usize) -> Result<Moment, Failure> {
    parse(text(args, i))
        .ok_or_else(|| Failure::Argument(i, format!("not a valid RFC3339 timestamp: {:?}", text(args, i))))
}

fn offset(zone_min: i64, colon: bool) -> String {
    let (sign, zone) = if zone_min < 0 { ('-', -zone_min) } else { ('+', zone_min) };
    format!("{sign}{:02}{}{:02}", zone / 60, if colon { ":" } else { "" }, zone % 60)
}

fn timeadd(_: &Context<'_>, args: &[Value]) -> Outcome {
    let at = moment(args, 0)?;
    let added = duration::parse(text(args, 1)).map_err(|why| Failure::Argument(1, why))?;
    let nanos = i128::from(at.local_s) * 1_000_000_000 + i128::from(at.nanos) + i128::from(added);
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).map_err(|_| "the result is out of range")?;
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_S));
    let of_day = seconds.rem_euclid(DAY_S);
    let zone = if at.zone_min == 0 { "Z".to_owned() } else { offset(at.zone_min, true) };
    Ok(Value::string(format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{zone}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )))
}

fn formatdate(_: &Context<'_>, args: &[Value]) -> Outcome {
    let at = moment(args, 1)?;
    let mut out = String::new();
    let mut rest = text(args, 0);
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            rest = quoted(&rest[1..], &mut out)?;
            continue;
        }
        let run = rest.find(|c: char| c != first).unwrap_or(rest.len());
        let token = &rest[..run];
        rest = &rest[run..];
        if !first.is_ascii_alphabetic() {
            out.push_str(token);
            continue;
        }
        out.push_str(&field(token, &at).map_err(|why| Failure::Argument(0, why))?);
    }
    Ok(Value::string(out))
}

/// Copies a literal up to its closing quote; two quotes are one.
fn quoted<'a>(mut rest: &'a str, out: &mut String) -> Result<&'a str, Failure> {
    loop {
        let end = rest.find('\'').ok_or_else(|| Failure::Argument(0, "unterminated literal '".to_owned()))?;
        out.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                out.push('\'');
                rest = after;
            }
            None => return Ok(rest),
        }
    }
}

fn field(token: &str, at: &Moment) -> Result<String, String> {
    let days = at.local_s.div_euclid(DAY_S);
    let of_day = at.local_s.rem_euclid(DAY_S);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let index = |value: i64| usize::try_from(value).unwrap_or(0);
    let month_name = MONTHS[index(month - 1) % 12];
    let day_name = DAYS[index((days + 4).rem_euclid(7)) % 7];
    Ok(match token {
        "YYYY" => format!("{year:04}"),
        "YY" => format!("{:02}", year.rem_euclid(100)),
        "MMMM" => month_name.to_owned(),
        "MMM" => month_name[..3].to_owned(),
        "MM" => format!("{month:02}"),
        "M" => month.to_string(),
        "DD" => format!("{day:02}"),
        "D" => day.to_string(),
        "EEEE" => day_name.to_owned(),
        "EEE" => day_name[..3].to_owned(),
        "hh" => format!("{hour:02}"),
        "h" => hour.to_string(),
        "HH" => format!("{twelve:02}"),
        "H" => twelve.to_string(),
        "AA" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
        "aa" => if hour < 12 { "am" } else { "pm" }.to_owned(),
        "mm" => format!("{minute:02}"),
        "m" => minute.to_string(),
        "ss" => format!("{second:02}"),
        "s" => second.to_string(),
        "ZZZZZ" => offset(at.zone_min, true),
        "ZZZZ" => offset(at.zone_min, false),
        "ZZZ" if at.zone_min == 0 => "UTC".to_owned(),
        "ZZZ" => offset(at.zone_min, false),
        "Z" if at.zone_min == 0 => "Z".to_owned(),
        "Z" => offset(at.zone_min, true),
        other => return Err(format!("invalid date format verb {other:?}")),
    })
}
