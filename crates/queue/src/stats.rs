//! Counts for metrics.

use std::collections::BTreeMap;

use crate::kind::Kind;

/// The queue at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub by_kind: BTreeMap<Kind, KindStats>,
    /// Blocked evaluations whose constraints say nothing about classes.
    pub escaped: usize,
    /// Blocked evaluations that hit a quota.
    pub quota_limited: usize,
    /// Evaluations that are to be cancelled or failed and whose rows do not say so yet.
    pub finishing: usize,
    pub sessions: usize,
    /// Rows passed over since the queue was last full; 0 when all are held.
    pub overflow: usize,
}

/// One queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// Deliverable now.
    pub ready: usize,
    /// Delivered and not answered, or answered and waiting for the row.
    pub unacked: usize,
    /// Behind another evaluation of the same job.
    pub pending: usize,
    /// Delayed: a wait in the row, or back-off after a failure.
    pub waiting: usize,
    pub blocked: usize,
    /// Age of the oldest ready evaluation in milliseconds.
    pub oldest_ready_ms: u64,
}

impl Stats {
    /// The sum over all queues; `oldest_ready_ms` is the largest.
    pub fn total(&self) -> KindStats {
        self.by_kind.values().fold(KindStats::default(), |a, b| KindStats {
            ready: a.ready + b.ready,
            unacked: a.unacked + b.unacked,
            pending: a.pending + b.pending,
            waiting: a.waiting + b.waiting,
            blocked: a.blocked + b.blocked,
            oldest_ready_ms: a.oldest_ready_ms.max(b.oldest_ready_ms),
        })
    }
}
