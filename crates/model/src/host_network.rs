//! Host networks of a node: addresses of its interfaces that ports are given on by name.
//!
//! The operator names ranges, an interface, or both; which addresses that are is found out on the node
//! ([`HostNetworkInfo::has`]). `default` is not configured: it is the interface tasks are reached at.

use std::net::IpAddr;

use crate::node::HostNetworkInfo;

/// The network of ports that name none.
pub const DEFAULT: &str = "default";
const NAME_BYTES_MAX: usize = 128;

/// A range of addresses, such as 10.0.0.0/8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub ip: IpAddr,
    /// How many leading bits are the network's.
    pub bits: u8,
}

impl Cidr {
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits): (IpAddr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
        (bits <= width(ip)).then_some(Self { ip, bits })
    }

    /// Whether the address is in the range; never one of the other family.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.ip.is_ipv4() == ip.is_ipv4() && self.prefix(self.ip) == self.prefix(ip)
    }

    /// The range's only address.
    pub fn single(&self) -> Option<IpAddr> {
        (self.bits == width(self.ip)).then_some(self.ip)
    }

    fn prefix(&self, ip: IpAddr) -> u128 {
        let number = match ip {
            IpAddr::V4(v4) => u32::from(v4).into(),
            IpAddr::V6(v6) => u128::from(v6),
        };
        number.checked_shr((width(ip) - self.bits).into()).unwrap_or(0)
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Reached over one link only, and not by its number alone.
pub fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Reads a list of ports and ranges of them, such as `22,8500-8600`.
///
/// # Errors
/// What is wrong with it.
pub fn check_ports(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    for item in text.split(',').map(str::trim) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => {}
            _ => return Err(format!("`{item}` is no port from 1 to 65535, and no range of them such as 8500-8600")),
        }
    }
    Ok(())
}

impl HostNetworkInfo {
    /// What is wrong with it: the key, and a sentence about it.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(letter) {
            return Some(("", "a name is letters, digits, `-`, `_` and `.`, at most 128".to_owned()));
        }
        if self.name == DEFAULT {
            return Some((
                "",
                "this one is the interface's that `network_interface` names, or of the default route".into(),
            ));
        }
        if self.cidr.is_empty() && self.interface.is_empty() {
            return Some(("", "it needs a cidr, an interface, or both".to_owned()));
        }
        if self.interface.contains("{{") {
            return Some(("interface", "it is the name of an interface; templates are not looked up here".to_owned()));
        }
        let wrong = self.parts().find(|text| Cidr::parse(text).is_none())?;
        Some(("cidr", format!("`{wrong}` is no range of addresses such as 10.0.0.0/8")))
    }

    fn parts(&self) -> impl Iterator<Item = &str> {
        self.cidr.split(',').map(str::trim).filter(|_| !self.cidr.is_empty())
    }

    /// Its ranges; none when only an interface is named.
    pub fn ranges(&self) -> impl Iterator<Item = Cidr> {
        self.parts().filter_map(Cidr::parse)
    }

    /// Whether an address of an interface belongs to it. A link-local one does only by a range of such.
    pub fn has(&self, interface: &str, ip: IpAddr) -> bool {
        let named = self.interface.is_empty() || self.interface == interface;
        let holds = |range: Cidr| range.has(ip) && (!is_link_local(ip) || is_link_local(range.ip));
        let within = if self.cidr.is_empty() { !is_link_local(ip) } else { self.ranges().any(holds) };
        named && within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(cidr: &str, interface: &str) -> HostNetworkInfo {
        let (cidr, interface) = (cidr.to_owned(), interface.to_owned());
        HostNetworkInfo { name: "public".into(), cidr, interface, ..HostNetworkInfo::default() }
    }

    #[test]
    fn a_range_has_the_addresses_of_its_prefix_and_family() {
        for (range, ip, has) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.7/32", "10.0.0.7", true),
            ("10.0.0.7/32", "10.0.0.6", false),
            ("10.1.2.3/16", "10.1.9.9", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fd00::1", true),
            ("fd00::/64", "fd00::ffff", true),
            ("fd00::/64", "fd00:0:0:1::1", false),
        ] {
            assert_eq!(Cidr::parse(range).unwrap().has(ip.parse().unwrap()), has, "{range} {ip}");
        }
        for bad in ["", "10.0.0.1", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/-1", "/8"] {
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ports_are_numbers_and_ranges() {
        for good in ["", " ", "22", "22,80, 8500-8600", "1-65535", "7-7"] {
            assert_eq!(check_ports(good), Ok(()), "{good}");
        }
        for bad in ["a-b", "0-99999,,zz", "22,", "0", "9-7", "1-2-3", "65536", "-1"] {
            assert!(check_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_belongs_when_the_interface_and_a_range_fit() {
        for (cidr, interface, device, ip, has) in [
            ("10.0.0.0/8,192.168.0.0/16", "", "eth0", "192.168.1.1", true),
            ("10.0.0.0/8, 192.168.0.0/16", "eth1", "eth0", "192.168.1.1", false),
            ("", "eth1", "eth1", "9.9.9.9", true),
            ("", "eth1", "eth1", "fe80::1", false),
            ("fe80::/10", "eth1", "eth1", "fe80::1", true),
            ("::/0", "", "veth1", "fe80::1", false),
            ("0.0.0.0/0", "", "eth1", "169.254.0.9", false),
            ("169.254.0.0/16", "", "eth1", "169.254.0.9", true),
            ("10.0.0.0/8", "eth1", "eth1", "9.9.9.9", false),
        ] {
            let network = network(cidr, interface);
            assert_eq!(network.problem(), None, "{cidr} {interface}");
            assert_eq!(network.has(device, ip.parse().unwrap()), has, "{cidr} {interface} {device} {ip}");
        }
    }

    #[test]
    fn what_names_no_addresses_is_told_by_its_key() {
        let named = |name: &str| HostNetworkInfo { name: name.into(), ..network("10.0.0.0/8", "") };
        for (network, key, words) in [
            (network("", ""), "", "needs a cidr"),
            (network("10.0.0.1", ""), "cidr", "`10.0.0.1` is no range"),
            (network("10.0.0.0/8,", ""), "cidr", "`` is no range"),
            (network("", "{{ GetDefaultInterfaces }}"), "interface", "templates"),
            (named("default"), "", "network_interface"),
            (named("a=b"), "", "a name is"),
            (named(""), "", "a name is"),
        ] {
            let (at, text) = network.problem().unwrap();
            assert!(at == key && text.contains(words), "{network:?}: {at} {text}");
        }
    }
}
