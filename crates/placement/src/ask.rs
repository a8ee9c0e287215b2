//! What one allocation of a group asks of a node, and how it gets it: cpu, memory, disk, cores, devices,
//! ports.

use model::TaskGroup;
use model::alloc::{
    AllocatedCpuResources, AllocatedDeviceResource, AllocatedMemoryResources, AllocatedResources,
    AllocatedTaskResources,
};
use model::resources::{NetworkResource, Resources};

use crate::cores::{CoreAsk, Hands, Table};
use crate::device::{DeviceAsk, Offer, Options};
use crate::fit::{Amounts, Held, Misfit, Short, fill_network, mappings};
use crate::fleet::{Hot, NodeRow};
use crate::ports::{NoPort, PortAsk};
use crate::rng::Rng;

/// The ask of a group, computed once.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Resources of an allocation as far as they do not depend on the node.
    template: AllocatedResources,
    pub amounts: Amounts,
    /// Tasks that want cores to themselves.
    pub cores: Vec<CoreAsk>,
    pub devices: Vec<DeviceAsk>,
    /// Sum of the weights of all device affinities, without their signs.
    device_weight: i64,
    /// Ports of each network block, the group's first and then those of tasks.
    ports: Vec<(Owner, Vec<PortAsk>)>,
    /// All of them in a row.
    pub all_ports: Vec<PortAsk>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Group(usize),
    Task(String, usize),
}

/// How a group would fit onto a node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fit {
    /// What would be in use there, and how much of that is for the group.
    pub used: Amounts,
    pub ask: Amounts,
    /// How well its devices are liked, from -1 to 1.
    pub devices: Option<f64>,
}

impl Ask {
    pub(crate) fn new(group: &TaskGroup, oversubscription: bool) -> Self {
        let mut template = AllocatedResources::default();
        template.shared.disk_mb = group.disk_mb().max(0);
        template.shared.networks = group.networks.iter().map(bare).collect();
        let cores = CoreAsk::all(group);
        let devices = DeviceAsk::all(group);
        let mut ports = Vec::new();
        for (at, network) in group.networks.iter().enumerate() {
            ports.push((Owner::Group(at), PortAsk::of(network)));
        }
        for task in &group.tasks {
            let resources = task.resources.as_ref();
            let reserves = cores.iter().any(|ask| ask.task == task.name);
            let networks = resources.map_or(&[][..], |r| &r.networks);
            for (at, network) in networks.iter().enumerate() {
                ports.push((Owner::Task(task.name.clone(), at), PortAsk::of(network)));
            }
            let cpu = AllocatedCpuResources {
                cpu_shares: if reserves { 0 } else { task.cpu_mhz().max(0) },
                ..AllocatedCpuResources::default()
            };
            let allocated = AllocatedTaskResources {
                cpu,
                memory: memory(task.memory_mb().max(0), resources, oversubscription),
                networks: networks.iter().map(bare).collect(),
                ..AllocatedTaskResources::default()
            };
            template.tasks.insert(task.name.clone(), allocated);
            template.task_lifecycles.insert(task.name.clone(), task.lifecycle.clone());
        }
        let usage = template.usage();
        let amounts = Amounts { cpu: usage.cpu_mhz, memory: usage.memory_mb, disk: usage.disk_mb };
        ports.retain(|(_, asks)| !asks.is_empty());
        let all_ports = ports.iter().flat_map(|(_, asks)| asks.iter().cloned()).collect();
        let device_weight = devices.iter().map(DeviceAsk::weight).fold(0, i64::saturating_add);
        Self { template, amounts, cores, devices, device_weight, ports, all_ports }
    }

    /// True when only amounts count, so that nothing but numbers need be looked at.
    pub(crate) fn is_plain(&self) -> bool {
        self.cores.is_empty() && self.devices.is_empty() && self.all_ports.is_empty()
    }

    /// Whether a node has room for one more.
    pub(crate) fn fits(&self, hot: &Hot, row: &NodeRow, options: &Options, hands: &mut Hands) -> Result<Fit, Short> {
        if hot.allocs_max > 0 && hot.allocs >= hot.allocs_max {
            return Err(Short::MaxAllocs);
        }
        let mut used = hot.used;
        if self.is_plain() {
            self.amounts.fits(hot.used, hot.capacity)?;
            used.add(self.amounts);
            return Ok(Fit { used, ask: self.amounts, devices: None });
        }
        let mut ask = self.amounts;
        // What needs no choice is asked first.
        ask.fits(hot.used, hot.capacity)?;
        row.facts.ports.can_offer(&row.claims, &self.all_ports, &row.node).map_err(Short::Network)?;
        let mut devices = None;
        if !(self.cores.is_empty() && self.devices.is_empty()) {
            self.choose(row, options, hands)?;
            ask.cpu = ask.cpu.saturating_add(hands.mhz());
            ask.fits(hot.used, hot.capacity)?;
            #[allow(clippy::cast_precision_loss)]
            let liked = hands.liked as f64 / self.device_weight as f64;
            devices = (self.device_weight > 0).then_some(liked);
        }
        used.add(ask);
        Ok(Fit { used, ask, devices })
    }

    fn choose(&self, row: &NodeRow, options: &Options, hands: &mut Hands) -> Result<(), Short> {
        let offer = Offer { node: &row.node, index: &row.facts.devices, taken: &row.devices, options };
        let table = Table { cores: &row.facts.cores, cores_taken: &row.cores, devices: offer };
        hands.choose(&self.cores, &self.devices, &table)
    }

    /// Hands out cores, devices and ports of a node that fits.
    pub(crate) fn allocate(
        &self,
        row: &NodeRow,
        options: &Options,
        hands: &mut Hands,
        rng: &mut Rng,
    ) -> Result<(AllocatedResources, Held), Short> {
        let mut resources = self.template.clone();
        let mut held = Held { amounts: self.amounts, ..Held::default() };
        if !(self.cores.is_empty() && self.devices.is_empty()) {
            self.choose(row, options, hands)?;
            self.hand_out(row, hands, &mut resources, &mut held);
        }
        if self.ports.is_empty() {
            return Ok((resources, held));
        }
        let mut claims = row.claims.clone();
        for (owner, asks) in &self.ports {
            let offers = row.facts.ports.offer(&claims, asks, &row.node, rng).map_err(Short::Network)?;
            for (offer, ask) in offers.iter().zip(asks) {
                claims.insert(claims.partition_point(|c| *c <= offer.claim), offer.claim);
                if !ask.ignore_collision {
                    held.claims.push(offer.claim);
                }
            }
            let network = match owner {
                Owner::Group(at) => {
                    resources.shared.ports.extend(mappings(&offers));
                    resources.shared.networks.get_mut(*at)
                }
                Owner::Task(task, at) => resources.tasks.get_mut(task).and_then(|t| t.networks.get_mut(*at)),
            };
            if let Some(network) = network {
                fill_network(network, &offers);
            }
        }
        Ok((resources, held))
    }

    fn hand_out(&self, row: &NodeRow, hands: &Hands, resources: &mut AllocatedResources, held: &mut Held) {
        for (at, core) in &hands.cores {
            if let Some(task) = resources.tasks.get_mut(&self.cores[*at].task) {
                task.cpu.cpu_shares = task.cpu.cpu_shares.saturating_add(core.mhz);
                task.cpu.reserved_cores.push(core.id);
            }
            held.amounts.cpu = held.amounts.cpu.saturating_add(core.mhz);
            held.cores.push(core.id);
        }
        held.cores.sort_unstable();
        let groups = row.node.node_resources.as_ref().map_or(&[][..], |r| &r.devices);
        for (at, ask) in self.devices.iter().enumerate() {
            let given: Vec<_> = hands.devices.given(at).collect();
            let Some(group) = given.first().and_then(|(group, _)| groups.get(usize::from(*group))) else { continue };
            let ids = given.iter().filter_map(|(_, i)| group.instances.get(usize::from(*i))).map(|i| i.id.clone());
            let allocated = AllocatedDeviceResource {
                vendor: group.vendor.clone(),
                kind: group.kind.clone(),
                name: group.name.clone(),
                device_ids: ids.collect(),
            };
            if let Some(task) = resources.tasks.get_mut(&ask.task) {
                task.devices.push(allocated);
            }
            held.devices.extend(given);
        }
        held.devices.sort_unstable();
    }

    /// What is short, in words.
    pub(crate) fn misfit(&self, short: Short, row: &NodeRow) -> Misfit {
        match short {
            Short::MaxAllocs => Misfit::MaxAllocs,
            Short::Cores => Misfit::Cores,
            Short::NumaCores => Misfit::NumaCores,
            Short::Cpu => Misfit::Cpu,
            Short::Memory => Misfit::Memory,
            Short::Disk => Misfit::Disk,
            Short::Network(why) => Misfit::Network(why.text(&self.all_ports, &row.node)),
            Short::Devices(at) => {
                Misfit::Devices(self.devices.get(usize::from(at)).map_or_else(String::new, |ask| ask.name.clone()))
            }
        }
    }

    /// True when nodes for which the same is short have different words for it.
    pub(crate) fn is_of_node(&self, short: Short) -> bool {
        matches!(short, Short::Network(why @ NoPort::NoAddress(_)) if why.is_of_node(&self.all_ports))
    }
}

fn memory(memory_mb: i64, resources: Option<&Resources>, oversubscription: bool) -> AllocatedMemoryResources {
    let secrets = resources.map_or(0, Resources::secrets_mb).max(0);
    let memory_max_mb = match resources.map_or(0, Resources::memory_max_mb) {
        max if !oversubscription || max == 0 => 0,
        max @ 1.. => max.saturating_add(secrets),
        _ => -1,
    };
    AllocatedMemoryResources { memory_mb: memory_mb.saturating_add(secrets), memory_max_mb }
}

/// A network block as an allocation carries it, ports not yet filled in.
fn bare(network: &NetworkResource) -> NetworkResource {
    let mut network = network.clone();
    if network.mode.is_empty() {
        "host".clone_into(&mut network.mode);
    }
    for port in &mut network.dynamic_ports {
        port.value = 0;
    }
    network
}
