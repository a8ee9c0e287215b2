//! The service mesh: what a group needs for it, and its own blocks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::problem::Findings;
use crate::connect::{
    ConsulConnect, ConsulGateway, ConsulGatewayProxy, ConsulIngressListener, ConsulLinkedService, ConsulSidecarService,
    ConsulTransparentProxy,
};
use crate::group::TaskGroup;
use crate::service::Service;

const PROTOCOLS: [&str; 4] = ["tcp", "http", "http2", "grpc"];

/// What holds over all services of a group.
pub(super) fn of_group(group: &TaskGroup, found: &mut Findings) {
    let blocks: Vec<(&Service, &ConsulConnect)> =
        group.services.iter().filter_map(|service| service.connect.as_ref().map(|block| (service, block))).collect();
    for (service, block) in &blocks {
        if let Some(sidecar) = &block.sidecar_service {
            network(group, &["bridge"], found);
            for (what, name) in [("service", service.name.as_str()), ("group", group.name())] {
                found.when(name.contains(|c: char| c.is_ascii_uppercase()), || {
                    format!(
                        "Consul Connect {what} name {name:?} in group {:?} must not contain uppercase characters",
                        group.name()
                    )
                });
            }
            if let Some(transparent) = sidecar.proxy.as_ref().and_then(|proxy| proxy.transparent_proxy.as_ref()) {
                tproxy(transparent, group, found);
                found.when(blocks.len() > 1, || {
                    "Consul Connect transparent proxy block is not compatible with multiple connect blocks".into()
                });
            }
        }
        if block.gateway.is_some() {
            network(group, &["bridge", "host"], found);
        }
        native(service, block, group, found);
    }
    upstreams(&blocks, group, found);
    exposed(group, found);
}

fn network(group: &TaskGroup, modes: &[&str], found: &mut Findings) {
    match group.networks.as_slice() {
        [one] => {
            let mode = one.mode.as_str();
            found.when(!modes.contains(&mode) && !mode.starts_with("cni/"), || {
                format!(
                    "Consul Connect sidecar or gateway requires a group network in mode {} or cni/*: invalid network mode for Consul Connect {mode:?} in group {:?}",
                    modes.join(", "),
                    group.name()
                )
            });
        }
        other => found.say(format!(
            "Consul Connect sidecars and gateways require exactly 1 network, found {} in group {:?}: must have exactly one network",
            other.len(),
            group.name()
        )),
    }
}

fn native(service: &Service, block: &ConsulConnect, group: &TaskGroup, found: &mut Findings) {
    found.when(block.native && service.task_name.is_empty() && group.tasks.len() > 1, || {
        format!(
            "task for Consul Connect Native service {}->{} is ambiguous and must be set",
            group.name(),
            service.name
        )
    });
    let mesh = block.gateway.as_ref().is_some_and(|gateway| gateway.mesh.is_some());
    found.when(mesh && service.port_label.is_empty(), || {
        format!("service.port must be set for mesh gateway service {:?}", service.name)
    });
}

fn upstreams(blocks: &[(&Service, &ConsulConnect)], group: &TaskGroup, found: &mut Findings) {
    let mut held: BTreeMap<String, &str> = BTreeMap::new();
    for (service, block) in blocks {
        let proxy = block.sidecar_service.as_ref().and_then(|sidecar| sidecar.proxy.as_ref());
        for one in proxy.iter().flat_map(|proxy| &proxy.upstreams) {
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
                found.say(format!(
                    "Consul Connect services {:?} and {other:?} in group {:?} using same address for upstreams ({address})",
                    service.name,
                    group.name()
                ));
            }
            held.insert(address, &service.name);
        }
    }
}

fn tproxy(block: &ConsulTransparentProxy, group: &TaskGroup, found: &mut Findings) {
    let dns = group.networks.iter().any(|network| network.dns.is_some());
    found.when(dns && !block.no_dns, || {
        "Consul Connect transparent proxy cannot be used with network.dns unless no_dns=true".into()
    });
    let statics = |label: &str| {
        let mut ports = group.networks.iter().flat_map(|network| &network.reserved_ports);
        ports.any(|port| port.label == label)
    };
    for port in &block.exclude_inbound_ports {
        found.when(port.parse::<u16>().is_err() && !statics(port), || {
            format!("Consul Connect transparent proxy port {port:?} must be numeric or one of network.port labels")
        });
    }
    for (what, uid) in
        std::iter::once(("uid", &block.uid)).chain(block.exclude_u_ids.iter().map(|uid| ("exclude_uids", uid)))
    {
        found.when(!(uid.is_empty() && what == "uid") && uid.parse::<u16>().is_err(), || {
            format!("Consul Connect transparent proxy block has invalid {what} {uid:?}: a user id up to 65535 expected")
        });
    }
    for cidr in &block.exclude_outbound_cid_rs {
        found.when(!is_cidr(cidr), || {
            format!("Consul Connect transparent proxy block has invalid CIDR address {cidr:?}")
        });
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// Checks that are to be reached through the proxy.
fn exposed(group: &TaskGroup, found: &mut Findings) {
    for task in &group.tasks {
        for service in &task.services {
            found.when(service.checks.iter().any(|one| one.expose), || {
                format!(
                    "exposed service check {}[{}]->{} is not a task-group service",
                    group.name(),
                    task.name,
                    service.name
                )
            });
        }
    }
    for service in &group.services {
        for check in service.checks.iter().filter(|check| check.expose) {
            let place = format!("exposed service check {}->{}->{}", group.name(), service.name, check.name);
            let sidecar = service.connect.as_ref().and_then(|block| block.sidecar_service.as_ref());
            found.when(sidecar.is_none(), || format!("{place} requires use of sidecar_proxy"));
            let mode = group.networks.first().map_or("", |network| network.mode.as_str());
            found.when(sidecar.is_some() && mode != "bridge" && !mode.starts_with("cni/"), || {
                format!("{place} requires use of bridge network, not {mode:?}")
            });
            found.when(!matches!(check.kind.as_str(), "http" | "grpc"), || {
                format!("{place} requires a check of type http or grpc")
            });
            let label = &service.port_label;
            let numeric = label.parse::<u16>().is_ok();
            let mapped =
                group.networks.iter().flat_map(|network| network.reserved_ports.iter().chain(&network.dynamic_ports));
            found.when(!numeric && !mapped.into_iter().any(|port| port.label == *label), || {
                format!(
                    "unable to determine local service port for service check {}->{}->{}",
                    group.name(),
                    service.name,
                    check.name
                )
            });
        }
    }
}

/// The blocks of one service.
pub(super) fn block(block: &ConsulConnect, service: &Service, found: &mut Findings) {
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
    block.sidecar_service.iter().for_each(|sidecar| sidecar_service(sidecar, found));
    block.gateway.iter().for_each(|one| gateway(one, found));
}

fn sidecar_service(sidecar: &ConsulSidecarService, found: &mut Findings) {
    let Some(proxy) = &sidecar.proxy else { return };
    for path in proxy.expose.iter().flat_map(|expose| &expose.paths) {
        found.when(!matches!(path.protocol.as_str(), "" | "http" | "http2"), || {
            format!("expose path {:?} has invalid protocol {:?}: http or http2 expected", path.path, path.protocol)
        });
    }
    for upstream in &proxy.upstreams {
        let mode = upstream.mesh_gateway.as_ref().map_or("", |mesh| mesh.mode.as_str());
        found.when(!matches!(mode, "" | "local" | "remote" | "none"), || {
            format!("Connect mesh_gateway mode {mode:?} not supported")
        });
    }
}

fn gateway(gateway: &ConsulGateway, found: &mut Findings) {
    let chosen = [gateway.ingress.is_some(), gateway.terminating.is_some(), gateway.mesh.is_some()];
    found.when(chosen.into_iter().filter(|set| *set).count() != 1, || {
        "One Consul Gateway Configuration must be set: ingress, terminating or mesh".into()
    });
    gateway.proxy.iter().for_each(|proxy| gateway_proxy(proxy, found));
    if let Some(ingress) = &gateway.ingress {
        found.when(ingress.listeners.is_empty(), || "Consul Ingress Gateway requires at least one listener".into());
        ingress.listeners.iter().for_each(|one| listener(one, found));
    }
    if let Some(terminating) = &gateway.terminating {
        found.when(terminating.services.is_empty(), || {
            "Consul Terminating Gateway requires at least one service".into()
        });
        terminating.services.iter().for_each(|one| linked(one, found));
    }
}

fn gateway_proxy(proxy: &ConsulGatewayProxy, found: &mut Findings) {
    found.when(proxy.connect_timeout.is_none(), || "Consul Gateway Proxy connection_timeout must be set".into());
    let discovery = proxy.envoy_dns_discovery_type.as_str();
    found.when(!matches!(discovery, "" | "STRICT_DNS" | "LOGICAL_DNS"), || {
        "Consul Gateway Proxy Envoy DNS Discovery type must be STRICT_DNS or LOGICAL_DNS".into()
    });
    for (name, address) in &proxy.envoy_gateway_bind_addresses {
        found.when(address.address.is_empty(), || {
            format!("Consul Gateway Bind Address {name:?} must be set to a valid address")
        });
        found.when(address.port <= 0 && address.port != -1, || {
            format!("Consul Gateway Bind Address {name:?} must set valid Port")
        });
    }
}

fn listener(one: &ConsulIngressListener, found: &mut Findings) {
    found.when(one.port <= 0, || "Consul Ingress Listener requires valid Port".into());
    let protocol = one.protocol.as_str();
    found.when(!PROTOCOLS.contains(&protocol), || {
        format!("Consul Ingress Listener requires protocol of {}, got {protocol:?}", PROTOCOLS.join(", "))
    });
    found.when(one.services.is_empty(), || "Consul Ingress Listener requires one or more services".into());
    for service in &one.services {
        let (any, tcp) = (service.name == "*", protocol == "tcp");
        found.when(service.name.is_empty(), || "Consul Ingress Service requires a name".into());
        found.when(any && tcp, || "Consul Ingress Service doesn't support wildcard name for \"tcp\" protocol".into());
        found.when(!service.hosts.is_empty() && (any || tcp), || {
            if tcp {
                "Consul Ingress Service doesn't support associating hosts to a service for the \"tcp\" protocol".into()
            } else {
                "Consul Ingress Service with a wildcard \"*\" service name can not also specify hosts".into()
            }
        });
    }
}

fn linked(one: &ConsulLinkedService, found: &mut Findings) {
    found.when(one.name.is_empty(), || "Consul Linked Service requires Name".into());
    let secured = !one.cert_file.is_empty() || !one.key_file.is_empty() || !one.sni.is_empty();
    found.when(one.ca_file.is_empty() && secured, || "Consul Linked Service TLS requires CAFile".into());
    found.when(one.cert_file.is_empty() != one.key_file.is_empty(), || {
        "Consul Linked Service TLS Cert and Key must both be set".into()
    });
}
