//! Help texts, all made from the table of commands.

use std::fmt::Write as _;

use super::table::commands;
use super::{Command, GENERAL, NAMESPACE, Reach};
use crate::flags::{Flag, Kind};

/// Groups of commands and what they are about.
pub const GROUPS: &[(&str, &str)] = &[
    ("alloc", "Allocations: what runs where"),
    ("config", "Configuration of a machine"),
    ("deployment", "Deployments: how versions roll out"),
    ("eval", "Evaluations: what the schedulers were asked"),
    ("job", "Jobs: what is to run"),
    ("container", "What the containers of compose.yaml run beside services"),
    ("job periodic", "Jobs that start by the clock"),
    ("job tag", "Names of a job's versions"),
    ("local", "The local cluster of scripts/up and scripts/down"),
    ("namespace", "Namespaces"),
    ("node", "Nodes: the machines"),
    ("node meta", "What nodes say of themselves"),
    ("node pool", "Node pools: groups of nodes that jobs ask for"),
    ("node intro", "Letting new nodes in"),
    ("operator", "Tools for whoever runs the cluster"),
    ("operator autopilot", "How the group of servers looks after itself"),
    ("operator gossip", "Gossip between servers"),
    ("operator gossip keyring", "Keys that seal gossip"),
    ("operator raft", "The replicated log's servers"),
    ("operator root", "Keys that sign identities and encrypt variables"),
    ("operator root keyring", "Those keys: list, rotate, remove"),
    ("operator snapshot", "The cluster's state as a file"),
    ("operator scheduler", "How the cluster schedules"),
    ("scaling", "What may be done to the counts of groups"),
    ("scaling policy", "Bounds and rules for whoever scales groups"),
    ("server", "Servers of the control plane"),
    ("system", "The cluster put in order by hand"),
    ("system reconcile", "Numbers counted anew"),
    ("tls", "Certificates of an operator's own"),
    ("tls ca", "Authorities"),
    ("tls cert", "Certificates of an authority"),
];
/// Shown first, in this order.
const COMMON: &[&str] = &["run", "stop", "status", "logs", "alloc", "job", "node", "dev", "serve"];
const WIDTH: usize = 96;

pub fn is_group(name: &str) -> bool {
    GROUPS.iter().any(|(group, _)| *group == name)
}

/// `steppe -help`.
pub fn root() -> String {
    let mut rest: Vec<(&str, &str)> = GROUPS.iter().copied().filter(|(name, _)| !name.contains(' ')).collect();
    for command in commands().filter(|c| !c.hidden) {
        let single = command.shown_aliases().chain([command.path]).filter(|name| !name.contains(' '));
        rest.extend(single.filter(|name| !name.contains('-')).map(|name| (name, command.summary)));
    }
    rest.sort_unstable();
    let common: Vec<_> = COMMON.iter().filter_map(|name| rest.iter().find(|(n, _)| n == name).copied()).collect();
    rest.retain(|(name, _)| !COMMON.contains(name));
    format!(
        "Usage: steppe [-version] [-help] [-autocomplete-install] [-autocomplete-uninstall] <command> [args]\n\nCommon commands:\n{}\nOther commands:\n{}\n\
         `steppe <command> -help` says more.",
        listed(&common),
        listed(&rest)
    )
}

/// Help of a group.
pub fn group(name: &str) -> String {
    let about = GROUPS.iter().find(|(group, _)| *group == name).map_or("", |(_, about)| about);
    let prefix = format!("{name} ");
    let below = |full: &'static str| full.strip_prefix(prefix.as_str()).filter(|rest| !rest.contains(' '));
    let mut rows: Vec<(&str, &str)> =
        commands().filter(|c| !c.hidden).filter_map(|c| Some((below(c.path)?, c.summary))).collect();
    rows.extend(GROUPS.iter().filter_map(|(group, about)| Some((below(group)?, *about))));
    rows.sort_unstable();
    format!(
        "Usage: steppe {name} <subcommand> [options] [args]\n\n  {about}.\n\nSubcommands:\n{}",
        listed(&rows).trim_end()
    )
}

fn listed(rows: &[(&str, &str)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut out, (name, about)| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "    {name:width$}  {about}");
        out
    })
}

/// Help of one command.
pub fn command(command: &Command) -> String {
    let mut out = format!("Usage: {}\n", format!("steppe {} {}", command.path, command.usage).trim_end());
    for alias in command.shown_aliases() {
        let _ = writeln!(out, "Alias: steppe {alias}");
    }
    let _ = write!(out, "\n{}", wrapped(command.summary, 2, "."));
    if !command.about.is_empty() {
        for paragraph in command.about.split("\n\n") {
            let _ = write!(out, "\n{}", wrapped(paragraph, 2, ""));
        }
    }
    if !command.flags.is_empty() {
        let _ = write!(out, "\nOptions:\n{}", flags(command.flags));
    }
    if command.reach != Reach::Nobody {
        let namespace = if command.reach == Reach::Namespace { NAMESPACE } else { &[] };
        let _ = write!(out, "\nGeneral options:\n{}{}", flags(namespace), flags(GENERAL));
    }
    out.trim_end().to_owned()
}

fn flags(table: &[Flag]) -> String {
    table.iter().fold(String::new(), |mut out, flag| {
        let value = if flag.value.is_empty() { String::new() } else { format!("=<{}>", flag.value.to_lowercase()) };
        let _ = writeln!(out, "\n  -{}{value}", flag.name);
        let mut help = flag.help.to_owned();
        if flag.kind == Kind::List {
            help.push_str(" May be given several times.");
        }
        if !flag.default.is_empty() {
            let _ = write!(help, " Default: {}.", flag.default);
        }
        out.push_str(&wrapped(&help, 4, ""));
        out
    })
}

/// Words in lines of bounded width. A line that is indented stays as it is.
fn wrapped(text: &str, indent: usize, end: &str) -> String {
    let mut out = String::new();
    for source in text.lines() {
        if source.starts_with(' ') {
            let _ = writeln!(out, "{:indent$}{source}", "");
            continue;
        }
        let mut line = String::new();
        for word in source.split_whitespace() {
            if !line.is_empty() && indent + line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(out, "{:indent$}{line}", "");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(out, "{:indent$}{line}{end}", "");
    }
    out
}

/// What is wrong with the number of arguments.
pub fn arity(command: &Command) -> String {
    let names = command.usage.trim_start_matches("[options]").trim();
    match command.args {
        (0, 0) => "This command takes no arguments".to_owned(),
        (1, 1) => format!("This command takes one argument: {names}"),
        (0, 1) => format!("This command takes either no arguments or one: {names}"),
        _ => format!("This command takes these arguments: {names}"),
    }
}

/// All help there is, for the golden file.
pub fn everything() -> String {
    let mut out = root();
    for (name, _) in GROUPS {
        let _ = write!(out, "\n\n======== steppe {name}\n{}", group(name));
    }
    for one in commands() {
        let _ = write!(out, "\n\n======== steppe {}\n{}", one.path, command(one));
    }
    out.push('\n');
    out
}
