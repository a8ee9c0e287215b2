//! Spreading a group over the values of a property: how much a node's value is wanted next.
//!
//! With targets a block wants a share of the group per value; without, it wants all values even. A
//! block's value has a small number (*value id*); a node's tuple of value ids over all blocks is
//! interned, so that the score is computed once per tuple and not per node.

use std::collections::BTreeMap;

use model::job::Spread;
use model::{Job, Node, TaskGroup};

use crate::constraint::Target;

/// Weight of a block that names none.
const WEIGHT_DEFAULT: i64 = 50;
/// Score of a node that no block wants.
const UNWANTED: f64 = -1.0;

/// Tuple of value ids over the blocks, interned.
pub(crate) type Tuple = u32;

#[derive(Clone, Debug)]
pub(crate) struct Block {
    target: Target,
    weight: f64,
    /// Wanted number per value; `*` stands for the rest. Empty: even.
    wanted: BTreeMap<String, f64>,
    /// How many allocations of the group have each value.
    used: BTreeMap<String, u64>,
}

/// The spread blocks of a group and what they count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spreads {
    blocks: Vec<Block>,
    total_weight: f64,
    tuples: Vec<Vec<Option<String>>>,
    ids: BTreeMap<Vec<Option<String>>, Tuple>,
}

impl Block {
    pub(crate) fn new(spread: &Spread, count: usize) -> Self {
        #[allow(clippy::cast_precision_loss)]
        let count = count as f64;
        let mut wanted = BTreeMap::new();
        let mut sum = 0.0;
        for target in &spread.spread_target {
            let share = f64::from(target.percent) / 100.0 * count;
            wanted.insert(target.value.clone(), share);
            sum += share;
        }
        if sum > 0.0 && sum < count {
            wanted.insert("*".to_owned(), count - sum);
        }
        #[allow(clippy::cast_precision_loss)]
        let weight = spread.weight.unwrap_or(WEIGHT_DEFAULT) as f64;
        Self { target: Target::parse(&spread.attribute), weight, wanted, used: BTreeMap::new() }
    }

    /// With targets, all values that are not one share the bucket `*`.
    fn bucket<'a>(&self, value: &'a str) -> &'a str {
        if self.wanted.is_empty() || self.wanted.contains_key(value) { value } else { "*" }
    }

    pub(crate) fn count(&mut self, value: &str, change: i64) {
        let bucket = self.bucket(value).to_owned();
        let used = self.used.entry(bucket).or_default();
        *used = used.saturating_add_signed(change);
        if *used == 0 {
            self.used.retain(|_, n| *n > 0);
        }
    }

    /// How much a node with this value is wanted, before anything is placed there.
    /// `unwanted` is what a value gets of which none is wanted.
    pub(crate) fn score(&self, value: Option<&str>, total_weight: f64, unwanted: f64) -> f64 {
        let Some(value) = value else { return UNWANTED };
        if self.wanted.is_empty() {
            return even(&self.used, Some(value));
        }
        let bucket = self.bucket(value);
        #[allow(clippy::cast_precision_loss)]
        let used = self.used.get(bucket).copied().unwrap_or(0) as f64;
        match self.wanted.get(bucket) {
            Some(&wanted) if wanted > 0.0 => (wanted - (used + 1.0)) / wanted * (self.weight / total_weight),
            Some(_) => unwanted,
            None => UNWANTED,
        }
    }
}

/// Wish for a value when all values shall be used alike.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn even(used: &BTreeMap<String, u64>, value: Option<&str>) -> f64 {
    let Some((&min, &max)) = used.values().min().zip(used.values().max()) else { return 0.0 };
    let Some(value) = value else { return UNWANTED };
    let current = used.get(value).copied().unwrap_or(0);
    let (min_f, max_f, current_f) = (min as f64, max as f64, current as f64);
    match (current == min, min) {
        (false, 0) => -1.0,
        (false, _) => (min_f - current_f) / min_f,
        (true, _) if min == max => -1.0,
        (true, 0) => 1.0,
        (true, _) => (max_f - min_f) / min_f,
    }
}

impl Spreads {
    pub(crate) fn new(job: &Job, group: &TaskGroup) -> Self {
        let count = crate::read::group_count(group);
        let blocks: Vec<Block> = job.spreads.iter().chain(&group.spreads).map(|s| Block::new(s, count)).collect();
        Self::of_blocks(blocks)
    }

    pub(crate) fn of_blocks(blocks: Vec<Block>) -> Self {
        let total_weight = blocks.iter().map(|b| b.weight).sum();
        Self { blocks, total_weight, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The number of the node's tuple of values.
    pub(crate) fn tuple(&mut self, node: &Node) -> Tuple {
        if self.blocks.is_empty() {
            return 0;
        }
        let values: Vec<_> = self.blocks.iter().map(|b| b.target.resolve(node).map(str::to_owned)).collect();
        if let Some(&id) = self.ids.get(&values) {
            return id;
        }
        let id = Tuple::try_from(self.tuples.len()).expect("there are no more tuples than nodes");
        self.tuples.push(values.clone());
        self.ids.insert(values, id);
        id
    }

    /// An allocation of the group came to (1) or left (-1) a node with these values.
    pub(crate) fn count(&mut self, tuple: Tuple, change: i64) {
        let Some(values) = self.tuples.get(tuple as usize) else { return };
        for (block, value) in self.blocks.iter_mut().zip(values) {
            if let Some(value) = value {
                block.count(value, change);
            }
        }
    }

    /// The spread score of nodes with these values; `None` adds nothing to the mean.
    pub(crate) fn score(&self, tuple: Tuple) -> Option<f64> {
        let values = self.tuples.get(tuple as usize)?;
        let scores = self.blocks.iter().zip(values).map(|(b, v)| b.score(v.as_deref(), self.total_weight, UNWANTED));
        let total: f64 = scores.sum();
        (total != 0.0).then_some(total)
    }
}
