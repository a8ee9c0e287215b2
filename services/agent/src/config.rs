//! What an agent is told by whoever starts it, and what that means.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::bridge::Bridging;
use crate::denied::Denied;
use crate::runner::volumes::is_there;
use driver::devices::Devices;
use driver::docker::OptionsText;
use driver::raw_exec;
use driver::supervisor::client::Launch;
use kit::https::HttpsSettings;
use kit::process::Settings;
use kit::server::bounds::Bounds;
use model::Nanos;
use model::node::{
    HostNetworkInfo, HostVolumeInfo, NodeReservedCpuResources, NodeReservedDiskResources, NodeReservedMemoryResources,
    NodeReservedNetworkResources, NodeReservedResources,
};
use model::time::parse_go_duration;

/// Settings of an agent.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub denied: Denied,
    #[command(flatten)]
    pub bounds: Bounds,
    /// Mutual-TLS address (host:port) of a gateway. May be repeated; others are learnt from it.
    #[arg(long = "gateway", value_name = "HOST:PORT", value_delimiter = ',')]
    pub gateways: Vec<String>,
    /// Name of the node; the host's unless given. Its id is the name in its certificate.
    #[arg(long)]
    pub node_name: Option<String>,
    /// Class of the node, for constraints.
    #[arg(long, default_value = "")]
    pub node_class: String,
    /// Pool the node is in.
    #[arg(long, default_value = "default")]
    pub node_pool: String,
    /// Metadata of the node, for constraints. May be repeated.
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    pub meta: Vec<(String, String)>,
    /// Directory of the host that jobs may mount, `:ro` behind it when for reading only. May be repeated.
    #[arg(long = "host-volume", value_name = "NAME=PATH[:ro]", value_parser = pair)]
    pub host_volumes: Vec<(String, String)>,
    /// Devices of the host that jobs may ask for, besides the GPUs that are found; each path is one. May be repeated.
    #[arg(long = "device", value_name = "VENDOR/TYPE/NAME=/dev/PATH[,/dev/PATH]", value_parser = pair)]
    pub devices: Vec<(String, String)>,
    /// Directory for the allocations' files; `alloc` in the data directory unless given.
    #[arg(long)]
    pub alloc_dir: Option<PathBuf>,
    /// Network interface whose address tasks are reached at; the one with the default route unless given.
    #[arg(long, default_value = "")]
    pub network_interface: String,
    /// Addresses of the host that ports are given on by name, with its keys `cidr`, `interface` and
    /// `reserved_ports` as in a configuration. May be repeated.
    #[arg(long = "host-network", value_name = "NAME:KEY=VALUE[;KEY=VALUE]", value_parser = host_network)]
    pub host_networks: Vec<HostNetworkInfo>,
    #[command(flatten)]
    pub bridging: Bridging,
    /// First port of those given out dynamically.
    #[arg(long, default_value_t = 20_000)]
    pub min_dynamic_port: u16,
    /// Last port of those given out dynamically.
    #[arg(long, default_value_t = 32_000)]
    pub max_dynamic_port: u16,
    /// MHz the node offers; found out unless given.
    #[arg(long)]
    pub cpu_total_compute: Option<i64>,
    /// MiB of memory the node offers; found out unless given.
    #[arg(long)]
    pub memory_total_mb: Option<i64>,
    /// MiB of disk the node offers; found out unless given.
    #[arg(long)]
    pub disk_total_mb: Option<i64>,
    /// MHz kept back from tasks.
    #[arg(long, default_value_t = 0)]
    pub reserved_cpu: u64,
    /// MiB of memory kept back from tasks.
    #[arg(long, default_value_t = 0)]
    pub reserved_memory_mb: u64,
    /// MiB of disk kept back from tasks.
    #[arg(long, default_value_t = 0)]
    pub reserved_disk_mb: u64,
    /// Ports no task gets, such as `22,8500-8600`.
    #[arg(long, default_value = "")]
    pub reserved_ports: String,
    /// Address at which the public API is answered, by passing requests on to a gateway; nowhere unless given.
    #[arg(long)]
    pub http_bind: Option<SocketAddr>,
    /// A further address at which it is answered. May be repeated.
    #[arg(long)]
    pub http_also: Vec<SocketAddr>,
    /// Let it listen where others than this machine reach it, though it asks nobody who they are.
    #[arg(long)]
    pub http_unauthenticated: bool,
    #[command(flatten)]
    pub https: HttpsSettings,
    /// Offer the `raw_exec` driver: tasks run as programs of the host, not isolated from it.
    #[arg(long)]
    pub raw_exec: bool,
    /// User ids `raw_exec` tasks may not run as, such as `0-99`.
    #[arg(long, default_value = "")]
    pub raw_exec_denied_uids: String,
    /// Group ids `raw_exec` tasks may not run as.
    #[arg(long, default_value = "")]
    pub raw_exec_denied_gids: String,
    /// Settings of the `docker` driver: JSON with the keys of its plugin block, or `@FILE` with it.
    #[arg(long, value_name = "JSON|@FILE", default_value = "")]
    pub docker_options: OptionsText,
    /// Do not look for a Docker Engine.
    #[arg(long)]
    pub no_docker: bool,
    /// Offer the `mock_driver`: tasks that only seem to run.
    #[arg(long)]
    pub mock_driver: bool,
    /// The cgroup this agent's tasks are below.
    #[arg(long, default_value = "steppe.slice")]
    pub cgroup_parent: String,
    /// Longest time a task may take to end after being asked to.
    #[arg(long, default_value = "30s", value_parser = span)]
    pub max_kill_timeout: Nanos,
    /// Allocations kept, with their files, before the oldest finished ones are removed.
    #[arg(long, default_value_t = 50)]
    pub gc_max_allocs: usize,
    /// How often finished allocations are looked for.
    #[arg(long, default_value = "1m", value_parser = span)]
    pub gc_interval: Nanos,
    /// How many directories of allocations are removed at the same time.
    #[arg(long, default_value_t = 2)]
    pub gc_parallel_destroys: usize,
    /// Finished allocations are removed when the disk is fuller than this.
    #[arg(long, value_name = "PERCENT", default_value_t = 80.0)]
    pub gc_disk_usage_threshold: f64,
    /// Finished allocations are removed when more inodes are in use than this.
    #[arg(long, value_name = "PERCENT", default_value_t = 70.0)]
    pub gc_inode_usage_threshold: f64,
    /// Finished allocations are removed when they ended longer ago than this.
    #[arg(long, default_value = "24h", value_parser = span)]
    pub gc_max_age: Nanos,
    /// On shutdown stop every task and leave nothing behind, instead of letting tasks run on.
    #[arg(long)]
    pub stop_tasks_on_exit: bool,
    /// How long that may take, from the signal on; tasks that are not through after half of it are killed.
    #[arg(long, default_value = "8s", value_parser = span)]
    pub stop_tasks_within: Nanos,
    /// How supervisors are started; this very program unless set.
    #[arg(skip)]
    pub launch: Option<Launch>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            denied: Denied::default(),
            bounds: Bounds::default(),
            gateways: Vec::new(),
            node_name: None,
            node_class: String::new(),
            node_pool: "default".to_owned(),
            meta: Vec::new(),
            host_volumes: Vec::new(),
            devices: Vec::new(),
            alloc_dir: None,
            network_interface: String::new(),
            host_networks: Vec::new(),
            bridging: Bridging::default(),
            min_dynamic_port: 20_000,
            max_dynamic_port: 32_000,
            cpu_total_compute: None,
            memory_total_mb: None,
            disk_total_mb: None,
            reserved_cpu: 0,
            reserved_memory_mb: 0,
            reserved_disk_mb: 0,
            reserved_ports: String::new(),
            http_bind: None,
            http_also: Vec::new(),
            http_unauthenticated: false,
            https: HttpsSettings::default(),
            raw_exec: false,
            raw_exec_denied_uids: String::new(),
            raw_exec_denied_gids: String::new(),
            docker_options: OptionsText::default(),
            no_docker: false,
            mock_driver: false,
            cgroup_parent: "steppe.slice".to_owned(),
            max_kill_timeout: Nanos::from_secs(30),
            gc_interval: Nanos::from_secs(60),
            gc_parallel_destroys: 2,
            gc_max_allocs: 50,
            gc_disk_usage_threshold: 80.0,
            gc_inode_usage_threshold: 70.0,
            gc_max_age: Nanos::from_secs(86_400),
            stop_tasks_on_exit: false,
            stop_tasks_within: Nanos::from_secs(8),
            launch: None,
        }
    }
}

impl Config {
    /// Where the public API is answered.
    pub(crate) fn http_binds(&self) -> impl Iterator<Item = SocketAddr> {
        self.http_bind.into_iter().chain(self.http_also.iter().copied())
    }

    /// What is wrong with it, in words for whoever typed it.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.gateways.is_empty() {
            return Err("at least one gateway is needed".to_owned());
        }
        let believes_anybody = !self.http_unauthenticated && !self.https.verifies();
        if let Some(bind) = self.http_binds().find(|bind| !bind.ip().is_loopback() && believes_anybody) {
            return Err(format!(
                "the public API would listen on {bind} for anybody; say --http-unauthenticated if that is meant"
            ));
        }
        if self.min_dynamic_port > self.max_dynamic_port {
            let (min, max) = (self.min_dynamic_port, self.max_dynamic_port);
            return Err(format!("the dynamic ports {min} to {max} are an empty range"));
        }
        model::host_network::check_ports(&self.reserved_ports).map_err(|wrong| format!("reserved_ports: {wrong}"))?;
        for (at, network) in self.host_networks.iter().enumerate() {
            let ports = model::host_network::check_ports(&network.reserved_ports);
            ports.map_err(|wrong| format!("host_network {:?}.reserved_ports: {wrong}", network.name))?;
            if self.host_networks[..at].iter().any(|other| other.name == network.name) {
                return Err(format!("host_network {:?} is given twice", network.name));
            }
            if let Some((key, wrong)) = network.problem() {
                let key = if key.is_empty() { String::new() } else { format!(".{key}") };
                return Err(format!("host_network {:?}{key}: {wrong}", network.name));
            }
        }
        let subnet = &self.bridging.bridge_network_subnet;
        let parts = subnet.split_once('/').map(|(ip, bits)| (ip.parse::<Ipv4Addr>(), bits.parse::<u8>()));
        if !matches!(parts, Some((Ok(_), Ok(bits))) if (8..=29).contains(&bits)) {
            return Err(format!("bridge_network_subnet {subnet:?} is no IPv4 network such as 172.26.64.0/20"));
        }
        let bridge = &self.bridging.bridge_network_name;
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins = bridge.starts_with(|c: char| c.is_ascii_alphanumeric());
        if bridge.len() > 15 || !begins || !bridge.chars().all(letter) {
            return Err(format!("bridge_network_name {bridge:?} is no name of an interface"));
        }
        Devices::new(&self.devices).map_err(|error| error.to_string())?;
        if let Some((name, volume)) = self.host_volumes().iter().find(|(_, volume)| !volume.path.starts_with('/')) {
            return Err(format!("host volume {name:?}: {:?} is no absolute path", volume.path));
        }
        if self.max_kill_timeout.0 < 0 {
            return Err("the longest kill timeout must not be negative".to_owned());
        }
        if self.stop_tasks_within < Nanos::from_secs(1) {
            return Err("tasks cannot be stopped in less than a second".to_owned());
        }
        Ok(())
    }

    pub(crate) fn meta(&self) -> BTreeMap<String, String> {
        self.meta.iter().cloned().collect()
    }

    /// What the operator says of groups' networks. With host networks, a port is at its own address only.
    pub(crate) fn bridging(&self) -> Bridging {
        let mut bridging = self.bridging.clone();
        bridging.bridge_ports_at_address |= !self.host_networks.is_empty();
        bridging
    }

    pub(crate) fn host_volumes(&self) -> BTreeMap<String, HostVolumeInfo> {
        let volume = |(name, path): &(String, String)| {
            let (path, read_only) = path.strip_suffix(":ro").map_or((path.as_str(), false), |path| (path, true));
            (name.clone(), HostVolumeInfo { path: path.to_owned(), read_only, ..HostVolumeInfo::default() })
        };
        self.host_volumes.iter().map(volume).collect()
    }

    /// Looks at the host.
    ///
    /// # Errors
    /// A volume whose path is not there, by name.
    pub(crate) fn check_host_volumes(&self) -> Result<(), String> {
        self.host_volumes().iter().try_for_each(|(name, volume)| {
            is_there(Path::new(&volume.path)).map_err(|why| format!("host volume {name:?}: {why}"))
        })
    }

    /// Checked before: see [`Config::check`].
    pub(crate) fn devices(&self) -> Devices {
        Devices::new(&self.devices).unwrap_or_default()
    }

    pub(crate) fn reserved(&self) -> NodeReservedResources {
        NodeReservedResources {
            cpu: NodeReservedCpuResources { cpu_shares: self.reserved_cpu, reserved_cpu_cores: Vec::new() },
            memory: NodeReservedMemoryResources { memory_mb: self.reserved_memory_mb },
            disk: NodeReservedDiskResources { disk_mb: self.reserved_disk_mb },
            networks: NodeReservedNetworkResources { reserved_host_ports: self.reserved_ports.clone() },
        }
    }

    pub(crate) fn raw_exec_options(&self) -> raw_exec::Options {
        raw_exec::Options {
            enabled: self.raw_exec && self.denied.offers("raw_exec"),
            denied_host_uids: self.raw_exec_denied_uids.clone(),
            denied_host_gids: self.raw_exec_denied_gids.clone(),
            denied_envvars: self.denied.raw_exec_denied_envvars.clone(),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// Reads `NAME:cidr=10.0.0.0/8;interface=eth0;reserved_ports=22,80`.
fn host_network(text: &str) -> Result<HostNetworkInfo, String> {
    let wrong = || format!("`{text}` is not NAME:KEY=VALUE[;KEY=VALUE]");
    let (name, rest) = text.split_once(':').ok_or_else(wrong)?;
    let mut network = HostNetworkInfo { name: name.to_owned(), ..HostNetworkInfo::default() };
    for part in rest.split(';') {
        let (key, value) = part.split_once('=').ok_or_else(wrong)?;
        let field = match key.trim() {
            "cidr" => &mut network.cidr,
            "interface" => &mut network.interface,
            "reserved_ports" => &mut network.reserved_ports,
            _ => return Err(wrong()),
        };
        value.trim().clone_into(field);
    }
    Ok(network)
}

fn span(text: &str) -> Result<Nanos, String> {
    parse_go_duration(text).ok_or_else(|| format!("`{text}` is no duration such as 30s or 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        let command = Config::augment_args(clap::Command::new("agent"));
        Config::from_arg_matches(&command.try_get_matches_from([&["agent"], args].concat())?)
    }

    #[test]
    fn what_nobody_typed_is_the_default() {
        let typed = parse(&[]).unwrap();
        assert_eq!(format!("{typed:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn lists_may_be_repeated_or_joined() {
        let typed = parse(&["--gateway", "a:1,b:2", "--gateway", "c:3", "--meta", "rack=r=1"]).unwrap();
        assert_eq!(typed.gateways, ["a:1", "b:2", "c:3"]);
        assert_eq!(typed.meta()["rack"], "r=1");
        assert!(typed.check().is_ok());
    }

    /// With them, a port is at the address it was given: network-03, network-04.
    #[test]
    fn host_networks_are_told_by_name_network_03_network_04() {
        let typed = parse(&[
            "--gateway=a:1",
            "--host-network=lan:cidr=10.0.0.0/8,fd00::/8;interface=eth0;reserved_ports=22,80",
            "--host-network=vpn:interface=wg0",
        ]);
        let typed = typed.unwrap();
        let [lan, vpn] = typed.host_networks.as_slice() else { panic!("{:?}", typed.host_networks) };
        assert_eq!((lan.name.as_str(), lan.cidr.as_str()), ("lan", "10.0.0.0/8,fd00::/8"));
        assert_eq!((lan.interface.as_str(), lan.reserved_ports.as_str()), ("eth0", "22,80"));
        assert_eq!((vpn.name.as_str(), vpn.cidr.as_str(), vpn.interface.as_str()), ("vpn", "", "wg0"));
        assert_eq!(typed.check(), Ok(()));
        assert!(typed.bridging().bridge_ports_at_address && !Config::default().bridging().bridge_ports_at_address);
        for bad in ["lan", "lan:", "lan:cidr", "lan:x=1"] {
            assert!(parse(&["--host-network", bad]).is_err(), "{bad}");
        }
        let wrong = parse(&["--gateway=a:1", "--host-network=lan:cidr=10.0.0.1"]).unwrap().check().unwrap_err();
        assert_eq!(wrong, "host_network \"lan\".cidr: `10.0.0.1` is no range of addresses such as 10.0.0.0/8");
        // The node would be told, and every group with a port refused there.
        let checked = |more: &[&str]| parse(&[&["--gateway=a:1"], more].concat()).unwrap().check().unwrap_err();
        let ports = checked(&["--host-network=lan:interface=eth0;reserved_ports=ssh"]);
        assert!(ports.starts_with("host_network \"lan\".reserved_ports: `ssh` is no port"), "{ports}");
        assert!(checked(&["--reserved-ports=22,x"]).starts_with("reserved_ports: `x` is no port"));
        let twice = checked(&["--host-network=lan:interface=eth0", "--host-network=lan:interface=eth1"]);
        assert_eq!(twice, "host_network \"lan\" is given twice");
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        assert!(parse(&["--meta", "novalue"]).is_err());
        assert!(parse(&["--gc-max-age", "soon"]).is_err());
        assert!(Config::default().check().unwrap_err().contains("gateway"));
        let ports =
            Config { gateways: vec!["a:1".into()], min_dynamic_port: 2, max_dynamic_port: 1, ..Config::default() };
        assert!(ports.check().unwrap_err().contains("2 to 1"));
        let volume = parse(&["--gateway", "a:1", "--host-volume", "v=srv:ro"]).unwrap();
        assert_eq!(volume.check().unwrap_err(), "host volume \"v\": \"srv\" is no absolute path");
    }

    #[test]
    fn node_20_a_host_volume_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let with = |path: &str| Config {
            host_volumes: vec![("here".into(), dir.path().display().to_string()), ("data".into(), path.into())],
            ..Config::default()
        };
        assert_eq!(with(&format!("{}:ro", dir.path().display())).check_host_volumes(), Ok(()));
        let error = with("/no/such").check_host_volumes().unwrap_err();
        assert!(error.starts_with("host volume \"data\": /no/such: No such file or directory"), "{error}");
    }
}
