//! Commands about evaluations.

use super::{FILTER, JSON, PAGE_TOKEN, PER_PAGE, PLAIN, TEMPLATE, VERBOSE};
use crate::command::{Command, Reach, Runner, eval, eval_delete, eval_explain};
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
        path: "eval explain",
        usage: "[options] <evaluation>",
        summary: "Explains an evaluation: each step with its time, each node with its verdict",
        about: "For every node the first check that it failed, or its score and what that is the mean of; for what \
            found no place the nearest change that would place it. More than a few nodes are counted by reason unless \
            -verbose is given. Schedulers remember the last 64 MB of verdicts; steps and reasons last.",
        reach: Reach::Namespace,
        flags: &[VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(eval_explain::run(cx))),
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
