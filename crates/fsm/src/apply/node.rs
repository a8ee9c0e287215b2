//! Nodes: coming, changing, going. What an operator or the cluster decided about a node (status,
//! eligibility, drain, events) outlives its registration; what the node says of itself does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::access::{NODE_POOL_ALL, NODE_POOL_DEFAULT};
use model::node::{DrainMetadata, DrainStrategy, NodeEvent, PLACE};
use model::{Eligibility, Evaluation, Index, Node, NodeId, NodeStatus, Role, Timestamp};

use super::tx::{Tx, valid_id};
use super::{config, eval};
use crate::change::Change;
use crate::command::{NodeStatusChange, Refusal, Reply};

/// Events a node's row keeps.
const EVENTS_MAX: usize = 10;
/// Revoked nodes that are remembered.
const REVOKED_MAX: usize = 16_384;
/// A UUID, say.
const ADMISSION_BYTES_MAX: usize = 63;

pub(super) fn register(tx: &mut Tx, node: &Node, evals: &[Evaluation]) -> Result<Reply, Refusal> {
    valid_id(node.id.as_str(), "a node")?;
    let mut new = node.clone();
    if new.node_pool.is_empty() {
        NODE_POOL_DEFAULT.clone_into(&mut new.node_pool);
    }
    if new.node_pool == NODE_POOL_ALL || !config::valid_pool_name(&new.node_pool) {
        return Err(Refusal::Invalid(format!("a node cannot be in node pool \"{}\"", new.node_pool)));
    }
    if tx.state.is_revoked(&node.id) {
        return Err(Refusal::Conflict("node was purged and must be introduced anew".to_owned()));
    }
    let old = tx.state.node(&node.id).cloned();
    if old.as_ref().is_some_and(|old| old.secret_id != node.secret_id) {
        return Err(Refusal::Conflict("node secret ID does not match".to_owned()));
    }
    if old.as_ref().is_some_and(|old| is_elsewhere(old, node)) {
        return Err(Refusal::Conflict(
            "this node ID is in use by another agent that is alive: a copy of a data directory is not another node, \
             start it with an empty one"
                .to_owned(),
        ));
    }
    if tx.state.node_pool(&new.node_pool).is_none() {
        config::put_pool(tx, &new.node_pool, "");
    }
    match &old {
        Some(old) => keep_decisions(tx, old, &mut new),
        None => begin(tx, &mut new),
    }
    if let Some(old) = &old {
        new.modify_index = old.modify_index;
    }
    if old.as_deref() != Some(&new) {
        put(tx, old.as_deref(), new);
    }
    insert_evals(tx, evals)?;
    Ok(Reply::Node { heartbeat: true })
}

/// The one that registered lives, and it is not the one that asks now. An agent that moved with its data is
/// taken once its former place is down.
fn is_elsewhere(old: &Node, new: &Node) -> bool {
    let place = |node: &Node| node.attributes.get(PLACE).cloned();
    let lives = matches!(old.status, NodeStatus::Initializing | NodeStatus::Ready);
    lives && place(old).zip(place(new)).is_some_and(|(old, new)| old != new)
}

fn begin(tx: &Tx, node: &mut Node) {
    node.create_index = tx.index;
    node.drain = false;
    node.drain_strategy = None;
    node.last_drain = None;
    node.last_missed_heartbeat_index = Index(0);
    node.last_alloc_update_index = Index(0);
    if node.status_updated_at == 0 {
        node.status_updated_at = tx.now / 1_000_000_000;
    }
    let timestamp = Timestamp(node.status_updated_at.saturating_mul(1_000_000_000));
    node.events = vec![cluster_event("Node registered", timestamp, tx.index)];
}

fn keep_decisions(tx: &Tx, old: &Node, node: &mut Node) {
    node.create_index = old.create_index;
    node.status = old.status;
    node.status_description.clone_from(&old.status_description);
    node.status_updated_at = old.status_updated_at;
    node.scheduling_eligibility = old.scheduling_eligibility;
    node.drain = old.drain;
    node.drain_strategy.clone_from(&old.drain_strategy);
    node.last_drain.clone_from(&old.last_drain);
    node.last_missed_heartbeat_index = old.last_missed_heartbeat_index;
    node.last_alloc_update_index = old.last_alloc_update_index;
    node.events.clone_from(&old.events);
    if old.is_down() {
        add_event(tx, node, cluster_event("Node re-registered", tx.moment(), tx.index));
    }
    driver_events(tx, old, node);
}

/// One event for each driver whose health is another now.
fn driver_events(tx: &Tx, old: &Node, node: &mut Node) {
    let is_healthy = |node: &Node, name: &str| node.drivers.get(name).is_some_and(|driver| driver.healthy);
    let changed: Vec<NodeEvent> = node
        .drivers
        .iter()
        .filter(|(name, driver)| driver.healthy != is_healthy(old, name))
        .map(|(name, driver)| NodeEvent {
            message: driver.health_description.clone(),
            subsystem: "Driver".to_owned(),
            details: BTreeMap::from([("driver".to_owned(), name.clone())]),
            ..NodeEvent::default()
        })
        .collect();
    for event in changed {
        add_event(tx, node, event);
    }
}

fn cluster_event(message: &str, timestamp: Timestamp, create_index: Index) -> NodeEvent {
    let subsystem = "Cluster".to_owned();
    NodeEvent { message: message.to_owned(), subsystem, timestamp, create_index, ..NodeEvent::default() }
}

/// An event without a moment happened now.
fn add_event(tx: &Tx, node: &mut Node, event: NodeEvent) {
    let timestamp = if event.timestamp.is_zero() { tx.moment() } else { event.timestamp };
    node.events.push(NodeEvent { create_index: tx.index, timestamp, ..event });
    let surplus = node.events.len().saturating_sub(EVENTS_MAX);
    node.events.drain(..surplus);
}

/// Writes the row; room that comes with it becomes news.
fn put(tx: &mut Tx, old: Option<&Node>, mut new: Node) {
    new.modify_index = tx.index;
    let opened = new.is_ready() && old.is_none_or(|old| !old.is_ready());
    // More room, or other room: what did not fit before may fit now.
    let changed = old.is_some_and(|old| {
        old.computed_class != new.computed_class
            || old.drivers != new.drivers
            || old.host_volumes != new.host_volumes
            || old.pool() != new.pool()
            || old.node_resources != new.node_resources
            || old.reserved_resources != new.reserved_resources
            || old.node_max_allocs != new.node_max_allocs
    });
    if opened || changed {
        tx.roomier(&new.id);
    }
    tx.put(Change::Node(Arc::new(new)));
}

fn insert_evals(tx: &mut Tx, evals: &[Evaluation]) -> Result<(), Refusal> {
    let evals: Vec<Evaluation> = evals
        .iter()
        .map(|eval| {
            let known = eval.node_id.non_empty().and_then(|id| tx.state.node(id));
            let node_modify_index = known.map_or(eval.node_modify_index, |node| node.modify_index);
            Evaluation { node_modify_index, ..eval.clone() }
        })
        .collect();
    eval::insert_all(tx, &evals)
}

fn not_found() -> Refusal {
    Refusal::NotFound { what: "node".to_owned() }
}

/// Changes of nodes that are gone meanwhile are left out; none known at all is refused.
pub(super) fn status(tx: &mut Tx, updates: &[NodeStatusChange], evals: &[Evaluation]) -> Result<Reply, Refusal> {
    if !updates.is_empty() && updates.iter().all(|update| tx.state.node(&update.node_id).is_none()) {
        return Err(not_found());
    }
    for update in updates {
        let Some(old) = tx.state.node(&update.node_id).cloned() else { continue };
        if old.status == update.status && update.event.is_none() {
            continue;
        }
        let mut new = Node::clone(&old);
        if old.status != update.status {
            new.status = update.status;
            new.status_updated_at = update.updated_at;
            match update.status {
                NodeStatus::Ready => new.last_missed_heartbeat_index = Index(0),
                NodeStatus::Down | NodeStatus::Disconnected => new.last_missed_heartbeat_index = tx.index,
                NodeStatus::Initializing => {}
            }
        }
        if let Some(event) = &update.event {
            add_event(tx, &mut new, event.clone());
        }
        put(tx, Some(&old), new);
    }
    insert_evals(tx, evals)?;
    Ok(Reply::Done)
}

/// Suspicions of nodes that are gone or down meanwhile are left out. The end of one is room for what waits.
pub(super) fn suspect(tx: &mut Tx, suspects: &BTreeMap<NodeId, bool>) -> Result<Reply, Refusal> {
    for (id, suspect) in suspects {
        let alive = tx.state.node(id).is_some_and(|node| !node.is_down());
        if !alive || tx.state.is_suspect(id) == *suspect {
            continue;
        }
        tx.put(Change::NodeSuspect { id: id.clone(), suspect: *suspect });
        if !suspect {
            tx.roomier(id);
        }
    }
    Ok(Reply::Done)
}

pub(super) fn eligibility(
    tx: &mut Tx,
    id: &NodeId,
    eligibility: Eligibility,
    event: Option<&NodeEvent>,
    evals: &[Evaluation],
) -> Result<Reply, Refusal> {
    let old = tx.state.node(id).cloned().ok_or_else(not_found)?;
    if eligibility == Eligibility::Eligible && old.is_draining() {
        let text = "can not set node's scheduling eligibility to eligible while it is draining";
        return Err(Refusal::Conflict(text.to_owned()));
    }
    if old.scheduling_eligibility == eligibility {
        return Ok(Reply::Done);
    }
    let mut new = Node::clone(&old);
    new.scheduling_eligibility = eligibility;
    if let Some(event) = event {
        add_event(tx, &mut new, event.clone());
    }
    put(tx, Some(&old), new);
    insert_evals(tx, evals)?;
    Ok(Reply::Done)
}

/// What is wanted of a drain.
pub(super) struct Drain<'a> {
    /// `None` ends it.
    pub strategy: Option<&'a DrainStrategy>,
    pub mark_eligible: bool,
    pub meta: &'a BTreeMap<String, String>,
}

/// Starts or changes a drain, or ends one: the controller when it is complete, an operator to cancel it.
pub(super) fn drain(
    tx: &mut Tx,
    id: &NodeId,
    wish: &Drain<'_>,
    event: Option<&NodeEvent>,
    evals: &[Evaluation],
) -> Result<Reply, Refusal> {
    let old = tx.state.node(id).cloned().ok_or_else(not_found)?;
    if wish.strategy.is_none() && tx.proposer == Role::Controller && !old.is_draining() {
        // Somebody ended it meanwhile.
        return Ok(Reply::Done);
    }
    let mut new = Node::clone(&old);
    match wish.strategy {
        Some(strategy) => start_drain(tx, &old, &mut new, strategy),
        None => end_drain(tx, &mut new, wish.mark_eligible),
    }
    if let Some(last) = new.last_drain.as_mut().filter(|_| !wish.meta.is_empty()) {
        last.meta.clone_from(wish.meta);
    }
    if let Some(event) = event {
        add_event(tx, &mut new, event.clone());
    }
    put(tx, Some(&old), new);
    insert_evals(tx, evals)?;
    Ok(Reply::Done)
}

fn start_drain(tx: &Tx, old: &Node, new: &mut Node, strategy: &DrainStrategy) {
    let mut strategy = strategy.clone();
    match &old.drain_strategy {
        Some(running) => strategy.started_at = running.started_at,
        None if strategy.started_at.is_zero() => strategy.started_at = tx.moment(),
        None => {}
    }
    if strategy.deadline.0 > 0 && strategy.force_deadline.is_zero() {
        strategy.force_deadline = tx.moment().plus(strategy.deadline);
    }
    let kept = old.last_drain.clone().filter(|_| old.is_draining()).unwrap_or_default();
    new.last_drain = Some(DrainMetadata {
        started_at: strategy.started_at,
        updated_at: tx.moment(),
        status: "draining".to_owned(),
        ..kept
    });
    new.drain = true;
    new.drain_strategy = Some(strategy);
    new.scheduling_eligibility = Eligibility::Ineligible;
}

fn end_drain(tx: &Tx, new: &mut Node, mark_eligible: bool) {
    if new.drain_strategy.take().is_some() {
        let status = if tx.proposer == Role::Controller { "complete" } else { "canceled" };
        let last = new.last_drain.get_or_insert_default();
        status.clone_into(&mut last.status);
        last.updated_at = tx.moment();
    }
    new.drain = false;
    if mark_eligible {
        new.scheduling_eligibility = Eligibility::Eligible;
    }
}

/// All of them or none: one that is not there makes the whole list suspect.
pub(super) fn deregister(tx: &mut Tx, nodes: &[NodeId], revoke: bool, evals: &[Evaluation]) -> Result<Reply, Refusal> {
    let nodes: BTreeSet<&NodeId> = nodes.iter().collect();
    if nodes.is_empty() || nodes.iter().any(|id| tx.state.node(id).is_none()) {
        return Err(not_found());
    }
    if revoke && tx.proposer == Role::Controller {
        return Err(Refusal::Invalid("trust is revoked by a person, not because a node was long away".to_owned()));
    }
    for id in nodes {
        tx.put(Change::NodeGone { id: id.clone() });
        if revoke {
            forget_oldest_revocation(tx);
            tx.put(Change::NodeRevoked { id: id.clone(), revoked: true, admission: String::new() });
        }
    }
    insert_evals(tx, evals)?;
    Ok(Reply::Done)
}

/// The oldest is forgotten first: its certificate has the least time left, if any.
fn forget_oldest_revocation(tx: &mut Tx) {
    if tx.state.revoked().count() >= REVOKED_MAX
        && let Some(oldest) = tx.state.revoked().min_by_key(|(_, at)| *at).map(|(id, _)| id.clone())
    {
        tx.put(Change::NodeRevoked { id: oldest, revoked: false, admission: String::new() });
    }
}

/// The oldest is forgotten first: the certificates that it keeps out have long ended.
fn forget_oldest_admission(tx: &mut Tx) {
    if tx.state.admissions().count() >= REVOKED_MAX
        && let Some(oldest) = tx.state.admissions().min_by_key(|(_, row)| row.at).map(|(id, _)| id.clone())
    {
        tx.put(Change::NodeRevoked { id: oldest, revoked: false, admission: String::new() });
    }
}

/// Those that are not revoked are as good as admitted, by the mark that they have.
pub(super) fn admit(tx: &mut Tx, nodes: &[NodeId], admission: &str) -> Result<Reply, Refusal> {
    if admission.len() > ADMISSION_BYTES_MAX {
        return Err(Refusal::Invalid(format!("the mark of an admission is longer than {ADMISSION_BYTES_MAX} bytes")));
    }
    for id in nodes {
        if tx.state.is_revoked(id) {
            forget_oldest_admission(tx);
            tx.put(Change::NodeRevoked { id: id.clone(), revoked: false, admission: admission.to_owned() });
        }
    }
    Ok(Reply::Done)
}
