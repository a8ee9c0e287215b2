//! A task's environment, and `${…}` in what a job says.
//!
//! Precedence, low to high: built-in `NOMAD_*` and metadata, the agent's own environment (never over an
//! existing name, minus a deny list, and not for images), the task's `env`, hooks in their order.
//!
//! References: `${env["X"]}`, `${NOMAD_X}`, `${X}` of the task's own environment, `${node.…}`, `${attr.…}`,
//! `${meta.…}`. In an environment an unknown reference stays as it is written; in a driver's `config` it is
//! an error, since a program that gets a literal `${…}` fails in ways that are hard to read.

use std::collections::BTreeMap;

use model::alloc::PortMapping;
use model::{Allocation, Job, Node, Task, TaskGroup};
use serde_json::{Map, Value};

use crate::contract::FsIsolation;
use crate::taskdir::TaskDirs;

/// What no task inherits from the agent unless the operator says otherwise.
pub const DENY_LIST_DEFAULT: [&str; 11] = [
    "CONSUL_TOKEN",
    "CONSUL_HTTP_TOKEN",
    "CONSUL_LICENSE",
    "NOMAD_TOKEN",
    "NOMAD_LICENSE",
    "VAULT_TOKEN",
    "VAULT_LICENSE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
];
const CLEANED_PREFIXES: [&str; 6] =
    ["NOMAD_ADDR_", "NOMAD_IP_", "NOMAD_PORT_", "NOMAD_HOST_PORT_", "NOMAD_META_", "NOMAD_HOST_IP_"];
const REFERENCES_MAX: usize = 10_000;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvError {
    #[error("unknown variable {0:?}")]
    Unknown(String),
    #[error("more than {REFERENCES_MAX} references")]
    TooMany,
}

/// Everything a task's environment is made of.
pub struct Inputs<'a> {
    pub alloc: &'a Allocation,
    pub job: &'a Job,
    pub group: &'a TaskGroup,
    pub task: &'a Task,
    pub node: &'a Node,
    pub region: &'a str,
    pub dirs: &'a TaskDirs,
    pub isolation: FsIsolation,
    /// The agent's environment; names on the deny list are left out here.
    pub host: &'a BTreeMap<String, String>,
    pub deny_list: &'a [String],
    /// What hooks add, in their order.
    pub hooks: &'a [(String, String)],
    pub parent_cgroup: Option<&'a str>,
}

/// A built environment and the names that may be referred to.
#[derive(Clone, Debug, Default)]
pub struct TaskEnv {
    pub vars: BTreeMap<String, String>,
    node: BTreeMap<String, String>,
}

impl TaskEnv {
    pub fn build(inputs: &Inputs<'_>) -> Self {
        let mut env = Self { vars: built_in(inputs), node: node_names(inputs) };
        if inputs.isolation != FsIsolation::Image {
            for (name, value) in inputs.host.iter().filter(|(name, _)| !inputs.deny_list.contains(name)) {
                env.vars.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        // The task's own values refer to what is built in, not to each other: their order has no meaning.
        let own: Vec<_> = inputs.task.env.iter().map(|(k, v)| (env.interpolate(k), env.interpolate(v))).collect();
        env.vars.extend(own);
        for (name, value) in inputs.hooks {
            let value = env.interpolate(value);
            env.vars.insert(name.clone(), value);
        }
        env.vars = env.vars.into_iter().filter(|(k, v)| is_passable(k, v)).map(|(k, v)| (clean(&k), v)).collect();
        env
    }

    /// Replaces references; unknown ones stay.
    pub fn interpolate(&self, text: &str) -> String {
        self.replace(text, |_| Ok(())).unwrap_or_else(|_| text.to_owned())
    }

    /// Replaces references; an unknown one is an error.
    pub fn interpolate_strict(&self, text: &str) -> Result<String, EnvError> {
        self.replace(text, |name| Err(EnvError::Unknown(name.to_owned())))
    }

    /// Every string of a driver's `config`, keys left alone.
    pub fn config(&self, config: &BTreeMap<String, Value>) -> Result<Map<String, Value>, EnvError> {
        config.iter().map(|(key, value)| Ok((key.clone(), self.value(value)?))).collect()
    }

    fn value(&self, value: &Value) -> Result<Value, EnvError> {
        Ok(match value {
            Value::String(text) => Value::String(self.interpolate_strict(text)?),
            Value::Array(items) => Value::Array(items.iter().map(|v| self.value(v)).collect::<Result<_, _>>()?),
            Value::Object(map) => {
                let each = map.iter().map(|(k, v)| Ok((k.clone(), self.value(v)?)));
                Value::Object(each.collect::<Result<_, EnvError>>()?)
            }
            other => other.clone(),
        })
    }

    fn replace(&self, text: &str, unknown: impl Fn(&str) -> Result<(), EnvError>) -> Result<String, EnvError> {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        for _ in 0..REFERENCES_MAX {
            let Some(at) = rest.find("${") else {
                return Ok(out + rest);
            };
            let Some(end) = rest[at..].find('}').map(|n| at + n) else {
                return Ok(out + rest);
            };
            let (before, reference) = (&rest[..at], &rest[at..=end]);
            rest = &rest[end + 1..];
            // `$${` is how a literal `${` is written.
            if let Some(head) = before.strip_suffix('$') {
                out.push_str(head);
                out.push_str(reference);
                continue;
            }
            out.push_str(before);
            let name = reference[2..reference.len() - 1].trim();
            match self.look_up(name) {
                Some(value) => out.push_str(value),
                None => {
                    unknown(name)?;
                    out.push_str(reference);
                }
            }
        }
        Err(EnvError::TooMany)
    }

    fn look_up(&self, name: &str) -> Option<&str> {
        let quoted = name.strip_prefix("env[").and_then(|n| n.strip_suffix(']'));
        if let Some(quoted) = quoted {
            return self.vars.get(quoted.trim_matches('"')).map(String::as_str);
        }
        self.node.get(name).or_else(|| self.vars.get(name)).map(String::as_str)
    }
}

/// Names and values the kernel can carry.
fn is_passable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

fn clean(name: &str) -> String {
    if !CLEANED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return name.to_owned();
    }
    name.chars().map(|c| if is_clean(c) { c } else { '_' }).collect()
}

fn node_names(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let node = inputs.node;
    let mut names = BTreeMap::from([
        ("node.unique.id".to_owned(), node.id.to_string()),
        ("node.unique.name".to_owned(), node.name.clone()),
        ("node.datacenter".to_owned(), node.datacenter.clone()),
        ("node.class".to_owned(), node.node_class.clone()),
        ("node.pool".to_owned(), node.node_pool.clone()),
        ("node.region".to_owned(), inputs.region.to_owned()),
    ]);
    names.extend(node.attributes.iter().map(|(k, v)| (format!("attr.{k}"), v.clone())));
    names.extend(node.meta.iter().map(|(k, v)| (format!("meta.{k}"), v.clone())));
    names
}

fn built_in(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    meta(inputs, &mut vars);
    ports(inputs, &mut vars);
    upstreams(inputs.group, &mut vars);
    resources(inputs, &mut vars);
    let (alloc, job) = (inputs.alloc, inputs.job);
    let (shared, local, secrets) = match inputs.isolation {
        FsIsolation::None => {
            let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
            (text(inputs.dirs.alloc.shared()), text(inputs.dirs.local()), text(inputs.dirs.secrets()))
        }
        FsIsolation::Chroot | FsIsolation::Image => ("/alloc".to_owned(), "/local".to_owned(), "/secrets".to_owned()),
    };
    let id = alloc.id.to_string();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            vars.insert(format!("NOMAD_{name}"), value);
        }
    };
    set("ALLOC_DIR", shared);
    set("TASK_DIR", local);
    set("SECRETS_DIR", secrets);
    set("SHORT_ALLOC_ID", id.chars().take(8).collect());
    set("ALLOC_ID", id);
    set("ALLOC_NAME", alloc.name.clone());
    set("ALLOC_INDEX", alloc.index().map(|n| n.to_string()).unwrap_or_default());
    set("TASK_NAME", inputs.task.name.clone());
    set("GROUP_NAME", inputs.group.name().to_owned());
    set("JOB_ID", job.id().to_string());
    set("JOB_NAME", job.name().to_owned());
    set("JOB_PARENT_ID", job.parent_id.as_ref().map(ToString::to_string).unwrap_or_default());
    set("DC", inputs.node.datacenter.clone());
    set("NAMESPACE", alloc.namespace.to_string());
    set("REGION", inputs.region.to_owned());
    set("PARENT_CGROUP", inputs.parent_cgroup.unwrap_or_default().to_owned());
    vars
}

/// Task over group over job; each key as written and in capitals. Optional dispatch keys exist, empty.
fn meta(inputs: &Inputs<'_>, vars: &mut BTreeMap<String, String>) {
    let optional = inputs.job.parameterized_job.iter().flat_map(|p| p.meta_optional.iter());
    let mut meta: BTreeMap<&str, &str> = optional.map(|key| (key.as_str(), "")).collect();
    for source in [&inputs.job.meta, &inputs.group.meta, &inputs.task.meta] {
        meta.extend(source.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    }
    for (key, value) in meta {
        vars.insert(clean(&format!("NOMAD_META_{key}")), value.to_owned());
        vars.insert(clean(&format!("NOMAD_META_{}", key.to_uppercase())), value.to_owned());
    }
}

fn resources(inputs: &Inputs<'_>, vars: &mut BTreeMap<String, String>) {
    let given = inputs.alloc.allocated_resources.as_ref().and_then(|r| r.tasks.get(&inputs.task.name));
    let Some(given) = given else { return };
    let mut set = |name: &str, value: i64| {
        if value != 0 {
            vars.insert(format!("NOMAD_{name}"), value.to_string());
        }
    };
    set("CPU_LIMIT", given.cpu.cpu_shares);
    set("MEMORY_LIMIT", given.memory.memory_mb);
    set("MEMORY_MAX_LIMIT", given.memory.memory_max_mb);
    if !given.cpu.reserved_cores.is_empty() {
        vars.insert("NOMAD_CPU_CORES".to_owned(), core_list(&given.cpu.reserved_cores));
    }
}

/// `0-3,7`.
pub(crate) fn core_list(cores: &[u16]) -> String {
    let mut cores = cores.to_vec();
    cores.sort_unstable();
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for core in cores {
        match runs.last_mut() {
            Some((_, end)) if *end == core || end.checked_add(1) == Some(core) => *end = core,
            _ => runs.push((core, core)),
        }
    }
    let text = runs.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    text.collect::<Vec<_>>().join(",")
}

fn ports(inputs: &Inputs<'_>, vars: &mut BTreeMap<String, String>) {
    let Some(given) = inputs.alloc.allocated_resources.as_ref() else { return };
    let mut shared: Vec<PortMapping> = given.shared.ports.clone();
    if shared.is_empty() {
        shared = given.shared.networks.iter().flat_map(mappings).collect();
    }
    for port in shared.iter().chain(
        &given
            .tasks
            .get(&inputs.task.name)
            .iter()
            .flat_map(|t| t.networks.iter().flat_map(mappings))
            .collect::<Vec<_>>(),
    ) {
        one_port(port, inputs.alloc, vars);
    }
    // Ports of the task's own network say their family, too.
    let own = given.tasks.get(&inputs.task.name);
    for port in own.iter().flat_map(|task| task.networks.iter().flat_map(mappings)) {
        let family = if port.host_ip.contains(':') { "IPv6" } else { "IPv4" };
        vars.insert(clean(&format!("NOMAD_{family}_{}", port.label)), port.host_ip.clone());
    }
    // Ports other tasks of the group hold themselves.
    for (task, resources) in given.tasks.iter().filter(|(name, _)| **name != inputs.task.name) {
        for port in resources.networks.iter().flat_map(mappings) {
            let label = format!("{task}_{}", port.label);
            let mut set = |name: &str, value: String| vars.insert(clean(&format!("NOMAD_{name}_{label}")), value);
            set("IP", port.host_ip.clone());
            set("PORT", port.value.to_string());
            set("ADDR", address(&port.host_ip, port.value));
        }
    }
}

/// Where a service of the mesh is reached: by its name as it is, and as a shell can write it.
fn upstreams(group: &TaskGroup, vars: &mut BTreeMap<String, String>) {
    let connects = group.services.iter().filter_map(|service| service.connect.as_ref());
    let proxies = connects.filter_map(|connect| connect.sidecar_service.as_ref()?.proxy.as_ref());
    for upstream in proxies.flat_map(|proxy| &proxy.upstreams) {
        let ip = if upstream.local_bind_address.is_empty() { "127.0.0.1" } else { &upstream.local_bind_address };
        let port = upstream.local_bind_port;
        let name = &upstream.destination_name;
        for name in [name.clone(), name.chars().map(|c| if is_clean(c) { c } else { '_' }).collect()] {
            vars.insert(format!("NOMAD_UPSTREAM_IP_{name}"), ip.to_owned());
            vars.insert(format!("NOMAD_UPSTREAM_PORT_{name}"), port.to_string());
            vars.insert(format!("NOMAD_UPSTREAM_ADDR_{name}"), address(ip, port));
        }
    }
}

fn is_clean(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

fn mappings(network: &model::resources::NetworkResource) -> Vec<PortMapping> {
    let all = network.reserved_ports.iter().chain(&network.dynamic_ports);
    let of = |port: &model::resources::Port| PortMapping {
        label: port.label.clone(),
        value: port.value,
        to: port.to,
        host_ip: network.ip.clone(),
    };
    all.map(of).collect()
}

fn one_port(port: &PortMapping, alloc: &Allocation, vars: &mut BTreeMap<String, String>) {
    let inside = if port.to > 0 { port.to } else { port.value };
    let label = &port.label;
    let mut set = |name: &str, value: String| vars.insert(clean(&format!("NOMAD_{name}_{label}")), value);
    set("IP", port.host_ip.clone());
    set("PORT", inside.to_string());
    set("ADDR", address(&port.host_ip, port.value));
    set("HOST_IP", port.host_ip.clone());
    set("HOST_PORT", port.value.to_string());
    set("HOST_ADDR", address(&port.host_ip, port.value));
    set("ALLOC_PORT", inside.to_string());
    if let Some(status) = alloc.network_status.as_ref().filter(|s| !s.address.is_empty()) {
        set("ALLOC_INTERFACE", status.interface_name.clone());
        set("ALLOC_IP", status.address.clone());
        set("ALLOC_ADDR", address(&status.address, inside));
    }
}

fn address(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::alloc::{AllocatedResources, AllocatedTaskResources};
    use serde_json::json;

    fn built(change: impl FnOnce(&mut Allocation, &mut Job, &mut Task), isolation: FsIsolation) -> TaskEnv {
        let mut task = Task { name: "web".into(), ..Task::default() };
        let mut job = Job { id: Some("j".into()), name: Some("j".into()), ..Job::default() };
        let mut alloc = Allocation {
            id: "5f1c2d3e-1111".into(),
            name: "j.g[2]".into(),
            namespace: "default".into(),
            ..Allocation::default()
        };
        let mut given = AllocatedResources::default();
        let mut used = AllocatedTaskResources::default();
        (used.cpu.cpu_shares, used.memory.memory_mb) = (500, 256);
        given.tasks.insert("web".into(), used);
        given.shared.ports.push(PortMapping {
            label: "http-x".into(),
            value: 23456,
            to: 8080,
            host_ip: "10.0.0.5".into(),
        });
        alloc.allocated_resources = Some(std::sync::Arc::new(given));
        change(&mut alloc, &mut job, &mut task);
        let group = TaskGroup { name: Some("g".into()), ..TaskGroup::default() };
        let mut node = Node { name: "n1".into(), datacenter: "dc1".into(), ..Node::default() };
        node.attributes.insert("kernel.name".into(), "linux".into());
        node.meta.insert("rack".into(), "7".into());
        let dirs = crate::taskdir::AllocDirs::new(std::path::Path::new("/d"), "a").unwrap().task("web").unwrap();
        let host = [("PATH", "/bin"), ("VAULT_TOKEN", "secret"), ("X", "host")];
        let host = host.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        TaskEnv::build(&Inputs {
            alloc: &alloc,
            job: &job,
            group: &group,
            task: &task,
            node: &node,
            region: "global",
            dirs: &dirs,
            isolation,
            host: &host,
            deny_list: &DENY_LIST_DEFAULT.map(str::to_owned),
            hooks: &[],
            parent_cgroup: Some("nomad.slice"),
        })
    }

    #[test]
    fn every_task_knows_who_it_is() {
        let env = built(|_, _, _| {}, FsIsolation::None).vars;
        for (name, value) in [
            ("NOMAD_ALLOC_DIR", "/d/a/alloc"),
            ("NOMAD_TASK_DIR", "/d/a/web/local"),
            ("NOMAD_SECRETS_DIR", "/d/a/web/secrets"),
            ("NOMAD_SHORT_ALLOC_ID", "5f1c2d3e"),
            ("NOMAD_ALLOC_INDEX", "2"),
            ("NOMAD_GROUP_NAME", "g"),
            ("NOMAD_CPU_LIMIT", "500"),
            ("NOMAD_MEMORY_LIMIT", "256"),
            ("NOMAD_REGION", "global"),
            ("NOMAD_PARENT_CGROUP", "nomad.slice"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!env.contains_key("NOMAD_MEMORY_MAX_LIMIT") && !env.contains_key("NOMAD_JOB_PARENT_ID"));
        assert_eq!(built(|_, _, _| {}, FsIsolation::Chroot).vars["NOMAD_TASK_DIR"], "/local");
    }

    #[test]
    fn metadata_comes_as_written_and_in_capitals_env_01_env_07() {
        let env = built(
            |_, job, task| {
                task.meta.insert("my-key".into(), "v".into());
                let optional = vec!["later".to_owned()];
                job.parameterized_job =
                    Some(model::job::ParameterizedJobConfig { meta_optional: optional, ..Default::default() });
            },
            FsIsolation::None,
        );
        assert_eq!(env.vars["NOMAD_META_my_key"], "v");
        assert_eq!(env.vars["NOMAD_META_MY_KEY"], "v");
        assert_eq!(env.vars["NOMAD_META_LATER"], "");
    }

    #[test]
    fn the_agents_environment_is_lowest_and_never_its_secrets_env_02_env_04_env_05() {
        let with_x =
            |_: &mut Allocation, _: &mut Job, task: &mut Task| drop(task.env.insert("X".into(), "task".into()));
        let env = built(with_x, FsIsolation::None).vars;
        assert_eq!((env["X"].as_str(), env["PATH"].as_str()), ("task", "/bin"));
        assert!(!env.contains_key("VAULT_TOKEN"));
        assert!(!built(|_, _, _| {}, FsIsolation::Image).vars.contains_key("PATH"));
    }

    #[test]
    fn a_port_is_known_from_both_sides_env_06() {
        let env = built(|_, _, _| {}, FsIsolation::None).vars;
        for (name, value) in [
            ("NOMAD_PORT_http_x", "8080"),
            ("NOMAD_IP_http_x", "10.0.0.5"),
            ("NOMAD_ADDR_http_x", "10.0.0.5:23456"),
            ("NOMAD_HOST_PORT_http_x", "23456"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(env["NOMAD_ALLOC_PORT_http-x"], "8080");
    }

    #[test]
    fn references_are_replaced_and_unknown_ones_stay_or_fail_task_run_09() {
        let env =
            built(|_, _, task| drop(task.env.insert("A".into(), "${node.unique.name}".into())), FsIsolation::None);
        assert_eq!(env.vars["A"], "n1");
        let text = "${attr.kernel.name} ${meta.rack} ${NOMAD_TASK_NAME} ${env[\"A\"]} $${A} ${nope} ${open";
        assert_eq!(env.interpolate(text), "linux 7 web n1 ${A} ${nope} ${open");
        assert_eq!(env.interpolate_strict("${nope}"), Err(EnvError::Unknown("nope".into())));
        let config = BTreeMap::from([("args".to_owned(), json!(["${meta.rack}", 1, {"k": "${A}"}]))]);
        assert_eq!(env.config(&config).unwrap()["args"], json!(["7", 1, {"k": "n1"}]));
    }

    #[test]
    fn cores_are_listed_as_ranges() {
        assert_eq!(core_list(&[3, 0, 1, 2, 7]), "0-3,7");
        assert_eq!(core_list(&[]), "");
    }
}
