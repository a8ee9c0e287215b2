//! Networks and ports of a group and of its tasks.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Findings, labelled};
use crate::group::TaskGroup;
use crate::resources::{NetworkResource, Port};

const PORT_MAX: i64 = 65_535;

/// Who holds what, over all networks of a group.
#[derive(Default)]
struct Held<'a> {
    labels: BTreeMap<&'a str, String>,
    statics: BTreeMap<(&'a str, i64), (String, bool)>,
}

pub(super) fn of_group(group: &TaskGroup) -> Findings {
    let mut found = Findings::default();
    let mut held = Held::default();
    let mut keys = BTreeSet::new();
    for (i, network) in group.networks.iter().enumerate() {
        let path = format!("network[{i}]");
        found.at(path.clone()).all(ports(network, "taskgroup network", &mut held));
        for (key, value) in network.cni.iter().flat_map(|cni| &cni.args) {
            found.at(format!("{path}.cni.args")).when(!keys.insert(key), || format!("duplicate CNI arg {key:?}"));
            found.at(format!("{path}.cni.args")).when(key.contains(';') || value.contains(';'), || {
                format!("invalid ';' character in CNI arg key {key:?}, value {value:?}")
            });
        }
        let host = network.hostname.as_str();
        found
            .at(format!("{path}.hostname"))
            .when(!host.is_empty() && !host.contains("${") && !is_dns_name(host), || {
                format!("Hostname is not a valid DNS name: {host:?}")
            });
    }
    for task in &group.tasks {
        for (i, network) in task.resources.iter().flat_map(|resources| &resources.networks).enumerate() {
            let path = format!("{}.resources.network[{i}]", labelled("task", &task.name));
            found.at(path).all(ports(network, &task.name, &mut held));
        }
    }
    found
}

fn ports<'a>(network: &'a NetworkResource, owner: &str, held: &mut Held<'a>) -> Findings {
    let mut all = Findings::default();
    let on_host = matches!(network.mode.as_str(), "" | "host");
    for port in network.reserved_ports.iter().chain(&network.dynamic_ports) {
        let mut within = Findings::default();
        let found = &mut within;
        let holder = format!("{owner}:{}", port.label);
        match held.labels.get(port.label.as_str()) {
            Some(other) => found.say(format!("Port label {} already in use by {other}", port.label)),
            None => drop(held.labels.insert(&port.label, holder.clone())),
        }
        range(port, on_host, found);
        if port.value > 0 {
            static_port(port, holder, held, found);
        }
        all.at(labelled("port", &port.label)).all(within);
    }
    all
}

fn range(port: &Port, on_host: bool, found: &mut Findings) {
    found.at("static").when(port.value > PORT_MAX, || {
        format!("Port {} ({}) cannot be greater than {PORT_MAX}", port.label, port.value)
    });
    found.at("static").when(port.value < 0, || format!("Port {} ({}) cannot be negative", port.label, port.value));
    found
        .at("to")
        .when(port.to < -1, || format!("Port {:?} cannot be mapped to negative value {}", port.label, port.to));
    found.at("to").when(port.to > PORT_MAX, || {
        format!("Port {:?} cannot be mapped to a port ({}) greater than {PORT_MAX}", port.label, port.to)
    });
    found.at("ignore_collision").when(port.ignore_collision && !on_host, || {
        format!("Port {:?} collision may not be ignored on non-host network mode", port.label)
    });
}

fn static_port<'a>(port: &'a Port, holder: String, held: &mut Held<'a>, found: &mut Findings) {
    let network = if port.host_network.is_empty() { "default" } else { port.host_network.as_str() };
    match held.statics.get(&(network, port.value)) {
        Some((_, true)) if port.ignore_collision => {}
        Some((other, _)) => found.at("static").say(format!("Static port {} already reserved by {other}", port.value)),
        None => drop(held.statics.insert((network, port.value), (holder, port.ignore_collision))),
    }
}

fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
    };
    text.len() <= 253 && text.trim_end_matches('.').split('.').all(label)
}
