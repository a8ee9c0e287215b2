//! The `steppe` program: every command of the command line, and every service.
//!
//! ```text
//!   main ─► supervise (before anything else) | command::run ─► table ─► a client command: PublicClient, Ui
//!                                                                  └──► a process: serve, agent, local
//! ```
//!
//! Client commands speak to the public API only; what they print is decided by its answers, the flags and
//! a clock that comes in from outside, so that tests can fix all three. Services are run as they are;
//! `agent`, `dev` and `local` start them as processes of this very program.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod command;
pub mod container;
pub mod env;
pub mod flags;
pub mod format;
pub mod local;
pub mod serve;
pub mod template;
mod terminal;
pub mod ui;

use crate::env::Env;
use crate::ui::Ui;

/// Runs a command line in this process's surroundings, and answers the exit code.
pub fn main(words: &[String]) -> u8 {
    let env = Env::of_process();
    let mut ui = Ui::of_process(&env);
    // First of all and without a table's detour: a supervisor must stay small.
    if let [word, rest @ ..] = words
        && word == "supervise"
    {
        return serve::supervise(rest, &env, &mut ui);
    }
    command::run(words, env, ui)
}
