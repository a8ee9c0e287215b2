//! What one allocation of a group asks of a node, and how it gets it: cpu, memory, disk, cores, ports.

use std::sync::Arc;

use model::TaskGroup;
use model::alloc::{AllocatedCpuResources, AllocatedMemoryResources, AllocatedResources, AllocatedTaskResources};
use model::resources::NetworkResource;

use crate::fit::{Amounts, Held, Misfit, core_mhz, fill_network, free_cores, mappings};
use crate::fleet::{Hot, NodeRow};
use crate::ports::PortAsk;
use crate::rng::Rng;

/// The ask of a group, computed once.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Resources of an allocation as far as they do not depend on the node.
    template: AllocatedResources,
    amounts: Amounts,
    /// Tasks that want cores to themselves, and how many.
    cores: Vec<(String, usize)>,
    /// Ports of each network block, the group's first and then those of tasks.
    ports: Vec<(Owner, Vec<PortAsk>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Group(usize),
    Task(String, usize),
}

impl Ask {
    pub(crate) fn new(group: &TaskGroup, oversubscription: bool) -> Self {
        let mut template = AllocatedResources::default();
        template.shared.disk_mb = group.disk_mb();
        template.shared.networks = group.networks.iter().map(bare).collect();
        let (mut cores, mut ports) = (Vec::new(), Vec::new());
        for (at, network) in group.networks.iter().enumerate() {
            ports.push((Owner::Group(at), PortAsk::of(network)));
        }
        for task in &group.tasks {
            let resources = task.resources.as_ref();
            let number = resources.map_or(0, |r| usize::try_from(r.cores()).unwrap_or(0));
            if number > 0 {
                cores.push((task.name.clone(), number));
            }
            let secrets = resources.map_or(0, model::resources::Resources::secrets_mb);
            let memory_max_mb = match resources.map_or(0, model::resources::Resources::memory_max_mb) {
                max if !oversubscription || max == 0 => 0,
                max @ 1.. => max.saturating_add(secrets),
                unlimited => unlimited,
            };
            let networks = resources.map_or(&[][..], |r| &r.networks);
            for (at, network) in networks.iter().enumerate() {
                ports.push((Owner::Task(task.name.clone(), at), PortAsk::of(network)));
            }
            let memory_mb = task.memory_mb().saturating_add(secrets);
            let allocated = AllocatedTaskResources {
                cpu: AllocatedCpuResources {
                    cpu_shares: if number > 0 { 0 } else { task.cpu_mhz() },
                    ..AllocatedCpuResources::default()
                },
                memory: AllocatedMemoryResources { memory_mb, memory_max_mb },
                networks: networks.iter().map(bare).collect(),
                ..AllocatedTaskResources::default()
            };
            template.tasks.insert(task.name.clone(), allocated);
            template.task_lifecycles.insert(task.name.clone(), task.lifecycle.clone());
        }
        let usage = template.usage();
        let amounts = Amounts { cpu: usage.cpu_mhz, memory: usage.memory_mb, disk: usage.disk_mb };
        ports.retain(|(_, asks)| !asks.is_empty());
        Self { template, amounts, cores, ports }
    }

    /// Whether a node has room for one more, and what would be in use there then.
    pub(crate) fn fits(&self, hot: &Hot, row: &Arc<NodeRow>) -> Result<Amounts, Misfit> {
        if hot.allocs_max > 0 && hot.allocs >= hot.allocs_max {
            return Err(Misfit::MaxAllocs);
        }
        let mut ask = self.amounts;
        if self.cores.is_empty() && self.ports.is_empty() {
            ask.fits(hot.used, hot.capacity)?;
        } else {
            if !self.cores.is_empty() {
                let wanted = self.cores.iter().map(|(_, n)| n).sum();
                let free = free_cores(&row.node, &row.cores);
                if free.len() < wanted {
                    return Err(Misfit::Cores);
                }
                ask.cpu += free[..wanted].iter().map(|c| core_mhz(&row.node, *c)).sum::<i64>();
            }
            ask.fits(hot.used, hot.capacity)?;
            let mut all: Vec<PortAsk> = Vec::new();
            let asks = match self.ports.as_slice() {
                [(_, asks)] => asks,
                several => {
                    all.extend(several.iter().flat_map(|(_, asks)| asks.iter().cloned()));
                    &all
                }
            };
            row.ports.can_offer(&row.claims, asks, &row.node).map_err(Misfit::Network)?;
        }
        let mut used = hot.used;
        used.add(ask);
        Ok(used)
    }

    /// Hands out cores and ports of a node that fits.
    pub(crate) fn allocate(&self, row: &NodeRow, rng: &mut Rng) -> Result<(AllocatedResources, Held), Misfit> {
        let mut resources = self.template.clone();
        let mut free = free_cores(&row.node, &row.cores);
        for (task, number) in &self.cores {
            if free.len() < *number {
                return Err(Misfit::Cores);
            }
            let cores: Vec<u16> = free.drain(..number).collect();
            if let Some(task) = resources.tasks.get_mut(task) {
                task.cpu.cpu_shares = cores.iter().map(|c| core_mhz(&row.node, *c)).sum();
                task.cpu.reserved_cores = cores;
            }
        }
        let mut claims = row.claims.clone();
        for (owner, asks) in &self.ports {
            let offers = row.ports.offer(&claims, asks, &row.node, rng).map_err(Misfit::Network)?;
            for offer in &offers {
                claims.insert(claims.partition_point(|c| *c <= offer.claim), offer.claim);
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
        let held = Held::of_resources(&resources, &row.ports);
        Ok((resources, held))
    }
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
