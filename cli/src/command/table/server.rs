//! Commands about the servers of the control plane, and about the machine that is asked.

use super::{JSON, PLAIN, TEMPLATE};
use crate::command::{Command, Runner, server_join};
use crate::flags::switch;

pub static COMMANDS: &[Command] = &[
    Command {
        path: "agent-info",
        summary: "Shows numbers of the machine at the address: servers, raft, gossip, its node",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(server_join::info(cx))),
        ..PLAIN
    },
    Command {
        path: "node config",
        aliases: &["client-config"],
        usage: "[options] [<address>...]",
        summary: "Shows or sets the servers that the machine's node talks to",
        about: "What is set holds until the node's agent is started again; at least one of the servers must answer.",
        flags: &[
            switch("servers", "List the servers."),
            switch("update-servers", "Talk to the servers at these addresses from now on."),
        ],
        args: (0, 64),
        runner: Runner::Client(|cx| Box::pin(server_join::client_config(cx))),
        ..PLAIN
    },
    Command {
        path: "server force-leave",
        aliases: &["server-force-leave"],
        usage: "[options] <name>",
        summary: "Says that a server that failed will not come back",
        about: "It is shown as left, and its place among the servers of the replicated log is given up at once. Nothing \
            happens to a server that is alive.",
        flags: &[switch("prune", "Do not list it any more either.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(server_join::force_leave(cx))),
        ..PLAIN
    },
    Command {
        path: "server join",
        aliases: &["server-join"],
        usage: "[options] <address> [<address>...]",
        summary: "Joins the machine at the API's address to other servers",
        about: "Addresses are those of gossip, `host` or `host:port` (4648). The servers must have the same `server { \
            encrypt = … }`. It is remembered over restarts.",
        args: (1, 32),
        runner: Runner::Client(|cx| Box::pin(server_join::join(cx))),
        ..PLAIN
    },
];
