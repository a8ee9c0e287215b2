//! Cores that tasks have to themselves: which are free, and which to give to whom.
//!
//! Without a wish for locality a task gets the free cores with the lowest numbers. With one (`numa`:
//! prefer, require) all its cores come from one memory node, together with the devices it lists: the
//! memory nodes of all such tasks are chosen together, at most [`CHOICES_MAX`] ways are tried.

use std::cmp::Reverse;

use model::{Node, TaskGroup};

use crate::device::{DeviceAsk, Match, Offer};
use crate::fit::{Short, core_mhz, reservable};

/// Ways of choosing memory nodes that are tried on one node.
const CHOICES_MAX: usize = 512;

/// A core of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Core {
    pub id: u16,
    pub mhz: i64,
    pub memory: u16,
}

/// All cores of a node that tasks may have, ascending.
pub(crate) fn of_node(node: &Node) -> Vec<Core> {
    let topology = node.node_resources.as_ref().and_then(|r| r.processors.topology.as_ref());
    let memory = |id: u16| topology.and_then(|t| t.cores.iter().find(|c| c.id == id)).map_or(0, |c| c.node_id);
    reservable(node).into_iter().map(|id| Core { id, mhz: core_mhz(node, id), memory: memory(id) }).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numa {
    Prefer,
    Require,
}

/// One task's wish for cores of its own.
#[derive(Clone, Debug)]
pub(crate) struct CoreAsk {
    pub task: String,
    pub count: usize,
    numa: Option<Numa>,
}

impl CoreAsk {
    pub(crate) fn all(group: &TaskGroup) -> Vec<Self> {
        let ask = |task: &model::Task| {
            let resources = task.resources.as_ref()?;
            let count = usize::try_from(resources.cores()).ok().filter(|n| *n > 0)?;
            let numa = match resources.numa.as_ref().map(|n| n.affinity.as_str()) {
                Some("prefer") => Some(Numa::Prefer),
                Some("require") => Some(Numa::Require),
                _ => None,
            };
            Some(Self { task: task.name.clone(), count, numa })
        };
        group.tasks.iter().filter_map(ask).collect()
    }
}

/// Buffers of the choice, and what was chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hands {
    free: Vec<Core>,
    left: Vec<Core>,
    memories: Vec<(u16, usize)>,
    /// Per core ask: number of the memory node chosen, one past the last for any.
    choice: Vec<usize>,
    /// (core ask, core).
    pub cores: Vec<(usize, Core)>,
    pub devices: Match,
    /// Sum of the weights of device affinities that match.
    pub liked: i64,
}

/// What a node has to hand out.
pub(crate) struct Table<'a> {
    pub cores: &'a [Core],
    /// Sorted.
    pub cores_taken: &'a [u16],
    pub devices: Offer<'a>,
}

impl Hands {
    /// Chooses cores and devices for all tasks.
    ///
    /// # Errors
    /// What is short.
    pub(crate) fn choose(&mut self, asks: &[CoreAsk], devices: &[DeviceAsk], table: &Table<'_>) -> Result<(), Short> {
        self.free.clear();
        self.free.extend(table.cores.iter().filter(|c| table.cores_taken.binary_search(&c.id).is_err()));
        let wanted = asks.iter().map(|ask| ask.count).fold(0, usize::saturating_add);
        if self.free.len() < wanted {
            return Err(Short::Cores);
        }
        if asks.iter().all(|ask| ask.numa.is_none()) {
            self.choice.clear();
            self.choice.resize(asks.len(), usize::MAX);
            if !self.take_cores(asks) {
                return Err(Short::Cores);
            }
            return self.take_devices(asks, devices, table);
        }
        self.choose_near(asks, devices, table)
    }

    fn choose_near(&mut self, asks: &[CoreAsk], devices: &[DeviceAsk], table: &Table<'_>) -> Result<(), Short> {
        self.memories.clear();
        for core in &self.free {
            match self.memories.iter_mut().find(|(memory, _)| *memory == core.memory) {
                Some((_, free)) => *free += 1,
                None => self.memories.push((core.memory, 1)),
            }
        }
        // The fullest first, so that large free ones stay large.
        self.memories.sort_by_key(|(memory, free)| (*free, *memory));
        let any = self.memories.len();
        let first = |ask: &CoreAsk| if ask.numa.is_some() { 0 } else { any };
        let mut choice: Vec<usize> = asks.iter().map(first).collect();
        let mut best: Option<(usize, Reverse<i64>, Vec<usize>)> = None;
        let mut why = Short::NumaCores;
        for _ in 0..CHOICES_MAX {
            self.choice.clone_from(&choice);
            let loose = asks.iter().zip(&choice).filter(|(ask, at)| ask.numa.is_some() && **at == any).count();
            if best.as_ref().is_none_or(|(known, ..)| loose <= *known) && self.take_cores(asks) {
                match self.take_devices(asks, devices, table) {
                    Ok(()) => {
                        let found = (loose, Reverse(self.liked), choice.clone());
                        if best.as_ref().is_none_or(|known| (found.0, found.1) < (known.0, known.1)) {
                            best = Some(found);
                        }
                        if loose == 0 && devices.iter().all(|d| d.weight() == 0) {
                            break;
                        }
                    }
                    Err(misfit) => why = misfit,
                }
            }
            if !next(asks, &mut choice, any) {
                break;
            }
        }
        let Some((_, _, choice)) = best else { return Err(why) };
        self.choice = choice;
        self.take_cores(asks);
        self.take_devices(asks, devices, table)
    }

    /// Takes cores as chosen; tasks that want them near go first. False when they are not enough.
    fn take_cores(&mut self, asks: &[CoreAsk]) -> bool {
        self.left.clone_from(&self.free);
        self.cores.clear();
        for near in [true, false] {
            for (at, ask) in asks.iter().enumerate() {
                let memory = self.memories.get(self.choice[at]).map(|(memory, _)| *memory);
                if memory.is_some() != near {
                    continue;
                }
                let mut taken = 0;
                let (cores, left) = (&mut self.cores, &mut self.left);
                left.retain(|core| {
                    let take = taken < ask.count && memory.is_none_or(|memory| memory == core.memory);
                    if take {
                        taken += 1;
                        cores.push((at, *core));
                    }
                    !take
                });
                if taken < ask.count {
                    return false;
                }
            }
        }
        true
    }

    fn take_devices(&mut self, asks: &[CoreAsk], devices: &[DeviceAsk], table: &Table<'_>) -> Result<(), Short> {
        self.liked = 0;
        if devices.is_empty() {
            return Ok(());
        }
        let (choice, memories) = (&self.choice, &self.memories);
        let memory = |at: usize| {
            let ask = devices.get(at).filter(|ask| ask.near)?;
            let of_task = asks.iter().position(|core| core.task == ask.task)?;
            memories.get(choice[of_task]).map(|(memory, _)| *memory)
        };
        let found = self.devices.solve(devices, &table.devices, &memory);
        self.liked = found.map_err(|at| Short::Devices(u16::try_from(at).unwrap_or(0)))?;
        Ok(())
    }

    pub(crate) fn mhz(&self) -> i64 {
        self.cores.iter().map(|(_, core)| core.mhz).fold(0, i64::saturating_add)
    }
}

/// The next way to choose; false after the last.
fn next(asks: &[CoreAsk], choice: &mut [usize], any: usize) -> bool {
    for (ask, at) in asks.iter().zip(choice) {
        let last = match ask.numa {
            None => continue,
            Some(Numa::Require) => any.saturating_sub(1),
            Some(Numa::Prefer) => any,
        };
        if *at < last {
            *at += 1;
            return true;
        }
        *at = 0;
    }
    false
}
