//! What every OpenAPI document of the project has: clients are generated from them, and people read them.
//! That they are valid by the standard's own schema is asked in `e2e/tests/clients.rs`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::Value;

/// Every operation of every document: where, its path, itself, its document.
fn operations() -> Vec<(String, String, Value, Value)> {
    let mut all = Vec::new();
    for (service, text) in xtask::specs::generate().unwrap() {
        let document: Value = serde_json::from_str(&text).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let at = format!("{service}: {method} {path}");
                all.push((at, path.clone(), operation.clone(), document.clone()));
            }
        }
    }
    assert!(all.len() > 150);
    all
}

#[test]
fn every_operation_has_an_id_a_tag_and_described_answers() {
    let mut ids = BTreeSet::new();
    for (at, _, operation, document) in operations() {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at} has no operation id"));
        let service = at.split(':').next().unwrap();
        assert!(ids.insert(format!("{service} {id}")), "{at}: operation id {id} is used twice");
        assert!(operation["tags"].as_array().is_some_and(|t| !t.is_empty()), "{at} has no tag");
        assert!(document["info"]["title"].is_string());
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let described = answer["description"].as_str().is_some_and(|d| !d.is_empty());
            assert!(described, "{at}: answer {status} has no description");
        }
    }
}

#[test]
fn every_operation_says_how_it_fails_and_with_what_body() {
    for (at, _, operation, _) in operations() {
        let answers = operation["responses"].as_object().unwrap();
        for status in ["400", "429", "500", "503"] {
            assert!(answers.contains_key(status), "{at} does not say when it answers {status}");
        }
        let bad = answers.iter().filter(|(status, _)| status.starts_with(['4', '5']));
        for (status, answer) in bad {
            assert!(answer["content"].is_object(), "{at}: answer {status} has no body");
        }
        // 501: what cannot be here says so, and what to use instead.
        let succeeds = answers.keys().any(|s| s.starts_with('2') || s == "101" || s == "501");
        assert!(succeeds, "{at} never succeeds");
        assert!(operation.get("requestBody").is_none() || answers.contains_key("413"), "{at} takes bodies of any size");
    }
}

#[test]
fn every_body_and_every_parameter_that_must_be_there_has_an_example() {
    for (at, _, operation, document) in operations() {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in parameters.iter().filter(|p| p["required"] == true) {
            assert!(!parameter["example"].is_null(), "{at}: {} has no example", parameter["name"]);
        }
        let answers = operation["responses"].as_object().unwrap().iter().filter(|(s, _)| s.starts_with('2'));
        for carrier in answers.map(|(_, answer)| answer).chain(operation.get("requestBody")) {
            for (kind, media) in carrier["content"].as_object().into_iter().flatten() {
                let shared = media["examples"]["one"]["$ref"].as_str();
                let found = shared.and_then(|at| document.pointer(at.trim_start_matches('#'))).map(|one| &one["value"]);
                assert!(found.or(media.get("example")).is_some(), "{at}: {kind} has no example");
            }
        }
    }
}

#[test]
fn the_parameters_of_a_path_are_those_that_it_names() {
    for (at, path, operation, _) in operations() {
        let named: BTreeSet<&str> = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let declared: BTreeSet<&str> =
            parameters.iter().filter(|p| p["in"] == "path").filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(named, declared, "{at}");
    }
}
