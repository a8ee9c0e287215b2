//! How a scheduler that samples would look at nodes. Ours looks at all of them; this is what it is compared
//! with, by the benches and in `docs/benchmarks.md`.
//!
//! Source: the compatible interface's scheduler, as documented for it.

/// Nodes with room that a sampling scheduler looks at before it takes the best of them. `wide` is the
/// group's count when it has affinities or spreads; `node_limit` is the configured number for those.
pub fn limit(nodes: usize, batch: bool, wide: Option<usize>, node_limit: usize) -> usize {
    if let Some(count) = wide {
        return count.max(node_limit);
    }
    let log2 = nodes.next_power_of_two().trailing_zeros() as usize;
    if batch { 2 } else { log2.max(2) }
}

/// Nodes with a score of 0 or less that are set aside before they count.
pub const SET_ASIDE_MAX: usize = 3;
