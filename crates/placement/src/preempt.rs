//! Making room: which allocations of less important jobs leave a node so that one more goes onto it.
//!
//! ```text
//!  candidates: other jobs' tenants, at least PRIORITY_DELTA less important, not leaving anyhow
//!    1. those that hold a static port that is asked for       (all of them, or the node is out)
//!    2. by priority, then nearest in size to what is missing   until cpu, memory and disk suffice
//!    3. holders of cores, devices, ports that are still short  until everything fits
//!    4. whoever is not needed after all stays                  the set is minimal
//! ```
//!
//! Distance and penalty are the compatible interface's; step 4 goes further than it does: no victim can be
//! left out of the set. Pure; asked by [`crate::placer`] for nodes that pass every check and lack room.

use crate::ask::{Ask, Fit};
use crate::cores::Hands;
use crate::device::Options;
use crate::fit::{Amounts, Short};
use crate::fleet::{Hot, NodeRow, Tenant};
use crate::ports::PortAsk;

/// How much less important a victim is at least.
const PRIORITY_DELTA: i32 = 10;
/// What each move beyond a group's `max_parallel` adds to its distance.
const PARALLEL_PENALTY: f64 = 50.0;

/// Who wants room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claimant {
    pub priority: i32,
    /// Key of its job, whose own allocations it never takes.
    pub job: u64,
}

/// How far what an allocation has is from what is needed; a quantity that is not needed does not count.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn distance(need: Amounts, has: Amounts) -> f64 {
    let part = |need: i64, has: i64| if need > 0 { ((need - has) as f64 / need as f64).powi(2) } else { 0.0 };
    (part(need.memory, has.memory) + part(need.cpu, has.cpu) + part(need.disk, has.disk)).sqrt()
}

/// What it adds to the distance that `preempted` of a group are taken already of which `parallel` may move
/// at once.
pub(crate) fn penalty(preempted: u32, parallel: u32) -> f64 {
    if parallel > 0 && preempted >= parallel { PARALLEL_PENALTY * f64::from(preempted + 1 - parallel) } else { 0.0 }
}

/// The search on one node, with buffers that are used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preemption {
    candidates: Vec<usize>,
    /// Numbers of the row's tenants that leave.
    chosen: Vec<usize>,
    row: NodeRow,
}

/// The node it is about.
pub(crate) struct Place<'a> {
    pub hot: &'a Hot,
    pub row: &'a NodeRow,
    pub ask: &'a Ask,
    pub options: &'a Options,
    /// How many of a group, by its key, this plan takes already.
    pub preempted: &'a dyn Fn(u64) -> u32,
}

impl Preemption {
    /// Who must leave so that the ask fits, as numbers of the row's tenants, and how it fits then. `None` when nobody may, or it would not help.
    pub(crate) fn choose(&mut self, who: Claimant, place: &Place<'_>, hands: &mut Hands) -> Option<(&[usize], Fit)> {
        let tenants = place.row.tenants();
        let may = |tenant: &Tenant| {
            let rank = &tenant.rank;
            !rank.leaving && rank.job != who.job && rank.priority <= who.priority.saturating_sub(PRIORITY_DELTA)
        };
        self.candidates.clear();
        self.candidates.extend((0..tenants.len()).filter(|at| may(&tenants[*at])));
        self.chosen.clear();
        if self.candidates.is_empty() || !self.could(place) || !self.clear_ports(place) {
            return None;
        }
        self.candidates.sort_by_key(|at| (tenants[*at].rank.priority, *at));
        if !self.free_amounts(place) || !self.free_rest(place, hands) {
            return None;
        }
        self.spare(place, hands);
        let fit = self.fits(place, None, hands).ok()?;
        (!self.chosen.is_empty()).then_some((self.chosen.as_slice(), fit))
    }

    /// Whether it would do if all candidates left.
    fn could(&self, place: &Place<'_>) -> bool {
        let mut used = place.hot.used;
        self.candidates.iter().for_each(|at| used.sub(place.row.tenants()[*at].held.amounts));
        place.ask.amounts.fits(used, place.hot.capacity).is_ok()
    }

    /// Takes whoever holds a static port that is asked for.
    fn clear_ports(&mut self, place: &Place<'_>) -> bool {
        let ports = &place.row.facts.ports;
        let taken = |ask: &&PortAsk| ask.value.is_some() && !ports.has_free(&place.row.claims, ask, &place.row.node);
        for ask in place.ask.all_ports.iter().filter(taken) {
            for (at, tenant) in place.row.tenants().iter().enumerate() {
                if ports.stands_in_way(&tenant.held.claims, ask, &place.row.node) && !self.chosen.contains(&at) {
                    if !self.candidates.contains(&at) {
                        return false;
                    }
                    self.chosen.push(at);
                }
            }
        }
        let chosen = &self.chosen;
        self.candidates.retain(|at| !chosen.contains(at));
        true
    }

    /// Use of the node once the chosen are gone.
    fn used(&self, place: &Place<'_>, but: Option<usize>) -> Amounts {
        let mut used = place.hot.used;
        for at in self.chosen.iter().filter(|at| Some(**at) != but) {
            used.sub(place.row.tenants()[*at].held.amounts);
        }
        used
    }

    fn free_amounts(&mut self, place: &Place<'_>) -> bool {
        while place.ask.amounts.fits(self.used(place, None), place.hot.capacity).is_err() {
            let mut need = place.ask.amounts;
            need.add(self.used(place, None));
            need.sub(place.hot.capacity);
            if !self.take_nearest(place, need, |_| true) {
                return false;
            }
        }
        true
    }

    /// Takes, of the least important candidates, the one nearest to the need.
    fn take_nearest(&mut self, place: &Place<'_>, need: Amounts, counts: impl Fn(&Tenant) -> bool) -> bool {
        let tenants = place.row.tenants();
        let helps = |at: &&usize| counts(&tenants[**at]);
        let Some(least) = self.candidates.iter().find(helps).map(|at| tenants[*at].rank.priority) else { return false };
        let mut best: Option<(f64, usize)> = None;
        for (n, at) in self.candidates.iter().enumerate() {
            let tenant = &tenants[*at];
            if tenant.rank.priority != least || !counts(tenant) {
                continue;
            }
            let far = distance(need, tenant.held.amounts)
                + penalty((place.preempted)(tenant.rank.group), tenant.rank.parallel);
            if best.is_none_or(|(known, _)| far < known) {
                best = Some((far, n));
            }
        }
        let Some((_, n)) = best else { return false };
        let at = self.candidates.remove(n);
        self.chosen.push(at);
        true
    }

    /// Whether everything fits once the chosen, but for one of them, are gone.
    fn fits(&mut self, place: &Place<'_>, but: Option<usize>, hands: &mut Hands) -> Result<Fit, Short> {
        let leaving = self.chosen.iter().filter(|at| Some(**at) != but);
        let number = u32::try_from(leaving.count()).unwrap_or(u32::MAX);
        let hot = Hot { used: self.used(place, but), allocs: place.hot.allocs.saturating_sub(number), ..*place.hot };
        if place.ask.is_plain() {
            return place.ask.fits(&hot, place.row, place.options, hands);
        }
        self.row.clone_holdings(place.row);
        for at in self.chosen.iter().filter(|at| Some(**at) != but) {
            self.row.remove(&place.row.tenants()[*at].held);
        }
        place.ask.fits(&hot, &self.row, place.options, hands)
    }

    fn free_rest(&mut self, place: &Place<'_>, hands: &mut Hands) -> bool {
        let wanted = |group: u16| place.options.iter().flatten().any(|(g, _)| *g == group);
        while let Err(short) = self.fits(place, None, hands) {
            let need = place.ask.amounts;
            let taken = match short {
                Short::MaxAllocs | Short::Cpu | Short::Memory | Short::Disk => self.take_nearest(place, need, |_| true),
                Short::Cores | Short::NumaCores => self.take_nearest(place, need, |t| !t.held.cores.is_empty()),
                Short::Network(_) => self.take_nearest(place, need, |t| !t.held.claims.is_empty()),
                Short::Devices(_) => {
                    self.take_nearest(place, need, |t| t.held.devices.iter().any(|(group, _)| wanted(*group)))
                        || self.take_nearest(place, need, |t| !t.held.cores.is_empty())
                }
            };
            if !taken {
                return false;
            }
        }
        true
    }

    /// Lets stay whoever is not needed, the most important and the largest first.
    fn spare(&mut self, place: &Place<'_>, hands: &mut Hands) {
        let tenants = place.row.tenants();
        let mut order = self.chosen.clone();
        order.sort_by_key(|at| {
            let tenant = &tenants[*at];
            std::cmp::Reverse((tenant.rank.priority, tenant.held.amounts.memory, tenant.held.amounts.cpu, *at))
        });
        for at in order {
            if self.fits(place, Some(at), hands).is_ok() {
                self.chosen.retain(|other| *other != at);
            }
        }
        self.chosen.sort_unstable();
    }
}
