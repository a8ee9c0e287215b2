//! Whether a launch time specification can be read.
//!
//! 5 to 7 fields: seconds (only with 7), minute, hour, day of month, month, day of week, year (with 6 or
//! 7); what follows the seventh is ignored. A field is a comma list of `*`, numbers, names, ranges, each
//! with an optional `/step`; days also take `L`, `W` and `#`. `@hourly` and its like stand for a whole
//! specification. When a launch falls due is another module's business.

/// A field: its name, its least and greatest number, its names, and the letters days take.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
    extra: &'static str,
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const ALIASES: &[&str] = &["@annually", "@yearly", "@monthly", "@weekly", "@daily", "@hourly"];

const FIELDS: [Field; 7] = [
    Field { name: "second", least: 0, most: 59, names: &[], extra: "" },
    Field { name: "minute", least: 0, most: 59, names: &[], extra: "" },
    Field { name: "hour", least: 0, most: 23, names: &[], extra: "" },
    Field { name: "day-of-month", least: 1, most: 31, names: &[], extra: "lw" },
    Field { name: "month", least: 1, most: 12, names: MONTHS, extra: "" },
    Field { name: "day-of-week", least: 0, most: 7, names: DAYS, extra: "l#" },
    Field { name: "year", least: 1970, most: 2099, names: &[], extra: "" },
];

/// `Err` says why the specification cannot be read.
pub(super) fn check(spec: &str) -> Result<(), String> {
    let spec = spec.trim().to_ascii_lowercase();
    if ALIASES.contains(&spec.as_str()) {
        return Ok(());
    }
    let parts: Vec<&str> = spec.split_ascii_whitespace().take(FIELDS.len()).collect();
    let fields = match parts.len() {
        7 => &FIELDS[..],
        6 => &FIELDS[1..],
        5 => &FIELDS[1..6],
        _ => return Err("missing field(s)".to_owned()),
    };
    for (part, field) in parts.iter().zip(fields) {
        if !part.split(',').all(|item| item_fits(item, field)) {
            return Err(format!("syntax error in {} field: '{part}'", field.name));
        }
    }
    Ok(())
}

fn item_fits(item: &str, field: &Field) -> bool {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    if step.is_some_and(|step| !step.parse::<u32>().is_ok_and(|step| step >= 1 && step <= field.most)) {
        return false;
    }
    if matches!(range, "*" | "?") {
        return true;
    }
    match range.split_once('-') {
        Some((from, to)) => match (number(from, field), number(to, field)) {
            (Some(from), Some(to)) => from <= to,
            _ => false,
        },
        None => number(range, field).is_some() || (step.is_none() && special_fits(range, field)),
    }
}

fn number(text: &str, field: &Field) -> Option<u32> {
    if let Some(at) = field.names.iter().position(|name| text.starts_with(name)) {
        return u32::try_from(at).ok().map(|at| at + field.least);
    }
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (field.least..=field.most).contains(n))
}

/// `L`, `LW`, `15W`, `5L`, `mon#2`.
fn special_fits(text: &str, field: &Field) -> bool {
    let takes = |letter: char| field.extra.contains(letter);
    if (takes('l') && text == "l") || (takes('w') && text == "lw") {
        return true;
    }
    if let Some((day, nth)) = text.split_once('#') {
        return takes('#') && number(day, field).is_some() && nth.parse::<u32>().is_ok_and(|n| (1..=5).contains(&n));
    }
    match (text.strip_suffix('w'), text.strip_suffix('l')) {
        (Some(day), _) => takes('w') && number(day, field).is_some(),
        (_, Some(day)) => takes('#') && number(day, field).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_specification_that_cannot_be_read_says_where() {
        assert_eq!(check("not cron"), Err("missing field(s)".into()));
        assert_eq!(check("").unwrap_err(), "missing field(s)");
        assert_eq!(check("60 * * * *").unwrap_err(), "syntax error in minute field: '60'");
        for bad in ["* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "1,,2 * * * *"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
