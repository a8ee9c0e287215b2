//! Counts for metrics.

use std::collections::BTreeMap;
use std::ops::Add;

use model::{Evaluation, JobId, NamespaceName};

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

/// What waits for room asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub cpu_mhz: i64,
    pub memory_mb: i64,
}

/// Where it was looked for: (datacenter, node class, node pool).
pub type Place = (String, String, String);

/// What blocked evaluations found no room for, by job and by place. What is nothing has no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockedResources {
    pub by_job: BTreeMap<(NamespaceName, JobId), Asked>,
    pub by_place: BTreeMap<Place, Asked>,
}

impl BlockedResources {
    /// What one evaluation says: for each place in which it looked, all that it asked for.
    pub fn of(row: &Evaluation) -> Self {
        Self::sum(row.failed_tg_allocs.values().map(|metric| {
            let asked = metric.resources_exhausted.values().fold(Asked::default(), |sum, asked| {
                sum + Asked { cpu_mhz: asked.cpu.unwrap_or(0), memory_mb: asked.memory_mb.unwrap_or(0) }
            });
            let none = String::new();
            let classes = || metric.class_exhausted.keys().chain(metric.class_exhausted.is_empty().then_some(&none));
            let by_place = metric
                .nodes_available
                .iter()
                .filter(|(_, nodes)| **nodes > 0)
                .flat_map(|(dc, _)| classes().map(|class| (dc.clone(), class.clone(), metric.node_pool.clone())))
                .map(|place| (place, asked))
                .collect();
            let by_job = BTreeMap::from([((row.namespace.clone(), row.job_id.clone()), asked)]);
            Self { by_job, by_place }
        }))
    }

    /// Of many at once.
    pub fn sum(all: impl Iterator<Item = Self>) -> Self {
        let mut sum = Self::default();
        for one in all {
            for (job, asked) in one.by_job {
                let of_job = sum.by_job.entry(job).or_default();
                *of_job = *of_job + asked;
            }
            for (place, asked) in one.by_place {
                let of_place = sum.by_place.entry(place).or_default();
                *of_place = *of_place + asked;
            }
        }
        sum.by_job.retain(|_, asked| *asked != Asked::default());
        sum.by_place.retain(|_, asked| *asked != Asked::default());
        sum
    }
}

impl Add for Asked {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu_mhz: self.cpu_mhz.saturating_add(other.cpu_mhz),
            memory_mb: self.memory_mb.saturating_add(other.memory_mb),
        }
    }
}
