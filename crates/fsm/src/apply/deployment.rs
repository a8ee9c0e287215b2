//! Deployments: their counters, and the steps the controller decides.
//!
//! Counters belong to the state machine: placed grows where allocations are placed, healthy and unhealthy
//! where verdicts arrive. Nobody writes them.

use model::alloc::AllocDeploymentStatus;
use model::deployment::DeploymentState;
use model::{AllocId, Allocation, Deployment, DeploymentId, DeploymentStatus, Job, Timestamp};

use super::tx::Tx;
use super::{eval, job};
use crate::command::{DeploymentUpdate, Refusal, Reply};

pub(super) const RUNNING: &str = "Deployment is running";

pub(super) fn update(tx: &mut Tx, update: &DeploymentUpdate) -> Result<Reply, Refusal> {
    let row = tx.state.deployment(&update.id).cloned();
    let row = row.ok_or_else(|| Refusal::NotFound { what: "deployment".to_owned() })?;
    if !row.status.is_active()
        && let Some(verb) = verb(update)
    {
        return Err(Refusal::Conflict(format!("can't {verb} terminal deployment")));
    }
    judge(tx, update)?;
    promote(tx, update)?;
    if let Some(row) = tx.deployment(&update.id) {
        for (group, by) in &update.progress_by {
            if let Some(group) = row.task_groups.get_mut(group) {
                group.require_progress_by = *by;
            }
        }
        if let Some(status) = update.status {
            row.status = status;
        }
        if !update.description.is_empty() {
            row.status_description.clone_from(&update.description);
        }
    }
    if update.mark_stable || update.status == Some(DeploymentStatus::Successful) {
        let job = (&row.namespace, &row.job_id, row.job_create_index);
        job::mark_stable(tx, job.0, job.1, job.2, row.job_version, true);
    }
    let rollback = update.rollback.as_deref().and_then(|job| revert(tx, &row, job));
    if let Some(wanted) = &update.eval {
        let mut eval = wanted.clone();
        if rollback.is_some() {
            eval.job_modify_index = tx.index;
        }
        eval::insert(tx, eval)?;
    }
    if let Some((version, old)) = rollback {
        job::insert_version(tx, version, Some(&old), None);
    }
    Ok(Reply::Done)
}

/// What the update asks for, in the words clients know; `None` when it asks nothing of the deployment.
fn verb(update: &DeploymentUpdate) -> Option<&'static str> {
    if !update.promote.is_empty() {
        return Some("promote");
    }
    if !update.healthy.is_empty() || !update.unhealthy.is_empty() {
        return Some("set health of allocations for a");
    }
    match update.status? {
        DeploymentStatus::Failed => Some("fail"),
        DeploymentStatus::Paused => Some("pause"),
        DeploymentStatus::Running => Some("resume"),
        DeploymentStatus::Unblocking => Some("unblock"),
        _ => Some("change"),
    }
}

/// The job as the version that goes back, with the one it follows. Not when somebody registered another
/// version meanwhile, stopped the job, or when nothing would change.
fn revert(tx: &Tx, row: &Deployment, to: &Job) -> Option<(Job, Job)> {
    let present = tx.state.job(&row.namespace, &row.job_id)?;
    let is_deployed = present.incarnation() == row.job_create_index && present.version() == row.job_version;
    if !is_deployed || present.is_stopped() || to.key() != present.key() {
        return None;
    }
    let mut to = to.clone();
    to.submit_time = None;
    Some((job::next_version(tx, to, Some(present))?, Job::clone(present)))
}

/// Verdicts given by hand.
fn judge(tx: &mut Tx, update: &DeploymentUpdate) -> Result<(), Refusal> {
    let verdicts = update.healthy.iter().map(|id| (id, true)).chain(update.unhealthy.iter().map(|id| (id, false)));
    for (id, healthy) in verdicts {
        let old = tx.state.alloc(id).filter(|row| row.deployment_id == update.id).cloned();
        let Some(old) = old else {
            let text = format!("allocation {id} is not part of deployment {}", update.id);
            return Err(Refusal::Invalid(text));
        };
        if old.is_healthy() == Some(healthy) {
            continue;
        }
        let mut new = Allocation::clone(&old);
        new.deployment_status = Some(AllocDeploymentStatus {
            healthy: Some(healthy),
            timestamp: tx.moment(),
            canary: old.is_canary(),
            modify_index: tx.index,
        });
        new.modify_index = tx.index;
        new.modify_time = tx.now;
        count_health(tx, &old, &new);
        tx.put_alloc(new);
    }
    Ok(())
}

/// Canaries become ordinary allocations, group by group; refused when one of the groups is short of
/// healthy ones.
fn promote(tx: &mut Tx, update: &DeploymentUpdate) -> Result<(), Refusal> {
    if update.promote.is_empty() {
        return Ok(());
    }
    let Some(row) = tx.state.deployment(&update.id).cloned() else { return Ok(()) };
    let mut short = Vec::new();
    let mut ready: Vec<(String, Vec<AllocId>)> = Vec::new();
    for name in &update.promote {
        let Some(group) = row.task_groups.get(name) else {
            return Err(Refusal::Invalid(format!("deployment has no task group \"{name}\"")));
        };
        if group.desired_canaries == 0 || group.promoted {
            continue;
        }
        let canaries = group.placed_canaries.iter().filter_map(|id| tx.state.alloc(id));
        let live: Vec<_> = canaries.filter(|row| !row.is_terminal() && row.is_healthy() == Some(true)).collect();
        let healthy = i64::try_from(live.len()).unwrap_or(i64::MAX);
        if healthy < group.desired_canaries {
            short.push(format!("Task group \"{name}\" has {healthy}/{} healthy allocations", group.desired_canaries));
        }
        ready.push((name.clone(), group.placed_canaries.clone()));
    }
    if !short.is_empty() {
        return Err(Refusal::Conflict(short.join("\n")));
    }
    let moment = tx.moment();
    for (name, canaries) in ready {
        if let Some(group) = group_of(tx, &update.id, &name) {
            group.promoted = true;
            if group.progress_deadline.0 > 0 {
                group.require_progress_by = moment.plus(group.progress_deadline);
            }
        }
        for id in canaries {
            unmark_canary(tx, &id);
        }
    }
    if let Some(row) = tx.deployment(&update.id) {
        let waits = row.task_groups.values().any(|group| group.desired_canaries > 0 && !group.promoted);
        if !waits && row.status == DeploymentStatus::Running {
            RUNNING.clone_into(&mut row.status_description);
        }
    }
    Ok(())
}

fn unmark_canary(tx: &mut Tx, id: &AllocId) {
    let Some(old) = tx.state.alloc(id).filter(|row| row.is_canary()) else { return };
    let mut new = Allocation::clone(old);
    if let Some(status) = &mut new.deployment_status {
        status.canary = false;
        status.modify_index = tx.index;
    }
    new.modify_index = tx.index;
    new.alloc_modify_index = tx.index;
    new.modify_time = tx.now;
    tx.put_alloc(new);
}

fn group_of<'a>(tx: &'a mut Tx, id: &DeploymentId, group: &str) -> Option<&'a mut DeploymentState> {
    tx.deployment(id)?.task_groups.get_mut(group)
}

/// A verdict on an allocation moves its deployment's counters, while the deployment is active. Each
/// healthy one gives the group its full time again.
pub(super) fn count_health(tx: &mut Tx, old: &Allocation, new: &Allocation) {
    let Some(healthy) = new.is_healthy().filter(|healthy| old.is_healthy() != Some(*healthy)) else { return };
    let before = old.is_healthy().filter(|_| old.deployment_id == new.deployment_id);
    let said = new.deployment_status.as_ref().map_or(Timestamp::ZERO, |status| status.timestamp);
    let Some(id) = new.deployment_id.non_empty() else { return };
    if tx.deployment(id).is_none_or(|row| !row.status.is_active()) {
        return;
    }
    let Some(group) = group_of(tx, id, &new.task_group) else { return };
    match before {
        Some(true) => group.healthy_allocs -= 1,
        Some(false) => group.unhealthy_allocs -= 1,
        None => {}
    }
    if healthy {
        group.healthy_allocs += 1;
        if group.progress_deadline.0 > 0 {
            group.require_progress_by = group.require_progress_by.max(said.plus(group.progress_deadline));
        }
    } else {
        group.unhealthy_allocs += 1;
    }
}

/// An allocation belongs to the deployment from now on.
pub(super) fn count_placed(tx: &mut Tx, row: &Allocation, now: i64) {
    let Some(id) = row.deployment_id.non_empty() else { return };
    if tx.deployment(id).is_none_or(|deployment| !deployment.status.is_active()) {
        return;
    }
    let Some(group) = group_of(tx, id, &row.task_group) else { return };
    group.placed_allocs += 1;
    if group.require_progress_by.is_zero() && group.progress_deadline.0 > 0 {
        group.require_progress_by = Timestamp(now).plus(group.progress_deadline);
    }
    if row.is_canary() && !group.placed_canaries.contains(&row.id) {
        group.placed_canaries.push(row.id.clone());
    }
}
