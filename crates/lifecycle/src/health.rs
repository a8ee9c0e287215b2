//! Whether an allocation is healthy enough for its deployment or migration to go on.
//!
//! All relevant tasks must have been running without a restart for the minimum time; any failed task, or one
//! that finished though it should not, is a verdict at once; a deadline without a verdict is one as well.
//! A verdict is given once.

use model::alloc::TaskState;
use model::{Nanos, TaskStateKind, Timestamp};

use crate::spec::{Class, HealthSpec};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    Unhealthy,
    /// Not yet; ask again after the span, if there is one.
    Wait(Option<Nanos>),
}

/// Looks at the tasks as they are now.
pub fn judge<'a>(
    spec: &HealthSpec,
    tasks: impl Iterator<Item = (Class, &'a TaskState)> + Clone,
    now: Timestamp,
) -> Verdict {
    let mut latest: Option<Timestamp> = None;
    let (mut all_run, mut paused) = (true, false);
    for (class, task) in tasks {
        let ended_well = task.state == TaskStateKind::Dead && !task.failed;
        if task.state == TaskStateKind::Dead && task.failed {
            return Verdict::Unhealthy;
        }
        match class {
            Class::Poststop => continue,
            Class::Prestart | Class::Poststart if ended_well => continue,
            _ => {}
        }
        match task.state {
            TaskStateKind::Dead => return Verdict::Unhealthy,
            // Nobody wants it to run now.
            TaskStateKind::Pending if task.is_paused() => paused = true,
            TaskStateKind::Pending => all_run = false,
            TaskStateKind::Running => latest = latest.max(task.started_at),
        }
    }
    if paused && all_run && latest.is_none() {
        return Verdict::Healthy;
    }
    let Some(latest) = latest.filter(|_| all_run) else { return Verdict::Wait(None) };
    let left = spec.min_healthy_time.0.saturating_sub(now.unix_nanos().saturating_sub(latest.unix_nanos()));
    if left <= 0 { Verdict::Healthy } else { Verdict::Wait(Some(Nanos(left.min(spec.min_healthy_time.0)))) }
}

/// What to tell a task that kept the allocation from being healthy by the deadline.
pub fn culprit(spec: &HealthSpec, class: Class, task: &TaskState, now: Timestamp) -> Option<String> {
    let deadline = spec.healthy_deadline;
    if class == Class::Poststop {
        return None;
    }
    let ended_well = task.state == TaskStateKind::Dead && !task.failed;
    if ended_well && matches!(class, Class::Prestart | Class::Poststart) {
        return None;
    }
    if task.failed {
        return Some("Unhealthy because of failed task".to_owned());
    }
    match task.state {
        TaskStateKind::Dead => Some("Unhealthy because of dead task".to_owned()),
        TaskStateKind::Pending => Some(format!("Task not running by healthy_deadline of {deadline}")),
        TaskStateKind::Running => {
            let started = task.started_at.map_or(now.unix_nanos(), Timestamp::unix_nanos);
            let ran = now.unix_nanos().saturating_sub(started);
            let short = ran < spec.min_healthy_time.0;
            let min = spec.min_healthy_time;
            short.then(|| format!("Task not running for min_healthy_time of {min} by healthy_deadline of {deadline}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskStateKind::{Dead, Pending, Running};

    fn spec() -> HealthSpec {
        HealthSpec { min_healthy_time: Nanos::from_secs(10), healthy_deadline: Nanos::from_secs(300), explain: true }
    }

    fn task(state: TaskStateKind, started: i64) -> TaskState {
        TaskState { state, started_at: Some(Timestamp(started * 1_000_000_000)), ..TaskState::default() }
    }

    fn judged(tasks: &[(Class, TaskState)], secs: i64) -> Verdict {
        judge(&spec(), tasks.iter().map(|(c, t)| (*c, t)), Timestamp(secs * 1_000_000_000))
    }

    #[test]
    fn healthy_is_all_running_for_the_minimum_time_health_01() {
        let tasks = [(Class::Main, task(Running, 100)), (Class::Main, task(Running, 103))];
        assert_eq!(judged(&tasks, 112), Verdict::Wait(Some(Nanos::from_secs(1))));
        assert_eq!(judged(&tasks, 113), Verdict::Healthy);
        let waiting = [(Class::Main, task(Running, 100)), (Class::Main, task(Pending, 0))];
        assert_eq!(judged(&waiting, 999), Verdict::Wait(None));
    }

    #[test]
    fn a_task_that_failed_or_finished_is_a_verdict_at_once_health_03() {
        let failed = TaskState { failed: true, ..task(Dead, 1) };
        assert_eq!(judged(&[(Class::Main, failed)], 1), Verdict::Unhealthy);
        assert_eq!(judged(&[(Class::Main, task(Dead, 1))], 1), Verdict::Unhealthy);
    }

    #[test]
    fn tasks_that_are_meant_to_end_or_to_wait_do_not_count_health_09_health_10() {
        let tasks = [
            (Class::Prestart, task(Dead, 1)),
            (Class::Poststart, task(Dead, 1)),
            (Class::Poststop, task(Pending, 0)),
            (Class::Main, task(Running, 100)),
        ];
        assert_eq!(judged(&tasks, 110), Verdict::Healthy);
    }

    #[test]
    fn a_clock_that_went_back_never_waits_longer_than_the_minimum() {
        assert_eq!(judged(&[(Class::Main, task(Running, 1000))], 1), Verdict::Wait(Some(Nanos::from_secs(10))));
    }
}
