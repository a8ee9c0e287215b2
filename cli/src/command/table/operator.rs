//! Commands of whoever runs the cluster.

use super::{FILTER, JSON, PLAIN, TEMPLATE, VERBOSE};
use crate::command::{
    Command, Reach, Runner, gossip_keys, operator, operator_care, operator_debug, operator_raft, operator_snapshot,
    scheduler, server,
};
use crate::flags::{Kind, flag, list, switch, text};

const OFFLINE: &str = "Takes the data directory of an agent that does not run, changes nothing in it, and does not \
    show secrets. Copies the log to $TMPDIR while it looks.";

pub static COMMANDS: &[Command] = &[
    Command {
        path: "operator api",
        usage: "[options] <path>",
        summary: "Sends a request to the API and prints the answer",
        about: "With stdin that is not a terminal, the body is read from it and the method is POST.",
        reach: Reach::Namespace,
        flags: &[
            text("X", "METHOD", "Method."),
            list("H", "NAME: VALUE", "Header."),
            FILTER,
            switch("dryrun", "Print the equivalent curl command instead."),
            switch("verbose", "Print the answer's status and headers on stderr."),
        ],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(operator::api(cx))),
        ..PLAIN
    },
    Command {
        path: "operator autopilot get-config",
        summary: "Shows how the state servers look after themselves",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(operator_care::autopilot_get(cx))),
        ..PLAIN
    },
    Command {
        path: "operator autopilot health",
        summary: "Shows which state servers are healthy",
        flags: &[JSON],
        runner: Runner::Client(|cx| Box::pin(operator_care::autopilot_health(cx))),
        ..PLAIN
    },
    Command {
        path: "operator autopilot set-config",
        summary: "Changes how the state servers look after themselves",
        about: "What is not named stays as it is.",
        flags: &[
            text("cleanup-dead-servers", "BOOL", "Take servers out that are dead, while a majority lives."),
            text("last-contact-threshold", "DURATION", "Who has not heard from the leader for longer is not healthy."),
            text("max-trailing-logs", "NUMBER", "Who lags by more entries of the log is not healthy."),
            text("min-quorum", "NUMBER", "Never leave fewer servers than this."),
            text(
                "server-stabilization-time",
                "DURATION",
                "Kept for compatibility: a server votes once it has caught up.",
            ),
            text("enable-redundancy-zones", "BOOL", "Kept for compatibility."),
            text("disable-upgrade-migration", "BOOL", "Kept for compatibility."),
            text("enable-custom-upgrades", "BOOL", "Kept for compatibility."),
        ],
        runner: Runner::Client(|cx| Box::pin(operator_care::autopilot_set(cx))),
        ..PLAIN
    },
    Command {
        path: "operator debug",
        aliases: &["debug"],
        summary: "Captures the cluster's state and metrics over a while, into one file",
        about: "For somebody who is to help. Values with a secret's name are left out, and jobs are listed without their \
            tasks' environments. Log lines and profiles are not captured yet: the flags about them are accepted and \
            do nothing. An interrupt ends it early.",
        flags: &[
            flag("duration", Kind::Text, "5m", "DURATION", "How long to capture."),
            flag("interval", Kind::Text, "30s", "DURATION", "How long between two captures."),
            flag(
                "node-id",
                Kind::Text,
                "all",
                "IDS",
                "Nodes to ask for their own state: ids or beginnings, with commas.",
            ),
            flag("max-nodes", Kind::Uint, "10", "NUMBER", "How many nodes to ask at most; 0 = all."),
            text("node-class", "CLASS", "Ask nodes of this class only."),
            flag("server-id", Kind::Text, "all", "NAMES", "Accepted for compatibility: any server tells of all."),
            text("output", "DIR", "Write files into a new directory in DIR instead of an archive here."),
            switch("stale", "Ask any server, not the leader."),
            VERBOSE,
            text("log-level", "LEVEL", "Accepted; nothing is captured of logs yet."),
            text("pprof-duration", "DURATION", "Accepted; there are no profiles."),
            text("pprof-interval", "DURATION", "Accepted; there are no profiles."),
        ],
        runner: Runner::Client(|cx| Box::pin(operator_debug::debug(cx))),
        ..PLAIN
    },
    Command {
        path: "operator gossip keyring generate",
        usage: "",
        summary: "Makes a key for gossip: `server { encrypt = … }`",
        reach: Reach::Nobody,
        flags: &[],
        runner: Runner::Client(|cx| Box::pin(async { gossip_key(cx) })),
        ..PLAIN
    },
    Command {
        path: "operator gossip keyring install",
        usage: "[options] <key>",
        summary: "Has every process accept another key for gossip",
        about: "The first step of a rotation: install a new key, use it, remove the old one.",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(gossip_keys::install(cx))),
        ..PLAIN
    },
    Command {
        path: "operator gossip keyring list",
        summary: "Lists the keys for gossip, by their fingerprints",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(gossip_keys::list(cx))),
        ..PLAIN
    },
    Command {
        path: "operator gossip keyring remove",
        usage: "[options] <key>",
        summary: "Has no process accept a key for gossip any more",
        about: "The key, or its fingerprint. The one that seals what is sent cannot be removed: use another first.",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(gossip_keys::remove(cx))),
        ..PLAIN
    },
    Command {
        path: "operator gossip keyring use",
        usage: "[options] <key>",
        summary: "Has every process seal gossip with a key",
        about: "The key, or its fingerprint; it must be installed.",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(gossip_keys::turn(cx))),
        ..PLAIN
    },
    Command {
        path: "operator metrics",
        summary: "Prints the cluster's metrics",
        flags: &[
            text("format", "FORMAT", "prometheus, or nothing for JSON."),
            switch("pretty", "Accepted for compatibility: JSON is always indented."),
            JSON,
            TEMPLATE,
        ],
        runner: Runner::Client(|cx| Box::pin(operator::metrics(cx))),
        ..PLAIN
    },
    Command {
        path: "operator raft info",
        usage: "<data directory>",
        summary: "Shows what a stopped server's log and snapshot are",
        about: OFFLINE,
        reach: Reach::Nobody,
        flags: &[],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(async { operator_raft::info(cx) })),
        ..PLAIN
    },
    Command {
        path: "operator raft logs",
        usage: "[options] <data directory>",
        summary: "Shows the entries of a stopped server's log as JSON",
        about: OFFLINE,
        reach: Reach::Nobody,
        flags: &[switch("pretty", "Indent the JSON.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(async { operator_raft::logs(cx) })),
        ..PLAIN
    },
    Command {
        path: "operator raft migrate-backend",
        usage: "[options] <data directory>",
        summary: "Says whether a stopped server's log has to be moved to another store",
        about: "It never has to be: there is one store. The command is there for scripts that call it.",
        reach: Reach::Nobody,
        flags: &[switch("yes", "Kept for compatibility: nothing is changed, so nothing is asked.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(async { operator_raft::migrate_backend(cx) })),
        ..PLAIN
    },
    Command {
        path: "operator raft state",
        usage: "[options] <data directory>",
        summary: "Shows the state that a stopped server's snapshot and log give, as JSON",
        about: OFFLINE,
        reach: Reach::Nobody,
        flags: &[text("last-index", "INDEX", "Go up to this entry, not to the last that is known to be committed.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(async { operator_raft::state(cx) })),
        ..PLAIN
    },
    Command {
        path: "operator raft list-peers",
        summary: "Lists the servers of the replicated log",
        flags: &[switch("stale", "Ask any server, not the leader.")],
        runner: Runner::Client(|cx| Box::pin(server::peers(cx))),
        ..PLAIN
    },
    Command {
        path: "operator raft remove-peer",
        summary: "Removes a server from the replicated log",
        about: "Dead servers leave by themselves (`operator autopilot get-config`). A server that lives stays out until \
            it is started again.",
        flags: &[text("peer-id", "ID", "Id of the server, as `operator raft list-peers` lists it.")],
        runner: Runner::Client(|cx| Box::pin(operator_care::remove_peer(cx))),
        ..PLAIN
    },
    Command {
        path: "operator raft transfer-leadership",
        summary: "Has another server lead",
        flags: &[
            text("peer-id", "ID", "Id of the server that is to lead."),
            text("peer-address", "ADDR", "Or its address, as `operator raft list-peers` lists it."),
        ],
        runner: Runner::Client(|cx| Box::pin(operator_care::transfer_leadership(cx))),
        ..PLAIN
    },
    Command {
        path: "operator root keyring list",
        summary: "Lists the keys that encrypt variables and sign identities",
        flags: &[VERBOSE],
        runner: Runner::Client(|cx| Box::pin(operator_care::keyring_list(cx))),
        ..PLAIN
    },
    Command {
        path: "operator root keyring remove",
        usage: "[options] <key>",
        summary: "Forgets a root key that is not active any more",
        about: "What it signed is not verified any more, what it encrypted not read: it is refused while allocations that \
            it signed for are not over.",
        flags: &[switch("force", "Remove it although it is in use.")],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(operator_care::keyring_remove(cx))),
        ..PLAIN
    },
    Command {
        path: "operator root keyring rotate",
        summary: "Makes a new root key",
        about: "The old one verifies and decrypts until it is removed.",
        flags: &[
            switch("full", "Have everything encrypted anew. Nothing is encrypted with root keys yet."),
            switch("now", "Accepted for compatibility: without -prepublish the new key signs at once."),
            text("prepublish", "DURATION", "Publish the key now, and sign with it after this time."),
            VERBOSE,
        ],
        runner: Runner::Client(|cx| Box::pin(operator_care::keyring_rotate(cx))),
        ..PLAIN
    },
    Command {
        path: "operator snapshot inspect",
        usage: "[options] <file>",
        summary: "Checks a snapshot and shows what is in it",
        reach: Reach::Nobody,
        flags: &[JSON],
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(operator_snapshot::inspect(cx))),
        ..PLAIN
    },
    Command {
        path: "operator snapshot restore",
        usage: "[options] <file>",
        summary: "Makes a snapshot the state of the cluster",
        about: "Whole or not at all. Everything that happened since the snapshot is forgotten; nodes and their tasks are \
            brought in line with it.",
        args: (1, 1),
        runner: Runner::Client(|cx| Box::pin(operator_snapshot::restore(cx))),
        ..PLAIN
    },
    Command {
        path: "operator snapshot save",
        usage: "[options] [file]",
        summary: "Saves the state of the cluster to a file",
        about: "The file holds the cluster's keys: keep it as you keep secrets. It is named by the time unless a name is \
            given, and it is checked before it gets its name.",
        flags: &[switch("stale", "Take it from any server, without asking the leader.")],
        args: (0, 1),
        runner: Runner::Client(|cx| Box::pin(operator_snapshot::save(cx))),
        ..PLAIN
    },
    Command {
        path: "operator scheduler get-config",
        summary: "Shows how the cluster schedules",
        flags: &[JSON, TEMPLATE],
        runner: Runner::Client(|cx| Box::pin(scheduler::get_config(cx))),
        ..PLAIN
    },
    Command {
        path: "operator scheduler set-config",
        summary: "Changes how the cluster schedules",
        about: "What no flag names stays as it is. Values of switches are true or false.",
        flags: &[
            text("check-index", "INDEX", "Change it only if it was last modified at this index."),
            text("scheduler-algorithm", "NAME", "binpack or spread."),
            text("memory-oversubscription", "BOOL", "Whether memory_max counts."),
            text("reject-job-registration", "BOOL", "Whether jobs are refused."),
            text("pause-eval-broker", "BOOL", "Whether the broker hands out nothing."),
            text("preempt-batch-scheduler", "BOOL", "Whether batch jobs may displace others."),
            text("preempt-service-scheduler", "BOOL", "Whether service jobs may displace others."),
            text("preempt-sysbatch-scheduler", "BOOL", "Whether sysbatch jobs may displace others."),
            text("preempt-system-scheduler", "BOOL", "Whether system jobs may displace others."),
            text("node-limit-for-feasibility-checks", "NUMBER", "Accepted for compatibility: all nodes are looked at."),
        ],
        runner: Runner::Client(|cx| Box::pin(scheduler::set_config(cx))),
        ..PLAIN
    },
];

fn gossip_key(cx: &mut crate::command::Cx) -> Result<u8, crate::command::Failure> {
    use base64::Engine as _;
    // A version 4 UUID is 122 random bits each; four of them are more than a key of 256 bits needs.
    let random: String = (0..4).map(|_| client::state::new_uuid()).collect();
    let key = kit::gossip::widened(random.as_bytes());
    cx.ui.line(base64::engine::general_purpose::STANDARD.encode(key));
    Ok(0)
}
