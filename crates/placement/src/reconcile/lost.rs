//! Where each allocation of a group stands: well, to be moved, lost with its node, or failed and due for
//! another try.

use model::{ClientStatus, DesiredStatus};

use super::{Reconciler, Row};
use crate::read;
use crate::reschedule;

/// A failed allocation is due when its time is this near.
const DUE_WITHIN: i64 = 1_000_000_000;

/// Classes of allocations; everything not in one of them is ignored.
#[derive(Debug, Default)]
pub(super) struct Classes<'a> {
    pub untainted: Vec<Row<'a>>,
    pub migrate: Vec<Row<'a>>,
    pub lost: Vec<Row<'a>>,
    pub ignored: usize,
}

/// What becomes of allocations that failed.
#[derive(Debug, Default)]
pub(super) struct Failed<'a> {
    /// Still count, replaced or not.
    pub stay: Vec<Row<'a>>,
    pub now: Vec<Row<'a>>,
    pub later: Vec<(Row<'a>, i64)>,
}

enum Look {
    Drop,
    Stay,
    Consider,
}

impl<'a> Reconciler<'a, '_> {
    pub(super) fn classify(&self, all: &[Row<'a>]) -> Classes<'a> {
        let mut classes = Classes::default();
        for alloc in all.iter().copied() {
            let transition = &alloc.desired_transition;
            let node = self.given.state.node(&alloc.node_id);
            let away = node.is_none_or(|node| read::is_unreachable(node));
            let set = match () {
                () if alloc.server_terminal() && transition.should_skip_placement() => &mut classes.untainted,
                () if alloc.server_terminal() => {
                    classes.ignored += 1;
                    continue;
                }
                () if alloc.client_terminal() && alloc.is_canary() && transition.should_migrate() => {
                    &mut classes.migrate
                }
                () if alloc.client_terminal() => &mut classes.untainted,
                () if away && node.is_some() && !self.replaces_lost(alloc) => &mut classes.untainted,
                () if away => &mut classes.lost,
                () if transition.should_migrate() => &mut classes.migrate,
                () => &mut classes.untainted,
            };
            set.push(alloc);
        }
        classes
    }

    fn replaces_lost(&self, alloc: Row<'a>) -> bool {
        let Some(group) = self.group_of(alloc) else { return true };
        let replace = group.disconnect.as_ref().and_then(|d| d.replace).unwrap_or(true);
        replace && !group.prevent_reschedule_on_lost.unwrap_or(false)
    }

    /// Sorts out who failed and may be tried again. Whoever was replaced already, or ended in a way that
    /// needs a replacement, is dropped.
    pub(super) fn split_failed(&self, set: &[Row<'a>]) -> Failed<'a> {
        let mut failed = Failed::default();
        for alloc in set.iter().copied() {
            if alloc.is_terminal() && !alloc.next_allocation.is_empty() {
                continue;
            }
            let look = if self.given.batch { look_batch(alloc) } else { look_service(alloc) };
            match look {
                Look::Drop => {}
                Look::Stay => failed.stay.push(alloc),
                Look::Consider => self.consider(alloc, &mut failed),
            }
        }
        failed
    }

    fn consider(&self, alloc: Row<'a>, failed: &mut Failed<'a>) {
        let transition = &alloc.desired_transition;
        let deployment = self.out.deployment.as_ref();
        let deploying = deployment.is_some_and(|d| d.status.is_active() && d.id == alloc.deployment_id);
        if deploying && !transition.should_reschedule() {
            failed.stay.push(alloc);
            return;
        }
        if transition.should_force_reschedule() && alloc.client_terminal() {
            failed.now.push(alloc);
            return;
        }
        let Some(next) = self.next_try(alloc) else {
            failed.stay.push(alloc);
            return;
        };
        let due = !alloc.followup_eval_id.is_empty() && alloc.followup_eval_id == self.given.eval.id;
        if due || next.saturating_sub(self.given.now) <= DUE_WITHIN {
            failed.now.push(alloc);
            return;
        }
        failed.stay.push(alloc);
        if alloc.followup_eval_id.is_empty() {
            failed.later.push((alloc, next));
        }
    }

    /// When the policy lets it be tried again; `None` when never.
    fn next_try(&self, alloc: Row<'a>) -> Option<i64> {
        let by_hand = self.given.batch && alloc.desired_transition.should_reschedule();
        let ended = matches!(alloc.client_status, ClientStatus::Failed | ClientStatus::Lost) || by_hand;
        let at = read::failure_time(alloc);
        if !ended || at == 0 {
            return None;
        }
        let policy = self.group_of(alloc)?.rescheduling()?;
        let verdict = reschedule::judge(policy, reschedule::events(alloc), at);
        verdict.eligible.then_some(verdict.next)
    }
}

fn look_batch(alloc: Row<'_>) -> Look {
    let transition = &alloc.desired_transition;
    match () {
        () if transition.should_skip_placement() => Look::Stay,
        () if transition.should_reschedule() => Look::Consider,
        () if alloc.desired_status == DesiredStatus::Stop && alloc.ran_successfully() => Look::Stay,
        () if alloc.server_terminal() => Look::Drop,
        () if alloc.client_status == ClientStatus::Failed => Look::Consider,
        () => Look::Stay,
    }
}

fn look_service(alloc: Row<'_>) -> Look {
    let over = matches!(alloc.client_status, ClientStatus::Complete | ClientStatus::Lost);
    if alloc.server_terminal() || over { Look::Drop } else { Look::Consider }
}
