//! Lists, tables, ids, times and sizes as people read them. Pure: what to print comes in, text goes out.

use jiff::tz::TimeZone;

/// What an empty cell shows.
pub const NONE: &str = "<none>";
const SHORT_ID: usize = 8;
const SECOND: i64 = 1_000_000_000;

/// Columns padded to their widest cell, two blanks apart. Rows may differ in length. Control characters
/// are shown as `?`, so that a name from the cluster cannot drive the reader's terminal.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|c| cell(c)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|r| r.get(at)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            let pad = width - cell.chars().count() + 2;
            line.extend(std::iter::repeat_n(' ', pad));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

fn cell(text: &str) -> String {
    if text.is_empty() {
        return NONE.to_owned();
    }
    printable(text)
}

/// Text without control characters.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `Name  = value` lines, with the equals signs below each other.
pub fn pairs(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| format!("{name:width$} = {}", cell(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A row of a table.
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// The id as it is shown: eight characters, or all of it with `-verbose`.
pub fn id(id: impl AsRef<str>, verbose: bool) -> String {
    let id = id.as_ref();
    if verbose { id.to_owned() } else { id.get(..SHORT_ID).unwrap_or(id).to_owned() }
}

/// Every line moved to the right.
pub fn indent(text: &str, by: usize) -> String {
    let lines = text.lines().map(|line| if line.is_empty() { String::new() } else { format!("{:by$}{line}", "") });
    lines.collect::<Vec<_>>().join("\n")
}

/// A moment in unix nanoseconds as RFC 3339 with seconds, in the reader's zone.
pub fn stamp(unix_ns: i64, zone: &TimeZone) -> String {
    if unix_ns == 0 {
        return "N/A".to_owned();
    }
    let Ok(moment) = jiff::Timestamp::from_second(unix_ns.div_euclid(SECOND)) else { return "N/A".to_owned() };
    let text = moment.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    text.strip_suffix("+00:00").map_or(text.clone(), |bare| format!("{bare}Z"))
}

/// How long ago, in its two largest units: `5m26s ago`, `2d1h ago`.
pub fn ago(unix_ns: i64, now_ns: i64) -> String {
    const YEAR: i64 = 365 * DAY;
    const MONTH: i64 = 30 * DAY;
    const DAY: i64 = 86_400;
    if unix_ns == 0 {
        return "N/A".to_owned();
    }
    let mut left = (now_ns - unix_ns).max(0) / SECOND;
    let units = [(YEAR, "y"), (MONTH, "mo"), (DAY, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut text = String::new();
    let mut shown = 0;
    for (unit, name) in units {
        let count = left / unit;
        left %= unit;
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
            shown += 1;
        } else if shown > 0 {
            break;
        }
        if shown == 2 {
            break;
        }
    }
    if text.is_empty() { "0s ago".to_owned() } else { format!("{text} ago") }
}

/// A size in binary units, as `6.3 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[allow(clippy::cast_precision_loss)] // shown with two digits
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        v if v.fract() == 0.0 || v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    format!("{} {}", digits.strip_suffix(".0").unwrap_or(&digits), UNITS[unit])
}

/// Megabytes of the wire, which are binary.
pub fn mebibytes(count: i64) -> String {
    bytes(u64::try_from(count).unwrap_or(0) << 20)
}

/// `1 node`, `2 nodes`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Pretty JSON with four blanks, as the reference prints it.
pub fn json(value: &serde_json::Value) -> String {
    use serde::Serialize as _;
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // A value has string keys only and a vector takes every byte.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_cells_say_so() {
        let rows = [row(["ID", "Status"]), row(["a-long-one", ""]), row(["b", "\u{1b}[2J"])];
        assert_eq!(table(&rows), "ID          Status\na-long-one  <none>\nb           ?[2J");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn equals_signs_stand_below_each_other() {
        let rows = [("ID", "x".to_owned()), ("Name", String::new())];
        assert_eq!(pairs(&rows), "ID   = x\nName = <none>");
    }

    #[test]
    fn a_span_is_told_in_its_two_largest_units() {
        let at = |seconds: i64| ago(1, 1 + seconds * SECOND);
        assert_eq!(at(0), "0s ago");
        assert_eq!(at(59), "59s ago");
        assert_eq!(at(326), "5m26s ago");
        assert_eq!(at(3600), "1h ago");
        assert_eq!(at(2 * 86_400 + 3_700), "2d1h ago");
        assert_eq!(at(400 * 86_400), "1y1mo ago");
        assert_eq!(ago(0, 5), "N/A");
    }

    #[test]
    fn a_moment_is_told_in_the_readers_zone() {
        assert_eq!(stamp(1_700_000_000_999_999_999, &TimeZone::UTC), "2023-11-14T22:13:20Z");
        let zone = TimeZone::fixed(jiff::tz::offset(-7));
        assert_eq!(stamp(1_700_000_000_000_000_000, &zone), "2023-11-14T15:13:20-07:00");
    }

    #[test]
    fn sizes_have_three_digits_at_most() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(mebibytes(256), "256 MiB");
        assert_eq!(bytes(6_606_028), "6.30 MiB");
        assert_eq!(mebibytes(8192), "8 GiB");
    }
}
