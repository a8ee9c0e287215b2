//! What this host is and has, under the names the compatible interface uses.
//!
//! Everything is read once at start from `/proc`, `/sys` and a few calls; nothing is guessed that cannot be
//! read: an attribute that is unknown is absent. The operator's numbers win over what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::host_network::{DEFAULT, is_link_local};
use model::node::{
    Core, HostNetworkInfo, NodeCpuResources, NodeDiskResources, NodeMemoryResources, NodeNetworkResource,
    NodeProcessors, NodeResources, Topology,
};
use model::resources::NetworkResource;

use crate::cgroup;
use crate::env::core_list;
use crate::host_networks::{self, Interfaces, address_of};

const MIB: u64 = 1 << 20;
/// Where nothing says how fast a link is.
const SPEED_MBITS_DEFAULT: i64 = 1000;
/// The signals a job may ask for.
const SIGNALS: &str = "SIGABRT,SIGALRM,SIGBUS,SIGCONT,SIGFPE,SIGHUP,SIGILL,SIGINT,SIGIO,SIGIOT,SIGKILL,SIGNULL,SIGPIPE,SIGPROF,\
SIGQUIT,SIGSEGV,SIGSTOP,SIGSYS,SIGTERM,SIGTRAP,SIGTSTP,SIGTTIN,SIGTTOU,SIGUSR1,SIGUSR2,SIGWINCH,SIGXCPU,SIGXFSZ";

#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    #[error("network interface {0:?} does not exist or has no address")]
    NoInterface(String),
}

/// What the operator sets, and where allocations live.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub alloc_dir: PathBuf,
    /// Empty: the one with the default route, else loopback.
    pub network_interface: String,
    /// Networks of the host besides that interface.
    pub host_networks: Vec<HostNetworkInfo>,
    pub cpu_total_compute_mhz: Option<i64>,
    pub memory_total_mib: Option<i64>,
    pub disk_total_mib: Option<i64>,
    pub min_dynamic_port: i64,
    pub max_dynamic_port: i64,
    pub version: String,
}

/// A host's fingerprint.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub attributes: BTreeMap<String, String>,
    pub resources: NodeResources,
    pub hostname: String,
    /// The address tasks are reached at.
    pub ip: String,
}

impl Host {
    pub fn read(options: &Options) -> Result<Self, FingerprintError> {
        let mut host = Self::default();
        host.resources.min_dynamic_port = options.min_dynamic_port;
        host.resources.max_dynamic_port = options.max_dynamic_port;
        host.system(options);
        host.cpu(options);
        host.memory(options);
        host.storage(options);
        host.network(&options.network_interface, &options.host_networks)?;
        Ok(host)
    }

    fn set(&mut self, name: &str, value: impl ToString) {
        let value = value.to_string();
        if !value.is_empty() {
            self.attributes.insert(name.to_owned(), value);
        }
    }

    fn system(&mut self, options: &Options) {
        let uname = rustix::system::uname();
        let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
        self.hostname = text(uname.nodename());
        self.set("unique.hostname", self.hostname.clone());
        self.set("kernel.name", text(uname.sysname()).to_lowercase());
        self.set("kernel.version", text(uname.release()));
        self.set("kernel.arch", text(uname.machine()));
        self.set("cpu.arch", go_arch(uname.machine().to_str().unwrap_or_default()));
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let (name, version) = os_release(&release);
        self.set("os.name", name);
        self.set("os.version", version);
        self.set("os.signals", SIGNALS);
        let version = cgroup::host_version().map(|v| if v == cgroup::Version::V1 { "1" } else { "2" });
        self.set("os.cgroups.version", version.unwrap_or_default());
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        self.set("unique.host_id", uuid_of(machine.trim()).unwrap_or_default());
        self.set("nomad.version", &options.version);
        self.set("nomad.service_discovery", "true");
    }

    fn cpu(&mut self, options: &Options) {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let lines = info.lines().filter_map(|line| line.split_once(':'));
            let mut found = lines.filter(|(key, _)| key.trim() == name);
            found.next().map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let mut online = crate::cores::online();
        if online.is_empty() {
            let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            online = (0..u16::try_from(count).unwrap_or(u16::MAX)).collect();
        }
        let usable = crate::cores::usable(&online);
        let listed = field("cpu MHz").parse::<f64>().unwrap_or(1000.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let listed = listed.round().clamp(1.0, 100_000.0) as u64;
        let described = |id: &u16| Core { disable: !usable.contains(id), ..core(*id, listed) };
        let cores: Vec<Core> = online.iter().map(described).collect();
        let speed = |c: &Core| [c.base_speed, c.max_speed, c.guess_speed].into_iter().find(|s| *s > 0).unwrap_or(0);
        let compute = |all: bool| {
            let counted = cores.iter().filter(|core| all || !core.disable);
            i64::try_from(counted.map(speed).sum::<u64>()).unwrap_or(i64::MAX)
        };
        let said = options.cpu_total_compute_mhz.filter(|n| *n > 0);
        let (total, offered) = (said.unwrap_or_else(|| compute(true)), said.unwrap_or_else(|| compute(false)));
        let nodes: BTreeSet<u16> = cores.iter().map(|c| c.node_id).collect();
        self.set("cpu.modelname", field("model name"));
        self.set("cpu.frequency", cores.first().map_or(0, speed));
        self.set("cpu.numcores", cores.len());
        self.set("cpu.reservablecores", usable.len());
        self.set("cpu.totalcompute", total);
        self.set("cpu.usablecompute", offered);
        self.set("numa.node.count", nodes.len());
        for node in &nodes {
            let members: Vec<u16> = cores.iter().filter(|c| c.node_id == *node).map(|c| c.id).collect();
            self.set(&format!("numa.node{node}.cores"), core_list(&members));
        }
        let total_cpu_cores = u16::try_from(usable.len()).unwrap_or(u16::MAX);
        self.resources.cpu = NodeCpuResources { cpu_shares: offered, total_cpu_cores, reservable_cpu_cores: usable };
        let over = options.cpu_total_compute_mhz.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let topology =
            Topology { nodes: nodes.into_iter().collect(), cores, override_total_compute: over, ..Topology::default() };
        self.resources.processors = NodeProcessors { topology: Some(topology) };
    }

    fn memory(&mut self, options: &Options) {
        let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: u64 = total.and_then(|t| t.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        let mut bytes = kib.saturating_mul(1024);
        if let Some(mib) = options.memory_total_mib.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0) {
            bytes = mib.saturating_mul(MIB);
        }
        self.set("memory.totalbytes", bytes);
        self.resources.memory = NodeMemoryResources { memory_mb: i64::try_from(bytes / MIB).unwrap_or(i64::MAX) };
    }

    fn storage(&mut self, options: &Options) {
        let dir = options.alloc_dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
        let total = rustix::fs::statvfs(dir).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        self.set("unique.storage.volume", volume_of(&mounts, dir).unwrap_or_default());
        self.set("unique.storage.bytestotal", total);
        let mib = i64::try_from(total / MIB).unwrap_or(i64::MAX);
        let disk_mb = options.disk_total_mib.filter(|n| *n > 0).unwrap_or(mib);
        self.resources.disk = NodeDiskResources { disk_mb };
    }

    fn network(&mut self, wanted: &str, named: &[HostNetworkInfo]) -> Result<(), FingerprintError> {
        let addresses = interfaces();
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let device = if wanted.is_empty() {
            let default = default_route(&routes).filter(|name| addresses.contains_key(name));
            default.unwrap_or_else(|| "lo".to_owned())
        } else {
            wanted.to_owned()
        };
        let found = addresses.get(&device).filter(|list| !list.is_empty());
        let mut list = found.cloned().ok_or_else(|| FingerprintError::NoInterface(device.clone()))?;
        // A link-local address is only used when there is no other.
        if list.iter().any(|ip| !is_link_local(*ip)) {
            list.retain(|ip| !is_link_local(*ip));
        }
        list.sort_by_key(IpAddr::is_ipv6);
        self.ip = list[0].to_string();
        self.set("unique.network.ip-address", self.ip.clone());
        let mut own = link(&device);
        self.resources.networks = list.iter().map(|ip| network_of(&device, ip, own.speed)).collect();
        own.addresses = list.iter().map(|ip| address_of(*ip, DEFAULT)).collect();
        self.resources.node_networks = vec![own];
        host_networks::add(&mut self.resources.node_networks, named, &addresses, link);
        Ok(())
    }
}

/// An interface, without its addresses.
fn link(device: &str) -> NodeNetworkResource {
    let read = |name: &str| fs::read_to_string(format!("/sys/class/net/{device}/{name}")).unwrap_or_default();
    let speed = read("speed").trim().parse().ok().filter(|n| *n > 0).unwrap_or(SPEED_MBITS_DEFAULT);
    let mac = read("address").trim().to_owned();
    NodeNetworkResource {
        mode: "host".to_owned(),
        device: device.to_owned(),
        mac_address: if mac == "00:00:00:00:00:00" { String::new() } else { mac },
        speed,
        addresses: Vec::new(),
    }
}

fn network_of(device: &str, ip: &IpAddr, speed: i64) -> NetworkResource {
    let bits = if ip.is_ipv6() { 128 } else { 32 };
    NetworkResource {
        mode: "host".to_owned(),
        device: device.to_owned(),
        cidr: format!("{ip}/{bits}"),
        ip: ip.to_string(),
        mbits: Some(speed),
        ..NetworkResource::default()
    }
}

/// The addresses of the host's interfaces that are up, by name.
pub fn interfaces() -> Interfaces {
    let mut found = Interfaces::new();
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return found };
    for entry in all {
        let Some(address) = entry.address else { continue };
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())));
        found.entry(entry.interface_name).or_default().extend(ip);
    }
    found
}

/// The interface of the route to everywhere, in `/proc/net/route`.
fn default_route(text: &str) -> Option<String> {
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let everywhere = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        everywhere.then(|| fields[0].to_owned())
    })
}

fn core(id: u16, listed_mhz: u64) -> Core {
    let dir = format!("/sys/devices/system/cpu/cpu{id}");
    let number = |name: &str| fs::read_to_string(format!("{dir}/{name}")).ok()?.trim().parse::<u64>().ok();
    let base = number("cpufreq/base_frequency").map_or(0, |khz| khz / 1000);
    let max = number("cpufreq/cpuinfo_max_freq").map_or(0, |khz| khz / 1000);
    let node = fs::read_dir(&dir).into_iter().flatten().flatten();
    let node_id = node.filter_map(|e| e.file_name().to_str()?.strip_prefix("node")?.parse().ok()).next();
    let socket_id = number("topology/physical_package_id").and_then(|n| u16::try_from(n).ok());
    Core {
        id,
        node_id: node_id.unwrap_or(0),
        socket_id: socket_id.unwrap_or(0),
        grade: true,
        base_speed: base,
        max_speed: max,
        guess_speed: if base == 0 && max == 0 { listed_mhz } else { 0 },
        ..Core::default()
    }
}

fn go_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
}

/// Name and version; a fuller version stands in the description of some distributions only.
fn os_release(text: &str) -> (String, String) {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(|v| v.trim_matches('"').to_owned()).unwrap_or_default()
    };
    (field("ID"), field("VERSION_ID"))
}

fn uuid_of(hex: &str) -> Option<String> {
    let plain = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

/// The device of the deepest mount that holds `dir`.
fn volume_of(mounts: &str, dir: &Path) -> Option<String> {
    let lines = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.next()?, fields.next()?))
    });
    let holding = lines.filter(|(_, point)| dir.starts_with(point));
    holding.max_by_key(|(_, point)| point.len()).map(|(device, _)| device.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            alloc_dir: "/tmp/not/there".into(),
            network_interface: "lo".into(),
            version: "1.2.3".into(),
            ..Options::default()
        }
    }

    #[test]
    fn a_host_has_what_every_job_may_ask_for() {
        let host = Host::read(&options()).unwrap();
        for name in [
            "cpu.arch",
            "cpu.numcores",
            "cpu.totalcompute",
            "kernel.name",
            "kernel.version",
            "kernel.arch",
            "memory.totalbytes",
            "os.name",
            "os.signals",
            "unique.hostname",
            "unique.network.ip-address",
            "unique.storage.bytestotal",
            "nomad.version",
            "numa.node.count",
        ] {
            assert!(host.attributes.contains_key(name), "{name}");
        }
        assert_eq!(host.attributes["kernel.name"], "linux");
        assert_eq!(host.ip, "127.0.0.1");
        let resources = &host.resources;
        assert!(resources.cpu.cpu_shares > 0 && resources.memory.memory_mb > 0 && resources.disk.disk_mb > 0);
        assert_eq!(resources.networks[0].cidr, "127.0.0.1/32");
    }

    #[test]
    fn the_operators_numbers_win_fingerprint_01_fingerprint_02() {
        let set = Options {
            cpu_total_compute_mhz: Some(1234),
            memory_total_mib: Some(512),
            disk_total_mib: Some(7),
            ..options()
        };
        let host = Host::read(&set).unwrap();
        assert_eq!(host.resources.cpu.cpu_shares, 1234);
        assert_eq!(host.attributes["cpu.usablecompute"], "1234");
        assert_eq!((host.resources.memory.memory_mb, host.resources.disk.disk_mb), (512, 7));
    }

    #[test]
    fn a_missing_interface_is_an_error_fingerprint_09() {
        let wrong = Options { network_interface: "nope0".into(), ..options() };
        assert!(matches!(Host::read(&wrong), Err(FingerprintError::NoInterface(name)) if name == "nope0"));
    }

    #[test]
    fn system_files_are_read_as_they_are_written() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth1\t0000FEA9\t0\t1\t0\t0\t0\t0000FFFF\neth0\t00000000\t01\t3\t0\t0\t0\t00000000\n";
        assert_eq!(default_route(routes).as_deref(), Some("eth0"));
        assert_eq!(os_release("ID=debian\nVERSION_ID=\"12\"\n"), ("debian".into(), "12".into()));
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /var/lib ext4 rw 0 0\n";
        assert_eq!(volume_of(mounts, Path::new("/var/lib/x")).as_deref(), Some("/dev/b"));
        assert_eq!(uuid_of("0123456789abcdef0123456789abcdef").unwrap(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(uuid_of("short"), None);
    }
}
