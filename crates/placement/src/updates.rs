//! Does a new version of a group need new allocations, or can the old ones take it in place?
//!
//! Only what the running tasks were started from forces a replacement; counts, constraints, policies and
//! ordinary services do not.

use std::collections::BTreeMap;

use model::connect::ConsulConnect;
use model::resources::{NetworkResource, Port, Resources};
use model::service::Service;
use model::{Job, Task, TaskGroup};

/// True when an allocation of `old`'s group cannot become one of `new`'s without a restart.
pub(crate) fn destructive(old: &Job, new: &Job, group: &str) -> bool {
    let (Some(a), Some(b)) = (old.lookup_group(group), new.lookup_group(group)) else { return true };
    a.tasks.len() != b.tasks.len()
        || disk(a) != disk(b)
        || networks_differ(&a.networks, &b.networks)
        || consul_differs(a, b)
        || connect_differs(&a.services, &b.services)
        || a.volumes != b.volumes
        || renders(a.restart_policy.as_ref()) != renders(b.restart_policy.as_ref())
        || a.tasks.iter().any(|task| {
            let other = b.lookup_task(&task.name);
            other.is_none_or(|other| task_differs(task, other) || meta(old, a, task) != meta(new, b, other))
        })
}

fn disk(group: &TaskGroup) -> (bool, bool, i64) {
    let disk = group.ephemeral_disk.as_ref();
    let flag = |f: fn(&model::group::EphemeralDisk) -> Option<bool>| disk.and_then(f).unwrap_or(false);
    (flag(|d| d.sticky), flag(|d| d.migrate), group.disk_mb())
}

fn renders(policy: Option<&model::group::RestartPolicy>) -> bool {
    policy.and_then(|p| p.render_templates).unwrap_or(false)
}

fn meta<'a>(job: &'a Job, group: &'a TaskGroup, task: &'a Task) -> BTreeMap<&'a String, &'a String> {
    job.meta.iter().chain(&group.meta).chain(&task.meta).collect()
}

fn networks_differ(old: &[NetworkResource], new: &[NetworkResource]) -> bool {
    old.len() != new.len() || old.iter().zip(new).any(|(a, b)| network_differs(a, b))
}

fn network_differs(a: &NetworkResource, b: &NetworkResource) -> bool {
    let port = |p: &Port, fixed: bool| (p.label.clone(), if fixed { p.value } else { 0 }, p.to, p.host_network.clone());
    let ports = |n: &NetworkResource| {
        let fixed = n.reserved_ports.iter().map(|p| port(p, true));
        let mut all: Vec<_> = fixed.chain(n.dynamic_ports.iter().map(|p| port(p, false))).collect();
        all.sort();
        all
    };
    a.mode != b.mode
        || a.mbits.unwrap_or(0) != b.mbits.unwrap_or(0)
        || a.hostname != b.hostname
        || a.dns != b.dns
        || a.cni != b.cni
        || ports(a) != ports(b)
}

fn consul_differs(a: &TaskGroup, b: &TaskGroup) -> bool {
    let namespace = |g: &TaskGroup| g.consul.as_ref().map_or(String::new(), |c| c.namespace.clone());
    let both = a.consul.as_ref().zip(b.consul.as_ref());
    let differs = |x: &str, y: &str| !x.is_empty() && !y.is_empty() && x != y;
    namespace(a) != namespace(b)
        || both.is_some_and(|(x, y)| differs(&x.cluster, &y.cluster) || differs(&x.partition, &y.partition))
}

fn connect_differs(old: &[Service], new: &[Service]) -> bool {
    let meshed = |s: &&Service| s.connect.is_some();
    let lost = old.iter().filter(meshed).any(|a| {
        let same = new.iter().find(|b| b.name == a.name);
        same.is_none_or(|b| a.port_label != b.port_label || a.cluster != b.cluster || mesh_differs(a, b))
    });
    lost || new.iter().filter(meshed).any(|b| !old.iter().filter(meshed).any(|a| a.name == b.name))
}

fn mesh_differs(a: &Service, b: &Service) -> bool {
    let (Some(a), Some(b)) = (&a.connect, &b.connect) else { return true };
    let sidecar_port = |c: &ConsulConnect| c.sidecar_service.as_ref().map(|s| s.port.clone());
    a.native != b.native
        || a.gateway != b.gateway
        || a.sidecar_task != b.sidecar_task
        || sidecar_port(a) != sidecar_port(b)
}

fn task_differs(a: &Task, b: &Task) -> bool {
    let logs_off = |t: &Task| t.log_config.as_ref().is_some_and(model::task::LogConfig::is_disabled);
    a.driver != b.driver
        || a.user != b.user
        || a.config != b.config
        || a.env != b.env
        || a.artifacts != b.artifacts
        || a.vault != b.vault
        || a.secrets != b.secrets
        || a.consul != b.consul
        || a.templates != b.templates
        || a.csi_plugin_config != b.csi_plugin_config
        || a.volume_mounts != b.volume_mounts
        || a.identity != b.identity
        || a.identities != b.identities
        || logs_off(a) != logs_off(b)
        || renders(a.restart_policy.as_ref()) != renders(b.restart_policy.as_ref())
        || resources_differ(a.resources.as_ref(), b.resources.as_ref())
}

fn resources_differ(a: Option<&Resources>, b: Option<&Resources>) -> bool {
    let default = Resources::default();
    let (a, b) = (a.unwrap_or(&default), b.unwrap_or(&default));
    a.cpu_mhz() != b.cpu_mhz()
        || a.cores() != b.cores()
        || a.memory_mb() != b.memory_mb()
        || a.memory_max_mb() != b.memory_max_mb()
        || a.secrets_mb() != b.secrets_mb()
        || a.devices != b.devices
        || a.numa != b.numa
        || networks_differ(&a.networks, &b.networks)
}

#[cfg(test)]
#[path = "updates_tests.rs"]
mod tests;
