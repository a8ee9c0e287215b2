//! Nodes on which plans keep failing: is one of them not what its row says?
//!
//! A rejection now and then is a race. A node that rejects again and again within a window is noticed, and
//! named once for each token of a bucket that fills slowly, so that a fault of the cluster's own does not
//! make all its nodes ineligible. Pure; time is told by the caller, in milliseconds that only grow.
//!
//! Invariants: at most `nodes_max` nodes are remembered (the one rejected longest ago is forgotten first), of
//! each at most `threshold` moments.

use std::collections::{BTreeMap, VecDeque};

use model::NodeId;

/// When a node is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionLimits {
    /// Rejections within the window; 0 = never.
    pub threshold: usize,
    pub window_ms: u64,
    pub nodes_max: usize,
    /// Nodes named at once at most.
    pub burst: u32,
    /// One more may be named after so long.
    pub refill_ms: u64,
}

impl Default for RejectionLimits {
    fn default() -> Self {
        Self { threshold: 0, window_ms: 300_000, nodes_max: 50, burst: 10, refill_ms: 360_000 }
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Rejections {
    limits: RejectionLimits,
    nodes: BTreeMap<NodeId, VecDeque<u64>>,
    tokens: u32,
    refilled_ms: u64,
}

impl Rejections {
    pub fn new(limits: RejectionLimits, now_ms: u64) -> Self {
        Self { tokens: limits.burst, limits, nodes: BTreeMap::new(), refilled_ms: now_ms }
    }

    /// A part of a plan was rejected on the node. True: it is to be made ineligible.
    pub fn note(&mut self, node: &NodeId, now_ms: u64) -> bool {
        if self.limits.threshold == 0 {
            return false;
        }
        let since = now_ms.saturating_sub(self.limits.window_ms);
        if !self.nodes.contains_key(node) && self.nodes.len() >= self.limits.nodes_max {
            let oldest = self.nodes.iter().min_by_key(|(id, at)| (at.back().copied(), (*id).clone()));
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.nodes.remove(&oldest);
            }
        }
        let moments = self.nodes.entry(node.clone()).or_default();
        moments.push_back(now_ms);
        while moments.len() > self.limits.threshold || moments.front().is_some_and(|at| *at < since) {
            moments.pop_front();
        }
        let often = moments.len() >= self.limits.threshold;
        self.refill(now_ms);
        if !often || self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }

    /// Nodes remembered.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn refill(&mut self, now_ms: u64) {
        let earned = now_ms.saturating_sub(self.refilled_ms) / self.limits.refill_ms.max(1);
        if earned > 0 {
            self.refilled_ms += earned * self.limits.refill_ms.max(1);
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(self.limits.burst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(threshold: usize, burst: u32) -> Rejections {
        Rejections::new(RejectionLimits { threshold, burst, ..RejectionLimits::default() }, 0)
    }

    fn node(n: usize) -> NodeId {
        NodeId::from(format!("n{n}"))
    }

    #[test]
    fn plan_tracker_001_a_node_is_named_once_it_rejects_often_enough_and_once_per_token() {
        let mut rejections = of(3, 2);
        let named: Vec<bool> = (1..=6).map(|at| rejections.note(&node(1), at)).collect();
        assert_eq!(named, [false, false, true, true, false, false]);
        assert!(!of(0, 9).note(&node(1), 1), "0 is never");
    }

    #[test]
    fn plan_tracker_002_what_is_older_than_the_window_does_not_count() {
        let mut rejections = of(3, 9);
        assert!(![0, 1].iter().any(|at| rejections.note(&node(1), *at)));
        assert!(!rejections.note(&node(1), 300_002), "the first two are forgotten");
        assert!(!rejections.note(&node(1), 300_003));
        assert!(rejections.note(&node(1), 300_004));
    }

    #[test]
    fn plan_tracker_003_no_more_nodes_are_remembered_than_the_limit() {
        let mut rejections = of(2, 9);
        for n in 0..500 {
            rejections.note(&node(n), n as u64);
        }
        assert_eq!(rejections.len(), 50);
        assert!(rejections.note(&node(499), 600), "the newest are remembered");
        assert!(!rejections.note(&node(0), 601), "the oldest are not");
    }

    #[test]
    fn plan_tracker_005_after_a_burst_nodes_are_named_as_the_bucket_fills() {
        let mut rejections = of(1, 10);
        let named = (0..40).filter(|n| rejections.note(&node(*n), 5)).count();
        assert_eq!(named, 10);
        assert!(!rejections.note(&node(41), 359_999));
        assert!(rejections.note(&node(41), 360_000));
        assert!(!rejections.note(&node(42), 360_001));
        let later = 360_000 * 100;
        assert_eq!((0..40).filter(|n| rejections.note(&node(*n), later)).count(), 10, "never more than the burst");
    }
}
