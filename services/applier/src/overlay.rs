//! What has been committed and is not yet in the replica.
//!
//! A plan is checked against the replica *and* this, so that the next batch need not wait for the feed.
//! Commands follow one another: the next is checked when it is known what became of the last one, so an
//! entry always has its index, and leaves when the replica has reached it.

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

    /// Leaves what was really done. Fences have moved all the same.
    fn keep_done(&mut self, results: &[PlanResult]) {
        let done: HashSet<&AllocId> = results.iter().flat_map(|result| &result.placed).collect();
        self.placed.retain(|_, allocs| {
            allocs.retain(|(_, alloc)| done.contains(&alloc.id));
            !allocs.is_empty()
        });
        self.stopped.retain(|_, plan| results.get(*plan).is_some_and(|result| result.index.get() > 0));
    }
}

/// Effects by the index at which they were committed, oldest first.
#[derive(Default)]
pub struct Overlay {
    entries: Vec<(Index, Effect)>,
}

impl Overlay {
    /// Adds what was committed at `index`; `results` say what of it was done, if that is known.
    pub fn add(&mut self, index: Index, mut effect: Effect, results: Option<&[PlanResult]>) {
        if let Some(results) = results {
            effect.keep_done(results);
        }
        self.entries.push((index, effect));
    }

    /// Drops what `state` already has.
    pub fn settle(&mut self, state: &State) {
        self.entries.retain(|(index, _)| *index > state.index());
    }

    /// Allocations on their way to a node.
    pub fn placed(&self, node: &NodeId) -> impl Iterator<Item = &Arc<Allocation>> {
        self.entries.iter().flat_map(|(_, effect)| effect.on_node(node))
    }

    /// By how much a node's fence is ahead of the replica's.
    pub fn moves(&self, node: &NodeId) -> u64 {
        self.entries.iter().map(|(_, effect)| effect.moves(node)).sum()
    }

    /// Allocations that were declared lost.
    pub fn stopped(&self) -> impl Iterator<Item = &AllocId> {
        self.entries.iter().flat_map(|(_, effect)| effect.stopped.keys())
    }

    /// True when the allocation was declared lost.
    pub fn is_stopped(&self, alloc: &AllocId) -> bool {
        self.entries.iter().any(|(_, effect)| effect.stopped.contains_key(alloc))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
