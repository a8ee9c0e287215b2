//! What news of allocations asks of their jobs.
//!
//! Only an allocation that ended, or that was thought unreachable and is heard of again, concerns a
//! scheduler. News that the state has already taken in asks nothing.

use std::collections::BTreeMap;

use fsm::State;
use fsm::command::AllocClientUpdate;
use model::ids::NewId;
use model::{Allocation, ClientStatus, DesiredStatus, Evaluation, JobId, NamespaceName, Timestamp};

use crate::reschedule::{NO_PLACEMENT, may_reschedule};
use crate::trigger::Trigger;

/// The evaluations that go with a batch of news: one for each job at most.
pub fn evals_for_updates(
    state: &State,
    updates: &[AllocClientUpdate],
    now: Timestamp,
    new_id: NewId<'_>,
) -> Vec<Evaluation> {
    let mut wanted: BTreeMap<(NamespaceName, JobId), (Trigger, &Allocation)> = BTreeMap::new();
    for update in updates {
        let Some(alloc) = state.alloc(&update.id).filter(|alloc| alloc.node_id == update.node_id) else { continue };
        let Some(trigger) = trigger_of(state, alloc, update) else { continue };
        wanted.entry(alloc.job_key()).or_insert((trigger, alloc));
    }
    let mut evals = Vec::with_capacity(wanted.len());
    for ((namespace, job_id), (trigger, alloc)) in wanted {
        let Some(job) = state.job(&namespace, &job_id).or_else(|| state.job_of_alloc(alloc)) else { continue };
        evals.push(trigger.eval(&namespace, &job_id, job, now, &mut *new_id));
    }
    evals
}

fn trigger_of(state: &State, alloc: &Allocation, update: &AllocClientUpdate) -> Option<Trigger> {
    let unknown = alloc.client_status == ClientStatus::Unknown;
    let ended = update.client_status.is_terminal() && !alloc.client_terminal();
    let heard_again = unknown && update.client_status != ClientStatus::Unknown;
    if !(ended || heard_again) {
        return None;
    }
    let Some(job) = state.job(&alloc.namespace, &alloc.job_id) else { return Some(Trigger::JobDeregister) };
    if unknown {
        return Some(Trigger::Reconnect);
    }
    if update.client_status != ClientStatus::Failed || !alloc.followup_eval_id.is_empty() {
        return None;
    }
    let outcome = alloc.reschedule_tracker.as_ref().map_or("", |tracker| tracker.last_reschedule.as_str());
    if alloc.desired_status == DesiredStatus::Evict
        || alloc.desired_status == DesiredStatus::Stop && outcome != NO_PLACEMENT
    {
        return None;
    }
    let version = state.job_of_alloc(alloc).unwrap_or(job);
    let policy = version.lookup_group(&alloc.task_group).and_then(|group| group.rescheduling());
    let failed_at = failed_at(update);
    may_reschedule(policy, alloc.reschedule_tracker.as_ref(), failed_at).then_some(Trigger::AllocFailure)
}

/// When the last task ended, or else when the node said so.
fn failed_at(update: &AllocClientUpdate) -> Timestamp {
    let finished = update.task_states.values().filter_map(|task| task.finished_at).max();
    finished.filter(|at| !at.is_zero()).unwrap_or(Timestamp(update.modify_time))
}
