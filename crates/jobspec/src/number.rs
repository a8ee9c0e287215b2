//! Numbers as job files mean them: decimal, so that `0.1 + 0.2` is `0.3`.
//!
//! A number is an exact decimal (`mantissa / 10^scale`) as long as it fits 38 digits, otherwise
//! the nearest `f64`. It is never infinite and never NaN: an operation that would make it so
//! answers `None`.

use std::cmp::Ordering;
use std::fmt;

/// Digits after the point kept exactly.
const SCALE_MAX: u32 = 30;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Exact { mantissa: i128, scale: u32 },
    Approx(f64),
}

impl Number {
    pub fn int(value: i128) -> Self {
        Number::Exact { mantissa: value, scale: 0 }
    }

    pub fn count(value: usize) -> Self {
        Number::int(i128::try_from(value).unwrap_or(i128::MAX))
    }

    pub fn float(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // The shortest decimal that reads back as this float is what its writer meant.
        Number::parse(&format!("{value}")).or(Some(Number::Approx(value)))
    }

    /// Reads `12`, `-1.5`, `2e-3`. No other notation.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.len() > 4096 || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        Number::parse_exact(text).or_else(|| text.parse().ok().filter(|f: &f64| f.is_finite()).map(Number::Approx))
    }

    fn parse_exact(text: &str) -> Option<Self> {
        let (digits, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = i64::try_from(fraction.len()).ok()? - i64::from(exponent);
        if scale < 0 {
            let power = 10i128.checked_pow(u32::try_from(-scale).ok()?)?;
            return Some(Number::int(mantissa.checked_mul(power)?));
        }
        let number = Number::Exact { mantissa, scale: u32::try_from(scale).ok()? }.reduced();
        matches!(number, Number::Exact { scale, .. } if scale <= SCALE_MAX).then_some(number)
    }

    fn reduced(self) -> Self {
        let Number::Exact { mut mantissa, mut scale } = self else { return self };
        if mantissa == 0 {
            return Number::int(0);
        }
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        Number::Exact { mantissa, scale }
    }

    pub fn as_f64(self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss)]
            Number::Exact { mantissa, scale: 0 } => mantissa as f64,
            Number::Exact { .. } => self.to_string().parse().unwrap_or(0.0),
            Number::Approx(value) => value,
        }
    }

    /// The value, when it is whole and fits.
    pub fn as_int(self) -> Option<i128> {
        match self {
            Number::Exact { mantissa, scale: 0 } => Some(mantissa),
            Number::Exact { .. } => None,
            #[allow(clippy::cast_possible_truncation)]
            Number::Approx(value) => (value.fract() == 0.0 && value.abs() < 1e30).then_some(value as i128),
        }
    }

    fn aligned(self, other: Self) -> Option<(i128, i128, u32)> {
        let (Number::Exact { mantissa: a, scale: sa }, Number::Exact { mantissa: b, scale: sb }) = (self, other) else {
            return None;
        };
        let scale = sa.max(sb);
        Some((a.checked_mul(10i128.checked_pow(scale - sa)?)?, b.checked_mul(10i128.checked_pow(scale - sb)?)?, scale))
    }

    fn by(
        self,
        other: Self,
        exact: impl Fn(i128, i128) -> Option<i128>,
        approx: impl Fn(f64, f64) -> f64,
    ) -> Option<Self> {
        if let Some((a, b, scale)) = self.aligned(other)
            && let Some(mantissa) = exact(a, b)
        {
            return Some(Number::Exact { mantissa, scale }.reduced());
        }
        let value = approx(self.as_f64(), other.as_f64());
        value.is_finite().then_some(Number::Approx(value))
    }

    pub fn add(self, other: Self) -> Option<Self> {
        self.by(other, i128::checked_add, |a, b| a + b)
    }

    pub fn sub(self, other: Self) -> Option<Self> {
        self.by(other, i128::checked_sub, |a, b| a - b)
    }

    pub fn mul(self, other: Self) -> Option<Self> {
        if let (Number::Exact { mantissa: a, scale: sa }, Number::Exact { mantissa: b, scale: sb }) = (self, other)
            && let Some(mantissa) = a.checked_mul(b)
        {
            let product = Number::Exact { mantissa, scale: sa + sb }.reduced();
            if matches!(product, Number::Exact { scale, .. } if scale <= SCALE_MAX) {
                return Some(product);
            }
        }
        let value = self.as_f64() * other.as_f64();
        value.is_finite().then_some(Number::Approx(value))
    }

    /// `None` for a zero divisor.
    pub fn div(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        if let Some((a, b, _)) = self.aligned(other)
            && let Some(exact) = exact_quotient(a, b)
        {
            return Some(exact);
        }
        let value = self.as_f64() / other.as_f64();
        value.is_finite().then_some(Number::Approx(value))
    }

    /// Remainder with the sign of the dividend; `None` for a zero divisor.
    pub fn rem(self, other: Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        self.by(other, i128::checked_rem, |a, b| a % b)
    }

    pub fn neg(self) -> Self {
        match self {
            Number::Exact { mantissa, scale } => match mantissa.checked_neg() {
                Some(mantissa) => Number::Exact { mantissa, scale },
                None => Number::Approx(-self.as_f64()),
            },
            Number::Approx(value) => Number::Approx(-value),
        }
    }

    pub fn abs(self) -> Self {
        if self.cmp(&Number::int(0)) == Ordering::Less { self.neg() } else { self }
    }

    pub fn is_zero(self) -> bool {
        match self {
            Number::Exact { mantissa, .. } => mantissa == 0,
            Number::Approx(value) => value == 0.0,
        }
    }

    pub fn floor(self) -> Self {
        match self {
            Number::Exact { mantissa, scale } => {
                Number::int(10i128.checked_pow(scale).map_or(0, |power| mantissa.div_euclid(power)))
            }
            Number::Approx(value) => Number::Approx(value.floor()),
        }
    }

    pub fn ceil(self) -> Self {
        self.neg().floor().neg()
    }
}

/// Long division, when it ends within the digits we keep.
fn exact_quotient(a: i128, b: i128) -> Option<Number> {
    let mut mantissa = a.checked_div(b)?;
    let mut rest = a.checked_rem(b)?;
    let mut scale = 0;
    while rest != 0 {
        if scale == SCALE_MAX {
            return None;
        }
        rest = rest.checked_mul(10)?;
        mantissa = mantissa.checked_mul(10)?.checked_add(rest / b)?;
        rest %= b;
        scale += 1;
    }
    Some(Number::Exact { mantissa, scale }.reduced())
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.aligned(*other) {
            Some((a, b, _)) => a.cmp(&b),
            None => self.as_f64().total_cmp(&other.as_f64()),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Exact { mantissa, scale: 0 } => write!(f, "{mantissa}"),
            Number::Exact { mantissa, scale } => {
                let scale = *scale as usize;
                let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                write!(f, "{}{whole}.{fraction}", if *mantissa < 0 { "-" } else { "" })
            }
            Number::Approx(value) => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn decimals_add_as_decimals() {
        assert_eq!(n("0.1").add(n("0.2")).unwrap().to_string(), "0.3");
        assert_eq!(n("1").div(n("8")).unwrap().to_string(), "0.125");
        assert_eq!(n("-1.50").to_string(), "-1.5");
        assert_eq!(n("1e3").to_string(), "1000");
        assert_eq!(n("18446744073709551616").to_string(), "18446744073709551616");
    }

    #[test]
    fn nothing_is_ever_infinite() {
        assert!(n("1").div(n("0")).is_none());
        assert!(n("7").rem(n("0")).is_none());
        assert!(n("1e308").mul(n("1e308")).is_none());
        assert!(Number::parse("1e999").is_none());
        assert!(Number::parse("nan").is_none() && Number::parse("inf").is_none() && Number::parse("").is_none());
    }

    #[test]
    fn rounding_goes_the_named_way_for_negatives() {
        assert_eq!(n("-1.5").floor(), n("-2"));
        assert_eq!(n("-1.5").ceil(), n("-1"));
        assert_eq!(n("-7").rem(n("3")).unwrap(), n("-1"));
    }

    #[test]
    fn extreme_mantissas_do_not_overflow() {
        let big = Number::int(i128::MIN);
        assert!(big.neg().as_f64() > 0.0);
        assert!(big.div(Number::int(-1)).is_some());
        assert!(big.rem(Number::int(-1)).is_some());
        assert!(big.mul(big).is_some());
        let _ = (big.floor(), big.ceil(), big.abs(), big.to_string());
    }
}
