//! What the daemon is told to create for a task: from the operator's options, the job's `config` and the
//! task's resources to one request. Pure.
//!
//! Here stands what is refused unless the operator allows it: privilege, capabilities, namespaces of the
//! host, other runtimes, loosened confinement. What is a path is decided in [`super::mounts`].

use std::collections::{BTreeSet, HashMap};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, NetworkingConfig, PortBinding, PortMap, ResourcesUlimits,
};

use super::config::{Config, ulimit};
use super::options::{CAPS_DEFAULT, Options};
use crate::contract::{DriverError, TaskConfig};
use crate::raw_exec::matches_glob;

/// On every container; its value is the allocation's id.
pub(super) const LABEL_ALLOC: &str = "com.hashicorp.nomad.alloc_id";
/// On every container, ours alone: `<node id>/<task id>`. Several clusters may share a daemon.
pub(super) const LABEL_OWNER: &str = "io.steppe.task";
const LABEL_PREFIX: &str = "com.hashicorp.nomad.";
const MIB: i64 = 1 << 20;
/// The largest share a cgroup takes.
const SHARES_MAX: i64 = 262_144;
const PERIOD_DEFAULT_US: i64 = 100_000;
/// What the daemon gives a container that asks for nothing, beyond [`CAPS_DEFAULT`].
const CAP_OF_DAEMON: &str = "NET_RAW";

/// What the host is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostFacts {
    pub cgroup_v1: bool,
    pub cores: u32,
}

/// What was found out about paths before.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    pub binds: Vec<String>,
    pub mounts: Vec<Mount>,
    /// `security_opt`, with profiles read in.
    pub security: Vec<String>,
}

fn refused(text: impl Into<String>) -> DriverError {
    DriverError::Start { message: text.into(), recoverable: false }
}

/// `<task>-<alloc id>`, in the letters the daemon takes.
pub(super) fn name(task: &TaskConfig) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' };
    let clean: String = task.task.chars().map(letter).collect();
    let head = if clean.starts_with(|c: char| c.is_ascii_alphanumeric()) { "" } else { "t" };
    format!("{head}{clean}-{}", task.alloc_id)
}

/// The whole request.
///
/// # Errors
/// What is asked is not allowed here, or cannot be.
pub(super) fn request(
    options: &Options,
    config: &Config,
    task: &TaskConfig,
    host: HostFacts,
    image: &str,
    paths: Paths,
) -> Result<ContainerCreateBody, DriverError> {
    let text = |given: &str| (!given.is_empty()).then(|| given.to_owned());
    let list = |given: &[String]| (!given.is_empty()).then(|| given.to_vec());
    let mut cmd = Vec::new();
    cmd.extend(text(&config.command));
    cmd.extend(config.args.iter().cloned());
    let network = network_mode(config, task);
    let joined = is_joined(config, task).is_some();
    if joined && !config.hostname.is_empty() {
        return Err(refused("hostname belongs into the group's network block, since the group shares one network"));
    }
    let (exposed, bindings) = ports(options, config, task, network.as_deref())?;
    let host_config = host_config(options, config, task, host, network.clone(), bindings, paths)?;
    Ok(ContainerCreateBody {
        hostname: text(&config.hostname),
        user: text(&task.user),
        exposed_ports: list(&exposed),
        tty: Some(config.tty),
        open_stdin: Some(config.interactive),
        env: Some(task.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
        cmd: list(&cmd),
        healthcheck: config
            .healthchecks
            .disable
            .then(|| HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        image: Some(image.to_owned()),
        working_dir: text(&config.work_dir),
        entrypoint: list(&config.entrypoint),
        labels: Some(labels(options, config, task)),
        host_config: Some(host_config),
        networking_config: endpoint(config, network.as_deref())?,
        ..ContainerCreateBody::default()
    })
}

fn host_config(
    options: &Options,
    config: &Config,
    task: &TaskConfig,
    host: HostFacts,
    network_mode: Option<String>,
    port_bindings: PortMap,
    paths: Paths,
) -> Result<HostConfig, DriverError> {
    let text = |given: &str| (!given.is_empty()).then(|| given.to_owned());
    let list = |given: &[String]| (!given.is_empty()).then(|| given.to_vec());
    let map = |given: &std::collections::BTreeMap<String, String>| -> Option<HashMap<String, String>> {
        (!given.is_empty()).then(|| given.clone().into_iter().collect())
    };
    if config.privileged && !options.allow_privileged {
        return Err(refused("docker privileged mode is disabled on this node"));
    }
    check_modes(options, config)?;
    if !config.runtime.is_empty() && !options.allow_runtimes.contains(&config.runtime) {
        return Err(refused(format!("runtime {:?} is not allowed on this node", config.runtime)));
    }
    let (cap_add, cap_drop) = if config.privileged { (Vec::new(), Vec::new()) } else { caps(options, config)? };
    let memory = memory(config, task)?;
    let mut ulimits = Vec::new();
    for (name, given) in &config.ulimit {
        let (soft, hard) = ulimit(name, given)?;
        ulimits.push(ResourcesUlimits { name: Some(name.clone()), soft: Some(soft), hard: Some(hard) });
    }
    let (quota, period) = hard_cpu(config, task, host)?;
    let own_names = is_joined(config, task).is_none() && task.around.dns.is_none();
    Ok(HostConfig {
        cpu_shares: Some(shares(task)),
        cpu_quota: quota,
        cpu_period: period,
        cpuset_cpus: cpuset(config, task),
        memory: Some(memory.limit),
        memory_reservation: memory.reservation,
        memory_swap: (memory.limit > 0).then_some(memory.limit),
        memory_swappiness: (memory.limit > 0 && host.cgroup_v1).then_some(0),
        devices: Some(devices(config, task)),
        init: config.init.then_some(true),
        pids_limit: pids(options, config)?,
        ulimits: Some(ulimits),
        binds: list(&paths.binds),
        mounts: (!paths.mounts.is_empty()).then_some(paths.mounts),
        log_config: Some(log_config(options, config)),
        network_mode,
        port_bindings: Some(port_bindings),
        volume_driver: text(&config.volume_driver),
        cap_add: list(&cap_add),
        cap_drop: list(&cap_drop),
        cgroupns_mode: match config.cgroupns.as_str() {
            "host" => Some(HostConfigCgroupnsModeEnum::HOST),
            "private" => Some(HostConfigCgroupnsModeEnum::PRIVATE),
            _ => None,
        },
        // Files say the same where the network is shared, or the group has something to say.
        dns: list(&config.dns_servers).filter(|_| own_names),
        dns_options: list(&config.dns_options).filter(|_| own_names),
        dns_search: list(&config.dns_search_domains).filter(|_| own_names),
        extra_hosts: list(&config.extra_hosts).filter(|_| is_joined(config, task).is_none()),
        group_add: list(&config.group_add),
        ipc_mode: text(&config.ipc_mode),
        oom_score_adj: Some(config.oom_score_adj.unwrap_or(options.oom_score_adj)),
        pid_mode: text(&config.pid_mode),
        privileged: Some(config.privileged),
        readonly_rootfs: Some(config.readonly_rootfs),
        security_opt: list(&paths.security),
        storage_opt: map(&config.storage_opt),
        uts_mode: text(&config.uts_mode),
        userns_mode: text(&config.userns_mode),
        shm_size: (config.shm_size > 0).then_some(config.shm_size),
        sysctls: map(&config.sysctl),
        runtime: text(&config.runtime),
        ..HostConfig::default()
    })
}

fn check_modes(options: &Options, config: &Config) -> Result<(), DriverError> {
    let allowed = &options.allowed_modes;
    for (what, mode, globs) in [
        ("pid_mode", &config.pid_mode, &allowed.pid),
        ("ipc_mode", &config.ipc_mode, &allowed.ipc),
        ("userns_mode", &config.userns_mode, &allowed.userns),
        ("uts_mode", &config.uts_mode, &allowed.uts),
    ] {
        if !mode.is_empty() && !options.allow_privileged && !globs.iter().any(|glob| matches_glob(glob, mode)) {
            return Err(refused(format!("{what} {mode:?} is not allowed on this node")));
        }
    }
    Ok(())
}

/// Refuses options that loosen the confinement, unless the operator allows privilege.
pub(super) fn check_security(options: &Options, option: &str) -> Result<(), DriverError> {
    let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    let loosens = match key {
        "seccomp" | "apparmor" | "systempaths" => value == "unconfined",
        "label" => value == "disable",
        "no-new-privileges" => value == "false",
        _ => return Err(refused(format!("security option {option:?} is not known"))),
    };
    if loosens && !options.allow_privileged {
        return Err(refused(format!("security option {option:?} is not allowed on this node")));
    }
    Ok(())
}

fn cap_name(given: &str) -> String {
    let upper = given.trim().to_ascii_uppercase();
    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
}

/// What is added and what is dropped.
fn caps(options: &Options, config: &Config) -> Result<(Vec<String>, Vec<String>), DriverError> {
    let names = |list: &[String]| -> BTreeSet<String> { list.iter().map(|c| cap_name(c)).collect() };
    let (allowed, add, mut drop) = (names(&options.allow_caps), names(&config.cap_add), names(&config.cap_drop));
    if allowed.contains("ALL") {
        return Ok((add.into_iter().collect(), drop.into_iter().collect()));
    }
    let missing: Vec<&str> = add.difference(&allowed).map(String::as_str).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ").to_ascii_lowercase();
        return Err(refused(format!("capabilities are not allowed on this node: {missing}")));
    }
    if !drop.contains("ALL") {
        let daemon = CAPS_DEFAULT.iter().copied().chain([CAP_OF_DAEMON]);
        drop.extend(daemon.filter(|cap| !allowed.contains(*cap)).map(str::to_owned));
    }
    Ok((add.into_iter().collect(), drop.into_iter().collect()))
}

struct Memory {
    /// 0: none.
    limit: i64,
    reservation: Option<i64>,
}

fn memory(config: &Config, task: &TaskConfig) -> Result<Memory, DriverError> {
    let (given, max, hard) = (task.limits.memory_mib, task.limits.memory_max_mib, config.memory_hard_limit);
    if hard > 0 && hard < given {
        return Err(refused(format!("memory_hard_limit {hard} MB is less than the task's memory {given} MB")));
    }
    let reservation = (given > 0).then(|| given.saturating_mul(MIB));
    let limit = if max == -1 { 0 } else { max.max(hard).max(given) };
    let reservation = reservation.filter(|_| limit != given);
    Ok(Memory { limit: limit.max(0).saturating_mul(MIB), reservation })
}

fn shares(task: &TaskConfig) -> i64 {
    let (mhz, node) = (task.limits.cpu_mhz, task.around.node_cpu_mhz);
    let scaled = if node >= SHARES_MAX { mhz.saturating_mul(SHARES_MAX) / node } else { mhz };
    scaled.clamp(2, SHARES_MAX)
}

fn cpuset(config: &Config, task: &TaskConfig) -> Option<String> {
    if !task.around.cores.is_empty() {
        return Some(crate::env::core_list(&task.around.cores));
    }
    (!config.cpuset_cpus.is_empty()).then(|| config.cpuset_cpus.clone())
}

/// Quota and period of a task that may never use more than its share.
fn hard_cpu(config: &Config, task: &TaskConfig, host: HostFacts) -> Result<(Option<i64>, Option<i64>), DriverError> {
    if !config.cpu_hard_limit {
        return Ok((None, None));
    }
    let node = task.around.node_cpu_mhz;
    if node <= 0 {
        return Err(refused("cpu_hard_limit needs the node's compute, which is not known"));
    }
    let period = config.cpu_cfs_period.filter(|p| *p > 0).unwrap_or(PERIOD_DEFAULT_US);
    let quota = i128::from(task.limits.cpu_mhz) * i128::from(period) * i128::from(host.cores) / i128::from(node);
    // The kernel takes no less than a millisecond.
    Ok((Some(i64::try_from(quota).unwrap_or(i64::MAX).max(1000)), Some(period)))
}

fn pids(options: &Options, config: &Config) -> Result<Option<i64>, DriverError> {
    let (node, task) = (options.pids_limit, config.pids_limit);
    if node > 0 && task > node {
        return Err(refused(format!("pids_limit {task} is above this node's limit of {node}")));
    }
    Ok([task, node].into_iter().find(|n| *n > 0))
}

/// What the job names, and what the cluster gave the task.
fn devices(config: &Config, task: &TaskConfig) -> Vec<DeviceMapping> {
    let or = |given: &str, other: &str| Some(if given.is_empty() { other } else { given }.to_owned());
    let one = |device: &super::config::Device| DeviceMapping {
        path_on_host: Some(device.host_path.clone()),
        path_in_container: or(&device.container_path, &device.host_path),
        cgroup_permissions: or(&device.cgroup_permissions, "rwm"),
    };
    let given = task.around.devices.iter().map(|node| DeviceMapping {
        path_on_host: Some(node.0.clone()),
        path_in_container: Some(node.0.clone()),
        cgroup_permissions: Some("rwm".to_owned()),
    });
    config.devices.iter().map(one).chain(given).collect()
}

fn log_config(options: &Options, config: &Config) -> HostConfigLogConfig {
    let (kind, settings) = match &config.logging {
        None => (options.logging.kind.clone(), options.logging.config.clone()),
        Some(own) => {
            let kind = [&own.kind, &own.driver].into_iter().find(|k| !k.is_empty());
            (kind.cloned().unwrap_or_else(|| options.logging.kind.clone()), own.config.clone())
        }
    };
    HostConfigLogConfig { typ: Some(kind), config: Some(settings.into_iter().collect()) }
}

/// Whether the container is in the network its group shares.
pub(super) fn is_joined<'a>(config: &Config, task: &'a TaskConfig) -> Option<&'a crate::contract::Namespace> {
    task.around.namespace.as_ref().filter(|_| config.network_mode.is_empty())
}

fn network_mode(config: &Config, task: &TaskConfig) -> Option<String> {
    match (config.network_mode.as_str(), task.around.network_mode.as_str()) {
        ("", mode) => match &task.around.namespace {
            Some(shared) => Some(format!("container:{}", shared.container)),
            None => (mode == "none").then(|| mode.to_owned()),
        },
        (own, _) => Some(own.to_owned()),
    }
}

/// A container without a network of its own publishes nothing.
fn publishes(network: Option<&str>) -> bool {
    !network.is_some_and(|mode| mode == "host" || mode == "none" || mode.starts_with("container:"))
}

fn ports(
    options: &Options,
    config: &Config,
    task: &TaskConfig,
    network: Option<&str>,
) -> Result<(Vec<String>, PortMap), DriverError> {
    let (mut exposed, mut bindings) = (Vec::new(), PortMap::new());
    for label in &config.ports {
        let found = task.around.ports.iter().find(|port| port.label == *label);
        let port =
            found.ok_or_else(|| refused(format!("port {label:?} not found, check the group's network block")))?;
        if !publishes(network) {
            continue;
        }
        let inner = if port.to > 0 { port.to } else { port.value };
        for protocol in ["tcp", "udp"] {
            let key = format!("{inner}/{protocol}");
            let at = options.publish_address.map_or_else(|| port.host_ip.clone(), |address| address.to_string());
            let binding = PortBinding { host_ip: Some(at), host_port: Some(port.value.to_string()) };
            bindings.entry(key.clone()).or_default().get_or_insert_default().push(binding);
            exposed.push(key);
        }
    }
    exposed.sort();
    exposed.dedup();
    Ok((exposed, bindings))
}

fn endpoint(config: &Config, network: Option<&str>) -> Result<Option<NetworkingConfig>, DriverError> {
    let text = |given: &str| (!given.is_empty()).then(|| given.to_owned());
    let addressed = !config.ipv4_address.is_empty() || !config.ipv6_address.is_empty();
    if config.network_aliases.is_empty() && !addressed && config.mac_address.is_empty() {
        return Ok(None);
    }
    let Some(network) = network.filter(|_| publishes(network)) else {
        return Err(refused("network_aliases, addresses and mac_address need a network_mode that names a network"));
    };
    let settings = EndpointSettings {
        aliases: (!config.network_aliases.is_empty()).then(|| config.network_aliases.clone()),
        mac_address: text(&config.mac_address),
        ipam_config: addressed.then(|| EndpointIpamConfig {
            ipv4_address: text(&config.ipv4_address),
            ipv6_address: text(&config.ipv6_address),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    Ok(Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network.to_owned(), settings)])) }))
}

fn labels(options: &Options, config: &Config, task: &TaskConfig) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = config.labels.clone().into_iter().collect();
    let names = task.around.names.iter().filter(|(_, value)| !value.is_empty());
    for (name, value) in names.filter(|(n, _)| options.extra_labels.iter().any(|glob| matches_glob(glob, n))) {
        labels.insert(format!("{LABEL_PREFIX}{name}"), value.clone());
    }
    let node = task.around.names.get("node_id").map_or("", String::as_str);
    labels.insert(LABEL_ALLOC.to_owned(), task.alloc_id.to_string());
    labels.insert(LABEL_OWNER.to_owned(), format!("{node}/{}", task.task_id));
    labels
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
