//! Nodes that would do, best first, while their scores change.
//!
//! One bucket per (spread tuple, number of scores given). Within a bucket all nodes get the same spread
//! score and divide by the same number, so the order by sum is the order by final score, whatever the
//! spread score is at the moment. A bucket keeps its best few in a sorted *front* and the rest in a heap;
//! the best of all are merged from the fronts.
//!
//! Invariants: an entry is void unless its version is that of the node's seat; nothing in a bucket's heap
//! is above anything in its front.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use crate::fleet::Slot;
use crate::spread::{Spreads, Tuple};

/// Entries a front may hold.
const FRONT_MAX: usize = 16;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
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

/// A node with its final score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    pub slot: Slot,
    pub score: f64,
    /// The sum as the heaps order it, so that scores that round to the same stay ordered.
    pub sum: f64,
    pub tie: u64,
    pub penalty: bool,
    pub spread: Option<f64>,
}

impl Ranked {
    /// Mean of what a node was given, in the order of the scorers.
    pub(crate) fn new(entry: &Entry, given: u8, penalty: bool, spread: Option<f64>) -> Self {
        let (mut total, mut number) = (entry.sum, f64::from(given));
        for more in [penalty.then_some(-1.0), spread].into_iter().flatten() {
            total += more;
            number += 1.0;
        }
        let score = if number > 0.0 { total / number } else { 0.0 };
        Self { slot: entry.slot, score, sum: entry.sum, tie: entry.tie, penalty, spread }
    }

    /// Best first.
    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score).then(other.sum.total_cmp(&self.sum));
        by_score.then(other.tie.cmp(&self.tie)).then(self.slot.cmp(&other.slot))
    }
}

#[derive(Clone, Debug)]
struct Bucket {
    tuple: Tuple,
    given: u8,
    spread: Option<f64>,
    /// Best first.
    front: Vec<Entry>,
    heap: BinaryHeap<Entry>,
    /// Where the merge stands in the front, and the entry there.
    at: usize,
    top: Option<Ranked>,
}

impl Bucket {
    fn push(&mut self, entry: Entry) {
        match self.front.last() {
            Some(last) if entry > *last => {
                let at = self.front.partition_point(|other| *other > entry);
                self.front.insert(at, entry);
                if self.front.len() > FRONT_MAX
                    && let Some(last) = self.front.pop()
                {
                    self.heap.push(last);
                }
            }
            _ => self.heap.push(entry),
        }
    }

    /// Brings a valid entry to where the merge stands.
    fn settle(&mut self, is_current: &dyn Fn(&Entry) -> bool) {
        loop {
            match self.front.get(self.at) {
                Some(entry) if is_current(entry) => break,
                Some(_) => {
                    self.front.remove(self.at);
                }
                None => match self.heap.pop() {
                    Some(entry) if is_current(&entry) => self.front.push(entry),
                    Some(_) => {}
                    None => {
                        self.top = None;
                        return;
                    }
                },
            }
        }
        self.top = Some(Ranked::new(&self.front[self.at], self.given, false, self.spread));
    }
}

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranking {
    buckets: Vec<Bucket>,
    index: BTreeMap<(Tuple, u8), usize>,
    epoch: u64,
    last: usize,
}

impl Ranking {
    pub(crate) fn push(&mut self, tuple: Tuple, given: u8, entry: Entry) {
        // Runs of nodes mostly share a bucket; the map is asked when it changes.
        let same = self.buckets.get(self.last).is_some_and(|b| b.tuple == tuple && b.given == given);
        if !same {
            self.last = *self.index.entry((tuple, given)).or_insert_with(|| {
                let (front, heap) = (Vec::with_capacity(FRONT_MAX + 1), BinaryHeap::new());
                self.buckets.push(Bucket { tuple, given, spread: None, front, heap, at: 0, top: None });
                self.epoch = u64::MAX;
                self.buckets.len() - 1
            });
        }
        self.buckets[self.last].push(entry);
    }

    /// Begins to go through all entries, best first.
    pub(crate) fn begin(&mut self, spreads: &Spreads, is_current: &dyn Fn(&Entry) -> bool) {
        let fresh = self.epoch == spreads.epoch;
        for bucket in &mut self.buckets {
            if !fresh {
                bucket.spread = spreads.score(bucket.tuple);
            }
            bucket.at = 0;
            bucket.settle(is_current);
        }
        self.epoch = spreads.epoch;
    }

    /// The best that is left.
    pub(crate) fn next(&mut self, is_current: &dyn Fn(&Entry) -> bool) -> Option<Ranked> {
        let mut best: Option<(usize, Ranked)> = None;
        for (at, bucket) in self.buckets.iter().enumerate() {
            if let Some(top) = &bucket.top
                && best.as_ref().is_none_or(|(_, other)| top.cmp(other).is_lt())
            {
                best = Some((at, *top));
            }
        }
        let (at, ranked) = best?;
        let bucket = &mut self.buckets[at];
        bucket.at += 1;
        bucket.settle(is_current);
        Some(ranked)
    }
}
