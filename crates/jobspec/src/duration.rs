//! Durations as text: `1h30m`, `-1.5s`, `0`. Units are ns, us (µs), ms, s, m, h; there is no day.

/// Nanoseconds, or the reference's words for what is wrong.
pub(crate) fn parse(given: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {given:?}");
    let unsigned = given.strip_prefix(['-', '+']).unwrap_or(given);
    if unsigned == "0" {
        return Ok(0);
    }
    if unsigned.is_empty() || given.len() > 256 {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.is_empty() || number == "." || number.matches('.').count() > 1 || number.len() > 40 {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {given:?}"));
        }
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {given:?}")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let fraction = &fraction[..fraction.len().min(18)];
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| invalid())? };
        let below = part * scale / 10i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        total = whole
            .checked_mul(scale)
            .and_then(|whole| whole.checked_add(below))
            .and_then(|sum| sum.checked_add(total))
            .filter(|sum| *sum <= i128::from(i64::MAX) + 1)
            .ok_or_else(invalid)?;
        rest = after;
    }
    if given.starts_with('-') {
        total = -total;
    }
    i64::try_from(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_chain_and_fractions_count() {
        assert_eq!(parse("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse("-1.5s"), Ok(-1_500_000_000));
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("10µs"), Ok(10_000));
        assert_eq!(parse(".5ms"), Ok(500_000));
    }

    #[test]
    fn what_is_wrong_is_said_in_the_known_words() {
        assert_eq!(parse("1d").unwrap_err(), "time: unknown unit \"d\" in duration \"1d\"");
        assert_eq!(parse("10").unwrap_err(), "time: missing unit in duration \"10\"");
        assert_eq!(parse("").unwrap_err(), "time: invalid duration \"\"");
        assert_eq!(parse("x").unwrap_err(), "time: invalid duration \"x\"");
        assert_eq!(parse("9999999999h").unwrap_err(), "time: invalid duration \"9999999999h\"");
        assert!(parse("1.2.3s").is_err() && parse("-").is_err() && parse(".s").is_err());
    }
}
