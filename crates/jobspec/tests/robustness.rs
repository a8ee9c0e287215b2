//! What untrusted text may do to the parser: nothing but be refused.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use jobspec::{Diagnostics, Inputs, Parsed, Source};
use proptest::prelude::*;

fn parse(text: &str) -> Result<Parsed, Diagnostics> {
    jobspec::parse(Source { name: jobspec::API_FILE_NAME, text }, &Inputs::default())
}

/// Parses and looks at what comes back, on the stack the crate promises to do with.
fn exercise(text: &str) -> bool {
    std::thread::scope(|scope| {
        let worker =
            std::thread::Builder::new().stack_size(jobspec::STACK_BYTES).spawn_scoped(scope, || match parse(text) {
                Ok(parsed) => {
                    assert!(parsed.json.is_object());
                    true
                }
                Err(problems) => {
                    assert!(!problems.list.is_empty());
                    let lines = text.matches('\n').count() + 1;
                    for problem in &problems.list {
                        assert!(problem.line <= lines && problem.end_line <= lines, "{problem:?}");
                        assert!(
                            (problem.line, problem.column) <= (problem.end_line, problem.end_column),
                            "{problem:?}"
                        );
                        assert!(!problem.render(true).is_empty());
                    }
                    assert!(!problems.reference_text().is_empty());
                    false
                }
            });
        worker.unwrap().join().unwrap()
    })
}

fn samples() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/samples");
    let mut paths: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "${",
    "%{",
    "}",
    "~}",
    "<<EOF\n",
    "<<-X\n",
    "EOF\n",
    "\n",
    "=",
    ":",
    ",",
    ".",
    "...",
    "?",
    "*",
    "/*",
    "*/",
    "#",
    "//",
    "\\",
    "$${",
    "%%{",
    "for",
    "in",
    "if",
    "null",
    "true",
    "0",
    "1e999",
    "-",
    "!",
    "==",
    "&&",
    "é",
    "\u{0}",
    "\r",
    "\t",
    "job",
    "dynamic \"port\" {",
    "for_each",
    "local.",
    "var.",
    "endif",
    "else",
    "endfor",
    "1/0",
    "7 % 0",
    "\u{feff}",
    "=>",
    "0x",
    "99999999999999999999999999999999999999999",
];

#[derive(Clone, Debug)]
enum Edit {
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, prop::sample::Index),
    Copy(prop::sample::Index, usize, prop::sample::Index),
    Truncate(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<prop::sample::Index>(), 1usize..20).prop_map(|(at, n)| Edit::Delete(at, n)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(at, token)| Edit::Insert(at, token)),
        (any::<prop::sample::Index>(), 1usize..60, any::<prop::sample::Index>())
            .prop_map(|(from, n, to)| Edit::Copy(from, n, to)),
        any::<prop::sample::Index>().prop_map(Edit::Truncate),
    ]
}

fn apply(text: &mut Vec<char>, edit: &Edit) {
    if text.is_empty() {
        return;
    }
    match edit {
        Edit::Delete(at, n) => {
            let at = at.index(text.len());
            text.drain(at..(at + n).min(text.len()));
        }
        Edit::Insert(at, token) => {
            let at = at.index(text.len());
            text.splice(at..at, TOKENS[token.index(TOKENS.len())].chars());
        }
        Edit::Copy(from, n, to) => {
            let from = from.index(text.len());
            let part: Vec<char> = text[from..(from + n).min(text.len())].to_vec();
            let to = to.index(text.len());
            text.splice(to..to, part);
        }
        Edit::Truncate(at) => {
            let at = at.index(text.len());
            text.truncate(at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn token_soup_never_panics(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..60), blanks in any::<bool>()) {
        let soup = tokens.join(if blanks { " " } else { "" });
        exercise(&soup);
        exercise(&format!("job \"a\" {{\n  meta {{\n    x = {soup}\n  }}\n}}\n"));
        exercise(&format!("job \"a\" {{\n  meta {{\n    x = \"{soup}\"\n  }}\n}}\n"));
        exercise(&format!("{{\"job\": {{\"a\": {{\"meta\": {{\"x\": {soup:?}}}}}}}}}"));
    }

    #[test]
    fn a_mutated_sample_never_panics(which in any::<prop::sample::Index>(), edits in prop::collection::vec(edit(), 1..6)) {
        let samples = samples();
        let mut text: Vec<char> = samples[which.index(samples.len())].chars().collect();
        for edit in &edits {
            apply(&mut text, edit);
        }
        exercise(&text.into_iter().collect::<String>());
    }

    #[test]
    fn variable_texts_never_panic(text in "[\\PC\\n]{0,80}", kind in prop::sample::select(&["string", "number", "bool", "list(string)", "map(number)", "object({a=string})"][..])) {
        let source = format!("variable \"v\" {{\n  type = {kind}\n}}\njob \"a\" {{}}\n");
        let inputs = Inputs {
            vars: vec![("v".to_owned(), text.clone())],
            var_files: vec![("v.hcl".to_owned(), text.clone()), ("v.json".to_owned(), format!("{{{text}"))],
            ..Inputs::default()
        };
        let _ = jobspec::parse(Source { name: "a.hcl", text: &source }, &inputs);
        let inputs = Inputs { vars: vec![("v".to_owned(), text)], ..Inputs::default() };
        let _ = jobspec::parse(Source { name: "a.hcl", text: &source }, &inputs);
    }
}

/// The words of the refusal; fails when it takes long.
fn refused(name: &str, text: &str) -> String {
    let start = Instant::now();
    assert!(!exercise(text), "{name} was accepted");
    assert!(start.elapsed() < Duration::from_secs(20), "{name} took {:?}", start.elapsed());
    parse(text).unwrap_err().reference_text()
}

fn in_job(body: &str) -> String {
    format!("job \"a\" {{\n{body}\n}}\n")
}

#[test]
fn what_expands_without_end_is_refused_soon() {
    let mut doubling = String::from("locals {\n  l0 = \"0123456789\"\n");
    let mut sharing = String::from("locals {\n  l0 = [1]\n");
    let mut deepening = String::from("locals {\n  l0 = 1\n");
    for i in 0..400 {
        let _ = writeln!(doubling, "  l{} = \"${{local.l{i}}}${{local.l{i}}}\"", i + 1);
        let _ = writeln!(sharing, "  l{} = [local.l{i}, local.l{i}]", i + 1);
        let _ = writeln!(deepening, "  l{} = [local.l{i}]", i + 1);
    }
    let close = |text: String| format!("{text}}}\n{}", in_job(""));
    refused("doubling text", &close(doubling));
    refused("sharing lists", &close(sharing));
    refused("deepening lists", &close(deepening));
    refused(
        "nested dynamic blocks",
        &in_job(
            "dynamic \"group\" {\nfor_each = range(1000)\nlabels = [\"g${group.value}\"]\ncontent {\ndynamic \"task\" {\nfor_each = range(1000)\nlabels = [\"t\"]\ncontent {\ndynamic \"service\" {\nfor_each = range(1000)\ncontent {}\n}\n}\n}\n}\n}",
        ),
    );
    refused(
        "a large value in many blocks",
        &format!(
            "locals {{\n  big = join(\"\", [for i in range(1000) : \"{}\"])\n}}\n{}",
            "x".repeat(1000),
            in_job(
                "dynamic \"group\" {\nfor_each = range(1000)\nlabels = [\"g\"]\ncontent {\nmeta {\nx = local.big\n}\n}\n}"
            )
        ),
    );
    refused(
        "inherited secrets in many tasks",
        &in_job(&format!(
            "secret \"s\" {{\nprovider = \"p\"\npath = \"p\"\nconfig {{\nx = \"{}\"\n}}\n}}\ndynamic \"task\" {{\nfor_each = range(1000)\nlabels = [\"t${{task.value}}\"]\ncontent {{}}\n}}",
            "x".repeat(500_000)
        )),
    );
}

#[test]
fn text_that_would_slow_the_grammar_is_refused_before_it() {
    let items: String = (0..100_000).map(|i| format!("k{i}=1,")).collect();
    refused("an object", &format!("locals {{\n  a = {{{items}}}\n}}\n"));
    refused("an object in a heredoc", &format!("locals {{\n  a = <<E\n${{{{{items}}}}}\nE\n}}\n"));
    refused("an object in a string", &format!("locals {{\n  a = \"${{{{{items}}}}}\"\n}}\n"));
    let quoted = format!("${{{{{items}}}}}");
    refused("an object in a JSON string", &format!("{{\"locals\": {{\"a\": {quoted:?}}}, \"job\": {{\"a\": {{}}}}}}"));
    for open in ["[", "(", "{a=", "\"${", "!", "-", "f(", "true ? ", "[for a in ", "{for a in ", "<<E\n${", "\"%{if "] {
        refused(open, &format!("locals {{\n  a = {}", open.repeat(30_000)));
        refused(open, &format!("locals {{\n  a = {}\n}}\n", open.repeat(30_000)));
    }
    refused("blocks", &"a {\n".repeat(100_000));
    refused("JSON arrays", &format!("{{\"job\": {}", "[".repeat(100_000)));
    refused("too much text", &"#\n".repeat(jobspec::limits::SOURCE_BYTES));
    refused("a long chain", &format!("locals {{\n  a = 1{}\n}}\n", " + 1".repeat(100_000)));
    refused("many labels", &format!("job {} {{}}\n", "\"a\" ".repeat(100_000)));
    refused("many errors", &in_job(&"y {}\n".repeat(100_000)));
    assert_eq!(parse(&in_job(&"y {}\n".repeat(1000))).unwrap_err().list.len(), jobspec::limits::DIAGNOSTICS);
}

#[test]
fn a_large_sane_file_parses_quickly() {
    let mut body = String::new();
    for i in 0..2000 {
        let _ = write!(
            body,
            "group \"g{i}\" {{\n  task \"t\" {{\n    driver = \"mock_driver\"\n    config {{\n      run_for = \"${{1 + {i}}}s\"\n      args = [\"-p\", \"${{NOMAD_PORT_http}}\"]\n    }}\n    env {{\n      A = \"x\"\n    }}\n  }}\n}}\n"
        );
    }
    let start = Instant::now();
    assert!(exercise(&in_job(&body)));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// The deepest text the grammar takes, on half the promised stack.
#[test]
fn the_deepest_accepted_text_fits_the_promised_stack() {
    let deep = |open: &str, core: &str, close: &str, n: usize| {
        format!("locals {{\n  a = {}{core}{}\n}}\n{}", open.repeat(n), close.repeat(n), in_job(""))
    };
    let mut accepted = 0;
    for (open, core, close) in [
        ("[", "1", "]"),
        ("(", "1", ")"),
        ("{a=", "1", "}"),
        ("\"${", "x", "}\""),
        ("max(", "1", ")"),
        ("[for x in [1] : ", "x", "]"),
        ("true ? ", "1", " : 2"),
        ("-", "1", ""),
    ] {
        for n in (1..64).rev() {
            let text = deep(open, core, close, n);
            let fits = std::thread::scope(|scope| {
                std::thread::Builder::new()
                    .stack_size(jobspec::STACK_BYTES / 2)
                    .spawn_scoped(scope, || parse(&text).is_ok())
                    .unwrap()
                    .join()
                    .unwrap()
            });
            if fits {
                accepted += usize::from(n > 20);
                break;
            }
        }
    }
    assert!(accepted >= 6, "{accepted} of the deep forms were accepted at all");
}
