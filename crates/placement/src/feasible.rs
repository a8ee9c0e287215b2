//! Feasibility: may a node run a group at all, however empty it is?
//!
//! Compiled once per job and group, asked once per *shape* of node (see [`crate::fleet`]); only checks
//! on something unique to a node are asked node by node. Nothing a job asks for is ever ignored: where a
//! volume's row is not known, no node is feasible.

use model::node::DriverInfo;
use model::{Job, Node, TaskGroup};

use crate::constraint::{Check, DISTINCT_HOSTS, DISTINCT_PROPERTY, Target};
use crate::device::{DeviceAsk, DeviceIndex, Match, Offer};
use crate::ports::{NodePorts, PortAsk};
use crate::version::{Requirement, Version};
use crate::volume::NoVolume;
use crate::volumes::{Requests, Site, Vacant, Volumes};

/// Why a node may not run a group. Its text is the key under which metrics count it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Filter {
    /// `L op R`.
    #[error("{0}")]
    Constraint(String),
    #[error("missing drivers")]
    Drivers,
    /// The driver is there and does not work just now; the node's class says nothing about that.
    #[error("missing drivers")]
    UnhealthyDriver,
    #[error("missing network")]
    Network,
    #[error("missing host network \"{network}\" for port \"{port}\"")]
    HostNetwork { network: String, port: String },
    #[error(transparent)]
    Volume(#[from] NoVolume),
    #[error("missing devices")]
    Devices,
    #[error("missing secrets provider \"{0}\"")]
    Secrets(String),
    #[error("distinct_hosts")]
    DistinctHosts,
    /// `property=value used by n allocs`, or that the property is missing.
    #[error("{0}")]
    DistinctProperty(String),
    #[error("not in the job's datacenters")]
    Datacenter,
    #[error("not in the job's node pool")]
    Pool,
}

impl Filter {
    /// True when every node of the computed class fails for the same reason, now and later.
    pub(crate) fn is_of_class(&self) -> bool {
        matches!(self, Self::Constraint(_) | Self::Drivers | Self::Secrets(_))
    }
}

/// A property of which only so many allocations may share a value.
#[derive(Clone, Debug)]
pub(crate) struct Property {
    pub target: Target,
    pub text: String,
    pub limit: usize,
    /// Counts only the allocations of the group.
    pub group_only: bool,
}

/// All static checks of one group, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Checks {
    job: Vec<Check>,
    group: Vec<Check>,
    pub job_escaped: bool,
    pub group_escaped: bool,
    drivers: Vec<String>,
    mode: Option<String>,
    ports: Vec<PortAsk>,
    secrets: Vec<String>,
    /// Some check must be asked of each node.
    pub has_own: bool,
    /// A device may be asked for that is unique to a node.
    pub has_unique_devices: bool,
    /// A host network may be asked for by something that is unique to a node.
    pub has_unique_networks: bool,
    volumes: Requests,
    devices: Vec<DeviceAsk>,
    pub distinct_hosts_job: bool,
    pub distinct_hosts_group: bool,
    pub properties: Vec<Property>,
}

impl Checks {
    pub(crate) fn new(job: &Job, group: &TaskGroup) -> Self {
        let of_group = || group.constraints.iter().chain(group.tasks.iter().flat_map(|t| &t.constraints));
        let job_checks: Vec<Check> = job.constraints.iter().map(Check::of).collect();
        let group_checks: Vec<Check> = of_group().map(Check::of).collect();
        let mut drivers: Vec<String> = group.tasks.iter().map(|t| t.driver.clone()).collect();
        drivers.sort_unstable();
        drivers.dedup();
        let hosts = |constraints: &[model::job::Constraint]| {
            let distinct = |c: &model::job::Constraint| c.operand == DISTINCT_HOSTS && !says_false(&c.r_target);
            constraints.iter().any(distinct)
        };
        let property = |c: &model::job::Constraint, group_only| {
            (c.operand == DISTINCT_PROPERTY).then(|| Property {
                target: Target::parse(&c.l_target),
                text: c.l_target.clone(),
                limit: if c.r_target.is_empty() { 1 } else { c.r_target.trim().parse().unwrap_or(0) },
                group_only,
            })
        };
        let properties = job.constraints.iter().filter_map(|c| property(c, false));
        let devices = DeviceAsk::all(group);
        let has_unique_devices = devices.iter().any(DeviceAsk::is_unique);
        let ports = group.networks.first().map(PortAsk::of).unwrap_or_default();
        let has_unique_networks = ports.iter().any(PortAsk::is_unique);
        let csi = group.volumes.values().any(|v| v.kind == "csi");
        Self {
            job_escaped: job_checks.iter().any(|c| c.escaped),
            group_escaped: group_checks.iter().any(|c| c.escaped) || csi,
            drivers,
            mode: group.networks.first().map(|n| n.mode.clone()),
            ports,
            secrets: group.tasks.iter().flat_map(|t| &t.secrets).map(|s| s.provider.clone()).collect(),
            volumes: Requests::of(job.namespace(), job.id(), group),
            has_own: has_unique_devices
                || has_unique_networks
                || job_checks.iter().chain(&group_checks).any(|c| c.escaped),
            has_unique_devices,
            has_unique_networks,
            devices,
            job: job_checks,
            group: group_checks,
            distinct_hosts_job: hosts(&job.constraints),
            distinct_hosts_group: hosts(&group.constraints),
            properties: properties.chain(of_group().filter_map(|c| property(c, true))).collect(),
        }
    }

    /// The checks that all nodes of a shape answer alike.
    pub(crate) fn shared(&self, node: &Node) -> Result<(), Filter> {
        let failed = |checks: &[Check]| checks.iter().find(|c| !c.escaped && !c.holds(node)).map(|c| c.text.clone());
        if let Some(text) = failed(&self.job) {
            return Err(Filter::Constraint(text));
        }
        self.drivers(node)?;
        if let Some(text) = failed(&self.group) {
            return Err(Filter::Constraint(text));
        }
        if !self.has_unique_devices {
            self.devices(node)?;
        }
        self.network(node)?;
        if !self.has_unique_networks {
            self.host_networks(node)?;
        }
        if let Some(provider) = self.secrets.iter().find(|p| !has_provider(node, p)) {
            return Err(Filter::Secrets(provider.clone()));
        }
        Ok(())
    }

    pub(crate) fn has_volumes(&self) -> bool {
        !self.volumes.is_empty()
    }

    /// The checks on what other allocations use, too.
    pub(crate) fn volumes(&self, node: &Node, rows: &Volumes, site: &dyn Site) -> Result<(), Filter> {
        Ok(self.volumes.check(node, rows, site)?)
    }

    /// What no change of a node would bring.
    pub(crate) fn missing(&self, rows: &Volumes) -> impl Iterator<Item = String> {
        self.volumes.missing(rows)
    }

    /// Whether the node had the devices if nobody else used them.
    fn devices(&self, node: &Node) -> Result<(), Filter> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let (index, options) = (DeviceIndex::of(node), DeviceAsk::options(&self.devices, node));
        let offer = Offer { node, index: &index, taken: &[], options: &options };
        let found = Match::default().solve(&self.devices, &offer, &|_| None);
        found.map(|_| ()).map_err(|_| Filter::Devices)
    }

    /// The checks on what is unique to a node.
    pub(crate) fn own(&self, node: &Node) -> Result<(), Filter> {
        let mut all = self.job.iter().chain(&self.group);
        if let Some(check) = all.find(|c| c.escaped && !c.holds(node)) {
            return Err(Filter::Constraint(check.text.clone()));
        }
        if self.has_unique_devices {
            self.devices(node)?;
        }
        if self.has_unique_networks { self.host_networks(node) } else { Ok(()) }
    }

    fn drivers(&self, node: &Node) -> Result<(), Filter> {
        for driver in &self.drivers {
            let attribute = || node.attributes.get(&format!("driver.{driver}")).is_some_and(|v| says_true(v));
            match node.drivers.get(driver) {
                Some(DriverInfo { detected: true, healthy: true, .. }) => {}
                Some(DriverInfo { detected: true, .. }) => return Err(Filter::UnhealthyDriver),
                None if attribute() => {}
                _ => return Err(Filter::Drivers),
            }
        }
        Ok(())
    }

    fn network(&self, node: &Node) -> Result<(), Filter> {
        let Some(mode) = &self.mode else { return Ok(()) };
        let mode = if mode.is_empty() { "host" } else { mode };
        if mode == "none" {
            return Ok(());
        }
        let Some(resources) = &node.node_resources else { return Err(Filter::Network) };
        let listed = resources.networks.iter().map(|n| &n.mode).chain(resources.node_networks.iter().map(|n| &n.mode));
        let mut modes = listed.map(|m| if m.is_empty() { "host" } else { m.as_str() }).peekable();
        let silent = modes.peek().is_none() && mode == "host" && self.ports.is_empty();
        let assumed = silent || mode == "bridge" && is_ancient(node);
        if !assumed && !modes.any(|m| m == mode) {
            return Err(Filter::Network);
        }
        Ok(())
    }

    /// Whether the node has the host networks that ports are asked on.
    fn host_networks(&self, node: &Node) -> Result<(), Filter> {
        let mut asks = self.ports.iter().filter(|ask| ask.host_network.is_some()).peekable();
        if asks.peek().is_none() || self.mode.as_deref() == Some("none") {
            return Ok(());
        }
        let ports = NodePorts::of(node);
        let Some(ask) = asks.find(|ask| !ports.has_network(ask.network(node))) else { return Ok(()) };
        let network = if ask.network(node).is_empty() { &ask.host_network_text } else { ask.network(node) };
        Err(Filter::HostNetwork { network: network.to_owned(), port: ask.label.clone() })
    }
}

/// A client that does not say yet whether it has bridges.
fn is_ancient(node: &Node) -> bool {
    let version = node.attributes.get("nomad.version").and_then(|v| Version::parse(v));
    let before = Requirement::parse("< 0.12", false);
    version.zip(before).is_some_and(|(version, before)| before.holds(&version))
}

fn has_provider(node: &Node, provider: &str) -> bool {
    node.attributes.contains_key(&format!("plugins.secrets.{provider}.version"))
}

fn says_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn says_false(text: &str) -> bool {
    matches!(text, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// Whether a node may run a group of a job, apart from room and from what other allocations of the job
/// do there. For whoever must ask again because the node's row has changed.
///
/// # Errors
/// The first check that fails.
pub fn feasible(node: &Node, job: &Job, group: &TaskGroup) -> Result<(), Filter> {
    feasible_with(node, job, group, &Volumes::default())
}

/// As [`feasible`], with what is known of volumes.
pub(crate) fn feasible_with(node: &Node, job: &Job, group: &TaskGroup, rows: &Volumes) -> Result<(), Filter> {
    if !node.is_in_pool(job.node_pool()) {
        return Err(Filter::Pool);
    }
    if !crate::read::in_datacenters(job, &node.datacenter) {
        return Err(Filter::Datacenter);
    }
    let checks = Checks::new(job, group);
    checks.shared(node)?;
    checks.own(node)?;
    checks.volumes(node, rows, &Vacant)
}
