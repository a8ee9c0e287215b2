//! Ports of one node: which are free, and which to hand out.
//!
//! A node has addresses, each of which belongs to one or more host networks. An allocation claims a
//! port on an address; a port of a host network is had on the first of its addresses where it is free.
//! The addresses of the default network are one in this: most programs bind them all, and so a port that
//! is taken on one of them is taken on each.
//!
//! Claims are a sorted multiset: two allocations may hold one port for a moment, while the one replaces
//! the other, and giving up one of the claims must leave the other.

use model::Node;
use model::host_network::DEFAULT as DEFAULT_NETWORK;
use model::resources::{NetworkResource, Port};

use crate::constraint::{Target, escapes};
use crate::rng::Rng;

const DYNAMIC_MIN: u16 = 20_000;
const DYNAMIC_MAX: u16 = 32_000;
/// Random tries before the range is scanned.
const DRAWS: usize = 20;
/// A claim whose address the node no longer has stands on all of them.
const ANY: u16 = u16::MAX;

/// A port on an address: (port, address).
pub(crate) type Claim = (u16, u16);

/// A port that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub label: String,
    pub value: u16,
    pub to: i64,
    pub host_ip: String,
    pub claim: Claim,
}

#[derive(Clone, Debug, Default)]
struct Address {
    ip: String,
    networks: Vec<String>,
    reserved: Vec<(u16, u16)>,
    /// One of the default network's.
    is_default: bool,
}

/// What a node's row says of its ports.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodePorts {
    addresses: Vec<Address>,
    reserved: Vec<(u16, u16)>,
    min: u16,
    max: u16,
    /// The node's own list of reserved ports cannot be read; nothing can be handed out safely.
    broken: bool,
}

impl NodePorts {
    pub(crate) fn of(node: &Node) -> Self {
        let mut ports = Self { min: DYNAMIC_MIN, max: DYNAMIC_MAX, ..Self::default() };
        let reserved = node.reserved_resources.as_ref().map(|r| r.networks.reserved_host_ports.as_str());
        ports.reserved = ports.ranges(reserved.unwrap_or(""));
        let Some(resources) = &node.node_resources else { return ports };
        if let Ok(min @ 1..) = u16::try_from(resources.min_dynamic_port) {
            ports.min = min;
        }
        if let Ok(max @ 1..) = u16::try_from(resources.max_dynamic_port) {
            ports.max = max;
        }
        for network in &resources.node_networks {
            for address in &network.addresses {
                let alias = if address.alias.is_empty() { DEFAULT_NETWORK } else { &address.alias };
                let own = ports.ranges(&address.reserved_ports);
                ports.add_address(&address.address, alias, own);
            }
        }
        if ports.addresses.is_empty() {
            for network in resources.networks.iter().filter(|n| !n.ip.is_empty()) {
                ports.add_address(&network.ip, DEFAULT_NETWORK, Vec::new());
            }
        }
        ports
    }

    fn add_address(&mut self, ip: &str, alias: &str, reserved: Vec<(u16, u16)>) {
        let at = self.addresses.iter().position(|a| a.ip == ip).unwrap_or_else(|| {
            self.addresses.push(Address { ip: ip.to_owned(), ..Address::default() });
            self.addresses.len() - 1
        });
        let address = &mut self.addresses[at];
        address.is_default |= alias == DEFAULT_NETWORK;
        address.networks.push(alias.to_owned());
        address.reserved.extend(reserved);
    }

    fn ranges(&mut self, text: &str) -> Vec<(u16, u16)> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            match (from.trim().parse(), to.trim().parse()) {
                (Ok(from), Ok(to)) if from <= to => ranges.push((from, to)),
                _ => self.broken = true,
            }
        }
        ranges
    }

    pub(crate) fn has_network(&self, name: &str) -> bool {
        self.addresses.iter().any(|a| a.networks.iter().any(|n| n == name))
    }

    /// The names of its host networks, in the order of addresses.
    pub(crate) fn networks(&self) -> impl Iterator<Item = &str> {
        self.addresses.iter().flat_map(|a| a.networks.iter().map(String::as_str))
    }

    /// The claim that a recorded port makes here.
    pub(crate) fn claim(&self, host_ip: &str, port: u16) -> Claim {
        let at = self.addresses.iter().position(|a| a.ip == host_ip);
        (port, at.and_then(|i| u16::try_from(i).ok()).unwrap_or(ANY))
    }

    fn on<'a>(&'a self, network: &'a str) -> impl Iterator<Item = (u16, &'a Address)> {
        (0u16..).zip(&self.addresses).filter(move |(_, a)| a.networks.iter().any(|n| n == network))
    }

    /// Whether a port can be had on that address.
    fn is_free(&self, used: &[Claim], at: u16, port: u16) -> bool {
        let from = used.partition_point(|c| c.0 < port);
        let mut claims = used[from..].iter().take_while(|c| c.0 == port);
        !self.is_reserved(at, port) && !claims.any(|c| self.is_same(c.1, at))
    }

    fn is_reserved(&self, at: u16, port: u16) -> bool {
        let within = |ranges: &[(u16, u16)]| ranges.iter().any(|&(from, to)| from <= port && port <= to);
        let mut same = (0u16..).zip(&self.addresses).filter(|(other, _)| self.is_same(*other, at));
        within(&self.reserved) || same.any(|(_, address)| within(&address.reserved))
    }

    /// Whether a port that is taken on one of the addresses is taken on the other.
    fn is_same(&self, one: u16, other: u16) -> bool {
        let is_default = |at: u16| self.addresses.get(usize::from(at)).is_some_and(|address| address.is_default);
        one == other || one == ANY || other == ANY || (is_default(one) && is_default(other))
    }

    /// Whether a claim of one more allocation clashes with what is there.
    pub(crate) fn clashes(&self, used: &[Claim], claim: Claim) -> bool {
        let (port, at) = claim;
        // Nobody knows which ports were reserved on an address that is gone.
        if at == ANY { used.iter().any(|c| c.0 == port) } else { !self.is_free(used, at, port) }
    }

    /// The first address where a static port can be had.
    fn fixed(&self, used: &[Claim], now_used: &[Claim], ask: &PortAsk, port: u16, node: &Node) -> Option<u16> {
        let mine = |at| now_used.iter().any(|c| c.0 == port && self.is_same(c.1, at));
        let fits = |at: &u16| ask.ignore_collision || (self.is_free(used, *at, port) && !mine(*at));
        self.on(ask.network(node)).map(|(at, _)| at).find(fits)
    }

    /// Whether the ports asked for could be handed out.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn can_offer(&self, used: &[Claim], asks: &[PortAsk], node: &Node) -> Result<(), NoPort> {
        if self.broken && !asks.is_empty() {
            return Err(NoPort::Broken);
        }
        let (mut dynamic, mut now_used) = (0, Vec::new());
        for (at, ask) in (0u16..).zip(asks) {
            if self.on(ask.network(node)).next().is_none() {
                return Err(NoPort::NoAddress(at));
            }
            let Some(port) = ask.value else {
                dynamic += 1;
                continue;
            };
            let address = self.fixed(used, &now_used, ask, port, node).ok_or(NoPort::Taken(at))?;
            // Most groups ask for a port once, and then nothing need be kept in mind.
            if asks[usize::from(at) + 1..].iter().any(|later| later.value == Some(port)) {
                now_used.push((port, address));
            }
        }
        let room = usize::from(self.max.saturating_sub(self.min)) + 1;
        let reserved: usize = self.all_reserved().map(|(from, to)| usize::from(to - from) + 1).sum();
        if dynamic == 0 || room > used.len() + reserved + asks.len() {
            return Ok(());
        }
        self.offer(used, asks, node, &mut Rng::new(0)).map(|_| ())
    }

    fn all_reserved(&self) -> impl Iterator<Item = (u16, u16)> {
        self.reserved.iter().chain(self.addresses.iter().flat_map(|a| &a.reserved)).copied()
    }

    /// Picks the ports asked for: static ones as they are, dynamic ones at random from the range.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn offer(
        &self,
        used: &[Claim],
        asks: &[PortAsk],
        node: &Node,
        rng: &mut Rng,
    ) -> Result<Vec<Offered>, NoPort> {
        if self.broken && !asks.is_empty() {
            return Err(NoPort::Broken);
        }
        let mut offers: Vec<Option<Offered>> = vec![None; asks.len()];
        let mut now_used: Vec<Claim> = Vec::with_capacity(asks.len());
        for dynamic in [false, true] {
            let of_kind = (0u16..).zip(asks).zip(&mut offers).filter(|((_, a), _)| a.value.is_none() == dynamic);
            for ((at, ask), offer) in of_kind {
                let network = ask.network(node);
                if self.on(network).next().is_none() {
                    return Err(NoPort::NoAddress(at));
                }
                let mine = |port, at| now_used.iter().any(|c| c.0 == port && self.is_same(c.1, at));
                let (value, at) = if let Some(port) = ask.value {
                    (port, self.fixed(used, &now_used, ask, port, node).ok_or(NoPort::Taken(at))?)
                } else {
                    let mut picked = self.on(network).filter_map(|(at, _)| {
                        let free = |port| self.is_free(used, at, port) && !mine(port, at);
                        Some((self.pick(&free, rng)?, at))
                    });
                    picked.next().ok_or(NoPort::RangeFull)?
                };
                now_used.push((value, at));
                *offer = Some(Offered {
                    label: ask.label.clone(),
                    value,
                    to: if ask.to == -1 { i64::from(value) } else { ask.to },
                    host_ip: self.addresses[usize::from(at)].ip.clone(),
                    claim: (value, at),
                });
            }
        }
        Ok(offers.into_iter().flatten().collect())
    }

    /// Whether a static port that is asked for can be had as it is.
    pub(crate) fn has_free(&self, used: &[Claim], ask: &PortAsk, node: &Node) -> bool {
        ask.value.is_some_and(|port| self.fixed(used, &[], ask, port, node).is_some())
    }

    /// Who of `claims` stands in the way of a static port: on the first address where it is not reserved.
    pub(crate) fn stands_in_way(&self, claims: &[Claim], ask: &PortAsk, node: &Node) -> bool {
        let Some(port) = ask.value.filter(|_| !ask.ignore_collision) else { return false };
        let mut addresses = self.on(ask.network(node)).map(|(at, _)| at);
        let Some(at) = addresses.find(|at| !self.is_reserved(*at, port)) else { return false };
        claims.iter().any(|c| c.0 == port && self.is_same(c.1, at))
    }

    fn pick(&self, free: &dyn Fn(u16) -> bool, rng: &mut Rng) -> Option<u16> {
        let size = u64::from(self.max.checked_sub(self.min)?) + 1;
        let mut draw = || self.min + u16::try_from(rng.below(size)).unwrap_or(0);
        if let Some(port) = (0..DRAWS).map(|_| draw()).find(|port| free(*port)) {
            return Some(port);
        }
        let from = draw();
        (from..=self.max).chain(self.min..from).find(|port| free(*port))
    }
}

/// Why ports cannot be had; the number is that of the port asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoPort {
    Broken,
    NoAddress(u16),
    Taken(u16),
    RangeFull,
}

impl NoPort {
    /// A metric's key.
    pub(crate) fn text(self, asks: &[PortAsk], node: &Node) -> String {
        let ask = |at: u16| asks.get(usize::from(at));
        match self {
            Self::Broken => "network: invalid reserved ports".to_owned(),
            Self::NoAddress(at) => {
                let network = ask(at).map_or("", |ask| ask.network(node));
                format!("network: no addresses available for \"{network}\" network")
            }
            Self::Taken(at) => {
                let (label, port) = ask(at).map_or(("", 0), |ask| (ask.label.as_str(), ask.value.unwrap_or(0)));
                format!("network: reserved port collision {label}={port}")
            }
            Self::RangeFull => "network: dynamic port selection failed".to_owned(),
        }
    }

    /// True when the text depends on the node.
    pub(crate) fn is_of_node(self, asks: &[PortAsk]) -> bool {
        let named = |at: u16| asks.get(usize::from(at)).and_then(|ask| ask.host_network.as_ref());
        matches!(self, Self::NoAddress(at) if !matches!(named(at), None | Some(Target::Literal(_))))
    }
}

/// A port that a group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortAsk {
    pub label: String,
    /// `None` for a dynamic port.
    pub value: Option<u16>,
    pub to: i64,
    pub host_network: Option<Target>,
    /// The same, as it was written.
    pub host_network_text: String,
    pub ignore_collision: bool,
}

impl PortAsk {
    /// The ports of a network block. A static port outside 1..65535 can be had nowhere; it is asked for
    /// as port 0, which no node has free.
    pub(crate) fn of(network: &NetworkResource) -> Vec<Self> {
        let ask = |port: &Port, fixed: bool| Self {
            label: port.label.clone(),
            value: fixed.then(|| u16::try_from(port.value).unwrap_or(0)),
            to: port.to,
            host_network: match port.host_network.as_str() {
                "" | DEFAULT_NETWORK => None,
                name => Some(Target::parse(name)),
            },
            host_network_text: port.host_network.clone(),
            ignore_collision: port.ignore_collision,
        };
        let fixed = network.reserved_ports.iter().map(|p| ask(p, true));
        fixed.chain(network.dynamic_ports.iter().map(|p| ask(p, false))).collect()
    }

    /// Whether nodes of one class may differ in which host network that is.
    pub(crate) fn is_unique(&self) -> bool {
        escapes(&self.host_network_text)
    }

    /// Name of the host network on this node; empty when the node lacks what it is named by.
    pub(crate) fn network<'a>(&'a self, node: &'a Node) -> &'a str {
        match &self.host_network {
            None => DEFAULT_NETWORK,
            Some(target) => target.resolve(node).unwrap_or(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::node::{NodeNetworkAddress, NodeNetworkResource, NodeResources};

    fn node(reserved: &str) -> Node {
        node_at(reserved, &[("10.0.0.1", "default"), ("::1", "default"), ("9.9.9.9", "public")])
    }

    fn node_at(reserved: &str, addresses: &[(&str, &str)]) -> Node {
        let address = |ip: &str, alias: &str| NodeNetworkAddress {
            address: ip.into(),
            alias: alias.into(),
            ..NodeNetworkAddress::default()
        };
        let addresses = addresses.iter().map(|(ip, alias)| address(ip, alias)).collect();
        let network = NodeNetworkResource { mode: "host".into(), addresses, ..NodeNetworkResource::default() };
        let resources = NodeResources {
            node_networks: vec![network],
            min_dynamic_port: 100,
            max_dynamic_port: 103,
            ..NodeResources::default()
        };
        let mut node = Node { node_resources: Some(resources), ..Node::default() };
        let mut own = model::node::NodeReservedResources::default();
        own.networks.reserved_host_ports = reserved.into();
        node.reserved_resources = Some(own);
        node
    }

    fn ask(label: &str, value: Option<u16>, network: &str) -> PortAsk {
        let host_network = (!network.is_empty()).then(|| Target::parse(network));
        PortAsk {
            label: label.into(),
            value,
            to: -1,
            host_network,
            host_network_text: network.into(),
            ignore_collision: false,
        }
    }

    #[test]
    fn a_static_port_is_free_once_per_host_network() {
        let node = node("22");
        let ports = NodePorts::of(&node);
        let mut rng = Rng::new(1);
        let first = ports.offer(&[], &[ask("http", Some(8080), "")], &node, &mut rng).unwrap();
        assert_eq!((first[0].value, first[0].host_ip.as_str(), first[0].to), (8080, "10.0.0.1", 8080));
        let used = [first[0].claim];
        let asks = [ask("http", Some(8080), "")];
        let again = ports.offer(&used, &asks, &node, &mut rng).unwrap_err();
        assert_eq!(ports.can_offer(&used, &asks, &node), Err(again));
        assert_eq!(again.text(&asks, &node), "network: reserved port collision http=8080");
        assert!(ports.offer(&used, &[ask("http", Some(8080), "public")], &node, &mut rng).is_ok());
        assert!(ports.offer(&[], &[ask("ssh", Some(22), "")], &node, &mut rng).is_err());
        // rank-007
        let asks = [ask("x", None, "private")];
        let absent = ports.offer(&[], &asks, &node, &mut rng).unwrap_err();
        assert_eq!(absent.text(&asks, &node), "network: no addresses available for \"private\" network");
    }

    /// A named network's addresses are single ones; an address of two networks is one all the same.
    #[test]
    fn a_port_of_a_named_network_is_had_on_the_first_address_where_it_is_free() {
        let node = node_at(
            "",
            &[
                ("10.0.0.1", "default"),
                ("10.0.0.2", "lan"),
                ("10.0.0.3", "lan"),
                ("10.0.0.1", "all"),
                ("10.0.0.3", "all"),
            ],
        );
        let ports = NodePorts::of(&node);
        let mut used = Vec::new();
        let mut take = |network: &str| {
            let asks = [ask("http", Some(80), network)];
            let got = ports.offer(&used, &asks, &node, &mut Rng::new(1));
            assert_eq!(ports.can_offer(&used, &asks, &node), got.as_ref().map(|_| ()).map_err(|short| *short));
            let offered = got.ok()?.remove(0);
            assert!(!ports.clashes(&used, offered.claim), "what is offered is accepted");
            used.insert(used.partition_point(|c| *c <= offered.claim), offered.claim);
            Some(offered.host_ip)
        };
        for (network, ip) in [("lan", "10.0.0.2"), ("all", "10.0.0.1"), ("", ""), ("lan", "10.0.0.3"), ("all", "")] {
            assert_eq!(take(network).unwrap_or_default(), ip, "{network}");
        }
        // Both at once: the second one finds the address taken that the first one got.
        let twice = |first: &str, second: &str| {
            let asks = [ask("a", Some(80), first), ask("b", Some(80), second)];
            let got = ports.offer(&[], &asks, &node, &mut Rng::new(1));
            assert_eq!(ports.can_offer(&[], &asks, &node), got.as_ref().map(|_| ()).map_err(|short| *short));
            got.map(|offers| offers.into_iter().map(|o| o.host_ip).collect::<Vec<_>>()).unwrap_or_default()
        };
        assert_eq!(twice("", "all"), ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(twice("all", ""), Vec::<String>::new());
        // 100 to 103 are to be had on each.
        let asks: Vec<_> = (0..9).map(|n| ask(&format!("p{n}"), None, "lan")).collect();
        let got = ports.offer(&[], &asks[..8], &node, &mut Rng::new(1)).unwrap();
        assert_eq!(got.iter().filter(|o| o.host_ip == "10.0.0.3").count(), 4);
        assert_eq!(ports.can_offer(&[], &asks[..8], &node), Ok(()));
        assert_eq!(ports.can_offer(&[], &asks, &node), Err(NoPort::RangeFull));
    }

    #[test]
    fn what_a_host_network_reserves_is_kept_back_on_its_addresses_alone() {
        let mut node = node("");
        let resources = node.node_resources.as_mut().unwrap();
        resources.node_networks[0].addresses[2].reserved_ports = "100-102,8080".into();
        let ports = NodePorts::of(&node);
        let offer = |ask: PortAsk| ports.offer(&[], &[ask], &node, &mut Rng::new(1)).map(|mut offers| offers.remove(0));
        assert_eq!(offer(ask("a", Some(8080), "public")), Err(NoPort::Taken(0)));
        assert_eq!(offer(ask("a", None, "public")).unwrap().value, 103);
        assert_eq!(offer(ask("a", Some(8080), "")).unwrap().host_ip, "10.0.0.1");
    }

    #[test]
    fn dynamic_ports_come_from_the_range_until_it_is_full() {
        let node = node("101");
        let ports = NodePorts::of(&node);
        let asks: Vec<_> = ["a", "b"].iter().map(|l| ask(l, None, "")).collect();
        let got = ports.offer(&[(100, 0)], &asks, &node, &mut Rng::new(7)).unwrap();
        let mut values: Vec<_> = got.iter().map(|o| o.value).collect();
        values.sort_unstable();
        assert_eq!(values, [102, 103]);
        assert!(ports.can_offer(&[(100, 0)], &asks, &node).is_ok());
        let full = ports.can_offer(&[(100, 0), (102, 1)], &asks, &node).unwrap_err();
        assert_eq!(full.text(&asks, &node), "network: dynamic port selection failed");
    }

    /// covers: rank-006
    #[test]
    fn rank_006_a_node_whose_reserved_ports_cannot_be_read_gives_none() {
        let node = node("80-,x");
        let ports = NodePorts::of(&node);
        assert!(ports.can_offer(&[], &[ask("a", None, "")], &node).is_err());
        assert!(ports.can_offer(&[], &[], &node).is_ok());
    }
}
