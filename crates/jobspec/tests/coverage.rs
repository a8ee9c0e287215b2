//! docs/jobspec-coverage.md: what of the reference's tables is tested, and where. `STEPPE_BLESS=1` writes
//! it anew; without, a document that is not up to date fails.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Rust files of tests and of code with tests, below a directory.
fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|end| end == "rs") {
            out.push(path);
        }
    }
}

/// The tests that name each rule: in their own name, in a line above them, or in a case inside them.
fn tests_by_rule() -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    for part in ["crates/jobspec", "crates/model", "crates/fsm/tests", "services/gateway/tests"] {
        sources(&root().join(part), &mut files);
    }
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let mut named: Vec<String> = Vec::new();
        let mut test: Option<String> = None;
        let mut marked = false;
        for line in text.lines() {
            let ids = rules_in(line);
            let function = line.trim_start().trim_start_matches("async ").strip_prefix("fn ");
            if line.trim_start().starts_with("#[test") || line.trim_start().starts_with("#[tokio::test") {
                marked = true;
            } else if let Some(rest) = function {
                let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
                test = marked.then_some(name);
                marked = false;
                named.extend(ids);
                if let Some(test) = &test {
                    for id in named.drain(..) {
                        out.entry(id).or_default().insert(format!("{place}: {test}"));
                    }
                }
                named.clear();
            } else if line.trim_start().starts_with("///") {
                named.extend(ids);
            } else if let Some(test) = &test {
                for id in ids {
                    out.entry(id).or_default().insert(format!("{place}: {test}"));
                }
            }
        }
    }
    out
}

/// `val-012` or `val_012`, as often as they stand there.
fn rules_in(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (at, _) in line.match_indices("val") {
        let rest = &line[at + 3..];
        let digits = rest.strip_prefix(['-', '_']).and_then(|rest| rest.get(..3));
        if let Some(digits) = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            out.push(format!("val-{digits}"));
        }
    }
    out
}

/// Rows that the tests of blocks.rs do not set one by one.
fn elsewhere(path: &str, name: &str) -> Option<&'static str> {
    let language = "crates/jobspec/tests/language.rs";
    let _ = language;
    Some(match (path, name) {
        ("(root)", "job") => "rules.rs: val-002, val-003",
        ("(root)", "variable") | ("variable", _) => {
            "language.rs: wrong_variable_blocks_are_refused, text_from_outside_is_read_by_the_type_of_the_variable"
        }
        ("(root)", "variables") => "samples.rs: 27-variables-locals",
        ("(root)", "locals") => "language.rs: locals_may_stand_in_any_order, a_circle_of_locals_is_named_in_the_hint",
        ("variable.validation", _) => "rules.rs: val-020, val-021",
        (_, "dynamic \"<block>\"") => "language.rs: dynamic_blocks_make_blocks_of_any_collection",
        ("job" | "job.group", "vault" | "secret") => "rules.rs: val-029",
        ("job", "task") => "rules.rs: val-028",
        ("(constraint)", "set_contains_all" | "set_contains_any" | "is_set" | "is_not_set") => {
            "rules.rs: nothing_that_was_written_is_ignored (works, unlike the reference)"
        }
        ("(constraint)", "distinct_property") => {
            "rules.rs: nothing_that_was_written_is_ignored; samples.rs: 18-distinct"
        }
        ("(constraint)", "distinct_hosts") => "samples.rs: 18-distinct",
        ("(constraint)", _) => "samples.rs: 16-constraints",
        ("(affinity)", "set_contains_any") => "samples.rs: 17-affinity-spread",
        ("(affinity)", _) => {
            "normalize.rs, the same table as of constraints; rules.rs: nothing_that_was_written_is_ignored"
        }
        _ => return None,
    })
}

fn document() -> String {
    let mut out = String::from(
        "# The job language: what is tested, and where\n\n\
         Written by `crates/jobspec/tests/coverage.rs` from the tables of the reference that are kept in the tree \
         (`STEPPE_BLESS=1 cargo test -p jobspec --test coverage`). File names without a folder are in \
         `crates/jobspec/tests`.\n\n",
    );
    let rows: Vec<Vec<&str>> =
        include_str!("data/blocks.tsv").lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let _ = write!(
        out,
        "## Blocks and attributes ({})\n\n\
         *lands*: `blocks.rs` `every_attribute_and_block_lands_on_its_wire_field` writes a job file with it and looks for it \
         on the wire. *default*: `every_default_is_the_recorded_one` leaves it out and compares the stored job. A row \
         that is the body of another stands for all of that one's, and all are tested in that place, too.\n\n\
         | block | name | type | on the wire | tested by |\n|---|---|---|---|---|\n",
        rows.len()
    );
    for row in &rows {
        let [path, name, kind, _, wire, default] = row[..] else { panic!("{row:?}") };
        let tested = match elsewhere(path, name) {
            Some(place) => place.to_owned(),
            None if path.starts_with("job") && (name == "*" || default == "-") => "lands".to_owned(),
            None if path.starts_with("job") => "lands, default".to_owned(),
            None => panic!("{path} {name} is tested nowhere"),
        };
        let _ = writeln!(out, "| {} | {} | {} | {wire} | {tested} |", plain(path), plain(name), plain(kind));
    }
    functions(&mut out);
    rules(&mut out);
    environment(&mut out);
    out
}

fn plain(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn functions(out: &mut String) {
    let names: Vec<&str> = include_str!("data/functions.tsv")
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|row| matches!(row[0], "function" | "function (filesystem)"))
        .map(|row| row[1])
        .collect();
    let _ = write!(
        out,
        "\n## Functions ({})\n\nEach has a test of its own name in `crates/jobspec/src/functions/each.rs`, whose last test \
         fails when one has none: {}.\n",
        names.len(),
        names.join(", ")
    );
}

fn rules(out: &mut String) {
    let tests = tests_by_rule();
    let table: Vec<Vec<&str>> = include_str!("../../model/tests/data/rules.tsv")
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    let _ = write!(
        out,
        "\n## Rules ({})\n\nIds are those of the rows of the reference's table of rules, in its order; tests carry them in \
         their names, in the line above them, or in their cases.\n\n| id | stage | about | rule | tested by |\n|---|---|---|---|---|\n",
        table.len()
    );
    for row in &table {
        let [id, stage, about, rule, reason] = row[..] else { panic!("{row:?}") };
        let found = tests.get(id).map(|tests| tests.iter().cloned().collect::<Vec<_>>().join("; "));
        let tested = match (found, reason) {
            (Some(found), "") => found,
            (Some(found), reason) => format!("{found} ({reason})"),
            (None, "") => panic!("{id} ({rule}) has no test and no reason"),
            (None, reason) => format!("not tested: {reason}"),
        };
        let _ = writeln!(out, "| {id} | {} | {} | {} | {tested} |", plain(stage), plain(about), plain(rule));
    }
}

/// What the agent's library of the run-time environment is tested by.
fn environment(out: &mut String) {
    let _ = write!(
        out,
        "\n## Environment of a task\n\n`crates/driver/src/env.rs` and `crates/driver/src/fingerprint.rs` build what tasks \
         see; `crates/driver/tests/environment.rs` lists each variable and reference of the reference with the test or the \
         reason.\n"
    );
    let rows: Vec<Vec<&str>> = include_str!("../../driver/tests/data/attributes.tsv")
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    let _ = write!(
        out,
        "\n## Attributes and default meta of a node ({})\n\n*tested*: `crates/driver/tests/environment.rs` \
         `a_host_says_what_it_is_in_the_names_of_the_reference` reads a host and looks for it, and for names that are not \
         here.\n\n| name | whence | example | here |\n|---|---|---|---|\n",
        rows.len()
    );
    for row in &rows {
        let [name, from, example, how] = row[..] else { panic!("{row:?}") };
        let how = match how {
            "here" => "tested".to_owned(),
            "some" => "tested, where the host says it".to_owned(),
            how => how.replace("absent: ", "not there: ").replace("elsewhere: ", "set and tested in "),
        };
        let _ = writeln!(out, "| {} | {} | {} | {how} |", plain(name), plain(from), plain(example));
    }
}

#[test]
fn the_document_says_what_is_tested() {
    let path = root().join("docs/jobspec-coverage.md");
    let wanted = document();
    if std::env::var_os("STEPPE_BLESS").is_some() {
        std::fs::write(&path, wanted).unwrap();
        return;
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        present == wanted,
        "docs/jobspec-coverage.md is not up to date: STEPPE_BLESS=1 cargo test -p jobspec --test coverage"
    );
}
