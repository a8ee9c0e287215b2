//! The deployment of a service: which one counts, when a new one is made, when it is done.

use fsm::plan::PlanDeploymentUpdate;
use model::deployment::DeploymentState;
use model::{Deployment, DeploymentId, DeploymentStatus, Job, TaskGroup};

use super::Reconciler;

const CANCELLED_STOPPED: &str = "Cancelled because job is stopped";
const CANCELLED_NEWER: &str = "Cancelled due to newer version of job";
pub(crate) const SUCCESSFUL: &str = "Deployment completed successfully";
const RUNNING: &str = "Deployment is running";
const RUNNING_MANUAL: &str = "Deployment is running but requires manual promotion";
const RUNNING_AUTO: &str = "Deployment is running pending automatic promotion";

impl Reconciler<'_, '_> {
    /// Splits the job's newest deployment into an old one (cancelled if it still moves) and the current.
    pub(super) fn pick_deployment(&mut self, job_stopped: bool) {
        let Some(latest) = self.given.latest else { return };
        let active = latest.status.is_active();
        let same = self
            .given
            .job
            .is_some_and(|job| latest.job_version == job.version() && latest.job_create_index == job.incarnation());
        let cancel = match () {
            () if job_stopped => Some(CANCELLED_STOPPED),
            () if !same => Some(CANCELLED_NEWER),
            () if latest.status == DeploymentStatus::Successful => None,
            () => {
                self.paused = matches!(latest.status, DeploymentStatus::Paused | DeploymentStatus::Pending);
                self.failed = latest.status == DeploymentStatus::Failed;
                self.out.deployment = Some(Deployment::clone(latest));
                return;
            }
        };
        self.old = Some(latest);
        if let (true, Some(description)) = (active, cancel) {
            self.update(&latest.id, DeploymentStatus::Cancelled, description);
        }
    }

    fn update(&mut self, id: &DeploymentId, status: DeploymentStatus, description: &str) {
        let description = description.to_owned();
        self.out.deployment_updates.push(PlanDeploymentUpdate { id: id.clone(), status, description });
    }

    /// The group's entry in the current deployment, or a fresh one, and whether it was there.
    pub(super) fn group_state(&self, group: &TaskGroup) -> (DeploymentState, bool) {
        let entry = self.out.deployment.as_ref().and_then(|d| d.task_groups.get(group.name()));
        if let Some(entry) = entry {
            return (entry.clone(), true);
        }
        let mut state = DeploymentState::default();
        if let Some(update) = group.rolling_update() {
            state.auto_revert = update.auto_revert();
            state.auto_promote = update.auto_promote();
            state.progress_deadline = update.progress_deadline();
        }
        (state, false)
    }

    /// Adds a group to the new deployment, which the first such group creates.
    pub(super) fn deploy(&mut self, job: &Job, group: &TaskGroup, state: DeploymentState) {
        if self.out.deployment.is_none() {
            self.out.created = true;
            self.out.deployment = Some(Deployment {
                id: DeploymentId::from((self.given.new_id)()),
                namespace: job.namespace(),
                job_id: job.id(),
                job_version: job.version(),
                job_modify_index: job.modify_index.unwrap_or_default(),
                job_spec_modify_index: job.job_modify_index(),
                job_create_index: job.incarnation(),
                is_multiregion: job.is_multiregion(),
                status: DeploymentStatus::Running,
                status_description: RUNNING.to_owned(),
                create_time: self.given.now,
                modify_time: self.given.now,
                eval_priority: self.given.eval.priority,
                ..Deployment::default()
            });
        }
        if let Some(deployment) = &mut self.out.deployment {
            deployment.task_groups.insert(group.name().to_owned(), state);
        }
    }

    /// A new deployment says what it waits for.
    pub(super) fn describe_deployment(&mut self) {
        if let Some(deployment) = self.out.deployment.as_mut().filter(|_| self.out.created) {
            let mut waiting = deployment.task_groups.values().filter(|s| s.desired_canaries > 0).peekable();
            if waiting.peek().is_some() {
                let text = if waiting.all(|s| s.auto_promote) { RUNNING_AUTO } else { RUNNING_MANUAL };
                text.clone_into(&mut deployment.status_description);
            }
        }
    }

    pub(super) fn finish_deployment(&mut self) {
        self.describe_deployment();
        let Some(deployment) = self.out.deployment.as_ref().filter(|_| !self.out.created) else { return };
        if self.complete && deployment.status.is_active() {
            let id = deployment.id.clone();
            self.update(&id, DeploymentStatus::Successful, SUCCESSFUL);
        }
    }
}
