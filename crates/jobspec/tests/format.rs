//! The layout of whole files: it is a matter of blanks, whatever the file.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use jobspec::{Inputs, Source, format};
use proptest::prelude::*;

fn samples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/samples");
    let mut out: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "hcl"))
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    out.sort();
    assert_eq!(out.len(), 40);
    out
}

fn meaning(text: &str) -> Result<serde_json::Value, usize> {
    jobspec::parse(Source { name: "a", text }, &Inputs::default()).map(|parsed| parsed.json).map_err(|e| e.list.len())
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[test]
fn a_formatted_sample_means_the_same_and_is_formatted() {
    for (name, text) in samples() {
        let once = format(&name, &text).unwrap();
        assert_eq!(format(&name, &once).unwrap(), once, "{name}");
        assert_eq!(meaning(&once), meaning(&text), "{name}");
        assert_eq!(without_blanks(&once), without_blanks(&text), "{name}");
        let crlf = text.replace('\n', "\r\n");
        let kept = format(&name, &crlf).unwrap();
        assert_eq!(kept.matches('\n').count(), kept.matches("\r\n").count(), "{name}");
        assert_eq!(format(&name, &kept).unwrap(), kept, "{name}");
        assert_eq!(kept.replace("\r\n", "\n"), once, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("STEPPE_LONG").is_some() { 20_000 } else { 300 }))]

    /// Blanks put in and taken out, and lines cut: what still parses is formatted without a change of meaning.
    #[test]
    fn whatever_parses_is_formatted_without_harm(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8), 0..8),
    ) {
        let all = samples();
        let mut text = which.get(&all).1.clone();
        for (at, what) in cuts {
            let mut place = at.index(text.len().max(1));
            while !text.is_char_boundary(place) {
                place -= 1;
            }
            match what {
                0 => text.insert(place, ' '),
                1 => text.insert(place, '\n'),
                2 => text.insert_str(place, "  # x\n"),
                3 => text.insert_str(place, " /* y */ "),
                4 => text.insert(place, '\t'),
                _ => text.truncate(place),
            }
        }
        if let Ok(once) = format("a", &text) {
            prop_assert_eq!(&format("a", &once).unwrap(), &once);
            prop_assert_eq!(without_blanks(&once), without_blanks(&text));
            prop_assert_eq!(meaning(&once), meaning(&text));
        }
    }
}

/// Found by fuzzing: a mark that goes on with a letter was cut off its word.
#[test]
fn words_of_any_script_stay_whole() {
    for text in ["t\u{17b5}ask \"t\" {\n}\n", "job \"a\" {\n  lo\u{1ced}cals = 1\n}\n", "v = strin\u{1bf3}g\n"] {
        let formatted = jobspec::format("a.hcl", text).unwrap();
        assert_eq!(formatted, text);
    }
}
