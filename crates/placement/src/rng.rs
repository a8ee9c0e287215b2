//! Numbers that look random and are not: the same seed gives the same placements. Source: SplitMix64,
//! Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).

#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

/// Spreads the bits of a number over all 64.
pub(crate) fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The order among equals: seeded per evaluation and attempt, so that schedulers do not all like the same node.
pub(crate) fn tie(seed: u64, node_hash: u64) -> u64 {
    mix(seed ^ node_hash)
}
