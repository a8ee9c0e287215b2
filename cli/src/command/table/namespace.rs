//! Commands about namespaces.

use super::{JSON, PLAIN, TEMPLATE};
use crate::command::{Command, Runner, namespace, operator};
use crate::flags::{list, switch};

pub static COMMANDS: &[Command] = &[
    Command {
        path: "namespace list",
        summary: "Lists namespaces",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(operator::namespaces(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace apply",
        usage: "[options] <input>",
        summary: "Makes or changes a namespace",
        about: "The input is a file in HCL, `-` for stdin, or the name of a namespace.",
        flags: &[
            list("description", "TEXT", "Description of the namespace."),
            list("quota", "NAME", "Quota of the namespace."),
            switch("json", "The file is JSON, as the API takes it."),
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::apply(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace delete",
        usage: "[options] <namespace>",
        summary: "Deletes a namespace in which nothing is left",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::delete(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace inspect",
        usage: "[options] <namespace>",
        summary: "Prints a namespace as JSON",
        flags: &[TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::inspect(cx))),
        ..PLAIN
    },
    Command {
        path: "namespace status",
        usage: "[options] <namespace>",
        summary: "Shows a namespace",
        flags: &[JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(namespace::status(cx))),
        ..PLAIN
    },
];
