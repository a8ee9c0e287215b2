//! When does a blocking query go on?
//!
//! ```text
//!   feed line ─► Follow::line    which keys changed?
//!   settled   ─► new View stored ─► waiters of these keys woken; tables: at most every 50 ms
//!   query     ─► enlist(key) ─► look at the View ─► newer? answer : wait, look again
//! ```
//!
//! Invariants
//! * A waiter enlists before it looks, and the view is stored before waiters are woken: no change is
//!   missed between.
//! * Queries for one thing, and agents, wake by its key; only lists of a whole table wake by table.
//! * Rows that vanish leave no modify index behind, so each table (and each node, for its agent) notes
//!   the index of its last removal; after a reset everything counts as removed then.
//! * What waits is bounded by [`WAITING_MAX`], streams not counted.
//!
//! Driven by the replica's task (never waits) and by handlers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use client::replica::Observer;
use fsm::{Change, FeedLine, State, Table};
use kit::process::Shutdown;
use model::{AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, Index, JobId, NamespaceName, NodeId};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::events::log::Log;
use crate::events::shape;
use crate::wishes::{List, Wishes};

/// Most blocking queries at a time.
pub const WAITING_MAX: usize = 16_384;
/// Lists wake at most this often.
pub const TABLE_PAUSE: Duration = Duration::from_millis(50);
/// Nodes whose last removal is remembered one by one.
const NODES_MAX: usize = 32_768;

/// What a query waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Table(Table),
    /// The list of jobs, which shows their summaries too.
    JobList,
    /// The list of jobs with what runs of them.
    JobStatuses,
    /// The job, its versions, submissions and summary.
    Job(NamespaceName, JobId),
    JobAllocs(NamespaceName, JobId),
    JobEvals(NamespaceName, JobId),
    JobDeployments(NamespaceName, JobId),
    Node(NodeId),
    NodeAllocs(NodeId),
    /// What the cluster wants of a node's allocations; news from the node itself is not among it.
    NodeWishes(NodeId),
    Alloc(AllocId),
    Eval(EvalId),
    EvalAllocs(EvalId),
    Deployment(DeploymentId),
    DeploymentAllocs(DeploymentId),
    Namespace(NamespaceName),
}

/// The state as queries see it.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub state: Arc<State>,
    /// Index of the last removal, by table.
    gone: [Index; Table::ALL.len()],
}

/// Where the thing that a query asks for stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It last changed here: a query that waits for more than an earlier index is answered.
    pub changed: Index,
    /// What the answer says.
    pub shown: Index,
}

impl View {
    /// Whole tables.
    pub fn tables(&self, tables: &[Table]) -> Seen {
        let last = tables.iter().map(|t| self.state.table_index(*t)).max().unwrap_or_default();
        Seen { changed: last, shown: last }
    }

    /// One row, by its modify index.
    pub fn row(&self, modify_index: Option<Index>, table: Table) -> Seen {
        match modify_index {
            Some(index) => Seen { changed: index, shown: index },
            None => Seen { changed: self.gone(table), shown: self.state.table_index(table) },
        }
    }

    /// Some rows of a table, by their modify indexes.
    pub fn rows(&self, modify_indexes: impl Iterator<Item = Index>, table: Table) -> Seen {
        let changed = modify_indexes.max().unwrap_or_default().max(self.gone(table));
        Seen { changed, shown: self.state.table_index(table).max(changed) }
    }

    fn gone(&self, table: Table) -> Index {
        self.gone[table as usize]
    }
}

/// The view, and who waits for what of it.
pub struct Watches {
    view: ArcSwap<View>,
    waiters: Mutex<HashMap<Key, Arc<Notify>>>,
    /// Tables that changed and whose waiters were not woken yet.
    dirty: Mutex<Vec<Table>>,
    table_work: Notify,
    nodes: Mutex<NodeRemovals>,
    wishes: Wishes,
    parked: Arc<Semaphore>,
    /// What the event stream tells of the same feed.
    events: Arc<Log>,
}

/// Index of the last removal of an allocation, by node.
#[derive(Default)]
struct NodeRemovals {
    /// For nodes that are not in the map.
    otherwise: Index,
    nodes: HashMap<NodeId, Index>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            view: ArcSwap::from_pointee(View::default()),
            waiters: Mutex::default(),
            dirty: Mutex::default(),
            table_work: Notify::new(),
            nodes: Mutex::default(),
            wishes: Wishes::default(),
            parked: Arc::new(Semaphore::new(WAITING_MAX)),
            events: Arc::default(),
        }
    }
}

impl Watches {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub fn events(&self) -> &Arc<Log> {
        &self.events
    }

    /// The right to wait; `None` at the limit.
    pub fn may_wait(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.parked).try_acquire_owned().ok()
    }

    /// How many queries wait now.
    pub fn waiting(&self) -> usize {
        WAITING_MAX - self.parked.available_permits()
    }

    /// Enlists a waiter.
    pub fn enlist(self: &Arc<Self>, key: Key) -> Waiter {
        let notify = Arc::clone(lock(&self.waiters).entry(key.clone()).or_default());
        Waiter { watches: Arc::clone(self), key, notify }
    }

    /// What the cluster changes of a node's allocations from now on.
    pub fn wishes_of(&self, node: &NodeId) -> List {
        self.wishes.open(node, || self.view.load().state.index())
    }

    /// When an allocation of the node was last forgotten, at the latest.
    pub fn removed_from_node(&self, node: &NodeId) -> Index {
        let removals = lock(&self.nodes);
        removals.nodes.get(node).copied().unwrap_or(removals.otherwise)
    }

    /// Wakes the waiters of tables, in its own time. Runs until shutdown.
    pub async fn wake_tables(self: Arc<Self>, shutdown: Shutdown) {
        let mut last: Option<Instant> = None;
        while shutdown.or(self.table_work.notified()).await.is_some() {
            if let Some(last) = last {
                tokio::time::sleep_until(last + TABLE_PAUSE).await;
            }
            last = Some(Instant::now());
            let tables = std::mem::take(&mut *lock(&self.dirty));
            let jobs = tables.iter().any(|t| matches!(t, Table::Jobs | Table::JobSummaries));
            let shown = [Table::Jobs, Table::JobSummaries, Table::Allocs, Table::Deployments];
            let statuses = tables.iter().any(|table| shown.contains(table)).then_some(Key::JobStatuses);
            self.wake(tables.into_iter().map(Key::Table).chain(jobs.then_some(Key::JobList)).chain(statuses));
        }
    }

    fn wake(&self, keys: impl Iterator<Item = Key>) {
        let waiters = lock(&self.waiters);
        if waiters.is_empty() {
            return;
        }
        for notify in keys.filter_map(|key| waiters.get(&key)) {
            notify.notify_waiters();
        }
    }

    fn wake_all(&self) {
        lock(&self.waiters).values().for_each(|notify| notify.notify_waiters());
    }
}

/// One that waits for a key; leaves when dropped.
pub struct Waiter {
    watches: Arc<Watches>,
    key: Key,
    notify: Arc<Notify>,
}

impl Waiter {
    /// Waits until `look` finds something in the view, or `deadline`; `None` then.
    pub async fn until<T>(&self, deadline: Instant, mut look: impl FnMut(&Arc<View>) -> Option<T>) -> Option<T> {
        loop {
            let woken = self.notify.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if let Some(found) = look(&self.watches.view()) {
                return Some(found);
            }
            if tokio::time::timeout_at(deadline, woken).await.is_err() {
                return None;
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = lock(&self.watches.waiters);
        // The map's and ours.
        if Arc::strong_count(&self.notify) == 2 {
            waiters.remove(&self.key);
        }
    }
}

/// Hands the feed to the watches.
pub struct Follow {
    watches: Arc<Watches>,
    view: View,
    keys: Vec<Key>,
    wishes: Vec<(Index, NodeId, AllocId)>,
    tables: [bool; Table::ALL.len()],
}

impl Follow {
    pub fn new(watches: Arc<Watches>) -> Self {
        Self { watches, view: View::default(), keys: Vec::new(), wishes: Vec::new(), tables: [false; Table::ALL.len()] }
    }

    fn note(&mut self, change: &Change, state: &State, index: Index) {
        let table = change.table();
        self.tables[table as usize] = true;
        let old = Arc::clone(&self.view.state);
        let keys = &mut self.keys;
        match change {
            Change::Job(job) | Change::JobVersion(job) => {
                let (namespace, id) = job.key();
                keys.push(Key::Job(namespace, id));
            }
            Change::JobStatus { namespace, id, .. }
            | Change::JobGone { namespace, id }
            | Change::JobVersionGone { namespace, id, .. }
            | Change::JobSubmission { namespace, id, .. }
            | Change::JobScalingGone { namespace, id }
            | Change::JobSummaryGone { namespace, id } => keys.push(Key::Job(namespace.clone(), id.clone())),
            Change::JobScaling(row) => keys.push(Key::Job(row.namespace.clone(), row.job_id.clone())),
            Change::JobSummary(row) => keys.push(Key::Job(row.namespace.clone(), row.job_id.clone())),
            Change::Node(node) => keys.push(Key::Node(node.id.clone())),
            Change::NodeGone { id } => keys.push(Key::Node(id.clone())),
            Change::NodeRevoked { id, .. } => keys.push(Key::NodeWishes(id.clone())),
            Change::Alloc(row) => {
                alloc_keys(row, true, keys);
                self.wishes.push((index, row.node_id.clone(), row.id.clone()));
            }
            Change::AllocClient { update, .. } => {
                state.alloc(&update.id).into_iter().for_each(|row| alloc_keys(row, false, keys));
            }
            Change::AllocGone { id } => {
                if let Some(row) = old.alloc(id) {
                    alloc_keys(row, true, keys);
                    self.removed(&row.node_id, index);
                }
            }
            Change::Eval(row) => eval_keys(row, keys),
            Change::EvalGone { id } => old.eval(id).into_iter().for_each(|row| eval_keys(row, keys)),
            Change::Deployment(row) => deployment_keys(row, keys),
            Change::DeploymentGone { id } => {
                old.deployment(id).into_iter().for_each(|row| deployment_keys(row, keys));
            }
            Change::Namespace(row) => keys.push(Key::Namespace(row.name.as_str().into())),
            Change::NamespaceGone { name } => keys.push(Key::Namespace(name.clone())),
            Change::Cluster(_)
            | Change::Lease(_)
            | Change::NodePool(_)
            | Change::NodePoolGone { .. }
            | Change::SchedulerConfig(_)
            | Change::Autopilot(_)
            | Change::RootKey(_)
            | Change::RootKeyGone { .. }
            | Change::PeriodicLaunch(_)
            | Change::PeriodicLaunchGone { .. }
            | Change::JobFence { .. }
            | Change::NodeSuspect { .. }
            | Change::NodeFence { .. }
            | Change::Capacity { .. } => {}
        }
        if is_removal(change) {
            self.view.gone[table as usize] = index;
        }
    }

    fn removed(&self, node: &NodeId, index: Index) {
        let mut removals = lock(&self.watches.nodes);
        if removals.nodes.len() >= NODES_MAX && !removals.nodes.contains_key(node) {
            removals.nodes.clear();
            removals.otherwise = index;
        }
        removals.nodes.insert(node.clone(), index);
    }
}

impl Observer for Follow {
    fn reset(&mut self, state: &Arc<State>) {
        let index = state.index();
        self.view = View { state: Arc::clone(state), gone: [index; Table::ALL.len()] };
        // After a reset every stream is told everything.
        self.wishes.clear();
        *lock(&self.watches.nodes) = NodeRemovals { otherwise: index, nodes: HashMap::new() };
        self.watches.view.store(Arc::new(self.view.clone()));
        self.watches.wake_all();
        self.watches.events.reset(index);
    }

    fn line(&mut self, state: &State, line: &FeedLine) {
        line.changes.iter().for_each(|change| self.note(change, state, line.index));
        self.watches.events.push(line.index, shape::events(&self.view.state, state, line));
    }

    fn settled(&mut self, state: &Arc<State>) {
        self.view.state = Arc::clone(state);
        let view = Arc::new(self.view.clone());
        self.watches.wishes.note(self.wishes.drain(..), || self.watches.view.store(view));
        self.watches.wake(self.keys.drain(..));
        self.watches.events.announce(state.index());
        let changed = Table::ALL.into_iter().filter(|t| std::mem::take(&mut self.tables[*t as usize]));
        let mut dirty = lock(&self.watches.dirty);
        let before = dirty.len();
        for table in changed {
            if !dirty.contains(&table) {
                dirty.push(table);
            }
        }
        if dirty.len() > before {
            self.watches.table_work.notify_one();
        }
    }
}

fn is_removal(change: &Change) -> bool {
    match change {
        Change::JobGone { .. }
        | Change::JobVersionGone { .. }
        | Change::JobSummaryGone { .. }
        | Change::JobScalingGone { .. }
        | Change::PeriodicLaunchGone { .. }
        | Change::NodeGone { .. }
        | Change::AllocGone { .. }
        | Change::EvalGone { .. }
        | Change::DeploymentGone { .. }
        | Change::NamespaceGone { .. }
        | Change::NodePoolGone { .. } => true,
        Change::JobSubmission { submission, .. } => submission.is_none(),
        _ => false,
    }
}

fn alloc_keys(row: &Allocation, wish: bool, keys: &mut Vec<Key>) {
    keys.push(Key::Alloc(row.id.clone()));
    keys.push(Key::JobAllocs(row.namespace.clone(), row.job_id.clone()));
    keys.push(Key::NodeAllocs(row.node_id.clone()));
    keys.push(Key::EvalAllocs(row.eval_id.clone()));
    if wish {
        keys.push(Key::NodeWishes(row.node_id.clone()));
    }
    if let Some(deployment) = row.deployment_id.non_empty() {
        keys.push(Key::DeploymentAllocs(deployment.clone()));
    }
}

fn eval_keys(row: &Evaluation, keys: &mut Vec<Key>) {
    keys.push(Key::Eval(row.id.clone()));
    keys.push(Key::JobEvals(row.namespace.clone(), row.job_id.clone()));
}

fn deployment_keys(row: &Deployment, keys: &mut Vec<Key>) {
    keys.push(Key::Deployment(row.id.clone()));
    keys.push(Key::JobDeployments(row.namespace.clone(), row.job_id.clone()));
}
