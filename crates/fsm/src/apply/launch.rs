//! Jobs that start others: dispatched children, and the turns of periodic jobs.
//!
//! Invariants
//! * A turn is taken once: the record of the last launch grows, and a turn that is not behind it is not
//!   taken again, whoever asks how often. Two controllers cannot launch one turn twice.
//! * A dispatch that carries a token is made once while its child is there.
//! * A job that prohibits overlap is not launched while a child of it runs, unless it is forced.

use std::sync::Arc;

use model::launch::{DISPATCH, PERIODIC, PeriodicLaunch};
use model::{Evaluation, Job, JobId, NamespaceName};

use super::job;
use super::tx::Tx;
use crate::change::Change;
use crate::command::{JobDispatch, JobLaunch, Refusal, Reply};
use crate::state::JobKey;

/// A periodic job's clock begins: what fell due before it was there is not made up for.
pub(super) fn begin(tx: &mut Tx, key: &JobKey) {
    if tx.state.periodic_launch(&key.0, &key.1).is_none() {
        record(tx, key, tx.now);
    }
}

fn record(tx: &mut Tx, key: &JobKey, launch: i64) {
    let old = tx.state.periodic_launch(&key.0, &key.1);
    let row = PeriodicLaunch {
        namespace: key.0.clone(),
        id: key.1.clone(),
        launch: old.map_or(launch, |old| old.launch.max(launch)),
        create_index: old.map_or(tx.index, |old| old.create_index),
        modify_index: tx.index,
    };
    tx.put(Change::PeriodicLaunch(Arc::new(row)));
}

pub(super) fn dispatch(tx: &mut Tx, command: &JobDispatch) -> Result<Reply, Refusal> {
    let child = &command.child;
    let (namespace, id) = (child.namespace(), &command.parent);
    let parent = tx.state.job(&namespace, id).cloned();
    let parent = parent.ok_or_else(|| Refusal::NotFound { what: "parameterized job".to_owned() })?;
    if !parent.is_parameterized() {
        return Err(Refusal::Invalid(format!("Specified job \"{id}\" is not a parameterized job")));
    }
    if parent.is_stopped() {
        return Err(Refusal::Invalid(format!("Specified job \"{id}\" is stopped")));
    }
    if let Some(there) = dispatched_with(tx, &namespace, id, child) {
        let (job_index, eval) = (there.incarnation(), first_eval(tx, &there));
        let eval_index = eval.as_ref().map(|eval| eval.create_index);
        return Ok(Reply::Child { job_id: there.id(), job_index, eval_id: eval.map(|eval| eval.id), eval_index });
    }
    insert_child(tx, &parent, child, DISPATCH, command.eval.as_ref())
}

/// The child that an earlier dispatch with the same token made.
fn dispatched_with(tx: &Tx, namespace: &NamespaceName, parent: &JobId, child: &Job) -> Option<Arc<Job>> {
    let token = child.dispatch_idempotency_token.as_deref().filter(|token| !token.is_empty())?;
    let same = |job: &&Arc<Job>| job.dispatched && job.dispatch_idempotency_token.as_deref() == Some(token);
    tx.state.children_of_job(namespace, parent).find(same).cloned()
}

fn first_eval(tx: &Tx, job: &Job) -> Option<Evaluation> {
    let (namespace, id) = job.key();
    let evals = tx.state.evals_of_job(&namespace, &id);
    evals.min_by_key(|eval| eval.create_index).map(|eval| Evaluation::clone(eval))
}

fn insert_child(
    tx: &mut Tx,
    parent: &Job,
    child: &Job,
    infix: &str,
    eval: Option<&Evaluation>,
) -> Result<Reply, Refusal> {
    let key = child.key();
    let named = key.1.as_str().strip_prefix(parent.id().as_str()).is_some_and(|rest| rest.starts_with(infix));
    if !named || key.0 != parent.namespace() || child.parent_id.as_deref() != Some(parent.id().as_str()) {
        return Err(Refusal::Invalid(format!("\"{}\" is no child of \"{}\"", key.1, parent.id())));
    }
    job::check_place(tx, child, &key.0, &key.1)?;
    let job_id = key.1.clone();
    if let Some(there) = tx.state.job(&key.0, &key.1).cloned() {
        let eval = first_eval(tx, &there);
        let eval_index = eval.as_ref().map(|eval| eval.create_index);
        return Ok(Reply::Child {
            job_id,
            job_index: there.incarnation(),
            eval_id: eval.map(|eval| eval.id),
            eval_index,
        });
    }
    let eval_id = job::new_eval(tx, eval, &key, tx.index)?;
    if let Some(job) = job::next_version(tx, child.clone(), None) {
        job::insert_version(tx, job, None, None);
    }
    let eval_index = eval_id.as_ref().map(|_| tx.index);
    Ok(Reply::Child { job_id, job_index: tx.index, eval_id, eval_index })
}

pub(super) fn launch(tx: &mut Tx, command: &JobLaunch) -> Result<Reply, Refusal> {
    let key = (command.namespace.clone(), command.job_id.clone());
    let parent = tx.state.job(&key.0, &key.1).cloned();
    let parent = parent.ok_or_else(|| Refusal::NotFound { what: format!("job \"{}\"", key.1) })?;
    if !parent.is_periodic_active() {
        return Err(Refusal::Conflict(format!("can't launch \"{}\": it is not periodic, or its clock stands", key.1)));
    }
    let last = tx.state.periodic_launch(&key.0, &key.1).map_or(0, |row| row.launch);
    if !command.forced && command.at <= last {
        return Err(Refusal::Conflict(format!("\"{}\" was launched at {last} or later already", key.1)));
    }
    let prohibits = parent.periodic.as_ref().is_some_and(|config| config.prohibit_overlap == Some(true));
    if prohibits && !command.forced && command.child.is_some() && tx.state.is_child_live(&key.0, &key.1) {
        return Err(Refusal::Conflict(format!("a child of \"{}\" still runs", key.1)));
    }
    let reply = match &command.child {
        Some(child) => insert_child(tx, &parent, child, PERIODIC, command.eval.as_ref())?,
        None => Reply::Done,
    };
    record(tx, &key, command.at);
    Ok(reply)
}
