//! Services and their checks, of a group and of its tasks.

use std::collections::BTreeSet;

use super::attachments::identity;
use super::connect;
use super::problem::Findings;
use crate::group::TaskGroup;
use crate::resources::NetworkResource;
use crate::service::{Service, ServiceCheck};
use crate::task::Task;
use crate::time::Nanos;

/// Longest note of a check, in bytes.
const NOTES_BYTES_MAX: usize = 255;
const CHECK_SPAN_MIN: Nanos = Nanos::from_secs(1);
const ADDRESS_MODES: [&str; 6] = ["", "auto", "host", "driver", "alloc", "alloc_ipv6"];
const CHECK_ADDRESS_MODES: [&str; 5] = ["", "host", "driver", "alloc", "alloc_ipv6"];
const ON_UPDATE: [&str; 4] = ["", "require_healthy", "ignore_warnings", "ignore"];
const KINDS: [&str; 5] = ["", "api-gateway", "ingress-gateway", "mesh-gateway", "terminating-gateway"];
const METHODS: [&str; 10] = ["", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];

/// The services of a group itself, and what holds over all of the group.
pub(super) fn of_group(group: &TaskGroup) -> Findings {
    let mut found = Findings::default();
    let all = group.services.iter().chain(group.tasks.iter().flat_map(|task| &task.services));
    let (mut seen, mut twice, mut providers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for service in all {
        if !seen.insert((&service.name, &service.task_name, &service.port_label)) {
            twice.insert(service.name.as_str());
        }
        providers.insert(service.provider.as_str());
    }
    found.when(!twice.is_empty(), || {
        let names: Vec<&str> = twice.into_iter().collect();
        format!("Services are not unique: {}", names.join(", "))
    });
    found.when(providers.len() > 1, || {
        "Multiple service providers used: task group services must use the same provider".into()
    });
    connect::of_group(group, &mut found);
    for (i, service) in group.services.iter().enumerate() {
        let mut within = check(service);
        within.at("address_mode").when(service.address_mode == "driver", || {
            format!(
                "service {:?} cannot use address_mode=\"driver\", only services defined in a \"task\" block can",
                service.name
            )
        });
        let tasks = std::iter::once("").chain(group.tasks.iter().map(|task| task.name.as_str()));
        within.at("task").unless_there(&service.task_name, tasks.clone(), || {
            format!("service {:?} refers to non-existent task {:?}", service.name, service.task_name)
        });
        for (i, one) in service.checks.iter().enumerate() {
            let path = format!("check[{i}]");
            within.at(format!("{path}.task")).unless_there(&one.task_name, tasks.clone(), || {
                format!("check {} refers to non-existent task {}", one.name, one.task_name)
            });
            let script = one.kind.eq_ignore_ascii_case("script");
            within.at(path.clone()).when(script && one.task_name.is_empty() && service.task_name.is_empty(), || {
                format!("Check {} invalid: only script and gRPC checks should have tasks, and script checks must specify task parameter", one.name)
            });
            within.at(format!("{path}.address_mode")).when(one.address_mode == "driver", || {
                format!(
                    "Check {} cannot use address_mode=\"driver\", only checks defined in a \"task\" service block can",
                    one.name
                )
            });
        }
        found.at(format!("service[{i}]")).part(format!("Service[{i}] {} validation failed", service.name), within);
    }
    found
}

/// The services of a task.
pub(super) fn of_task(task: &Task, group: &TaskGroup) -> Findings {
    let mut found = Findings::default();
    let asked = task.resources.iter().flat_map(|resources| &resources.networks);
    let labels: BTreeSet<&str> = group.networks.iter().take(1).chain(asked).flat_map(port_labels).collect();
    for (i, service) in task.services.iter().enumerate() {
        let mut within = check(service);
        let name = &service.name;
        within.at("connect").when(service.connect.is_some(), || {
            format!("service {name:?} cannot have \"connect\" block, it is not a group service")
        });
        within.at("address_mode").when(service.address_mode.starts_with("alloc"), || {
            format!("service {name:?} cannot use address_mode={:?}, only services defined in a \"group\" block can use this mode", service.address_mode)
        });
        within.at("task").when(!matches!(service.task_name.as_str(), "") && service.task_name != task.name, || {
            format!("service {name:?} is of task {:?} and may not name task {:?}", task.name, service.task_name)
        });
        within.at("port");
        port(&service.port_label, &service.address_mode, &labels, &format!("service {name:?}"), &mut within);
        let mut names = BTreeSet::new();
        for (i, one) in service.checks.iter().enumerate() {
            within
                .at(format!("check[{i}].name"))
                .when(!names.insert(&one.name), || format!("check {:?} is duplicate", one.name));
            let mode = if one.address_mode.is_empty() { &service.address_mode } else { &one.address_mode };
            within.at(format!("check[{i}].port"));
            port(&one.port_label, mode, &labels, &format!("check {:?}", one.name), &mut within);
        }
        found.at(format!("service[{i}]")).part(format!("Service[{i}] {name} validation failed"), within);
    }
    found
}

fn port_labels(network: &NetworkResource) -> impl Iterator<Item = &str> {
    network.reserved_ports.iter().chain(&network.dynamic_ports).map(|port| port.label.as_str())
}

fn port(label: &str, mode: &str, labels: &BTreeSet<&str>, what: &str, found: &mut Findings) {
    if label.is_empty() || labels.contains(label) || label.contains("${") {
        found.at("");
        return;
    }
    let number = label.parse::<u16>().is_ok();
    if number && mode != "driver" {
        found.say(format!("port label {label:?} of {what} cannot use a numeric port unless address_mode=\"driver\""));
    } else if !number && mode != "driver" {
        found.unless_there(label, labels.iter().copied(), || {
            format!("port label {label:?} referenced by {what} does not exist")
        });
    }
    found.at("");
}

/// What holds for a service wherever it stands.
fn check(service: &Service) -> Findings {
    let mut found = Findings::default();
    found.at("name").when(!is_service_name(&service.name), || {
        format!("Service name must be valid per RFC 1123 and can contain only alphanumeric characters or dashes and must be no longer than 63 characters: {:?}", service.name)
    });
    let mode = service.address_mode.as_str();
    found.at("address_mode").unless_known(mode, &ADDRESS_MODES, || {
        format!(
            "Service address_mode must be \"auto\", \"host\", \"alloc\", \"alloc_ipv6\" or \"driver\"; not {mode:?}"
        )
    });
    found.at("address_mode").when(!service.address.is_empty() && !matches!(mode, "" | "auto"), || {
        format!("Service address_mode must be \"auto\" if address is set; not {mode:?}")
    });
    let update = service.on_update.as_str();
    found.at("on_update").unless_known(update, &ON_UPDATE, || {
        format!("Service on_update must be \"require_healthy\", \"ignore_warnings\", or \"ignore\"; not {update:?}")
    });
    found.at("provider").unless_known(&service.provider, &["consul", "nomad"], || {
        format!("Service provider must be \"consul\", or \"nomad\"; not {:?}", service.provider)
    });
    found.at("kind").unless_known(&service.kind, &KINDS, || format!("Service kind {:?} is not valid", service.kind));
    if let Some(one) = &service.identity {
        found
            .at("identity.aud")
            .when(one.audience.is_empty(), || "Service identity must provide at least one target aud value".into());
        let mut named = one.clone();
        "service".clone_into(&mut named.name);
        found.at("identity").part("Service identity is invalid", identity(&named));
    }
    found.at("cluster").when(!matches!(service.cluster.as_str(), "" | "default"), || {
        format!("Consul cluster {:?} of service {:?} requires Nomad Enterprise", service.cluster, service.name)
    });
    let nomad = service.provider == "nomad";
    found.at("connect").when(nomad && service.connect.is_some(), || {
        "Service with provider nomad cannot include Connect blocks".into()
    });
    for (i, one) in service.checks.iter().enumerate() {
        found.at(format!("check[{i}]")).part(format!("Check {} invalid", one.name), service_check(one, service, nomad));
    }
    if let Some(block) = &service.connect {
        found.at("connect").all(connect::block(block, service));
    }
    found
}

fn service_check(one: &ServiceCheck, service: &Service, nomad: bool) -> Findings {
    let mut found = Findings::default();
    let kind = one.kind.to_ascii_lowercase();
    match kind.as_str() {
        "tcp" => {}
        "http" => {
            found.at("path").when(one.path.is_empty(), || "http type must have http path".into());
            found.at("path").when(one.path.contains("://"), || "relative http path expected".into());
            found
                .at("protocol")
                .unless_known(&one.protocol, &["", "http", "https"], || format!("invalid protocol {:?}", one.protocol));
        }
        "grpc" if !nomad => {}
        "script" if !nomad => {
            found.at("command").when(one.command.is_empty(), || "script type must have a valid script path".into())
        }
        _ => {
            let known: &[&str] = if nomad { &["tcp", "http"] } else { &["tcp", "http", "grpc", "script"] };
            found.at("type").unless_known(&kind, known, || {
                format!("invalid check type ({:?}), must be one of {}", one.kind, known.join(", "))
            });
        }
    }
    for (what, span) in [("interval", one.interval), ("timeout", one.timeout)] {
        if span.0 == 0 {
            found.at(what).say(format!("missing required value {what}. {what} cannot be less than {CHECK_SPAN_MIN}"));
        } else {
            found
                .at(what)
                .when(span < CHECK_SPAN_MIN, || format!("{what} ({span}) cannot be lower than {CHECK_SPAN_MIN}"));
        }
    }
    found.at("port").when(kind != "script" && one.port_label.is_empty() && service.port_label.is_empty(), || {
        format!("check requires a port but neither check nor service {:?} have a port", service.name)
    });
    found.at("initial_status").unless_known(&one.initial_status, &["", "passing", "warning", "critical"], || {
        format!(
            "invalid initial check state ({}), must be one of passing, warning, critical or empty",
            one.initial_status
        )
    });
    found.at("address_mode").unless_known(&one.address_mode, &CHECK_ADDRESS_MODES, || {
        format!("invalid address_mode {:?}", one.address_mode)
    });
    found.at("on_update").unless_known(&one.on_update, &ON_UPDATE, || {
        format!("on_update must be \"require_healthy\", \"ignore_warnings\", or \"ignore\"; got {:?}", one.on_update)
    });
    restarts(one, &mut found);
    counters(one, &kind, &mut found);
    if nomad {
        only_consul(one, &mut found);
    } else {
        found
            .at("notes")
            .when(one.notes.len() > NOTES_BYTES_MAX, || "notes must not be longer than 255 characters".into());
    }
    found.at("method").when(nomad && !METHODS.contains(&one.method.to_ascii_uppercase().as_str()), || {
        format!("invalid HTTP method {:?}", one.method)
    });
    found
}

fn restarts(one: &ServiceCheck, found: &mut Findings) {
    let Some(restart) = &one.check_restart else { return };
    found
        .at("check_restart.limit")
        .when(restart.limit < 0, || format!("limit must be greater than or equal to 0 but found {}", restart.limit));
    let grace = restart.grace.unwrap_or_default();
    found.at("check_restart.grace").when(grace.0 < 0, || format!("grace period cannot be negative: {grace}"));
    found
        .at("on_update")
        .when(one.on_update == "ignore", || "on_update value \"ignore\" cannot be used with check_restart".into());
    found.at("on_update").when(one.on_update == "ignore_warnings" && !restart.ignore_warnings, || {
        "on_update value \"ignore_warnings\" requires check_restart ignore_warnings to be true".into()
    });
}

fn counters(one: &ServiceCheck, kind: &str, found: &mut Findings) {
    let set = [
        ("success_before_passing", one.success_before_passing),
        ("failures_before_critical", one.failures_before_critical),
        ("failures_before_warning", one.failures_before_warning),
    ];
    for (name, value) in set {
        found.at(name).when(value > 0 && !matches!(kind, "tcp" | "http" | "grpc"), || {
            format!("{name} not supported for check of type {kind:?}")
        });
        found.at(name).when(value < 0, || format!("{name} must be non-negative"));
    }
}

/// What only the other provider's checks may have.
fn only_consul(one: &ServiceCheck, found: &mut Findings) {
    let text = |what: &str| format!("{what} may only be set for Consul service checks");
    found.at("expose").when(one.expose, || text("expose"));
    found.at("on_update").when(one.on_update == "ignore_warnings", || text("on_update = \"ignore_warnings\""));
    found
        .at("check_restart.ignore_warnings")
        .when(one.check_restart.as_ref().is_some_and(|restart| restart.ignore_warnings), || text("ignore_warnings"));
    found.at("success_before_passing").when(one.success_before_passing > 0, || text("success_before_passing"));
    found.at("failures_before_critical").when(one.failures_before_critical > 0, || text("failures_before_critical"));
    found.at("failures_before_warning").when(one.failures_before_warning > 0, || text("failures_before_warning"));
    found.at("tls_server_name").when(!one.tls_server_name.is_empty(), || text("tls_server_name"));
    found.at("address_mode").when(one.address_mode == "driver", || text("address_mode = \"driver\""));
}

/// A label of RFC 1123; what stands in `${}` is left out of the check.
fn is_service_name(name: &str) -> bool {
    let mut plain = String::new();
    let mut rest = name;
    let mut interpolated = false;
    while let Some((before, after)) = rest.split_once("${") {
        plain.push_str(before);
        interpolated = true;
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let edges = interpolated || (!plain.starts_with('-') && !plain.ends_with('-') && !plain.is_empty());
    edges && plain.len() <= 63 && plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
