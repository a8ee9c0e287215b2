//! What a task sees, name by name of the reference's table (rows "task-env" and "node-interpolation"): its
//! value in an allocation that has all of it, or why it is not there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use driver::contract::FsIsolation;
use driver::env::{DENY_LIST_DEFAULT, Inputs, TaskEnv};
use driver::taskdir::AllocDirs;
use model::{Allocation, Job, Node};
use serde_json::json;

/// Name, value in the allocation below.
const SEEN: &[(&str, &str)] = &[
    ("NOMAD_ALLOC_DIR", "/alloc"),
    ("NOMAD_TASK_DIR", "/local"),
    ("NOMAD_SECRETS_DIR", "/secrets"),
    ("NOMAD_MEMORY_LIMIT", "256"),
    ("NOMAD_MEMORY_MAX_LIMIT", "512"),
    ("NOMAD_CPU_LIMIT", "500"),
    ("NOMAD_CPU_CORES", "3-4"),
    ("NOMAD_ALLOC_ID", "5f1c2d3e-0000-0000-0000-000000000000"),
    ("NOMAD_SHORT_ALLOC_ID", "5f1c2d3e"),
    ("NOMAD_ALLOC_NAME", "web/dispatch-1.api[2]"),
    ("NOMAD_ALLOC_INDEX", "2"),
    ("NOMAD_TASK_NAME", "server"),
    ("NOMAD_GROUP_NAME", "api"),
    ("NOMAD_JOB_ID", "web/dispatch-1"),
    ("NOMAD_JOB_NAME", "web"),
    ("NOMAD_JOB_PARENT_ID", "web"),
    ("NOMAD_DC", "dc1"),
    ("NOMAD_PARENT_CGROUP", "nomad.slice"),
    ("NOMAD_NAMESPACE", "default"),
    ("NOMAD_REGION", "global"),
    // task over group over job, as written and in capitals; an optional key that nobody gave is empty
    ("NOMAD_META_of_job", "job"),
    ("NOMAD_META_OF_JOB", "job"),
    ("NOMAD_META_of_group", "group"),
    ("NOMAD_META_of_task", "task"),
    ("NOMAD_META_LATER", ""),
    ("NOMAD_IP_http", "10.0.0.5"),
    ("NOMAD_PORT_http", "8080"),
    ("NOMAD_ADDR_http", "10.0.0.5:23456"),
    ("NOMAD_HOST_IP_http", "10.0.0.5"),
    ("NOMAD_HOST_PORT_http", "23456"),
    ("NOMAD_HOST_ADDR_http", "10.0.0.5:23456"),
    ("NOMAD_ALLOC_PORT_http", "8080"),
    ("NOMAD_ALLOC_INTERFACE_http", "eth0"),
    ("NOMAD_ALLOC_IP_http", "172.26.64.3"),
    ("NOMAD_ALLOC_ADDR_http", "172.26.64.3:8080"),
    ("NOMAD_IPv4_own", "10.0.0.5"),
    ("NOMAD_IPv6_own6", "fd00::5"),
    ("NOMAD_IP_db_main", "10.0.0.5"),
    ("NOMAD_PORT_db_main", "5432"),
    ("NOMAD_ADDR_db_main", "10.0.0.5:5432"),
    ("NOMAD_UPSTREAM_IP_my-cache", "127.0.0.1"),
    ("NOMAD_UPSTREAM_PORT_my_cache", "9191"),
    ("NOMAD_UPSTREAM_ADDR_my_cache", "127.0.0.1:9191"),
    // of the agent, below what the job says
    ("PATH", "/usr/bin"),
    ("OWN", "of the task"),
    // of a hook, above it
    ("NOMAD_TOKEN", "jwt"),
];

/// Names that are not there, and why.
const ABSENT: &[(&str, &str)] = &[
    ("NOMAD_ENVOY_ADMIN_ADDR_web", "the proxies of the service mesh are not carried out"),
    ("NOMAD_ENVOY_READY_ADDR_web", "the proxies of the service mesh are not carried out"),
    ("NOMAD_TOKEN_other", "a hook adds it when identities are carried out"),
    ("NOMAD_UNIX_ADDR", "a hook adds it when identities are carried out"),
    ("VAULT_TOKEN", "vault is not carried out; the agent's own is on the deny list"),
    ("VAULT_NAMESPACE", "vault is not carried out"),
    ("CONSUL_TOKEN", "consul is not carried out; the agent's own is on the deny list"),
    ("CONSUL_HTTP_TOKEN", "consul is not carried out; the agent's own is on the deny list"),
    ("CONSUL_HTTP_ADDR", "tasks native to the mesh are not carried out"),
    ("NVIDIA_VISIBLE_DEVICES", "devices are not carried out"),
];

/// References that the node's part of a job may hold.
const REFERENCES: &[(&str, &str)] = &[
    ("${node.unique.id}", "11111111-0000-0000-0000-000000000000"),
    ("${node.unique.name}", "worker-3"),
    ("${node.datacenter}", "dc1"),
    ("${node.class}", "compute"),
    ("${node.pool}", "default"),
    ("${node.region}", "global"),
    ("${meta.rack}", "7"),
    ("${attr.kernel.name}", "linux"),
    ("${attr.unique.network.ip-address}", "10.0.0.5"),
    ("${env[\"NOMAD_DC\"]}", "dc1"),
    ("${NOMAD_PORT_http}", "8080"),
    // nobody fills these in: constraints on devices are the scheduler's, secrets are not carried out
    ("${device.model}", "${device.model}"),
    ("${secret.db.password}", "${secret.db.password}"),
    ("$${NOMAD_DC}", "${NOMAD_DC}"),
    ("${nonsense}", "${nonsense}"),
];

fn environment(isolation: FsIsolation) -> TaskEnv {
    let job: Job = serde_json::from_value(json!({
        "ID": "web/dispatch-1", "Name": "web", "ParentID": "web", "Meta": {"of_job": "job", "of_group": "job", "of_task": "job"},
        "ParameterizedJob": {"MetaOptional": ["later"]},
        "TaskGroups": [{"Name": "api", "Meta": {"of_group": "group", "of_task": "group"},
            "Services": [{"Name": "web", "Connect": {"SidecarService": {"Proxy": {"Upstreams": [
                {"DestinationName": "my-cache", "LocalBindPort": 9191}]}}}}],
            "Tasks": [{"Name": "server", "Driver": "raw_exec", "Meta": {"of_task": "task"}, "Env": {"OWN": "of the task"}}]}]
    }))
    .unwrap();
    let network =
        |ip: &str, label: &str, port: i64| json!([{"IP": ip, "ReservedPorts": [{"Label": label, "Value": port}]}]);
    let mut own = network("10.0.0.5", "own", 7000);
    own.as_array_mut().unwrap().extend(network("fd00::5", "own6", 7001).as_array().unwrap().clone());
    let alloc: Allocation = serde_json::from_value(json!({
        "ID": "5f1c2d3e-0000-0000-0000-000000000000", "Name": "web/dispatch-1.api[2]", "Namespace": "default",
        "AllocatedResources": {
            "Tasks": {
                "server": {"Cpu": {"CpuShares": 500, "ReservedCores": [3, 4]}, "Memory": {"MemoryMB": 256, "MemoryMaxMB": 512},
                    "Networks": own},
                "db": {"Networks": network("10.0.0.5", "main", 5432)}
            },
            "Shared": {"Ports": [{"Label": "http", "Value": 23456, "To": 8080, "HostIP": "10.0.0.5"}]}
        },
        "NetworkStatus": {"InterfaceName": "eth0", "Address": "172.26.64.3"}
    }))
    .unwrap();
    let node: Node = serde_json::from_value(json!({
        "ID": "11111111-0000-0000-0000-000000000000", "Name": "worker-3", "Datacenter": "dc1", "NodeClass": "compute",
        "NodePool": "default", "Meta": {"rack": "7"},
        "Attributes": {"kernel.name": "linux", "unique.network.ip-address": "10.0.0.5"}
    }))
    .unwrap();
    let dirs = AllocDirs::new(std::path::Path::new("/d"), "a").unwrap().task("server").unwrap();
    let host = [("PATH", "/usr/bin"), ("OWN", "of the agent"), ("VAULT_TOKEN", "secret"), ("CONSUL_TOKEN", "secret")];
    let host: BTreeMap<String, String> = host.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let group = &job.task_groups[0];
    TaskEnv::build(&Inputs {
        alloc: &alloc,
        job: &job,
        group,
        task: &group.tasks[0],
        node: &node,
        region: "global",
        dirs: &dirs,
        isolation,
        host: &host,
        deny_list: &DENY_LIST_DEFAULT.map(str::to_owned),
        hooks: &[("NOMAD_TOKEN".to_owned(), "jwt".to_owned())],
        parent_cgroup: Some("nomad.slice"),
    })
}

#[test]
fn each_name_of_the_reference_is_seen_or_has_its_reason() {
    let env = environment(FsIsolation::Chroot);
    for (name, value) in SEEN {
        assert_eq!(env.vars.get(*name).map(String::as_str), Some(*value), "{name}");
    }
    for (name, why) in ABSENT {
        assert!(!env.vars.contains_key(*name), "{name} is there: is it not true any more that {why}?");
    }
    // whoever sees the host's files is told where they are there
    let env = environment(FsIsolation::None);
    assert_eq!(env.vars["NOMAD_ALLOC_DIR"], "/d/a/alloc");
}

#[test]
fn each_reference_of_the_table_is_filled_in_or_stays() {
    let env = environment(FsIsolation::Chroot);
    for (reference, value) in REFERENCES {
        assert_eq!(env.interpolate(reference), *value, "{reference}");
    }
    // in a driver's configuration, what nobody knows is an error
    assert!(env.interpolate_strict("${nonsense}").is_err());
}

/// Names, whence they come, an example, and how they stand here; docs/jobspec-coverage.md shows them.
fn attributes() -> Vec<Vec<&'static str>> {
    include_str!("data/attributes.tsv").lines().skip(1).map(|line| line.split('\t').collect()).collect()
}

/// An attribute of a node, as the table names it.
fn in_the_table(name: &str) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.strip_prefix("numa.node").and_then(|rest| rest.strip_suffix(".cores")) {
        Some(node) if digits(node) => "numa.node<N>.cores".to_owned(),
        _ => name.to_owned(),
    }
}

#[test]
fn a_host_says_what_it_is_in_the_names_of_the_reference() {
    let dir = std::env::temp_dir();
    let options = driver::fingerprint::Options {
        alloc_dir: dir,
        network_interface: "lo".to_owned(),
        version: "2.0.5".to_owned(),
        ..driver::fingerprint::Options::default()
    };
    let host = driver::fingerprint::Host::read(&options).unwrap();
    let said: BTreeMap<String, &String> = host.attributes.iter().map(|(k, v)| (in_the_table(k), v)).collect();
    let table = attributes();
    for row in &table {
        let [name, _, example, how] = row[..] else { panic!("{row:?}") };
        match how {
            // as the example: a number where that is one
            "here" => {
                let value = said.get(name).unwrap_or_else(|| panic!("{name} is not said"));
                let is_number = |text: &str| text.parse::<i64>().is_ok();
                assert!(!is_number(example) || is_number(value), "{name} is {value:?}, as {example:?}");
            }
            // not every host has it
            "some" => {}
            how => {
                assert!(how.starts_with("absent: ") || how.starts_with("elsewhere: "), "{row:?}");
                assert!(!said.contains_key(name), "{name} is said: is {how:?} still true?");
            }
        }
        if let Some(path) = how.strip_prefix("elsewhere: ") {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            assert!(root.join(path).exists() || root.join(format!("{path}.rs")).exists(), "{path}");
        }
    }
    for name in said.keys() {
        assert!(table.iter().any(|row| row[0] == name), "{name} is no name of the reference");
    }
}
