//! Orders: of deliverable evaluations, and of those that wait behind another one of their job.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::{EvalId, Evaluation, Index, JobId, NamespaceName};

use crate::kind::Kind;

/// Higher priority first, then the older evaluation.
pub(crate) type ReadyKey = (Reverse<i64>, Index, EvalId);

pub(crate) fn ready_key(row: &Evaluation) -> ReadyKey {
    (Reverse(row.priority), row.create_index, row.id.clone())
}

/// Evaluations that may be delivered now. Between kinds the better head wins; equal priorities go by
/// age, so no kind starves another.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    queues: BTreeMap<Kind, BTreeSet<ReadyKey>>,
}

impl Ready {
    pub fn insert(&mut self, kind: Kind, row: &Evaluation) {
        self.queues.entry(kind).or_default().insert(ready_key(row));
    }

    pub fn remove(&mut self, kind: Kind, row: &Evaluation) {
        if let Some(queue) = self.queues.get_mut(&kind) {
            queue.remove(&ready_key(row));
        }
    }

    pub fn best(&self, kinds: &[Kind]) -> Option<&ReadyKey> {
        kinds.iter().filter_map(|kind| self.queues.get(kind)?.first()).min()
    }

    pub fn len(&self) -> usize {
        self.queues.values().map(BTreeSet::len).sum()
    }
}

pub(crate) type JobKey = (NamespaceName, JobId);

pub(crate) fn job_key(row: &Evaluation) -> JobKey {
    (row.namespace.clone(), row.job_id.clone())
}

/// Higher priority first, then the newer row: what it asks for includes what older ones asked for.
pub(crate) type BehindKey = (Reverse<i64>, Reverse<Index>, EvalId);

pub(crate) fn behind_key(row: &Evaluation) -> BehindKey {
    (Reverse(row.priority), Reverse(row.modify_index), row.id.clone())
}

/// A job's place in the queue: one evaluation at most is ready or delivered.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub holder: Option<EvalId>,
    pub behind: BTreeSet<BehindKey>,
    /// Newest index at which an evaluation or a plan of the job was written.
    pub index: Index,
    /// Evaluations of the job that are held; at 0 the slot goes.
    pub held: usize,
}
