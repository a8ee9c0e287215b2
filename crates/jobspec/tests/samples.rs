//! Every sample job file, against what a running reference printed or said for it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use jobspec::{Inputs, Source};
use serde_json::Value;

fn data(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(part)
}

fn files(part: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(data(part))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "hcl"))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The paths at which two documents differ.
fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let inner = format!("{path}.{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(&inner, a, b, out),
                    (a, b) => out.push(format!("{inner}: ours {a:?}, theirs {b:?}")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), a, b, out);
            }
        }
        (a, b) if a != b => out.push(format!("{path}: ours {a}, theirs {b}")),
        _ => {}
    }
}

#[test]
fn every_sample_parses_to_the_recorded_job() {
    let samples = files("samples");
    assert_eq!(samples.len(), 40);
    let mut all = Vec::new();
    for path in samples {
        let file = name(&path);
        let text = fs::read_to_string(&path).unwrap();
        let theirs: Value =
            serde_json::from_str(&fs::read_to_string(data(&format!("expected/{file}.json"))).unwrap()).unwrap();
        match jobspec::parse(Source { name: &file, text: &text }, &Inputs::default()) {
            Ok(parsed) => {
                let mut found = Vec::new();
                differences("Job", &parsed.json, &theirs["Job"], &mut found);
                all.extend(found.into_iter().map(|difference| format!("{file} {difference}")));
            }
            Err(problems) => all.push(format!("{file} refused: {problems}")),
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_sample_survives_the_trip_through_the_job_model() {
    let mut all = Vec::new();
    for path in files("samples") {
        let file = name(&path);
        let text = fs::read_to_string(&path).unwrap();
        let parsed = jobspec::parse(Source { name: &file, text: &text }, &Inputs::default()).unwrap();
        let mut found = Vec::new();
        differences("Job", &model::parse_shape::parse_shape(&parsed.job), &parsed.json, &mut found);
        all.extend(found.into_iter().map(|difference| format!("{file} {difference}")));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_broken_sample_is_refused_in_the_recorded_words() {
    let expected: Value = serde_json::from_str(&fs::read_to_string(data("expected/invalid.json")).unwrap()).unwrap();
    let samples = files("samples/invalid");
    assert_eq!(samples.len(), 20);
    for path in samples {
        let file = name(&path);
        let text = fs::read_to_string(&path).unwrap();
        let outcome =
            jobspec::parse(Source { name: &file, text: &text }, &Inputs { strict_vars: true, ..Inputs::default() });
        if expected[&file]["at"] != "parse" {
            assert!(outcome.is_ok(), "{file} is refused only when registered, but: {}", outcome.unwrap_err());
            continue;
        }
        let recorded = expected[&file]["text"].as_str().unwrap();
        let (_, words) = recorded.split_once(".nomad.hcl:\n").unwrap();
        assert_eq!(outcome.expect_err(&file).reference_text(), words, "{file}");
    }
}

/// Steps "parse broken hcl", "parse unknown attribute", "parse one-line block" of the recorded
/// API conversation.
#[test]
fn the_api_sentences_are_the_recorded_ones() {
    let cases = [
        (
            "job \"hcl\" {\n  datacenters = [\"*\"]\n  group \"g\" {\n    count = 2\n    network {\n      port \"http\" {}\n    }\n    task \"t\" {\n  ",
            "input.hcl:8,14-15: Unclosed configuration block; There is no closing brace for this block before the end of the file. This may be caused by incorrect brace nesting elsewhere in this file.",
        ),
        (
            "job \"hcl\" {\n  datacenters = [\"*\"]\n  group \"g\" {\n    replicas = 2\n    task \"t\" {\n      driver = \"raw_exec\"\n    }\n  }\n}\n",
            "input.hcl:4,5-13: Unsupported argument; An argument named \"replicas\" is not expected here.",
        ),
        (
            "job \"hcl\" {\n  datacenters = [\"*\"]\n  group \"g\" {\n    count = 2\n    network { port \"http\" {} }\n    task \"t\" {\n      driver = \"raw_exec\"\n    }\n  }\n}\n",
            "input.hcl:5,15-21: Argument definition required; A single-line block definition can contain only a single argument. If you meant to define argument \"port\", use an equals sign to assign it a value. To define a nested block, place it on a line of its own within its parent block.",
        ),
    ];
    for (text, words) in cases {
        let problems = jobspec::parse(Source { name: jobspec::API_FILE_NAME, text }, &Inputs::default()).unwrap_err();
        assert_eq!(problems.reference_text(), words);
    }
}
