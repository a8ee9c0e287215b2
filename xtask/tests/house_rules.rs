//! The rules of the house that a machine can check.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use xtask::layers::{Graph, IMPURE, LAYERS, PURE, RESERVED, SIDEWAYS, has_jiff_clock, linked_into};

#[test]
fn the_checked_in_specifications_are_those_of_the_handlers() {
    for (service, text) in xtask::specs::generate().unwrap() {
        let kept = std::fs::read_to_string(xtask::specs::path(service)).unwrap_or_default();
        assert!(kept == text, "openapi/{service}.json is stale: run `cargo run -p xtask -- specs`");
    }
}

#[test]
fn dependencies_point_down() {
    let graph = Graph::read().unwrap();
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    for member in graph.members() {
        let layer = *layers.get(member.as_str()).unwrap_or_else(|| panic!("{member} has no layer"));
        for dep in graph.of(member) {
            let Some(below) = layers.get(dep.as_str()) else { continue };
            let sideways = SIDEWAYS.contains(&(member.as_str(), dep.as_str()));
            assert!(*below < layer || sideways, "{member} (layer {layer}) depends on {dep} (layer {below})");
        }
    }
}

#[test]
fn reserved_crates_are_used_only_by_those_they_are_for() {
    let graph = Graph::read().unwrap();
    for (reserved, users) in RESERVED {
        for member in graph.members().iter().filter(|m| *m != reserved) {
            let uses = graph.of(member).contains(*reserved);
            assert!(!uses || users.contains(&member.as_str()), "{member} may not depend on {reserved}");
        }
    }
}

#[test]
fn pure_crates_reach_no_runtime_clock_randomness_or_io() {
    for pure in PURE {
        let linked = linked_into(pure).unwrap();
        let impure: Vec<_> = IMPURE.iter().filter(|name| linked.contains(**name)).collect();
        assert!(impure.is_empty(), "{pure} is to be pure, but links {impure:?}; see `cargo tree -p {pure} -e normal`");
    }
    assert!(linked_into("client").unwrap().contains("tokio"), "what is not pure is seen");
    for pure in PURE {
        assert!(!has_jiff_clock(pure).unwrap(), "{pure} has jiff's clock: leave its feature `std` off");
    }
    assert!(has_jiff_clock("kit").unwrap(), "a clock is seen");
}

/// Calendars and spans of time are arithmetic; what the time is now is told to a pure crate by its caller.
#[test]
fn pure_crates_never_ask_what_time_it_is() {
    for pure in PURE {
        for (path, text) in sources(&format!("crates/{pure}/src")) {
            let asks = !path.ends_with("tests.rs") && text.contains("::now()");
            assert!(!asks, "{} asks for the time", path.display());
        }
    }
}

#[test]
fn the_settings_of_a_machine_are_described_as_they_are() {
    let checked_in = std::fs::read_to_string(xtask::config_docs()).unwrap_or_default();
    assert!(checked_in == config::docs::markdown(), "run `cargo run -p xtask -- config-docs`");
}

/// Each scenario of the scheduler has a test, or a reason why not.
#[test]
fn the_coverage_table_of_the_scheduler_is_that_of_the_tests() {
    let (text, share) = xtask::coverage::generate().unwrap();
    if std::env::var_os("STEPPE_BLESS").is_some() {
        std::fs::write(xtask::coverage::path(), &text).unwrap();
    }
    let kept = std::fs::read_to_string(xtask::coverage::path()).unwrap_or_default();
    let stale = "docs/scheduler-coverage.md is stale: run `STEPPE_BLESS=1 cargo test -q -p xtask coverage`";
    assert!(kept == text, "{stale}");
    assert!(share >= xtask::coverage::FLOOR, "{share} % of the scenarios have a test");
}

/// Rows go between processes without their empty fields (`model::sparse`).
#[test]
fn rows_read_what_is_missing_as_empty() {
    // What is only ever an answer of the public API.
    let answers = ["SearchResponse", "Standing"];
    let senders =
        ["crates/model/src", "crates/fsm/src", "crates/api/src", "services/gateway/src", "services/agent/src"];
    for (_, source) in senders.into_iter().flat_map(sources) {
        for custom in source.split("impl Default for ").skip(1) {
            let name = custom.split([' ', '\n']).next().unwrap();
            let is_row = source.contains(&format!("pub struct {name} {{")) && source.contains("PascalCase");
            let told = !is_row || model::sparse::CUSTOM.contains(&name);
            assert!(told, "{name} has a default of its own: name it in `model::sparse::CUSTOM`");
        }
        for derived in source.split("#[derive(").skip(1).filter(|text| text.contains("struct ")) {
            let (attributes, rest) = derived.split_once("struct ").unwrap();
            let name = rest.split([' ', '(', '<', ';']).next().unwrap();
            let is_row = attributes.contains("PascalCase") && attributes.contains("Deserialize");
            let reads = attributes.contains("serde(default") || answers.contains(&name);
            assert!(
                !is_row || reads,
                "{name} is to read missing fields: #[serde(default, rename_all = \"PascalCase\")]"
            );
        }
    }
}

/// `scripts/test` chooses tests by the name of their program, for all packages at once.
#[test]
fn names_of_black_box_tests_are_theirs_alone() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let programs = |dir: PathBuf| {
        let found = std::fs::read_dir(dir.join("tests")).into_iter().flatten().flatten();
        let is_program =
            |path: &PathBuf| path.join("main.rs").exists() || path.extension().is_some_and(|ext| ext == "rs");
        let programs = found.map(|entry| entry.path()).filter(is_program);
        programs.map(|path| path.file_stem().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let inside = programs(root.join("e2e"));
    assert!(inside.len() > 20);
    let groups = ["crates", "services"].map(|group| std::fs::read_dir(root.join(group)).unwrap().flatten());
    let packages = groups.into_iter().flatten().map(|entry| entry.path());
    for package in packages.chain(["cli", "bench", "xtask"].map(|name| root.join(name))) {
        let shared: Vec<_> = programs(package.clone()).into_iter().filter(|name| inside.contains(name)).collect();
        assert!(shared.is_empty(), "{} and e2e both have tests named {shared:?}", package.display());
    }
}

/// Each Rust file under a folder, with its text.
fn sources(under: &str) -> Vec<(PathBuf, String)> {
    let (mut folders, mut found) = (vec![xtask::root().join(under)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}
