//! May a failed allocation be tried again elsewhere?
//!
//! Source: the compatible interface's rescheduling rules (policy, delay functions, attempts within an
//! interval).

use model::alloc::{RescheduleEvent, RescheduleTracker};
use model::group::ReschedulePolicy;
use model::{Nanos, Timestamp};

/// The outcome noted when a replacement found no place.
pub const NO_PLACEMENT: &str = "no placement";

/// Whether the policy allows one more try for what failed at that moment.
pub fn may_reschedule(
    policy: Option<&ReschedulePolicy>,
    tracker: Option<&RescheduleTracker>,
    failed_at: Timestamp,
) -> bool {
    let Some(policy) = policy.filter(|policy| policy.is_enabled()) else { return false };
    if policy.is_unlimited() {
        return true;
    }
    let events = tracker.map(|tracker| tracker.events.as_slice()).unwrap_or_default();
    let interval = policy.interval.unwrap_or_default();
    let attempts = policy.attempts.unwrap_or(0);
    let within =
        events.iter().filter(|event| failed_at.unix_nanos().saturating_sub(event.reschedule_time) < interval.0);
    let attempted = i64::try_from(within.count()).unwrap_or(i64::MAX);
    attempted < attempts && (events.is_empty() || next_delay(policy, events, failed_at) < interval)
}

/// How long the next try waits.
pub fn next_delay(policy: &ReschedulePolicy, events: &[RescheduleEvent], failed_at: Timestamp) -> Nanos {
    let delay = policy.delay.unwrap_or_default();
    let max = policy.max_delay.unwrap_or_default();
    let Some(last) = events.last() else { return delay };
    let next = match policy.delay_function.as_deref() {
        Some("exponential") => Nanos(last.delay.0.saturating_mul(2)),
        Some("fibonacci") => match events {
            [.., second, last] if second.delay == max && last.delay == delay => last.delay,
            [.., second, last] => Nanos(second.delay.0.saturating_add(last.delay.0)),
            _ => delay,
        },
        _ => return delay,
    };
    if max.0 <= 0 || next <= max {
        return next;
    }
    let quiet = failed_at.unix_nanos().saturating_sub(last.reschedule_time);
    if quiet > max.0 { delay } else { max }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    fn policy(function: &str, max_s: i64) -> ReschedulePolicy {
        ReschedulePolicy {
            attempts: Some(2),
            interval: Some(Nanos::from_secs(100)),
            delay: Some(Nanos::from_secs(5)),
            delay_function: Some(function.to_owned()),
            max_delay: Some(Nanos::from_secs(max_s)),
            unlimited: Some(false),
        }
    }

    fn events(list: &[(i64, i64)]) -> Vec<RescheduleEvent> {
        list.iter()
            .map(|&(at, delay)| RescheduleEvent {
                reschedule_time: at * S,
                delay: Nanos::from_secs(delay),
                ..RescheduleEvent::default()
            })
            .collect()
    }

    #[test]
    fn delays_grow_as_their_function_says_up_to_the_limit() {
        let at = Timestamp(1_000 * S);
        let cases = [
            ("constant", 0, vec![(990, 5)], 5),
            ("constant", 3, vec![(990, 5)], 5),
            ("exponential", 0, vec![], 5),
            ("exponential", 0, vec![(990, 20)], 40),
            ("exponential", 30, vec![(990, 20)], 30),
            ("exponential", 30, vec![(900, 20)], 5),
            ("fibonacci", 0, vec![(990, 5)], 5),
            ("fibonacci", 0, vec![(980, 5), (990, 10)], 15),
            ("fibonacci", 40, vec![(980, 40), (990, 5)], 5),
        ];
        for (function, max, list, expect) in cases {
            let got = next_delay(&policy(function, max), &events(&list), at);
            assert_eq!(got, Nanos::from_secs(expect), "{function} {max} {list:?}");
        }
    }

    #[test]
    fn only_tries_within_the_interval_count() {
        let at = Timestamp(1_000 * S);
        let may = |list: &[(i64, i64)]| {
            let tracker = RescheduleTracker { events: events(list), ..RescheduleTracker::default() };
            may_reschedule(Some(&policy("constant", 0)), Some(&tracker), at)
        };
        assert!(may(&[]));
        assert!(may(&[(950, 5)]));
        assert!(!may(&[(950, 5), (960, 5)]));
        assert!(may(&[(850, 5), (960, 5)]));
        assert!(!may_reschedule(None, None, at));
        let disabled = ReschedulePolicy { attempts: Some(0), unlimited: Some(false), ..policy("constant", 0) };
        assert!(!may_reschedule(Some(&disabled), None, at));
        let unlimited = ReschedulePolicy { attempts: Some(0), unlimited: Some(true), ..policy("constant", 0) };
        assert!(may_reschedule(Some(&unlimited), None, at));
    }
}
