//! Where every node stands for one group, and how many stand so for which reason: what metrics and
//! `explain` are made of.

use std::collections::BTreeMap;

use model::metric::AllocMetric;

use crate::fleet::{Fleet, Hot, Slot};
use crate::score;
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

/// The scores a node was given, one by one, in the order of the scorers; spread and penalty apart, and the
/// balance, which is none. Not a number: not given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    fill: Fill,
    devices: f64,
    anti_affinity: f64,
    affinity: f64,
    preemption: f64,
}

const NOT_GIVEN: Parts = Parts {
    fill: Fill { fit: f64::NAN, balance: f64::NAN, weight: f64::NAN },
    devices: f64::NAN,
    anti_affinity: f64::NAN,
    affinity: f64::NAN,
    preemption: f64::NAN,
};

fn given(score: f64) -> Option<f64> {
    (!score.is_nan()).then_some(score)
}

/// How full a node would be; see [`crate::score`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    fit: f64,
    /// Not a number: not given.
    balance: f64,
    /// Of the two, in the order of nodes.
    weight: f64,
}

impl Fill {
    pub(crate) fn new(fit: f64, balance: Option<f64>) -> Self {
        Self { fit, balance: balance.unwrap_or(f64::NAN), weight: score::weight(fit, balance) }
    }
}

impl Parts {
    pub(crate) fn new(fill: Fill, devices: Option<f64>, anti_affinity: Option<f64>, affinity: Option<f64>) -> Self {
        let or = |score: Option<f64>| score.unwrap_or(f64::NAN);
        Self {
            fill,
            devices: or(devices),
            anti_affinity: or(anti_affinity),
            affinity: or(affinity),
            preemption: f64::NAN,
        }
    }

    pub(crate) fn set_preemption(&mut self, score: f64) {
        self.preemption = score;
    }

    /// Sum of what was given, and how many.
    pub(crate) fn sum(&self) -> (f64, u8) {
        self.total(self.fill.fit)
    }

    /// The same of what they weigh in the order of nodes.
    pub(crate) fn weight(&self) -> (f64, u8) {
        self.total(self.fill.weight)
    }

    fn total(&self, fit: f64) -> (f64, u8) {
        let all = [fit, self.devices, self.anti_affinity, self.affinity, self.preemption];
        all.into_iter().filter_map(given).fold((0.0, 0), |(sum, given), score| (sum + score, given + 1))
    }

    pub(crate) fn fit(&self) -> Option<f64> {
        given(self.fill.fit)
    }

    pub(crate) fn balance(&self) -> Option<f64> {
        given(self.fill.balance)
    }

    pub(crate) fn devices(&self) -> Option<f64> {
        given(self.devices)
    }

    pub(crate) fn anti_affinity(&self) -> Option<f64> {
        given(self.anti_affinity)
    }

    pub(crate) fn affinity(&self) -> Option<f64> {
        given(self.affinity)
    }

    pub(crate) fn preemption(&self) -> Option<f64> {
        given(self.preemption)
    }
}

/// One node's place in the ranking of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat {
    pub standing: Standing,
    /// Grows at each re-scoring; entries of older versions are void.
    pub version: u32,
    /// Sum of what the scores given weigh, apart from spread and penalty, and how many were given.
    pub sum: f64,
    pub given: u8,
    pub tuple: Tuple,
}

/// All nodes' places, and the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    /// What the open ones were given.
    parts: Vec<Parts>,
    reasons: Vec<String>,
    numbers: BTreeMap<String, ReasonNo>,
    /// By reason.
    filtered: Vec<i64>,
    exhausted: Vec<i64>,
    /// By the number of the node's class.
    class_filtered: Vec<i64>,
    class_exhausted: Vec<i64>,
    evaluated: i64,
}

impl Seats {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let classes = vec![0; fleet.classes().len()];
        Self {
            seats: vec![Seat::default(); fleet.end()],
            parts: vec![NOT_GIVEN; fleet.end()],
            class_filtered: classes.clone(),
            class_exhausted: classes,
            ..Self::default()
        }
    }

    pub(crate) fn get(&self, slot: Slot) -> &Seat {
        &self.seats[slot as usize]
    }

    pub(crate) fn all(&self) -> &[Seat] {
        &self.seats
    }

    /// What a node was given, if it is open.
    pub(crate) fn parts(&self, slot: Slot) -> &Parts {
        &self.parts[slot as usize]
    }

    pub(crate) fn set_parts(&mut self, slot: Slot, parts: Parts) {
        self.parts[slot as usize] = parts;
    }

    pub(crate) fn all_parts(&self) -> &[Parts] {
        &self.parts
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
        self.filtered.push(0);
        self.exhausted.push(0);
        number
    }

    /// Moves a node to a new standing and keeps the counts right.
    pub(crate) fn set(&mut self, slot: Slot, seat: Seat, hot: &Hot) {
        let old = self.seats[slot as usize];
        if old.standing != seat.standing {
            self.tally(old.standing, -1, hot);
            self.tally(seat.standing, 1, hot);
        }
        self.seats[slot as usize] = Seat { version: old.version + 1, ..seat };
    }

    fn tally(&mut self, standing: Standing, change: i64, hot: &Hot) {
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
        reasons[usize::from(reason)] += change;
        classes[hot.class as usize] += change;
    }

    /// Writes the counts into a metric.
    pub(crate) fn fill(&self, metric: &mut AllocMetric, fleet: &Fleet) {
        let named = |counts: &[i64]| {
            let counted = self.reasons.iter().zip(counts).filter(|(_, n)| **n > 0);
            counted.map(|(text, n)| (text.clone(), *n)).collect()
        };
        let of_class = |counts: &[i64]| {
            let counted = fleet.classes().iter().zip(counts).filter(|(name, n)| **n > 0 && !name.is_empty());
            counted.map(|(name, n)| (name.clone(), *n)).collect()
        };
        metric.nodes_evaluated = self.evaluated;
        metric.nodes_filtered = self.filtered.iter().sum();
        metric.nodes_exhausted = self.exhausted.iter().sum();
        metric.constraint_filtered = named(&self.filtered);
        metric.dimension_exhausted = named(&self.exhausted);
        metric.class_filtered = of_class(&self.class_filtered);
        metric.class_exhausted = of_class(&self.class_exhausted);
    }
}
