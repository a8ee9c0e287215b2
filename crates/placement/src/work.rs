//! The working copy of one scheduling pass: the fleet as it would be with what was decided so far, and
//! how many allocations of the job each node would have.
//!
//! Every change is an [`Event`] in a journal. Placers (one per group) keep a cursor into it and re-score
//! only the nodes that changed since they last looked, so that N placements cost N log M and not N·M.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use fsm::State;
use model::group::VolumeRequest;
use model::{AllocId, Allocation, Job, JobId, NamespaceName, NodeId};

use crate::fit::Held;
use crate::fleet::{Fleet, Rank, Slot, Tenant, group_key, job_key};
use crate::score::Algorithm;

/// Number of a group's name within one pass.
pub(crate) type GroupNo = usize;

/// Something on a node changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub slot: Slot,
    pub group: GroupNo,
    /// Change of the number of allocations of the group that are not terminal.
    pub living: i64,
}

/// See the module's text.
pub(crate) struct Work<'a> {
    pub state: &'a State,
    pub fleet: Fleet,
    pub seed: u64,
    pub retry: bool,
    pub suspects: &'a dyn Fn(&NodeId) -> bool,
    pub algorithm: Algorithm,
    pub oversubscription: bool,
    /// All allocations of the job in state.
    pub allocs: Vec<&'a Arc<Allocation>>,
    pub events: Vec<Event>,
    groups: Vec<String>,
    /// Counted when somebody asks: an evaluation that finds nothing to do never does.
    counts: OnceCell<Counts>,
    staged: BTreeMap<AllocId, Option<(Slot, Arc<Tenant>)>>,
    /// How many of each group, by its key, make room for what this plan places.
    preempted: BTreeMap<u64, u32>,
    keys: Keys,
    /// What the plan's own placements ask of volumes.
    pub mounts: BTreeMap<AllocId, Vec<VolumeRequest>>,
    job_id: Option<(NamespaceName, JobId)>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(
        state: &'a State,
        fleet: &Fleet,
        job: Option<&Job>,
        allocs: Vec<&'a Arc<Allocation>>,
        seed: u64,
        suspects: &'a dyn Fn(&NodeId) -> bool,
    ) -> Self {
        let (algorithm, oversubscription) = settings(state, job);
        let mut work = Self {
            state,
            fleet: fleet.clone(),
            seed,
            retry: false,
            suspects,
            algorithm,
            oversubscription,
            allocs,
            events: Vec::new(),
            groups: Vec::new(),
            counts: OnceCell::new(),
            staged: BTreeMap::new(),
            preempted: BTreeMap::new(),
            keys: Keys::of(job),
            mounts: BTreeMap::new(),
            job_id: job.map(|job| (job.namespace(), job.id())),
        };
        for group in job.iter().flat_map(|j| &j.task_groups) {
            work.group(group.name());
        }
        work
    }

    pub(crate) fn group(&mut self, name: &str) -> GroupNo {
        self.groups.iter().position(|g| g == name).unwrap_or_else(|| {
            self.groups.push(name.to_owned());
            if let Some(counts) = self.counts.get_mut() {
                // Nothing of a group that had no number yet was stopped or placed.
                let mut of_group = vec![0; counts.of_job.len()];
                for alloc in self.allocs.iter().filter(|a| a.task_group == name && a.occupies_node()) {
                    if let Some(slot) = self.fleet.slot(&alloc.node_id) {
                        of_group[slot as usize] += 1;
                    }
                }
                counts.of_group.push(of_group);
            }
            self.groups.len() - 1
        })
    }

    /// The number of a group that was met before.
    pub(crate) fn group_no(&self, name: &str) -> Option<GroupNo> {
        self.groups.iter().position(|g| g == name)
    }

    pub(crate) fn job_id(&self) -> Option<(&NamespaceName, &JobId)> {
        self.job_id.as_ref().map(|(namespace, id)| (namespace, id))
    }

    fn counts(&self) -> &Counts {
        self.counts.get_or_init(|| {
            let end = self.fleet.end();
            let mut counts = Counts { of_job: vec![0; end], of_group: vec![vec![0; end]; self.groups.len()] };
            for alloc in self.allocs.iter().filter(|a| a.occupies_node()) {
                if let Some(slot) = self.fleet.slot(&alloc.node_id) {
                    counts.of_job[slot as usize] += 1;
                    if let Some(group) = self.groups.iter().position(|g| *g == alloc.task_group) {
                        counts.of_group[group][slot as usize] += 1;
                    }
                }
            }
            counts
        })
    }

    /// Counts once more on a node, or once less.
    fn count(&mut self, slot: Slot, group: GroupNo, more: bool) {
        self.counts();
        if let Some(counts) = self.counts.get_mut() {
            if more { counts.add(slot, group) } else { counts.take(slot, group) }
        }
    }

    pub(crate) fn of_job(&self, slot: Slot) -> u32 {
        self.counts().of_job[slot as usize]
    }

    pub(crate) fn of_group(&self, group: GroupNo, slot: Slot) -> u32 {
        self.counts().of_group[group][slot as usize]
    }

    /// The plan stops an allocation: what it holds is free for the rest of this plan.
    pub(crate) fn stop(&mut self, alloc: &Allocation) {
        if self.staged.contains_key(&alloc.id) {
            return;
        }
        let group = self.group(&alloc.task_group);
        let held = self.fleet.release(&alloc.id);
        if let Some((slot, _)) = &held {
            self.count(*slot, group, false);
        }
        if let Some(slot) = self.fleet.slot(&alloc.node_id) {
            self.events.push(Event { slot, group, living: -i64::from(!alloc.is_terminal()) });
        }
        self.staged.insert(alloc.id.clone(), held);
    }

    /// Takes a stop back, because nothing could be placed instead.
    pub(crate) fn unstop(&mut self, alloc: &Allocation) {
        let Some(held) = self.staged.remove(&alloc.id) else { return };
        let group = self.group(&alloc.task_group);
        if let Some((slot, tenant)) = held {
            self.fleet.hold(slot, tenant);
            self.count(slot, group, true);
        }
        if let Some(slot) = self.fleet.slot(&alloc.node_id) {
            self.events.push(Event { slot, group, living: i64::from(!alloc.is_terminal()) });
        }
    }

    /// How many of a group, by its key, were asked to make room.
    pub(crate) fn preempted(&self, group: u64) -> u32 {
        self.preempted.get(&group).copied().unwrap_or(0)
    }

    /// Allocations of other jobs leave a node.
    pub(crate) fn evict(&mut self, slot: Slot, victims: &[Arc<Tenant>]) {
        for victim in victims {
            self.fleet.release(&victim.id);
            *self.preempted.entry(victim.rank.group).or_default() += 1;
        }
        self.events.push(Event { slot, group: GroupNo::MAX, living: 0 });
    }

    /// They stay after all.
    pub(crate) fn unevict(&mut self, slot: Slot, victims: &[Arc<Tenant>]) {
        for victim in victims {
            self.fleet.hold(slot, victim.clone());
            if let Some(number) = self.preempted.get_mut(&victim.rank.group) {
                *number = number.saturating_sub(1);
            }
        }
        self.events.push(Event { slot, group: GroupNo::MAX, living: 0 });
    }

    /// The plan places an allocation.
    pub(crate) fn place(&mut self, slot: Slot, group: GroupNo, id: AllocId, held: Held) {
        let rank = Rank {
            job: self.keys.job,
            group: group_key(self.keys.job, &self.groups[group]),
            priority: self.keys.priority,
            ..Rank::default()
        };
        self.fleet.seat(slot, Arc::new(Tenant { id, held, rank }));
        self.count(slot, group, true);
        self.events.push(Event { slot, group, living: 1 });
    }
}

/// Per slot: allocations of the job, and of each group, that are on the node.
#[derive(Clone, Debug, Default)]
struct Counts {
    of_job: Vec<u32>,
    of_group: Vec<Vec<u32>>,
}

impl Counts {
    fn add(&mut self, slot: Slot, group: GroupNo) {
        self.of_job[slot as usize] += 1;
        self.of_group[group][slot as usize] += 1;
    }

    fn take(&mut self, slot: Slot, group: GroupNo) {
        for number in [&mut self.of_job[slot as usize], &mut self.of_group[group][slot as usize]] {
            *number = number.saturating_sub(1);
        }
    }
}

/// How what the plan places stands among others.
#[derive(Clone, Copy, Debug, Default)]
struct Keys {
    job: u64,
    priority: i32,
}

impl Keys {
    fn of(job: Option<&Job>) -> Self {
        let priority = job.map_or(0, |job| i32::try_from(job.priority()).unwrap_or(i32::MAX));
        Self { job: job.map_or(0, |job| job_key(&job.namespace(), &job.id())), priority }
    }
}

/// The cluster's settings, with what the job's pool says otherwise.
fn settings(state: &State, job: Option<&Job>) -> (Algorithm, bool) {
    let config = state.scheduler_config();
    let pool = job.and_then(|job| state.node_pool(job.node_pool())).and_then(|p| p.scheduler_configuration.as_ref());
    let algorithm = pool.map(|p| p.scheduler_algorithm.as_str()).filter(|a| !a.is_empty());
    let algorithm = match algorithm.unwrap_or(&config.scheduler_algorithm) {
        "spread" => Algorithm::Spread,
        _ => Algorithm::Binpack,
    };
    let oversubscription = pool.and_then(|p| p.memory_oversubscription_enabled);
    (algorithm, oversubscription.unwrap_or(config.memory_oversubscription_enabled))
}
