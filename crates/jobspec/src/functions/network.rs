//! Address arithmetic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Context, Failure, Function, Outcome, Want, number, param, text, whole};
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[
    Function {
        name: "cidrhost",
        params: &[param("prefix", Want::Text), param("hostnum", Want::Number)],
        rest: None,
        body: cidrhost,
    },
    Function { name: "cidrnetmask", params: &[param("prefix", Want::Text)], rest: None, body: cidrnetmask },
    Function {
        name: "cidrsubnet",
        params: &[param("prefix", Want::Text), param("newbits", Want::Number), param("netnum", Want::Number)],
        rest: None,
        body: cidrsubnet,
    },
    Function {
        name: "cidrsubnets",
        params: &[param("prefix", Want::Text)],
        rest: Some(param("newbits", Want::Number)),
        body: cidrsubnets,
    },
];

/// A network: its address as a number, how many bits an address has, how many name the network.
#[derive(Clone, Copy)]
struct Network {
    address: u128,
    width: u32,
    prefix: u32,
}

impl Network {
    fn parse(args: &[Value]) -> Result<Self, Failure> {
        let given = text(args, 0);
        let invalid = || Failure::Argument(0, format!("invalid CIDR expression: invalid CIDR address: {given}"));
        let (address, prefix) = given.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let (address, width) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= width).ok_or_else(invalid)?;
        let network = Network { address, width, prefix };
        Ok(Network { address: address & network.mask(), ..network })
    }

    fn host_bits(self) -> u32 {
        self.width - self.prefix
    }

    fn mask(self) -> u128 {
        let all = u128::MAX >> (128 - self.width);
        all & !low_bits(self.host_bits())
    }

    fn show(self, address: u128) -> String {
        match u32::try_from(address) {
            Ok(small) if self.width == 32 => Ipv4Addr::from(small).to_string(),
            _ => Ipv6Addr::from(address).to_string(),
        }
    }

    fn subnet(self, newbits: u32, netnum: u128) -> Result<Network, String> {
        let prefix = self.prefix + newbits;
        if newbits > 32 {
            return Err("may not extend prefix by more than 32 bits".to_owned());
        }
        if prefix > self.width {
            return Err(format!("insufficient address space to extend prefix of {} by {newbits}", self.prefix));
        }
        if netnum > low_bits(newbits) {
            return Err(format!("prefix extension of {newbits} does not accommodate a subnet numbered {netnum}"));
        }
        let shift = self.width - prefix;
        let offset = if shift >= 128 { 0 } else { netnum << shift };
        Ok(Network { address: self.address | offset, prefix, ..self })
    }
}

fn low_bits(count: u32) -> u128 {
    if count >= 128 { u128::MAX } else { (1 << count) - 1 }
}

fn cidrhost(_: &Context<'_>, args: &[Value]) -> Outcome {
    let network = Network::parse(args)?;
    let wanted =
        number(args, 1).as_int().ok_or_else(|| Failure::Argument(1, "a whole number is required".to_owned()))?;
    let room = low_bits(network.host_bits());
    let host = if wanted < 0 {
        room.checked_sub(wanted.unsigned_abs() - 1)
    } else {
        Some(wanted.unsigned_abs()).filter(|host| *host <= room)
    };
    let host = host.ok_or_else(|| {
        Failure::Call(format!("prefix of {} does not accommodate a host numbered {wanted}", network.prefix))
    })?;
    Ok(Value::string(network.show(network.address | host)))
}

fn cidrnetmask(_: &Context<'_>, args: &[Value]) -> Outcome {
    let network = Network::parse(args)?;
    if network.width != 32 {
        return Err(Failure::Argument(0, "only IPv4 networks have a netmask".to_owned()));
    }
    Ok(Value::string(network.show(network.mask())))
}

fn newbits(args: &[Value], i: usize) -> Result<u32, Failure> {
    u32::try_from(whole(args, i)?)
        .ok()
        .filter(|bits| *bits <= 128)
        .ok_or_else(|| Failure::Argument(i, "must extend prefix by at least one bit, and by at most 32".to_owned()))
}

fn cidrsubnet(_: &Context<'_>, args: &[Value]) -> Outcome {
    let network = Network::parse(args)?;
    let netnum =
        u128::try_from(whole(args, 2)?).map_err(|_| Failure::Argument(2, "must not be negative".to_owned()))?;
    let subnet = network.subnet(newbits(args, 1)?, netnum).map_err(Failure::Call)?;
    Ok(Value::string(format!("{}/{}", subnet.show(subnet.address), subnet.prefix)))
}

fn cidrsubnets(_: &Context<'_>, args: &[Value]) -> Outcome {
    let network = Network::parse(args)?;
    let mut next = network.address;
    let mut full = false;
    let mut out = Vec::new();
    for i in 1..args.len() {
        let bits = newbits(args, i)?;
        if bits < 1 {
            return Err(Failure::Argument(i, "must extend prefix by at least one bit".to_owned()));
        }
        let size = network.subnet(bits, 0).map_err(|why| Failure::Argument(i, why))?;
        // Round up to a border of this size, then take one.
        let host = low_bits(size.host_bits());
        let start = next
            .checked_add(host)
            .map(|at| at & !host)
            .filter(|start| !full && start & network.mask() == network.address && *start >= network.address);
        let start = start.ok_or_else(|| {
            Failure::Call(format!(
                "not enough remaining address space for a subnet with a prefix of {} bits",
                size.prefix
            ))
        })?;
        out.push(format!("{}/{}", network.show(start), size.prefix));
        match (start | host).checked_add(1) {
            Some(at) => next = at,
            None => full = true,
        }
    }
    Ok(Value::strings(out))
}
