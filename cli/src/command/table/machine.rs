//! Commands that run services on this machine.

use super::PLAIN;
use crate::command::{Command, Reach, Runner};
use crate::{agent, local, serve};

pub static COMMANDS: &[Command] = &[
    Command {
        path: "agent",
        aliases: &[],
        usage: "[options]",
        summary: "Runs a machine: the control plane's services, the node agent, or both",
        about: "What runs is said by configuration files (docs/configuration.md) and by flags, which go over them. \
            Services are processes of their own, started again when they end. SIGHUP reads the files again. With \
            -dev, the same as `steppe dev`.\n\nFlags of Nomad's agent that are not listed here are taken, too; a \
            warning names those whose setting is not built yet.",
        reach: Reach::Nobody,
        flags: agent::flags::FLAGS,
        args: (0, 0),
        runner: Runner::Process(agent::agent),
        ..PLAIN
    },
    Command {
        path: "config validate",
        usage: "<path> [<path>...]",
        summary: "Says what is wrong with a machine's configuration",
        about: "Files are merged in order; of a directory, the *.hcl and *.json files by name.",
        reach: Reach::Nobody,
        args: (1, 64),
        runner: Runner::Client(|cx| Box::pin(async { Ok(agent::load::validate(cx)) })),
        ..PLAIN
    },
    Command {
        path: "dev",
        usage: "[options]",
        summary: "Runs a small cluster on this machine, until Ctrl-C",
        about: "One process of each service. Everything it keeps is thrown away at its end unless -data-dir is \
            given. Several may run side by side, each with its own -http-port.",
        reach: Reach::Nobody,
        flags: agent::flags::FLAGS,
        runner: Runner::Process(agent::dev),
        ..PLAIN
    },
    Command {
        path: "local down",
        summary: "Stops the local cluster; what scripts/down calls",
        reach: Reach::Nobody,
        flags: local::DOWN_FLAGS,
        runner: Runner::Process(local::down),
        ..PLAIN
    },
    Command {
        path: "local status",
        summary: "Lists the local cluster's processes",
        reach: Reach::Nobody,
        flags: local::STATUS_FLAGS,
        runner: Runner::Process(local::status),
        ..PLAIN
    },
    Command {
        path: "local up",
        summary: "Starts the local cluster; what scripts/up calls",
        about: "Eleven processes: three state servers, a broker, two schedulers, an applier, a controller, a gateway \
            and two agents. What runs already is left alone; what has ended is started again.",
        reach: Reach::Nobody,
        flags: local::UP_FLAGS,
        runner: Runner::Process(local::up),
        ..PLAIN
    },
    Command {
        path: "serve",
        usage: "<service> [options]",
        summary: "Runs one service as this process",
        about: "Services: state, broker, scheduler, applier, controller, gateway, agent. \
            `steppe serve <service> -help` lists its options; each may be given as STEPPE_OPTION too.",
        reach: Reach::Nobody,
        args: (1, 64),
        runner: Runner::Process(serve::run),
        ..PLAIN
    },
    Command {
        path: "supervise",
        usage: "<dir>",
        summary: "Holds the tasks of one allocation; started by agents",
        reach: Reach::Nobody,
        args: (1, 1),
        hidden: true,
        runner: Runner::Process(serve::supervise),
        ..PLAIN
    },
];
