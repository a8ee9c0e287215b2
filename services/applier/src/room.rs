//! What room is there on each node? The replica's rows and the sums over them, of one and the same index.
//!
//! Sums are kept up to date row by row as the feed comes in, so that checking a part of a plan costs what the part
//! has, and not what its node holds already.
//!
//! Invariant: under the lock, [`Seen::fleet`] counts exactly the rows of [`Seen::state`], and that is at least as new as
//! what the replica shows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::replica::Observer;
use fsm::{Change, FeedLine, State};
use model::{AllocId, NodeId};
use placement::Fleet;

/// Rows and sums of one index.
#[derive(Default)]
pub struct Seen {
    pub state: Arc<State>,
    pub fleet: Fleet,
}

/// Shared by whoever follows the feed and whoever checks plans.
#[derive(Clone, Default)]
pub struct Room(Arc<Mutex<Seen>>);

impl Room {
    /// The newest; the feed waits as long as it is held.
    pub fn look(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the sums.
#[derive(Default)]
pub struct Follow {
    room: Room,
    nodes: HashSet<NodeId>,
    allocs: HashSet<AllocId>,
}

impl Follow {
    pub fn new(room: Room) -> Self {
        Self { room, ..Self::default() }
    }
}

impl Observer for Follow {
    fn reset(&mut self, state: &Arc<State>) {
        self.nodes.clear();
        self.allocs.clear();
        *self.room.look() = Seen { state: Arc::clone(state), fleet: Fleet::from_state(state) };
    }

    /// Only notes what changed: until all lines at hand are applied nobody may see any of them.
    fn line(&mut self, _: &State, line: &FeedLine) {
        for change in &line.changes {
            match change {
                Change::Node(node) => drop(self.nodes.insert(node.id.clone())),
                Change::NodeGone { id } => drop(self.nodes.insert(id.clone())),
                Change::Alloc(row) => drop(self.allocs.insert(row.id.clone())),
                Change::AllocClient { update, .. } => drop(self.allocs.insert(update.id.clone())),
                Change::AllocGone { id } => drop(self.allocs.insert(id.clone())),
                _ => {}
            }
        }
    }

    fn settled(&mut self, state: &Arc<State>) {
        let mut seen = self.room.look();
        for node in self.nodes.drain() {
            seen.fleet.refresh_node(state, &node);
        }
        for alloc in self.allocs.drain() {
            seen.fleet.refresh_alloc(state, &alloc);
        }
        seen.state = Arc::clone(state);
    }
}
