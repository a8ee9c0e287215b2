//! Commands that belong to no group.

use super::{JSON, PLAIN, TEMPLATE, VERBOSE};
use crate::command::{Command, Reach, Runner, agent_monitor, complete, fmt, server, status, system};
use crate::flags::{Kind, flag, switch, text};

pub static COMMANDS: &[Command] = &[
    Command {
        path: "completion",
        usage: "<shell>",
        summary: "Prints the completion script of a shell: bash, zsh or fish",
        about: "For this session: `source <(steppe completion bash)`. For all: `steppe -autocomplete-install`, or in \
            fish `steppe completion fish > ~/.config/fish/completions/steppe.fish`. Commands, flags, and ids of the \
            cluster at -address are completed.",
        reach: Reach::Nobody,
        args: (1, 1),
        runner: Runner::Process(complete::script),
        ..PLAIN
    },
    Command {
        path: "__complete",
        usage: "-- [words…]",
        summary: "Prints what could stand in place of the last word; asked by the scripts of `completion`",
        reach: Reach::Nobody,
        args: (0, usize::MAX),
        hidden: true,
        runner: Runner::Process(complete::candidates),
        ..PLAIN
    },
    Command {
        path: "fmt",
        usage: "[options] [path …]",
        summary: "Lays job files out canonically",
        about: "A path is a file, a directory (its .hcl and .nomad files; the present one unless named), or `-` for stdin, \
            which goes to stdout. Blanks change, nothing else: comments, heredocs and line endings stay.\n\n\
            Exit codes: 0; 1, a file does not parse, or with -check one is not laid out so.",
        reach: Reach::Nobody,
        flags: &[
            switch("check", "Write nothing; exit code 1 when a file is not laid out so."),
            switch("recursive", "The directories below, too."),
            flag("write", Kind::Bool, "true", "", "Whether to write the files."),
            flag("list", Kind::Bool, "true", "", "Whether to list the files that are not laid out so."),
        ],
        args: (0, usize::MAX),
        runner: Runner::Client(|cx| Box::pin(fmt::run(cx))),
        ..PLAIN
    },
    Command {
        path: "monitor",
        summary: "Shows what a machine's processes log, as they log it",
        about: "The machine at -address, or the one named: all services that run there, and its node's agent, each line \
            with the name of its process. Its own log is not changed by -log-level. Ctrl-C ends it. \
            `steppe monitor export -on-disk` prints the file that it keeps.",
        flags: &[
            text(
                "log-level",
                "LEVEL",
                "Lines of this level and above: TRACE, DEBUG, INFO, WARN, ERROR. Default: INFO.",
            ),
            switch("log-include-location", "With file and line of the code."),
            text("node-id", "ID", "The machine of this node; ids may be shortened."),
            text("server-id", "NAME", "The machine of this server; `leader` is the one that leads."),
            switch("json", "Lines as JSON."),
        ],
        runner: Runner::Client(|cx| Box::pin(agent_monitor::run(cx))),
        ..PLAIN
    },
    Command {
        path: "monitor export",
        summary: "Prints the log file that a machine keeps",
        about: "The file of `log_file` at the machine at -address, or the one named, to its end; not those set aside. What \
            journald keeps is shown on the machine: `journalctl -u steppe`.",
        flags: &[
            switch("on-disk", "The log file."),
            text("service-name", "UNIT", "What journald keeps of this unit: refused."),
            text("logs-since", "DURATION", "With -service-name: not older than this."),
            switch("follow", "With -service-name: go on."),
            text("node-id", "ID", "The machine of this node; ids may be shortened."),
            text("server-id", "NAME", "The machine of this server; `leader` is the one that leads."),
        ],
        runner: Runner::Client(|cx| Box::pin(agent_monitor::export(cx))),
        ..PLAIN
    },
    Command {
        path: "server members",
        aliases: &["server-members"],
        summary: "Lists the servers of the control plane",
        flags: &[switch("detailed", "Show every tag."), VERBOSE, JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(server::members(cx))),
        ..PLAIN
    },
    Command {
        path: "status",
        usage: "[options] [identifier]",
        summary: "Shows whatever the identifier names",
        about: "A job, allocation, node, evaluation or deployment; ids may be shortened. Without one, lists the jobs.",
        reach: Reach::Namespace,
        flags: &[VERBOSE],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(status::run(cx))),
        ..PLAIN
    },
    Command {
        path: "system gc",
        summary: "Forgets all that is over: jobs, evaluations, allocations, deployments, nodes",
        runner: Runner::Client(|cx| Box::pin(system::gc(cx))),
        ..PLAIN
    },
    Command {
        path: "system reconcile summaries",
        summary: "Counts the summaries of all jobs anew",
        runner: Runner::Client(|cx| Box::pin(system::reconcile_summaries(cx))),
        ..PLAIN
    },
    Command {
        path: "version",
        usage: "",
        summary: "Prints the version",
        reach: Reach::Nobody,
        runner: Runner::Client(|cx| {
            Box::pin(async move {
                cx.ui.line(crate::command::version());
                Ok(0)
            })
        }),
        ..PLAIN
    },
];
