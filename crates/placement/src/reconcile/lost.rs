//! Where each allocation of a group stands: well, to be moved, lost with its node, out of its reach or back
//! from there, or failed and due for another try.

use model::{ClientStatus, DesiredStatus, Index, NodeStatus, TaskGroup, Timestamp};

use super::{Reconciler, Row};
use crate::read;
use crate::reschedule;

/// A failed allocation is due when its time is this near.
const DUE_WITHIN: i64 = 1_000_000_000;
/// What the tracker of an allocation says whose replacement found no node.
const NO_PLACEMENT: &str = "no placement";

/// Classes of allocations; everything not in one of them is ignored.
#[derive(Debug, Default)]
pub(super) struct Classes<'a> {
    pub untainted: Vec<Row<'a>>,
    pub migrate: Vec<Row<'a>>,
    pub lost: Vec<Row<'a>>,
    /// Their node went out of reach and may come back with them.
    pub disconnecting: Vec<Row<'a>>,
    /// Were out of reach and are back.
    pub reconnecting: Vec<Row<'a>>,
    /// Out of reach for longer than they may be.
    pub expiring: Vec<Row<'a>>,
    pub ignored: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Untainted,
    Migrate,
    Lost,
    Disconnecting,
    Reconnecting,
    Expiring,
    Ignored,
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
    /// `newest`: the group that all are of, as the newest version of the job has it, and that version.
    pub(super) fn classify(&self, all: &[Row<'a>], newest: Option<(&'a TaskGroup, (Index, u64))>) -> Classes<'a> {
        let mut classes = Classes::default();
        for alloc in all.iter().copied() {
            let group = newest.filter(|(_, revision)| read::alloc_revision(alloc) == *revision).map(|(spec, _)| spec);
            let group = group.or_else(|| self.group_of(alloc));
            let set = match self.class_as(alloc, group) {
                Class::Untainted => &mut classes.untainted,
                Class::Migrate => &mut classes.migrate,
                Class::Lost => &mut classes.lost,
                Class::Disconnecting => &mut classes.disconnecting,
                Class::Reconnecting => &mut classes.reconnecting,
                Class::Expiring => &mut classes.expiring,
                Class::Ignored => {
                    classes.ignored += 1;
                    continue;
                }
            };
            set.push(alloc);
        }
        classes
    }

    /// Where one allocation stands; the first that holds.
    pub(super) fn class(&self, alloc: Row<'a>) -> Class {
        self.class_as(alloc, self.group_of(alloc))
    }

    /// The same, with what its version of the job says of its group.
    fn class_as(&self, alloc: Row<'a>, group: Option<&'a TaskGroup>) -> Class {
        let transition = &alloc.desired_transition;
        let node = self.given.state.node(&alloc.node_id).map(|node| node.status);
        let back = alloc.needs_reconnect();
        let status = alloc.client_status;
        let expired = group.is_some_and(|group| alloc.is_expired(group, Timestamp(self.given.now)));
        let kept = group.is_some_and(|group| group.lost_after().0 > 0) && self.given.job.is_some();
        let stays = group.is_some_and(|group| !group.replaces_unreachable());
        let reachable = matches!(node, Some(NodeStatus::Ready | NodeStatus::Initializing));
        match (node, status) {
            _ if back && status == ClientStatus::Failed && !alloc.server_terminal() => Class::Reconnecting,
            _ if alloc.server_terminal() && !back && transition.should_skip_placement() => Class::Untainted,
            _ if alloc.server_terminal() && !back => Class::Ignored,
            _ if alloc.is_terminal() && !back && alloc.is_canary() && transition.should_migrate() => Class::Migrate,
            _ if alloc.is_terminal() && !back => Class::Untainted,
            _ if expired => Class::Expiring,
            (_, ClientStatus::Failed) => Class::Ignored,
            (Some(NodeStatus::Disconnected), ClientStatus::Unknown) => Class::Untainted,
            (Some(NodeStatus::Disconnected), ClientStatus::Pending) => Class::Lost,
            (Some(NodeStatus::Disconnected), _) if kept => Class::Disconnecting,
            (Some(NodeStatus::Disconnected), _) => Class::Lost,
            // Nobody will say that it stopped, so it is not waited for.
            (None, _) => Class::Lost,
            (Some(NodeStatus::Down), _) if !stays => Class::Lost,
            _ if transition.should_migrate() => Class::Migrate,
            _ if reachable && back => Class::Reconnecting,
            _ if reachable => Class::Untainted,
            (_, ClientStatus::Unknown) if stays => Class::Untainted,
            (_, ClientStatus::Running) if stays => Class::Disconnecting,
            _ => Class::Lost,
        }
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
                Look::Consider => self.consider(alloc, false, &mut failed),
            }
        }
        failed
    }

    /// The same for those whose node went out of reach now: whether, and when, others run in their place.
    pub(super) fn split_disconnecting(&self, set: &[Row<'a>]) -> Failed<'a> {
        let mut failed = Failed::default();
        for alloc in set.iter().copied().filter(|a| a.client_status != ClientStatus::Unknown) {
            self.consider(alloc, true, &mut failed);
        }
        failed
    }

    /// Whether one is tried again, and when. `disconnecting`: its node went out of reach now.
    pub(super) fn consider(&self, alloc: Row<'a>, disconnecting: bool, failed: &mut Failed<'a>) {
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
        let Some(next) = self.next_try(alloc, disconnecting) else {
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

    /// When the policy lets it be tried again; `None` when never. What is out of reach counts from when it
    /// went, and is replaced once at most.
    fn next_try(&self, alloc: Row<'a>, disconnecting: bool) -> Option<i64> {
        let by_hand = self.given.batch && alloc.desired_transition.should_reschedule();
        let ended = matches!(alloc.client_status, ClientStatus::Failed | ClientStatus::Lost | ClientStatus::Unknown);
        if !(ended || disconnecting || by_hand) {
            return None;
        }
        let group = self.group_of(alloc)?;
        let at = match alloc.client_status {
            ClientStatus::Failed | ClientStatus::Lost => read::failure_time(alloc),
            _ if disconnecting && group.replaces_unreachable() => self.given.now,
            ClientStatus::Unknown if group.replaces_unreachable() && alloc.successor().is_none() => {
                alloc.unknown_since()?.unix_nanos()
            }
            _ if by_hand => read::failure_time(alloc),
            _ => return None,
        };
        if at == 0 {
            return None;
        }
        let verdict = reschedule::judge(group.rescheduling()?, reschedule::events(alloc), at);
        verdict.eligible.then_some(verdict.next)
    }
}

/// It was to be replaced, and no node was found.
fn found_no_node(alloc: Row<'_>) -> bool {
    alloc.reschedule_tracker.as_ref().is_some_and(|tracker| tracker.last_reschedule == NO_PLACEMENT)
}

fn look_batch(alloc: Row<'_>) -> Look {
    let transition = &alloc.desired_transition;
    match () {
        () if transition.should_skip_placement() => Look::Stay,
        () if transition.should_reschedule() => Look::Consider,
        () if alloc.desired_status == DesiredStatus::Stop && alloc.ran_successfully() => Look::Stay,
        () if alloc.desired_status == DesiredStatus::Stop && found_no_node(alloc) => Look::Consider,
        () if alloc.server_terminal() => Look::Drop,
        () if matches!(alloc.client_status, ClientStatus::Failed | ClientStatus::Unknown) => Look::Consider,
        () => Look::Stay,
    }
}

fn look_service(alloc: Row<'_>) -> Look {
    let over = matches!(alloc.client_status, ClientStatus::Complete | ClientStatus::Lost);
    match () {
        () if alloc.server_terminal() && found_no_node(alloc) => Look::Consider,
        () if alloc.server_terminal() || over => Look::Drop,
        () => Look::Consider,
    }
}
