//! Why there, and why not elsewhere: for every node, which check it failed or how its score came about.
//!
//! A compact record of how nodes stood when a group's search began, what the search then did, and what
//! would have helped those that found no node. The caller keeps it as long as it likes; the summary that
//! lasts is in the evaluation's and the allocations' metrics.

use std::sync::Arc;

use model::scores::Scorer;
use model::{AllocId, NodeId};

use crate::seats::{Parts, Seat, Seats, Standing};
use crate::spread::Spreads;

/// Records of one scheduling pass.
#[derive(Clone, Debug, Default)]
pub struct Explain {
    pub groups: Vec<GroupTrace>,
}

/// How every node stood for one group, and what came of it.
#[derive(Clone, Debug)]
pub struct GroupTrace {
    pub group: String,
    /// Version of the job that was to be placed.
    pub job_version: u64,
    /// When every node had been checked; Unix nanoseconds of the request's clock, as the next.
    pub checked_at: i64,
    /// When the last of its allocations was placed, or nothing more could be.
    pub ranked_at: i64,
    /// In the order in which they were placed.
    pub placed: Vec<Placed>,
    /// How many found no node.
    pub unplaced: u32,
    /// What would have let one more be placed, nearest first; empty when all were.
    pub nearest: Vec<Nearest>,
    ids: Arc<Vec<NodeId>>,
    reasons: Vec<String>,
    nodes: Vec<Trace>,
}

/// One allocation that was placed.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub alloc: AllocId,
    pub name: String,
    pub node: NodeId,
    /// The node's final score at that moment.
    pub score: f64,
    /// Who had to leave for it.
    pub preempted: Vec<AllocId>,
}

/// A quantity of which a node has so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    Memory,
    Cpu,
    Disk,
}

impl Quantity {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Memory => ("MB", "memory"),
            Self::Cpu => ("MHz", "cpu"),
            Self::Disk => ("MB", "disk"),
        }
    }
}

/// One change that would help an allocation that found no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nearest {
    /// `nodes` pass all else and lack only this; the nearest of them lacks `amount`.
    Room { of: Quantity, amount: i64, nodes: u32 },
    /// Nodes with enough cpu, memory and disk lack something else: ports, cores, devices, allocations.
    Other { what: String, nodes: u32 },
    /// Nodes that have room fail this check first.
    Check { check: String, nodes: u32 },
    /// Each of them lacks more than one thing.
    Several { nodes: u32 },
    /// No node is in the job's datacenters and pool and takes work.
    NoNode,
}

impl std::fmt::Display for Nearest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes = |n: &u32| if *n == 1 { "1 node".to_owned() } else { format!("{n} nodes") };
        match self {
            Self::Room { of, amount, nodes: n } => {
                let (unit, what) = of.words();
                let verb = if *n == 1 { "passes" } else { "pass" };
                write!(f, "needs {amount} {unit} more {what} on {} that {verb} all else", nodes(n))
            }
            Self::Other { what, nodes: n } => write!(f, "{} short of {what} only", has(&nodes(n), *n)),
            Self::Check { check, nodes: n } => write!(f, "{} room and fail \"{check}\"", have(&nodes(n), *n)),
            Self::Several { nodes: n } => write!(f, "{} short of more than one thing", has(&nodes(n), *n)),
            Self::NoNode => f.write_str("no ready node is in the job's datacenters and node pool"),
        }
    }
}

fn has(nodes: &str, n: u32) -> String {
    format!("{nodes} {}", if n == 1 { "is" } else { "are" })
}

fn have(nodes: &str, n: u32) -> String {
    format!("{nodes} {}", if n == 1 { "has" } else { "have" })
}

#[derive(Clone, Copy, Debug)]
struct Trace {
    kind: u8,
    reason: u16,
    /// Fit, devices, anti-affinity, affinity, spread, and balance, which is no score; not a number: not given.
    parts: [f32; PARTS],
}

const PARTS: usize = 6;
/// How many of them are scores.
const SCORES: usize = 5;

/// Names of the parts of a [`Trace`], as metrics call them.
const NAMES: [Scorer; PARTS] = [
    Scorer::Binpack,
    Scorer::Devices,
    Scorer::JobAntiAffinity,
    Scorer::NodeAffinity,
    Scorer::AllocationSpread,
    Scorer::Balance,
];

/// How one node stood.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// Not a candidate: other pool or datacenter, or takes no work.
    NotCandidate,
    /// A check failed.
    Filtered(&'a str),
    /// No room; what is short.
    Exhausted(&'a str),
    /// Would do; its score without penalties, and what it is the mean of. Beside that `balance`, of a node
    /// that would be well begun: it comes before the fit score then (see [`crate::score`]).
    Fits { score: f64, parts: Vec<(&'static str, f64)> },
}

impl GroupTrace {
    pub(crate) fn new(group: &str, job_version: u64, ids: &Arc<Vec<NodeId>>, seats: &Seats, spreads: &Spreads) -> Self {
        #[allow(clippy::cast_possible_truncation)]
        let part = |score: Option<f64>| score.map_or(f32::NAN, |score| score as f32);
        let none = [f32::NAN; PARTS];
        // Most nodes share their values of spread attributes with the one before.
        let mut last = (u32::MAX, f32::NAN);
        let trace = |(seat, given): (&Seat, &Parts)| {
            let (kind, reason) = match seat.standing {
                Standing::Out => (0, 0),
                Standing::Filtered(reason) => (1, reason),
                Standing::Exhausted(reason) => (2, reason),
                Standing::Open => (3, 0),
            };
            if kind != 3 {
                return Trace { kind, reason, parts: none };
            }
            if last.0 != seat.tuple {
                last = (seat.tuple, part(spreads.score(seat.tuple)));
            }
            let scores = [given.fit(), given.devices(), given.anti_affinity(), given.affinity()].map(part);
            Trace { kind, reason, parts: [scores[0], scores[1], scores[2], scores[3], last.1, part(given.balance())] }
        };
        Self {
            group: group.to_owned(),
            job_version,
            checked_at: 0,
            ranked_at: 0,
            placed: Vec::new(),
            unplaced: 0,
            nearest: Vec::new(),
            ids: ids.clone(),
            reasons: seats.reasons().to_vec(),
            nodes: seats.all().iter().zip(seats.all_parts()).map(trace).collect(),
        }
    }

    /// Takes another search's view of the nodes.
    pub(crate) fn see(&mut self, other: Self) {
        (self.ids, self.reasons, self.nodes) = (other.ids, other.reasons, other.nodes);
    }

    /// How many nodes are no candidates, fail a check, have no room, would do.
    pub fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for trace in &self.nodes {
            counts[usize::from(trace.kind.min(3))] += 1;
        }
        counts
    }

    /// Bytes it takes, for whoever keeps a bounded number of them.
    pub fn size(&self) -> usize {
        let placed = self.placed.iter().map(|p| size_of::<Placed>() + p.name.len() + p.preempted.len() * 16);
        let fixed = size_of::<Self>() + self.group.len() + self.nearest.len() * size_of::<Nearest>();
        fixed
            + self.nodes.len() * (size_of::<Trace>() + size_of::<NodeId>())
            + self.reasons.iter().map(|r| size_of::<String>() + r.len()).sum::<usize>()
            + placed.sum::<usize>()
    }

    /// Every node and how it stood when the search began.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, Verdict<'_>)> {
        self.ids.iter().zip(&self.nodes).map(|(id, trace)| (id, self.verdict(trace)))
    }

    /// How one node stood; `None` when it was not known then.
    pub fn node(&self, id: &NodeId) -> Option<Verdict<'_>> {
        let at = self.ids.iter().position(|other| other == id)?;
        self.nodes.get(at).map(|trace| self.verdict(trace))
    }

    fn verdict(&self, trace: &Trace) -> Verdict<'_> {
        let reason = self.reasons.get(usize::from(trace.reason)).map_or("", String::as_str);
        match trace.kind {
            1 => Verdict::Filtered(reason),
            2 => Verdict::Exhausted(reason),
            3 => {
                let given = NAMES.into_iter().zip(trace.parts).filter(|(_, part)| !part.is_nan());
                let parts = given.map(|(scorer, part)| (scorer.name(), f64::from(part))).collect();
                let scores = trace.parts[..SCORES].iter().filter(|score| !score.is_nan());
                let scores: Vec<f64> = scores.map(|score| f64::from(*score)).collect();
                Verdict::Fits { score: crate::score::mean(&scores), parts }
            }
            _ => Verdict::NotCandidate,
        }
    }
}
