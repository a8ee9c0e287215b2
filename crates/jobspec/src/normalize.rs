//! What the parser itself sets or moves, after a body is decoded.
//!
//! Only what a parsed job shows before canonicalization belongs here; every other default is the
//! model's. Better than the reference in one place: a task with secrets of its own also gets
//! those of its group once, where the reference lists its own twice.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::decode::{Decoder, Filled, Instance, Wire, push};
use crate::diagnostics::{Problem, Span};
use crate::schema::Kind;

pub(crate) fn body(decoder: &mut Decoder<'_>, kind: Kind, at: Instance<'_>, filled: &mut Filled) {
    let wire = &mut filled.wire;
    match kind {
        Kind::Plain => {}
        Kind::Constraint => constraint(wire),
        Kind::Affinity => affinity(wire),
        Kind::Network => network(wire),
        Kind::Template => template(wire),
        Kind::Vault => vault(wire),
        Kind::Periodic => {
            if !wire["Spec"].is_null() || !wire["Specs"].is_null() {
                wire.insert("SpecType".to_owned(), Json::from("cron"));
            }
        }
        Kind::GroupScaling => group_scaling(decoder, at, filled),
        Kind::TaskScaling => task_scaling(decoder, at, filled),
        Kind::Task => task(decoder, at, wire),
        Kind::Group => group(decoder, at, wire),
        Kind::Job => job(decoder, at, wire),
    }
}

fn take_text(wire: &mut Wire, name: &str) -> Option<String> {
    match wire.remove(name) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    }
}

/// The shorthands that only have meaning as an operator are accepted and have no effect.
fn constraint(wire: &mut Wire) {
    for ignored in ["@set_contains_all", "@set_contains_any", "@is_set", "@is_not_set"] {
        wire.remove(ignored);
    }
    shorthands(wire, &["version", "semver", "regexp", "set_contains"]);
    if let Some(Json::Bool(on)) = wire.remove("@distinct_hosts") {
        wire.insert("Operand".to_owned(), Json::from("distinct_hosts"));
        wire.insert("RTarget".to_owned(), Json::from(on.to_string()));
    }
    if let Some(property) = take_text(wire, "@distinct_property") {
        wire.insert("Operand".to_owned(), Json::from("distinct_property"));
        wire.insert("LTarget".to_owned(), Json::from(property));
    }
    default_operator(wire);
}

fn affinity(wire: &mut Wire) {
    shorthands(wire, &["version", "semver", "regexp", "set_contains", "set_contains_all", "set_contains_any"]);
    default_operator(wire);
}

fn shorthands(wire: &mut Wire, names: &[&str]) {
    for name in names {
        if let Some(given) = take_text(wire, &format!("@{name}")).filter(|given| !given.is_empty()) {
            wire.insert("Operand".to_owned(), Json::from(*name));
            wire.insert("RTarget".to_owned(), Json::from(given));
        }
    }
}

fn default_operator(wire: &mut Wire) {
    if wire["Operand"] == "" {
        wire.insert("Operand".to_owned(), Json::from("="));
    }
}

/// Ports with a number are reserved, the others dynamic. Any `port` block makes the legacy
/// `reserved_ports` blocks void.
fn network(wire: &mut Wire) {
    let legacy = wire.remove("@reserved_ports").unwrap_or(Json::Null);
    match wire.remove("@port") {
        Some(Json::Array(ports)) => {
            for port in ports {
                let fixed = port["Value"].as_i64().unwrap_or(0) > 0;
                push(wire, if fixed { "ReservedPorts" } else { "DynamicPorts" }, port);
            }
        }
        _ => {
            wire.insert("ReservedPorts".to_owned(), legacy);
        }
    }
}

fn fill(wire: &mut Wire, name: &str, default: Json) {
    if wire[name].is_null() {
        wire.insert(name.to_owned(), default);
    }
}

fn template(wire: &mut Wire) {
    fill(wire, "ChangeMode", json!("restart"));
    fill(wire, "Perms", json!("0644"));
    fill(wire, "Splay", json!(5_000_000_000_i64));
    fill(wire, "ErrMissingKey", json!(false));
    if let Some(Json::Object(script)) = wire.get_mut("ChangeScript") {
        fill(script, "Command", json!(""));
        fill(script, "Args", json!([]));
        fill(script, "Timeout", json!(5_000_000_000_i64));
        fill(script, "FailOnError", json!(false));
        fill(script, "RunOnFirstRender", json!(false));
    }
}

fn vault(wire: &mut Wire) {
    fill(wire, "Env", json!(true));
    fill(wire, "DisableFile", json!(false));
    fill(wire, "ChangeMode", json!("restart"));
}

fn group_scaling(decoder: &mut Decoder<'_>, at: Instance<'_>, filled: &mut Filled) {
    if filled.wire["Type"] == "" {
        filled.wire.insert("Type".to_owned(), json!("horizontal"));
    } else if filled.wire["Type"] != "horizontal" {
        let at = filled.set.get("type").copied().unwrap_or(at.header);
        decoder.report(Problem::error(
            at,
            "Invalid group scaling type",
            format!("task group scaling policy had invalid type: {}", filled.wire["Type"].as_str().unwrap_or_default()),
        ));
    }
}

fn task_scaling(decoder: &mut Decoder<'_>, at: Instance<'_>, filled: &mut Filled) {
    let label = take_text(&mut filled.wire, "@label").unwrap_or_default();
    let implied = match label.to_ascii_lowercase().as_str() {
        "cpu" => "vertical_cpu",
        "mem" => "vertical_mem",
        _ => {
            return decoder.report(Problem::error(
                at.header,
                "Invalid scaling policy name",
                "scaling policy name must be \"cpu\" or \"mem\"",
            ));
        }
    };
    let given = filled.wire["Type"].as_str().unwrap_or_default();
    if !given.is_empty() && given != implied {
        let at = filled.set.get("type").copied().unwrap_or(at.header);
        return decoder.report(Problem::error(
            at,
            "Invalid scaling policy type",
            format!("Invalid policy type, expected {implied:?} but found {given:?}"),
        ));
    }
    filled.wire.insert("Type".to_owned(), json!(implied));
}

fn task(decoder: &mut Decoder<'_>, at: Instance<'_>, wire: &mut Wire) {
    let mut seen: Vec<&str> = Vec::new();
    for policy in wire["ScalingPolicies"].as_array().into_iter().flatten() {
        let Some(kind) = policy["Type"].as_str().and_then(|kind| kind.strip_prefix("vertical_")) else { continue };
        if seen.contains(&kind) {
            let place = scaling_block(at, seen.len()).unwrap_or(at.header);
            decoder.report(Problem::error(
                place,
                format!("Duplicate scaling {kind:?} block"),
                format!("Only one scaling {kind:?} block is allowed in a task."),
            ));
        }
        seen.push(kind);
    }
    // The identity without a name of its own is the task's default one.
    let Some(Json::Array(identities)) = wire.remove("Identities") else {
        wire.insert("Identities".to_owned(), Json::Null);
        return;
    };
    let (default, named): (Vec<Json>, Vec<Json>) =
        identities.into_iter().partition(|identity| matches!(identity["Name"].as_str(), Some("" | "default")));
    if let Some(identity) = default.into_iter().next_back() {
        wire.insert("Identity".to_owned(), identity);
    }
    wire.insert("Identities".to_owned(), if named.is_empty() { Json::Null } else { Json::Array(named) });
}

fn scaling_block(at: Instance<'_>, nth: usize) -> Option<Span> {
    at.body.blocks.iter().filter(|block| block.kind == "scaling").nth(nth).map(|block| block.header)
}

/// Vault and secrets given above the tasks that use them.
struct Inherited {
    vault: Option<Json>,
    secrets: Vec<Json>,
    /// What one copy adds to the job.
    weight: u64,
}

impl Inherited {
    fn take(wire: &mut Wire) -> Self {
        let vault = match wire.remove("@vault") {
            Some(Json::Array(given)) => given.into_iter().next_back(),
            given => given.filter(|vault| !vault.is_null()),
        };
        let secrets = match wire.remove("@secrets") {
            Some(Json::Array(given)) => given,
            _ => Vec::new(),
        };
        let weight = vault.iter().chain(&secrets).map(|json| json.to_string().len() as u64 * 4).sum();
        Inherited { vault, secrets, weight }
    }

    fn give(&self, decoder: &mut Decoder<'_>, at: Instance<'_>, task: &mut Wire) {
        if self.weight == 0 || !decoder.emit(self.weight, at.header) {
            return;
        }
        if let Some(vault) = &self.vault {
            fill(task, "Vault", vault.clone());
        }
        let own: BTreeSet<String> =
            task["Secrets"].as_array().into_iter().flatten().map(|secret| secret["Name"].to_string()).collect();
        for secret in self.secrets.iter().filter(|secret| !own.contains(&secret["Name"].to_string())) {
            push(task, "Secrets", secret.clone());
        }
    }
}

fn group(decoder: &mut Decoder<'_>, at: Instance<'_>, wire: &mut Wire) {
    let inherited = Inherited::take(wire);
    tasks(wire).for_each(|task| inherited.give(decoder, at, task));
}

fn job(decoder: &mut Decoder<'_>, at: Instance<'_>, wire: &mut Wire) {
    let label = wire.remove("@label").unwrap_or(Json::Null);
    fill(wire, "ID", label.clone());
    fill(wire, "Name", label);
    // Each loose task becomes a group of its own, ahead of the declared ones.
    if let Some(Json::Array(loose)) = wire.remove("@tasks") {
        let mut groups: Vec<Json> = loose.into_iter().map(lone_group).collect();
        if let Some(Json::Array(declared)) = wire.remove("TaskGroups") {
            groups.extend(declared);
        }
        wire.insert("TaskGroups".to_owned(), Json::Array(groups));
    }
    let inherited = Inherited::take(wire);
    for group in objects(wire, "TaskGroups") {
        tasks(group).for_each(|task| inherited.give(decoder, at, task));
    }
}

fn lone_group(task: Json) -> Json {
    let mut group = crate::decode::empty_group();
    group.insert("Name".to_owned(), task["Name"].clone());
    group.insert("Tasks".to_owned(), Json::Array(vec![task]));
    Json::Object(group)
}

fn objects<'w>(wire: &'w mut Wire, name: &str) -> impl Iterator<Item = &'w mut Wire> {
    wire.get_mut(name).and_then(Json::as_array_mut).into_iter().flatten().filter_map(Json::as_object_mut)
}

fn tasks(group: &mut Wire) -> impl Iterator<Item = &mut Wire> {
    objects(group, "Tasks")
}
