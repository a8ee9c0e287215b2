//! Whether a task that ended, or could not start, starts again, and when.

use model::{JobKind, Nanos, Timestamp};
use serde::{Deserialize, Serialize};

use crate::events::WITHIN_POLICY;
use crate::spec::Class;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Fail,
    Delay,
}

/// A restart policy with its defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub attempts: u32,
    pub interval: Nanos,
    pub delay: Nanos,
    pub mode: Mode,
    /// Whether a task that succeeded is started again.
    pub on_success: bool,
}

impl Rules {
    /// The task's policy over its group's, field by field, over the defaults of the job's kind.
    pub fn new(
        kind: JobKind,
        class: Class,
        group: Option<&model::group::RestartPolicy>,
        task: Option<&model::group::RestartPolicy>,
    ) -> Self {
        let batch = matches!(kind, JobKind::Batch | JobKind::SysBatch);
        let (attempts, interval) = if batch { (3, Nanos::from_secs(86_400)) } else { (2, Nanos::from_secs(1800)) };
        let on_success = match class {
            Class::Prestart | Class::Poststart | Class::Poststop => false,
            Class::PrestartSidecar | Class::PoststartSidecar => true,
            Class::Main => !batch,
        };
        let mut rules = Self { attempts, interval, delay: Nanos::from_secs(15), mode: Mode::Fail, on_success };
        for policy in [group, task].into_iter().flatten() {
            if let Some(attempts) = policy.attempts {
                rules.attempts = u32::try_from(attempts.max(0)).unwrap_or(u32::MAX);
            }
            rules.interval = policy.interval.unwrap_or(rules.interval);
            rules.delay = policy.delay.unwrap_or(rules.delay);
            match policy.mode.as_deref() {
                Some("delay") => rules.mode = Mode::Delay,
                Some("fail") => rules.mode = Mode::Fail,
                _ => {}
            }
        }
        rules
    }
}

/// What ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Killed,
    /// Somebody asked for a restart. One that a failing check asked for counts.
    RestartAsked {
        failure: bool,
    },
    Exited {
        success: bool,
    },
    NotStarted {
        recoverable: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Killed,
    Finished,
    Restart { reason: String, delay: Nanos },
    GiveUp { reason: String },
}

/// Counts attempts within the policy's interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracker {
    count: u32,
    window_start: Option<i64>,
}

impl Tracker {
    /// `noise` is any number; it chooses the jitter.
    pub fn decide(&mut self, rules: &Rules, outcome: Outcome, now: Timestamp, noise: u64) -> Decision {
        let success = matches!(outcome, Outcome::Exited { success: true });
        let give_up = |reason: &str| Decision::GiveUp { reason: reason.to_owned() };
        match outcome {
            Outcome::Killed => return Decision::Killed,
            Outcome::RestartAsked { failure: false } => {
                return Decision::Restart { reason: String::new(), delay: Nanos(0) };
            }
            _ => {}
        }
        if rules.attempts == 0 {
            let finished = success && !rules.on_success;
            return if finished { Decision::Finished } else { give_up("Policy allows no restarts") };
        }
        let elapsed = |start: i64| now.unix_nanos().saturating_sub(start);
        let open = self.window_start.filter(|start| (0..=rules.interval.0).contains(&elapsed(*start)));
        let start = open.unwrap_or_else(|| {
            self.count = 0;
            now.unix_nanos()
        });
        self.window_start = Some(start);
        self.count = self.count.saturating_add(1);
        if outcome == (Outcome::NotStarted { recoverable: false }) {
            return give_up("Error was unrecoverable");
        }
        if success && !rules.on_success {
            return Decision::Finished;
        }
        if self.count > rules.attempts {
            let (attempts, interval) = (rules.attempts, rules.interval);
            let exceeded = |mode: &str| {
                format!("Exceeded allowed attempts {attempts} in interval {interval} and mode is {mode:?}")
            };
            return match rules.mode {
                Mode::Fail => Decision::GiveUp { reason: exceeded("fail") },
                Mode::Delay => {
                    let delay = Nanos(rules.interval.0.saturating_sub(elapsed(start)).max(0));
                    Decision::Restart { reason: exceeded("delay"), delay }
                }
            };
        }
        let jitter = rules.delay.0.max(0) / 4;
        let extra = if jitter == 0 { 0 } else { i64::try_from(noise % jitter.cast_unsigned()).unwrap_or(0) };
        Decision::Restart { reason: WITHIN_POLICY.to_owned(), delay: Nanos(rules.delay.0.saturating_add(extra)) }
    }
}

/// A number that looks random, from a seed and a counter. Source: Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators" (the SplitMix64 finalizer).
pub(crate) fn noise(seed: u64, count: u64) -> u64 {
    let mut z = seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::group::RestartPolicy;

    const FAILED: Outcome = Outcome::Exited { success: false };
    const FINE: Outcome = Outcome::Exited { success: true };

    fn rules(attempts: u32, mode: Mode, on_success: bool) -> Rules {
        Rules { attempts, interval: Nanos::from_secs(60), delay: Nanos::from_secs(10), mode, on_success }
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp(1_700_000_000_000_000_000).plus(Nanos::from_secs(secs))
    }

    #[test]
    fn more_failures_than_attempts_within_the_interval_give_up_restart_01() {
        let mut tracker = Tracker::default();
        let rules = rules(2, Mode::Fail, true);
        for n in 0..2 {
            assert!(matches!(tracker.decide(&rules, FAILED, at(n), 0), Decision::Restart { .. }));
        }
        let Decision::GiveUp { reason } = tracker.decide(&rules, FAILED, at(2), 0) else { panic!("no end") };
        assert_eq!(reason, "Exceeded allowed attempts 2 in interval 1m0s and mode is \"fail\"");
    }

    #[test]
    fn in_mode_delay_the_next_start_waits_for_the_interval_to_end_restart_02() {
        let mut tracker = Tracker::default();
        let rules = rules(2, Mode::Delay, true);
        tracker.decide(&rules, FAILED, at(0), 0);
        tracker.decide(&rules, FAILED, at(10), 0);
        let Decision::Restart { delay, .. } = tracker.decide(&rules, FAILED, at(20), 0) else { panic!("no restart") };
        assert_eq!(delay, Nanos::from_secs(40));
    }

    #[test]
    fn the_wait_is_the_delay_and_up_to_a_quarter_more_restart_03() {
        let rules = rules(u32::MAX, Mode::Fail, true);
        for n in 0..1000 {
            let mut tracker = Tracker::default();
            let decision = tracker.decide(&rules, FAILED, at(0), noise(7, n));
            let Decision::Restart { delay, .. } = decision else { panic!("no restart") };
            assert!((10_000_000_000..=12_500_000_000).contains(&delay.0), "{delay}");
        }
    }

    #[test]
    fn the_count_starts_over_after_the_interval_restart_04() {
        let mut tracker = Tracker::default();
        let rules = rules(1, Mode::Fail, true);
        tracker.decide(&rules, FAILED, at(0), 0);
        assert!(matches!(tracker.decide(&rules, FAILED, at(61), 0), Decision::Restart { .. }));
        assert!(matches!(tracker.decide(&rules, FAILED, at(62), 0), Decision::GiveUp { .. }));
        // A clock that went back opens a new window rather than an endless one.
        assert!(matches!(tracker.decide(&rules, FAILED, at(-5000), 0), Decision::Restart { .. }));
    }

    #[test]
    fn without_attempts_only_a_finished_batch_task_is_fine_restart_05_restart_06() {
        let mut tracker = Tracker::default();
        let no_restarts =
            |decision| matches!(decision, Decision::GiveUp { reason } if reason == "Policy allows no restarts");
        assert!(no_restarts(tracker.decide(&rules(0, Mode::Fail, true), FINE, at(0), 0)));
        assert!(no_restarts(tracker.decide(&rules(0, Mode::Fail, false), FAILED, at(0), 0)));
        assert_eq!(tracker.decide(&rules(0, Mode::Fail, false), FINE, at(0), 0), Decision::Finished);
    }

    #[test]
    fn success_counts_for_services_and_ends_batch_tasks_restart_07_restart_08() {
        let mut tracker = Tracker::default();
        assert!(matches!(tracker.decide(&rules(1, Mode::Fail, true), FINE, at(0), 0), Decision::Restart { .. }));
        assert!(matches!(tracker.decide(&rules(1, Mode::Fail, true), FINE, at(1), 0), Decision::GiveUp { .. }));
        assert_eq!(Tracker::default().decide(&rules(3, Mode::Fail, false), FINE, at(0), 0), Decision::Finished);
    }

    #[test]
    fn restarts_of_checks_count_and_those_of_people_do_not_restart_09_task_run_16() {
        let mut tracker = Tracker::default();
        let rules = rules(1, Mode::Fail, true);
        for n in 0..5 {
            let asked = tracker.decide(&rules, Outcome::RestartAsked { failure: false }, at(n), 9);
            assert_eq!(asked, Decision::Restart { reason: String::new(), delay: Nanos(0) });
        }
        tracker.decide(&rules, Outcome::RestartAsked { failure: true }, at(6), 0);
        let last = tracker.decide(&rules, Outcome::RestartAsked { failure: true }, at(7), 0);
        assert!(matches!(last, Decision::GiveUp { .. }));
    }

    #[test]
    fn an_unrecoverable_start_error_gives_up_at_once_task_run_04_task_run_05() {
        let rules = rules(5, Mode::Fail, true);
        let decide = |recoverable| Tracker::default().decide(&rules, Outcome::NotStarted { recoverable }, at(0), 0);
        assert!(matches!(decide(false), Decision::GiveUp { .. }));
        assert!(matches!(decide(true), Decision::Restart { .. }));
    }

    #[test]
    fn a_task_policy_overrides_its_groups_field_by_field_restart_12() {
        let group = RestartPolicy { attempts: Some(7), delay: Some(Nanos::from_secs(1)), ..RestartPolicy::default() };
        let task = RestartPolicy { attempts: Some(1), ..RestartPolicy::default() };
        let rules = Rules::new(JobKind::Batch, Class::Main, Some(&group), Some(&task));
        assert_eq!((rules.attempts, rules.delay, rules.interval), (1, Nanos::from_secs(1), Nanos::from_secs(86_400)));
        assert!(!rules.on_success);
        assert!(Rules::new(JobKind::System, Class::Main, None, None).on_success);
        assert!(!Rules::new(JobKind::Service, Class::Prestart, None, None).on_success);
        assert!(Rules::new(JobKind::Batch, Class::PoststartSidecar, None, None).on_success);
    }
}
