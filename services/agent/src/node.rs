//! The node as the cluster knows it: what the host is, what the operator said, what drivers offer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use driver::fingerprint::{FingerprintError, Host, Options};
use driver::host_networks;
use kit::process::advertised;
use model::{Node, NodeId, NodeStatus, Timestamp};
use tokio::sync::watch;

use crate::config::Config;
use crate::host::Drivers;
use crate::meta::DynamicMeta;

/// The version of the compatible interface, which jobs ask for as `${attr.nomad.version}`.
pub const NOMAD_VERSION: &str = "2.0.6";

/// What a node is made from. Cheap to keep, so that the node can be made again.
#[derive(Clone)]
pub struct Maker {
    config: Config,
    alloc_base: PathBuf,
    id: NodeId,
    secret_id: String,
    place: String,
    /// Where the cluster reaches this agent.
    addr: SocketAddr,
    drivers: Drivers,
    dynamic: Arc<DynamicMeta>,
    /// What the configuration says, which may be read again.
    configured: Arc<RwLock<BTreeMap<String, String>>>,
    /// Host networks without an address, when the host was last looked at.
    missing: Arc<Mutex<BTreeSet<String>>>,
}

impl Maker {
    pub fn new(
        config: Config,
        alloc_base: PathBuf,
        id: NodeId,
        secret_id: String,
        addr: SocketAddr,
        drivers: Drivers,
    ) -> Self {
        let configured = Arc::new(RwLock::new(config.meta()));
        let (place, dynamic, missing) = (String::new(), Arc::default(), Arc::default());
        Self { config, alloc_base, id, secret_id, place, addr, drivers, dynamic, configured, missing }
    }

    /// See [`model::node::PLACE`].
    pub fn at_place(self, place: String) -> Self {
        Self { place, ..self }
    }

    /// With metadata that people changed.
    pub fn with_meta(mut self, dynamic: DynamicMeta) -> Self {
        self.dynamic = Arc::new(dynamic);
        self
    }

    pub fn dynamic(&self) -> &DynamicMeta {
        &self.dynamic
    }

    pub fn configured_meta(&self) -> BTreeMap<String, String> {
        self.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nodes made from here on have this instead.
    pub fn configure_meta(&self, meta: BTreeMap<String, String>) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = meta;
    }

    /// Looks at the host and the drivers. Blocks for some milliseconds.
    pub fn make(&self) -> Result<Node, FingerprintError> {
        let config = &self.config;
        let addr = self.address();
        let host = Host::read(&Options {
            alloc_dir: self.alloc_base.clone(),
            network_interface: config.network_interface.clone(),
            host_networks: config.host_networks.clone(),
            cpu_total_compute_mhz: config.cpu_total_compute,
            memory_total_mib: config.memory_total_mb,
            disk_total_mib: config.disk_total_mb,
            min_dynamic_port: config.min_dynamic_port.into(),
            max_dynamic_port: config.max_dynamic_port.into(),
            version: NOMAD_VERSION.to_owned(),
        })?;
        let mut resources = host.resources;
        resources.devices = config.devices().list();
        let mut node = Node {
            id: self.id.clone(),
            secret_id: self.secret_id.clone(),
            datacenter: config.settings.datacenter.clone(),
            name: self.name(&host.hostname),
            http_addr: addr.to_string(),
            attributes: host.attributes,
            node_resources: Some(resources),
            reserved_resources: Some(config.reserved()),
            meta: self.dynamic.over(self.configured_meta()),
            host_volumes: config.host_volumes(),
            host_networks: config.host_networks.iter().map(|one| (one.name.clone(), one.clone())).collect(),
            node_class: config.node_class.clone(),
            node_pool: config.node_pool.clone(),
            cgroup_parent: config.cgroup_parent.clone(),
            status: NodeStatus::Initializing,
            ..Node::default()
        };
        node.attributes.insert("unique.advertise.address".to_owned(), addr.to_string());
        node.attributes.insert(model::node::PLACE.to_owned(), self.place.clone());
        node.attributes.insert("steppe.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        for driver in self.drivers.values().filter(|driver| config.denied.offers(driver.name())) {
            let mut info = driver.fingerprint();
            info.update_time = Timestamp(client::clock::unix_nanos());
            if info.detected {
                // What a driver says of itself stands among the node's attributes as well, truth as `1`.
                let attribute =
                    |(k, v): (&String, &String)| (k.clone(), if v == "true" { "1".into() } else { v.clone() });
                node.attributes.extend(info.attributes.iter().map(attribute));
            }
            node.drivers.insert(driver.name().to_owned(), info);
        }
        crate::bridge::offer(&mut node, &config.bridging);
        node.computed_class = node.computed_class();
        self.tell_missing(&node);
        Ok(node)
    }

    /// A host network without an address is told once, until it has one.
    fn tell_missing(&self, node: &Node) {
        let now: BTreeSet<String> = host_networks::missing(node).map(str::to_owned).collect();
        let mut before = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        for name in now.difference(&before) {
            tracing::warn!(host_network = %name, "host network has no address on this machine, the node does not have it");
        }
        for name in before.difference(&now) {
            tracing::info!(host_network = %name, "host network has an address now");
        }
        *before = now;
    }

    /// Where this agent is reached: a container may be given another address while it runs. Without a network,
    /// where it was.
    fn address(&self) -> SocketAddr {
        let settings = &self.config.settings;
        if !settings.bind.ip().is_unspecified() {
            return self.addr;
        }
        let bound = SocketAddr::new(settings.bind.ip(), self.addr.port());
        let now = advertised(bound, settings.advertise, None);
        if now.ip().is_loopback() { self.addr } else { now }
    }

    fn name(&self, hostname: &str) -> String {
        let given = self.config.node_name.clone().or_else(|| self.config.settings.name.clone());
        given.unwrap_or_else(|| if hostname.is_empty() { self.id.to_string() } else { hostname.to_owned() })
    }
}

/// Takes over a newly made node if something about it changed. A driver that is as it was keeps the time
/// of its last change.
pub fn replace(current: &watch::Sender<Arc<Node>>, mut made: Node) -> bool {
    current.send_if_modified(|now| {
        for (name, info) in &mut made.drivers {
            let Some(before) = now.drivers.get(name) else { continue };
            let update_time = before.update_time;
            if *before == (model::node::DriverInfo { update_time, ..info.clone() }) {
                info.update_time = update_time;
            }
        }
        if **now == made {
            return false;
        }
        *now = Arc::new(made);
        true
    })
}

/// How often a host is looked at again.
pub const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use driver::mock::Mock;

    fn maker(config: Config) -> Maker {
        let mut drivers = Drivers::new();
        drivers.insert("mock_driver", Arc::new(Mock::default()));
        let addr = SocketAddr::from(([127, 0, 0, 1], 4646));
        Maker::new(config, "/tmp".into(), NodeId::from("n1"), "s".into(), addr, drivers)
    }

    fn config() -> Config {
        Config { network_interface: "lo".into(), ..Config::default() }
    }

    #[test]
    fn an_agent_tells_the_address_that_it_has_now() {
        let address = |bind: &str, advertise: Option<&str>| {
            let mut config = config();
            config.settings.bind = bind.parse().unwrap();
            config.settings.advertise = advertise.map(|ip| ip.parse().unwrap());
            maker(config).make().unwrap().http_addr
        };
        assert_eq!(address("127.0.0.1:0", Some("10.1.2.3")), "127.0.0.1:4646");
        assert_eq!(address("0.0.0.0:0", Some("10.1.2.3")), "10.1.2.3:4646");
    }

    #[test]
    fn a_node_carries_what_it_was_given_and_what_was_found_node_04_node_05() {
        let given = Config {
            node_pool: "gpu".into(),
            node_class: "big".into(),
            meta: vec![("rack".into(), "r1".into())],
            reserved_cpu: 100,
            min_dynamic_port: 21_000,
            ..config()
        };
        let node = maker(given).make().unwrap();
        assert_eq!(
            (node.node_pool.as_str(), node.node_class.as_str(), node.meta["rack"].as_str()),
            ("gpu", "big", "r1")
        );
        assert_eq!((node.datacenter.as_str(), node.http_addr.as_str()), ("dc1", "127.0.0.1:4646"));
        assert_eq!(node.name, node.attributes["unique.hostname"]);
        assert_eq!(node.attributes["driver.mock_driver"], "1");
        assert_eq!(node.drivers["mock_driver"].attributes["driver.mock_driver"], "true");
        assert_eq!(node.reserved_resources.as_ref().unwrap().cpu.cpu_shares, 100);
        assert_eq!(node.node_resources.as_ref().unwrap().min_dynamic_port, 21_000);
        assert!(node.computed_class.starts_with("v1:") && node.has_driver("mock_driver"));
    }

    #[test]
    fn a_node_tells_its_host_networks_and_has_those_with_an_address() {
        let network = |name: &str, cidr: &str, interface: &str| model::node::HostNetworkInfo {
            name: name.into(),
            cidr: cidr.into(),
            interface: interface.into(),
            reserved_ports: "22".into(),
        };
        let plain = maker(config()).make().unwrap();
        let given = Config {
            host_networks: vec![network("loop2", "127.0.0.2/32", ""), network("none", "", "no-such0")],
            ..config()
        };
        let made = maker(given);
        let node = made.make().unwrap();
        assert_eq!(node.host_networks.keys().collect::<Vec<_>>(), ["loop2", "none"]);
        let (plain, resources) = (plain.node_resources.unwrap(), node.node_resources.unwrap());
        assert_eq!(resources.networks, plain.networks);
        let [lo] = resources.node_networks.as_slice() else { panic!("{:?}", resources.node_networks) };
        let (last, before) = lo.addresses.split_last().unwrap();
        assert_eq!(before, plain.node_networks[0].addresses);
        let said = (last.alias.as_str(), last.address.as_str(), last.family.as_str(), last.reserved_ports.as_str());
        assert_eq!(said, ("loop2", "127.0.0.2", "ipv4", "22"));
        assert_eq!(made.missing.lock().unwrap().iter().collect::<Vec<_>>(), ["none"]);
    }

    #[test]
    fn a_host_that_is_as_it_was_is_no_news_and_one_that_changed_is_node_16() {
        let made = maker(config()).make().unwrap();
        let current = watch::Sender::new(Arc::new(made.clone()));
        let mut later = made.clone();
        later.drivers.get_mut("mock_driver").unwrap().update_time = Timestamp(1);
        assert!(!replace(&current, later.clone()));
        later.drivers.get_mut("mock_driver").unwrap().healthy = false;
        assert!(replace(&current, later));
        assert_eq!(current.borrow().drivers["mock_driver"].update_time, Timestamp(1));
    }
}
