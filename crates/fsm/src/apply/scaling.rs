//! The count of a group, set by somebody who says why.
//!
//! One command does what belongs together: the new version, its evaluation, the event. An event without a
//! count is only noted.

use std::sync::Arc;

use model::scaling::{JobScaling, ScalingEvent};
use model::{Job, JobKind};

use super::job;
use super::tx::Tx;
use crate::change::Change;
use crate::command::{JobScale, Refusal, Reply};
use crate::state::JobKey;

pub(super) fn scale(tx: &mut Tx, command: &JobScale) -> Result<Reply, Refusal> {
    let key = (command.namespace.clone(), command.job_id.clone());
    let old = tx.state.job(&key.0, &key.1).cloned();
    let old = old.ok_or_else(|| Refusal::NotFound { what: format!("job \"{}\"", key.1) })?;
    job::enforce_index(command.enforce_index, Some(&old))?;
    let name = &command.group;
    let Some(group) = old.lookup_group(name) else {
        let text = format!("task group \"{name}\" specified for scaling does not exist in job");
        return Err(Refusal::Invalid(text));
    };
    let previous = group.count();
    let mut eval_id = None;
    if let Some(count) = command.count {
        check_count(tx, &old, name, count)?;
        let mut job = Job::clone(&old);
        job.task_groups.iter_mut().filter(|group| group.name() == name).for_each(|group| group.count = Some(count));
        job.submit_time = None;
        let version = job::next_version(tx, job, Some(&old));
        let index = if version.is_some() { tx.index } else { old.job_modify_index() };
        eval_id = job::new_eval(tx, command.eval.as_ref(), &key, index)?;
        if let Some(job) = version {
            job::insert_version(tx, job, Some(&old), None);
        }
    }
    let event = ScalingEvent {
        time: tx.now,
        count: command.count,
        previous_count: previous,
        eval_id: eval_id.clone(),
        create_index: tx.index,
        ..command.event.clone()
    };
    note(tx, &key, name, event);
    Ok(job::reply(tx, &key, eval_id))
}

/// Whether the group may have this count now. Clients show these texts.
fn check_count(tx: &Tx, job: &Job, name: &str, count: i64) -> Result<(), Refusal> {
    let deploying = tx.state.latest_deployment(&job.namespace(), &job.id());
    let group = job.lookup_group(name);
    let policy = group.and_then(|group| group.scaling.as_ref());
    let (min, max) = (policy.and_then(|policy| policy.min), policy.and_then(|policy| policy.max));
    let text = if count < 0 {
        "scaling action count can't be negative".to_owned()
    } else if deploying.is_some_and(|row| row.status.is_active() && row.job_create_index == job.incarnation()) {
        "job scaling blocked due to active deployment".to_owned()
    } else if job.kind() == Some(JobKind::System) && count > 1 {
        format!("group {name:?} of a system job is scaled to 0 or 1, not {count}")
    } else if let Some(max) = max.filter(|max| count > *max) {
        format!("group count was greater than scaling policy maximum: {count} > {max}")
    } else if let Some(min) = min.filter(|min| count < *min) {
        format!("group count was less than scaling policy minimum: {count} < {min}")
    } else {
        return Ok(());
    };
    Err(Refusal::Invalid(text))
}

fn note(tx: &mut Tx, key: &JobKey, group: &str, event: ScalingEvent) {
    let blank = || JobScaling { namespace: key.0.clone(), job_id: key.1.clone(), ..JobScaling::default() };
    let mut row = tx.state.job_scaling(&key.0, &key.1).map_or_else(blank, |row| JobScaling::clone(row));
    row.add(group, event);
    row.modify_index = tx.index;
    tx.put(Change::JobScaling(Arc::new(row)));
}
