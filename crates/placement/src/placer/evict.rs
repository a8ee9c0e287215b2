//! Nodes on which a group would fit if less important allocations left.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Pick, Placer, SCORES_KEPT};
use crate::fleet::{Slot, Tenant};
use crate::preempt::{Place, Preemption};
use crate::ranking::{Entry, Ranked, Ranking};
use crate::rng::tie;
use crate::score;
use crate::seats::{Parts, Seat, Standing};
use crate::spread::Tuple;
use crate::work::Work;

/// Kept up to date once it was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Evictions {
    ranking: Ranking,
    /// By slot; an entry of another version is void.
    versions: Vec<u32>,
    /// Nodes that turned out not to do.
    refused: BTreeSet<Slot>,
    search: Preemption,
}

/// What it takes to make room on one node.
struct Eviction {
    victims: Vec<Arc<Tenant>>,
    parts: Parts,
    tuple: Tuple,
}

impl Placer {
    /// The best node once somebody left there. `None` when nobody may, or it does not help.
    pub(crate) fn evict(&mut self, work: &Work<'_>) -> Option<Pick> {
        self.sync(work);
        let mut evictions = self.evictions.take().unwrap_or_else(|| Box::new(self.first_look(work)));
        let found = self.best_eviction(work, &mut evictions);
        self.evictions = Some(evictions);
        found
    }

    /// Room on that one node, or none.
    pub(crate) fn evict_on(&mut self, work: &Work<'_>, slot: Slot) -> Option<Pick> {
        self.sync(work);
        if !matches!(self.seats.get(slot).standing, Standing::Exhausted(_)) || !self.recheck(work, slot) {
            return None;
        }
        let eviction = self.eviction(work, slot, &mut Preemption::default())?;
        let (sum, given) = eviction.parts.weight();
        let tie = tie(work.seed, work.fleet.hot(slot).hash);
        let ranked = Ranked::new(&Entry { sum, tie, slot, version: 0 }, given, false, None);
        Some(Pick { slot, victims: eviction.victims, ranked: vec![(ranked, eviction.parts)] })
    }

    /// A node turned out not to have the ports even then. False when nothing is kept of it.
    pub(crate) fn give_up_eviction(&mut self, slot: Slot) -> bool {
        let Some(evictions) = &mut self.evictions else { return false };
        evictions.refused.insert(slot);
        true
    }

    fn first_look(&mut self, work: &Work<'_>) -> Evictions {
        let mut evictions = Evictions { versions: vec![0; work.fleet.end()], ..Evictions::default() };
        for (slot, hot) in work.fleet.scan() {
            if self.is_candidate(hot) {
                self.consider(work, slot, &mut evictions);
            }
        }
        evictions
    }

    /// Gives a node its place among those where somebody would have to leave.
    pub(super) fn consider(&mut self, work: &Work<'_>, slot: Slot, evictions: &mut Evictions) {
        let version = &mut evictions.versions[slot as usize];
        *version += 1;
        let version = *version;
        if !matches!(self.seats.get(slot).standing, Standing::Exhausted(_)) || evictions.refused.contains(&slot) {
            return;
        }
        if let Some(eviction) = self.eviction(work, slot, &mut evictions.search) {
            let (sum, given) = eviction.parts.weight();
            let tie = tie(work.seed, work.fleet.hot(slot).hash);
            evictions.ranking.push(eviction.tuple, given, Entry { sum, tie, slot, version });
        }
    }

    fn best_eviction(&mut self, work: &Work<'_>, evictions: &mut Evictions) -> Option<Pick> {
        let mut best: Option<Eviction> = None;
        let mut ranked: Vec<(Ranked, Parts)> = Vec::with_capacity(SCORES_KEPT);
        let Evictions { ranking, versions, search, refused } = evictions;
        let mut again: Vec<(Tuple, u8, Entry)> = Vec::new();
        'all: loop {
            ranking.begin(&self.spreads);
            while ranked.len() < SCORES_KEPT {
                let is_current = |entry: &Entry| versions[entry.slot as usize] == entry.version;
                let Some(next) = ranking.next(is_current) else { break 'all };
                if refused.contains(&next.slot) {
                    continue;
                }
                let eviction =
                    if self.recheck(work, next.slot) { self.eviction(work, next.slot, search) } else { None };
                let Some(eviction) = eviction else {
                    versions[next.slot as usize] += 1;
                    continue;
                };
                let (sum, given) = eviction.parts.weight();
                if sum.to_bits() != next.sum.to_bits() {
                    // Who leaves has changed with what the plan takes elsewhere: it is ranked anew.
                    versions[next.slot as usize] += 1;
                    let version = versions[next.slot as usize];
                    again.push((eviction.tuple, given, Entry { sum, tie: next.tie, slot: next.slot, version }));
                    break;
                }
                ranked.push((next, eviction.parts));
                best.get_or_insert(eviction);
            }
            if again.is_empty() {
                break;
            }
            for (tuple, given, entry) in again.drain(..) {
                ranking.push(tuple, given, entry);
            }
            ranked.clear();
            best = None;
        }
        let (victims, slot) = (best?.victims, ranked.first()?.0.slot);
        Some(Pick { slot, victims, ranked })
    }

    fn eviction(&mut self, work: &Work<'_>, slot: Slot, search: &mut Preemption) -> Option<Eviction> {
        let (hot, row) = (work.fleet.hot(slot), work.fleet.row(slot));
        let own = self.own_options(work, slot);
        let view = self.shapes[hot.shape as usize].as_ref()?;
        let options = own.as_ref().unwrap_or(&view.devices);
        let (mut tuple, mut affinity) = (view.tuple, view.affinity);
        let preempted = |group: u64| work.preempted(group);
        let place = Place { hot, row, ask: &self.ask, options, preempted: &preempted };
        let (chosen, fit) = search.choose(self.claimant, &place, &mut self.hands)?;
        let victims: Vec<Arc<Tenant>> = chosen.iter().map(|at| row.tenants()[*at].clone()).collect();
        if self.own_tuple && !self.per_node {
            tuple = self.spreads.tuple(&row.node);
        }
        if self.own_affinity {
            affinity = self.affinity(&row.node);
        }
        let mut parts = self.parts(work, slot, fit, affinity);
        parts.set_preemption(score::preemption(victims.iter().map(|victim| victim.rank.priority)));
        Some(Eviction { victims, parts, tuple })
    }

    /// The place of a node as the metric shows it.
    pub(super) fn shown(&self, slot: Slot) -> &Seat {
        self.seats.get(slot)
    }
}
