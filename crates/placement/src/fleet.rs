//! All nodes as flat numbers, kept up to date from the feed: what a scheduling pass scans.
//!
//! ```text
//!  chunks: [Arc<Chunk>]          one Chunk = 32 slots
//!    hot:  [Hot; 32]             numbers only: capacity, use, shape, pool, datacenter, flags, hash
//!    rows: [Arc<NodeRow>; 32]    the row, its ports, what each allocation holds
//!  slots:  NodeId  -> slot       a node keeps its slot; a forgotten node's is used again
//!  allocs: AllocId -> slot       allocations that hold something
//!  shapes, pools, datacenters, classes: texts turned into small numbers
//! ```
//!
//! A *shape* is what decides whether a node is feasible, as far as nodes share it: computed class,
//! drivers that are healthy, networks. Static checks run once per shape.
//!
//! Invariants: `hot.used` is the sum of what `row.tenants` hold; `row.claims`, `row.cores` and `row.devices` are the
//! sorted multisets of it; every held allocation is in `allocs` with its node's slot. Absent on
//! purpose: jobs, constraints, anything that costs a string comparison per node.
//!
//! A clone shares every chunk and copies the ones it changes, so a scheduling pass takes one as its
//! working copy and throws it away. Driven by whoever follows the feed: [`Fleet::from_state`] once, then
//! [`Fleet::apply`] for every change; [`Fleet::assume`] lets the next evaluation of a batch see the plan
//! of the one before.

use std::collections::BTreeSet;
use std::sync::Arc;

use fsm::{Change, Plan, State};
use imbl::OrdMap;
use model::hash::{fnv1a, fnv1a_from};
use model::{AllocId, Allocation, ClientStatus, Job, JobId, NamespaceName, Node, NodeId};

use crate::device::Instance;
use crate::fit::{self, Amounts, Facts, Held, Misfit, capacity};
use crate::ports::{Claim, NodePorts};
use crate::volumes::Volumes;

const CHUNK: usize = 32;

pub(crate) type Slot = u32;

/// The numbers of one node that the scoring loop reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hot {
    pub capacity: Amounts,
    pub used: Amounts,
    pub shape: u32,
    pub pool: u32,
    pub datacenter: u32,
    pub class: u32,
    /// Allocations that hold something there, and how many may (0: any number).
    pub allocs: u32,
    pub allocs_max: u32,
    /// Up, not draining, eligible.
    pub ready: bool,
    pub hash: u64,
}

/// The rest of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeRow {
    pub node: Arc<Node>,
    pub facts: Arc<Facts>,
    /// Sorted by id.
    tenants: Vec<Arc<Tenant>>,
    /// What they hold, sorted.
    pub claims: Vec<Claim>,
    pub cores: Vec<u16>,
    pub devices: Vec<Instance>,
}

/// An allocation on a node: what it holds, and what those must know who would take it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub id: AllocId,
    pub held: Held,
    pub rank: Rank,
}

/// How an allocation stands among others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rank {
    /// Hashes of namespace and job, and of these and the group.
    pub job: u64,
    pub group: u64,
    /// Of the version of the job that it runs.
    pub priority: i32,
    /// How many of the group may be moved at once; 0 for any number.
    pub parallel: u32,
    /// It was asked to stop; nobody needs to ask again.
    pub leaving: bool,
}

impl Rank {
    fn of(alloc: &Allocation, job: Option<&Job>) -> Self {
        let group = job.and_then(|job| job.lookup_group(&alloc.task_group));
        let parallel = group.and_then(|g| g.migrate.as_ref()).and_then(|m| m.max_parallel).unwrap_or(0);
        let key = job_key(&alloc.namespace, &alloc.job_id);
        Self {
            job: key,
            group: group_key(key, &alloc.task_group),
            priority: job.map_or(0, |job| i32::try_from(job.priority()).unwrap_or(i32::MAX)),
            parallel: u32::try_from(parallel).unwrap_or(0),
            leaving: alloc.server_terminal(),
        }
    }
}

pub(crate) fn job_key(namespace: &NamespaceName, job: &JobId) -> u64 {
    fnv1a_from(fnv1a_from(fnv1a(namespace.as_str().as_bytes()), &[0]), job.as_str().as_bytes())
}

pub(crate) fn group_key(job: u64, group: &str) -> u64 {
    fnv1a_from(fnv1a_from(job, &[0]), group.as_bytes())
}

impl NodeRow {
    /// The allocations there, by id.
    pub(crate) fn tenants(&self) -> &[Arc<Tenant>] {
        &self.tenants
    }

    /// Becomes the same node with the same things held, without saying by whom.
    pub(crate) fn clone_holdings(&mut self, other: &Self) {
        self.node.clone_from(&other.node);
        self.facts.clone_from(&other.facts);
        self.claims.clone_from(&other.claims);
        self.cores.clone_from(&other.cores);
        self.devices.clone_from(&other.devices);
    }

    /// What the others hold, as if that were not there.
    pub(crate) fn remove(&mut self, held: &Held) {
        remove_all(&mut self.claims, &held.claims);
        remove_all(&mut self.cores, &held.cores);
        remove_all(&mut self.devices, &held.devices);
    }
}

#[derive(Clone, Debug)]
struct Chunk {
    hot: Vec<Hot>,
    rows: Vec<Arc<NodeRow>>,
}

/// What nodes of one shape have in common, and one of them to ask.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub sample: Arc<Node>,
    key: String,
    nodes: u32,
}

/// Every node of the cluster; see the module's text. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    chunks: Vec<Arc<Chunk>>,
    len: usize,
    slots: OrdMap<NodeId, Slot>,
    ids: Arc<Vec<NodeId>>,
    free: Vec<Slot>,
    allocs: OrdMap<AllocId, Slot>,
    shapes: imbl::Vector<Shape>,
    shape_ids: OrdMap<String, u32>,
    shapes_free: Vec<u32>,
    pools: Arc<Vec<String>>,
    datacenters: Arc<Vec<String>>,
    classes: Arc<Vec<String>>,
    volumes: Arc<Volumes>,
}

impl Fleet {
    pub fn from_state(state: &State) -> Self {
        let mut fleet = Self::default();
        for node in state.nodes() {
            fleet.put_node(state, node);
        }
        fleet
    }

    /// Takes over one row change. `state` is the state after it (or after the whole line it came in).
    pub fn apply(&mut self, state: &State, change: &Change) {
        match change {
            Change::Node(node) => self.refresh_node(state, &node.id),
            Change::NodeGone { id } if state.node(id).is_none() => self.drop_node(id),
            Change::Alloc(alloc) => self.refresh_alloc(state, &alloc.id),
            Change::AllocClient { update, .. } => self.refresh_alloc(state, &update.id),
            Change::AllocGone { id } => self.refresh_alloc(state, id),
            _ => {}
        }
    }

    /// Acts as if a plan were committed: its placements hold their resources. What it stops goes on
    /// holding them until the node says that it ended, as in state.
    pub fn assume(&mut self, plan: &Plan) {
        for (node, part) in &plan.parts {
            for stop in &part.stop {
                if stop.client_status.is_some_and(ClientStatus::is_terminal) {
                    self.release(&stop.id);
                }
            }
            let Some(slot) = self.slot(node) else { continue };
            for alloc in &part.place {
                let held = Held::of(alloc, &self.row(slot).facts);
                let job = job_key(&plan.namespace, &plan.job_id);
                let rank = Rank {
                    job,
                    group: group_key(job, &alloc.task_group),
                    priority: i32::try_from(plan.priority).unwrap_or(i32::MAX),
                    ..Rank::default()
                };
                self.hold(slot, Arc::new(Tenant { id: alloc.id.clone(), held, rank }));
            }
        }
    }

    /// With these rows of volumes.
    #[must_use]
    pub fn with_volumes(self, volumes: Volumes) -> Self {
        Self { volumes: Arc::new(volumes), ..self }
    }

    pub(crate) fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is in use on a node, as counted here.
    pub fn used(&self, id: &NodeId) -> Option<Amounts> {
        self.slot(id).map(|slot| self.hot(slot).used)
    }

    /// Everything that is counted of a node, as text: what tests compare with counting anew.
    #[doc(hidden)]
    pub fn holdings(&self, id: &NodeId) -> Option<String> {
        let slot = self.slot(id)?;
        let (hot, row) = (self.hot(slot), self.row(slot));
        let sums = (hot.capacity, hot.used, hot.allocs, hot.allocs_max, hot.ready);
        Some(format!("{sums:?} {:?} {:?} {:?} {:?}", row.claims, row.cores, row.devices, row.tenants))
    }

    pub(crate) fn slot(&self, id: &NodeId) -> Option<Slot> {
        self.slots.get(id).copied()
    }

    /// One past the last slot; some in between may be empty (their `ready` is false).
    pub(crate) fn end(&self) -> usize {
        self.len
    }

    /// All slots in order, with their numbers.
    pub(crate) fn scan(&self) -> impl Iterator<Item = (Slot, &Hot)> {
        (0..).zip(self.chunks.iter().flat_map(|chunk| &chunk.hot))
    }

    pub(crate) fn hot(&self, slot: Slot) -> &Hot {
        let at = slot as usize;
        &self.chunks[at / CHUNK].hot[at % CHUNK]
    }

    pub(crate) fn row(&self, slot: Slot) -> &Arc<NodeRow> {
        let at = slot as usize;
        &self.chunks[at / CHUNK].rows[at % CHUNK]
    }

    pub(crate) fn node(&self, slot: Slot) -> &Arc<Node> {
        &self.row(slot).node
    }

    /// Ids by slot; that of an empty slot is the last node's that had it.
    pub(crate) fn ids(&self) -> &Arc<Vec<NodeId>> {
        &self.ids
    }

    pub(crate) fn shapes(&self) -> &imbl::Vector<Shape> {
        &self.shapes
    }

    pub(crate) fn datacenters(&self) -> &[String] {
        &self.datacenters
    }

    /// Names of node classes by number.
    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The number of a pool's name; `None` when no node is in it.
    pub(crate) fn pool(&self, name: &str) -> Option<u32> {
        position(&self.pools, name)
    }

    /// Takes an allocation from its node, with what it holds.
    pub(crate) fn release(&mut self, id: &AllocId) -> Option<(Slot, Arc<Tenant>)> {
        let slot = self.allocs.remove(id)?;
        let (hot, row) = self.edit(slot);
        let at = row.tenants.binary_search_by(|tenant| tenant.id.cmp(id)).ok()?;
        let tenant = row.tenants.remove(at);
        hot.used.sub(tenant.held.amounts);
        hot.allocs -= 1;
        row.remove(&tenant.held);
        Some((slot, tenant))
    }

    pub(crate) fn hold(&mut self, slot: Slot, tenant: Arc<Tenant>) {
        self.release(&tenant.id);
        self.allocs.insert(tenant.id.clone(), slot);
        self.seat(slot, tenant);
    }

    /// As [`Self::hold`], for one that is new and will not be released: the working copy of a pass needs no
    /// way back from the allocation to its node.
    pub(crate) fn seat(&mut self, slot: Slot, tenant: Arc<Tenant>) {
        let (hot, row) = self.edit(slot);
        hot.used.add(tenant.held.amounts);
        hot.allocs += 1;
        insert_all(&mut row.claims, &tenant.held.claims);
        insert_all(&mut row.cores, &tenant.held.cores);
        insert_all(&mut row.devices, &tenant.held.devices);
        let at = row.tenants.partition_point(|other| other.id < tenant.id);
        row.tenants.insert(at, tenant);
    }

    fn edit(&mut self, slot: Slot) -> (&mut Hot, &mut NodeRow) {
        let at = slot as usize;
        let chunk = Arc::make_mut(&mut self.chunks[at / CHUNK]);
        (&mut chunk.hot[at % CHUNK], Arc::make_mut(&mut chunk.rows[at % CHUNK]))
    }

    /// Counts a node as the state has it, or not any more.
    pub fn refresh_node(&mut self, state: &State, id: &NodeId) {
        match state.node(id) {
            Some(node) => self.put_node(state, node),
            None => self.drop_node(id),
        }
    }

    /// Counts an allocation as the state has it, or not any more.
    pub fn refresh_alloc(&mut self, state: &State, id: &AllocId) {
        self.release(id);
        if let Some(alloc) = state.alloc(id) {
            self.hold_row(state, alloc);
        }
    }

    /// The node on which an allocation is counted.
    pub fn node_of(&self, alloc: &AllocId) -> Option<&NodeId> {
        let slot = *self.allocs.get(alloc)?;
        self.ids.get(slot as usize)
    }

    /// As [`crate::verify`], beside what is counted here instead of beside rows: whether `place` goes onto the node
    /// when `leaving` have left it and `coming` are there, too.
    ///
    /// # Errors
    /// The first thing that is short.
    pub fn verify<'a>(
        &self,
        node: &Node,
        leaving: impl Iterator<Item = &'a AllocId>,
        coming: impl Iterator<Item = &'a Allocation>,
        place: &[Allocation],
    ) -> Result<(), Misfit> {
        let Some(slot) = self.slot(&node.id) else { return crate::verify(node, coming, place) };
        let (hot, row) = (self.hot(slot), self.row(slot));
        let mut there = Held {
            amounts: hot.used,
            cores: row.cores.clone(),
            claims: row.claims.clone(),
            devices: row.devices.clone(),
        };
        let mut count = hot.allocs as usize;
        for id in leaving {
            if let Ok(at) = row.tenants.binary_search_by(|tenant| tenant.id.cmp(id)) {
                there.give(&row.tenants[at].held);
                count -= 1;
            }
        }
        for alloc in coming.filter(|alloc| alloc.occupies_node()) {
            there.take(Held::of(alloc, &row.facts));
            count += 1;
        }
        fit::verify_beside(node, &row.facts, there, count, place)
    }

    fn hold_row(&mut self, state: &State, alloc: &Allocation) {
        if !alloc.occupies_node() {
            return;
        }
        if let Some(slot) = self.slot(&alloc.node_id) {
            let held = Held::of(alloc, &self.row(slot).facts);
            let rank = Rank::of(alloc, state.job_of_alloc(alloc).map(|job| &**job));
            self.hold(slot, Arc::new(Tenant { id: alloc.id.clone(), held, rank }));
        }
    }

    fn put_node(&mut self, state: &State, node: &Arc<Node>) {
        let shape = self.shape_of(node);
        let known = self.slot(&node.id);
        let slot = known.unwrap_or_else(|| self.new_slot(node.id.clone()));
        if known.is_some() {
            let old = self.hot(slot).shape;
            self.leave_shape(old);
        }
        let pool = intern(&mut self.pools, node.pool());
        let datacenter = intern(&mut self.datacenters, &node.datacenter);
        let class = intern(&mut self.classes, &node.node_class);
        let (hot, row) = self.edit(slot);
        let same = known.is_some()
            && row.node.node_resources == node.node_resources
            && row.node.reserved_resources == node.reserved_resources;
        row.node = node.clone();
        hot.shape = shape;
        hot.pool = pool;
        hot.datacenter = datacenter;
        hot.class = class;
        hot.ready = node.is_ready();
        hot.hash = fnv1a(node.id.as_str().as_bytes());
        hot.allocs_max = u32::try_from(node.node_max_allocs).unwrap_or(0);
        if same {
            return;
        }
        hot.capacity = capacity(node);
        row.facts = Arc::new(Facts::of(node));
        let held: Vec<AllocId> = row.tenants.iter().map(|tenant| tenant.id.clone()).collect();
        for id in &held {
            self.release(id);
        }
        for alloc in state.allocs_of_node(&node.id) {
            self.hold_row(state, alloc);
        }
    }

    fn drop_node(&mut self, id: &NodeId) {
        let Some(slot) = self.slots.remove(id) else { return };
        let held: Vec<AllocId> = self.row(slot).tenants.iter().map(|tenant| tenant.id.clone()).collect();
        for id in &held {
            self.release(id);
        }
        self.leave_shape(self.hot(slot).shape);
        let (hot, row) = self.edit(slot);
        *hot = Hot::default();
        *row = NodeRow::default();
        self.free.push(slot);
    }

    fn new_slot(&mut self, id: NodeId) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            let chunk = match self.chunks.last_mut() {
                Some(chunk) if chunk.hot.len() < CHUNK => Arc::make_mut(chunk),
                _ => {
                    let empty = Chunk { hot: Vec::with_capacity(CHUNK), rows: Vec::with_capacity(CHUNK) };
                    self.chunks.push(Arc::new(empty));
                    Arc::make_mut(self.chunks.last_mut().expect("one was pushed"))
                }
            };
            chunk.hot.push(Hot::default());
            chunk.rows.push(Arc::default());
            self.len += 1;
            Arc::make_mut(&mut self.ids).push(NodeId::default());
            Slot::try_from(self.len - 1).expect("a cluster has fewer than four billion nodes")
        });
        Arc::make_mut(&mut self.ids)[slot as usize] = id.clone();
        self.slots.insert(id, slot);
        slot
    }

    fn shape_of(&mut self, node: &Arc<Node>) -> u32 {
        let key = shape_key(node);
        if let Some(&id) = self.shape_ids.get(&key) {
            if let Some(shape) = self.shapes.get_mut(id as usize) {
                shape.nodes += 1;
                shape.sample = node.clone();
            }
            return id;
        }
        let shape = Shape { sample: node.clone(), key: key.clone(), nodes: 1 };
        let id = if let Some(id) = self.shapes_free.pop() {
            self.shapes.set(id as usize, shape);
            id
        } else {
            self.shapes.push_back(shape);
            u32::try_from(self.shapes.len() - 1).expect("there are no more shapes than nodes")
        };
        self.shape_ids.insert(key, id);
        id
    }

    fn leave_shape(&mut self, id: u32) {
        let Some(shape) = self.shapes.get_mut(id as usize) else { return };
        shape.nodes -= 1;
        if shape.nodes == 0 {
            self.shape_ids.remove(&shape.key);
            self.shapes_free.push(id);
        }
    }
}

/// A node without a computed class is a shape of its own. What the class does not cover (the health of
/// drivers, networks) is part of the key.
fn shape_key(node: &Node) -> String {
    let mut key = if node.computed_class.is_empty() { node.id.to_string() } else { node.computed_class.clone() };
    for (name, info) in node.drivers.iter().filter(|(_, info)| info.detected) {
        key.push('\n');
        key.push_str(name);
        if !info.healthy {
            key.push('!');
        }
    }
    for (name, volume) in &node.host_volumes {
        key.push_str(if volume.read_only { "\nvolume ro " } else { "\nvolume " });
        key.push_str(name);
        key.push('\t');
        key.push_str(&volume.id);
    }
    if let Some(resources) = &node.node_resources {
        for device in &resources.devices {
            use std::fmt::Write;
            let healthy = device.instances.iter().filter(|i| i.healthy).count();
            write!(key, "\ndevices {healthy}").expect("a text takes any text");
        }
        for network in resources.networks.iter().map(|n| &n.mode).chain(resources.node_networks.iter().map(|n| &n.mode))
        {
            key.push_str("\nmode ");
            key.push_str(network);
        }
        let ports = NodePorts::of(node);
        for network in ports.networks().collect::<BTreeSet<_>>() {
            key.push_str("\nnetwork ");
            key.push_str(network);
        }
    }
    key
}

fn position(names: &[String], name: &str) -> Option<u32> {
    names.iter().position(|n| n == name).and_then(|i| u32::try_from(i).ok())
}

/// Pools, datacenters and classes are few; their numbers are never given back.
fn intern(names: &mut Arc<Vec<String>>, name: &str) -> u32 {
    position(names, name).unwrap_or_else(|| {
        Arc::make_mut(names).push(name.to_owned());
        u32::try_from(names.len() - 1).expect("there are no more names than nodes")
    })
}

fn insert_all<T: Ord + Copy>(set: &mut Vec<T>, items: &[T]) {
    for item in items {
        set.insert(set.partition_point(|other| other <= item), *item);
    }
}

pub(crate) fn remove_all<T: Ord>(set: &mut Vec<T>, items: &[T]) {
    for item in items {
        if let Ok(at) = set.binary_search(item) {
            set.remove(at);
        }
    }
}
