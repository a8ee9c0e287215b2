//! Commands about deployments.

use super::{DETACH, FILTER, JSON, PLAIN, TEMPLATE, VERBOSE};
use crate::command::{Command, Reach, Runner, deployment, deployment_wish};
use crate::flags::{Kind, flag, list, switch};

pub static COMMANDS: &[Command] = &[
    Command {
        path: "deployment fail",
        usage: "[options] <deployment>",
        summary: "Fails a deployment",
        about: "Goes back to the newest stable version where a group has auto_revert. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::fail(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment list",
        usage: "[options]",
        summary: "Lists deployments",
        reach: Reach::Namespace,
        flags: &[VERBOSE, JSON, FILTER, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(deployment::list(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment pause",
        usage: "[options] <deployment>",
        summary: "Pauses a deployment",
        about: "What runs goes on running; nothing more is replaced until it is resumed.",
        reach: Reach::Namespace,
        flags: &[VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::pause(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment promote",
        usage: "[options] <deployment>",
        summary: "Promotes a deployment's canaries",
        about: "Of all groups unless -group names some; all of them must be healthy. Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE, list("group", "NAME", "Only this group; may be given several times.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::promote(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment resume",
        usage: "[options] <deployment>",
        summary: "Resumes a paused deployment",
        about: "Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::resume(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment status",
        usage: "[options] [deployment]",
        summary: "Shows a deployment",
        about: "The id may be shortened. Without one, lists the deployments.",
        reach: Reach::Namespace,
        flags: &[
            switch("monitor", "Watch it until it ends."),
            flag("wait", Kind::Duration, "2s", "TIME", "Accepted for compatibility: updates are shown as they happen."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(deployment::status(cx))),
        ..PLAIN
    },
    Command {
        path: "deployment unblock",
        usage: "[options] <deployment>",
        summary: "Lets a blocked deployment go on",
        about: "Exit code 2 says that not everything could be placed.",
        reach: Reach::Namespace,
        flags: &[DETACH, VERBOSE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(deployment_wish::unblock(cx))),
        ..PLAIN
    },
];
