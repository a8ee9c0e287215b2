//! What has been sent to the log and is not yet in the replica.
//!
//! A plan is checked against the replica *and* this, so that the next batch can be checked while the
//! last one is being committed. An entry leaves when its effect is in the replica, or when it surely has
//! none; one whose outcome is unknown stays.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fsm::{Plan, State};
use model::{AllocId, Allocation, Index, NodeId};

#[derive(Default)]
pub struct Overlay {
    entries: Vec<Entry>,
    next: u64,
}

struct Entry {
    id: u64,
    /// Known once the reply is here.
    committed: Option<Index>,
    placed: HashMap<NodeId, Vec<Arc<Allocation>>>,
    stopped: HashSet<AllocId>,
    /// Allocations by which it can be recognized in the replica.
    marks: Vec<AllocId>,
}

impl Overlay {
    /// Adds plans that are about to be proposed; the number names them.
    pub fn add(&mut self, plans: &[Plan]) -> u64 {
        let mut entry = Entry {
            id: self.next,
            committed: None,
            placed: HashMap::new(),
            stopped: HashSet::new(),
            marks: Vec::new(),
        };
        self.next += 1;
        for (node, part) in plans.iter().flat_map(|plan| &plan.parts).filter(|(_, part)| part.refused.is_none()) {
            for alloc in &part.place {
                entry.marks.push(alloc.id.clone());
                entry.placed.entry(node.clone()).or_default().push(Arc::new(alloc.clone()));
            }
            entry.stopped.extend(part.stop.iter().filter(|s| s.client_status.is_some()).map(|s| s.id.clone()));
        }
        self.entries.push(entry);
        self.next - 1
    }

    /// The command was applied at `index`.
    pub fn committed(&mut self, id: u64, index: Index) {
        for entry in self.entries.iter_mut().filter(|e| e.id == id) {
            entry.committed = Some(index);
        }
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
        self.entries.iter().filter_map(|e| e.placed.get(node)).flatten()
    }

    /// True when the allocation is being declared lost.
    pub fn is_stopped(&self, alloc: &AllocId) -> bool {
        self.entries.iter().any(|e| e.stopped.contains(alloc))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
