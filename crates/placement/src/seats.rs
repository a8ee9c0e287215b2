//! Where every node stands for one group, and how many stand so for which reason: what metrics and
//! `explain` are made of.

use std::collections::BTreeMap;

use model::metric::AllocMetric;

use crate::fleet::{Fleet, Slot};
use crate::spread::Tuple;

/// Number of a reason's text within one placer.
pub(crate) type ReasonNo = u16;

/// Most reasons that are told apart; the rest share the last one.
const REASONS_MAX: usize = 4096;

/// How a node stands for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not a candidate: other pool or datacenter, or takes no work.
    #[default]
    Out,
    /// A check failed.
    Filtered(ReasonNo),
    /// May run it, has no room.
    Exhausted(ReasonNo),
    /// May run it, and it fits.
    Open,
}

/// One node's place in the ranking of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat {
    pub standing: Standing,
    /// Grows at each re-scoring; heap entries of older versions are void.
    pub version: u32,
    /// Sum of the scores given apart from spread and penalty, and how many were given.
    pub sum: f64,
    pub given: u8,
    pub tuple: Tuple,
}

/// All nodes' places, and the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    reasons: Vec<String>,
    numbers: BTreeMap<String, ReasonNo>,
    filtered: BTreeMap<ReasonNo, i64>,
    exhausted: BTreeMap<ReasonNo, i64>,
    class_filtered: BTreeMap<String, i64>,
    class_exhausted: BTreeMap<String, i64>,
    evaluated: i64,
}

impl Seats {
    pub(crate) fn new(len: usize) -> Self {
        Self { seats: vec![Seat::default(); len], ..Self::default() }
    }

    pub(crate) fn get(&self, slot: Slot) -> &Seat {
        &self.seats[slot as usize]
    }

    pub(crate) fn all(&self) -> &[Seat] {
        &self.seats
    }

    pub(crate) fn reasons(&self) -> &[String] {
        &self.reasons
    }

    pub(crate) fn reason(&mut self, text: &str) -> ReasonNo {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        if self.reasons.len() >= REASONS_MAX {
            return ReasonNo::try_from(REASONS_MAX - 1).unwrap_or(0);
        }
        let number = ReasonNo::try_from(self.reasons.len()).unwrap_or(0);
        self.reasons.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    /// Moves a node to a new standing and keeps the counts right.
    pub(crate) fn set(&mut self, slot: Slot, seat: Seat, fleet: &Fleet) {
        let old = self.seats[slot as usize].standing;
        if old != seat.standing {
            self.tally(old, -1, slot, fleet);
            self.tally(seat.standing, 1, slot, fleet);
        }
        let version = self.seats[slot as usize].version + 1;
        self.seats[slot as usize] = Seat { version, ..seat };
    }

    fn tally(&mut self, standing: Standing, change: i64, slot: Slot, fleet: &Fleet) {
        let (reasons, classes, reason) = match standing {
            Standing::Out => return,
            Standing::Open => {
                self.evaluated += change;
                return;
            }
            Standing::Filtered(reason) => (&mut self.filtered, &mut self.class_filtered, reason),
            Standing::Exhausted(reason) => (&mut self.exhausted, &mut self.class_exhausted, reason),
        };
        self.evaluated += change;
        bump(reasons, reason, change);
        let class = &fleet.node(slot).node_class;
        if !class.is_empty() {
            bump(classes, class.clone(), change);
        }
    }

    /// Writes the counts into a metric.
    pub(crate) fn fill(&self, metric: &mut AllocMetric) {
        let named = |counts: &BTreeMap<ReasonNo, i64>| {
            let mut named: BTreeMap<String, i64> = BTreeMap::new();
            for (reason, count) in counts {
                let text = self.reasons.get(usize::from(*reason)).cloned().unwrap_or_default();
                *named.entry(text).or_default() += count;
            }
            named
        };
        metric.nodes_evaluated = self.evaluated;
        metric.nodes_filtered = self.filtered.values().sum();
        metric.nodes_exhausted = self.exhausted.values().sum();
        metric.constraint_filtered = named(&self.filtered);
        metric.dimension_exhausted = named(&self.exhausted);
        metric.class_filtered.clone_from(&self.class_filtered);
        metric.class_exhausted.clone_from(&self.class_exhausted);
    }
}

fn bump<K: Ord>(counts: &mut BTreeMap<K, i64>, key: K, change: i64) {
    use std::collections::btree_map::Entry;
    match counts.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(change);
        }
        Entry::Occupied(mut entry) => {
            *entry.get_mut() += change;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}
