//! Blocked evaluations: which of them what was freed may help.
//!
//! One rule, used when a row arrives and whenever something is freed: *an evaluation is woken when
//! something it may wait for was freed after the snapshot it was decided on*. Because releases are
//! remembered by key with their index, one that happened between the scheduler's snapshot and the
//! arrival of the blocked row is not missed. What is not remembered (before this process followed the
//! feed, or forgotten because of age or number) is taken to concern everybody who is older: they are
//! tried once more, which costs a scheduling pass and never a wrong answer.
//!
//! Invariants: at most one row per (namespace, job, node) is held, where the node is empty unless a
//! system evaluation is bound to one; a row is held here exactly while it is `blocked`.
//! Deliberately absent: whether it *would* fit. The scheduler answers that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{EvalId, Evaluation, Index, JobId, NamespaceName, NodeId};

use crate::effect::UnblockReason;
use crate::kind::Kind;
use crate::limits::Limits;
use crate::ready::{ReadyKey, ready_key};

/// Something that an evaluation may have waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freed {
    /// Room on a node: its computed class and itself.
    Capacity {
        node: NodeId,
        class: String,
    },
    Quota(String),
    /// A thing that is no part of a node, such as a volume.
    Resource(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Class(String),
    Node(NodeId),
    Quota(String),
    Resource(String),
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    index: Index,
    at_ms: u64,
}

type BlockKey = (NamespaceName, JobId, NodeId);

#[derive(Debug)]
struct Tracked {
    row: Arc<Evaluation>,
    /// Index of the state on which it was decided that nothing fits.
    seen: Index,
    want: Option<UnblockReason>,
    asked_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Blocked {
    rows: BTreeMap<EvalId, Tracked>,
    by_job: BTreeMap<BlockKey, EvalId>,
    /// Wanted and not asked for yet, best first.
    wanted: BTreeSet<ReadyKey>,
    /// Asked for, by when.
    asked: BTreeSet<(u64, EvalId)>,
    marks: BTreeMap<Key, Mark>,
    newest_class: Index,
    newest_quota: Index,
    /// Releases at or before this index may be unknown.
    unknown_through: Index,
    dirty: bool,
    scanned_ms: u64,
    conflict_retry_at_ms: Option<u64>,
}

impl Blocked {
    pub fn new(unknown_through: Index) -> Self {
        Self { unknown_through, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn rows(&self) -> impl Iterator<Item = &Arc<Evaluation>> {
        self.rows.values().map(|tracked| &tracked.row)
    }

    pub fn row(&self, id: &EvalId) -> Option<&Arc<Evaluation>> {
        self.rows.get(id).map(|tracked| &tracked.row)
    }

    pub fn contains(&self, id: &EvalId) -> bool {
        self.rows.contains_key(id)
    }

    /// Takes a blocked row; gives back the one that loses against it, if any, perhaps the row itself.
    pub fn block(&mut self, row: &Arc<Evaluation>) -> Option<Arc<Evaluation>> {
        self.remove(&row.id);
        let key = block_key(row);
        let mut loser = None;
        if let Some(other) = self.by_job.get(&key).and_then(|id| self.rows.get(id)) {
            if newness(row) < newness(&other.row) {
                return Some(Arc::clone(row));
            }
            let other = other.row.id.clone();
            loser = self.remove(&other);
        }
        self.by_job.insert(key, row.id.clone());
        let seen = snapshot(row);
        self.rows.insert(row.id.clone(), Tracked { row: Arc::clone(row), seen, want: None, asked_ms: None });
        if seen < self.unknown_through || self.helped(row, seen) {
            self.want(&row.id, UnblockReason::Freed);
        }
        loser
    }

    /// The row is no longer blocked, or gone.
    pub fn remove(&mut self, id: &EvalId) -> Option<Arc<Evaluation>> {
        let tracked = self.rows.remove(id)?;
        self.wanted.remove(&ready_key(&tracked.row));
        if let Some(at) = tracked.asked_ms {
            self.asked.remove(&(at, id.clone()));
        }
        let key = block_key(&tracked.row);
        if self.by_job.get(&key) == Some(id) {
            self.by_job.remove(&key);
        }
        Some(tracked.row)
    }

    pub fn freed(&mut self, freed: &Freed, index: Index, now_ms: u64, limits: &Limits) {
        let mark = Mark { index, at_ms: now_ms };
        match freed {
            Freed::Capacity { node, class } => {
                self.newest_class = self.newest_class.max(index);
                self.mark(Key::Class(class.clone()), mark);
                self.mark(Key::Node(node.clone()), mark);
            }
            Freed::Quota(name) => {
                self.newest_quota = self.newest_quota.max(index);
                self.mark(Key::Quota(name.clone()), mark);
            }
            Freed::Resource(key) => self.mark(Key::Resource(key.clone()), mark),
        }
        self.dirty = true;
        if self.marks.len() > limits.freed_keys_max {
            let mut ages: Vec<u64> = self.marks.values().map(|mark| mark.at_ms).collect();
            ages.sort_unstable();
            let cutoff = ages[ages.len() / 2];
            self.forget(cutoff.saturating_add(1));
        }
    }

    fn mark(&mut self, key: Key, mark: Mark) {
        let entry = self.marks.entry(key).or_insert(mark);
        if mark.index >= entry.index {
            *entry = mark;
        }
    }

    /// Forgets releases noted before a moment.
    fn forget(&mut self, before_ms: u64) {
        let unknown = &mut self.unknown_through;
        self.marks.retain(|_, mark| {
            let keep = mark.at_ms >= before_ms;
            if !keep {
                *unknown = (*unknown).max(mark.index);
            }
            keep
        });
    }

    /// Whether something the row waits for was freed after its snapshot.
    fn helped(&self, row: &Evaluation, seen: Index) -> bool {
        let after = |key: &Key| self.marks.get(key).is_some_and(|mark| mark.index > seen);
        if row.missing_non_node_resources.iter().any(|key| after(&Key::Resource(key.clone()))) {
            return true;
        }
        let quota = if row.quota_limit_reached.is_empty() {
            self.newest_quota > seen
        } else {
            after(&Key::Quota(row.quota_limit_reached.clone()))
        };
        if quota {
            return true;
        }
        if let Some(node) = bound_node(row).non_empty() {
            return after(&Key::Node(node.clone()));
        }
        if self.newest_class <= seen {
            return false;
        }
        row.escaped_computed_class
            || self.classes().any(|(key, mark)| match key {
                Key::Class(class) => mark.index > seen && row.class_eligibility.get(class) != Some(&false),
                _ => false,
            })
    }

    /// Classes come before all other keys.
    fn classes(&self) -> impl Iterator<Item = (&Key, &Mark)> {
        self.marks.range(..Key::Node(NodeId::default()))
    }

    fn want(&mut self, id: &EvalId, reason: UnblockReason) {
        if let Some(tracked) = self.rows.get_mut(id)
            && tracked.want.is_none()
        {
            tracked.want = Some(reason);
            self.wanted.insert(ready_key(&tracked.row));
        }
    }

    /// Lets time pass: looks who was helped, retries, forgets.
    pub fn advance(&mut self, now_ms: u64, limits: &Limits) {
        if self.dirty && now_ms >= self.scanned_ms.saturating_add(limits.unblock_window_ms) {
            self.dirty = false;
            self.scanned_ms = now_ms;
            let helped: Vec<EvalId> = self
                .rows
                .values()
                .filter(|t| t.want.is_none() && self.helped(&t.row, t.seen))
                .map(|t| t.row.id.clone())
                .collect();
            for id in helped {
                self.want(&id, UnblockReason::Freed);
            }
        }
        let retry_at = *self.conflict_retry_at_ms.get_or_insert(now_ms.saturating_add(limits.conflict_retry_ms));
        if now_ms >= retry_at {
            self.conflict_retry_at_ms = Some(now_ms.saturating_add(limits.conflict_retry_ms.max(1)));
            let conflicts = self.rows.values().filter(|t| t.row.triggered_by == "max-plan-attempts");
            for id in conflicts.map(|t| t.row.id.clone()).collect::<Vec<_>>() {
                self.want(&id, UnblockReason::ConflictRetry);
            }
            self.forget(now_ms.saturating_sub(limits.freed_keep_ms));
        }
        while let Some((at, id)) = self.asked.first().filter(|(at, _)| *at <= now_ms).cloned() {
            self.asked.remove(&(at, id.clone()));
            if let Some(tracked) = self.rows.get_mut(&id) {
                tracked.asked_ms = None;
                self.wanted.insert(ready_key(&tracked.row));
            }
        }
    }

    /// The next evaluations to unblock, all for one reason.
    pub fn take_wanted(&mut self, now_ms: u64, limits: &Limits) -> Option<(Vec<EvalId>, UnblockReason)> {
        let first = &self.rows.get(&self.wanted.first()?.2)?;
        let reason = first.want?;
        let same = self.wanted.iter().filter(|key| self.rows.get(&key.2).is_some_and(|t| t.want == Some(reason)));
        let taken: Vec<ReadyKey> = same.take(limits.effect_evals_max).cloned().collect();
        let again_ms = now_ms.saturating_add(limits.effect_retry_ms.max(1));
        for key in &taken {
            self.wanted.remove(key);
            if let Some(tracked) = self.rows.get_mut(&key.2) {
                tracked.asked_ms = Some(again_ms);
                self.asked.insert((again_ms, key.2.clone()));
            }
        }
        Some((taken.into_iter().map(|key| key.2).collect(), reason))
    }

    pub fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub fn next_deadline_ms(&self, limits: &Limits) -> Option<u64> {
        if self.rows.is_empty() && self.marks.is_empty() {
            return None;
        }
        let scan = self.dirty.then(|| self.scanned_ms.saturating_add(limits.unblock_window_ms));
        let asked = self.asked.first().map(|(at, _)| *at);
        [scan, asked, self.conflict_retry_at_ms].into_iter().flatten().min()
    }

    pub fn escaped(&self) -> usize {
        self.rows().filter(|row| row.escaped_computed_class).count()
    }

    pub fn quota_limited(&self) -> usize {
        self.rows().filter(|row| !row.quota_limit_reached.is_empty()).count()
    }
}

/// What the row says about that; one that says nothing is as old as its last change.
fn snapshot(row: &Evaluation) -> Index {
    if row.snapshot_index == Index(0) { row.modify_index } else { row.snapshot_index }
}

fn newness(row: &Evaluation) -> Index {
    row.create_index.max(row.snapshot_index)
}

/// The node a system evaluation is bound to, else empty.
fn bound_node(row: &Evaluation) -> NodeId {
    if matches!(Kind::of(row), Some(Kind::System | Kind::SysBatch)) { row.node_id.clone() } else { NodeId::default() }
}

fn block_key(row: &Evaluation) -> BlockKey {
    (row.namespace.clone(), row.job_id.clone(), bound_node(row))
}
