//! What were the sizes of openraft's batches? A histogram with the interface openraft expects, in the
//! place of the published crate, which on first use fills tables for sixteen resolutions, 26 MB of memory
//! held for good, of which openraft reads one of 2 KB. Here a bucket is computed, no table is kept.
//!
//! Buckets: 0, 1, 2, 3, and from there on four per power of two, so a value is known to a quarter of
//! itself. A histogram keeps counts up to the largest bucket it has met.
//!
//! Invariants: every `u64` has one bucket; a bucket's lower bound lies in that bucket; counts saturate.
//! Nothing here fails. Once the published crate fills only the table that is asked for, this one goes.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fmt;
use std::marker::PhantomData;

/// Buckets per power of two.
const PER_POWER: usize = 4;

fn bucket_of(value: u64) -> usize {
    if value < PER_POWER as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    (power - 1) * PER_POWER + (value >> (power - 2)) as usize % PER_POWER
}

fn lower_bound(bucket: usize) -> u64 {
    if bucket < PER_POWER {
        return bucket as u64;
    }
    ((PER_POWER + bucket % PER_POWER) as u64) << (bucket / PER_POWER - 1)
}

/// How often values of which size were met. `T` is a label of the published interface, unused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Vec<u64>,
    total: u64,
    label: PhantomData<T>,
}

impl<T> Histogram<T> {
    pub const fn new() -> Self {
        Self { counts: Vec::new(), total: 0, label: PhantomData }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = bucket_of(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(n) = self.counts.get_mut(bucket) {
            *n = n.saturating_add(count);
        }
        self.total = self.total.saturating_add(count);
    }

    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The lower bound of the bucket below or in which `permille` of all values lie; 0 without values.
    fn permille(&self, permille: u64) -> u64 {
        let rank = (u128::from(self.total) * u128::from(permille)).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return lower_bound(bucket);
            }
        }
        0
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Sizes that this part of the values does not exceed by more than a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "samples: {samples}, P50: {p50}, P90: {p90}, P99: {p99}, P99.9: {p99_9}")
    }
}

/// Named histograms, written one per line.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    #[must_use]
    #[allow(clippy::should_implement_trait, clippy::needless_pass_by_value, reason = "the published interface")]
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.lines.push((name.to_owned(), histogram.percentile_stats()));
        self
    }

    pub const fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_between_the_bounds_of_its_bucket() {
        let powers = (0..64).flat_map(|p| [1_u64 << p, (1_u64 << p) - 1, (1_u64 << p) | 1, u64::MAX >> p]);
        for value in (0..5_000).chain(powers) {
            let bucket = bucket_of(value);
            assert!(lower_bound(bucket) <= value, "{value}");
            assert!(value == u64::MAX || bucket == bucket_of(u64::MAX) || value < lower_bound(bucket + 1), "{value}");
            assert_eq!(bucket_of(lower_bound(bucket)), bucket);
        }
    }

    #[test]
    fn a_percentile_is_within_a_quarter_of_the_true_one() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        (1..=1_000).for_each(|v| histogram.record(v));
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1_000);
        for (found, truth) in [(stats.p10, 100), (stats.p50, 500), (stats.p90, 900), (stats.p99, 990)] {
            assert!(found <= truth && found * 5 >= truth * 4 - 5, "{found} for {truth}");
        }
    }

    #[test]
    fn counts_saturate() {
        let mut histogram = Histogram::<()>::new();
        histogram.record_n(u64::MAX, u64::MAX);
        histogram.record_n(0, u64::MAX);
        assert_eq!(histogram.total(), u64::MAX);
        assert_eq!(histogram.percentile_stats().p50, 0);
    }
}
