//! Policies of a group: restart, reschedule, update, migrate, disconnect, scaling.

use super::problem::Findings;
use crate::group::{DisconnectStrategy, MigrateStrategy, ReschedulePolicy, RestartPolicy, ScalingPolicy};
use crate::job::UpdateStrategy;
use crate::status::JobKind;
use crate::time::Nanos;

/// Shortest interval in which restarts are counted.
const RESTART_INTERVAL_MIN: Nanos = Nanos::from_secs(5);
/// Shortest interval in which reschedules are counted.
const RESCHEDULE_INTERVAL_MIN: Nanos = Nanos::from_secs(15);
/// Shortest delay before a reschedule.
const RESCHEDULE_DELAY_MIN: Nanos = Nanos::from_secs(5);
const DELAY_FUNCTIONS: [&str; 3] = ["constant", "exponential", "fibonacci"];

pub(super) fn restart(policy: &RestartPolicy) -> Findings {
    let mut found = Findings::default();
    let (mode, attempts, interval) = (policy.mode(), policy.attempts(), policy.interval());
    found.at("mode").unless_known(mode, &["delay", "fail"], || format!("Unsupported restart mode: {mode:?}"));
    found.at("attempts").when(attempts == 0 && mode == "delay", || {
        format!("Restart policy {mode:?} with {attempts} attempts is ambiguous")
    });
    found.at("attempts").when(attempts < 0, || "Restart attempts can not be negative".into());
    found.at("interval").when(interval < RESTART_INTERVAL_MIN, || {
        format!("Interval can not be less than {RESTART_INTERVAL_MIN} (got {interval})")
    });
    let delay = policy.delay();
    let needed = i128::from(attempts) * i128::from(delay.0);
    found.at("interval").when(needed > i128::from(interval.0), || {
        format!("can't restart the TaskGroup {attempts} times in an interval of {interval} with a delay of {delay}")
    });
    found
}

pub(super) fn reschedule(policy: &ReschedulePolicy) -> Findings {
    let mut found = Findings::default();
    if !policy.is_enabled() {
        return found;
    }
    let attempts = policy.attempts.unwrap_or(0);
    let interval = policy.interval.unwrap_or_default();
    let delay = policy.delay.unwrap_or_default();
    let most = policy.max_delay.unwrap_or_default();
    let function = policy.delay_function.as_deref().unwrap_or("");
    found.at("unlimited").when(policy.is_unlimited() && attempts > 0, || {
        format!("Reschedule policy with {attempts} attempts and unlimited={} is ambiguous", policy.is_unlimited())
    });
    let short = delay < RESCHEDULE_DELAY_MIN;
    found.at("delay").when(short, || format!("Delay cannot be less than {RESCHEDULE_DELAY_MIN} (got {delay})"));
    if !DELAY_FUNCTIONS.contains(&function) {
        found.at("delay_function").unless_known(function, &DELAY_FUNCTIONS, || {
            format!("Invalid delay function {function:?}, must be one of {DELAY_FUNCTIONS:?}")
        });
        return found;
    }
    if function != "constant" {
        found.at("max_delay").when(most < RESCHEDULE_DELAY_MIN, || {
            format!("Max Delay cannot be less than {RESCHEDULE_DELAY_MIN} (got {most})")
        });
        found
            .at("max_delay")
            .when(most < delay, || format!("Max Delay cannot be less than Delay {delay} (got {most})"));
    }
    if !policy.is_unlimited() {
        let brief = interval < RESCHEDULE_INTERVAL_MIN;
        found
            .at("interval")
            .when(brief, || format!("Interval cannot be less than {RESCHEDULE_INTERVAL_MIN} (got {interval})"));
        if found.is_empty() {
            achievable(&mut found, policy, function);
        }
    }
    found
}

/// The attempts must fit into their interval.
fn achievable(found: &mut Findings, policy: &ReschedulePolicy, function: &str) {
    let attempts = policy.attempts.unwrap_or(0);
    let interval = i128::from(policy.interval.unwrap_or_default().0);
    let delay = policy.delay.unwrap_or_default();
    let most = i128::from(policy.max_delay.unwrap_or_default().0);
    let (mut total, mut made, mut previous, mut current) = (0_i128, 0_i64, 0_i128, i128::from(delay.0));
    // both bounds end the loop: every step adds at least the least delay
    while made < attempts && total + current <= interval {
        total += current;
        made += 1;
        let next = match function {
            "exponential" => current * 2,
            "fibonacci" if previous > 0 => previous + current,
            _ => current,
        };
        previous = current;
        current = if function == "constant" { next } else { next.min(most) };
    }
    found.at("attempts").when(made < attempts, || {
        let interval = policy.interval.unwrap_or_default();
        let cap = if function == "constant" { String::new() } else { format!(", delay ceiling {:?}", Nanos(clamp(most)).to_string()) };
        format!("can only make {made} attempts in {interval} with initial delay {delay} and delay function {function:?}{cap}")
    });
}

fn clamp(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

pub(super) fn update(update: &UpdateStrategy) -> Findings {
    let mut found = Findings::default();
    let (parallel, canary) = (update.max_parallel(), update.canary());
    let health = update.health_check();
    found.at("health_check").unless_known(health, &["checks", "task_states", "manual"], || {
        format!("Invalid health check given: {health:?}")
    });
    found.at("max_parallel").when(parallel < 0, || format!("Max parallel can not be less than zero: {parallel} < 0"));
    found.at("canary").when(canary < 0, || format!("Canary count can not be less than zero: {canary} < 0"));
    found
        .at("auto_promote")
        .when(canary == 0 && update.auto_promote(), || "Auto Promote requires a Canary count greater than zero".into());
    let (least, deadline, progress) =
        (update.min_healthy_time(), update.healthy_deadline(), update.progress_deadline());
    found
        .at("min_healthy_time")
        .when(least.0 < 0, || format!("Minimum healthy time may not be less than zero: {least}"));
    found.when(deadline.0 <= 0, || format!("Healthy deadline must be greater than zero: {deadline}"));
    found.when(progress.0 < 0, || format!("Progress deadline must be zero or greater: {progress}"));
    found.when(least >= deadline, || {
        format!("Minimum healthy time must be less than healthy deadline: {least} > {deadline}")
    });
    found.at("healthy_deadline").when(progress.0 != 0 && deadline >= progress, || {
        format!("Healthy deadline must be less than progress deadline: {deadline} > {progress}")
    });
    let stagger = update.stagger.unwrap_or_default();
    found.at("stagger").when(stagger.0 <= 0, || format!("Stagger must be greater than zero: {stagger}"));
    found
}

pub(super) fn migrate(migrate: &MigrateStrategy) -> Findings {
    let mut found = Findings::default();
    let parallel = migrate.max_parallel.unwrap_or(0);
    found.at("max_parallel").when(parallel < 0, || format!("MaxParallel must be >= 0 but found {parallel}"));
    let health = migrate.health_check.as_deref().unwrap_or("");
    found
        .at("health_check")
        .unless_known(health, &["checks", "task_states"], || format!("Invalid HealthCheck: {health:?}"));
    let least = migrate.min_healthy_time.unwrap_or_default();
    let deadline = migrate.healthy_deadline.unwrap_or_default();
    found.at("min_healthy_time").when(least.0 < 0, || format!("MinHealthyTime is {least} and must be >= 0"));
    found.at("healthy_deadline").when(deadline.0 < 0, || format!("HealthyDeadline is {deadline} and must be >= 0"));
    found.at("min_healthy_time").when(least > deadline, || "MinHealthyTime must be less than HealthyDeadline".into());
    found
}

pub(super) fn disconnect(disconnect: &DisconnectStrategy, kind: Option<JobKind>) -> Findings {
    let mut found = Findings::default();
    let lost = disconnect.lost_after.unwrap_or_default();
    let stop = disconnect.stop_on_client_after;
    found.at("stop_on_client_after").when(stop.is_some() && lost.0 > 0, || {
        "disconnect cannot be configured with both lost_after and stop_on_client_after".into()
    });
    found.at("lost_after").when(lost.0 < 0 || stop.is_some_and(|after| after.0 < 0), || {
        "disconnect cannot be configured with a negative duration".into()
    });
    found
        .at("stop_on_client_after")
        .when(stop.is_some() && !matches!(kind, Some(JobKind::Service | JobKind::Batch)), || {
            "stop_on_client_after can only be used with service or batch job types".into()
        });
    let reconcile = disconnect.reconcile.as_deref().unwrap_or("");
    let known = ["", "keep_original", "keep_replacement", "best_score", "longest_running"];
    found.at("reconcile").unless_known(reconcile, &known, || format!("reconcile option is invalid: {reconcile:?}"));
    found
}

pub(super) fn scaling(policy: &ScalingPolicy, count: i64) -> Findings {
    let mut found = Findings::default();
    let (least, most) = (policy.min.unwrap_or(0), policy.max.unwrap_or(-1));
    let missing = most < 0;
    found.at("max").when(missing, || "missing policy max, or it is negative".into());
    found.at("min").when(least < 0, || "minimum count must be specified and non-negative".into());
    found.at("max").when(!missing && most < least, || {
        format!("maximum count must not be less than minimum count: {most} < {least}")
    });
    found.at("max").when(!missing && count > most, || {
        format!("task group count must not be greater than maximum count in scaling policy: {count} > {most}")
    });
    found.at("min").when(count < least, || {
        format!("task group count must not be less than minimum count in scaling policy: {count} < {least}")
    });
    found.at("type").when(!matches!(policy.kind.as_str(), "" | "horizontal"), || {
        format!("scaling policy type {:?} is not valid", policy.kind)
    });
    found
}
