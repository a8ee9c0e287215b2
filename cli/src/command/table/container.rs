//! What the containers of `compose.yaml` run beside services.

use super::PLAIN;
use crate::command::{Command, Reach, Runner};
use crate::container::{self, certificates, health, node};

pub static COMMANDS: &[Command] = &[
    Command {
        path: "container agent",
        summary: "Runs a replica of the agent, as the first node that no other replica is",
        about: "Takes the first free place in -root, gets its certificate from the cluster with the token in -trust, \
            and is `steppe serve agent`, whose options are given as STEPPE_OPTION.",
        reach: Reach::Nobody,
        flags: container::AGENT_FLAGS,
        runner: Runner::Process(node::agent),
        ..PLAIN
    },
    Command {
        path: "container certificates",
        summary: "Makes the certificates of a composed cluster, those that are missing or end before long",
        about: "One directory for each role, to be a volume that only its containers have.",
        reach: Reach::Nobody,
        flags: container::CERTIFICATES_FLAGS,
        runner: Runner::Process(certificates::certificates),
        ..PLAIN
    },
    Command {
        path: "container health",
        summary: "Asks this container's service whether it can work; for health checks",
        about: "STEPPE_IDENTITY_DIR and STEPPE_BIND say where it is.",
        reach: Reach::Nobody,
        args: (0, 0),
        runner: Runner::Process(health::health),
        ..PLAIN
    },
];
