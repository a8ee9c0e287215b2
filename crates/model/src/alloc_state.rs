//! Where an allocation stands, and what its name says.

use crate::alloc::{Allocation, DesiredTransition, TaskState};
use crate::ids::{Index, JobId, NamespaceName};
use crate::status::{ClientStatus, DesiredStatus, TaskStateKind};

impl Allocation {
    /// Namespace and id of its job.
    pub fn job_key(&self) -> (NamespaceName, JobId) {
        (self.namespace.clone(), self.job_id.clone())
    }

    /// The cluster wants it gone: desired status `stop` or `evict`.
    pub fn server_terminal(&self) -> bool {
        matches!(self.desired_status, DesiredStatus::Stop | DesiredStatus::Evict)
    }

    /// The node will do no more for it: client status `complete`, `failed` or `lost`; `unknown` is not.
    pub fn client_terminal(&self) -> bool {
        self.client_status.is_terminal()
    }

    /// Terminal on either side.
    pub fn is_terminal(&self) -> bool {
        self.server_terminal() || self.client_terminal()
    }

    /// True while it may still use what it was given: neither side is through with it, or only the
    /// server is.
    pub fn occupies_node(&self) -> bool {
        !self.client_terminal()
    }

    /// Its number within the group, from a name like `web.api[3]`.
    pub fn index(&self) -> Option<u32> {
        alloc_index(&self.name)
    }

    /// At least one task ran, and every task ended well.
    pub fn ran_successfully(&self) -> bool {
        !self.task_states.is_empty() && self.task_states.values().all(TaskState::successful)
    }

    /// True while it is a canary that nobody promoted.
    pub fn is_canary(&self) -> bool {
        self.deployment_status.as_ref().is_some_and(|status| status.canary)
    }

    /// The verdict of its deployment's health check; `None` while there is none.
    pub fn is_healthy(&self) -> Option<bool> {
        self.deployment_status.as_ref().and_then(|status| status.healthy)
    }

    /// The version of the job it runs, from the row or from the embedded job.
    pub fn job_version(&self) -> Option<u64> {
        self.job_version.or_else(|| self.job.as_ref().map(|job| job.version()))
    }

    /// The incarnation of the job it runs, from the row or from the embedded job.
    pub fn job_incarnation(&self) -> Option<Index> {
        self.job_incarnation.or_else(|| self.job.as_ref().map(|job| job.incarnation()))
    }
}

impl DesiredTransition {
    pub fn should_migrate(&self) -> bool {
        self.migrate.unwrap_or(false)
    }

    pub fn should_reschedule(&self) -> bool {
        self.reschedule.unwrap_or(false)
    }

    pub fn should_force_reschedule(&self) -> bool {
        self.force_reschedule.unwrap_or(false)
    }

    pub fn should_skip_shutdown_delay(&self) -> bool {
        self.no_shutdown_delay.unwrap_or(false)
    }

    pub fn should_skip_placement(&self) -> bool {
        self.migrate_disable_placement.unwrap_or(false)
    }

    /// Takes over each flag that `newer` sets; an unset one keeps its old value.
    pub fn merge(&mut self, newer: &Self) {
        let take = |old: &mut Option<bool>, new: Option<bool>| *old = new.or(*old);
        take(&mut self.migrate, newer.migrate);
        take(&mut self.reschedule, newer.reschedule);
        take(&mut self.force_reschedule, newer.force_reschedule);
        take(&mut self.no_shutdown_delay, newer.no_shutdown_delay);
        take(&mut self.migrate_disable_placement, newer.migrate_disable_placement);
    }
}

impl TaskState {
    /// Ended, and not by a failure.
    pub fn successful(&self) -> bool {
        self.state == TaskStateKind::Dead && !self.failed
    }
}

/// The name of allocation `index` of a group: `<job name>.<group>[<index>]`.
pub fn alloc_name(job: &str, group: &str, index: u32) -> String {
    format!("{job}.{group}[{index}]")
}

/// The number in an allocation's name.
pub fn alloc_index(name: &str) -> Option<u32> {
    let inner = name.strip_suffix(']')?;
    inner.get(inner.rfind('[')? + 1..)?.parse().ok()
}

/// The client status of an allocation, from the states of its tasks: failed when one failed, running
/// when one runs, pending when one is still to start, complete when all are dead.
pub fn client_status_of<'a>(tasks: impl IntoIterator<Item = &'a TaskState>) -> ClientStatus {
    let (mut pending, mut running, mut dead, mut failed) = (false, false, false, false);
    for task in tasks {
        match task.state {
            TaskStateKind::Running => running = true,
            TaskStateKind::Pending => pending = true,
            TaskStateKind::Dead => {
                dead = true;
                failed |= task.failed;
            }
        }
    }
    match () {
        () if failed => ClientStatus::Failed,
        () if running => ClientStatus::Running,
        () if pending || !dead => ClientStatus::Pending,
        () => ClientStatus::Complete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_not_terminal_and_a_stop_is() {
        let mut alloc = Allocation::default();
        for (status, terminal) in [
            (ClientStatus::Pending, false),
            (ClientStatus::Running, false),
            (ClientStatus::Unknown, false),
            (ClientStatus::Complete, true),
            (ClientStatus::Failed, true),
            (ClientStatus::Lost, true),
        ] {
            alloc.client_status = status;
            assert_eq!((alloc.client_terminal(), alloc.is_terminal()), (terminal, terminal), "{status}");
        }
        alloc.client_status = ClientStatus::Running;
        alloc.desired_status = DesiredStatus::Evict;
        assert!(alloc.server_terminal() && alloc.is_terminal() && alloc.occupies_node());
    }

    #[test]
    fn a_name_gives_its_index_back() {
        assert_eq!(alloc_index(&alloc_name("we[b]", "api", 17)), Some(17));
        for odd in ["", "web.api", "web.api[]", "web.api[x]", "web.api[-1]", "]", "[]", "web.api[99999999999]"] {
            assert_eq!(alloc_index(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_transition_keeps_what_the_newer_one_leaves_unset() {
        let mut old = DesiredTransition { migrate: Some(true), ..DesiredTransition::default() };
        old.merge(&DesiredTransition { reschedule: Some(true), ..DesiredTransition::default() });
        assert!(old.should_migrate() && old.should_reschedule() && !old.should_force_reschedule());
    }

    #[test]
    fn an_allocation_without_tasks_did_not_run_successfully() {
        assert!(!Allocation::default().ran_successfully());
        assert_eq!(client_status_of([]), ClientStatus::Pending);
        let dead = TaskState { state: TaskStateKind::Dead, ..TaskState::default() };
        let failed = TaskState { failed: true, ..dead.clone() };
        let running = TaskState { state: TaskStateKind::Running, ..TaskState::default() };
        assert_eq!(client_status_of([&dead]), ClientStatus::Complete);
        assert_eq!(client_status_of([&dead, &running]), ClientStatus::Running);
        assert_eq!(client_status_of([&running, &failed]), ClientStatus::Failed);
    }
}
