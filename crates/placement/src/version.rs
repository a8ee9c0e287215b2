//! Version constraints: `version` (lenient, with `~>` and opt-in pre-releases) and `semver` (plain
//! ordering of pre-releases, no `~>`).

use std::cmp::Ordering;

/// Longest version text and most parts of a constraint list that are looked at.
const TEXT_MAX: usize = 256;
const PARTS_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    segments: Vec<u64>,
    /// How many segments the text had; the rest of three are zeros.
    given: usize,
    pre: Vec<Ident>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ident {
    Number(u64),
    Text(String),
}

impl Ident {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

impl Version {
    /// Reads `1.2.3-rc.1+build`, with an optional `v` and any number of segments.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > TEXT_MAX {
            return None;
        }
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(version, _build)| version);
        let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numbers, rest) = text.split_at(digits_end);
        let mut segments = Vec::with_capacity(3);
        for part in numbers.split('.') {
            segments.push(part.parse().ok()?);
        }
        let given = segments.len();
        while segments.len() < 3 {
            segments.push(0);
        }
        let pre = match rest.strip_prefix('-').or(if rest.is_empty() { None } else { Some(rest) }) {
            None => Vec::new(),
            Some(pre) => pre.split('.').map(ident).collect::<Option<_>>()?,
        };
        Some(Self { segments, given, pre })
    }

    fn cmp_base(&self, other: &Self) -> Ordering {
        let len = self.segments.len().max(other.segments.len());
        let at = |v: &Self, i: usize| v.segments.get(i).copied().unwrap_or(0);
        (0..len).map(|i| at(self, i).cmp(&at(other, i))).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.cmp_base(other).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.pre.iter().zip(&other.pre);
                let first = pairs.map(|(a, b)| a.cmp(b)).find(|o| o.is_ne());
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        })
    }
}

fn ident(text: &str) -> Option<Ident> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !ok {
        return None;
    }
    Some(text.parse().map_or_else(|_| Ident::Text(text.to_owned()), Ident::Number))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Pessimistic,
}

/// A parsed list of requirements, all of which must hold.
#[derive(Clone, Debug)]
pub(crate) struct Requirement {
    parts: Vec<(Op, Version)>,
    semver: bool,
}

impl Requirement {
    /// `None` when the text is no requirement; such a constraint never holds.
    pub(crate) fn parse(text: &str, semver: bool) -> Option<Self> {
        let mut parts = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let ops = [
                ("!=", Op::NotEqual),
                (">=", Op::GreaterEqual),
                ("<=", Op::LessEqual),
                ("~>", Op::Pessimistic),
                ("=", Op::Equal),
                (">", Op::Greater),
                ("<", Op::Less),
            ];
            let (op, rest) = ops
                .iter()
                .find_map(|(sign, op)| part.strip_prefix(sign).map(|rest| (*op, rest)))
                .unwrap_or((Op::Equal, part));
            if semver && op == Op::Pessimistic || parts.len() == PARTS_MAX {
                return None;
            }
            parts.push((op, Version::parse(rest)?));
        }
        Some(Self { parts, semver })
    }

    pub(crate) fn holds(&self, version: &Version) -> bool {
        self.parts.iter().all(|(op, bound)| {
            let opted_in = version.pre.is_empty() || !bound.pre.is_empty() && version.cmp_base(bound).is_eq();
            let ordered = self.semver || opted_in;
            let order = version.compare(bound);
            match op {
                Op::Equal => order.is_eq(),
                Op::NotEqual => order.is_ne(),
                Op::Greater => ordered && order.is_gt(),
                Op::GreaterEqual => ordered && order.is_ge(),
                Op::Less => ordered && order.is_lt(),
                Op::LessEqual => ordered && order.is_le(),
                Op::Pessimistic => ordered && order.is_ge() && within(version, bound),
            }
        })
    }
}

/// All segments the bound gives but its last are the same.
fn within(version: &Version, bound: &Version) -> bool {
    let fixed = bound.given.saturating_sub(1);
    version.segments.len() >= fixed && version.segments[..fixed] == bound.segments[..fixed]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(version: &str, requirement: &str, semver: bool) -> bool {
        let parsed = Version::parse(version).zip(Requirement::parse(requirement, semver));
        parsed.is_some_and(|(version, requirement)| requirement.holds(&version))
    }

    /// covers: feasible-018
    #[test]
    fn feasible_018_version_needs_an_opt_in_for_pre_releases_and_semver_orders_them() {
        let cases = [
            ("1.2.3", "~> 1.0", true),
            ("1.2.3", "~> 1.0, < 1.4", true),
            ("2.0.1", "~> 1.0", false),
            ("1.2.9", "~> 1.2.3", true),
            ("1.3.0", "~> 1.2.3", false),
            ("1.4", "> 0.1, < 1.0", false),
            ("1.7.0-alpha1", ">= 1.6.0-beta1", false),
            ("1.7.0-alpha1", ">= 1.7.0-alpha0", true),
            ("1.3.0-beta1", ">= 0.6.1", false),
            ("1.7.0+ent", ">= 1.7.0", true),
            ("v1.2", "1.2.0", true),
            ("1.2.3", "!= 1.2.4", true),
            ("foo", "> 1.0", false),
            ("1.0", "foo", false),
        ];
        for (version, requirement, expect) in cases {
            assert_eq!(holds(version, requirement, false), expect, "{version} {requirement}");
        }
        let cases = [
            ("1.3.0-beta1", ">= 0.6.1", true),
            ("1.7.0-alpha1", ">= 1.7.0", false),
            ("1.7.0-beta.11", "> 1.7.0-beta.2", true),
            ("1.7.0-rc.1", "> 1.7.0-beta.2", true),
            ("1.2.3", "~> 1.0", false),
            ("1.7.0+ent", "= 1.7.0", true),
        ];
        for (version, requirement, expect) in cases {
            assert_eq!(holds(version, requirement, true), expect, "semver {version} {requirement}");
        }
    }
}
