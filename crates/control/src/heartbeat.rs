//! Which nodes are alive?
//!
//! ```text
//!   row, take-over ──► watched ──no beat for a TTL──► overdue ──► NodeStatusChange{down} ──row──► out
//!                        ▲  │                            │
//!                        │  └─stream broke─► suspect     │ beat
//!                        └──────────beat────────┴────────┘
//! ```
//!
//! Time here is the time in which the controller was reading beats: each call moves the clock by what
//! passed since the last one, and not at all when that was too long to have been watching. A controller
//! that was frozen, or whose machine slept, therefore finds nobody overdue that it did not wait for.
//!
//! Invariants
//! * A node is declared down only after a whole TTL (with the operator's grace) of watched time without a beat; a suspicion alone
//!   changes no status.
//! * A node that came under watch by a take-over has one period more.
//! * An overdue node is named again until its row is down, so a lost command is made good.
//!
//! Who drives it: the controller's shell, with node rows, beats, broken streams and a tick at least every
//! half second. It fails by being late, never early; an operator sees nodes that stay `ready` although
//! nobody hears of them. Deliberately absent: wall-clock comparisons between machines.

use std::collections::{BTreeMap, BTreeSet};

use fsm::State;
use fsm::command::NodeStatusChange;
use model::{DesiredStatus, Nanos, Node, NodeId, NodeStatus, Timestamp};

use crate::node::{event, node_event};

/// Every number of the watch, named once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Period of beats when nodes are few.
    pub period_ms_min: u64,
    /// Period at `nodes_full` nodes; beyond, it grows so that the rate of beats stays.
    pub period_ms_full: u64,
    pub nodes_full: u64,
    pub ttl_periods: u64,
    /// Longer than a restarted agent needs to be back.
    pub ttl_ms_min: u64,
    /// A node may be silent for so much longer than it was told.
    pub grace_ms: u64,
    /// The period grows by this for each node, if that is longer: a limit to all beats together; 0 = none.
    pub period_us_per_node: u64,
    /// What a node has after a take-over; a whole TTL with grace and one period unless said.
    pub failover_ms: Option<u64>,
    /// A longer silence of the controller itself is not counted.
    pub gap_ms: u64,
    /// New streams all gateways together accept in a second.
    pub handshakes_per_s: u64,
    /// Nodes declared down in one call.
    pub decisions_max: usize,
    /// An overdue node whose row has not changed is named again after this.
    pub retry_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            period_ms_min: 1_000,
            period_ms_full: 5_000,
            nodes_full: 10_000,
            ttl_periods: 3,
            ttl_ms_min: 5_000,
            grace_ms: 0,
            period_us_per_node: 0,
            failover_ms: None,
            gap_ms: 1_000,
            handshakes_per_s: 500,
            decisions_max: 512,
            retry_ms: 2_000,
        }
    }
}

impl Settings {
    /// How often a node shall beat when there are that many.
    pub fn period_ms(&self, nodes: usize) -> u64 {
        let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
        let full = self.nodes_full.max(1);
        let usual = if nodes >= full {
            self.period_ms_full.saturating_mul(nodes) / full
        } else {
            self.period_ms_min + self.period_ms_full.saturating_sub(self.period_ms_min) * nodes / full
        };
        usual.max(self.period_us_per_node.saturating_mul(nodes) / 1_000)
    }

    /// How long a node may be silent.
    pub fn ttl_ms(&self, nodes: usize) -> u64 {
        self.period_ms(nodes).saturating_mul(self.ttl_periods).max(self.ttl_ms_min)
    }

    /// After which silence a node is down.
    fn patience_ms(&self, nodes: usize) -> u64 {
        self.ttl_ms(nodes).saturating_add(self.grace_ms)
    }
}

/// The answer to a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub period_ms: u64,
    pub ttl_ms: u64,
}

#[derive(Clone, Debug)]
struct Watch {
    deadline_ms: u64,
    gateway: String,
}

/// See the module's documentation. Moments are milliseconds of the shell's monotonic clock.
#[derive(Debug)]
pub struct Beats {
    settings: Settings,
    watched: BTreeMap<NodeId, Watch>,
    deadlines: BTreeSet<(u64, NodeId)>,
    suspects: BTreeSet<NodeId>,
    last_ms: u64,
    /// Watched time.
    clock_ms: u64,
}

impl Beats {
    pub fn new(settings: Settings, now_ms: u64) -> Self {
        Self {
            settings,
            watched: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            suspects: BTreeSet::new(),
            last_ms: now_ms,
            clock_ms: 0,
        }
    }

    /// This controller begins to watch, or the raft leader changed: every node that is not down has a
    /// whole TTL and one period of grace from now.
    pub fn take_over(&mut self, state: &State, now_ms: u64) {
        self.observe(now_ms);
        self.watched.clear();
        self.deadlines.clear();
        self.suspects.clear();
        let alive: Vec<&Node> = state.nodes().map(|node| &**node).filter(|node| !node.is_down()).collect();
        let usual = self.settings.patience_ms(alive.len()).saturating_add(self.settings.period_ms(alive.len()));
        let span = self.settings.failover_ms.unwrap_or(usual);
        for node in alive {
            self.watch(&node.id, self.clock_ms.saturating_add(span));
        }
    }

    /// A node's row was written.
    pub fn on_node(&mut self, node: &Node, now_ms: u64) {
        self.observe(now_ms);
        if node.is_down() {
            self.forget(&node.id);
        } else if !self.watched.contains_key(&node.id) {
            let patience_ms = self.settings.patience_ms(self.watched.len() + 1);
            self.watch(&node.id, self.clock_ms.saturating_add(patience_ms));
        }
    }

    /// A node's row was deleted.
    pub fn on_node_gone(&mut self, id: &NodeId) {
        self.forget(id);
    }

    /// A beat, or anything else the node itself said. Also for a node that is down: what becomes of its
    /// status is [`on_beat`]'s to say.
    pub fn beat(&mut self, id: &NodeId, gateway: &str, now_ms: u64) -> Schedule {
        self.observe(now_ms);
        self.suspects.remove(id);
        let schedule = self.schedule();
        let patience_ms = schedule.ttl_ms.saturating_add(self.settings.grace_ms);
        if let Some(watch) = self.watched.get_mut(id) {
            self.deadlines.remove(&(watch.deadline_ms, id.clone()));
            watch.deadline_ms = self.clock_ms.saturating_add(patience_ms);
            if watch.gateway != gateway {
                gateway.clone_into(&mut watch.gateway);
            }
            self.deadlines.insert((watch.deadline_ms, id.clone()));
        }
        schedule
    }

    pub fn schedule(&self) -> Schedule {
        let nodes = self.watched.len();
        Schedule { period_ms: self.settings.period_ms(nodes), ttl_ms: self.settings.ttl_ms(nodes) }
    }

    /// The node's stream broke: no new work for it until it beats. True when it is news and the node
    /// shall be asked for a beat at once.
    pub fn suspect(&mut self, id: &NodeId, now_ms: u64) -> bool {
        self.observe(now_ms);
        self.watched.contains_key(id) && self.suspects.insert(id.clone())
    }

    pub fn is_suspect(&self, id: &NodeId) -> bool {
        self.suspects.contains(id)
    }

    pub fn suspects(&self) -> impl Iterator<Item = &NodeId> {
        self.suspects.iter()
    }

    /// A gateway died: its nodes reconnect elsewhere and have the time that takes for so many.
    pub fn gateway_lost(&mut self, gateway: &str, now_ms: u64) {
        self.observe(now_ms);
        let of: Vec<NodeId> =
            self.watched.iter().filter(|(_, w)| w.gateway == gateway).map(|(id, _)| id.clone()).collect();
        let nodes = u64::try_from(of.len()).unwrap_or(u64::MAX);
        let crowd_ms = nodes.saturating_mul(1_000) / self.settings.handshakes_per_s.max(1);
        let patience_ms = self.settings.patience_ms(self.watched.len());
        let least = self.clock_ms.saturating_add(crowd_ms).saturating_add(patience_ms);
        for id in of {
            let Some(watch) = self.watched.get(&id) else { continue };
            let deadline = watch.deadline_ms.max(least);
            self.suspects.insert(id.clone());
            self.watch(&id, deadline);
        }
    }

    /// Nodes that were silent for their whole TTL, and what shall become of them.
    pub fn tick(&mut self, state: &State, now_ms: u64, wall: Timestamp) -> Vec<NodeStatusChange> {
        self.observe(now_ms);
        let mut changes = Vec::new();
        while changes.len() < self.settings.decisions_max {
            let Some((_, id)) = self.deadlines.first().filter(|(due, _)| *due <= self.clock_ms).cloned() else { break };
            let Some(node) = state.node(&id).filter(|node| !node.is_down()) else {
                self.forget(&id);
                continue;
            };
            // A disconnected node stays overdue: it is down once nothing there is to be kept any more.
            changes.extend(silenced(state, node, wall));
            self.watch(&id, self.clock_ms.saturating_add(self.settings.retry_ms.max(1)));
        }
        changes
    }

    /// When `tick` wants to be called next.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let (first, _) = self.deadlines.first()?;
        let ahead = first.saturating_sub(self.clock_ms).min(self.settings.gap_ms / 2);
        Some(self.last_ms.saturating_add(ahead))
    }

    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    fn watch(&mut self, id: &NodeId, deadline_ms: u64) {
        let gateway = match self.watched.get(id) {
            Some(watch) => {
                self.deadlines.remove(&(watch.deadline_ms, id.clone()));
                watch.gateway.clone()
            }
            None => String::new(),
        };
        self.watched.insert(id.clone(), Watch { deadline_ms, gateway });
        self.deadlines.insert((deadline_ms, id.clone()));
    }

    fn forget(&mut self, id: &NodeId) {
        self.suspects.remove(id);
        if let Some(watch) = self.watched.remove(id) {
            self.deadlines.remove(&(watch.deadline_ms, id.clone()));
        }
    }

    fn observe(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.last_ms);
        if passed <= self.settings.gap_ms {
            self.clock_ms = self.clock_ms.saturating_add(passed);
        }
        self.last_ms = self.last_ms.max(now_ms);
    }
}

/// What a node becomes that was silent too long: `disconnected` when some of its allocations are to be
/// kept for a while, `down` otherwise. `None` when it is that already.
pub fn silenced(state: &State, node: &Node, now: Timestamp) -> Option<NodeStatusChange> {
    let keeps = node.status == NodeStatus::Ready || node.status == NodeStatus::Disconnected;
    let status = if keeps && may_disconnect(state, node, now) { NodeStatus::Disconnected } else { NodeStatus::Down };
    (node.status != status).then(|| change(node, status, Some(event::HEARTBEAT_MISSED), now))
}

/// What a beat makes of a node's status; `None` when it stays as it is.
pub fn on_beat(state: &State, node: &Node, now: Timestamp) -> Option<NodeStatusChange> {
    match node.status {
        NodeStatus::Ready => None,
        NodeStatus::Down => Some(change(node, NodeStatus::Ready, Some(event::REREGISTERED_BY_HEARTBEAT), now)),
        NodeStatus::Disconnected => Some(change(node, NodeStatus::Initializing, None, now)),
        NodeStatus::Initializing => {
            let pool_exists = state.node_pool(node.pool()).is_some();
            let unsynced = node.last_alloc_update_index <= node.last_missed_heartbeat_index;
            let waits = unsynced && state.allocs_of_node(&node.id).any(|alloc| !alloc.is_terminal());
            (pool_exists && !waits).then(|| change(node, NodeStatus::Ready, None, now))
        }
    }
}

fn change(node: &Node, status: NodeStatus, message: Option<&str>, now: Timestamp) -> NodeStatusChange {
    NodeStatusChange {
        node_id: node.id.clone(),
        status,
        updated_at: now.unix_nanos() / 1_000_000_000,
        event: message.map(|message| node_event(message, now)),
    }
}

/// Whether an allocation there is to run on unseen for a while, and that while is not over.
fn may_disconnect(state: &State, node: &Node, now: Timestamp) -> bool {
    state.allocs_of_node(&node.id).any(|alloc| {
        let group = state.job_of_alloc(alloc).and_then(|job| job.lookup_group(&alloc.task_group));
        let Some(group) = group.filter(|group| group.lost_after() > Nanos(0)) else { return false };
        let runs = alloc.desired_status == DesiredStatus::Run && !alloc.client_terminal();
        runs && !alloc.is_expired(group, now)
    })
}
