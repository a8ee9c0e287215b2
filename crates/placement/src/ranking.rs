//! Nodes that would do, best first, while their scores change.
//!
//! One bucket per (spread tuple, number of scores given). Within a bucket all nodes get the same spread
//! score and divide by the same number, so the order by sum is the order by final weight, whatever the
//! spread score is at the moment. A bucket keeps its best few in a sorted *front* and the rest in a heap,
//! into which what is new (*loose*) goes when the front is used up.
//!
//! The buckets stand in the *order* of their best entries (*keys*); what changes between two searches puts
//! only the buckets it touches (*dirty*) elsewhere. A search merges the buckets: it goes down the order, and
//! what follows in the buckets it has visited waits in a *window*.
//!
//! Invariants: an entry is void unless its version is that of the node's seat; nothing in a bucket's heap
//! or loose is above anything in its front; a bucket that is not dirty stands in the order by its first
//! entry, if it has one. A void entry is never below what comes after it in its bucket, so it is found to be
//! void when its turn comes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use crate::fleet::Slot;
use crate::seats::Parts;
use crate::spread::{Spreads, Tuple};

/// Entries a front may hold.
const FRONT_MAX: usize = 16;
/// Most scores that a node may be given, spread and penalty apart.
const SCORERS_MAX: u8 = 5;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Of what its scores weigh in the order ([`crate::seats::Parts::weight`]).
    pub sum: f64,
    pub tie: u64,
    pub slot: Slot,
    pub version: u32,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.sum.total_cmp(&other.sum).then(self.tie.cmp(&other.tie));
        by_score.then_with(|| other.slot.cmp(&self.slot)).then(self.version.cmp(&other.version))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// A node with what it weighs among the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    pub slot: Slot,
    /// Mean of what its scores weigh: its final score, but that of a node well begun (see [`crate::score`]).
    pub weight: f64,
    /// The sum as the heaps order it, so that weights that round to the same stay ordered.
    pub sum: f64,
    pub tie: u64,
    pub penalty: bool,
    pub spread: Option<f64>,
}

impl Ranked {
    pub(crate) fn new(entry: &Entry, given: u8, penalty: bool, spread: Option<f64>) -> Self {
        let weight = mean(entry.sum, given, penalty, spread);
        Self { slot: entry.slot, weight, sum: entry.sum, tie: entry.tie, penalty, spread }
    }

    /// The node's final score, of the scores it was given.
    pub(crate) fn score(&self, parts: &Parts) -> f64 {
        let (sum, given) = parts.sum();
        mean(sum, given, self.penalty, self.spread)
    }

    /// Best first.
    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        let by_weight = other.weight.total_cmp(&self.weight).then(other.sum.total_cmp(&self.sum));
        by_weight.then(other.tie.cmp(&self.tie)).then(self.slot.cmp(&other.slot))
    }
}

/// Mean of what a node was given, in the order of the scorers.
fn mean(sum: f64, given: u8, penalty: bool, spread: Option<f64>) -> f64 {
    let (mut total, mut number) = (sum, f64::from(given));
    for more in [penalty.then_some(-1.0), spread].into_iter().flatten() {
        total += more;
        number += 1.0;
    }
    if number > 0.0 { total / number } else { 0.0 }
}

#[derive(Clone, Debug)]
struct Bucket {
    tuple: Tuple,
    given: u8,
    spread: Option<f64>,
    /// Best first.
    front: Vec<Entry>,
    heap: BinaryHeap<Entry>,
    loose: Vec<Entry>,
    /// Where the merge stands in the front.
    at: usize,
    /// By which it stands in the order; `None` when it does not.
    key: Option<Ranked>,
    dirty: bool,
}

impl Bucket {
    /// True when it is the bucket's best now.
    fn push(&mut self, entry: Entry) -> bool {
        let is_best = match self.front.last() {
            Some(last) => entry > *last,
            None => false,
        };
        let no_rest = self.front.len() < FRONT_MAX && self.loose.is_empty() && self.heap.is_empty();
        if !(is_best || no_rest) {
            self.loose.push(entry);
            return false;
        }
        let at = self.front.partition_point(|other| *other > entry);
        self.front.insert(at, entry);
        if self.front.len() > FRONT_MAX
            && let Some(last) = self.front.pop()
        {
            self.loose.push(last);
        }
        at == 0
    }

    /// The entry where the merge stands, be it void or not.
    fn top(&mut self) -> Option<Ranked> {
        if self.at >= self.front.len() {
            self.heap.extend(self.loose.drain(..));
            self.front.push(self.heap.pop()?);
        }
        let entry = self.front.get(self.at)?;
        Some(Ranked::new(entry, self.given, false, self.spread))
    }

    /// Takes its place anew: in the order it stands by its first entry.
    fn refresh(&mut self, spreads: &Spreads) {
        self.spread = spreads.score(self.tuple);
        self.at = 0;
        self.key = self.top();
        self.dirty = false;
    }

    /// Goes on from the entry where the merge stands; forgets it if it is void. True when it was not.
    fn advance(&mut self, is_current: impl Fn(&Entry) -> bool) -> bool {
        let current = self.front.get(self.at).is_some_and(is_current);
        if current {
            self.at += 1;
        } else if self.at < self.front.len() {
            self.front.remove(self.at);
        }
        current
    }
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranking {
    buckets: Vec<Bucket>,
    index: BTreeMap<(Tuple, u8), usize>,
    /// Up to where the changes of spread scores are known.
    seen: usize,
    last: usize,
    /// Buckets by their keys, best first.
    order: Vec<usize>,
    dirty: Vec<usize>,
    /// Where the search stands in the order.
    at: usize,
    /// What follows in the buckets before that, best last.
    window: Vec<(Ranked, usize)>,
}

impl Ranking {
    pub(crate) fn push(&mut self, tuple: Tuple, given: u8, entry: Entry) {
        // Runs of nodes mostly share a bucket; the map is asked when it changes.
        let same = self.buckets.get(self.last).is_some_and(|b| b.tuple == tuple && b.given == given);
        if !same {
            self.last = *self.index.entry((tuple, given)).or_insert_with(|| {
                let (front, heap, loose) = (Vec::with_capacity(FRONT_MAX + 1), BinaryHeap::new(), Vec::new());
                let (spread, at, key, dirty) = Default::default();
                self.buckets.push(Bucket { tuple, given, spread, front, heap, loose, at, key, dirty });
                self.buckets.len() - 1
            });
        }
        if self.buckets[self.last].push(entry) {
            self.mark(self.last);
        }
    }

    fn mark(&mut self, at: usize) {
        let bucket = &mut self.buckets[at];
        if !bucket.dirty {
            bucket.dirty = true;
            self.dirty.push(at);
        }
    }

    /// Begins to go through all entries, best first.
    pub(crate) fn begin(&mut self, spreads: &Spreads) {
        for &visited in &self.order[..self.at] {
            self.buckets[visited].at = 0;
        }
        (self.at, self.seen) = (0, self.follow(spreads));
        self.window.clear();
        // Sorting all is cheaper than moving many.
        if self.dirty.len() * 4 > self.buckets.len() {
            for at in std::mem::take(&mut self.dirty) {
                self.buckets[at].refresh(spreads);
            }
            self.order.clear();
            self.order.extend((0..self.buckets.len()).filter(|at| self.buckets[*at].key.is_some()));
            let buckets = &self.buckets;
            self.order.sort_unstable_by(|a, b| standing(buckets, *a).cmp(&standing(buckets, *b)));
            return;
        }
        while let Some(at) = self.dirty.pop() {
            if let Ok(place) = self.place(at) {
                self.order.remove(place);
            }
            self.buckets[at].refresh(spreads);
            if self.buckets[at].key.is_some() {
                let place = self.place(at).unwrap_or_else(|place| place);
                self.order.insert(place, at);
            }
        }
    }

    /// Marks the buckets whose spread scores changed.
    fn follow(&mut self, spreads: &Spreads) -> usize {
        for changed in spreads.log.get(self.seen..).unwrap_or_default() {
            let Some(tuple) = *changed else {
                (0..self.buckets.len()).for_each(|at| self.mark(at));
                break;
            };
            for given in 0..=SCORERS_MAX {
                if let Some(at) = self.index.get(&(tuple, given)).copied() {
                    self.mark(at);
                }
            }
        }
        spreads.log.len()
    }

    /// Where a bucket stands in the order, or would.
    fn place(&self, at: usize) -> Result<usize, usize> {
        let own = standing(&self.buckets, at);
        self.order.binary_search_by(|other| standing(&self.buckets, *other).cmp(&own))
    }

    /// The best that is left.
    pub(crate) fn next(&mut self, is_current: impl Fn(&Entry) -> bool) -> Option<Ranked> {
        loop {
            let first = self.order.get(self.at).and_then(|at| Some((self.buckets[*at].key?, *at)));
            let waits = self.window.last().copied();
            let (best, at) = match (first, waits) {
                (Some(first), Some(waits)) if waits.0.cmp(&first.0).is_lt() => waits,
                (None, waits) => waits?,
                (Some(first), _) => first,
            };
            if first.is_some_and(|(_, bucket)| bucket == at) {
                self.at += 1;
            } else {
                self.window.pop();
            }
            let bucket = &mut self.buckets[at];
            let (was_first, current) = (bucket.at == 0, bucket.advance(&is_current));
            if let Some(top) = bucket.top() {
                let place = self.window.iter().rposition(|(other, _)| top.cmp(other).is_lt());
                self.window.insert(place.map_or(0, |place| place + 1), (top, at));
            }
            if current {
                return Some(best);
            }
            if was_first {
                self.mark(at);
            }
        }
    }
}

/// By what a bucket stands in the order.
fn standing(buckets: &[Bucket], at: usize) -> Standing {
    Standing(buckets[at].key, at)
}

/// Best first; of equals the older bucket, and last what has nothing.
#[derive(Clone, Copy, Debug)]
struct Standing(Option<Ranked>, usize);

impl Standing {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = match (&self.0, &other.0) {
            (Some(own), Some(other)) => own.cmp(other),
            (own, other) => other.is_some().cmp(&own.is_some()),
        };
        by_key.then(self.1.cmp(&other.1))
    }
}
