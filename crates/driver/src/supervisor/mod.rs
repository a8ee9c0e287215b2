//! The supervisor: a small process per allocation that holds its tasks while agents come and go.
//!
//! Question it answers: who reads a task's output, collects its exit status and can still kill it when the
//! agent has been killed, upgraded or restarted?
//!
//! ```text
//!   agent ──control.sock (JSON lines)──► supervisor ──fork/exec──► task main process (own group, cgroup)
//!                                            ▲  ▲                        │ stdout, stderr (pipes)
//!                             <task>.task.json  └────────────────────────┘──► alloc/logs/<task>.stdout.N
//! ```
//!
//! * One thread, one `poll`, no async runtime: the supervisor starts before any runtime and stays at about
//!   a megabyte of its own memory. The listening socket is made by the agent and arrives as stdin, so the
//!   agent can connect at once and never has to wait for a path to appear.
//! * It leads a session of its own and is a child subreaper: it survives the agent, and no grandchild of a
//!   task escapes it by daemonizing.
//! * An exit is written to `<task>.task.json` before it is announced. An agent that finds the supervisor gone
//!   reads the verdict there.
//! * It never decides: no restarts, no policy. It holds no secret but what the tasks' environments carry,
//!   and takes orders only from its own user and root.
//! * It ends when told to ([`protocol::Request::Shutdown`]), or by itself a minute after the last task was
//!   acknowledged and the last agent hung up. With a live or unacknowledged task it stays.
//!
//! How it fails: killed, its tasks lose their reader (SIGPIPE or a full pipe) and their parent; the agent's
//! connection breaks, the tasks are reported as ended, with the verdict that was written or without a result, and
//! what is left of them is killed by cgroup or by the pid and start time in the state file. A full disk costs
//! output, never the task.

pub mod client;
mod conn;
pub mod protocol;
mod run;
pub(crate) mod task;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// The directory below an allocation's directory where its supervisor lives.
pub const DIR_NAME: &str = ".supervisor";
/// The control socket, below [`DIR_NAME`].
pub const SOCKET_NAME: &str = "control.sock";
/// Where the supervisor's own complaints go.
pub const LOG_NAME: &str = "supervisor.log";
/// Locked while a supervisor lives.
pub const LOCK_NAME: &str = "lock";

/// `supervise DIR`: runs a supervisor in `DIR` until its work is done. The control socket must be file
/// descriptor 0. `supervise --session …`: becomes a command beside a task, see [`crate::session`].
///
/// Call it first thing in `main`, before threads exist: it blocks signals and forks.
pub fn main(words: &[OsString]) -> ExitCode {
    match words {
        [word, rest @ ..] if word == crate::session::FLAG => crate::session::enter(rest),
        [dir] => supervise(Path::new(dir)),
        _ => {
            note("usage: supervise DIR");
            ExitCode::from(2)
        }
    }
}

/// A line for the log beside the tasks. Where there is no room for it, it is lost, and nothing else is:
/// `eprintln!` would panic, and take every task of the allocation along.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn supervise(dir: &Path) -> ExitCode {
    match run::run(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("supervisor failed: {error}"));
            ExitCode::FAILURE
        }
    }
}
