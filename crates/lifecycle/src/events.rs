//! Task events: what a person reads to learn what happened to a task.
//!
//! Types, `Details` keys and the legacy flat fields are the compatible interface's; the display text is what
//! its command line prints.

use std::collections::BTreeMap;

use model::alloc::{TaskEvent, TaskState};
use model::{Nanos, Timestamp};

/// Events kept per task; the oldest goes first.
pub const EVENTS_MAX: usize = 10;

/// Appends an event and stamps it.
pub fn append(state: &mut TaskState, mut event: TaskEvent, now: Timestamp) {
    event.time = now.unix_nanos();
    state.failed |= event.fails_task;
    let before = state.events.look();
    let surplus = (before.len() + 1).saturating_sub(EVENTS_MAX);
    state.events = before.iter().skip(surplus).cloned().chain([event]).collect();
}

fn event(kind: &str, display: impl Into<String>) -> TaskEvent {
    TaskEvent { kind: kind.to_owned(), display_message: display.into(), ..TaskEvent::default() }
}

fn with(mut event: TaskEvent, details: &[(&str, String)]) -> TaskEvent {
    event.details = details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    event
}

pub fn received() -> TaskEvent {
    event("Received", "Task received by client")
}

pub fn task_setup() -> TaskEvent {
    let message = "Building Task Directory".to_owned();
    let base = with(event("Task Setup", message.clone()), &[("message", message.clone())]);
    TaskEvent { message, ..base }
}

/// The allocation as a whole could not be prepared. Fails the task.
pub fn setup_failure(reason: &str) -> TaskEvent {
    let details = [("kill_reason", reason.to_owned()), ("fails_task", "true".to_owned())];
    TaskEvent { kill_reason: reason.to_owned(), fails_task: true, ..with(event("Setup Failure", reason), &details) }
}

pub fn failed_validation(error: &str) -> TaskEvent {
    let base = with(event("Failed Validation", error), &[("validation_error", error.to_owned())]);
    TaskEvent { validation_error: error.to_owned(), ..base }
}

pub fn failed_download(error: &str) -> TaskEvent {
    let base = with(event("Failed Artifact Download", error), &[("download_error", error.to_owned())]);
    TaskEvent { download_error: error.to_owned(), ..base }
}

pub fn hook_failed(error: &str) -> TaskEvent {
    let base = with(event("Task hook failed", error), &[("message", error.to_owned())]);
    TaskEvent { message: error.to_owned(), ..base }
}

pub fn driver_failure(error: &str) -> TaskEvent {
    let base = with(event("Driver Failure", error), &[("driver_error", error.to_owned())]);
    TaskEvent { driver_error: error.to_owned(), ..base }
}

pub fn driver_message(message: &str, annotations: &BTreeMap<String, String>) -> TaskEvent {
    let mut base = with(event("Driver", message), &[("driver_message", message.to_owned())]);
    base.details.extend(annotations.iter().map(|(k, v)| (k.clone(), v.clone())));
    TaskEvent { driver_message: message.to_owned(), ..base }
}

pub fn started() -> TaskEvent {
    event("Started", "Task started by client")
}

pub fn terminated(exit: &crate::machine::TaskExit) -> TaskEvent {
    let mut display = format!("Exit Code: {}", exit.code);
    if exit.signal != 0 {
        display.push_str(&format!(", Signal: {}", exit.signal));
    }
    let mut details = vec![
        ("exit_code", exit.code.to_string()),
        ("signal", exit.signal.to_string()),
        ("oom_killed", exit.oom_killed.to_string()),
    ];
    if let Some(error) = &exit.error {
        display.push_str(&format!(", Exit Message: {error:?}"));
        details.push(("exit_message", error.clone()));
    }
    let message = exit.error.clone().unwrap_or_default();
    let base = with(event("Terminated", display), &details);
    TaskEvent { exit_code: i64::from(exit.code), signal: i64::from(exit.signal), message, ..base }
}

/// The reason that goes without saying.
pub const WITHIN_POLICY: &str = "Restart within policy";

pub fn restarting(reason: &str, delay: Nanos) -> TaskEvent {
    let display = if reason.is_empty() || reason == WITHIN_POLICY {
        format!("Task restarting in {delay}")
    } else {
        format!("{reason} - Task restarting in {delay}")
    };
    let details = [("restart_reason", reason.to_owned()), ("start_delay", delay.0.to_string())];
    TaskEvent {
        restart_reason: reason.to_owned(),
        start_delay: delay.0,
        ..with(event("Restarting", display), &details)
    }
}

/// Fails the task.
pub fn not_restarting(reason: &str) -> TaskEvent {
    let details = [("restart_reason", reason.to_owned()), ("fails_task", "true".to_owned())];
    let base = with(event("Not Restarting", reason), &details);
    TaskEvent { restart_reason: reason.to_owned(), fails_task: true, ..base }
}

/// The task is not to run now.
pub fn pausing(state: &str) -> TaskEvent {
    let text = if state == "scheduled_pause" { "Task paused by its schedule" } else { "Task paused by request" };
    with(event("Pausing", text), &[("schedule_state", state.to_owned())])
}

/// The task is to run again.
pub fn unpaused(state: &str) -> TaskEvent {
    let text = if state == "force_run" { "Task runs by request" } else { "Task runs by its schedule" };
    with(event("Running", text), &[("schedule_state", state.to_owned())])
}

pub fn restart_signaled(reason: &str) -> TaskEvent {
    let base = with(event("Restart Signaled", reason), &[("restart_reason", reason.to_owned())]);
    TaskEvent { restart_reason: reason.to_owned(), ..base }
}

pub fn signaling(signal: &str, reason: &str) -> TaskEvent {
    let display = if reason.is_empty() {
        format!("Task being sent signal {signal}")
    } else {
        format!("Task being sent signal {signal}: {reason}")
    };
    let details = [("task_signal", signal.to_owned()), ("task_signal_reason", reason.to_owned())];
    let base = with(event("Signaling", display), &details);
    TaskEvent { task_signal: signal.to_owned(), task_signal_reason: reason.to_owned(), ..base }
}

pub fn killing(timeout: Nanos) -> TaskEvent {
    let display = format!("Sent interrupt. Waiting {timeout} before force killing");
    let base = with(event("Killing", display), &[("kill_timeout", timeout.to_string())]);
    TaskEvent { kill_timeout: timeout, ..base }
}

/// As [`killing`], for a task killed because something went wrong; `fails` marks it failed.
pub fn killing_because(reason: &str, timeout: Nanos, fails: bool) -> TaskEvent {
    let mut base = killing(timeout);
    base.details.insert("kill_reason".to_owned(), reason.to_owned());
    if fails {
        base.details.insert("fails_task".to_owned(), "true".to_owned());
    }
    TaskEvent { kill_reason: reason.to_owned(), display_message: reason.to_owned(), fails_task: fails, ..base }
}

pub fn killed(error: Option<&str>) -> TaskEvent {
    let Some(error) = error else { return event("Killed", "Task successfully killed") };
    let base = with(event("Killed", error), &[("kill_error", error.to_owned())]);
    TaskEvent { kill_error: error.to_owned(), ..base }
}

pub fn sibling_failed(sibling: &str) -> TaskEvent {
    let display = format!("Task's sibling {sibling:?} failed");
    let base = with(event("Sibling Task Failed", display), &[("failed_sibling", sibling.to_owned())]);
    TaskEvent { failed_sibling: sibling.to_owned(), ..base }
}

pub fn leader_dead() -> TaskEvent {
    event("Leader Task Dead", "Leader Task in Group dead")
}

pub fn main_dead() -> TaskEvent {
    event("Main Tasks Dead", "Main tasks in the group died")
}

pub fn restore_failed() -> TaskEvent {
    event("Failed Restoring Task", "failed to restore task; will not run until server is contacted")
}

pub fn reconnected() -> TaskEvent {
    event("Reconnected", "Client reconnected")
}

pub fn waiting_shutdown_delay(delay: Nanos) -> TaskEvent {
    event("Waiting for shutdown delay", format!("Waiting for shutdown_delay of {delay} before killing the task."))
}

pub fn skipping_shutdown_delay(delay: Nanos) -> TaskEvent {
    event("Skipping shutdown delay", format!("Skipping shutdown_delay of {delay} before killing the task."))
}

pub fn alloc_unhealthy(why: &str) -> TaskEvent {
    let base = with(event("Alloc Unhealthy", why), &[("message", why.to_owned())]);
    TaskEvent { message: why.to_owned(), ..base }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::TaskExit;

    #[test]
    fn the_oldest_event_goes_when_there_are_more_than_ten_task_run_08() {
        let mut state = TaskState::default();
        for n in 0..13 {
            append(&mut state, driver_message(&n.to_string(), &BTreeMap::new()), Timestamp(n));
        }
        let events = state.events.look();
        assert_eq!((events.len(), events[0].driver_message.as_str()), (EVENTS_MAX, "3"));
    }

    /// The texts and details a running reference gave.
    #[test]
    fn events_read_as_recorded() {
        let exit = TaskExit { code: 137, signal: 9, ..TaskExit::default() };
        assert_eq!(terminated(&exit).display_message, "Exit Code: 137, Signal: 9");
        assert_eq!(killing(Nanos::from_secs(5)).display_message, "Sent interrupt. Waiting 5s before force killing");
        assert_eq!(killing(Nanos::from_secs(5)).details["kill_timeout"], "5s");
        let again = restarting("", Nanos(0));
        assert_eq!(again.display_message, "Task restarting in 0s");
        assert_eq!((again.details["restart_reason"].as_str(), again.details["start_delay"].as_str()), ("", "0"));
        let gave_up = not_restarting("Policy allows no restarts");
        assert!(gave_up.fails_task && gave_up.details["fails_task"] == "true");
        assert_eq!(task_setup().details["message"], "Building Task Directory");
        assert_eq!(killed(None).display_message, "Task successfully killed");
    }
}
