//! `steppe-supervise-test supervise DIR`: the supervisor as a program of its own, for tests.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match words.split_first() {
        Some((word, rest)) if word == "supervise" => driver::supervisor::main(rest),
        _ => {
            eprintln!("usage: steppe-supervise-test supervise DIR");
            ExitCode::from(2)
        }
    }
}
