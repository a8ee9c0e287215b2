//! What the parser itself sets or moves, after a body is decoded.
//!
//! Only what a parsed job shows before canonicalization belongs here; every other default is the
//! model's. Better than the reference where that one ignores what was written:
//!
//! * a task with secrets of its own also gets those of its group once, where the reference lists its own twice;
//! * each shorthand of a constraint works (`set_contains_any = "a,b"`, `is_set = true`), and what cannot hold
//!   together is refused: two shorthands, or a shorthand beside another operator or value;
//! * `reserved_ports` blocks stay beside `port` blocks;
//! * a second default identity is refused.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::decode::{Decoder, Filled, Instance, Wire, push};
use crate::diagnostics::{Problem, Span};
use crate::schema::Kind;

pub(crate) fn body(decoder: &mut Decoder<'_>, kind: Kind, at: Instance<'_>, filled: &mut Filled) {
    let wire = &mut filled.wire;
    match kind {
        Kind::Plain => {}
        Kind::Constraint => constraint(decoder, at, filled),
        Kind::Affinity => affinity(decoder, at, filled),
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

/// Shorthands whose text is the right side.
const SHORTHANDS: [&str; 6] = ["version", "semver", "regexp", "set_contains", "set_contains_all", "set_contains_any"];
/// Shorthands of constraints alone.
const MORE_SHORTHANDS: [&str; 4] = ["is_set", "is_not_set", "distinct_hosts", "distinct_property"];

/// One condition says one thing: what would silently win over the rest is refused.
fn check_shorthands(decoder: &mut Decoder<'_>, at: Instance<'_>, filled: &Filled) {
    let wire = &filled.wire;
    let all = SHORTHANDS.iter().chain(&MORE_SHORTHANDS);
    let set: Vec<&str> =
        all.copied().filter(|name| wire.get(&format!("@{name}")).is_some_and(|given| !given.is_null())).collect();
    let Some(first) = set.first() else { return };
    let place = |name: &str| filled.set.get(name).copied().unwrap_or(at.header);
    let mut refuse = |name: &str, detail: String| {
        decoder.report(Problem::error(place(name), "Conflicting arguments", detail));
    };
    for other in &set[1..] {
        refuse(other, format!("A {} is one condition: {first:?} and {other:?} make two.", at.kind));
    }
    let operator = wire["Operand"].as_str().unwrap_or_default();
    if !operator.is_empty() && operator != *first {
        refuse("operator", format!("{first:?} already says the operator, which is not {operator:?}."));
    }
    // the value beside distinct_property is how often
    if !wire["RTarget"].as_str().unwrap_or_default().is_empty() && *first != "distinct_property" {
        refuse("value", format!("{first:?} already says the value."));
    }
}

/// `is_set = true`. Where no attribute is named, the text may be it.
fn presence(decoder: &mut Decoder<'_>, at: Instance<'_>, filled: &mut Filled) {
    for (name, opposite) in [("is_set", "is_not_set"), ("is_not_set", "is_set")] {
        let Some(given) = take_text(&mut filled.wire, &format!("@{name}")) else { continue };
        let bare = filled.wire["LTarget"] == "";
        let operator = match given.as_str() {
            "true" | "" => name,
            "false" => opposite,
            attribute if bare && attribute.starts_with("${") => {
                filled.wire.insert("LTarget".to_owned(), Json::from(attribute));
                name
            }
            _ => {
                let place = filled.set.get(name).copied().unwrap_or(at.header);
                let detail = format!("{name:?} is true or false, beside the attribute it is about.");
                return decoder.report(Problem::error(place, "Unsuitable value type", detail));
            }
        };
        filled.wire.insert("Operand".to_owned(), Json::from(operator));
    }
}

fn constraint(decoder: &mut Decoder<'_>, at: Instance<'_>, filled: &mut Filled) {
    check_shorthands(decoder, at, filled);
    presence(decoder, at, filled);
    let wire = &mut filled.wire;
    shorthands(wire);
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

fn affinity(decoder: &mut Decoder<'_>, at: Instance<'_>, filled: &mut Filled) {
    check_shorthands(decoder, at, filled);
    shorthands(&mut filled.wire);
    default_operator(&mut filled.wire);
}

fn shorthands(wire: &mut Wire) {
    for name in SHORTHANDS {
        if let Some(given) = take_text(wire, &format!("@{name}")).filter(|given| !given.is_empty()) {
            wire.insert("Operand".to_owned(), Json::from(name));
            wire.insert("RTarget".to_owned(), Json::from(given));
        }
    }
}

fn default_operator(wire: &mut Wire) {
    if wire["Operand"] == "" {
        wire.insert("Operand".to_owned(), Json::from("="));
    }
}

/// Ports with a number are reserved, the others dynamic; beside them the legacy `reserved_ports` blocks.
fn network(wire: &mut Wire) {
    let legacy = wire.remove("@reserved_ports").unwrap_or(Json::Null);
    wire.insert("ReservedPorts".to_owned(), legacy);
    if let Some(Json::Array(ports)) = wire.remove("@port") {
        for port in ports {
            let fixed = port["Value"].as_i64().unwrap_or(0) > 0;
            push(wire, if fixed { "ReservedPorts" } else { "DynamicPorts" }, port);
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
    if default.len() > 1 {
        decoder.report(Problem::error(
            at.header,
            "Duplicate identity block",
            "Only one identity block of a task may be without a name: it is its default identity.",
        ));
    }
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
        let vault = wire.remove("@vault").filter(|vault| !vault.is_null());
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
