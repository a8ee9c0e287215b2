//! What somebody wants of a deployment, as the update that does it.
//!
//! Says only what follows from the state; whether the deployment still takes it (one that is over takes
//! nothing) is for the state machine, where the update is applied.

use fsm::State;
use fsm::command::DeploymentUpdate;
use model::ids::NewId;
use model::{AllocId, Deployment, DeploymentStatus, Timestamp};

use super::{View, text};

/// A wish about a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Pause,
    Resume,
    Fail,
    /// Of these groups, or of all that have canaries.
    Promote(Option<Vec<String>>),
    /// These allocations are well, those are not.
    Health {
        healthy: Vec<AllocId>,
        unhealthy: Vec<AllocId>,
    },
    Unblock,
}

/// Why a wish cannot be an update.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandError {
    #[error("deployment not found")]
    NotFound,
    #[error("deployment has no task group {0:?}")]
    NoGroup(String),
    #[error("at least one healthy or unhealthy allocation must be specified")]
    NoAllocs,
    #[error("can't unblock a deployment that is not blocked")]
    NotBlocked,
}

/// The update, and the version that it goes back to.
///
/// # Errors
/// See [`HandError`].
pub fn by_hand(
    state: &State,
    deployment: &Deployment,
    wish: Wish,
    now: Timestamp,
    new_id: NewId<'_>,
) -> Result<(DeploymentUpdate, Option<u64>), HandError> {
    let job = state.job(&deployment.namespace, &deployment.job_id).ok_or(HandError::NotFound)?;
    let view = View { state, deployment, job, now };
    let update = match wish {
        Wish::Pause => DeploymentUpdate {
            status: Some(DeploymentStatus::Paused),
            description: text::PAUSED.to_owned(),
            progress_by: view.anew(),
            ..view.blank()
        },
        Wish::Resume => DeploymentUpdate {
            status: Some(DeploymentStatus::Running),
            description: view.running().to_owned(),
            progress_by: view.anew(),
            eval: Some(view.eval(new_id)),
            ..view.blank()
        },
        Wish::Fail => view.failed(text::BY_HAND, &view.groups(), new_id),
        Wish::Promote(groups) => {
            DeploymentUpdate { promote: view.named(groups)?, eval: Some(view.eval(new_id)), ..view.blank() }
        }
        Wish::Health { healthy, unhealthy } if healthy.is_empty() && unhealthy.is_empty() => {
            return Err(HandError::NoAllocs);
        }
        Wish::Health { healthy, unhealthy } if unhealthy.is_empty() => {
            DeploymentUpdate { healthy, eval: Some(view.eval(new_id)), ..view.blank() }
        }
        Wish::Health { healthy, unhealthy } => {
            let failed = view.failed(text::UNHEALTHY, &view.groups_of(&unhealthy), new_id);
            DeploymentUpdate { healthy, unhealthy, ..failed }
        }
        Wish::Unblock if deployment.status.is_active() && deployment.status != DeploymentStatus::Blocked => {
            return Err(HandError::NotBlocked);
        }
        Wish::Unblock => DeploymentUpdate {
            status: Some(DeploymentStatus::Unblocking),
            eval: Some(view.eval(new_id)),
            ..view.blank()
        },
    };
    let reverted = update.rollback.as_ref().map(|job| job.version());
    Ok((update, reverted))
}

impl View<'_> {
    fn groups(&self) -> Vec<&str> {
        self.deployment.task_groups.keys().map(String::as_str).collect()
    }

    /// Groups that some of the allocations belong to.
    fn groups_of(&self, allocs: &[AllocId]) -> Vec<&str> {
        let of =
            |name: &&str| allocs.iter().filter_map(|id| self.state.alloc(id)).any(|alloc| alloc.task_group == **name);
        self.groups().into_iter().filter(of).collect()
    }

    fn named(&self, groups: Option<Vec<String>>) -> Result<Vec<String>, HandError> {
        let Some(groups) = groups else { return Ok(self.deployment.task_groups.keys().cloned().collect()) };
        match groups.iter().find(|name| !self.deployment.task_groups.contains_key(*name)) {
            Some(unknown) => Err(HandError::NoGroup(unknown.clone())),
            None => Ok(groups),
        }
    }

    /// Every group has its full time again.
    fn anew(&self) -> std::collections::BTreeMap<String, Timestamp> {
        let timed = self.deployment.task_groups.iter().filter(|(_, group)| group.progress_deadline.0 > 0);
        timed.map(|(name, group)| (name.clone(), self.now.plus(group.progress_deadline))).collect()
    }

    fn running(&self) -> &'static str {
        let waits = |group: &&model::deployment::DeploymentState| group.desired_canaries > 0 && !group.promoted;
        let waiting: Vec<_> = self.deployment.task_groups.values().filter(waits).collect();
        match waiting[..] {
            [] => text::RUNNING,
            _ if waiting.iter().all(|group| group.auto_promote) => text::RUNNING_AUTO,
            _ => text::RUNNING_MANUAL,
        }
    }
}
