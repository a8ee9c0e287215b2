//! The sample jobs as a parser gives them, and recorded answers. Facts of the compatible interface.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use model::Job;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Name and parsed form of every valid sample, by name.
pub fn samples() -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(folder().join("expected")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".nomad.hcl.json"));
    names.sort();
    assert_eq!(names.len(), 40);
    names
        .into_iter()
        .map(|name| {
            let mut file: Value = read(&format!("expected/{name}"));
            (name.trim_end_matches(".nomad.hcl.json").to_owned(), file["Job"].take())
        })
        .collect()
}

pub fn read(path: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn golden() -> Value {
    read("golden.json")
}

pub fn job(value: &Value) -> Job {
    serde_json::from_value(value.clone()).unwrap()
}

/// The paths at which two values differ.
pub fn differences(want: &Value, got: &Value) -> Vec<String> {
    fn walk(want: &Value, got: &Value, at: &str, out: &mut Vec<String>) {
        match (want, got) {
            (Value::Object(want), Value::Object(got)) => {
                for (key, value) in want {
                    match got.get(key) {
                        Some(other) => walk(value, other, &format!("{at}.{key}"), out),
                        None => out.push(format!("{at}.{key}: missing")),
                    }
                }
                out.extend(got.keys().filter(|key| !want.contains_key(*key)).map(|key| format!("{at}.{key}: extra")));
            }
            (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
                for (i, (want, got)) in want.iter().zip(got).enumerate() {
                    walk(want, got, &format!("{at}[{i}]"), out);
                }
            }
            (want, got) if want != got => out.push(format!("{at}: {want} expected, {got} found")),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(want, got, "", &mut out);
    out
}
