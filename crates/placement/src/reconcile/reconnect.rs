//! A node that went out of reach, or is back: what becomes of its allocations and of those that run in
//! their place.
//!
//! ```text
//!  node gone ─> unknown, looked at again when `lost_after` is over; replaced as the reschedule block says
//!  node back ─> out of date, or to be moved? stops
//!               failed meanwhile? stops, or is tried again where nobody replaced it
//!               else one of it and each replacement stays (`disconnect.reconcile`), the other stops
//! ```
//!
//! An allocation that was replaced stays unknown beside its replacement until it is back or expires.

use std::collections::{BTreeMap, BTreeSet};

use model::disconnect::Survivor;
use model::metric::DesiredUpdates;
use model::{AllocId, Allocation, ClientStatus, Job, TaskGroup};

use super::lost::{Classes, Failed};
use super::{RECONNECTED, RESCHEDULED, Reconciler, Row, Stop, TRIGGER_TIMEOUT, len};
use crate::read;

/// Longest chain of replacements that is followed.
const CHAIN_MAX: usize = 1_000;

/// What becomes of allocations that are back.
#[derive(Debug, Default)]
pub(super) struct Back<'a> {
    pub stay: Vec<Row<'a>>,
    pub failed: Failed<'a>,
    /// They, or those that replaced them.
    pub stopped: BTreeSet<AllocId>,
}

impl<'a> Classes<'a> {
    /// Forgets those that are stopped already.
    pub(super) fn drop_all(&mut self, stopped: &BTreeSet<AllocId>) {
        for set in [&mut self.untainted, &mut self.migrate, &mut self.lost, &mut self.disconnecting, &mut self.expiring]
        {
            set.retain(|alloc| !stopped.contains(&alloc.id));
        }
    }
}

impl<'a> Failed<'a> {
    pub(super) fn extend(&mut self, more: Self) {
        self.stay.extend(more.stay);
        self.now.extend(more.now);
        self.later.extend(more.later);
    }
}

impl<'a> Reconciler<'a, '_> {
    /// Notes that allocations are out of reach, and finds out which are replaced and when.
    pub(super) fn disconnect(&mut self, set: &[Row<'a>], desired: &mut DesiredUpdates) -> Failed<'a> {
        let split = self.split_disconnecting(set);
        let ends = |alloc: &Row<'a>| {
            let lost_after = self.group_of(alloc)?.lost_after().0;
            (lost_after > 0).then(|| (*alloc, self.given.now.saturating_add(lost_after)))
        };
        let ends: Vec<(Row<'a>, i64)> = set.iter().filter_map(ends).collect();
        let ids = self.follow_up(ends, TRIGGER_TIMEOUT, TRIGGER_TIMEOUT);
        let ids: BTreeMap<&AllocId, &model::EvalId> = ids.iter().map(|(of, id)| (&of.id, id)).collect();
        for alloc in set.iter().copied() {
            self.away.insert(&alloc.id);
            let id = ids.get(&alloc.id).map(|id| (*id).clone());
            self.out.unknown.push((alloc, id.unwrap_or_default()));
        }
        desired.disconnect += len(set);
        split
    }

    /// Decides between allocations that are back and those that replaced them.
    pub(super) fn reconnect(
        &mut self,
        job: &Job,
        spec: &TaskGroup,
        set: Vec<Row<'a>>,
        desired: &mut DesiredUpdates,
    ) -> Back<'a> {
        let mut back = Back::default();
        if set.is_empty() {
            return back;
        }
        let of_job = self.given.allocs.iter().map(|alloc| (&alloc.id, *alloc)).collect();
        for alloc in set {
            let chain = Self::replacements(alloc, &of_job);
            if alloc.client_status == ClientStatus::Failed && !alloc.server_terminal() {
                if chain.iter().any(|next| !next.is_terminal()) {
                    self.end(alloc, RESCHEDULED, &mut back, desired);
                } else if chain.is_empty() {
                    self.consider(alloc, false, &mut back.failed);
                } else {
                    back.stay.push(alloc);
                }
                continue;
            }
            if alloc.client_status == ClientStatus::Unknown {
                // Its node is back and has not said yet what became of it.
                back.stay.push(alloc);
                continue;
            }
            if must_stop(alloc, job) {
                self.end(alloc, RECONNECTED, &mut back, desired);
                continue;
            }
            let lost_to = chain.iter().any(|next| survivor(spec, alloc, next) == Side::Replacement);
            if lost_to {
                self.end(alloc, RECONNECTED, &mut back, desired);
                continue;
            }
            for next in chain {
                self.end(next, RECONNECTED, &mut back, desired);
            }
            desired.reconnect += 1;
            self.out.reconnected.push(alloc);
            back.stay.push(alloc);
        }
        back.stay.retain(|alloc| !back.stopped.contains(&alloc.id));
        self.out.reconnected.retain(|alloc| !back.stopped.contains(&alloc.id));
        back
    }

    fn end(&mut self, alloc: Row<'a>, why: &'static str, back: &mut Back<'a>, desired: &mut DesiredUpdates) {
        if back.stopped.insert(alloc.id.clone()) {
            desired.stop += 1;
            self.out.stop.push(Stop::new(alloc, why));
        }
    }

    /// Those that took its place, one after the other, as far as the cluster wants them.
    fn replacements(alloc: Row<'a>, of_job: &BTreeMap<&AllocId, Row<'a>>) -> Vec<Row<'a>> {
        let mut chain = Vec::new();
        let mut seen = BTreeSet::from([&alloc.id]);
        let mut at = alloc;
        while let Some(next) = at.successor().and_then(|id| of_job.get(id).copied()) {
            if chain.len() >= CHAIN_MAX || !seen.insert(&next.id) {
                break;
            }
            chain.push(next);
            at = next;
        }
        chain.retain(|next| !next.server_terminal());
        chain
    }
}

/// An allocation that is back and has no business to be.
fn must_stop(alloc: Row<'_>, job: &Job) -> bool {
    let wish = &alloc.desired_transition;
    let flagged = wish.should_migrate() || wish.should_reschedule() || wish.should_force_reschedule();
    alloc.server_terminal() || flagged || read::alloc_revision(alloc) < read::revision(job)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Original,
    Replacement,
}

/// Which of the two stays.
pub(super) fn survivor(group: &TaskGroup, original: &Allocation, replacement: &Allocation) -> Side {
    if read::alloc_revision(replacement) > read::alloc_revision(original) {
        return Side::Replacement;
    }
    match group.survivor() {
        Survivor::KeepOriginal => Side::Original,
        Survivor::KeepReplacement => Side::Replacement,
        Survivor::BestScore => best_score(original, replacement),
        Survivor::LongestRunning => match (original.running_since(group), replacement.running_since(group)) {
            (Some(one), Some(other)) if one < other => Side::Original,
            (Some(_), None) => Side::Original,
            (None, None) => best_score(original, replacement),
            _ => Side::Replacement,
        },
    }
}

/// The replacement when its node is the better one, and nothing that runs is stopped for what does not.
fn best_score(original: &Allocation, replacement: &Allocation) -> Side {
    let better = match (score(original), score(replacement)) {
        (Some(one), Some(other)) => other > one,
        (one, other) => one.is_none() && other.is_some(),
    };
    let runs = |alloc: &Allocation| alloc.client_status == ClientStatus::Running;
    if better && (runs(replacement) || !runs(original)) { Side::Replacement } else { Side::Original }
}

/// The score of its node when it was placed.
fn score(alloc: &Allocation) -> Option<f64> {
    let metrics = alloc.metrics.as_ref()?.look();
    let scores = &metrics.score_meta_data;
    let own = scores.iter().find(|score| score.node_id == alloc.node_id);
    own.or(scores.first()).map(|score| score.norm_score)
}
