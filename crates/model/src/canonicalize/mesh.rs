//! What a service in the mesh brings with it: the task of its proxy or gateway, ports, exposed paths.
//!
//! | block | brings |
//! |---|---|
//! | `sidecar_service` | task `connect-proxy-SERVICE` (prestart sidecar), a port of that name, to the same number |
//! | `gateway` | task `connect-ingress-SERVICE` (`terminating`, `mesh`), bind addresses of its proxy |
//! | `native` | the task it is served by, when the group has one; that task's kind |
//! | a check with `expose` | a path that the proxy lets through, and a port for it when the check has none |
//!
//! `sidecar_task` changes the task that is brought. Only groups with a network get anything: the others are
//! refused ([`crate::validate`]), as is what cannot be carried out here ([`crate::unbuilt`]).
//!
//! Invariants: a task that was brought is known by its kind, so bringing it twice changes nothing; names that
//! must differ take letters from a hash, never from chance, so the same job always comes out the same.
//!
//! Source: `validation.tsv`, rows "4 connect", "5 expose-check" and "8 implicit-identities", `blocks.tsv`.

use serde_json::json;

use crate::connect::{
    ConsulConnect, ConsulExposePath, ConsulGateway, ConsulGatewayBindAddress, ConsulGatewayProxy, SidecarTask,
};
use crate::group::TaskGroup;
use crate::job::{Constraint, Job};
use crate::resources::{NetworkResource, Port, Resources};
use crate::service::Service;
use crate::task::{LogConfig, Task, TaskLifecycle};
use crate::time::Nanos;

/// Where a gateway listens when nothing else is said.
const ANY_ADDRESS: &str = "0.0.0.0";
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Brings what the services need. True when a task was brought: its own defaults are then missing.
pub(super) fn bring(job: &mut Job) -> bool {
    let mut brought = false;
    for group in job.task_groups.iter_mut().filter(|group| !group.networks.is_empty()) {
        for at in 0..group.services.len() {
            brought |= of_service(group, at);
            expose(group, at);
        }
    }
    brought
}

/// The identity of a service of Consul is known by the service.
pub(super) fn name_identities(job: &mut Job) {
    for group in &mut job.task_groups {
        let services = group.services.iter_mut().map(|service| (None, service));
        let of_tasks = group.tasks.iter_mut().flat_map(|task| {
            let name = task.name.clone();
            task.services.iter_mut().map(move |service| (Some(name.clone()), service))
        });
        for (task, service) in services.chain(of_tasks).filter(|(_, service)| service.provider == "consul") {
            let task = task.map_or_else(String::new, |name| format!("{name}-"));
            if let Some(identity) = &mut service.identity {
                identity.name = format!("consul-service_{task}{}-{}", service.name, service.port_label);
                identity.service_name.clone_from(&service.name);
            }
        }
    }
}

/// What a task brought for a service is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Proxy,
    Ingress,
    Terminating,
    Mesh,
}

impl Role {
    fn of(connect: &ConsulConnect) -> Option<Self> {
        if connect.sidecar_service.is_some() {
            return Some(Self::Proxy);
        }
        let gateway = connect.gateway.as_ref()?;
        match gateway {
            ConsulGateway { ingress: Some(_), .. } => Some(Self::Ingress),
            ConsulGateway { terminating: Some(_), .. } => Some(Self::Terminating),
            ConsulGateway { mesh: Some(_), .. } => Some(Self::Mesh),
            _ => None,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Proxy => "connect-proxy",
            Self::Ingress => "connect-ingress",
            Self::Terminating => "connect-terminating",
            Self::Mesh => "connect-mesh",
        }
    }

    /// What says that a task was brought for a service.
    fn kind(self, service: &str) -> String {
        format!("{}:{service}", self.prefix())
    }
}

fn of_service(group: &mut TaskGroup, at: usize) -> bool {
    let Some(connect) = group.services[at].connect.clone() else { return false };
    if connect.native {
        native(group, at);
    }
    let Some(role) = Role::of(&connect) else { return false };
    let name = group.services[at].name.clone();
    let in_bridge = group.networks.first().is_some_and(is_own);
    match role {
        Role::Proxy => {
            add_port(group, &format!("connect-proxy-{name}"));
        }
        Role::Terminating if in_bridge => add_port(group, &format!("connect-terminating-{name}")),
        Role::Mesh if in_bridge => add_port(group, &format!("connect-mesh-{name}-lan")),
        _ => {}
    }
    if in_bridge && role != Role::Proxy {
        let service = &mut group.services[at];
        if role == Role::Terminating && service.port_label.is_empty() {
            service.port_label = format!("connect-terminating-{name}");
        }
        if let Some(gateway) = service.connect.as_mut().and_then(|connect| connect.gateway.as_mut()) {
            bind(gateway, role);
        }
    }
    let kind = role.kind(&name);
    if group.tasks.iter().any(|task| task.kind == kind) {
        return false;
    }
    let mut task = brought(group, role, &connect, &name);
    if let Some(changes) = &connect.sidecar_task {
        change(&mut task, changes);
    }
    if group.tasks.iter().any(|other| other.name == task.name) {
        task.name = format!("{}-{}", task.name, letters(&[group.name(), &name]));
    }
    group.tasks.push(task);
    true
}

/// Networks that are the group's own.
fn is_own(network: &NetworkResource) -> bool {
    network.mode == "bridge" || network.mode.starts_with("cni/")
}

fn add_port(group: &mut TaskGroup, label: &str) {
    let Some(network) = group.networks.first_mut() else { return };
    if !network.reserved_ports.iter().chain(&network.dynamic_ports).any(|port| port.label == label) {
        network.dynamic_ports.push(Port { label: label.to_owned(), to: -1, ..Port::default() });
    }
}

/// A task that takes part itself.
fn native(group: &mut TaskGroup, at: usize) {
    let own: Vec<usize> = (0..group.tasks.len()).filter(|i| !is_brought(&group.tasks[*i])).collect();
    let service = &mut group.services[at];
    if let (true, [only]) = (service.task_name.is_empty(), own.as_slice()) {
        service.task_name.clone_from(&group.tasks[*only].name);
    }
    if let Some(task) = group.tasks.iter_mut().find(|task| task.name == service.task_name) {
        task.kind = format!("connect-native:{}", service.name);
    }
}

fn is_brought(task: &Task) -> bool {
    [Role::Proxy, Role::Ingress, Role::Terminating, Role::Mesh].iter().any(|role| task.kind.starts_with(&role.kind("")))
}

fn brought(group: &TaskGroup, role: Role, connect: &ConsulConnect, service: &str) -> Task {
    let image = if role == Role::Proxy { "${meta.connect.sidecar_image}" } else { "${meta.connect.gateway_image}" };
    let args = [
        "-c",
        "${NOMAD_SECRETS_DIR}/envoy_bootstrap.json",
        "-l",
        "${meta.connect.log_level}",
        "--concurrency",
        "${meta.connect.proxy_concurrency}",
        "--disable-hot-restart",
    ];
    let uses = |driver: &str| group.tasks.iter().any(|task| task.driver == driver);
    Task {
        name: format!("{}-{service}", role.prefix()),
        kind: role.kind(service),
        driver: if uses("podman") && !uses("docker") { "podman" } else { "docker" }.to_owned(),
        config: [("image".to_owned(), json!(image)), ("args".to_owned(), json!(args))].into(),
        shutdown_delay: Nanos::from_secs(5),
        log_config: Some(LogConfig { max_files: Some(2), max_file_size_mb: Some(2), ..LogConfig::default() }),
        resources: Some(Resources { cpu: Some(250), memory_mb: Some(128), ..Resources::default() }),
        lifecycle: (role == Role::Proxy).then(|| TaskLifecycle { hook: "prestart".to_owned(), sidecar: true }),
        constraints: vec![
            asked("consul.version", "semver", if limits_tls(connect) { ">= 1.11.2" } else { ">= 1.8.0" }),
            asked("consul.grpc", ">", "0"),
        ],
        ..Task::default()
    }
}

fn asked(attribute: &str, operand: &str, value: &str) -> Constraint {
    Constraint { l_target: format!("${{attr.{attribute}}}"), operand: operand.to_owned(), r_target: value.to_owned() }
}

/// An ingress that says more of TLS than that there is some.
fn limits_tls(connect: &ConsulConnect) -> bool {
    let ingress = connect.gateway.as_ref().and_then(|gateway| gateway.ingress.as_ref());
    ingress.and_then(|ingress| ingress.tls.as_ref()).is_some_and(|tls| {
        !tls.tls_min_version.is_empty() || !tls.tls_max_version.is_empty() || !tls.cipher_suites.is_empty()
    })
}

/// Lets the author's block win; maps are taken whole but for `meta`, which is merged.
fn change(task: &mut Task, by: &SidecarTask) {
    let text = |given: &str, field: &mut String| {
        if !given.is_empty() {
            given.clone_into(field);
        }
    };
    text(&by.name, &mut task.name);
    text(&by.driver, &mut task.driver);
    text(&by.user, &mut task.user);
    text(&by.kill_signal, &mut task.kill_signal);
    if !by.config.is_empty() {
        task.config.clone_from(&by.config);
    }
    if !by.env.is_empty() {
        task.env.clone_from(&by.env);
    }
    task.meta.extend(by.meta.clone());
    if by.resources.is_some() {
        task.resources.clone_from(&by.resources);
    }
    if by.log_config.is_some() {
        task.log_config.clone_from(&by.log_config);
    }
    task.kill_timeout = by.kill_timeout.or(task.kill_timeout);
    task.shutdown_delay = by.shutdown_delay.unwrap_or(task.shutdown_delay);
    task.volume_mounts.extend(by.volume_mounts.iter().cloned());
    task.identities.extend(by.identities.iter().cloned());
}

/// Where a gateway with a network of its own listens, unless its author says it.
fn bind(gateway: &mut ConsulGateway, role: Role) {
    let ports: Vec<(String, i64)> = match role {
        Role::Ingress => gateway
            .ingress
            .iter()
            .flat_map(|ingress| &ingress.listeners)
            .flat_map(|listener| listener.services.iter().map(|one| (one.name.clone(), listener.port)))
            .collect(),
        Role::Terminating => vec![("default".to_owned(), -1)],
        Role::Mesh => vec![("lan".to_owned(), -1), ("wan".to_owned(), -1)],
        Role::Proxy => return,
    };
    let proxy = gateway.proxy.get_or_insert_with(|| ConsulGatewayProxy {
        connect_timeout: Some(Nanos::from_secs(5)),
        ..ConsulGatewayProxy::default()
    });
    let said = proxy.envoy_gateway_no_default_bind
        || proxy.envoy_gateway_bind_tagged_addresses
        || !proxy.envoy_gateway_bind_addresses.is_empty();
    if said {
        return;
    }
    proxy.envoy_gateway_no_default_bind = true;
    let address = |port: i64| ConsulGatewayBindAddress { address: ANY_ADDRESS.to_owned(), port, name: String::new() };
    proxy.envoy_gateway_bind_addresses = ports.into_iter().map(|(name, port)| (name, address(port))).collect();
}

/// Checks that reach the service through its proxy.
fn expose(group: &mut TaskGroup, at: usize) {
    let name = group.services[at].name.clone();
    let has_proxy = group.services[at].connect.as_ref().is_some_and(|connect| connect.sidecar_service.is_some());
    if !has_proxy || !group.networks.first().is_some_and(is_own) {
        return;
    }
    let Some(local) = local_port(group, &group.services[at]) else { return };
    for nth in 0..group.services[at].checks.len() {
        let check = &group.services[at].checks[nth];
        if !check.expose || !matches!(check.kind.as_str(), "http" | "grpc") {
            continue;
        }
        if check.port_label.is_empty() {
            let label = format!("svc_{name}_ck_{}", letters(&[&name, &check.name, &check.kind, &check.path]));
            add_port(group, &label);
            group.services[at].checks[nth].port_label = label;
        }
        let check = group.services[at].checks[nth].clone();
        let grpc = check.kind == "grpc";
        let path = ConsulExposePath {
            path: if grpc { GRPC_HEALTH.to_owned() } else { check.path },
            protocol: if grpc { "http2" } else { "http" }.to_owned(),
            local_path_port: local,
            listener_port: check.port_label,
        };
        let sidecar = group.services[at].connect.as_mut().and_then(|connect| connect.sidecar_service.as_mut());
        let Some(sidecar) = sidecar else { return };
        let paths = &mut sidecar.proxy.get_or_insert_default().expose.get_or_insert_default().paths;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
}

/// The number at which a service listens inside of its group.
fn local_port(group: &TaskGroup, service: &Service) -> Option<i64> {
    if let Ok(number) = service.port_label.parse::<u16>() {
        return Some(number.into());
    }
    let mut ports =
        group.networks.iter().flat_map(|network| network.reserved_ports.iter().chain(&network.dynamic_ports));
    let port = ports.find(|port| port.label == service.port_label)?;
    [port.to, port.value].into_iter().find(|number| *number > 0)
}

/// Six letters that stand for the texts.
fn letters(texts: &[&str]) -> String {
    let hash = texts.iter().fold(crate::hash::START, |hash, text| {
        crate::hash::fnv1a_from(crate::hash::fnv1a_from(hash, text.as_bytes()), b"\0")
    });
    format!("{:06x}", hash & 0x00ff_ffff)
}
