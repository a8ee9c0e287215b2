//! The filter language of lists: `Status == "running" and Meta.team in "web,db"`.
//!
//! An expression is parsed once and asked of each row, as the wire shows it; only those of its fields that the
//! expression names are written for that. What a row's type has is read from the type itself ([`Schema::of`]), so a field that the wire leaves out when empty is
//! still known, and a field that no row has is an error rather than "false".
//!
//! ```text
//!   or  ← and  { "or" and }
//!   and ← not  { "and" not }
//!   not ← "not" not | "(" or ")" | match
//!   match ← selector ( "==" | "!=" ) value          selector ← Name { .Name | .0 | ["key"] } | "/A/B"
//!         | selector [ "not" ] "contains" value     value ← "text" | `text` | number | name
//!         | selector [ "not" ] "matches" value
//!         | selector "is" [ "not" ] "empty"
//!         | value [ "not" ] "in" selector
//! ```
//!
//! Bounds: [`BYTES_MAX`], [`DEPTH_MAX`], and the size of a compiled regular expression; evaluation is
//! linear in expression and row. A key that a map lacks is no error: it equals nothing, contains nothing
//! and is empty. The form `any … as … {}` is not known.
//!
//! Driven by the gateway's list handlers. Fails with [`FilterError`], the caller's mistake: 400.

mod eval;
mod parse;
mod pick;
mod schema;

use serde::Serialize;

pub use schema::Schema;

/// Longest expression, in bytes.
pub const BYTES_MAX: usize = 16 * 1024;
/// How deep parentheses and negations may nest.
pub const DEPTH_MAX: usize = 32;
/// Largest program a regular expression may compile to, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Why a list cannot be filtered. The texts are those that clients match on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The expression cannot be read.
    #[error("failed to create result paginator: failed to read filter expression: {0}")]
    Parse(String),
    /// The expression does not fit the rows.
    #[error("failed to read result page: {0}")]
    Evaluate(String),
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Filter {
    root: Expr,
    /// The fields of a row that it names.
    fields: Vec<String>,
}

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`FilterError::Parse`] with line, column and offset of what does not fit.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let root = parse::parse(text).map_err(FilterError::Parse)?;
        let mut fields = Vec::new();
        root.note_fields(&mut fields);
        fields.sort_unstable();
        fields.dedup();
        Ok(Self { root, fields })
    }

    /// Whether it looks at a field of the row or into it.
    pub fn asks(&self, field: &str) -> bool {
        self.fields.iter().any(|name| name == field)
    }

    /// Whether a row fits. `schema` is that of the row's type; [`Schema::any`] when there is none.
    ///
    /// # Errors
    /// [`FilterError::Evaluate`] when the expression names a field that the row's type lacks, or compares
    /// it with what it cannot be.
    pub fn matches(&self, schema: &Schema, row: &impl Serialize) -> Result<bool, FilterError> {
        let row = pick::fields(row, &self.fields).map_err(|e| FilterError::Evaluate(e.to_string()))?;
        eval::expr(&self.root, schema, &row).map_err(FilterError::Evaluate)
    }
}

#[derive(Clone, Debug)]
enum Expr {
    /// True when one is; never empty.
    Or(Vec<Expr>),
    /// True when all are; never empty.
    And(Vec<Expr>),
    Not(Box<Expr>),
    Match {
        selector: Vec<String>,
        op: Op,
    },
}

impl Expr {
    fn note_fields(&self, fields: &mut Vec<String>) {
        match self {
            Self::Or(terms) | Self::And(terms) => terms.iter().for_each(|term| term.note_fields(fields)),
            Self::Not(inner) => inner.note_fields(fields),
            Self::Match { selector, .. } => fields.extend(selector.first().cloned()),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Equals(String),
    /// The selected text, list or map contains it.
    Contains(String),
    Matches(regex::Regex),
    IsEmpty,
}

#[cfg(test)]
mod tests {
    use model::{Allocation, Job, Node};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn row() -> Value {
        let mut job = Job { id: Some("web".into()), priority: Some(70), ..Job::default() };
        job.meta.insert("team".into(), "core".into());
        job.meta.insert("a.b/c".into(), "odd".into());
        job.datacenters = vec!["dc1".into(), "dc2".into()];
        job.task_groups = vec![model::TaskGroup { name: Some("g".into()), count: Some(3), ..Default::default() }];
        job.canonicalize();
        serde_json::to_value(job).unwrap()
    }

    fn ask(text: &str) -> Result<bool, FilterError> {
        Filter::parse(text)?.matches(&Schema::of::<Job>(), &row())
    }

    #[test]
    fn an_expression_that_holds_is_true_and_its_negation_false() {
        for text in [
            r#"ID == "web""#,
            "ID == web",
            "ID==`web`",
            r#"Name != "x""#,
            "Priority == 70",
            "Stop == false",
            "Stop != true",
            r#""core" in Meta.team"#,
            r#"Meta.team == core"#,
            r#"Meta["a.b/c"] == odd"#,
            r#""/Meta/team" == core"#,
            r#""/Meta/a.b~1c" == odd"#,
            "Meta contains team",
            "team in Meta",
            "dc1 in Datacenters",
            "Datacenters not contains dc9",
            "dc9 not in Datacenters",
            "Datacenters.1 == dc2",
            "TaskGroups.0.Name == g",
            "TaskGroups.0.Count == 3",
            r#"ID matches "^w.b$""#,
            r#"ID not matches "x+""#,
            "Constraints is empty",
            "Meta is not empty",
            "Payload is empty",
            "Meta.absent is empty",
            "Meta.absent != x",
            "Datacenters.7 is empty",
            "ID == web and Priority == 70",
            "ID == x or Priority == 70",
            "ID == x and ID == x or Priority == 70",
            "not ID == x and Priority == 70",
            "not (ID == x or ID == y)",
            "  ( ID == web )  ",
        ] {
            assert_eq!(ask(text), Ok(true), "{text}");
            assert_eq!(ask(&format!("not ({text})")), Ok(false), "not {text}");
        }
    }

    /// Recorded: nodes "list bad filter", "list bad field".
    #[test]
    fn a_bad_expression_is_refused_in_the_recorded_words() {
        let prefix = "failed to create result paginator: failed to read filter expression: ";
        assert_eq!(
            ask("Status is").unwrap_err().to_string(),
            format!("{prefix}1:10 (9): no match found, expected: [ \\t\\r\\n]")
        );
        let node = serde_json::to_value(Node::default()).unwrap();
        let text = Filter::parse("Nope == \"x\"").unwrap().matches(&Schema::of::<Node>(), &node).unwrap_err();
        assert_eq!(
            text.to_string(),
            "failed to read result page: error finding value in datum: /Nope at part 0: couldn't find key: struct field with name \"Nope\""
        );
        for bad in [
            "",
            " ",
            "ID",
            "ID ==",
            "ID == \"x",
            "(ID == x",
            "ID == x)",
            "ID = x",
            "and",
            "ID matches \"(\"",
            "1 == 2 3",
        ] {
            let text = ask(bad).unwrap_err().to_string();
            assert!(text.starts_with(prefix), "{bad}: {text}");
        }
    }

    #[test]
    fn what_a_field_cannot_be_compared_with_is_an_error() {
        for bad in [
            "Priority == high",
            "Stop == maybe",
            "Meta == x",
            "Priority contains 7",
            "Priority matches x",
            "Priority is empty",
        ] {
            assert!(matches!(ask(bad), Err(FilterError::Evaluate(_))), "{bad}: {:?}", ask(bad));
        }
        let nested = ask("TaskGroups.0.Nope == 1").unwrap_err().to_string();
        assert!(nested.contains("/TaskGroups/0/Nope at part 2"), "{nested}");
    }

    #[test]
    fn a_field_that_the_wire_leaves_out_is_known() {
        let schema = Schema::of::<Allocation>();
        let row = serde_json::to_value(Allocation::default()).unwrap();
        assert!(row.get("DeploymentID").is_none());
        for (text, want) in [
            (r#"DeploymentID == """#, true),
            ("DeploymentID is empty", true),
            ("TaskStates is empty", true),
            ("ClientStatus == pending", true),
            ("CreateIndex == 0", true),
            // nothing is there to look into
            ("Job.Name == x", false),
        ] {
            assert_eq!(Filter::parse(text).unwrap().matches(&schema, &row), Ok(want), "{text}");
        }
        assert!(Filter::parse("Job.Nope == x").unwrap().matches(&schema, &row).is_err());
    }

    #[test]
    fn a_row_without_a_type_is_read_as_it_is() {
        let filter = Filter::parse("a.b == 1 and c contains x").unwrap();
        assert_eq!(filter.matches(&Schema::any(), &json!({"a": {"b": 1}, "c": ["x"]})), Ok(true));
        assert_eq!(filter.matches(&Schema::any(), &json!({})), Ok(false));
    }

    #[test]
    fn an_expression_knows_which_fields_it_looks_at() {
        let filter = Filter::parse(r#"not (JobID == x or a in "/Meta/b") and Name is empty and JobID != y"#).unwrap();
        for (field, asked) in [("JobID", true), ("Meta", true), ("Name", true), ("Job", false), ("a", false)] {
            assert_eq!(filter.asks(field), asked, "{field}");
        }
    }

    #[test]
    fn an_expression_over_its_bounds_is_refused() {
        let nested = |n: usize| format!("{}ID == web{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(ask(&nested(DEPTH_MAX)), Ok(true));
        assert!(ask(&nested(DEPTH_MAX + 1)).unwrap_err().to_string().contains("nests too deep"));
        assert!(ask(&"not ".repeat(3_000)).is_err());
        let long = format!("ID == \"{}\"", "x".repeat(BYTES_MAX));
        assert!(ask(&long).unwrap_err().to_string().contains("longer than"));
        assert_eq!(ask(&vec!["ID == web"; 800].join(" and ")), Ok(true));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"(?s)([a-zA-Z"`./()=! \[\]0-9-]|and|or|not|in|is|empty|ID|Meta|==){0,24}"#) {
            let _ = ask(&text);
        }

        #[test]
        fn equality_is_equality(value in "[ -~]{0,12}") {
            let mut row = row();
            row["Name"] = json!(value);
            let quoted = serde_json::to_string(&value).unwrap();
            let filter = Filter::parse(&format!("Name == {quoted}")).unwrap();
            prop_assert_eq!(filter.matches(&Schema::of::<Job>(), &row), Ok(true));
        }
    }
}
