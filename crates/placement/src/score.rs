//! The placement formulas. Each scorer gives a number or nothing; a node's score is the mean of the
//! numbers given. Source: the compatible interface's formulas; vectors in the tests.
//!
//! The order of nodes is that of their scores, but for one thing. When nodes are to be filled, those that
//! would be *well begun* (a fit score of [`WELL_BEGUN`] or more) count as equally full, and of them the one
//! comes first whose free shares of cpu and memory come nearer to each other by the most (the highest
//! *balance*); of those that gain alike, the fuller one. What counts is the gain, not how near they are in
//! the end: where all work needs, say, more memory, the emptiest node would always be the most even one. By
//! the fit score alone node after node fills until one of the two is used up and the other lies idle. Against
//! a node that is not well begun, or has other scores too, a well begun one counts as [`WELL_BEGUN`]. Scores
//! know nothing of it: they are what the formulas give, and `balance` stands beside them.

use std::f64::consts::LN_10;

use crate::fit::Amounts;

/// Best value of the raw fit score.
const FIT_MAX: f64 = 18.0;

/// From this fit score on nodes count as equally full, but for their balance: nearly two fifths of each
/// are taken then, if alike. Lower, and nodes are begun that could stay empty; higher, and more is left that nobody
/// can use (`docs/benchmarks.md`).
pub const WELL_BEGUN: f64 = 0.65;
/// What balance may add to that: less than any difference of other scores that means something.
const BALANCE_WEIGHT: f64 = 1e-6;
/// What the fit score may add to both.
const FIT_WEIGHT: f64 = 1e-9;

/// How full nodes are to be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Fill a node before the next.
    #[default]
    Binpack,
    /// Use the emptiest first.
    Spread,
}

fn free_share(used: i64, capacity: i64) -> f64 {
    if capacity <= 0 {
        return 0.0;
    }
    // i64 -> f64 loses nothing below 2^53, far above any node.
    #[allow(clippy::cast_precision_loss)]
    let share = used as f64 / capacity as f64;
    1.0 - share
}

/// Fit score from 0 to 1 of a node that holds `used` with the new allocation included.
pub fn fit(algorithm: Algorithm, used: Amounts, capacity: Amounts) -> f64 {
    let power = |used, capacity| (free_share(used, capacity) * LN_10).exp();
    let total = power(used.cpu, capacity.cpu) + power(used.memory, capacity.memory);
    let raw = match algorithm {
        Algorithm::Binpack => 20.0 - total,
        Algorithm::Spread => total - 2.0,
    };
    raw.clamp(0.0, FIT_MAX) / FIT_MAX
}

/// By how much a node's free shares of cpu and memory come nearer to each other (or farther apart, below 0)
/// when `ask` is among what it has in `used`. Nothing for nodes that would not be well begun, or when the
/// emptiest are to be used first.
pub fn balance(algorithm: Algorithm, fit: f64, ask: Amounts, used: Amounts, capacity: Amounts) -> Option<f64> {
    let apart = |used: Amounts| (free_share(used.cpu, capacity.cpu) - free_share(used.memory, capacity.memory)).abs();
    let mut before = used;
    before.sub(ask);
    (algorithm == Algorithm::Binpack && fit >= WELL_BEGUN).then(|| apart(before) - apart(used))
}

/// What a fit score weighs in the order of nodes.
pub fn weight(fit: f64, balance: Option<f64>) -> f64 {
    // Balance is -1 or more: none that is well begun comes after one that is not.
    balance.map_or(fit, |balance| WELL_BEGUN + BALANCE_WEIGHT * (1.0 + balance) + FIT_WEIGHT * fit)
}

/// Pushes allocations of one group apart: `collisions` of them are there already, of `count` wanted.
#[allow(clippy::cast_precision_loss)]
pub fn anti_affinity(collisions: u32, count: usize) -> Option<f64> {
    (collisions > 0).then(|| -(f64::from(collisions) + 1.0) / (count.max(1) as f64))
}

/// Share of the weight of the affinities that match, `None` when there are none.
pub fn affinity(weights: impl Iterator<Item = (i64, bool)>) -> Option<f64> {
    let (mut matched, mut all) = (0_i64, 0_i64);
    for (weight, matches) in weights {
        all = all.saturating_add(weight.saturating_abs());
        if matches {
            matched = matched.saturating_add(weight);
        }
    }
    #[allow(clippy::cast_precision_loss)]
    (all > 0).then(|| matched as f64 / all as f64)
}

/// Mean of what the scorers gave.
#[allow(clippy::cast_precision_loss)]
pub fn mean(given: &[f64]) -> f64 {
    if given.is_empty() { 0.0 } else { given.iter().sum::<f64>() / given.len() as f64 }
}

const PREEMPTION_RATE: f64 = 0.0048;
const PREEMPTION_ORIGIN: f64 = 2048.0;

/// How well a node is liked whose allocations of these priorities must leave: fewer and less important
/// ones are better.
pub fn preemption(priorities: impl Iterator<Item = i32>) -> f64 {
    let (mut most, mut sum) = (0.0_f64, 0.0_f64);
    for priority in priorities {
        most = most.max(f64::from(priority));
        sum += f64::from(priority);
    }
    let net = if most > 0.0 { most + sum / most } else { 0.0 };
    1.0 / (1.0 + (PREEMPTION_RATE * (net - PREEMPTION_ORIGIN)).exp())
}
