//! Runs tests that need a Docker Engine, in the words of the standard runner: where there is none, each is
//! counted as ignored and says why.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test by its name.
pub type Test = (&'static str, fn());

/// Runs those whose name holds one of the words of the command line. `missing` is asked only when there is one.
pub fn main(missing: impl FnOnce() -> Option<String>, tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut words = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--list" => {
                tests.iter().for_each(|(name, _)| println!("{name}: test"));
                return ExitCode::SUCCESS;
            }
            "--test-threads" | "--skip" => drop(rest.next()),
            word if word.starts_with('-') => {}
            word => words.push(word),
        }
    }
    let chosen: Vec<&Test> =
        tests.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word))).collect();
    let missing = if chosen.is_empty() { None } else { missing() };
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, test) in chosen {
        if let Some(reason) = &missing {
            ignored += 1;
            println!("test {name} ... ignored, {reason}");
            continue;
        }
        let ok = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if ok { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let filtered = tests.len() - passed - failed - ignored;
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {filtered} filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
