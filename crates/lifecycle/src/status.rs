//! An allocation's client status from the states of its tasks.

use model::alloc::TaskState;
use model::{ClientStatus, TaskStateKind};

use crate::spec::Class;

/// The first condition that holds decides.
///
/// A poststop task that is about to run counts as running: an allocation does not go back to pending
/// between its last main task and its first poststop task.
pub fn summarize<'a>(tasks: impl Iterator<Item = (Class, &'a TaskState)> + Clone) -> (ClientStatus, &'static str) {
    let dead = |state: &TaskState| state.state == TaskStateKind::Dead;
    if tasks.clone().any(|(_, t)| dead(t) && t.failed) {
        return (ClientStatus::Failed, "Failed tasks");
    }
    let body_done = tasks.clone().filter(|(class, _)| *class != Class::Poststop).all(|(_, t)| dead(t));
    let any = |kind: TaskStateKind| tasks.clone().any(|(_, t)| t.state == kind);
    if any(TaskStateKind::Running) || (body_done && any(TaskStateKind::Pending)) {
        return (ClientStatus::Running, "Tasks are running");
    }
    if any(TaskStateKind::Pending) {
        return (ClientStatus::Pending, "No tasks have started");
    }
    if any(TaskStateKind::Dead) {
        return (ClientStatus::Complete, "All tasks have completed");
    }
    (ClientStatus::Pending, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tasks: &[(TaskStateKind, bool)]) -> (ClientStatus, &'static str) {
        let states: Vec<_> = tasks
            .iter()
            .map(|(state, failed)| TaskState { state: *state, failed: *failed, ..TaskState::default() })
            .collect();
        summarize(states.iter().map(|s| (Class::Main, s)))
    }

    #[test]
    fn the_first_condition_decides_alloc_status_01_alloc_status_02_alloc_status_03_alloc_status_04() {
        use TaskStateKind::{Dead, Pending, Running};
        assert_eq!(of(&[(Pending, false), (Running, false)]), (ClientStatus::Running, "Tasks are running"));
        assert_eq!(of(&[(Dead, true), (Running, false)]), (ClientStatus::Failed, "Failed tasks"));
        assert_eq!(of(&[(Dead, false), (Dead, false)]), (ClientStatus::Complete, "All tasks have completed"));
        assert_eq!(of(&[(Pending, false), (Dead, false)]), (ClientStatus::Pending, "No tasks have started"));
        assert_eq!(of(&[(Pending, true)]).0, ClientStatus::Pending);
    }
}
