//! What a search says of itself: metrics, and the nearest change that would help.

use std::collections::BTreeMap;

use model::metric::{AllocMetric, NodeScoreMeta};
use model::scores::{Scorer, Scores};

use super::{Pick, Placer};
use crate::explain::{Nearest, Quantity};
use crate::fit::Amounts;
use crate::ranking::Ranked;
use crate::seats::{Parts, Standing};
use crate::work::Work;

impl Placer {
    /// The metric of an allocation placed by `pick`, or of one that found no node.
    pub(crate) fn metric(&self, work: &Work<'_>, pick: Option<&Pick>) -> AllocMetric {
        let mut metric = AllocMetric {
            node_pool: self.job.node_pool().to_owned(),
            nodes_available: self.available.clone(),
            nodes_in_pool: self.available.values().sum(),
            ..AllocMetric::default()
        };
        self.seats.fill(&mut metric, &work.fleet);
        let ranked = pick.map_or(&[][..], |p| &p.ranked);
        metric.score_meta_data = ranked.iter().map(|(r, parts)| self.score_meta(work, r, parts)).collect();
        metric
    }

    fn score_meta(&self, work: &Work<'_>, ranked: &Ranked, parts: &Parts) -> NodeScoreMeta {
        let node_id = work.fleet.ids()[ranked.slot as usize].clone();
        let mut scores = Scores::default();
        scores.set(Scorer::Binpack, parts.fit().unwrap_or(0.0));
        if let Some(balance) = parts.balance() {
            scores.set(Scorer::Balance, balance);
        }
        if let Some(devices) = parts.devices() {
            scores.set(Scorer::Devices, devices);
        }
        if !self.per_node {
            scores.set(Scorer::JobAntiAffinity, parts.anti_affinity().unwrap_or(0.0));
            scores.set(Scorer::NodeReschedulePenalty, if ranked.penalty { -1.0 } else { 0.0 });
            scores.set(Scorer::NodeAffinity, parts.affinity().unwrap_or(0.0));
        }
        if !self.spreads.is_empty() {
            scores.set(Scorer::AllocationSpread, ranked.spread.unwrap_or(0.0));
        }
        if let Some(preemption) = parts.preemption() {
            scores.set(Scorer::Preemption, preemption);
        }
        NodeScoreMeta { node_id, scores, norm_score: ranked.score(parts) }
    }

    /// What would have let one more be placed, nearest first.
    pub(crate) fn nearest(&self, work: &Work<'_>) -> Vec<Nearest> {
        let mut short: BTreeMap<Quantity, (i64, u32)> = BTreeMap::new();
        let mut other: BTreeMap<&str, u32> = BTreeMap::new();
        let mut kept_out: BTreeMap<&str, u32> = BTreeMap::new();
        let text = |reason: u16| self.seats.reasons().get(usize::from(reason)).map_or("", String::as_str);
        for (slot, hot) in work.fleet.scan() {
            let missing = || missing(self.ask.amounts, hot.used, hot.capacity);
            match self.seats.get(slot).standing {
                Standing::Exhausted(reason) => match missing() {
                    [Some((quantity, amount)), None, _] => {
                        let known = short.entry(quantity).or_insert((amount, 0));
                        *known = (known.0.min(amount), known.1 + 1);
                    }
                    [None, ..] => *other.entry(text(reason)).or_default() += 1,
                    _ => {}
                },
                Standing::Filtered(reason) if missing()[0].is_none() => {
                    *kept_out.entry(text(reason)).or_default() += 1;
                }
                _ => {}
            }
        }
        let mut nearest: Vec<Nearest> = Vec::new();
        nearest.extend(short.into_iter().map(|(of, (amount, nodes))| Nearest::Room { of, amount, nodes }));
        nearest.extend(other.into_iter().map(|(what, nodes)| Nearest::Other { what: what.to_owned(), nodes }));
        nearest.extend(kept_out.into_iter().map(|(check, nodes)| Nearest::Check { check: check.to_owned(), nodes }));
        if nearest.is_empty() {
            nearest.extend(self.no_node_or_too_large(work));
        }
        nearest
    }

    /// No single change helps: it is no node at all, or the ask is larger than each.
    fn no_node_or_too_large(&self, work: &Work<'_>) -> Option<Nearest> {
        let candidates = || work.fleet.scan().filter(|(_, hot)| self.is_candidate(hot));
        if candidates().next().is_none() {
            return Some(Nearest::NoNode);
        }
        let nodes = candidates().filter(|(slot, _)| matches!(self.shown(*slot).standing, Standing::Exhausted(_)));
        let nodes = u32::try_from(nodes.count()).unwrap_or(u32::MAX);
        (nodes > 0).then_some(Nearest::Several { nodes })
    }
}

/// The amounts that do not suffice, and how much more is needed; those that are first in the list.
fn missing(ask: Amounts, used: Amounts, capacity: Amounts) -> [Option<(Quantity, i64)>; 3] {
    let all = [
        (Quantity::Cpu, ask.cpu, used.cpu, capacity.cpu),
        (Quantity::Memory, ask.memory, used.memory, capacity.memory),
        (Quantity::Disk, ask.disk, used.disk, capacity.disk),
    ];
    let lacking = all.into_iter().map(|(of, ask, used, capacity)| (of, ask.saturating_add(used) - capacity));
    let mut lacking = lacking.filter(|(_, lacking)| *lacking > 0);
    std::array::from_fn(|_| lacking.next())
}
