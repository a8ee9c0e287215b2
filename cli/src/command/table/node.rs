//! Commands about nodes and their pools.

use super::{FILTER, JSON, PAGE_TOKEN, PER_PAGE, PLAIN, TEMPLATE, VERBOSE};
use crate::command::{
    Command, Reach, Runner, node_drain, node_eligibility, node_intro, node_meta, node_pool, node_purge, node_status,
};
use crate::flags::{Flag, Kind, flag, list, switch, text};

const NODE_ID: Flag = text("node-id", "NODE", "The node, by id or name; the one at -address unless given.");

pub static COMMANDS: &[Command] = &[
    Command {
        path: "node drain",
        aliases: &["node-drain"],
        usage: "[options] <node>",
        summary: "Moves a node's work elsewhere, or ends that",
        about: "The node is an id, which may be shortened, or a name; with -self, the one on this machine. Its groups \
            are moved as fast as their migrate blocks let them go; batch work is left to end; system jobs go last; at \
            the deadline whatever is left is stopped. The node stays ineligible.\n\nThe drain is watched until it \
            is over; Ctrl-C ends the watching only.",
        flags: &[
            switch("enable", "Begin to drain, or change how."),
            switch("disable", "End the drain."),
            text("deadline", "TIME", "How long work may take to leave; 1h unless given."),
            switch("force", "Stop everything at once."),
            switch("no-deadline", "Wait for as long as it takes."),
            switch("ignore-system", "System jobs stay."),
            switch("keep-ineligible", "With -disable: the node gets no new work."),
            switch("detach", "Return at once instead of watching."),
            switch("monitor", "Watch the drain that is under way."),
            switch("self", "The node on this machine."),
            text("m", "MESSAGE", "Message to remember with the drain."),
            list("meta", "KEY=VALUE", "More to remember with the drain."),
            switch("yes", "Do not ask."),
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_drain::run(cx))),
        ..PLAIN
    },
    Command {
        path: "node eligibility",
        usage: "[options] <node>",
        summary: "Sets whether a node gets new work",
        about: "What runs on it stays. The node is an id, which may be shortened, or a name; with -self, the one on \
            this machine.",
        flags: &[
            switch("enable", "It gets new work."),
            switch("disable", "It gets none."),
            switch("self", "The node on this machine."),
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_eligibility::run(cx))),
        ..PLAIN
    },
    Command {
        path: "node meta apply",
        usage: "[options] <key>=<value> [<key>=<value> …]",
        summary: "Changes what a node says of itself",
        about: "The node keeps it over restarts; jobs see it as ${meta.key}.",
        flags: &[NODE_ID, text("unset", "KEYS", "Keys to remove, with commas between them.")],
        args: (0, 512),
        runner: Runner::Client(|cx| Box::pin(node_meta::apply(cx))),
        ..PLAIN
    },
    Command {
        path: "node meta read",
        summary: "Shows what a node says of itself",
        about: "All of it, what was changed since, and what its configuration says.",
        flags: &[NODE_ID, JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(node_meta::read(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool apply",
        usage: "[options] <input>",
        summary: "Makes or changes a node pool",
        about: "The input is a file in HCL, or `-` for stdin.",
        reach: Reach::Namespace,
        flags: &[switch("json", "The file is JSON, as the API takes it.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::apply(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool delete",
        usage: "[options] <node-pool>",
        summary: "Deletes a node pool that nothing uses",
        reach: Reach::Namespace,
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::delete(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool info",
        usage: "[options] <node-pool>",
        summary: "Shows a node pool",
        reach: Reach::Namespace,
        flags: &[JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::info(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool init",
        usage: "[options] [filename]",
        summary: "Writes an example of a node pool's file",
        about: "A file that is there is not replaced.",
        reach: Reach::Nobody,
        flags: &[
            flag("out", Kind::Text, "hcl", "FORMAT", "Format of the file: hcl or json."),
            switch("quiet", "Say nothing."),
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::init(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool jobs",
        usage: "[options] <node-pool>",
        summary: "Lists the jobs of a node pool",
        reach: Reach::Namespace,
        flags: &[FILTER, PER_PAGE, PAGE_TOKEN, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::jobs(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool list",
        summary: "Lists node pools",
        reach: Reach::Namespace,
        flags: &[FILTER, PER_PAGE, PAGE_TOKEN, JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(node_pool::list(cx))),
        ..PLAIN
    },
    Command {
        path: "node pool nodes",
        usage: "[options] <node-pool>",
        summary: "Lists the nodes of a node pool",
        flags: &[FILTER, PER_PAGE, PAGE_TOKEN, VERBOSE, JSON, TEMPLATE],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_pool::nodes(cx))),
        ..PLAIN
    },
    Command {
        path: "node purge",
        usage: "[options] <node>",
        summary: "Forgets a node, and takes its trust away",
        about: "What it runs ends and is placed elsewhere; its calls are refused until it is introduced anew. For a \
            node that will not come back, or that is not to be trusted any more. The node is an id, which may be \
            shortened, or a name.",
        flags: &[switch("yes", "Do not ask.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(node_purge::run(cx))),
        ..PLAIN
    },
    Command {
        path: "node status",
        aliases: &["node-status"],
        usage: "[options] [node]",
        summary: "Shows a node with its resources and allocations",
        about: "The node is an id, which may be shortened, or a name. Without one, lists the nodes.",
        flags: &[
            switch("short", "Only the node itself and its allocations."),
            switch("allocs", "Count the running allocations, in the list."),
            switch("os", "Show the operating system, in the list."),
            switch("quiet", "Print ids only, in the list."),
            switch("self", "Show the node of the agent at -address."),
            switch("stats", "What its host uses, in detail."),
            FILTER,
            PER_PAGE,
            PAGE_TOKEN,
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(node_status::run(cx))),
        ..PLAIN
    },
    Command {
        path: "node intro create",
        summary: "Makes a token that lets a new node into the cluster",
        about: "The machine is given it by -client-intro-token. It may be used until it is over.",
        flags: &[
            flag("ttl", Kind::Duration, "", "TIME", "How long it may be used; 5m unless given, at most 30m."),
            text("node-name", "NAME", "Only for a node of this name."),
            text("node-pool", "POOL", "Only for a node of this pool."),
            JSON,
            TEMPLATE,
        ],
        runner: Runner::Client(|cx| Box::pin(node_intro::create(cx))),
        ..PLAIN
    },
];
