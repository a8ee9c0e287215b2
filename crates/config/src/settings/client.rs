use std::collections::BTreeMap;

use model::Nanos;
use model::node::HostNetworkInfo;

use super::text;
use crate::decode::{Labelled, settings};

settings! {
    /// The node agent: runs tasks.
    Client "client" {
        /// Run the node agent on this machine.
        enabled: bool = false,
        /// Directory for the agent's own state; `client` in `data_dir` unless given.
        state_dir: Option<String> = None,
        /// Directory for the allocations' files; `alloc` in `data_dir` unless given.
        alloc_dir: Option<String> = None,
        /// Servers, `host` or `host:port` of their rpc port. A machine that is a server too needs none.
        servers: Vec<String> = Vec::new(),
        /// Servers, in the other form.
        server_join: ClientJoin = ClientJoin::default(),
        /// Token of `steppe node intro create`, for a machine that joins for the first time; a path to a file that holds it does, too.
        intro_token: String = String::new(),
        /// Class of the node, for constraints.
        node_class: String = String::new(),
        /// Pool the node is in.
        node_pool: String = text("default"),
        /// Metadata of the node, for constraints.
        meta: BTreeMap<String, String> = BTreeMap::new(),
        /// Older settings by name: `driver.raw_exec.enable`; `driver.allowlist` and `driver.denylist`, names of drivers this node offers or does not; `env.denylist`, variables that no task inherits, in place of the usual ones; `user.denylist` and `user.checked_drivers`, users that tasks may not run as, and of which drivers.
        options: BTreeMap<String, String> = BTreeMap::new(),
        /// Directories of the host that jobs may mount, by name.
        host_volume: Labelled<HostVolume> = Labelled::default(),
        /// Devices that jobs may ask for besides the GPUs that are found: `"vendor/type/name" = "/dev/a,/dev/b"`, each path one (ours).
        device: BTreeMap<String, String> = BTreeMap::new(),
        /// What is kept back from tasks.
        reserved: Reserved = Reserved::default(),
        /// First port of those given out dynamically.
        min_dynamic_port: u16 = 20_000,
        /// Last port of those given out dynamically.
        max_dynamic_port: u16 = 32_000,
        /// Network interface whose address tasks are reached at; the one with the default route unless given.
        network_interface: String = String::new(),
        /// Addresses of the host that ports are given on by name: `port "x" { host_network = "name" }`.
        host_network: Labelled<HostNetwork> = Labelled::default(),
        /// Network of the Docker Engine, and interface of the host, that groups with `mode = "bridge"` are on.
        bridge_network_name: String = "nomad".to_owned(),
        /// Addresses on it.
        bridge_network_subnet: String = "172.26.64.0/20".to_owned(),
        /// Ports of such groups are reached at every address of the host; else, and with a `host_network`, at the one the cluster gave them.
        bind_wildcard_default_host_network: bool = true,
        /// MHz the node offers; 0 = found out.
        cpu_total_compute: i64 = 0,
        /// MiB of memory the node offers; 0 = found out.
        memory_total_mb: i64 = 0,
        /// MiB of disk the node offers; 0 = found out.
        disk_total_mb: i64 = 0,
        /// Longest time a task may take to end after being asked to.
        max_kill_timeout: Nanos = Nanos::from_secs(30),
        /// How often finished allocations are looked for; besides, whenever one ends.
        gc_interval: Nanos = Nanos::from_secs(60),
        /// How many finished allocations' directories are removed at the same time.
        gc_parallel_destroys: u32 = 2,
        /// Finished allocations are removed when the disk is fuller than this, in percent.
        gc_disk_usage_threshold: f64 = 80.0,
        /// Finished allocations are removed when more inodes are in use than this, in percent.
        gc_inode_usage_threshold: f64 = 70.0,
        /// Allocations kept, with their files, before the oldest finished ones are removed.
        gc_max_allocs: u64 = 50,
        /// When the machine leaves (`leave_on_interrupt`, `leave_on_terminate`), the node is drained before. Without it, tasks run on.
        drain_on_shutdown: Option<DrainOnShutdown> = None,
        /// The cgroup that tasks are below.
        cgroup_parent: String = text("steppe.slice"),
        /// Accepted; a node's id is always its own.
        no_host_uuid: bool = true,
    }

    /// Addresses of servers, `host` or `host:port` of their rpc port. They are tried again and again.
    ClientJoin "client.server_join" {
        /// Addresses.
        retry_join: Vec<String> = Vec::new(),
        /// Further addresses; there is no difference.
        start_join: Vec<String> = Vec::new(),
        /// Accepted; there is no limit.
        retry_max: u32 = 0,
        /// Accepted; pauses grow from a fifth of a second to five.
        retry_interval: Nanos = Nanos::from_secs(30),
    }

    /// What is kept back from tasks.
    Reserved "client.reserved" {
        /// MHz.
        cpu: u64 = 0,
        /// MiB.
        memory: u64 = 0,
        /// MiB.
        disk: u64 = 0,
        /// Ports no task gets, such as `22,8500-8600`.
        reserved_ports: String = String::new(),
    }

    /// How a node is drained whose machine leaves. It stays ineligible until somebody changes that.
    DrainOnShutdown "client.drain_on_shutdown" {
        /// What still runs then is stopped; the machine ends 5 s later in any case.
        deadline: Nanos = Nanos::from_secs(3_600),
        /// Leave system jobs running.
        ignore_system_jobs: bool = false,
        /// Stop everything at once.
        force: bool = false,
    }

    /// Addresses of the host's interfaces, by a name that ports ask for; `default` is none of these, but the interface that `network_interface` says. A network that has no address on this machine is told in the log, and the node does not have it until an address is there; the machine looks again every minute.
    HostNetwork "client.host_network" {
        /// Ranges that the addresses are in, with commas: `10.0.0.0/8,fd00::/8`. One address of 127.0.0.0/8, as `127.0.0.2/32`, is on the loopback interface. Link-local addresses only if a range holds them.
        cidr: String = String::new(),
        /// Interface that the addresses are on.
        interface: String = String::new(),
        /// Ports no task gets on these addresses, such as `22,8500-8600`.
        reserved_ports: String = String::new(),
    }

    /// A directory of the host, shown on the node by its name, for `volume` blocks of type `host`.
    HostVolume "client.host_volume" {
        /// The directory, which must be there; an absolute path.
        path: String = String::new(),
        /// It may only be mounted for reading.
        read_only: bool = false,
    }
}

impl Client {
    /// The host networks, as the node tells them.
    pub fn host_networks(&self) -> impl Iterator<Item = HostNetworkInfo> {
        self.host_network.0.iter().map(|(name, said)| HostNetworkInfo {
            name: name.clone(),
            cidr: said.cidr.clone(),
            interface: said.interface.clone(),
            reserved_ports: said.reserved_ports.clone(),
        })
    }

    /// All addresses of servers, in whichever form they were given.
    pub fn join(&self) -> Vec<String> {
        let mut all = Vec::new();
        for address in [&self.servers, &self.server_join.retry_join, &self.server_join.start_join].into_iter().flatten()
        {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }
}
