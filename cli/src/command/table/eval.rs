//! Commands about evaluations.

use super::{FILTER, JSON, PAGE_TOKEN, PER_PAGE, PLAIN, TEMPLATE, VERBOSE};
use crate::command::{Command, Reach, Runner, eval, eval_delete};
use crate::flags::{switch, text};

pub static COMMANDS: &[Command] = &[
    Command {
        path: "eval delete",
        usage: "[options] [evaluation]",
        summary: "Forgets evaluations, by id or by filter",
        about: "Only while the broker is paused (`operator scheduler set-config -pause-eval-broker=true`), and only \
            those from which nothing is still to follow.",
        flags: &[FILTER, switch("yes", "Do not ask.")],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(eval_delete::run(cx))),
        ..PLAIN
    },
    Command {
        path: "eval list",
        summary: "Lists evaluations",
        reach: Reach::Namespace,
        flags: &[
            text("job", "JOB", "Only of this job."),
            text("status", "STATUS", "Only with this status."),
            FILTER,
            PER_PAGE,
            PAGE_TOKEN,
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        runner: Runner::Client(|cx| Box::pin(eval::list(cx))),
        ..PLAIN
    },
    Command {
        path: "eval status",
        aliases: &["eval-status"],
        usage: "[options] <evaluation>",
        summary: "Shows an evaluation: what it was for and what became of it",
        about: "The id may be shortened.",
        reach: Reach::Namespace,
        flags: &[switch("monitor", "Watch it until it ends."), VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(eval::status(cx))),
        ..PLAIN
    },
];
