//! Commands about scaling policies.

use super::{JSON, PLAIN, TEMPLATE, VERBOSE};
use crate::command::{Command, Reach, Runner, scaling_policy};
use crate::flags::text;

pub static COMMANDS: &[Command] = &[
    Command {
        path: "scaling policy info",
        usage: "[options] <policy_id>",
        summary: "Shows a scaling policy",
        reach: Reach::Namespace,
        flags: &[VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(scaling_policy::info(cx))),
        ..PLAIN
    },
    Command {
        path: "scaling policy list",
        summary: "Lists scaling policies",
        reach: Reach::Namespace,
        flags: &[
            VERBOSE,
            JSON,
            TEMPLATE,
            text("type", "TYPE", "Only those of this type: horizontal."),
            text("job", "NAME", "Only those of this job."),
        ],
        runner: Runner::Client(|cx| Box::pin(scaling_policy::list(cx))),
        ..PLAIN
    },
];
