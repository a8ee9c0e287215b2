//! Constraints, affinities and spreads, wherever they stand.

use super::problem::{Findings, labelled};
use crate::job::{Affinity, Constraint, Spread};
use crate::status::JobKind;

/// Where a constraint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Job,
    Group,
    Task,
    Device,
}

/// What a left side may ask of a node.
const NODE_TARGETS: [&str; 5] =
    ["${node.unique.id}", "${node.datacenter}", "${node.unique.name}", "${node.class}", "${node.pool}"];
const TARGET_PREFIXES: [&str; 3] = ["${attr.", "${device.", "${meta."];
/// Operands that compare two sides.
const COMPARING: [&str; 9] = ["=", "==", "is", "!=", "not", "<", "<=", ">", ">="];
const SETS: [&str; 3] = ["set_contains", "set_contains_all", "set_contains_any"];
/// Largest program a regular expression may compile to, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Checks a list of constraints, each under its number.
pub(super) fn constraints(list: &[Constraint], at: At, found: &mut Findings) {
    for (i, one) in list.iter().enumerate() {
        found.at(format!("constraint[{i}]")).part(format!("Constraint {} validation failed", i + 1), constraint(one));
        if at == At::Task && is_distinct(&one.operand) {
            found.at(format!("constraint[{i}].operator")).say(format!(
                "Constraint {} has disallowed Operand at task level: {}",
                i + 1,
                one.operand
            ));
        }
    }
}

/// Checks affinities and spreads, each under its number; system jobs may have none.
pub(super) fn scores(affinities: &[Affinity], spreads: &[Spread], kind: Option<JobKind>, found: &mut Findings) {
    let system = kind == Some(JobKind::System);
    if system && !affinities.is_empty() {
        found.at("affinity[0]").say("System jobs may not have an affinity block");
    } else {
        for (i, one) in affinities.iter().enumerate() {
            found.at(format!("affinity[{i}]")).part(format!("Affinity {} validation failed", i + 1), affinity(one));
        }
    }
    if system && !spreads.is_empty() {
        found.at("spread[0]").say("System jobs may not have a spread block");
    } else {
        for (i, one) in spreads.iter().enumerate() {
            found.at(format!("spread[{i}]")).part(format!("Spread {} validation failed", i + 1), spread(one));
        }
    }
}

pub(super) fn is_distinct(operand: &str) -> bool {
    matches!(operand, "distinct_hosts" | "distinct_property")
}

pub(super) fn constraint(one: &Constraint) -> Findings {
    let mut found = Findings::default();
    let (left, right, operand) = (one.l_target.as_str(), one.r_target.as_str(), one.operand.as_str());
    if operand.is_empty() {
        found.say("Missing constraint operand");
    }
    let mut needs_left = true;
    match operand {
        "distinct_hosts" => needs_left = false,
        "distinct_property" => {
            let count = right.parse::<u64>();
            found.at("value").when(!right.is_empty() && !matches!(count, Ok(1..)), || match count {
                Ok(_) => format!("Distinct Property must have an allowed count of 1 or greater: {right:?}"),
                Err(_) => format!("Failed to convert RTarget {right:?} to uint64"),
            });
        }
        "is_set" | "is_not_set" => {
            found.at("value").when(!right.is_empty(), || format!("Operator {operand:?} does not support an RTarget"));
        }
        _ => two_sides(operand, right, "constraint", &mut found),
    }
    found.at("attribute").when(needs_left && left.is_empty(), || {
        format!("No LTarget provided but is required by constraint {operand:?}")
    });
    target(left, &mut found);
    found
}

fn affinity(one: &Affinity) -> Findings {
    let mut found = Findings::default();
    found.when(one.operand.is_empty(), || "Missing affinity operand".into());
    two_sides(&one.operand, &one.r_target, "affinity", &mut found);
    found.at("attribute").when(one.l_target.is_empty(), || "No LTarget provided but is required".into());
    target(&one.l_target, &mut found);
    let weight = one.weight.unwrap_or(0);
    found.at("weight").when(weight == 0, || "Affinity weight cannot be zero".into());
    found.at("weight").when(!(-100..=100).contains(&weight), || {
        format!("Affinity weight must be within the range [-100,100], got {weight}")
    });
    found
}

/// Operands that need a right side which fits them.
fn two_sides(operand: &str, right: &str, what: &str, found: &mut Findings) {
    let reading = match operand {
        "" => return,
        "regexp" => regex::RegexBuilder::new(right)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .err()
            .map(|error| format!("Regular expression failed to compile: {error}")),
        "version" if !right.is_empty() => {
            versions(right, true).err().map(|at| format!("Version {what} is invalid: Malformed constraint: {at}"))
        }
        "semver" if !right.is_empty() => {
            versions(right, false).err().map(|at| format!("Semver {what} is invalid: Malformed constraint: {at}"))
        }
        "version" | "semver" => None,
        _ if SETS.contains(&operand) || COMPARING.contains(&operand) => None,
        _ => {
            let known: Vec<&str> = COMPARING.into_iter().chain(SETS).chain(["regexp", "version", "semver"]).collect();
            found.at("operator").unless_known(operand, &known, || format!("Unknown {what} operator {operand:?}"));
            return;
        }
    };
    found.at("value").when(right.is_empty(), || format!("Operator {operand:?} requires an RTarget"));
    if let Some(text) = reading {
        found.at("value").say(text);
    }
}

/// A comma list of `[operator] version`. The lenient form takes `~>` and any number of segments.
fn versions(text: &str, lenient: bool) -> Result<(), &str> {
    for item in text.split(',').map(str::trim) {
        let version = item.trim_start_matches(['=', '!', '<', '>', '~']);
        let operator = &item[..item.len() - version.len()];
        let known = matches!(operator, "" | "=" | "!=" | "<" | "<=" | ">" | ">=") || (lenient && operator == "~>");
        if !known || !is_version(version.trim(), lenient) {
            return Err(item);
        }
    }
    Ok(())
}

fn is_version(text: &str, lenient: bool) -> bool {
    let text = if lenient { text.strip_prefix('v').unwrap_or(text) } else { text };
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~');
    let segments: Vec<&str> = core.split('.').collect();
    let numbers = segments.iter().all(|s| !s.is_empty() && s.len() < 19 && s.bytes().all(|b| b.is_ascii_digit()));
    numbers && rest.chars().all(is_word) && rest.len() != 1 && (lenient || segments.len() == 3)
}

/// A left side that starts like an interpolation must be one that nodes answer.
fn target(left: &str, found: &mut Findings) {
    if !left.starts_with('$') {
        return;
    }
    let known = NODE_TARGETS.contains(&left)
        || (left.ends_with('}') && TARGET_PREFIXES.iter().any(|prefix| left.starts_with(prefix)));
    found.at("attribute").when(!known, || format!("unsupported attribute {left:?}"));
}

fn spread(one: &Spread) -> Findings {
    let mut found = Findings::default();
    found.at("attribute").when(one.attribute.is_empty(), || "Missing spread attribute".into());
    let weight = one.weight.unwrap_or(0);
    found
        .at("weight")
        .when(!(1..=100).contains(&weight), || "Spread block must have a positive weight from 0 to 100".into());
    let (mut seen, mut sum) = (std::collections::BTreeSet::new(), 0_u32);
    for target in &one.spread_target {
        let path = labelled("target", &target.value);
        found
            .at(format!("{path}[1]"))
            .when(!seen.insert(&target.value), || format!("Spread target value {:?} already defined", target.value));
        found.at(format!("{path}.percent")).when(target.percent > 100, || {
            format!("Spread target percentage for value {:?} must be between 0 and 100", target.value)
        });
        sum += u32::from(target.percent);
    }
    found.when(sum > 100, || format!("Sum of spread target percentages must not be greater than 100%; got {sum}%"));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(left: &str, operand: &str, right: &str) -> Vec<String> {
        let one = Constraint { l_target: left.into(), r_target: right.into(), operand: operand.into() };
        constraint(&one).into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_constraint_that_a_node_can_answer_is_accepted() {
        for (left, operand, right) in [
            ("${attr.kernel.name}", "=", "linux"),
            ("${node.pool}", "!=", "x"),
            ("a literal", "is", "x"),
            ("${meta.rack}", "is_set", ""),
            ("${attr.cpu}", "regexp", "^(amd|intel)$"),
            ("${attr.v}", "version", ">= 1.2, < v2, ~> 1.2.3.4-beta"),
            ("${attr.v}", "semver", ">= 1.6.3-dev"),
            ("", "distinct_hosts", "true"),
            ("${meta.rack}", "distinct_property", "2"),
        ] {
            assert_eq!(texts(left, operand, right), Vec::<String>::new(), "{left} {operand} {right}");
        }
    }

    #[test]
    fn a_constraint_that_no_node_can_answer_is_refused() {
        assert_eq!(texts("${node.region}", "=", "x"), ["unsupported attribute \"${node.region}\""]);
        for (left, operand, right) in [
            ("${attr.x}", "", "x"),
            ("${attr.x}", "resembles", "x"),
            ("${attr.x}", "regexp", "("),
            ("${attr.x}", "version", "=> 1"),
            ("${attr.x}", "semver", "1.2"),
            ("${attr.x}", "is_set", "x"),
            ("${attr.x}", "distinct_property", "0"),
            ("${attr.x}", "=", ""),
            ("", "=", "x"),
            ("${attr.x", "=", "x"),
        ] {
            assert_eq!(
                texts(left, operand, right).len(),
                1,
                "{left} {operand} {right}: {:?}",
                texts(left, operand, right)
            );
        }
    }
}
