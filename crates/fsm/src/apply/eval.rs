//! Evaluations: their rows, and what one's end means to the others of its job.
//!
//! ```text
//!   pending ──► complete | failed | canceled        (terminal: never changes again)
//!      ▲  │
//!      │  ▼
//!   blocked ──► canceled (a newer one blocks, or one completed with everything placed)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{EvalId, EvalStatus, Evaluation};

use super::tx::{Tx, valid_id};
use crate::change::Change;
use crate::command::{EvalUpdate, Refusal, Reply};

/// Evaluations one command may carry.
const EVALS_MAX: usize = 50_000;

pub(super) fn create(tx: &mut Tx, evals: &[Evaluation]) -> Result<Reply, Refusal> {
    insert_all(tx, evals)?;
    Ok(Reply::Done)
}

pub(super) fn insert_all(tx: &mut Tx, evals: &[Evaluation]) -> Result<(), Refusal> {
    if evals.len() > EVALS_MAX {
        return Err(Refusal::Invalid(format!("a command carries at most {EVALS_MAX} evaluations")));
    }
    evals.iter().try_for_each(|eval| insert(tx, eval.clone()))
}

/// Adds a new evaluation. One that is there already stays as it is: its maker asked twice.
pub(super) fn insert(tx: &mut Tx, mut eval: Evaluation) -> Result<(), Refusal> {
    valid_id(eval.id.as_str(), "an evaluation")?;
    if eval.job_id.is_empty() {
        return Err(Refusal::Invalid(format!("evaluation {} names no job", eval.id)));
    }
    if tx.state.eval(&eval.id).is_some() {
        return Ok(());
    }
    eval.create_index = tx.index;
    if eval.create_time == 0 {
        eval.create_time = tx.now;
    }
    eval.modify_time = eval.modify_time.max(eval.create_time);
    put(tx, eval);
    Ok(())
}

pub(super) fn update(tx: &mut Tx, evals: &[EvalUpdate], create: &[Evaluation]) -> Result<Reply, Refusal> {
    if evals.len() > EVALS_MAX {
        return Err(Refusal::Invalid(format!("a command carries at most {EVALS_MAX} evaluations")));
    }
    // A follow-up of an update that came too late is not wanted either.
    let mut late: BTreeSet<&EvalId> = BTreeSet::new();
    for EvalUpdate { eval } in evals {
        if !replace(tx, eval) {
            late.insert(&eval.id);
        }
    }
    for eval in create.iter().filter(|eval| !late.contains(&eval.previous_eval)) {
        insert(tx, eval.clone())?;
    }
    Ok(Reply::Done)
}

pub(super) fn finish(tx: &mut Tx, evals: &[EvalUpdate], create: &[Evaluation]) -> Result<Reply, Refusal> {
    if let Some(open) = evals.iter().find(|update| !update.status().is_terminal()) {
        return Err(Refusal::Invalid(format!("evaluation {} would not be finished", open.eval.id)));
    }
    // Of a job that is gone nothing follows.
    let is_there = |eval: &&Evaluation| tx.state.job(&eval.namespace, &eval.job_id).is_some();
    let create: Vec<Evaluation> = create.iter().filter(is_there).cloned().collect();
    update(tx, evals, &create)
}

pub(super) fn unblock(tx: &mut Tx, evals: &[EvalId], reason: &str) -> Result<Reply, Refusal> {
    for id in evals {
        let blocked = tx.state.eval(id).filter(|eval| eval.status == EvalStatus::Blocked).cloned();
        if let Some(eval) = blocked {
            set_status(tx, &eval, EvalStatus::Pending, reason);
        }
    }
    Ok(Reply::Done)
}

/// Writes a new state of an evaluation over the old one. False, and no change, when the row is gone or
/// finished.
pub(super) fn replace(tx: &mut Tx, update: &Evaluation) -> bool {
    let Some(old) = tx.state.eval(&update.id).filter(|old| !old.status.is_terminal()).cloned() else { return false };
    let eval = Evaluation {
        namespace: old.namespace.clone(),
        job_id: old.job_id.clone(),
        kind: old.kind.clone(),
        create_index: old.create_index,
        create_time: old.create_time,
        modify_time: update.modify_time.max(old.create_time.saturating_add(1)),
        ..update.clone()
    };
    put(tx, eval);
    true
}

pub(super) fn set_status(tx: &mut Tx, old: &Evaluation, status: EvalStatus, description: &str) {
    let eval = Evaluation {
        status,
        status_description: description.to_owned(),
        modify_time: tx.now.max(old.create_time.saturating_add(1)),
        ..old.clone()
    };
    put(tx, eval);
}

fn put(tx: &mut Tx, mut eval: Evaluation) {
    eval.modify_index = tx.index;
    let key = (eval.namespace.clone(), eval.job_id.clone());
    count_queued(tx, &eval);
    tx.touch(&key);
    let eval = Arc::new(eval);
    tx.put(Change::Eval(Arc::clone(&eval)));
    match eval.status {
        EvalStatus::Complete if eval.failed_tg_allocs.is_empty() => {
            let why = format!("evaluation {} placed everything", eval.id);
            cancel_blocked(tx, &eval, |_| true, &why);
        }
        EvalStatus::Blocked => keep_one_blocked(tx, &eval),
        _ => {}
    }
}

/// How many allocations each group still waits for. Groups the summary does not know are left out.
fn count_queued(tx: &mut Tx, eval: &Evaluation) {
    if eval.queued_allocations.is_empty() {
        return;
    }
    let key = (eval.namespace.clone(), eval.job_id.clone());
    let Some(summary) = tx.summary(&key) else { return };
    for (group, queued) in &eval.queued_allocations {
        if let Some(group) = summary.summary.get_mut(group) {
            group.queued = (*queued).max(0);
        }
    }
}

/// Of two blocked evaluations of a job (for one node, where they name one) the later look at the cluster
/// is kept.
fn keep_one_blocked(tx: &mut Tx, new: &Evaluation) {
    let seen = |eval: &Evaluation| eval.create_index.max(eval.snapshot_index);
    let newer = tx
        .state
        .open_evals_of_job(&new.namespace, &new.job_id)
        .find(|other| is_rival(new, other) && seen(other) > seen(new))
        .map(|other| other.id.clone());
    match newer {
        Some(newer) => {
            let why = format!("evaluation {newer} is blocked for the same job");
            set_status(tx, new, EvalStatus::Cancelled, &why);
        }
        None => {
            let why = format!("evaluation {} is blocked for the same job", new.id);
            cancel_blocked(tx, new, |other| is_rival(new, other), &why);
        }
    }
}

fn is_rival(new: &Evaluation, other: &Evaluation) -> bool {
    other.status == EvalStatus::Blocked && other.id != new.id && other.node_id == new.node_id
}

fn cancel_blocked(tx: &mut Tx, of: &Evaluation, which: impl Fn(&Evaluation) -> bool, why: &str) {
    let open = tx.state.open_evals_of_job(&of.namespace, &of.job_id);
    let blocked = open.filter(|eval| eval.status == EvalStatus::Blocked && which(eval));
    for eval in blocked.cloned().collect::<Vec<_>>() {
        set_status(tx, &eval, EvalStatus::Cancelled, why);
    }
}
