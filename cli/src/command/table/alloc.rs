//! Commands about allocations.

use super::{DETACH, ESCAPE, JSON, PLAIN, SESSION, STDIN, TASK, TEMPLATE, TTY, VERBOSE};
use crate::command::{Command, Reach, Runner, alloc_act, alloc_exec, alloc_fs, alloc_logs, alloc_status, alloc_stop};
use crate::flags::{Kind, flag, switch, text};

pub static COMMANDS: &[Command] = &[
    Command {
        path: "alloc checks",
        usage: "[options] <allocation>",
        summary: "Shows the state of an allocation's service checks",
        about: "Services cannot be registered yet, so there are none.",
        reach: Reach::Namespace,
        flags: &[VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(alloc_act::checks(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc exec",
        aliases: &["exec"],
        usage: "[options] <allocation> <command> [args…]",
        summary: "Runs a command beside an allocation's task",
        about: SESSION,
        reach: Reach::Namespace,
        flags: &[
            STDIN,
            TTY,
            ESCAPE,
            TASK,
            switch("job", "The argument is a job: any of its allocations, preferably a running one."),
            text("group", "NAME", "The task group, with -job."),
        ],
        args: (2, usize::MAX),
        verbatim_after: 2,
        runner: Runner::Client(|cx| Box::pin(alloc_exec::exec(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc fs",
        aliases: &["fs"],
        usage: "[options] <allocation> [path]",
        summary: "Lists an allocation's directories and prints its files",
        about: "The path is in the allocation's directory: `alloc/` is what its tasks share, `<task>/local/` is a task's \
            own. A directory is listed, a file printed. Secrets are not shown.",
        reach: Reach::Namespace,
        flags: &[
            switch("H", "Exact sizes and times, for machines."),
            switch("stat", "Only what the path is."),
            switch("f", "Go on as the file grows."),
            switch("tail", "Only the end: 10 lines unless -n or -c says otherwise."),
            flag("n", Kind::Int, "-1", "LINES", "Lines to begin from the end, with -tail."),
            flag("c", Kind::Int, "-1", "BYTES", "Bytes to begin from the end, with -tail."),
            switch("job", "The argument is a job: any of its allocations, preferably a running one."),
            text("group", "NAME", "The task group, with -job."),
            VERBOSE,
        ],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_fs::run(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc pause",
        usage: "[options] <allocation> [task]",
        summary: "Pauses a task, lets it run, or lets it follow its schedule",
        about: "A paused task is ended and waits: its allocation stays, and the restart policy does not count it. The wish \
            lasts until it is changed again, over its schedule and a restart of the agent.",
        reach: Reach::Namespace,
        flags: &[
            flag("state", Kind::Text, "pause", "STATE", "`pause`, `run` (whatever the schedule says) or `scheduled`."),
            switch("status", "Only say how things stand."),
            TASK,
            VERBOSE,
        ],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_act::pause(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc restart",
        usage: "[options] <allocation> [task]",
        summary: "Restarts an allocation's tasks where they are",
        about: "All that run, or the one that is named. It does not count as an attempt of the restart policy.",
        reach: Reach::Namespace,
        flags: &[switch("all-tasks", "Those that ended, too."), TASK, VERBOSE],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_act::restart(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc signal",
        usage: "[options] <allocation> [task]",
        summary: "Sends a signal to an allocation's tasks",
        about: "All that run, or the one that is named.",
        reach: Reach::Namespace,
        flags: &[flag("s", Kind::Text, "SIGKILL", "SIGNAL", "The signal, with or without SIG."), TASK, VERBOSE],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_act::signal(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc logs",
        aliases: &["logs"],
        usage: "[options] <allocation> [task]",
        summary: "Prints what an allocation's task writes",
        about: "Prints stdout and stderr, each to its own. The task must be named when there are several.",
        reach: Reach::Namespace,
        flags: &[
            switch("stdout", "Only stdout."),
            switch("stderr", "Only stderr."),
            switch("f", "Go on as the task writes."),
            switch("tail", "Only the end: 10 lines unless -n or -c says otherwise."),
            flag("n", Kind::Int, "-1", "LINES", "Lines to begin from the end, with -tail."),
            flag("c", Kind::Int, "-1", "BYTES", "Bytes to begin from the end, with -tail."),
            switch("job", "The argument is a job: any of its allocations, preferably a running one."),
            text("task", "NAME", "The task."),
            text("group", "NAME", "The task group, with -job."),
            VERBOSE,
        ],
        args: (1, 2),
        runner: Runner::Client(|cx| Box::pin(alloc_logs::run(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc status",
        aliases: &["alloc-status"],
        usage: "[options] [allocation]",
        summary: "Shows an allocation with its tasks and their events",
        about: "The id may be shortened. Without one, lists the allocations.",
        reach: Reach::Namespace,
        flags: &[
            switch("short", "Only the tasks' last events."),
            switch("stats", "What its tasks use, in detail."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(alloc_status::run(cx))),
        ..PLAIN
    },
    Command {
        path: "alloc stop",
        aliases: &[],
        usage: "[options] <allocation>",
        summary: "Stops an allocation; another takes its place",
        about: "Exit code 2 says that the replacement could not be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, switch("no-shutdown-delay", "Ignore the group's and tasks' shutdown_delay."), VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(alloc_stop::run(cx))),
        ..PLAIN
    },
];
