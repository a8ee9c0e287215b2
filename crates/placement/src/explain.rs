//! Why there, and why not elsewhere: for every node, which check it failed or how its score came about.
//!
//! A compact record (eight bytes a node and group) of how nodes stood when a group's search began. The
//! caller keeps it as long as it likes; the summary that lasts is in the evaluation's and the
//! allocations' metrics.

use std::sync::Arc;

use model::NodeId;

use crate::seats::{Seats, Standing};

/// Records of one scheduling pass.
#[derive(Clone, Debug, Default)]
pub struct Explain {
    pub groups: Vec<GroupTrace>,
}

/// How every node stood for one group.
#[derive(Clone, Debug)]
pub struct GroupTrace {
    pub group: String,
    /// Version of the job that was to be placed.
    pub job_version: u64,
    ids: Arc<Vec<NodeId>>,
    reasons: Vec<String>,
    nodes: Vec<Trace>,
}

#[derive(Clone, Copy, Debug)]
struct Trace {
    kind: u8,
    reason: u16,
    score: f32,
}

/// How one node stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// Not a candidate: other pool or datacenter, or takes no work.
    NotCandidate,
    /// A check failed.
    Filtered(&'a str),
    /// No room; what is short.
    Exhausted(&'a str),
    /// Would do; its score without spreading and penalties.
    Fits { score: f32 },
}

impl GroupTrace {
    pub(crate) fn new(group: &str, job_version: u64, ids: &Arc<Vec<NodeId>>, seats: &Seats) -> Self {
        let trace = |seat: &crate::seats::Seat| {
            let (kind, reason) = match seat.standing {
                Standing::Out => (0, 0),
                Standing::Filtered(reason) => (1, reason),
                Standing::Exhausted(reason) => (2, reason),
                Standing::Open => (3, 0),
            };
            #[allow(clippy::cast_possible_truncation)]
            let score = (seat.sum / f64::from(seat.given.max(1))) as f32;
            Trace { kind, reason, score }
        };
        Self {
            group: group.to_owned(),
            job_version,
            ids: ids.clone(),
            reasons: seats.reasons().to_vec(),
            nodes: seats.all().iter().map(trace).collect(),
        }
    }

    /// Bytes it takes, for whoever keeps a bounded number of them.
    pub fn size(&self) -> usize {
        self.nodes.len() * size_of::<Trace>() + self.reasons.iter().map(String::len).sum::<usize>()
    }

    /// Every node and how it stood.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, Verdict<'_>)> {
        self.ids.iter().zip(&self.nodes).map(|(id, trace)| (id, self.verdict(*trace)))
    }

    fn verdict(&self, trace: Trace) -> Verdict<'_> {
        let reason = self.reasons.get(usize::from(trace.reason)).map_or("", String::as_str);
        match trace.kind {
            1 => Verdict::Filtered(reason),
            2 => Verdict::Exhausted(reason),
            3 => Verdict::Fits { score: trace.score },
            _ => Verdict::NotCandidate,
        }
    }
}
