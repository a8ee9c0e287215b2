//! Nodes that would do, best first, while their scores change.
//!
//! One bucket per (spread tuple, number of scores given). Within a bucket all nodes get the same spread
//! score and divide by the same number, so the order by sum is the order by final score, whatever the
//! spread score is at the moment. A bucket keeps its best few in a sorted *front* and the rest in a heap;
//! the best of all are merged from the fronts. The merge looks at every bucket once and then only at a
//! *window* of those that stood best, until the window is used up.
//!
//! Invariants: an entry is void unless its version is that of the node's seat; nothing in a bucket's heap
//! is above anything in its front; no bucket outside the window has anything above the window's *bound*. A
//! void entry is never below what comes after it, so it is found to be void when its turn comes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use crate::fleet::Slot;
use crate::spread::{Spreads, Tuple};

/// Entries a front may hold.
const FRONT_MAX: usize = 16;
/// Buckets the merge keeps in view.
const WINDOW: usize = 6;

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
    /// Where the merge stands in the front.
    at: usize,
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

    /// The entry where the merge stands, be it void or not.
    fn top(&mut self) -> Option<Ranked> {
        if self.at >= self.front.len() {
            self.front.push(self.heap.pop()?);
        }
        let entry = self.front.get(self.at)?;
        Some(Ranked::new(entry, self.given, false, self.spread))
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
    epoch: u64,
    last: usize,
    /// The best tops with their buckets, best last.
    window: Vec<(Ranked, usize)>,
    /// The best top outside the window may be as good as this; `None` when nothing is outside.
    bound: Option<Ranked>,
}

impl Ranking {
    pub(crate) fn push(&mut self, tuple: Tuple, given: u8, entry: Entry) {
        // Runs of nodes mostly share a bucket; the map is asked when it changes.
        let same = self.buckets.get(self.last).is_some_and(|b| b.tuple == tuple && b.given == given);
        if !same {
            self.last = *self.index.entry((tuple, given)).or_insert_with(|| {
                let (front, heap) = (Vec::with_capacity(FRONT_MAX + 1), BinaryHeap::new());
                self.buckets.push(Bucket { tuple, given, spread: None, front, heap, at: 0 });
                self.epoch = u64::MAX;
                self.buckets.len() - 1
            });
        }
        self.buckets[self.last].push(entry);
    }

    /// Begins to go through all entries, best first.
    pub(crate) fn begin(&mut self, spreads: &Spreads) {
        let fresh = self.epoch == spreads.epoch;
        for bucket in &mut self.buckets {
            if !fresh {
                bucket.spread = spreads.score(bucket.tuple);
            }
            bucket.at = 0;
        }
        self.epoch = spreads.epoch;
        self.look();
    }

    /// Fills the window from all buckets.
    fn look(&mut self) {
        self.window.clear();
        self.bound = None;
        for at in 0..self.buckets.len() {
            if let Some(top) = self.buckets[at].top() {
                self.offer(top, at);
            }
        }
    }

    /// Takes a top into the window, if it is good enough.
    fn offer(&mut self, top: Ranked, bucket: usize) {
        let is_worse = |than: &Ranked| top.cmp(than).is_gt();
        if self.bound.as_ref().is_some_and(is_worse) {
            return;
        }
        let full = self.window.len() >= WINDOW;
        if full && self.window.first().is_some_and(|(worst, _)| is_worse(worst)) {
            self.bound = Some(top);
            return;
        }
        if full {
            self.bound = Some(self.window.remove(0).0);
        }
        let at = self.window.iter().rposition(|(other, _)| top.cmp(other).is_lt()).map_or(0, |at| at + 1);
        self.window.insert(at, (top, bucket));
    }

    /// The best that is left.
    pub(crate) fn next(&mut self, is_current: impl Fn(&Entry) -> bool) -> Option<Ranked> {
        loop {
            if self.window.is_empty() {
                self.look();
            }
            let (best, at) = self.window.pop()?;
            let bucket = &mut self.buckets[at];
            let current = bucket.advance(&is_current);
            if let Some(top) = bucket.top() {
                self.offer(top, at);
            }
            if current {
                return Some(best);
            }
        }
    }
}
