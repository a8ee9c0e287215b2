//! Host networks of this machine: which of its addresses each is, as the node tells them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::node::{HostNetworkInfo, NodeNetworkAddress, NodeNetworkResource};

/// Addresses of the host, by interface.
pub type Interfaces = BTreeMap<String, Vec<IpAddr>>;

/// Addresses of one network: each is looked at for each port.
const ADDRESSES_MAX: usize = 64;

/// The addresses of a network, [`ADDRESSES_MAX`] at most, each with its interface; those of IPv4 first. All of 127.0.0.0/8 is on the loopback
/// interface, though it lists one only: a single address of it is there when a range says so.
fn addresses<'a>(network: &HostNetworkInfo, interfaces: &'a Interfaces) -> Vec<(&'a str, IpAddr)> {
    let listed = interfaces.iter().flat_map(|(device, list)| list.iter().map(move |ip| (device.as_str(), *ip)));
    let mut found: Vec<(&str, IpAddr)> = listed.filter(|(device, ip)| network.has(device, *ip)).collect();
    let is_looped = |ip: &IpAddr| ip.is_ipv4() && ip.is_loopback();
    if let Some((device, _)) = interfaces.iter().find(|(_, list)| list.iter().any(is_looped)) {
        let single = network.ranges().filter_map(|range| range.single()).filter(is_looped);
        found.extend(single.filter(|ip| network.has(device, *ip)).map(|ip| (device.as_str(), ip)));
    }
    found.sort_by_key(|(_, ip)| ip.is_ipv6());
    found.truncate(ADDRESSES_MAX);
    found
}

/// Whether the network has an address here.
pub fn has(network: &HostNetworkInfo, interfaces: &Interfaces) -> bool {
    !addresses(network, interfaces).is_empty()
}

/// Adds the networks' addresses to a node's, each under its network's name: an address of several networks
/// stands there several times. `device` makes what is said of an interface that is not there yet.
pub fn add(
    node: &mut Vec<NodeNetworkResource>,
    networks: &[HostNetworkInfo],
    interfaces: &Interfaces,
    device: impl Fn(&str) -> NodeNetworkResource,
) {
    for network in networks {
        for (name, ip) in addresses(network, interfaces) {
            let at = node.iter().position(|one| one.mode == "host" && one.device == name).unwrap_or_else(|| {
                node.push(device(name));
                node.len() - 1
            });
            let mut address = address_of(ip, &network.name);
            address.reserved_ports.clone_from(&network.reserved_ports);
            if !node[at].addresses.contains(&address) {
                node[at].addresses.push(address);
            }
        }
    }
}

/// An address, as a node tells it.
pub fn address_of(ip: IpAddr, alias: &str) -> NodeNetworkAddress {
    NodeNetworkAddress {
        family: if ip.is_ipv6() { "ipv6" } else { "ipv4" }.to_owned(),
        alias: alias.to_owned(),
        address: ip.to_string(),
        ..NodeNetworkAddress::default()
    }
}

/// The networks that have no address on the node.
pub fn missing(node: &model::Node) -> impl Iterator<Item = &str> {
    let has = |name: &str| {
        let networks = node.node_resources.iter().flat_map(|resources| &resources.node_networks);
        networks.flat_map(|network| &network.addresses).any(|address| address.alias == name)
    };
    node.host_networks.keys().map(String::as_str).filter(move |name| !has(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::host_network::DEFAULT;

    fn interfaces() -> Interfaces {
        let list = [
            ("eth0", &["fe80::1", "2001:db8::5", "203.0.113.5"] as &[&str]),
            ("eth1", &["10.1.0.5", "10.1.0.6"]),
            ("lo", &["127.0.0.1", "::1"]),
        ];
        list.iter()
            .map(|(name, ips)| ((*name).to_owned(), ips.iter().map(|ip| ip.parse().unwrap()).collect()))
            .collect()
    }

    fn network(name: &str, cidr: &str, interface: &str) -> HostNetworkInfo {
        let (cidr, interface) = (cidr.to_owned(), interface.to_owned());
        HostNetworkInfo { name: name.into(), cidr, interface, ..HostNetworkInfo::default() }
    }

    /// What a node tells that has `eth1` by default, as `interface alias address`.
    fn told(networks: &[HostNetworkInfo]) -> Vec<String> {
        let device = |name: &str| NodeNetworkResource {
            mode: "host".into(),
            device: name.into(),
            speed: 7,
            ..NodeNetworkResource::default()
        };
        let mut node = vec![device("eth1")];
        node[0].addresses.push(address_of("10.1.0.5".parse().unwrap(), DEFAULT));
        add(&mut node, networks, &interfaces(), device);
        assert!(node.iter().all(|one| one.mode == "host" && one.speed == 7));
        let line =
            |one: &NodeNetworkResource, a: &NodeNetworkAddress| format!("{} {} {}", one.device, a.alias, a.address);
        node.iter().flat_map(|one| one.addresses.iter().map(move |a| line(one, a))).collect()
    }

    #[test]
    fn a_node_without_host_networks_tells_what_it_told() {
        assert_eq!(told(&[]), ["eth1 default 10.1.0.5"]);
    }

    #[test]
    fn a_network_is_the_addresses_that_its_range_and_interface_name_network_03() {
        for (cidr, interface, expected) in [
            ("10.1.0.0/24", "", &["eth1 x 10.1.0.5", "eth1 x 10.1.0.6"] as &[&str]),
            ("10.1.0.6/32", "", &["eth1 x 10.1.0.6"]),
            ("0.0.0.0/0", "eth0", &["eth0 x 203.0.113.5"]),
            ("", "eth0", &["eth0 x 203.0.113.5", "eth0 x 2001:db8::5"]),
            ("fe80::/10", "", &["eth0 x fe80::1"]),
            ("203.0.113.0/24,127.0.0.0/8", "", &["eth0 x 203.0.113.5", "lo x 127.0.0.1"]),
            ("127.0.0.2/32,127.0.0.1/32,127.0.0.2/32", "", &["lo x 127.0.0.1", "lo x 127.0.0.2"]),
            ("127.0.0.2/32", "eth0", &[]),
            ("192.168.0.0/16", "", &[]),
            ("", "wg0", &[]),
        ] {
            assert_eq!(told(&[network("x", cidr, interface)])[1..], *expected, "{cidr} {interface}");
        }
    }

    #[test]
    fn an_address_of_two_networks_stands_there_twice_each_with_its_own_ports() {
        let mut kept = network("public", "", "eth1");
        kept.reserved_ports = "22".into();
        let mut node = Vec::new();
        let device =
            |name: &str| NodeNetworkResource { mode: "host".into(), device: name.into(), ..Default::default() };
        add(&mut node, &[network("all", "10.0.0.0/8", ""), kept], &interfaces(), device);
        let said: Vec<_> = node[0]
            .addresses
            .iter()
            .map(|a| (a.alias.as_str(), a.address.as_str(), a.reserved_ports.as_str()))
            .collect();
        let expected = [
            ("all", "10.1.0.5", ""),
            ("all", "10.1.0.6", ""),
            ("public", "10.1.0.5", "22"),
            ("public", "10.1.0.6", "22"),
        ];
        assert_eq!((said.as_slice(), node.len()), (expected.as_slice(), 1));
    }

    #[test]
    fn a_network_without_an_address_is_missing() {
        let (here, gone) = (network("here", "", "lo"), network("gone", "", "wg0"));
        let mut resources = model::node::NodeResources::default();
        let device =
            |name: &str| NodeNetworkResource { mode: "host".into(), device: name.into(), ..Default::default() };
        add(&mut resources.node_networks, &[here.clone(), gone.clone()], &interfaces(), device);
        let host_networks = [here, gone].map(|one| (one.name.clone(), one)).into_iter().collect();
        let node = model::Node { node_resources: Some(resources), host_networks, ..model::Node::default() };
        assert_eq!(missing(&node).collect::<Vec<_>>(), ["gone"]);
    }
}
