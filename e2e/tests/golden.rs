//! Does the API answer as the reference did? Replays what was recorded of it against a fresh `agent -dev`.
//!
//! The recordings and the program that replays them (`compare.py`) lie beside the checkout, in
//! `../shared/reference/golden`; where they do not, the test is skipped. Every step passes or is listed:
//!
//! * in `docs/differences.md`, with what differs and why, when it differs on purpose. What differs must be
//!   exactly that.
//! * in `docs/golden-status.md`, when it is not built yet. `STEPPE_GOLDEN=write` writes that list anew.
//!
//! A step that is listed and passes fails the test, too: the lists stay true.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use e2e::cluster::{root, text};
use e2e::dev::Dev;

const AGAIN: &str = "STEPPE_GOLDEN=write cargo test -p e2e --test golden";
const DIFFERENCES: &str = "docs/differences.md";
const STATUS: &str = "docs/golden-status.md";
/// Fewer were not the whole recording.
const STEPS_MIN: usize = 200;

/// A step that did not pass.
#[derive(Debug)]
struct Failure {
    request: String,
    /// One line per difference, as `compare.py` prints it.
    differences: Vec<String>,
}

/// What did not pass, by `group / step`, in the order of the scenarios.
struct Replay {
    passed: usize,
    failures: Vec<(String, Failure)>,
}

#[test]
#[cfg_attr(not(golden_recordings), ignore = "the recordings (../shared/reference/golden) are not beside the checkout")]
fn every_recorded_step_passes_or_is_listed() {
    let dev = Dev::start();
    let replay = replay(&dev.address());
    let accepted = accepted(&read(DIFFERENCES));
    if std::env::var("STEPPE_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(root().join(STATUS), status(&replay, &accepted)).unwrap();
    }
    let problems = problems(&replay, &accepted, &listed(&read(STATUS)));
    assert!(problems.is_empty(), "{}\n\nthe cluster said:\n{}", problems.join("\n"), dev.said());
    dev.stop();
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}; make it with {AGAIN}"))
}

fn replay(address: &str) -> Replay {
    let dir = root().join("../shared/reference/golden");
    let done = Command::new("python3")
        .args(["-B", "compare.py", address])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = text(&done.stdout);
    print!("{said}");
    parse(&said)
}

/// `FAIL group / step  METHOD path`, the differences below it, and at last `N passed, N failed`.
fn parse(said: &str) -> Replay {
    let mut failures: Vec<(String, Failure)> = Vec::new();
    for line in said.lines() {
        if let Some(line) = line.strip_prefix("FAIL ") {
            let (step, request) = line.split_once("  ").unwrap();
            failures.push((step.to_owned(), Failure { request: request.to_owned(), differences: Vec::new() }));
        } else if let Some(difference) = line.strip_prefix("     ") {
            failures.last_mut().unwrap().1.differences.push(difference.to_owned());
        }
    }
    let counts = said.lines().last().and_then(|l| l.strip_suffix(" failed")?.split_once(" passed, "));
    let (passed, failed) = counts.unwrap_or_else(|| panic!("compare.py did not end: {said}"));
    let (passed, failed): (usize, usize) = (passed.parse().unwrap(), failed.parse().unwrap());
    assert_eq!(failed, failures.len());
    assert!(passed + failed >= STEPS_MIN, "only {passed} + {failed} steps");
    Replay { passed, failures }
}

/// Where a difference is, without what was found: `status`, `text`, `header Allow`, `.Job.Stable`.
fn place(difference: &str) -> &str {
    for whole in ["status", "text", "JSON", "plain text"] {
        if difference.strip_prefix(whole).is_some_and(|rest| rest.starts_with(' ')) {
            return whole;
        }
    }
    difference.split_once(':').map_or(difference, |(place, _)| place)
}

/// Rows of a table whose first cell is a step: the step and the second cell.
fn rows(document: &str) -> impl Iterator<Item = (String, String)> {
    document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let step = cells.next()?.strip_suffix('`')?;
        step.contains(" / ").then(|| (step.to_owned(), cells.next().unwrap_or_default().to_owned()))
    })
}

/// Steps that differ on purpose, with the places where they do.
fn accepted(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let places = |cell: &str| cell.split(", ").map(|place| place.trim_matches('`').to_owned()).collect();
    rows(document).map(|(step, cell)| (step, places(&cell))).collect()
}

fn listed(document: &str) -> BTreeSet<String> {
    rows(document).map(|(step, _)| step).collect()
}

fn places(failure: &Failure) -> BTreeSet<String> {
    failure.differences.iter().map(|line| place(line).to_owned()).collect()
}

fn problems(replay: &Replay, accepted: &BTreeMap<String, BTreeSet<String>>, listed: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (step, failure) in &replay.failures {
        match accepted.get(step) {
            Some(expected) if *expected != places(failure) => {
                problems.push(format!("differs otherwise than {DIFFERENCES} says: {step}: {:?}", failure.differences));
            }
            None if !listed.contains(step) => {
                problems.push(format!("fails: {step}  {}: {:?}", failure.request, failure.differences));
            }
            _ => {}
        }
    }
    let failed: BTreeSet<&String> = replay.failures.iter().map(|(step, _)| step).collect();
    for step in accepted.keys().filter(|step| !failed.contains(step)) {
        problems.push(format!("passes: {step}; take it out of {DIFFERENCES}"));
    }
    for step in listed.iter().filter(|step| !failed.contains(step) || accepted.contains_key(*step)) {
        problems.push(format!("is out of place in {STATUS}: {step}; write the list anew: {AGAIN}"));
    }
    problems
}

fn status(replay: &Replay, accepted: &BTreeMap<String, BTreeSet<String>>) -> String {
    let open: Vec<_> = replay.failures.iter().filter(|(step, _)| !accepted.contains_key(step)).collect();
    let steps = replay.passed + replay.failures.len();
    let mut out = format!(
        "# Recorded steps that do not pass yet\n\n\
         Made by the test `e2e/tests/golden.rs`, which replays what was recorded of the reference; do not edit. Write it anew\n\
         with `{AGAIN}`. Steps that differ on purpose are in\n\
         [differences.md](differences.md).\n\n\
         Of {steps} steps {} pass, {} differ on purpose, {} are open.\n",
        replay.passed,
        replay.failures.len() - open.len(),
        open.len(),
    );
    let mut group = "";
    for (step, failure) in open {
        let of = step.split(" / ").next().unwrap();
        if of != group {
            group = of;
            write!(out, "\n## {group}\n\n| step | request | what differs first |\n|---|---|---|\n").unwrap();
        }
        let first = failure.differences.first().map_or("", String::as_str);
        let what = if first.contains("is not built yet") { "not built yet" } else { first };
        let what: String = what.replace('|', "/").chars().take(90).collect();
        writeln!(out, "| `{step}` | `{}` | {what} |", failure.request).unwrap();
    }
    out
}

const SAID: &str = "FAIL jobs / plan new  PUT /v1/job/web/plan
     .Diff: object expected, null found
     header X-Nomad-Index: missing
FAIL nodes / drain  PUT /v1/node/{{node}}/drain
     status 200 expected, 501 found: PUT /v1/node/<uuid>/drain is not built yet
     text 'a: b' expected, 'c' found
216 passed, 2 failed";

#[test]
fn a_step_is_accepted_with_exactly_what_is_listed() {
    let replay = parse(SAID);
    let of = |differences: &str, status: &str| problems(&replay, &accepted(differences), &listed(status));
    let both = "| `jobs / plan new` | - | - |\n| `nodes / drain` | - | - |\n";
    assert_eq!(of("", both), Vec::<String>::new());
    assert_eq!(of("", "").len(), 2, "nothing is listed");
    let one = "| `jobs / plan new` | `.Diff`, `header X-Nomad-Index` | why |\n";
    assert_eq!(of(one, "| `nodes / drain` | - | - |\n"), Vec::<String>::new());
    assert_eq!(of(one, both).len(), 1, "listed twice");
    assert_eq!(of("| `jobs / plan new` | `.Diff` | why |", "| `nodes / drain` | - | - |").len(), 1, "more differs");
    let stale = format!("{both}| `jobs / list` | - | - |\n");
    assert_eq!(of("", &stale).len(), 1, "a step that is listed passes");
    assert_eq!(of(&stale, "").len(), 3, "a step that is listed passes, and others differ otherwise");
}

#[test]
fn the_list_that_is_written_is_the_list_that_is_read() {
    let replay = parse(SAID);
    let none = BTreeMap::new();
    let written = status(&replay, &none);
    assert_eq!(problems(&replay, &none, &listed(&written)), Vec::<String>::new(), "{written}");
    let one = accepted("| `nodes / drain` | `status`, `text` | why |");
    assert_eq!(problems(&replay, &one, &listed(&status(&replay, &one))), Vec::<String>::new());
}
