//! What a job asks of its nodes without saying so: constraints that follow from what it uses.
//!
//! A block that only some nodes can carry out puts a constraint beside it, so that the job lands on one
//! that can. What stands there already about the same attribute is left alone: an author may ask for more.
//! Adding them twice changes nothing.
//!
//! | used | asked of the node | where |
//! |---|---|---|
//! | `vault` | `attr.vault.version` semver >= 0.6.1 | group |
//! | `secret` | `attr.plugins.secrets.NAME.version` is_set | every group |
//! | `numa` | `attr.nomad.version` semver >= 1.6.3-dev, `attr.kernel.name` = linux | task |
//! | a signal | `attr.os.signals` set_contains SIGNALS | group |
//! | service of Nomad | `attr.nomad.service_discovery` = true, with checks `attr.nomad.version` semver >= 1.4.0 | group |
//! | service of Consul | `attr.consul.version` semver >= 1.8.0 | group, or the task that has it |
//! | network mode bridge | `attr.plugins.cni.version.PLUGIN` semver >= 0.4.0, for each of five | group |
//! | transparent proxy | consul-cni >= 1.4.2, `attr.nomad.version` semver >= 1.8.0-dev | group |
//! | `schedule` | `attr.nomad.version` semver >= 1.8.0-dev | group |
//! | an identity beyond the default one | `attr.nomad.version` semver >= 1.7.0-a | group |
//! | `consul.partition` | `attr.consul.partition` = it | group or task |
//!
//! Source: `validation.tsv`, rows "6 constraints", "3 consul" and "8 implicit-identities".

use std::collections::BTreeSet;

use crate::group::TaskGroup;
use crate::job::{Constraint, Job};
use crate::task::Task;

/// Plugins that a bridge network is made with.
const BRIDGE_PLUGINS: [&str; 5] = ["bridge", "firewall", "host-local", "loopback", "portmap"];

pub(super) fn constraints(job: &mut Job) {
    let tasks = job.task_groups.iter().flat_map(|group| &group.tasks);
    let providers: BTreeSet<String> =
        tasks.flat_map(|task| &task.secrets).map(|secret| secret.provider.clone()).filter(|p| !p.is_empty()).collect();
    for group in &mut job.task_groups {
        for provider in &providers {
            ask(&mut group.constraints, &format!("plugins.secrets.{provider}.version"), "is_set", "");
        }
        of_group(group);
        group.tasks.iter_mut().for_each(of_task);
    }
}

fn of_group(group: &mut TaskGroup) {
    let mut asked = std::mem::take(&mut group.constraints);
    let of = &mut asked;
    if let Some(partition) = group.consul.as_ref().map(|consul| consul.partition.as_str()).filter(|p| !p.is_empty()) {
        ask(of, "consul.partition", "=", partition);
    }
    if group.tasks.iter().any(|task| task.vault.is_some()) {
        ask(of, "vault.version", "semver", ">= 0.6.1");
    }
    let signals: BTreeSet<&str> = group.tasks.iter().flat_map(signals).collect();
    if !signals.is_empty() {
        let list = signals.into_iter().collect::<Vec<_>>().join(",");
        ask(of, "os.signals", "set_contains", &list);
    }
    let services = || group.services.iter().chain(group.tasks.iter().flat_map(|task| &task.services));
    let native = || services().filter(|service| service.provider == "nomad");
    if native().next().is_some() {
        ask(of, "nomad.service_discovery", "=", "true");
        if native().any(|service| !service.checks.is_empty()) {
            ask_version(of, ">= 1.4.0");
        }
    }
    if group.services.iter().any(|service| service.provider == "consul") {
        ask(of, "consul.version", "semver", ">= 1.8.0");
    }
    if group.networks.iter().any(|network| network.mode == "bridge") {
        for plugin in BRIDGE_PLUGINS {
            ask(of, &format!("plugins.cni.version.{plugin}"), "semver", ">= 0.4.0");
        }
    }
    if group.services.iter().any(is_transparent) {
        ask(of, "plugins.cni.version.consul-cni", "semver", ">= 1.4.2");
        ask_version(of, ">= 1.8.0-dev");
    }
    if group.tasks.iter().any(|task| task.schedule.is_some()) {
        ask_version(of, ">= 1.8.0-dev");
    }
    let named = group.tasks.iter().any(|task| !task.identities.is_empty());
    if named || services().any(|service| service.identity.is_some()) {
        ask_version(of, ">= 1.7.0-a");
    }
    group.constraints = asked;
}

fn of_task(task: &mut Task) {
    if let Some(partition) = task.consul.as_ref().map(|consul| consul.partition.clone()).filter(|p| !p.is_empty()) {
        ask(&mut task.constraints, "consul.partition", "=", &partition);
    }
    let numa = task.resources.as_ref().and_then(|asked| asked.numa.as_ref());
    if numa.is_some_and(|numa| !matches!(numa.affinity.as_str(), "" | "none")) {
        ask_version(&mut task.constraints, ">= 1.6.3-dev");
        ask(&mut task.constraints, "kernel.name", "=", "linux");
    }
    if task.services.iter().any(|service| service.provider == "consul") {
        ask(&mut task.constraints, "consul.version", "semver", ">= 1.8.0");
    }
}

/// Signals that the node may have to send to a task.
fn signals(task: &Task) -> impl Iterator<Item = &str> {
    let by_mode = |mode: Option<&str>, signal: &'_ Option<String>| mode == Some("signal") && signal.is_some();
    let vault = task.vault.iter().filter(move |vault| by_mode(vault.change_mode.as_deref(), &vault.change_signal));
    let templates = task.templates.iter().filter(move |one| by_mode(one.change_mode.as_deref(), &one.change_signal));
    let given = vault.filter_map(|vault| vault.change_signal.as_deref());
    let given = given.chain(templates.filter_map(|one| one.change_signal.as_deref()));
    given.chain([task.kill_signal.as_str()]).filter(|signal| !signal.is_empty())
}

fn is_transparent(service: &crate::service::Service) -> bool {
    let sidecar = service.connect.as_ref().and_then(|connect| connect.sidecar_service.as_ref());
    sidecar.and_then(|sidecar| sidecar.proxy.as_ref()).is_some_and(|proxy| proxy.transparent_proxy.is_some())
}

/// Several things may each need a version: each is asked for, once.
fn ask_version(asked: &mut Vec<Constraint>, version: &str) {
    let (left, operand) = ("${attr.nomad.version}", "semver");
    if !asked.iter().any(|one| one.l_target == left && one.r_target == version) {
        asked.push(Constraint { l_target: left.into(), r_target: version.into(), operand: operand.into() });
    }
}

fn ask(asked: &mut Vec<Constraint>, attribute: &str, operand: &str, value: &str) {
    let left = format!("${{attr.{attribute}}}");
    if !asked.iter().any(|one| one.l_target == left) {
        asked.push(Constraint { l_target: left, r_target: value.to_owned(), operand: operand.to_owned() });
    }
}
