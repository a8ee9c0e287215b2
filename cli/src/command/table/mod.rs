//! Every command there is, and the flags that several have.

mod alloc;
mod container;
mod deployment;
mod eval;
mod general;
mod job;
mod machine;
mod namespace;
mod node;
mod operator;
mod scaling;
mod server;
mod tls;

use super::{Command, Reach, Runner};
use crate::flags::{Flag, Kind, flag, switch, text};

const JSON: Flag = switch("json", "Print the API's answer as JSON.");
const TEMPLATE: Flag = text("t", "TEMPLATE", "Print the API's answer by a Go template.");
const VERBOSE: Flag = switch("verbose", "Print full ids and exact times.");
const DETACH: Flag = switch("detach", "Return at once, printing the evaluation's id, instead of watching.");
const PER_PAGE: Flag = flag("per-page", Kind::Uint, "", "NUMBER", "How many rows to list.");
const PAGE_TOKEN: Flag = text("page-token", "TOKEN", "Where the page before ended.");
const FILTER: Flag = text("filter", "EXPRESSION", "List only rows for which this holds.");
/// A command that is not worth a field.
const PLAIN: Command = Command {
    path: "",
    aliases: &[],
    usage: "[options]",
    summary: "",
    about: "",
    reach: Reach::Cluster,
    flags: &[],
    args: (0, 0),
    verbatim_after: usize::MAX,
    code_error: 1,
    hidden: false,
    runner: Runner::Client(|_| Box::pin(async { Ok(1) })),
};
const TASK: Flag = text("task", "NAME", "The task.");
const STDIN: Flag =
    flag("i", Kind::Bool, "true", "", "Whether to pass stdin on; -i=false closes it for the command at once.");
const TTY: Flag = flag("t", Kind::Bool, "", "", "Whether to use a terminal. Default: when stdin and stdout are one.");
const ESCAPE: Flag = flag(
    "e",
    Kind::Text,
    "~",
    "CHARACTER",
    "Escape character of sessions with a terminal: at the beginning of a line, with a dot it ends the session. `none` turns it off.",
);
const SESSION: &str = "The exit code is the command's own; 128 and the signal's number when a signal ended it; 1 when \
    the session failed.\n\nWith a terminal, `~.` at the beginning of a line ends the session, and `~~` types a tilde.";

/// All of them, in no order.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    let groups = [
        alloc::COMMANDS,
        container::COMMANDS,
        deployment::COMMANDS,
        eval::COMMANDS,
        general::COMMANDS,
        job::COMMANDS,
        machine::COMMANDS,
        namespace::COMMANDS,
        node::COMMANDS,
        operator::COMMANDS,
        tls::COMMANDS,
        scaling::COMMANDS,
        server::COMMANDS,
    ];
    groups.into_iter().flatten()
}

/// What the reference has and is to come; a group stands for all of its commands.
pub const NOT_BUILT: &[&str] = &[
    "acl",
    "check",
    "license",
    "login",
    "node identity",
    "operator client-state",
    "operator snapshot redact",
    "operator snapshot state",
    "operator utilization",
    "plugin",
    "quota",
    "recommendation",
    "sentinel",
    "service",
    "setup",
    "ui",
    "var",
    "volume",
];
