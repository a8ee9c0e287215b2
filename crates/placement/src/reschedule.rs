//! When a failed allocation may be tried again: how long to wait, and whether at all.

use model::alloc::{RescheduleEvent, RescheduleTracker};
use model::group::ReschedulePolicy;
use model::{Allocation, Nanos, NodeId};

/// Old events that a policy without a limit keeps.
const EVENTS_KEPT: usize = 5;

/// What the policy says of one failure. Moments are Unix nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub eligible: bool,
    pub next: i64,
    pub delay: Nanos,
}

fn delay(policy: &ReschedulePolicy) -> i64 {
    policy.delay.unwrap_or_default().0
}

/// The wait before the next attempt, from the attempts so far and when the last one failed.
pub(crate) fn next_delay(policy: &ReschedulePolicy, events: &[RescheduleEvent], failed_at: i64) -> Nanos {
    let base = delay(policy);
    let Some(last) = events.last() else { return Nanos(base) };
    let max = policy.max_delay.unwrap_or_default().0;
    let value = match policy.delay_function.as_deref() {
        Some("exponential") => last.delay.0.saturating_mul(2),
        Some("fibonacci") => match events {
            [.., second, last] if max > 0 && second.delay.0 == max && last.delay.0 == base => base,
            [.., second, last] => last.delay.0.saturating_add(second.delay.0),
            _ => base,
        },
        _ => return Nanos(base),
    };
    if max <= 0 || value <= max {
        return Nanos(value);
    }
    // It ran for long before it failed again: start over.
    let ran = failed_at.saturating_sub(last.reschedule_time);
    Nanos(if ran > max { base } else { max })
}

/// Whether and when an allocation that failed at `failed_at` may be replaced.
pub(crate) fn judge(policy: &ReschedulePolicy, events: &[RescheduleEvent], failed_at: i64) -> Verdict {
    let delay = next_delay(policy, events, failed_at);
    let next = failed_at.saturating_add(delay.0);
    let attempts = policy.attempts.unwrap_or(0);
    let interval = policy.interval.unwrap_or_default().0;
    let eligible = policy.is_unlimited()
        || attempts > 0 && {
            let recent = events.iter().filter(|e| failed_at.saturating_sub(e.reschedule_time) < interval).count();
            events.is_empty() || i64::try_from(recent).is_ok_and(|n| n < attempts) && delay.0 < interval
        };
    Verdict { eligible, next, delay }
}

pub(crate) fn events(alloc: &Allocation) -> &[RescheduleEvent] {
    alloc.reschedule_tracker.as_ref().map_or(&[], |t| &t.events)
}

/// The tracker of the allocation that replaces `previous`.
pub(crate) fn track(previous: &Allocation, policy: Option<&ReschedulePolicy>, now: i64) -> RescheduleTracker {
    let old = events(previous);
    let default = ReschedulePolicy::default();
    let policy = policy.unwrap_or(&default);
    let mut events: Vec<RescheduleEvent> = if policy.attempts.unwrap_or(0) > 0 && !policy.is_unlimited() {
        let interval = policy.interval.unwrap_or_default().0;
        old.iter().filter(|e| now.saturating_sub(e.reschedule_time) <= interval).cloned().collect()
    } else {
        old[old.len().saturating_sub(EVENTS_KEPT)..].to_vec()
    };
    let delay = next_delay(policy, old, crate::read::failure_time(previous));
    events.push(RescheduleEvent {
        reschedule_time: now,
        prev_alloc_id: previous.id.clone(),
        prev_node_id: previous.node_id.clone(),
        delay,
    });
    RescheduleTracker { events, last_reschedule: "ok".to_owned() }
}

/// Nodes where it failed before: worth a penalty.
pub(crate) fn failed_nodes(previous: &Allocation) -> Vec<NodeId> {
    let own = (previous.client_status == model::ClientStatus::Failed).then(|| previous.node_id.clone());
    own.into_iter().chain(events(previous).iter().map(|e| e.prev_node_id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, delay: i64) -> RescheduleEvent {
        RescheduleEvent { reschedule_time: at, delay: Nanos(delay), ..RescheduleEvent::default() }
    }

    /// service-062
    #[test]
    fn service_062_an_unlimited_policy_keeps_five_old_events() {
        let tracker = RescheduleTracker { events: (0..9).map(|i| event(i, 1)).collect(), ..Default::default() };
        let previous = Allocation { id: "a".into(), reschedule_tracker: Some(tracker), ..Allocation::default() };
        let policy = ReschedulePolicy { unlimited: Some(true), ..ReschedulePolicy::default() };
        let events = track(&previous, Some(&policy), 100).events;
        assert_eq!(events.len(), 6);
        assert_eq!((events[0].reschedule_time, events[5].reschedule_time), (4, 100));
    }

    #[test]
    fn a_limited_policy_forgets_events_older_than_its_interval() {
        let tracker = RescheduleTracker { events: vec![event(10, 1), event(95, 1)], ..Default::default() };
        let previous = Allocation { reschedule_tracker: Some(tracker), ..Allocation::default() };
        let policy = ReschedulePolicy { attempts: Some(3), interval: Some(Nanos(20)), ..ReschedulePolicy::default() };
        let times: Vec<_> = track(&previous, Some(&policy), 100).events.iter().map(|e| e.reschedule_time).collect();
        assert_eq!(times, [95, 100]);
    }
}
