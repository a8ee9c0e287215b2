//! Why a decision came out as it did, for each of the last evaluations.
//!
//! A ring of so many bytes: the oldest is forgotten first. What lasts is in the rows of the evaluation and of
//! its allocations; who asks for more than that later is told that it is gone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use api::explain::{EvalTrace, GroupTrace, Happening, Moment, NodeVerdict, Standing};
use fsm::State;
use model::{EvalId, NodeId};
use placement::{Explain, Verdict};

/// Bytes of traces kept.
pub const BYTES_MAX: usize = 64 << 20;
/// Moments kept of one evaluation; a large one comes in many plans.
const MOMENTS_MAX: usize = 64;

/// The ring. Clones share it.
#[derive(Clone)]
pub struct Traces {
    ring: Arc<Mutex<Ring>>,
    bytes_max: usize,
}

/// What is remembered of one evaluation.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub timeline: Vec<Moment>,
    /// Of the last decision.
    pub explain: Arc<Explain>,
}

impl Record {
    fn size(&self) -> usize {
        let said: usize = self.timeline.iter().map(|one| size_of::<Moment>() + one.detail.len()).sum();
        size_of::<Self>() + said + self.explain.groups.iter().map(placement::GroupTrace::size).sum::<usize>()
    }
}

#[derive(Default)]
struct Ring {
    order: VecDeque<EvalId>,
    records: HashMap<EvalId, Record>,
    bytes: usize,
}

impl Default for Traces {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl Traces {
    pub fn new(bytes_max: usize) -> Self {
        Self { ring: Arc::default(), bytes_max }
    }

    /// Notes that something happened to an evaluation now.
    pub fn note(&self, eval: &EvalId, what: Happening, detail: impl Into<String>) {
        let moment = Moment { time: client::clock::unix_nanos(), what, detail: detail.into() };
        self.change(eval, |record| {
            if record.timeline.len() < MOMENTS_MAX {
                record.timeline.push(moment);
            }
        });
    }

    /// Keeps how the nodes stood at the evaluation's last decision.
    pub fn keep(&self, eval: &EvalId, explain: Explain) {
        self.change(eval, |record| record.explain = Arc::new(explain));
    }

    pub fn get(&self, eval: &EvalId) -> Option<Record> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).records.get(eval).cloned()
    }

    fn change(&self, eval: &EvalId, change: impl FnOnce(&mut Record)) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = &mut *ring;
        let record = ring.records.entry(eval.clone()).or_insert_with(|| {
            ring.order.push_back(eval.clone());
            Record::default()
        });
        let before = if record.timeline.is_empty() && record.explain.groups.is_empty() { 0 } else { record.size() };
        change(record);
        ring.bytes = ring.bytes + record.size() - before;
        while ring.bytes > self.bytes_max {
            let Some(oldest) = ring.order.pop_front() else { break };
            if let Some(gone) = ring.records.remove(&oldest) {
                ring.bytes -= gone.size();
            }
        }
    }
}

/// A record in the words of the API, with the nodes' names as of now.
pub fn told(scheduler: &str, record: &Record, state: &State) -> EvalTrace {
    let groups = record.explain.groups.iter().map(|group| group_told(group, state)).collect();
    EvalTrace { scheduler: scheduler.to_owned(), timeline: record.timeline.clone(), groups }
}

fn group_told(group: &placement::GroupTrace, state: &State) -> GroupTrace {
    GroupTrace {
        task_group: group.group.clone(),
        job_version: group.job_version,
        needs: Vec::new(),
        nodes: group.nodes().map(|(id, verdict)| node_told(id, verdict, state)).collect(),
    }
}

fn node_told(id: &NodeId, verdict: Verdict<'_>, state: &State) -> NodeVerdict {
    let (standing, reason, score) = match verdict {
        Verdict::NotCandidate => (Standing::NoCandidate, "", None),
        Verdict::Filtered(reason) => (Standing::Filtered, reason, None),
        Verdict::Exhausted(reason) => (Standing::Exhausted, reason, None),
        Verdict::Fits { score, .. } => (Standing::Fits, "", Some(score)),
    };
    NodeVerdict {
        node_id: id.clone(),
        node_name: state.node(id).map(|node| node.name.clone()).unwrap_or_default(),
        standing,
        reason: reason.to_owned(),
        score,
        ..NodeVerdict::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> EvalId {
        format!("eval-{n}").into()
    }

    #[test]
    fn the_oldest_are_forgotten_when_the_ring_is_full_of_bytes() {
        let traces = Traces::new(16 << 10);
        for n in 0..1_000 {
            traces.note(&id(n), Happening::Dequeued, "x".repeat(100));
        }
        assert!(traces.get(&id(999)).is_some());
        assert!(traces.get(&id(0)).is_none());
        let ring = traces.ring.lock().unwrap();
        let held: usize = ring.records.values().map(Record::size).sum();
        assert_eq!(ring.bytes, held);
        assert_eq!(ring.order.len(), ring.records.len());
        assert!((50..1_000).contains(&ring.records.len()), "{}", ring.records.len());
        assert!(held <= 16 << 10);
    }

    #[test]
    fn an_evaluation_that_is_decided_for_ever_takes_a_bounded_place() {
        let traces = Traces::default();
        for _ in 0..1_000 {
            traces.note(&id(1), Happening::PlanRejected, "again");
        }
        assert_eq!(traces.get(&id(1)).unwrap().timeline.len(), MOMENTS_MAX);
    }
}
