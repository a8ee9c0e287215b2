//! Can this host be what its configuration says?
//!
//! `config` judges the text; what is judged here needs the host: its addresses and interfaces, files that are
//! named, what it has of cpu, memory and disk. `steppe config validate` and the start of a machine ask the same
//! question, so that nothing that would end or cripple a machine is found only once it runs.

use std::path::PathBuf;

use config::Config;
use driver::fingerprint::{Host, Options, interfaces};
use driver::host_networks::has;
use kit::https::Https;
use model::node::HostNetworkInfo;

use super::address::Places;
use super::plan::https_settings;
use super::trust::token_problem;

/// Everything that cannot work here, one sentence each.
pub fn problems(config: &Config, dev: bool) -> Vec<String> {
    let mut all = Vec::new();
    if let Err(error) = Places::of(config, dev, &interfaces()) {
        all.push(format!("{error:#}"));
    }
    if let Err(error) = Https::load(&https_settings(config)) {
        let error = anyhow::Error::new(error);
        all.push(format!("tls: the certificate of the public API cannot be used: {error:#}"));
    }
    if config.client.enabled {
        all.extend(node(config));
        if let Some(data) = config.data_dir.as_ref().map(PathBuf::from) {
            let dir = config.client.state_dir.as_ref().map_or_else(|| data.join("client"), PathBuf::from);
            all.extend(token_problem(config, &dir));
        }
    }
    all
}

/// What will not work as it is, though the machine runs.
pub fn warnings(config: &Config) -> Vec<String> {
    let found = interfaces();
    let networks = config.client.host_networks().filter(|network| config.client.enabled && !has(network, &found));
    let told = |network: HostNetworkInfo| {
        format!("client.host_network {:?}: it has no address on this host, and the node does not have it", network.name)
    };
    networks.map(told).collect()
}

/// The node's part: what it would tell the cluster of this host.
fn node(config: &Config) -> Vec<String> {
    let client = &config.client;
    let some = |number: i64| (number > 0).then_some(number);
    let data = config.data_dir.as_deref().unwrap_or("/");
    let options = Options {
        alloc_dir: PathBuf::from(client.alloc_dir.as_deref().unwrap_or(data)),
        network_interface: client.network_interface.clone(),
        cpu_total_compute_mhz: some(client.cpu_total_compute),
        memory_total_mib: some(client.memory_total_mb),
        disk_total_mib: some(client.disk_total_mb),
        ..Options::default()
    };
    let mut all = Vec::new();
    for (name, volume) in &client.host_volume.0 {
        if let Err(error) = std::fs::metadata(&volume.path) {
            all.push(format!("client.host_volume \"{name}\".path: {}: {error}", volume.path));
        }
    }
    let host = match Host::read(&options) {
        Ok(host) => host,
        Err(error) => {
            all.push(format!("client.network_interface: {error}"));
            return all;
        }
    };
    let has = &host.resources;
    let kept = &client.reserved;
    for (key, kept, has, unit) in [
        ("client.reserved.cpu", kept.cpu, has.cpu.cpu_shares, "MHz"),
        ("client.reserved.memory", kept.memory, has.memory.memory_mb, "MiB"),
        ("client.reserved.disk", kept.disk, has.disk.disk_mb, "MiB"),
    ] {
        let has = u64::try_from(has).unwrap_or(0);
        if has > 0 && kept >= has {
            all.push(format!("{key}: {kept} {unit} leave nothing for tasks of the {has} {unit} this host has"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let client =
            "data_dir = \"/no/such\" client { enabled = true servers = [\"127.0.0.1\"] network_interface = \"lo\" }";
        let text = format!("{client} {text}");
        problems(&config::load(&[config::Source { name: String::new(), text }], &[], false).unwrap().config, false)
    }

    #[test]
    fn a_host_network_without_an_address_is_a_warning() {
        let text = "client { enabled = true host_network \"lo\" { interface = \"lo\" } host_network \"no\" { interface = \"no-such0\" } }";
        let text = format!("data_dir = \"/d\" client {{ servers = [\"a\"] }} {text}");
        let config = config::load(&[config::Source { name: String::new(), text }], &[], false).unwrap().config;
        let expected = "client.host_network \"no\": it has no address on this host, and the node does not have it";
        assert_eq!(warnings(&config), [expected]);
    }

    #[test]
    fn what_this_host_cannot_be_is_found_without_starting_anything() {
        assert_eq!(of(""), Vec::<String>::new());
        for (text, expected) in [
            ("bind_addr = \"banana\"", "bind_addr: `banana` is no IP address"),
            (
                "advertise { http = \"{{ GetInterfaceIP \\\"eth99\\\" }}\" }",
                "advertise.http: the host has no interface `eth99`",
            ),
            ("client { network_interface = \"eth99\" }", "client.network_interface: "),
            ("client { reserved { cpu = 9999999 } }", "client.reserved.cpu: 9999999 MHz leave nothing for tasks"),
            ("client { reserved { memory = 999999999 } }", "client.reserved.memory: 999999999 MiB leave nothing"),
            (
                "tls { http = true cert_file = \"/no/such/cert.pem\" key_file = \"/no/such/key.pem\" }",
                "/no/such/cert.pem",
            ),
            // node-20
            (
                "client { host_volume \"v\" { path = \"/no/such\" } }",
                "client.host_volume \"v\".path: /no/such: No such file or directory",
            ),
            ("client { intro_token = \"/no/such/token\" }", "client.intro_token: cannot read /no/such/token: "),
        ] {
            let problems = of(text);
            let [problem] = problems.as_slice() else { panic!("{text}: {problems:#?}") };
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
