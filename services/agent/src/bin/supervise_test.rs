//! `agent-supervise-test supervise DIR`: the supervisor as a program of its own, for tests.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next()) {
        (Some(word), Some(dir)) if word == "supervise" => driver::supervisor::main(Path::new(&dir)),
        _ => {
            eprintln!("usage: agent-supervise-test supervise DIR");
            ExitCode::from(2)
        }
    }
}
