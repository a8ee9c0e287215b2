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
    #[cfg(test)]
    used: BTreeMap<String, u64>,
}

/// A block with its values numbered: what is counted and asked in the loop.
#[derive(Clone, Debug)]
struct Counted {
    block: Block,
    ids: BTreeMap<String, u32>,
    /// Per value: wanted number, and how many allocations have it.
    values: Vec<(Option<f64>, u64)>,
    /// Least and most of what values in use have; `None` when none is.
    range: Option<(u64, u64)>,
    /// How many values are used so often; without those that are not used.
    often: BTreeMap<u64, u32>,
}

/// The value id of a node that lacks the property.
const MISSING: u32 = u32::MAX;

/// The spread blocks of a group and what they count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spreads {
    blocks: Vec<Counted>,
    total_weight: f64,
    /// Value ids of each tuple, as many as there are blocks.
    tuples: Vec<u32>,
    ids: BTreeMap<Vec<u32>, Tuple>,
    key: Vec<u32>,
    /// What changed, in order: the tuple whose score alone did, or `None` for all of them.
    pub log: Vec<Option<Tuple>>,
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
        Self {
            target: Target::parse(&spread.attribute),
            weight,
            wanted,
            #[cfg(test)]
            used: BTreeMap::new(),
        }
    }

    /// With targets, all values that are not one share the bucket `*`.
    fn bucket<'a>(&self, value: &'a str) -> &'a str {
        if self.wanted.is_empty() || self.wanted.contains_key(value) { value } else { "*" }
    }

    /// For tests, which count by text.
    #[cfg(test)]
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
    #[cfg(test)]
    pub(crate) fn score(&self, value: Option<&str>, total_weight: f64, unwanted: f64) -> f64 {
        let Some(value) = value else { return UNWANTED };
        if self.wanted.is_empty() {
            return even(&self.used, Some(value));
        }
        let bucket = self.bucket(value);
        let used = self.used.get(bucket).copied().unwrap_or(0);
        targeted(self.wanted.get(bucket).copied(), used, self.weight / total_weight, unwanted)
    }
}

/// Wish for a value of which `wanted` are wanted and `used` are there.
#[allow(clippy::cast_precision_loss)]
fn targeted(wanted: Option<f64>, used: u64, share: f64, unwanted: f64) -> f64 {
    match wanted {
        Some(wanted) if wanted > 0.0 => (wanted - (used as f64 + 1.0)) / wanted * share,
        Some(_) => unwanted,
        None => UNWANTED,
    }
}

/// Wish for a value when all values shall be used alike.
#[cfg(test)]
pub(crate) fn even(used: &BTreeMap<String, u64>, value: Option<&str>) -> f64 {
    let range = used.values().min().zip(used.values().max()).map(|(min, max)| (*min, *max));
    match (range, value) {
        (None, _) => 0.0,
        (_, None) => UNWANTED,
        (range, Some(value)) => evened(used.get(value).copied().unwrap_or(0), range),
    }
}

/// The same from the number of the value, and the least and most over all values in use.
#[allow(clippy::cast_precision_loss)]
fn evened(current: u64, range: Option<(u64, u64)>) -> f64 {
    let Some((min, max)) = range else { return 0.0 };
    let (min_f, max_f, current_f) = (min as f64, max as f64, current as f64);
    match (current == min, min) {
        (false, 0) => -1.0,
        (false, _) => (min_f - current_f) / min_f,
        (true, _) if min == max => -1.0,
        (true, 0) => 1.0,
        (true, _) => (max_f - min_f) / min_f,
    }
}

impl Counted {
    fn new(block: Block) -> Self {
        Self { block, ids: BTreeMap::new(), values: Vec::new(), range: None, often: BTreeMap::new() }
    }

    /// The number of the node's value.
    fn id(&mut self, node: &Node) -> u32 {
        let Some(value) = self.block.target.resolve(node) else { return MISSING };
        let bucket = self.block.bucket(value);
        if let Some(id) = self.ids.get(bucket) {
            return *id;
        }
        let id = u32::try_from(self.values.len()).unwrap_or(MISSING);
        self.values.push((self.block.wanted.get(bucket).copied(), 0));
        self.ids.insert(bucket.to_owned(), id);
        id
    }

    /// True when values beside this one are wanted differently now.
    fn count(&mut self, id: u32, change: i64) -> bool {
        let Some((_, used)) = self.values.get_mut(id as usize) else { return false };
        let before = *used;
        *used = before.saturating_add_signed(change);
        let now = *used;
        if !self.block.wanted.is_empty() {
            return false;
        }
        if now > 0 {
            *self.often.entry(now).or_default() += 1;
        }
        if let Some(number) = self.often.get_mut(&before).filter(|_| before > 0) {
            *number -= 1;
            if *number == 0 {
                self.often.remove(&before);
            }
        }
        let (least, most) = (self.often.first_key_value(), self.often.last_key_value());
        let range = least.zip(most).map(|((least, _), (most, _))| (*least, *most));
        std::mem::replace(&mut self.range, range) != range
    }

    fn score(&self, id: u32, total_weight: f64) -> f64 {
        let Some((wanted, used)) = self.values.get(id as usize) else { return UNWANTED };
        if self.block.wanted.is_empty() {
            return evened(*used, self.range);
        }
        targeted(*wanted, *used, self.block.weight / total_weight, UNWANTED)
    }
}

impl Spreads {
    pub(crate) fn new(job: &Job, group: &TaskGroup) -> Self {
        let count = crate::read::group_count(group);
        let blocks: Vec<Counted> =
            job.spreads.iter().chain(&group.spreads).map(|s| Counted::new(Block::new(s, count))).collect();
        let total_weight = blocks.iter().map(|b| b.block.weight).sum();
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
        self.key.clear();
        for block in &mut self.blocks {
            let id = block.id(node);
            self.key.push(id);
        }
        if let Some(&id) = self.ids.get(self.key.as_slice()) {
            return id;
        }
        let id = Tuple::try_from(self.tuples.len() / self.blocks.len()).expect("there are no more tuples than nodes");
        self.tuples.extend_from_slice(&self.key);
        self.ids.insert(self.key.clone(), id);
        id
    }

    fn of(&self, tuple: Tuple) -> &[u32] {
        let at = tuple as usize * self.blocks.len();
        self.tuples.get(at..at + self.blocks.len()).unwrap_or(&[])
    }

    /// An allocation of the group came to (1) or left (-1) a node with these values.
    pub(crate) fn count(&mut self, tuple: Tuple, change: i64) {
        let mut others = self.blocks.len() > 1;
        let at = tuple as usize * self.blocks.len();
        for (n, block) in self.blocks.iter_mut().enumerate() {
            if let Some(id) = self.tuples.get(at + n) {
                others |= block.count(*id, change);
            }
        }
        self.log.push((!others).then_some(tuple));
    }

    /// The spread score of nodes with these values; `None` adds nothing to the mean.
    pub(crate) fn score(&self, tuple: Tuple) -> Option<f64> {
        if self.blocks.is_empty() {
            return None;
        }
        let scores = self.blocks.iter().zip(self.of(tuple)).map(|(block, id)| block.score(*id, self.total_weight));
        let total: f64 = scores.sum();
        (total != 0.0).then_some(total)
    }
}
