//! Why a decision came out as it did, for each of the last evaluations.
//!
//! A ring of so many bytes: the oldest is forgotten first. What lasts is in the rows of the evaluation and of
//! its allocations; who asks for more than that later is told that it is gone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use api::explain::{EvalTrace, GroupTrace, Happening, Moment, NodeVerdict, Placement, Standing};
use fsm::State;
use model::{EvalId, NodeId};
use placement::{Explain, Verdict};

/// Bytes of traces kept.
pub const BYTES_MAX: usize = 64 << 20;
/// Moments kept of one evaluation; a large one comes in many plans.
const MOMENTS_MAX: usize = 64;
/// Allocations of one group told of one by one.
const PLACED_MAX: usize = 1_000;
/// A decision about more groups than these is one line of the history.
const GROUPS_TOLD: usize = 8;

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
    /// What the two take.
    bytes: Bytes,
}

/// Counted as they change: a record is not measured anew for each line of its history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bytes {
    timeline: usize,
    explain: usize,
}

impl Record {
    fn tell(&mut self, moments: impl IntoIterator<Item = Moment>) {
        let room = MOMENTS_MAX.saturating_sub(self.timeline.len());
        for moment in moments.into_iter().take(room) {
            self.bytes.timeline += size_of::<Moment>() + moment.detail.len();
            self.timeline.push(moment);
        }
    }

    fn learn(&mut self, explain: Explain) {
        self.bytes.explain = explain.groups.iter().map(placement::GroupTrace::size).sum();
        self.explain = Arc::new(explain);
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.timeline + self.bytes.explain
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
        self.change(eval, |record| record.tell([moment]));
    }

    /// Keeps how the nodes stood at the evaluation's last decision.
    pub fn keep(&self, eval: &EvalId, explain: Explain) {
        let moments = decided(&explain);
        self.change(eval, |record| {
            record.tell(moments);
            record.learn(explain);
        });
    }

    pub fn get(&self, eval: &EvalId) -> Option<Record> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).records.get(eval).cloned()
    }

    fn change(&self, eval: &EvalId, change: impl FnOnce(&mut Record)) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = &mut *ring;
        let record = ring.records.entry(eval.clone()).or_insert_with(|| {
            ring.order.push_back(eval.clone());
            ring.bytes += size_of::<Record>();
            Record::default()
        });
        let before = record.size();
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

/// When the nodes were checked and chosen from.
fn decided(explain: &Explain) -> Vec<Moment> {
    let moment = |time, what, detail| Moment { time, what, detail };
    let lines = explain.groups.iter().take(GROUPS_TOLD).flat_map(|group| {
        let [_, filtered, exhausted, fit] = group.counts();
        let (name, placed, unplaced) = (&group.group, group.placed.len(), group.unplaced);
        let checked = format!("group {name:?}: {fit} nodes fit, {filtered} fail a check, {exhausted} have no room");
        let ranked = format!("group {name:?}: {placed} placed, {unplaced} without a place");
        [moment(group.checked_at, Happening::Feasibility, checked), moment(group.ranked_at, Happening::Ranking, ranked)]
    });
    let mut moments: Vec<Moment> = lines.collect();
    if let Some(more) = explain.groups.get(GROUPS_TOLD..).filter(|more| !more.is_empty()) {
        let time = more.iter().map(|group| group.ranked_at).max().unwrap_or_default();
        moments.push(moment(time, Happening::Ranking, format!("and {} groups more", more.len())));
    }
    moments
}

/// A record in the words of the API, with the nodes' names as of now.
pub fn told(scheduler: &str, record: &Record, state: &State) -> EvalTrace {
    let groups = record.explain.groups.iter().map(|group| group_told(group, state)).collect();
    EvalTrace { scheduler: scheduler.to_owned(), timeline: record.timeline.clone(), groups }
}

/// What a dry run found, without each node's verdict; the first allocations of each group.
pub fn planned(explain: &Explain, state: &State) -> Vec<GroupTrace> {
    explain.groups.iter().map(|group| outline(group, state)).collect()
}

fn group_told(group: &placement::GroupTrace, state: &State) -> GroupTrace {
    let nodes = group.nodes().map(|(id, verdict)| node_told(id, verdict, state)).collect();
    GroupTrace { nodes, ..outline(group, state) }
}

fn outline(group: &placement::GroupTrace, state: &State) -> GroupTrace {
    let placed = group.placed.iter().take(PLACED_MAX).map(|placed| Placement {
        alloc_id: placed.alloc.clone(),
        name: placed.name.clone(),
        node_id: placed.node.clone(),
        node_name: node_name(&placed.node, state),
        score: placed.score,
        preempted: placed.preempted.clone(),
        ..Placement::default()
    });
    GroupTrace {
        task_group: group.group.clone(),
        job_version: group.job_version,
        placed: placed.collect(),
        unplaced: group.unplaced.into(),
        needs: group.nearest.iter().map(ToString::to_string).collect(),
        nodes: Vec::new(),
    }
}

fn node_name(id: &NodeId, state: &State) -> String {
    state.node(id).map(|node| node.name.clone()).unwrap_or_default()
}

fn node_told(id: &NodeId, verdict: Verdict<'_>, state: &State) -> NodeVerdict {
    let (standing, reason, score, parts) = match verdict {
        Verdict::NotCandidate => (Standing::NoCandidate, "", None, Vec::new()),
        Verdict::Filtered(reason) => (Standing::Filtered, reason, None, Vec::new()),
        Verdict::Exhausted(reason) => (Standing::Exhausted, reason, None, Vec::new()),
        Verdict::Fits { score, parts } => (Standing::Fits, "", Some(score), parts),
    };
    NodeVerdict {
        node_id: id.clone(),
        node_name: node_name(id, state),
        standing,
        reason: reason.to_owned(),
        score,
        scores: parts.into_iter().map(|(name, score)| (name.to_owned(), score)).collect(),
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
        let held: usize = ring.records.values().map(measured).sum();
        assert_eq!(ring.bytes, held);
        assert_eq!(ring.order.len(), ring.records.len());
        assert!((50..1_000).contains(&ring.records.len()), "{}", ring.records.len());
        assert!(held <= 16 << 10);
    }

    /// Counted anew, from what there is.
    fn measured(record: &Record) -> usize {
        let said: usize = record.timeline.iter().map(|one| size_of::<Moment>() + one.detail.len()).sum();
        size_of::<Record>() + said + record.explain.groups.iter().map(placement::GroupTrace::size).sum::<usize>()
    }

    #[test]
    fn what_is_counted_is_what_there_is_whatever_becomes_of_a_record() {
        let traces = Traces::default();
        for n in 0..100 {
            traces.note(&id(n % 7), Happening::Dequeued, "x".repeat(n));
            traces.keep(&id(n % 5), Explain::default());
        }
        let ring = traces.ring.lock().unwrap();
        assert_eq!(ring.bytes, ring.records.values().map(measured).sum::<usize>());
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
