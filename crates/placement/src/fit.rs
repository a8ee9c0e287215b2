//! The one fit rule: does an allocation go onto a node beside what is there? The scheduler asks it of
//! flat sums ([`crate::fleet`]) and the applier of rows ([`verify`]); both use what is defined here, so
//! they cannot disagree.
//!
//! An allocation holds its resources until its *node* says that it ended. One that was only asked to
//! stop still holds them, except against its own replacement in the same plan.

use std::collections::BTreeMap;

use model::alloc::{AllocatedResources, PortMapping};
use model::resources::NetworkResource;
use model::{Allocation, Node};

use crate::cores::{self, Core};
use crate::device::{DeviceIndex, Instance};
use crate::fleet::remove_all;
use crate::ports::{Claim, NoPort, NodePorts, Offered, PortAsk};
use crate::rng::Rng;

/// Why an allocation does not go onto a node. Its text is the key under which metrics count it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("max allocs exceeded")]
    MaxAllocs,
    #[error("cores")]
    Cores,
    /// Cores are free, and not near enough to each other or to the devices.
    #[error("numa-cores")]
    NumaCores,
    #[error("cpu")]
    Cpu,
    #[error("memory")]
    Memory,
    #[error("disk")]
    Disk,
    /// A port is taken, or none is left. The text begins with `network: `.
    #[error("{0}")]
    Network(String),
    /// The request, as the job names it.
    #[error("devices: {0}")]
    Devices(String),
}

/// The same without its text, for the loop that asks every node. Numbers are those of the ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Short {
    MaxAllocs,
    Cores,
    NumaCores,
    Cpu,
    Memory,
    Disk,
    Network(NoPort),
    Devices(u16),
}

/// Cpu (MHz), memory (MiB) and disk (MiB).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu: i64,
    pub memory: i64,
    pub disk: i64,
}

impl Amounts {
    pub(crate) fn add(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.disk = self.disk.saturating_add(other.disk);
    }

    pub(crate) fn sub(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_sub(other.cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        self.disk = self.disk.saturating_sub(other.disk);
    }

    /// Whether `self` more goes into what is left of `capacity`.
    pub(crate) fn fits(self, used: Self, capacity: Self) -> Result<(), Short> {
        let over = |ask: i64, used: i64, capacity: i64| ask.saturating_add(used) > capacity;
        match () {
            () if over(self.cpu, used.cpu, capacity.cpu) => Err(Short::Cpu),
            () if over(self.memory, used.memory, capacity.memory) => Err(Short::Memory),
            () if over(self.disk, used.disk, capacity.disk) => Err(Short::Disk),
            () => Ok(()),
        }
    }
}

/// What a node has to give: its total less what it keeps for itself.
pub(crate) fn capacity(node: &Node) -> Amounts {
    let Some(total) = &node.node_resources else { return Amounts::default() };
    let mut amounts = Amounts { cpu: total.cpu.cpu_shares, memory: total.memory.memory_mb, disk: total.disk.disk_mb };
    if let Some(own) = &node.reserved_resources {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        amounts.sub(Amounts {
            cpu: number(own.cpu.cpu_shares),
            memory: number(own.memory.memory_mb),
            disk: number(own.disk.disk_mb),
        });
    }
    amounts
}

/// Cores that tasks may have to themselves, ascending.
pub(crate) fn reservable(node: &Node) -> Vec<u16> {
    let Some(total) = &node.node_resources else { return Vec::new() };
    let own = node.reserved_resources.as_ref().map_or(&[][..], |r| &r.cpu.reserved_cpu_cores);
    let mut cores: Vec<u16> = total.cpu.reservable_cpu_cores.clone();
    cores.retain(|c| !own.contains(c));
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// MHz of one core.
pub(crate) fn core_mhz(node: &Node, core: u16) -> i64 {
    let Some(total) = &node.node_resources else { return 0 };
    let known = total.processors.topology.as_ref().and_then(|t| t.cores.iter().find(|c| c.id == core));
    let speed =
        known.map_or(0, |c| [c.max_speed, c.base_speed, c.guess_speed].into_iter().find(|s| *s > 0).unwrap_or(0));
    match i64::try_from(speed) {
        Ok(speed @ 1..) => speed,
        _ => total.cpu.cpu_shares / i64::from(total.cpu.total_cpu_cores.max(1)),
    }
}

/// What a node's row says of its ports, cores and devices, in a form that is quickly asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub ports: NodePorts,
    pub cores: Vec<Core>,
    pub devices: DeviceIndex,
}

impl Facts {
    pub(crate) fn of(node: &Node) -> Self {
        Self { ports: NodePorts::of(node), cores: cores::of_node(node), devices: DeviceIndex::of(node) }
    }
}

/// What one allocation holds on its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub amounts: Amounts,
    pub cores: Vec<u16>,
    pub claims: Vec<Claim>,
    pub devices: Vec<Instance>,
}

impl Held {
    pub(crate) fn of(alloc: &Allocation, facts: &Facts) -> Self {
        alloc.allocated_resources.as_ref().map(|resources| Self::of_resources(resources, facts)).unwrap_or_default()
    }

    pub(crate) fn of_resources(resources: &AllocatedResources, facts: &Facts) -> Self {
        let usage = resources.usage();
        let amounts = Amounts { cpu: usage.cpu_mhz, memory: usage.memory_mb, disk: usage.disk_mb };
        let devices = devices(resources, &facts.devices).flatten().collect();
        Self { amounts, cores: usage.cores, claims: claims(resources, &facts.ports), devices }
    }
}

/// The instances an allocation names; `None` for one that the node does not have.
fn devices<'a>(
    resources: &'a AllocatedResources,
    index: &'a DeviceIndex,
) -> impl Iterator<Item = Option<Instance>> + 'a {
    let given = resources.tasks.values().flat_map(|task| &task.devices);
    given.flat_map(move |d| d.device_ids.iter().map(move |id| index.find(&d.vendor, &d.kind, &d.name, id)))
}

fn claims(resources: &AllocatedResources, ports: &NodePorts) -> Vec<Claim> {
    let shared = &resources.shared;
    let shareable = |label: &str| {
        let reserved = shared.networks.iter().flat_map(|n| &n.reserved_ports);
        reserved.into_iter().any(|p| p.label == label && p.ignore_collision)
    };
    let claim = |ip: &str, value: i64| u16::try_from(value).ok().map(|port| ports.claim(ip, port));
    let group = shared.ports.iter().filter(|p| !shareable(&p.label)).filter_map(|p| claim(&p.host_ip, p.value));
    let networks = resources.tasks.values().flat_map(|t| &t.networks);
    let unmapped = shared.networks.iter().filter(|_| shared.ports.is_empty());
    let listed = networks.chain(unmapped).flat_map(|n| {
        let all = n.reserved_ports.iter().filter(|p| !p.ignore_collision).chain(&n.dynamic_ports);
        all.filter_map(|p| claim(&n.ip, p.value))
    });
    group.chain(listed).collect()
}

/// Whether `place` goes onto the node beside `existing`. Those of `existing` whose node said that they
/// ended do not count; leave out what the same plan stops.
///
/// # Errors
/// The first thing that is short.
pub fn verify<'a>(
    node: &Node,
    existing: impl Iterator<Item = &'a Allocation>,
    place: &[Allocation],
) -> Result<(), Misfit> {
    let facts = Facts::of(node);
    let mut all = Held::default();
    let mut count = 0_usize;
    for alloc in existing.filter(|a| a.occupies_node()) {
        let held = Held::of(alloc, &facts);
        count += 1;
        all.take(held);
    }
    verify_beside(node, &facts, all, count, place)
}

/// Whether `place` goes beside `count` allocations that hold `all` together.
pub(crate) fn verify_beside(
    node: &Node,
    facts: &Facts,
    mut all: Held,
    count: usize,
    place: &[Allocation],
) -> Result<(), Misfit> {
    let capacity = capacity(node);
    all.claims.sort_unstable();
    let most = usize::try_from(node.node_max_allocs).unwrap_or(0);
    if most > 0 && count + place.len() > most {
        return Err(Misfit::MaxAllocs);
    }
    for alloc in place {
        let held = Held::of(alloc, facts);
        if held.cores.iter().any(|c| all.cores.contains(c) || !facts.cores.iter().any(|core| core.id == *c)) {
            return Err(Misfit::Cores);
        }
        held.amounts.fits(all.amounts, capacity).map_err(Misfit::of_amount)?;
        for claim in &held.claims {
            if facts.ports.clashes(&all.claims, *claim) {
                return Err(Misfit::Network(format!("network: reserved port collision {}", claim.0)));
            }
        }
        if let Some(resources) = &alloc.allocated_resources {
            for (at, found) in devices(resources, &facts.devices).enumerate() {
                let twice = held.devices.iter().filter(|d| Some(**d) == found).count() > 1;
                let free = found.is_some_and(|d| facts.devices.works(d) && !all.devices.contains(&d));
                if twice || !free {
                    return Err(Misfit::Devices(format!("instance {} is taken or gone", at + 1)));
                }
            }
        }
        all.take(held);
        all.claims.sort_unstable();
    }
    Ok(())
}

impl Misfit {
    fn of_amount(short: Short) -> Self {
        match short {
            Short::Memory => Self::Memory,
            Short::Disk => Self::Disk,
            _ => Self::Cpu,
        }
    }
}

impl Held {
    /// What is left when `other` is given back; the lists are sorted.
    pub(crate) fn give(&mut self, other: &Self) {
        self.amounts.sub(other.amounts);
        remove_all(&mut self.claims, &other.claims);
        remove_all(&mut self.cores, &other.cores);
        remove_all(&mut self.devices, &other.devices);
    }

    pub(crate) fn take(&mut self, other: Self) {
        self.amounts.add(other.amounts);
        self.cores.extend(other.cores);
        self.claims.extend(other.claims);
        self.devices.extend(other.devices);
    }
}

/// Picks the dynamic ports of an allocation anew, because another plan took them first. Writes them into
/// the allocation and says which changed: (label, port).
///
/// # Errors
/// When no port is left, or a static one is taken.
pub fn repick_ports<'a>(
    node: &Node,
    existing: impl Iterator<Item = &'a Allocation>,
    alloc: &mut Allocation,
    seed: u64,
) -> Result<Vec<(String, u16)>, Misfit> {
    let facts = Facts::of(node);
    let ports = &facts.ports;
    let mut used: Vec<Claim> =
        existing.filter(|a| a.occupies_node()).flat_map(|a| Held::of(a, &facts).claims).collect();
    used.sort_unstable();
    let Some(resources) = alloc.allocated_resources.as_mut().map(std::sync::Arc::make_mut) else {
        return Ok(Vec::new());
    };
    let mut rng = Rng::new(seed);
    let mut changed = Vec::new();
    let task_networks = resources.tasks.values_mut().flat_map(|t| &mut t.networks);
    for network in resources.shared.networks.iter_mut().chain(task_networks) {
        let asks = PortAsk::of(network);
        let before: BTreeMap<String, i64> = network.dynamic_ports.iter().map(|p| (p.label.clone(), p.value)).collect();
        let offers =
            ports.offer(&used, &asks, node, &mut rng).map_err(|short| Misfit::Network(short.text(&asks, node)))?;
        // A dynamic port that is still free stays what it was.
        let mut kept: Vec<Offered> = Vec::with_capacity(offers.len());
        for mut offer in offers {
            if let Some(port) = before.get(&offer.label).and_then(|v| u16::try_from(*v).ok()).filter(|p| *p > 0) {
                let claim = ports.claim(&offer.host_ip, port);
                if !ports.clashes(&used, claim) && !kept.iter().any(|o| o.claim == claim) {
                    (offer.value, offer.claim) = (port, claim);
                }
            }
            kept.push(offer);
        }
        for offer in &kept {
            used.insert(used.partition_point(|c| *c <= offer.claim), offer.claim);
            let old = before.get(&offer.label).copied();
            if old.is_some_and(|old| old != i64::from(offer.value)) {
                changed.push((offer.label.clone(), offer.value));
            }
        }
        fill_network(network, &kept);
        for mapping in &mut resources.shared.ports {
            if let Some((offer, ask)) = kept.iter().zip(&asks).find(|(o, _)| o.label == mapping.label) {
                mapping.value = i64::from(offer.value);
                mapping.to = if ask.to == -1 { mapping.value } else { ask.to };
                mapping.host_ip.clone_from(&offer.host_ip);
            }
        }
    }
    Ok(changed)
}

/// Writes handed-out ports into the network block they were asked by.
pub(crate) fn fill_network(network: &mut NetworkResource, offers: &[Offered]) {
    for port in network.reserved_ports.iter_mut().chain(&mut network.dynamic_ports) {
        if let Some(offer) = offers.iter().find(|o| o.label == port.label) {
            port.value = i64::from(offer.value);
        }
    }
    if let Some(first) = offers.first() {
        network.ip.clone_from(&first.host_ip);
    }
}

pub(crate) fn mappings(offers: &[Offered]) -> Vec<PortMapping> {
    let mapping = |o: &Offered| PortMapping {
        label: o.label.clone(),
        value: i64::from(o.value),
        to: o.to,
        host_ip: o.host_ip.clone(),
    };
    offers.iter().map(mapping).collect()
}
