//! What has been sent to the log and is not yet in the replica.
//!
//! ```text
//!   add ──► on its way ──committed──► known: only what was really placed ──settle──► in the replica, gone
//!              │   └──────────────────────settle: seen in the replica all the same──────────────┘
//!              └─void─► surely without effect, gone
//! ```
//!
//! A plan is checked against the replica *and* this, so that the next batch can be checked while the
//! last one is being committed. An entry leaves when its effect is in the replica, or when it surely has
//! none; one whose outcome is unknown stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fsm::{PlanResult, State};
use model::{AllocId, Allocation, Index, NodeId};

/// What the plans of one command do to room, by the plan's number within the command.
#[derive(Default)]
pub struct Effect {
    pub placed: HashMap<NodeId, Vec<(usize, Arc<Allocation>)>>,
    /// Allocations that hold nothing any more: their nodes are lost.
    pub stopped: HashMap<AllocId, usize>,
    /// By how much the nodes' fences move: by each placement, made or dropped.
    pub moved: HashMap<NodeId, u64>,
}

impl Effect {
    pub fn on_node(&self, node: &NodeId) -> impl Iterator<Item = &Arc<Allocation>> {
        self.placed.get(node).into_iter().flatten().map(|(_, alloc)| alloc)
    }

    pub fn moves(&self, node: &NodeId) -> u64 {
        self.moved.get(node).copied().unwrap_or(0)
    }
}

#[derive(Default)]
pub struct Overlay {
    entries: Vec<Entry>,
    next: u64,
}

struct Entry {
    id: u64,
    /// Known once the reply is here.
    committed: Option<Index>,
    effect: Effect,
    /// Allocations by which it can be recognized in the replica.
    marks: Vec<AllocId>,
}

impl Overlay {
    /// Adds the effect of plans that are about to be proposed; the number names it.
    pub fn add(&mut self, effect: Effect) -> u64 {
        let marks = effect.placed.values().flatten().map(|(_, alloc)| alloc.id.clone()).collect();
        let id = self.next;
        self.next += 1;
        self.entries.push(Entry { id, committed: None, effect, marks });
        id
    }

    /// The command was applied at `index`; `results` say what of it was done, if that is known.
    pub fn committed(&mut self, id: u64, index: Index, results: Option<&[PlanResult]>) {
        let Some(entry) = self.entries.iter_mut().find(|e| e.id == id) else { return };
        entry.committed = Some(index);
        let Some(results) = results else { return };
        let done: HashSet<&AllocId> = results.iter().flat_map(|result| &result.placed).collect();
        entry.effect.placed.retain(|_, allocs| {
            allocs.retain(|(_, alloc)| done.contains(&alloc.id));
            !allocs.is_empty()
        });
        entry.effect.stopped.retain(|_, plan| results.get(*plan).is_some_and(|result| result.index.get() > 0));
    }

    /// The command surely has no effect.
    pub fn void(&mut self, id: u64) {
        self.entries.retain(|e| e.id != id);
    }

    /// Drops what `state` already has.
    pub fn settle(&mut self, state: &State) {
        self.entries.retain(|entry| {
            let by_index = entry.committed.is_some_and(|index| index <= state.index());
            let by_mark = entry.marks.iter().any(|id| state.alloc(id).is_some());
            !by_index && !by_mark
        });
    }

    /// Allocations on their way to a node.
    pub fn placed(&self, node: &NodeId) -> impl Iterator<Item = &Arc<Allocation>> {
        self.entries.iter().flat_map(|entry| entry.effect.on_node(node))
    }

    /// By how much a node's fence is about to move.
    pub fn moves(&self, node: &NodeId) -> u64 {
        self.entries.iter().map(|entry| entry.effect.moves(node)).sum()
    }

    /// True when the allocation is being declared lost.
    pub fn is_stopped(&self, alloc: &AllocId) -> bool {
        self.entries.iter().any(|e| e.effect.stopped.contains_key(alloc))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
