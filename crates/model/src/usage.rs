//! What an allocation takes from its node, as one flat sum that can be added and compared.
//!
//! An allocation's tasks do not all run at once: prestart tasks end before the main ones start, and
//! poststop tasks start after they ended. So what it takes is, for each quantity, the greatest of
//! * all prestart tasks,
//! * main and poststart tasks together with the prestart *sidecars*,
//! * all poststop tasks.
//!
//! Reserved cores are kept for the whole life of an allocation, so the MHz of a task that has them are
//! always added.

use crate::access::TaskStage;
use crate::alloc::{AllocatedResources, AllocatedTaskResources, Allocation};
use crate::task::TaskLifecycle;

/// What an allocation takes from its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_mhz: i64,
    pub memory_mb: i64,
    /// The sum of memory limits; equals `memory_mb` for tasks without one.
    pub memory_max_mb: i64,
    pub disk_mb: i64,
    /// Sorted, without repetition.
    pub cores: Vec<u16>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    cpu_mhz: i64,
    memory_mb: i64,
    memory_max_mb: i64,
}

impl Sum {
    fn add(&mut self, task: &AllocatedTaskResources) {
        if task.cpu.reserved_cores.is_empty() {
            self.cpu_mhz = self.cpu_mhz.saturating_add(task.cpu.cpu_shares);
        }
        let memory = task.memory.memory_mb;
        let limit = if task.memory.memory_max_mb > 0 { task.memory.memory_max_mb } else { memory };
        self.memory_mb = self.memory_mb.saturating_add(memory);
        self.memory_max_mb = self.memory_max_mb.saturating_add(limit);
    }

    fn max(self, other: Self) -> Self {
        Self {
            cpu_mhz: self.cpu_mhz.max(other.cpu_mhz),
            memory_mb: self.memory_mb.max(other.memory_mb),
            memory_max_mb: self.memory_max_mb.max(other.memory_max_mb),
        }
    }
}

fn stage_of(lifecycle: Option<&TaskLifecycle>) -> (TaskStage, bool) {
    match lifecycle.map(|lifecycle| (lifecycle.hook.as_str(), lifecycle.sidecar)) {
        Some(("prestart", sidecar)) => (TaskStage::Prestart, sidecar),
        Some(("poststart", sidecar)) => (TaskStage::Poststart, sidecar),
        Some(("poststop", sidecar)) => (TaskStage::Poststop, sidecar),
        _ => (TaskStage::Main, false),
    }
}

impl AllocatedResources {
    /// What they come to on the node.
    pub fn usage(&self) -> Usage {
        let (mut before, mut during, mut after) = (Sum::default(), Sum::default(), Sum::default());
        let mut cores_mhz = 0_i64;
        let mut cores = Vec::new();
        for (name, task) in &self.tasks {
            if !task.cpu.reserved_cores.is_empty() {
                cores.extend_from_slice(&task.cpu.reserved_cores);
                cores_mhz = cores_mhz.saturating_add(task.cpu.cpu_shares);
            }
            match stage_of(self.task_lifecycles.get(name).and_then(Option::as_ref)) {
                (TaskStage::Prestart, true) => {
                    before.add(task);
                    during.add(task);
                }
                (TaskStage::Prestart, false) => before.add(task),
                (TaskStage::Poststop, _) => after.add(task),
                (TaskStage::Main | TaskStage::Poststart, _) => during.add(task),
            }
        }
        cores.sort_unstable();
        cores.dedup();
        let most = before.max(during).max(after);
        Usage {
            cpu_mhz: most.cpu_mhz.saturating_add(cores_mhz),
            memory_mb: most.memory_mb,
            memory_max_mb: most.memory_max_mb,
            disk_mb: self.shared.disk_mb,
            cores,
        }
    }
}

impl Allocation {
    /// What it takes from its node; nothing when it was given nothing.
    pub fn usage(&self) -> Usage {
        self.allocated_resources.as_ref().map(|given| given.usage()).unwrap_or_default()
    }

    /// Host ports it holds, with the address each is bound on (empty: all of the node's).
    pub fn host_ports(&self) -> impl Iterator<Item = (&str, i64)> {
        let given = self.allocated_resources.as_ref();
        let shared = given.into_iter().flat_map(|given| &given.shared.ports);
        let networks = given.into_iter().flat_map(|given| given.tasks.values()).flat_map(|task| &task.networks);
        let of_tasks = networks.flat_map(|network| {
            let ports = network.reserved_ports.iter().chain(&network.dynamic_ports);
            ports.map(|port| (network.ip.as_str(), port.value))
        });
        shared.map(|port| (port.host_ip.as_str(), port.value)).chain(of_tasks).filter(|(_, port)| *port > 0)
    }
}

impl Usage {
    /// Adds another allocation's part.
    pub fn add(&mut self, other: &Self) {
        self.cpu_mhz = self.cpu_mhz.saturating_add(other.cpu_mhz);
        self.memory_mb = self.memory_mb.saturating_add(other.memory_mb);
        self.memory_max_mb = self.memory_max_mb.saturating_add(other.memory_max_mb);
        self.disk_mb = self.disk_mb.saturating_add(other.disk_mb);
        if !other.cores.is_empty() {
            self.cores.extend_from_slice(&other.cores);
            self.cores.sort_unstable();
            self.cores.dedup();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(cpu: i64, memory: i64, cores: &[u16]) -> AllocatedTaskResources {
        let mut task = AllocatedTaskResources::default();
        task.cpu.cpu_shares = cpu;
        task.cpu.reserved_cores = cores.to_vec();
        task.memory.memory_mb = memory;
        task
    }

    fn hook(hook: &str, sidecar: bool) -> Option<TaskLifecycle> {
        Some(TaskLifecycle { hook: hook.into(), sidecar })
    }

    #[test]
    fn tasks_that_never_run_together_share() {
        let mut given = AllocatedResources::default();
        for (name, lifecycle, resources) in [
            ("init", hook("prestart", false), task(900, 100, &[])),
            ("proxy", hook("prestart", true), task(50, 20, &[])),
            ("main", None, task(300, 200, &[])),
            ("late", hook("poststart", false), task(100, 10, &[])),
            ("clean", hook("poststop", false), task(10, 500, &[])),
        ] {
            given.tasks.insert(name.into(), resources);
            given.task_lifecycles.insert(name.into(), lifecycle);
        }
        given.shared.disk_mb = 7;
        let usage = given.usage();
        assert_eq!((usage.cpu_mhz, usage.memory_mb, usage.disk_mb), (950, 500, 7));
    }

    #[test]
    fn reserved_cores_are_kept_for_the_whole_life() {
        let mut given = AllocatedResources::default();
        given.tasks.insert("init".into(), task(1000, 10, &[3, 1]));
        given.task_lifecycles.insert("init".into(), hook("prestart", false));
        given.tasks.insert("main".into(), task(200, 10, &[]));
        let usage = given.usage();
        assert_eq!((usage.cpu_mhz, usage.cores), (1200, vec![1, 3]));
    }
}
