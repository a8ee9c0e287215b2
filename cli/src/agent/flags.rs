//! Flags of `steppe agent`, and the keys of the configuration that they stand for.

use config::syntax::{Node, Place, Value};

use super::flags_passed_over;
use crate::flags::{Flag, Kind, Parsed, flag, list, switch, text};

pub const FLAGS: &[Flag] = &[
    list("config", "PATH", "Configuration file, or directory of *.hcl and *.json files. May be repeated."),
    switch("dev", "Run a small cluster on this machine, server and client in one, for trying things."),
    text("http-port", "PORT", "Port of the public API: ports.http."),
    text("data-dir", "DIR", "Directory for everything; with -dev, thrown away at the end unless given."),
    text("log-level", "LEVEL", "What is logged: ERROR, WARN, INFO, DEBUG, TRACE, OFF, or a filter."),
    switch("log-json", "Log lines as JSON."),
    text("node", "NAME", "Name of the machine."),
    text("region", "REGION", "Region of the cluster."),
    text("dc", "DATACENTER", "Datacenter of the machine."),
    text("bind", "ADDR", "IP address that listeners bind to."),
    switch("server", "Run the control plane's services."),
    switch("client", "Run the node agent."),
    flag("bootstrap-expect", Kind::Uint, "", "N", "How many servers found the cluster."),
    text("encrypt", "KEY", "Key that seals gossip."),
    list("retry-join", "ADDR", "Another server's gossip address. May be repeated."),
    list("join", "ADDR", "The same as -retry-join."),
    text("state-dir", "DIR", "Directory for the node agent's own state."),
    text("alloc-dir", "DIR", "Directory for the allocations' files."),
    text("node-class", "CLASS", "Class of the node."),
    text("node-pool", "POOL", "Pool the node is in."),
    text("servers", "ADDRS", "Servers' rpc addresses, separated by commas."),
    list("meta", "KEY=VALUE", "Metadata of the node. May be repeated."),
    text("network-interface", "NAME", "Network interface that tasks are reached at."),
    text("client-intro-token", "TOKEN", "Token of `steppe node intro create`, or a file that holds it."),
    switch("acl-enabled", "Access control; not built yet."),
];

/// Flags that stand for one key each.
const PLAIN: &[(&str, &str)] = &[
    ("http-port", "ports.http"),
    ("data-dir", "data_dir"),
    ("log-level", "log_level"),
    ("log-json", "log_json"),
    ("node", "name"),
    ("region", "region"),
    ("dc", "datacenter"),
    ("bind", "bind_addr"),
    ("server", "server.enabled"),
    ("client", "client.enabled"),
    ("bootstrap-expect", "server.bootstrap_expect"),
    ("encrypt", "server.encrypt"),
    ("state-dir", "client.state_dir"),
    ("alloc-dir", "client.alloc_dir"),
    ("node-class", "client.node_class"),
    ("node-pool", "client.node_pool"),
    ("network-interface", "client.network_interface"),
    ("client-intro-token", "client.intro_token"),
    ("acl-enabled", "acl.enabled"),
];

/// What was typed, as settings over those of the files.
pub fn over(typed: &Parsed) -> Vec<(String, Value)> {
    let said = PLAIN.iter().filter(|(flag, _)| typed.given(flag));
    let mut all: Vec<(String, Value)> =
        said.map(|(flag, key)| ((*key).to_owned(), Value::Text(typed.text(flag).to_owned()))).collect();
    all.extend(flags_passed_over::over(typed));
    let join: Vec<&String> = typed.list("retry-join").iter().chain(typed.list("join")).collect();
    if !join.is_empty() {
        all.push(("server.server_join.retry_join".to_owned(), texts(join.into_iter().map(String::as_str))));
    }
    if let Some(servers) = typed.some("servers") {
        all.push(("client.servers".to_owned(), texts(servers.split(',').map(str::trim).filter(|s| !s.is_empty()))));
    }
    for pair in typed.list("meta") {
        let Some((key, value)) = pair.split_once('=') else { continue };
        // The key may hold dots: it is one key.
        let entry = config::syntax::Entry {
            key: key.to_owned(),
            at: Place::default(),
            node: Node { at: Place::default(), value: Value::Text(value.to_owned()) },
        };
        all.push(("client.meta".to_owned(), Value::Object(vec![entry])));
    }
    all
}

/// What is wrong with what was typed, beyond what settings say of themselves.
pub fn problems(typed: &Parsed) -> Vec<String> {
    let broken = typed.list("meta").iter().filter(|pair| pair.split_once('=').is_none_or(|(key, _)| key.is_empty()));
    broken.map(|pair| format!("command line: -meta: `{pair}` is not KEY=VALUE")).collect()
}

fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    Value::List(items.map(|item| Node { at: Place::default(), value: Value::Text(item.to_owned()) }).collect())
}
