//! What the controller's handlers, feed and loops share: the watch over beats, deployments to look at, and
//! wake-ups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::clock;
use client::replica::Observer;
use control::heartbeat::{Beats, Settings};
use fsm::{Change, FeedLine, State};
use model::{DeploymentId, Index, NodeId, Term};
use tokio::sync::{Notify, watch};

pub struct Shared {
    watch: Mutex<Watch>,
    /// A beat may change a node's status.
    pub nodes: Notify,
    /// Rows that deployments depend on changed.
    pub deployments: Notify,
    /// The index at which a periodic job, or the record of a launch, last changed.
    pub periodic: watch::Sender<Index>,
    touched: Mutex<Touched>,
    /// A drain began or changed, or what its moves depend on did.
    pub drains: Notify,
    drained: Mutex<Drained>,
}

/// Nodes that are being drained.
#[derive(Default)]
struct Drained {
    nodes: BTreeSet<NodeId>,
    /// What the replica must have reached for all that was told to be seen.
    index: Index,
}

impl Drained {
    /// Whether the line concerns a drain.
    fn note(&mut self, line: &FeedLine) -> bool {
        let mut concerns = false;
        for change in &line.changes {
            concerns |= match change {
                Change::Node(node) if node.is_draining() => {
                    self.nodes.insert(node.id.clone());
                    true
                }
                Change::Node(node) => self.nodes.remove(&node.id),
                Change::NodeGone { id } => self.nodes.remove(id),
                Change::Alloc(_) | Change::AllocClient { .. } | Change::AllocGone { .. } | Change::Job(_) => {
                    !self.nodes.is_empty()
                }
                _ => false,
            };
        }
        if concerns {
            self.index = line.index;
        }
        concerns
    }
}

const TOUCHED_MAX: usize = 10_000;

pub struct Watch {
    pub beats: Beats,
    /// Nodes that beat while their row says that they are not ready.
    pub returning: BTreeSet<NodeId>,
    /// The term in which this watch was begun.
    term: Option<Term>,
}

impl Watch {
    /// Begins anew when the lease was acquired; who comes first does it. What was suspect stays so until it
    /// beats.
    pub fn begin(&mut self, term: Term, state: &State, now_ms: u64) {
        if self.term == Some(term) {
            return;
        }
        self.term = Some(term);
        self.returning.clear();
        self.beats.take_over(state, now_ms);
        for id in state.suspects() {
            self.beats.suspect(id, now_ms);
        }
    }

    /// What the rows should say and do not: suspicions that began, and those that are over. At most `max`.
    pub fn suspicions(&self, state: &State, max: usize) -> BTreeMap<NodeId, bool> {
        let alive = |id: &NodeId| state.node(id).is_some_and(|node| !node.is_down());
        let begun = self.beats.suspects().filter(|id| !state.is_suspect(id) && alive(id)).map(|id| (id.clone(), true));
        let over = state.suspects().filter(|id| !self.beats.is_suspect(id)).map(|id| (id.clone(), false));
        begun.chain(over).take(max).collect()
    }
}

/// Deployments that something happened to since they were looked at.
#[derive(Default)]
pub struct Touched {
    /// Everything: a new copy of the state, or more than are counted one by one.
    all: bool,
    ids: BTreeSet<DeploymentId>,
    /// What the replica must have reached for all of it to be seen.
    index: Index,
}

impl Touched {
    fn add(&mut self, id: &DeploymentId) {
        if id.is_empty() || self.all {
            return;
        }
        if self.ids.len() >= TOUCHED_MAX {
            *self = Self { all: true, ids: BTreeSet::new(), index: self.index };
        } else if !self.ids.contains(id) {
            self.ids.insert(id.clone());
        }
    }

    pub fn touch_all(&mut self) {
        self.all = true;
    }

    /// Those to look at (`None` for all there are), and where.
    pub fn take(&mut self) -> (Option<BTreeSet<DeploymentId>>, Index) {
        let taken = std::mem::take(self);
        ((!taken.all).then_some(taken.ids), taken.index)
    }
}

impl Shared {
    pub fn new(settings: Settings) -> Arc<Self> {
        let beats = Beats::new(settings, now_ms());
        let watch = Watch { beats, returning: BTreeSet::new(), term: None };
        let (nodes, deployments) = (Notify::new(), Notify::new());
        let (drains, periodic) = (Notify::new(), watch::Sender::new(Index(0)));
        let (touched, drained) = (Mutex::default(), Mutex::default());
        Arc::new(Self { watch: Mutex::new(watch), nodes, deployments, touched, drains, drained, periodic })
    }

    /// Never keep it across a wait.
    pub fn lock(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub fn touched(&self) -> MutexGuard<'_, Touched> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drained(&self) -> MutexGuard<'_, Drained> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any node is being drained.
    pub fn drains_any(&self) -> bool {
        !self.drained().nodes.is_empty()
    }

    /// Index of the last line that concerned a drain.
    pub fn drains_index(&self) -> Index {
        self.drained().index
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
        let mut touched = self.0.touched();
        (touched.all, touched.index) = (true, state.index());
        drop(touched);
        self.0.deployments.notify_one();
        let nodes = state.nodes().filter(|node| node.is_draining()).map(|node| node.id.clone()).collect();
        *self.0.drained() = Drained { nodes, index: state.index() };
        self.0.drains.notify_one();
        self.0.periodic.send_replace(state.index());
    }

    fn line(&mut self, state: &State, line: &FeedLine) {
        if self.0.drained().note(line) {
            self.0.drains.notify_one();
        }
        let mut touched = self.0.touched();
        let before = (touched.all, touched.ids.len());
        for change in &line.changes {
            match change {
                Change::Node(node) => self.0.lock().beats.on_node(node, now_ms()),
                Change::NodeGone { id } => {
                    let mut watch = self.0.lock();
                    watch.beats.on_node_gone(id);
                    watch.returning.remove(id);
                }
                Change::Deployment(row) => touched.add(&row.id),
                Change::Alloc(row) => touched.add(&row.deployment_id),
                Change::AllocClient { update, .. } => {
                    state.alloc(&update.id).into_iter().for_each(|row| touched.add(&row.deployment_id));
                }
                // A job that runs on, or a decision about it, may be what its deployment waited for.
                Change::Job(job) => {
                    if job.is_periodic() {
                        self.0.periodic.send_replace(line.index);
                    }
                    let (namespace, id) = job.key();
                    state.latest_deployment(&namespace, &id).into_iter().for_each(|row| touched.add(&row.id));
                }
                Change::Eval(eval) if eval.status.is_terminal() => {
                    let newest = state.latest_deployment(&eval.namespace, &eval.job_id);
                    newest.filter(|row| row.status.is_active()).into_iter().for_each(|row| touched.add(&row.id));
                }
                Change::PeriodicLaunch(_) => drop(self.0.periodic.send_replace(line.index)),
                _ => {}
            }
        }
        touched.index = line.index;
        if (touched.all, touched.ids.len()) != before {
            self.0.deployments.notify_one();
        }
    }
}
