//! Networks that the tasks of an allocation share: what the operator says, what is made, what the node offers.
//!
//! ```text
//!   first start ─► ensure ─► driver: a network with the group's ports ─► the start, the runner, the cluster
//!   last end ────► the runner has the driver take it away
//! ```
//!
//! The docker driver makes them, for programs of the host too; a node offers them while its engine is healthy.
//! In the compatible interface they are made by CNI plugins, and jobs ask nodes for these: a node that can do
//! what they do says that it has them.

use std::sync::Arc;
use std::time::Duration;

use driver::contract::{FsIsolation, GroupNetwork, Namespace};
use driver::env::{Inputs, TaskEnv};
use driver::taskdir::AllocDirs;
use driver::{Driver, DriverError};
use model::alloc::AllocNetworkStatus;
use model::node::NodeNetworkResource;
use model::{Allocation, Node};

use crate::host::Host;

/// The driver that makes networks.
const MAKER: &str = driver::docker::NAME;
/// What jobs ask for, and the version from which on the reference trusts all of it.
const PLUGINS: [&str; 5] = ["bridge", "firewall", "host-local", "loopback", "portmap"];
const PLUGINS_AS_OF: &str = "1.3.0";
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Tries of taking one away. One that stays is found by the next sweep.
const END_TRIES: u32 = 6;

/// What the operator says.
#[derive(Clone, Debug, clap::Args)]
pub struct Bridging {
    /// Network of the Docker Engine, and interface of the host, that groups with `mode = "bridge"` are on.
    #[arg(long, default_value = "nomad")]
    pub bridge_network_name: String,
    /// Addresses on it.
    #[arg(long, default_value = "172.26.64.0/20")]
    pub bridge_network_subnet: String,
    /// Their ports are reached at the address the cluster gave them only, and not at every address of the host.
    #[arg(long)]
    pub bridge_ports_at_address: bool,
}

impl Default for Bridging {
    fn default() -> Self {
        Self {
            bridge_network_name: "nomad".to_owned(),
            bridge_network_subnet: "172.26.64.0/20".to_owned(),
            bridge_ports_at_address: false,
        }
    }
}

/// The node offers networks of groups.
pub fn offer(node: &mut Node, bridging: &Bridging) {
    let healthy = node.drivers.get(MAKER).is_some_and(|info| info.detected && info.healthy);
    let Some(resources) = node.node_resources.as_mut().filter(|_| healthy) else { return };
    let device = bridging.bridge_network_name.clone();
    let network = NodeNetworkResource { mode: "bridge".to_owned(), device, ..NodeNetworkResource::default() };
    resources.node_networks.push(network);
    for plugin in PLUGINS {
        node.attributes.insert(format!("plugins.cni.version.{plugin}"), PLUGINS_AS_OF.to_owned());
    }
    node.attributes.insert("nomad.bridge.hairpin_mode".to_owned(), "false".to_owned());
}

/// The network an allocation's tasks share; `None`: the host's, or each its own.
fn wanted(alloc: &Allocation, bridging: &Bridging) -> Option<GroupNetwork> {
    let group = alloc.job.as_deref()?.lookup_group(&alloc.task_group)?;
    let network = group.networks.first()?;
    let contained = group.tasks.iter().any(|task| task.driver == MAKER);
    // Without containers, nobody could tell the host's network from none.
    let shared = network.mode == "bridge" || (network.mode == "none" && contained);
    if !shared {
        return None;
    }
    let given = alloc.allocated_resources.as_ref();
    let mut ports = given.map(|r| r.shared.ports.clone()).unwrap_or_default();
    if !bridging.bridge_ports_at_address {
        ports.iter_mut().for_each(|port| port.host_ip.clear());
    }
    Some(GroupNetwork {
        alloc_id: alloc.id.clone(),
        mode: network.mode.clone(),
        bridge: bridging.bridge_network_name.clone(),
        subnet: bridging.bridge_network_subnet.clone(),
        hostname: network.hostname.clone(),
        ports,
    })
}

/// Finds or makes an allocation's network. The error is a sentence.
pub async fn ensure(host: &Host, alloc: &Allocation, dirs: &AllocDirs) -> Result<Option<Namespace>, String> {
    let Some(mut wanted) = wanted(alloc, &host.bridging) else { return Ok(None) };
    if wanted.hostname.contains("${") {
        wanted.hostname = interpolated(host, alloc, dirs, &wanted.hostname)?;
    }
    if !wanted.hostname.is_empty() && !is_hostname(&wanted.hostname) {
        return Err(format!("hostname {:?} of the group's network is no DNS name", wanted.hostname));
    }
    let maker = maker(host).ok_or("the network of the group needs the docker driver, which this node has not")?;
    let mut attempt = 1;
    loop {
        match maker.network(&wanted).await {
            Ok(made) => return Ok(Some(made)),
            Err(error) if attempt < TRIES && error.is_recoverable() => {
                tracing::info!(alloc_id = %alloc.id, error = %error, attempt, "network of the group is tried again");
            }
            Err(error) => return Err(format!("failed to configure networking for alloc: {error}")),
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// A text of the group, read as its first task would have it.
fn interpolated(host: &Host, alloc: &Allocation, dirs: &AllocDirs, text: &str) -> Result<String, String> {
    let job = alloc.job.as_deref().ok_or("the job is missing")?;
    let group = job.lookup_group(&alloc.task_group).ok_or("the group is missing")?;
    let task = group.tasks.first().ok_or("the group has no task")?;
    let dirs = dirs.task(&task.name).map_err(|e| e.to_string())?;
    let node = host.node.borrow().clone();
    let env = TaskEnv::build(&Inputs {
        alloc,
        job,
        group,
        task,
        node: &node,
        region: &host.region,
        dirs: &dirs,
        isolation: FsIsolation::Image,
        host: &host.env,
        deny_list: &host.env_denied,
        hooks: &[],
        parent_cgroup: Some(&host.cgroup_parent),
    });
    env.interpolate_strict(text).map_err(|e| e.to_string())
}

fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 63 && name.split('.').all(label)
}

/// Takes it away.
pub async fn end(host: &Host, id: &model::AllocId) {
    let Some(maker) = maker(host) else { return };
    let mut pause = PAUSE;
    for attempt in 1..=END_TRIES {
        match maker.end_network(id).await {
            Ok(()) | Err(DriverError::Unsupported(_)) => return,
            Err(error) if attempt == END_TRIES => {
                tracing::warn!(alloc_id = %id, error = %error, "network of the group is not taken away, a sweep will");
            }
            Err(error) => tracing::debug!(alloc_id = %id, error = %error, attempt, "network of the group stays"),
        }
        // A later agent sweeps it.
        if attempt == END_TRIES || host.halt.or(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause *= 2;
    }
}

fn maker(host: &Host) -> Option<Arc<dyn Driver>> {
    host.drivers.get(MAKER).cloned()
}

/// As the cluster is told.
pub fn status(made: Option<&Namespace>) -> AllocNetworkStatus {
    made.map_or_else(AllocNetworkStatus::default, |made| AllocNetworkStatus {
        interface_name: made.interface.clone(),
        address: made.address.clone(),
        ..AllocNetworkStatus::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::docker::NAME;
    use model::alloc::PortMapping;
    use model::node::DriverInfo;
    use model::resources::NetworkResource;
    use model::{Job, Task, TaskGroup};

    fn alloc(mode: &str, driver: &str) -> Allocation {
        let task = Task { name: "t".into(), driver: driver.into(), ..Task::default() };
        let networks = vec![NetworkResource { mode: mode.into(), ..NetworkResource::default() }];
        let group = TaskGroup { name: Some("g".into()), tasks: vec![task], networks, ..TaskGroup::default() };
        let job = Job { id: Some("j".into()), task_groups: vec![group], ..Job::default() };
        let port = PortMapping { label: "http".into(), value: 20_000, to: 80, host_ip: "10.0.0.1".into() };
        let mut given = model::alloc::AllocatedResources::default();
        given.shared.ports.push(port);
        Allocation {
            id: "a".into(),
            task_group: "g".into(),
            job: Some(Arc::new(job)),
            allocated_resources: Some(Arc::new(given)),
            ..Allocation::default()
        }
    }

    #[test]
    fn only_groups_that_share_a_network_get_one() {
        let bridging = Bridging::default();
        for (mode, driver, shared) in [
            ("bridge", "raw_exec", true),
            ("bridge", NAME, true),
            ("none", NAME, true),
            ("none", "raw_exec", false),
            ("host", NAME, false),
            ("", NAME, false),
        ] {
            assert_eq!(wanted(&alloc(mode, driver), &bridging).is_some(), shared, "{mode} {driver}");
        }
    }

    #[test]
    fn ports_are_at_every_address_of_the_host_unless_told_otherwise() {
        let host_ip = |bridging: &Bridging| wanted(&alloc("bridge", NAME), bridging).unwrap().ports[0].host_ip.clone();
        assert_eq!(host_ip(&Bridging::default()), "");
        assert_eq!(host_ip(&Bridging { bridge_ports_at_address: true, ..Bridging::default() }), "10.0.0.1");
    }

    #[test]
    fn a_node_offers_bridges_while_its_engine_is_healthy_fingerprint_10() {
        let offers = |healthy: bool| {
            let mut node = Node { node_resources: Some(Default::default()), ..Node::default() };
            node.drivers.insert(NAME.into(), DriverInfo { detected: true, healthy, ..DriverInfo::default() });
            offer(&mut node, &Bridging::default());
            let modes = node.node_resources.as_ref().unwrap().node_networks.iter().any(|n| n.mode == "bridge");
            assert_eq!(node.attributes.contains_key("plugins.cni.version.portmap"), modes);
            modes
        };
        assert!(offers(true) && !offers(false));
    }

    #[test]
    fn a_hostname_is_a_dns_name() {
        for good in ["web", "web-1.example", "a"] {
            assert!(is_hostname(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a b", "a_b", &"x".repeat(64)] {
            assert!(!is_hostname(bad), "{bad}");
        }
    }
}
