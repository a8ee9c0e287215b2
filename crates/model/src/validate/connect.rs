//! The service mesh: what a group needs for it, and its own blocks.

use std::collections::BTreeMap;

use super::problem::{Findings, labelled};
use crate::connect::{
    ConsulConnect, ConsulGateway, ConsulGatewayProxy, ConsulIngressListener, ConsulLinkedService, ConsulSidecarService,
    ConsulTransparentProxy,
};
use crate::group::TaskGroup;
use crate::host_network::Cidr;
use crate::service::Service;

const PROTOCOLS: [&str; 4] = ["tcp", "http", "http2", "grpc"];

/// What holds over all services of a group.
pub(super) fn of_group(group: &TaskGroup, found: &mut Findings) {
    let services = group.services.iter().enumerate();
    let blocks: Vec<(usize, &Service, &ConsulConnect)> =
        services.filter_map(|(i, service)| Some((i, service, service.connect.as_ref()?))).collect();
    for (i, service, block) in &blocks {
        if let Some(sidecar) = &block.sidecar_service {
            network(group, &["bridge"], found);
            for (what, name) in [("service", service.name.as_str()), ("group", group.name())] {
                let place = if what == "group" { String::new() } else { format!("service[{i}].name") };
                found.at(place).when(name.contains(|c: char| c.is_ascii_uppercase()), || {
                    format!(
                        "Consul Connect {what} name {name:?} in group {:?} must not contain uppercase characters",
                        group.name()
                    )
                });
            }
            if let Some(transparent) = sidecar.proxy.as_ref().and_then(|proxy| proxy.transparent_proxy.as_ref()) {
                let place = format!("service[{i}].connect.sidecar_service.proxy.transparent_proxy");
                found.at(place.clone()).all(tproxy(transparent, group));
                found.at(place).when(blocks.len() > 1, || {
                    "Consul Connect transparent proxy block is not compatible with multiple connect blocks".into()
                });
            }
        }
        if block.gateway.is_some() {
            network(group, &["bridge", "host"], found);
        }
        native(*i, service, block, group, found);
    }
    upstreams(&blocks, group, found);
    exposed(group, found);
}

fn network(group: &TaskGroup, modes: &[&str], found: &mut Findings) {
    match group.networks.as_slice() {
        [one] => {
            let mode = one.mode.as_str();
            found.at("network[0].mode").when(!modes.contains(&mode) && !mode.starts_with("cni/"), || {
                format!(
                    "Consul Connect sidecar or gateway requires a group network in mode {} or cni/*: invalid network mode for Consul Connect {mode:?} in group {:?}",
                    modes.join(", "),
                    group.name()
                )
            });
        }
        other => found.at("network[1]").say(format!(
            "Consul Connect sidecars and gateways require exactly 1 network, found {} in group {:?}: must have exactly one network",
            other.len(),
            group.name()
        )),
    }
}

fn native(i: usize, service: &Service, block: &ConsulConnect, group: &TaskGroup, found: &mut Findings) {
    found.at(format!("service[{i}].task")).when(
        block.native && service.task_name.is_empty() && group.tasks.len() > 1,
        || {
            format!(
                "task for Consul Connect Native service {}->{} is ambiguous and must be set",
                group.name(),
                service.name
            )
        },
    );
    let mesh = block.gateway.as_ref().is_some_and(|gateway| gateway.mesh.is_some());
    found.at(format!("service[{i}].port")).when(mesh && service.port_label.is_empty(), || {
        format!("service.port must be set for mesh gateway service {:?}", service.name)
    });
}

fn upstreams(blocks: &[(usize, &Service, &ConsulConnect)], group: &TaskGroup, found: &mut Findings) {
    let mut held: BTreeMap<String, &str> = BTreeMap::new();
    for (i, service, block) in blocks {
        let proxy = block.sidecar_service.as_ref().and_then(|sidecar| sidecar.proxy.as_ref());
        for (nth, one) in proxy.iter().flat_map(|proxy| &proxy.upstreams).enumerate() {
            let address = match (one.local_bind_socket_path.as_str(), one.local_bind_address.as_str()) {
                ("", "") => format!("127.0.0.1:{}", one.local_bind_port),
                ("", address) => format!("{address}:{}", one.local_bind_port),
                (socket, _) => format!("unix:{socket}"),
            };
            // Without a port there is nothing to bind.
            if one.local_bind_port == 0 && one.local_bind_socket_path.is_empty() {
                continue;
            }
            if let Some(other) = held.get(&address) {
                let place = format!("service[{i}].connect.sidecar_service.proxy.upstreams[{nth}]");
                found.at(place).say(format!(
                    "Consul Connect services {:?} and {other:?} in group {:?} using same address for upstreams ({address})",
                    service.name,
                    group.name()
                ));
            }
            held.insert(address, &service.name);
        }
    }
}

fn tproxy(block: &ConsulTransparentProxy, group: &TaskGroup) -> Findings {
    let mut found = Findings::default();
    let dns = group.networks.iter().any(|network| network.dns.is_some());
    found.at("no_dns").when(dns && !block.no_dns, || {
        "Consul Connect transparent proxy cannot be used with network.dns unless no_dns=true".into()
    });
    let statics = |label: &str| {
        let mut ports = group.networks.iter().flat_map(|network| &network.reserved_ports);
        ports.any(|port| port.label == label)
    };
    for port in &block.exclude_inbound_ports {
        found.at("exclude_inbound_ports").when(port.parse::<u16>().is_err() && !statics(port), || {
            format!("Consul Connect transparent proxy port {port:?} must be numeric or one of network.port labels")
        });
    }
    for (what, uid) in
        std::iter::once(("uid", &block.uid)).chain(block.exclude_u_ids.iter().map(|uid| ("exclude_uids", uid)))
    {
        found.at(if what == "uid" { "uid" } else { "exclude_uids" }).when(
            !(uid.is_empty() && what == "uid") && uid.parse::<u16>().is_err(),
            || {
                format!(
                    "Consul Connect transparent proxy block has invalid {what} {uid:?}: a user id up to 65535 expected"
                )
            },
        );
    }
    for cidr in &block.exclude_outbound_cid_rs {
        found.at("exclude_outbound_cidrs").when(Cidr::parse(cidr).is_none(), || {
            format!("Consul Connect transparent proxy block has invalid CIDR address {cidr:?}")
        });
    }
    found
}

/// Checks that are to be reached through the proxy.
fn exposed(group: &TaskGroup, found: &mut Findings) {
    for task in &group.tasks {
        for (i, service) in task.services.iter().enumerate() {
            let at = service.checks.iter().position(|one| one.expose);
            let place = format!("{}.service[{i}].check[{}].expose", labelled("task", &task.name), at.unwrap_or(0));
            found.at(place).when(at.is_some(), || {
                format!(
                    "exposed service check {}[{}]->{} is not a task-group service",
                    group.name(),
                    task.name,
                    service.name
                )
            });
        }
    }
    for (i, service) in group.services.iter().enumerate() {
        for (nth, check) in service.checks.iter().enumerate().filter(|(_, check)| check.expose) {
            let path = format!("service[{i}].check[{nth}].expose");
            let place = format!("exposed service check {}->{}->{}", group.name(), service.name, check.name);
            let sidecar = service.connect.as_ref().and_then(|block| block.sidecar_service.as_ref());
            found.at(path.clone()).when(sidecar.is_none(), || format!("{place} requires use of sidecar_proxy"));
            let mode = group.networks.first().map_or("", |network| network.mode.as_str());
            found
                .at("network[0].mode")
                .when(sidecar.is_some() && mode != "bridge" && !mode.starts_with("cni/"), || {
                    format!("{place} requires use of bridge network, not {mode:?}")
                });
            found
                .at(format!("service[{i}].check[{nth}].type"))
                .when(!matches!(check.kind.as_str(), "http" | "grpc"), || {
                    format!("{place} requires a check of type http or grpc")
                });
            let label = &service.port_label;
            let numeric = label.parse::<u16>().is_ok();
            let mapped =
                group.networks.iter().flat_map(|network| network.reserved_ports.iter().chain(&network.dynamic_ports));
            found.at(format!("service[{i}].port")).when(
                !numeric && !mapped.into_iter().any(|port| port.label == *label),
                || {
                    format!(
                        "unable to determine local service port for service check {}->{}->{}",
                        group.name(),
                        service.name,
                        check.name
                    )
                },
            );
        }
    }
}

/// The blocks of one service.
pub(super) fn block(block: &ConsulConnect, service: &Service) -> Findings {
    let mut found = Findings::default();
    let chosen = [block.native, block.sidecar_service.is_some(), block.gateway.is_some()];
    found.when(chosen.into_iter().filter(|set| *set).count() != 1, || {
        "Consul Connect must be exclusively native, make use of a sidecar, or represent a Gateway".into()
    });
    found.when(block.native && service.port_label.is_empty(), || {
        format!("Service {} is Connect Native and requires setting the port", service.name)
    });
    let sidecar = block.sidecar_service.is_some();
    found.when(sidecar && service.checks.iter().any(|one| one.kind.eq_ignore_ascii_case("tcp") && !one.expose), || {
        format!("Service {}: tcp checks are not valid for Connect enabled services", service.name)
    });
    if let Some(sidecar) = &block.sidecar_service {
        found.at("sidecar_service").all(sidecar_service(sidecar));
    }
    if let Some(one) = &block.gateway {
        found.at("gateway").all(gateway(one));
    }
    found
}

fn sidecar_service(sidecar: &ConsulSidecarService) -> Findings {
    let mut found = Findings::default();
    let Some(proxy) = &sidecar.proxy else { return found };
    for (i, path) in proxy.expose.iter().flat_map(|expose| &expose.paths).enumerate() {
        found
            .at(format!("proxy.expose.path[{i}].protocol"))
            .when(!matches!(path.protocol.as_str(), "" | "http" | "http2"), || {
                format!("expose path {:?} has invalid protocol {:?}: http or http2 expected", path.path, path.protocol)
            });
    }
    for (i, upstream) in proxy.upstreams.iter().enumerate() {
        let mode = upstream.mesh_gateway.as_ref().map_or("", |mesh| mesh.mode.as_str());
        let place = format!("proxy.upstreams[{i}].mesh_gateway.mode");
        found.at(place).unless_known(mode, &["", "local", "remote", "none"], || {
            format!("Connect mesh_gateway mode {mode:?} not supported")
        });
    }
    found
}

fn gateway(gateway: &ConsulGateway) -> Findings {
    let mut found = Findings::default();
    let chosen = [gateway.ingress.is_some(), gateway.terminating.is_some(), gateway.mesh.is_some()];
    found.when(chosen.into_iter().filter(|set| *set).count() != 1, || {
        "One Consul Gateway Configuration must be set: ingress, terminating or mesh".into()
    });
    if let Some(proxy) = &gateway.proxy {
        found.at("proxy").all(gateway_proxy(proxy));
    }
    if let Some(ingress) = &gateway.ingress {
        found
            .at("ingress")
            .when(ingress.listeners.is_empty(), || "Consul Ingress Gateway requires at least one listener".into());
        for (i, one) in ingress.listeners.iter().enumerate() {
            found.at(format!("ingress.listener[{i}]")).all(listener(one));
        }
    }
    if let Some(terminating) = &gateway.terminating {
        found.at("terminating").when(terminating.services.is_empty(), || {
            "Consul Terminating Gateway requires at least one service".into()
        });
        for (i, one) in terminating.services.iter().enumerate() {
            found.at(format!("terminating.service[{i}]")).all(linked(one));
        }
    }
    found
}

fn gateway_proxy(proxy: &ConsulGatewayProxy) -> Findings {
    let mut found = Findings::default();
    found
        .at("connect_timeout")
        .when(proxy.connect_timeout.is_none(), || "Consul Gateway Proxy connection_timeout must be set".into());
    let discovery = proxy.envoy_dns_discovery_type.as_str();
    found.at("envoy_dns_discovery_type").when(!matches!(discovery, "" | "STRICT_DNS" | "LOGICAL_DNS"), || {
        "Consul Gateway Proxy Envoy DNS Discovery type must be STRICT_DNS or LOGICAL_DNS".into()
    });
    for (name, address) in &proxy.envoy_gateway_bind_addresses {
        let path = labelled("envoy_gateway_bind_addresses", name);
        found.at(format!("{path}.address")).when(address.address.is_empty(), || {
            format!("Consul Gateway Bind Address {name:?} must be set to a valid address")
        });
        found.at(format!("{path}.port")).when(address.port <= 0 && address.port != -1, || {
            format!("Consul Gateway Bind Address {name:?} must set valid Port")
        });
    }
    found
}

fn listener(one: &ConsulIngressListener) -> Findings {
    let mut found = Findings::default();
    found.at("port").when(one.port <= 0, || "Consul Ingress Listener requires valid Port".into());
    let protocol = one.protocol.as_str();
    found.at("protocol").unless_known(protocol, &PROTOCOLS, || {
        format!("Consul Ingress Listener requires protocol of {}, got {protocol:?}", PROTOCOLS.join(", "))
    });
    found.when(one.services.is_empty(), || "Consul Ingress Listener requires one or more services".into());
    for (i, service) in one.services.iter().enumerate() {
        let path = format!("service[{i}]");
        let (any, tcp) = (service.name == "*", protocol == "tcp");
        found
            .at(format!("{path}.name"))
            .when(service.name.is_empty(), || "Consul Ingress Service requires a name".into());
        found
            .at(format!("{path}.name"))
            .when(any && tcp, || "Consul Ingress Service doesn't support wildcard name for \"tcp\" protocol".into());
        found.at(format!("{path}.hosts")).when(!service.hosts.is_empty() && (any || tcp), || {
            if tcp {
                "Consul Ingress Service doesn't support associating hosts to a service for the \"tcp\" protocol".into()
            } else {
                "Consul Ingress Service with a wildcard \"*\" service name can not also specify hosts".into()
            }
        });
    }
    found
}

fn linked(one: &ConsulLinkedService) -> Findings {
    let mut found = Findings::default();
    found.at("name").when(one.name.is_empty(), || "Consul Linked Service requires Name".into());
    let secured = !one.cert_file.is_empty() || !one.key_file.is_empty() || !one.sni.is_empty();
    found.at("ca_file").when(one.ca_file.is_empty() && secured, || "Consul Linked Service TLS requires CAFile".into());
    found.at("cert_file").when(one.cert_file.is_empty() != one.key_file.is_empty(), || {
        "Consul Linked Service TLS Cert and Key must both be set".into()
    });
    found
}
