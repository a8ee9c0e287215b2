//! An allocation whose node cannot be reached: how long it may be, what is done meanwhile, who survives.
//!
//! The `disconnect` block says so; the older fields of the group that it replaces are read where it is
//! silent. What was recorded of an allocation's client status ([`Allocation::alloc_states`]) says since
//! when it is unknown, and whether its return has been taken note of.

use crate::alloc::Allocation;
use crate::group::TaskGroup;
use crate::ids::AllocId;
use crate::status::ClientStatus;
use crate::time::{Nanos, Timestamp};

/// Which side survives when an allocation is back and has a replacement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Survivor {
    #[default]
    BestScore,
    KeepOriginal,
    KeepReplacement,
    LongestRunning,
}

impl TaskGroup {
    /// How long allocations of an unreachable node are `unknown` before they are lost; 0 = not at all.
    pub fn lost_after(&self) -> Nanos {
        let of_block = self.disconnect.as_ref().and_then(|block| block.lost_after).filter(|after| after.0 > 0);
        of_block.or(self.max_client_disconnect).filter(|after| after.0 > 0).unwrap_or_default()
    }

    /// Whether others may run in place of those that cannot be reached.
    pub fn replaces_unreachable(&self) -> bool {
        let block = self.disconnect.as_ref().and_then(|block| block.replace).unwrap_or(true);
        block && !self.prevent_reschedule_on_lost.unwrap_or(false)
    }

    /// After how long without the cluster a node stops the allocations by itself.
    pub fn stop_on_client_after(&self) -> Option<Nanos> {
        let of_block = self.disconnect.as_ref().and_then(|block| block.stop_on_client_after);
        of_block.or(self.stop_after_client_disconnect).filter(|after| after.0 > 0)
    }

    /// Who stays when an allocation comes back and was replaced.
    pub fn survivor(&self) -> Survivor {
        match self.disconnect.as_ref().and_then(|block| block.reconcile.as_deref()) {
            Some("keep_original") => Survivor::KeepOriginal,
            Some("keep_replacement") => Survivor::KeepReplacement,
            Some("longest_running") => Survivor::LongestRunning,
            _ => Survivor::BestScore,
        }
    }
}

impl Allocation {
    /// Since when it is, or last was, `unknown` without a break; `None` when it never was.
    pub fn unknown_since(&self) -> Option<Timestamp> {
        let recorded = self.alloc_states.iter().rev().filter(|state| !state.value.is_empty());
        let unknown = |value: &str| value == ClientStatus::Unknown.as_str();
        recorded
            .skip_while(|state| !unknown(&state.value))
            .take_while(|state| unknown(&state.value))
            .last()
            .map(|state| state.time)
    }

    /// It was recorded as `unknown` last, and its return has not been taken note of.
    pub fn needs_reconnect(&self) -> bool {
        let by_status =
            matches!(self.client_status, ClientStatus::Unknown | ClientStatus::Running | ClientStatus::Failed);
        let newest = self.alloc_states.iter().rev().find(|state| !state.value.is_empty());
        by_status && newest.is_some_and(|state| state.value == ClientStatus::Unknown.as_str())
    }

    /// Unknown for longer than its group lets it be.
    pub fn is_expired(&self, group: &TaskGroup, now: Timestamp) -> bool {
        let forever = group.lost_after().0 == 0 && !group.replaces_unreachable();
        let over = |since: Timestamp| since.plus(group.lost_after()) <= now;
        self.client_status == ClientStatus::Unknown && !forever && self.unknown_since().is_some_and(over)
    }

    /// When it began to run: its leader, or the first of its tasks; the last restart of each counts.
    pub fn running_since(&self, group: &TaskGroup) -> Option<Timestamp> {
        let began = |name: &str| {
            let task = self.task_states.get(name)?;
            let set = |at: Option<Timestamp>| at.filter(|at| !at.is_zero());
            set(task.last_restart).filter(|_| task.restarts > 0).or_else(|| set(task.started_at))
        };
        match group.tasks.iter().find(|task| task.leader) {
            Some(leader) => began(&leader.name),
            None => self.task_states.keys().filter_map(|name| began(name)).min(),
        }
    }

    /// The one that took its place, if any.
    pub fn successor(&self) -> Option<&AllocId> {
        self.next_allocation.non_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alloc::AllocState;

    fn recorded(values: &[(&str, i64)]) -> Allocation {
        let state = |(value, at): &(&str, i64)| AllocState { value: (*value).into(), time: Timestamp(*at), field: 0 };
        let alloc_states = values.iter().map(state).collect();
        Allocation { client_status: ClientStatus::Unknown, alloc_states, ..Allocation::default() }
    }

    #[test]
    fn the_time_of_being_unknown_begins_with_the_last_unbroken_run() {
        for (states, since) in [
            (vec![], None),
            (vec![("running", 1)], None),
            (vec![("unknown", 1), ("unknown", 2)], Some(1)),
            (vec![("unknown", 1), ("running", 2), ("unknown", 3), ("", 4), ("unknown", 5)], Some(3)),
            (vec![("unknown", 1), ("running", 2)], Some(1)),
        ] {
            assert_eq!(recorded(&states).unknown_since(), since.map(Timestamp), "{states:?}");
        }
    }

    #[test]
    fn a_return_is_to_be_noted_until_something_newer_than_unknown_is_recorded() {
        let mut alloc = recorded(&[("unknown", 1)]);
        for (status, needs) in [
            (ClientStatus::Unknown, true),
            (ClientStatus::Running, true),
            (ClientStatus::Failed, true),
            (ClientStatus::Complete, false),
            (ClientStatus::Lost, false),
        ] {
            alloc.client_status = status;
            assert_eq!(alloc.needs_reconnect(), needs, "{status}");
        }
        assert!(!recorded(&[("unknown", 1), ("running", 2)]).needs_reconnect());
        assert!(!recorded(&[]).needs_reconnect());
    }

    #[test]
    fn the_older_fields_of_a_group_say_the_same_as_the_block() {
        let old = TaskGroup {
            max_client_disconnect: Some(Nanos(7)),
            prevent_reschedule_on_lost: Some(true),
            ..TaskGroup::default()
        };
        assert_eq!(
            (old.lost_after(), old.replaces_unreachable(), old.survivor()),
            (Nanos(7), false, Survivor::BestScore)
        );
        assert!(
            !recorded(&[("unknown", 0)]).is_expired(&TaskGroup { max_client_disconnect: None, ..old }, Timestamp(99))
        );
    }
}
