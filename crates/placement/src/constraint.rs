//! Constraints: may this node run it? One operator on two targets, each a literal or a property of the
//! node. Parsed once (patterns, versions), evaluated many times; a malformed one never holds.

use model::Node;
use model::job::Constraint;
use regex::Regex;

use crate::version::{Requirement, Version};

/// Compiled size a pattern may have, bytes.
const PATTERN_SIZE_MAX: usize = 1 << 20;

pub const DISTINCT_HOSTS: &str = "distinct_hosts";
pub const DISTINCT_PROPERTY: &str = "distinct_property";

/// One side of a constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Literal(String),
    NodeId,
    NodeName,
    Datacenter,
    Class,
    Pool,
    Attribute(String),
    Meta(String),
    Unknown,
}

impl Target {
    pub(crate) fn parse(text: &str) -> Self {
        let Some(name) = text.strip_prefix("${") else { return Self::Literal(text.to_owned()) };
        let Some(name) = name.strip_suffix('}') else { return Self::Unknown };
        match name {
            "node.unique.id" => Self::NodeId,
            "node.unique.name" => Self::NodeName,
            "node.datacenter" => Self::Datacenter,
            "node.class" => Self::Class,
            "node.pool" => Self::Pool,
            _ => match name.split_once('.') {
                Some(("attr", key)) => Self::Attribute(key.to_owned()),
                Some(("meta", key)) => Self::Meta(key.to_owned()),
                _ => Self::Unknown,
            },
        }
    }

    pub(crate) fn resolve<'a>(&'a self, node: &'a Node) -> Option<&'a str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::NodeId => Some(node.id.as_str()),
            Self::NodeName => Some(&node.name),
            Self::Datacenter => Some(&node.datacenter),
            Self::Class => Some(&node.node_class),
            Self::Pool => Some(&node.node_pool),
            Self::Attribute(key) => node.attributes.get(key).map(String::as_str),
            Self::Meta(key) => node.meta.get(key).map(String::as_str),
            Self::Unknown => None,
        }
    }
}

/// True when a target differs between nodes of one computed class.
pub(crate) fn escapes(target: &str) -> bool {
    ["${unique.", "${node.unique.", "${attr.unique.", "${meta.unique."].iter().any(|p| target.starts_with(p))
}

/// What is asked of two sides.
#[derive(Clone, Debug)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Order(fn(std::cmp::Ordering) -> bool),
    IsSet,
    IsNotSet,
    Pattern(Option<Regex>),
    Version(Option<Requirement>),
    SetContainsAll,
    SetContainsAny,
    /// Decided elsewhere, over the allocations of a job.
    Distinct,
    Unknown,
}

impl Operator {
    pub(crate) fn parse(operand: &str, right: &str) -> Self {
        match operand {
            "" | "=" | "==" | "is" => Self::Equal,
            "!=" | "not" => Self::NotEqual,
            "<" => Self::Order(std::cmp::Ordering::is_lt),
            "<=" => Self::Order(std::cmp::Ordering::is_le),
            ">" => Self::Order(std::cmp::Ordering::is_gt),
            ">=" => Self::Order(std::cmp::Ordering::is_ge),
            "is_set" => Self::IsSet,
            "is_not_set" => Self::IsNotSet,
            "regexp" => Self::Pattern(pattern(right)),
            "version" => Self::Version(Requirement::parse(right, false)),
            "semver" => Self::Version(Requirement::parse(right, true)),
            "set_contains" | "set_contains_all" => Self::SetContainsAll,
            "set_contains_any" => Self::SetContainsAny,
            DISTINCT_HOSTS | DISTINCT_PROPERTY => Self::Distinct,
            _ => Self::Unknown,
        }
    }
}

/// Whether there is an operator of that name.
pub(crate) fn is_operator(operand: &str) -> bool {
    !matches!(Operator::parse(operand, ""), Operator::Unknown)
}

/// A constraint (or an affinity's condition) ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    left: Target,
    right: Target,
    operator: Operator,
    /// True when nodes of one computed class may answer differently.
    pub(crate) escaped: bool,
    /// `L op R`, the key under which metrics count it.
    pub(crate) text: String,
}

impl Check {
    pub(crate) fn of(constraint: &Constraint) -> Self {
        Self::new(&constraint.l_target, &constraint.operand, &constraint.r_target)
    }

    pub(crate) fn new(left: &str, operand: &str, right: &str) -> Self {
        Self {
            left: Target::parse(left),
            right: Target::parse(right),
            operator: Operator::parse(operand, right),
            escaped: escapes(left) || escapes(right),
            text: format!("{left} {operand} {right}"),
        }
    }

    pub(crate) fn holds(&self, node: &Node) -> bool {
        compare_text(&self.operator, self.left.resolve(node), self.right.resolve(node))
    }
}

/// Whether an operator holds between two texts, each of which may be missing.
pub(crate) fn compare_text(operator: &Operator, left: Option<&str>, right: Option<&str>) -> bool {
    match operator {
        Operator::Equal => left.is_some() && left == right,
        Operator::NotEqual => left != right,
        Operator::Order(wanted) => left.zip(right).is_some_and(|(l, r)| wanted(compare(l, r))),
        Operator::IsSet => left.is_some(),
        Operator::IsNotSet => left.is_none(),
        Operator::Pattern(pattern) => left.zip(pattern.as_ref()).is_some_and(|(text, p)| p.is_match(text)),
        Operator::Version(requirement) => {
            let version = left.and_then(Version::parse);
            version.zip(requirement.as_ref()).is_some_and(|(v, r)| r.holds(&v))
        }
        Operator::SetContainsAll => left.zip(right).is_some_and(|(l, r)| items(r).all(|i| items(l).any(|x| x == i))),
        Operator::SetContainsAny => left.zip(right).is_some_and(|(l, r)| items(r).any(|i| items(l).any(|x| x == i))),
        Operator::Distinct => true,
        Operator::Unknown => false,
    }
}

fn pattern(text: &str) -> Option<Regex> {
    regex::RegexBuilder::new(text).size_limit(PATTERN_SIZE_MAX).build().ok()
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// As integers when both are, else as floats when both are, else as bytes.
fn compare(left: &str, right: &str) -> std::cmp::Ordering {
    if let (Ok(l), Ok(r)) = (left.parse::<i64>(), right.parse::<i64>()) {
        return l.cmp(&r);
    }
    if let (Ok(l), Ok(r)) = (left.parse::<f64>(), right.parse::<f64>()) {
        // Not a number is above everything, so that no order operator but `>` lets it pass.
        return l.partial_cmp(&r).unwrap_or(std::cmp::Ordering::Greater);
    }
    left.as_bytes().cmp(right.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let mut node = Node { id: "n-1".into(), name: "host-1".into(), datacenter: "dc1".into(), ..Node::default() };
        node.node_class = "large".into();
        node.node_pool = "gpu".into();
        node.attributes.insert("kernel.name".into(), "linux".into());
        node.attributes.insert("cpu.numcores".into(), "8".into());
        node.attributes.insert("list".into(), "a, b ,c".into());
        node.meta.insert("rack".into(), "r7".into());
        node
    }

    fn holds(left: &str, op: &str, right: &str) -> bool {
        Check::new(left, op, right).holds(&node())
    }

    /// covers: feasible-015
    #[test]
    fn feasible_015_a_target_is_a_literal_or_a_property_of_the_node() {
        let cases = [
            ("plain", Some("plain")),
            ("${node.unique.id}", Some("n-1")),
            ("${node.unique.name}", Some("host-1")),
            ("${node.datacenter}", Some("dc1")),
            ("${node.class}", Some("large")),
            ("${node.pool}", Some("gpu")),
            ("${attr.kernel.name}", Some("linux")),
            ("${meta.rack}", Some("r7")),
            ("${attr.rack}", None),
            ("${meta.}", None),
            ("${node.region}", None),
            ("${env.HOME}", None),
            ("${attr.kernel.name", None),
        ];
        for (text, expect) in cases {
            assert_eq!(Target::parse(text).resolve(&node()), expect, "{text}");
        }
    }

    /// covers: feasible-016
    #[test]
    fn feasible_016_a_missing_side_fails_equality_and_passes_inequality() {
        assert!(!holds("${attr.none}", "=", "x"));
        assert!(!holds("${attr.none}", "=", "${attr.nor}"));
        assert!(holds("${attr.none}", "!=", "x"));
        assert!(!holds("${attr.none}", "!=", "${attr.nor}"));
        assert!(holds("${attr.kernel.name}", "is_set", ""));
        assert!(!holds("${attr.none}", "is_set", ""));
        assert!(holds("${attr.none}", "is_not_set", ""));
        assert!(!holds("${attr.none}", "<", "5"));
        assert!(!holds("${attr.kernel.name}", "resembles", "linux"));
    }

    /// covers: feasible-017
    #[test]
    fn feasible_017_order_is_by_integer_then_float_then_bytes() {
        assert!(holds("9", "<", "10"));
        assert!(!holds("9.5", ">", "10"));
        assert!(holds("v9", ">", "v10"));
        assert!(holds("${attr.cpu.numcores}", ">=", "8"));
        assert!(!holds("${attr.cpu.numcores}", ">", "8.5"));
        assert!(holds("10", "<", "a"));
    }

    /// covers: feasible-019
    #[test]
    fn feasible_019_patterns_are_unanchored_and_set_items_are_trimmed() {
        assert!(holds("${attr.kernel.name}", "regexp", "inu"));
        assert!(!holds("${attr.kernel.name}", "regexp", "^inu"));
        assert!(!holds("${attr.kernel.name}", "regexp", "(("));
        assert!(holds("${attr.list}", "set_contains", "c,  a"));
        assert!(!holds("${attr.list}", "set_contains_all", "a,d"));
        assert!(holds("${attr.list}", "set_contains_any", "d, b"));
        assert!(!holds("${attr.list}", "set_contains_any", "d"));
    }

    /// covers: eligibility-005
    #[test]
    fn eligibility_005_a_unique_target_escapes_the_class() {
        for target in ["${node.unique.id}", "${attr.unique.hostname}", "${meta.unique.x}", "${unique.y}"] {
            assert!(Check::new(target, "=", "x").escaped, "{target}");
            assert!(Check::new("x", "=", target).escaped, "{target}");
        }
        assert!(!Check::new("${attr.kernel.name}", "=", "linux").escaped);
    }
}
