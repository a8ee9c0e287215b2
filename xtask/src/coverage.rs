//! Which test covers which row of the scheduler's scenarios: docs/scheduler-coverage.md.
//!
//! The rows are in `data/scheduler-scenarios.tsv` (id, given, when, then). A test covers a row when its
//! name, the doc comment above it or its body has the row's id: `reconcile_012_…` (more numbers of the same
//! area may follow: `reconcile_012_013_…`) or `reconcile-012`. Other tables of scenarios share some areas;
//! outside of `placement` and `queue` such an id counts only with `q-` or `q_` before it. Rows without a
//! test have a reason in `data/scheduler-uncovered.tsv` (id, reason); a reason for a row that has a test is
//! an error, as is an id that no row has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const ROWS: &str = include_str!("../data/scheduler-scenarios.tsv");
const REASONS: &str = include_str!("../data/scheduler-uncovered.tsv");

/// Where tests of scheduling are.
const FOLDERS: [&str; 11] = [
    "crates/model",
    "crates/placement",
    "crates/queue",
    "crates/control",
    "crates/fsm",
    "services/scheduler",
    "services/broker",
    "services/applier",
    "services/controller",
    "services/gateway",
    "e2e/tests",
];

/// Areas that other tables of scenarios have, too.
const SHARED: [&str; 7] = ["blocked", "broker", "core", "device", "id", "service", "worker"];

/// The table's file.
pub fn path() -> PathBuf {
    crate::root().join("docs/scheduler-coverage.md")
}

/// The least share of rows that are to have a test, in percent.
pub const FLOOR: usize = 95;

/// The text of the table, and the share of rows with a test in percent.
pub fn generate() -> anyhow::Result<(String, usize)> {
    let rows: Vec<Vec<&str>> = ROWS.lines().map(|line| line.split('\t').collect()).collect();
    let known: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    let reasons: BTreeMap<&str, &str> = REASONS.lines().filter_map(|line| line.split_once('\t')).collect();
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for folder in FOLDERS {
        scan(&crate::root().join(folder), folder, &known, &mut tests)?;
    }
    for id in reasons.keys() {
        if !known.contains(id) {
            bail!("{id}: a reason, but no such scenario");
        }
        if tests.contains_key(*id) {
            bail!("{id}: a reason why there is no test, but there is one");
        }
    }
    let covered = rows.iter().filter(|row| tests.contains_key(row[0])).count();
    let share = covered * 100 / rows.len();
    let mut out = format!(
        "# Scenarios of the scheduler and the tests that cover them\n\n\
         Generated: `STEPPE_BLESS=1 cargo test -q -p xtask coverage`. {covered} of {} rows have a test ({share} %).\n\
         A row without one says why.\n\n| id | given | when | then | test |\n|---|---|---|---|---|\n",
        rows.len()
    );
    for row in &rows {
        let test = match (tests.get(row[0]), reasons.get(row[0])) {
            (Some(tests), _) => tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join("<br>"),
            (None, Some(reason)) => format!("none: {reason}"),
            (None, None) => "**no test yet**".to_owned(),
        };
        writeln!(out, "| {} | {} | {} | {} | {test} |", row[0], row[1], row[2], row[3])?;
    }
    Ok((out, share))
}

fn scan(
    at: &Path,
    label: &str,
    known: &BTreeSet<&str>,
    tests: &mut BTreeMap<String, BTreeSet<String>>,
) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(at).with_context(|| format!("reading {}", at.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let label = format!("{label}/{name}");
        if path.is_dir() {
            scan(&path, &label, known, tests)?;
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path)?;
            let own = label.starts_with("crates/placement/") || label.starts_with("crates/queue/");
            for (test, words) in functions(&text) {
                for id in ids(&test, &words, known, own) {
                    tests.entry(id).or_default().insert(format!("{label}: {test}"));
                }
            }
        }
    }
    Ok(())
}

/// Test functions of a source file: the name, and the text of docs and body.
fn functions(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut above, mut is_test) = (String::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let bare = line.trim_start();
        if bare.starts_with("///") {
            above.push_str(bare);
            above.push('\n');
            continue;
        }
        if bare.starts_with("#[") {
            is_test |= bare.starts_with("#[test]") || bare.starts_with("#[tokio::test");
            continue;
        }
        let signature = bare.strip_prefix("pub ").unwrap_or(bare);
        let name = signature.strip_prefix("async ").unwrap_or(signature).strip_prefix("fn ");
        let words = std::mem::take(&mut above);
        if let (true, Some(name)) = (std::mem::take(&mut is_test), name) {
            let end = format!("{}}}", &line[..line.len() - bare.len()]);
            let mut words = words;
            for line in lines.by_ref().take_while(|line| *line != end) {
                words.push_str(line);
                words.push('\n');
            }
            found.push((name.split(['(', '<']).next().unwrap_or_default().to_owned(), words));
        }
    }
    found
}

/// The ids that a test names. `own`: an id without `q` before it is one of these rows.
fn ids(name: &str, words: &str, known: &BTreeSet<&str>, own: bool) -> BTreeSet<String> {
    let counts = |area: &str, marked: bool| own || marked || !SHARED.contains(&area);
    let mut found = BTreeSet::new();
    for word in words.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        let bare = word.trim_matches('-');
        let id = bare.strip_prefix("q-").unwrap_or(bare);
        let area = id.rsplit_once('-').map_or("", |(area, _)| area);
        if known.contains(id) && counts(area, id.len() < bare.len()) {
            found.insert(id.to_owned());
        }
    }
    let parts: Vec<&str> = name.split('_').collect();
    let is_number = |part: &str| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
    let mut area = (String::new(), false);
    for (at, part) in parts.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |at| parts[at]);
        if !is_number(part) {
            continue;
        }
        if !is_number(before) {
            let start = if at >= 2 && parts[at - 2] == "plan" { at - 2 } else { at.saturating_sub(1) };
            area = (parts[start..at].join("-"), start.checked_sub(1).is_some_and(|at| parts[at] == "q"));
        }
        let id = format!("{}-{part}", area.0);
        if known.contains(id.as_str()) && counts(&area.0, area.1) {
            found.insert(id);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_covers_the_rows_that_its_name_docs_and_body_say() {
        let text = "/// broker-002, s-broker-009\n#[test]\nfn plan_apply_003_010_x() {\n    // util-001\n}\n\n/// id-001\nfn no_test() {}\n";
        let known = ["broker-002", "broker-009", "plan-apply-003", "plan-apply-010", "util-001", "id-001"].into();
        let found = functions(text);
        assert_eq!(found.len(), 1);
        let all: Vec<String> = ids(&found[0].0, &found[0].1, &known, true).into_iter().collect();
        assert_eq!(all, ["broker-002", "plan-apply-003", "plan-apply-010", "util-001"]);
        let elsewhere: Vec<String> = ids(&found[0].0, &found[0].1, &known, false).into_iter().collect();
        assert_eq!(elsewhere, ["plan-apply-003", "plan-apply-010", "util-001"], "another table's broker-002");
        assert!(ids("q_broker_002_x", "", &known, false).contains("broker-002"));
    }
}
