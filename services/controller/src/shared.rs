//! What the controller's handlers, feed and loops share: the watch over beats, and wake-ups.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::clock;
use client::replica::Observer;
use control::heartbeat::{Beats, Settings};
use fsm::{Change, FeedLine, State};
use model::NodeId;
use tokio::sync::Notify;

pub struct Shared {
    watch: Mutex<Watch>,
    /// A beat may change a node's status.
    pub nodes: Notify,
    /// Rows that deployments depend on changed.
    pub deployments: Notify,
}

pub struct Watch {
    pub beats: Beats,
    /// Nodes that beat while their row says that they are not ready.
    pub returning: BTreeSet<NodeId>,
}

impl Shared {
    pub fn new() -> Arc<Self> {
        let watch = Watch { beats: Beats::new(Settings::default(), now_ms()), returning: BTreeSet::new() };
        Arc::new(Self { watch: Mutex::new(watch), nodes: Notify::new(), deployments: Notify::new() })
    }

    /// Never keep it across a wait.
    pub fn lock(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds on the clock that counts sleep.
pub fn now_ms() -> u64 {
    u64::try_from(clock::boot_time().as_millis()).unwrap_or(u64::MAX)
}

/// Hands rows to the watch.
pub struct Feed(pub Arc<Shared>);

impl Observer for Feed {
    fn reset(&mut self, state: &Arc<State>) {
        let mut watch = self.0.lock();
        for node in state.nodes() {
            watch.beats.on_node(node, now_ms());
        }
        drop(watch);
        self.0.deployments.notify_one();
    }

    fn line(&mut self, _: &State, line: &FeedLine) {
        let mut deployments = false;
        for change in &line.changes {
            match change {
                Change::Node(node) => self.0.lock().beats.on_node(node, now_ms()),
                Change::NodeGone { id } => {
                    let mut watch = self.0.lock();
                    watch.beats.on_node_gone(id);
                    watch.returning.remove(id);
                }
                Change::Deployment(_) | Change::AllocClient { .. } | Change::Alloc(_) => deployments = true,
                _ => {}
            }
        }
        if deployments {
            self.0.deployments.notify_one();
        }
    }
}
