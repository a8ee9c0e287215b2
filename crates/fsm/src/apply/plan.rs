//! Plans: what passes, what is dropped, what is refused. One command carries several, applied in order, so
//! that each sees what the ones before it placed.
//!
//! ```text
//!   plan ─► well formed? ─► evaluation open? ─► job fence ─► job runs? ─► parts (plan_verdict) ─► write
//!             Malformed       EvalFinished     StaleSnapshot  JobStopped    dropped, reported
//! ```
//!
//! Invariants
//! * A placement is written only if its node's fence is the one at which it was verified, so nobody has
//!   taken the node's room since. Stops and in-place updates take no room and need no fence.
//! * A part moves its node's fence by as many placements as it has, whether they are made or dropped. So the
//!   applier can state the fences of plans behind others that are still on their way: whatever becomes of
//!   those, what it counted on is at least what there is. Without that one dropped part would void all that
//!   were checked behind it, and those the ones behind them, for as long as there is no pause. Parts that
//!   the applier itself refused were not counted on and move nothing.
//! * Of two plans made from the same snapshot of a job, at most one is applied.
//! * A refused plan changes nothing, with one exception: stops of a job that was stopped pass.

use std::collections::BTreeSet;

use model::{AllocId, EvalStatus, Evaluation, Index, Job, NodeId};

use super::plan_verdict::{Dropped, verdict};
use super::tx::{Tx, valid_id};
use super::{eval, plan_write};
use crate::change::Change;
use crate::command::{Refusal, Reply};
use crate::plan::{Plan, PlanRefusal, PlanResult, TRIGGER_PREEMPTION};

/// Plans one command may carry.
const PLANS_MAX: usize = 10_000;
/// Rows one plan may write.
const ROWS_MAX: usize = 100_000;

pub(super) fn apply(tx: &mut Tx, plans: &[Plan]) -> Result<Reply, Refusal> {
    if plans.len() > PLANS_MAX {
        return Err(Refusal::Invalid(format!("a command carries at most {PLANS_MAX} plans")));
    }
    let results = plans.iter().map(|plan| one(tx, plan)).collect::<Result<_, _>>()?;
    Ok(Reply::Plans { results })
}

fn one(tx: &mut Tx, plan: &Plan) -> Result<PlanResult, Refusal> {
    let result = decide(tx, plan)?;
    move_fences(tx, plan, &result);
    Ok(result)
}

/// Placements that were counted on and dropped move the fence as if they had been made.
fn move_fences(tx: &mut Tx, plan: &Plan, result: &PlanResult) {
    let counted_on = !plan.all_at_once || plan.parts.values().all(|part| part.refused.is_none());
    let dropped = |node: &NodeId| result.refused.is_some() || result.dropped.contains_key(node);
    for (node, part) in plan.parts.iter().filter(|(node, part)| part.refused.is_none() && dropped(node)) {
        let by = part.place.len() as u64;
        if counted_on && by > 0 && tx.state.node(node).is_some() {
            tx.put(Change::NodeFence { id: node.clone(), by });
        }
    }
}

fn decide(tx: &mut Tx, plan: &Plan) -> Result<PlanResult, Refusal> {
    match check(tx, plan) {
        Ok(()) => {}
        Err(PlanRefusal::JobStopped) if !plan.all_at_once => {
            let before = tx.changes_len();
            plan_write::stops(tx, plan, &Dropped::placements(plan));
            let index = if tx.changes_len() > before { tx.index } else { Index(0) };
            return Ok(PlanResult { index, ..refused(tx, PlanRefusal::JobStopped) });
        }
        Err(refusal) => return Ok(refused(tx, refusal)),
    }
    let dropped = verdict(tx, plan);
    if plan.all_at_once && !dropped.reasons.is_empty() {
        let refused = refused(tx, PlanRefusal::NotAllAtOnce);
        return Ok(PlanResult { dropped: dropped.reasons, ..refused });
    }
    let placed = plan_write::all(tx, plan, &dropped);
    if !plan.parts.is_empty() || plan.deployment.is_some() || !plan.deployment_updates.is_empty() {
        move_fence(tx, plan);
    }
    let full = dropped.reasons.is_empty();
    finish_eval(tx, plan, full)?;
    let refresh_index = if full { Index(0) } else { tx.index };
    Ok(PlanResult { index: tx.index, dropped: dropped.reasons, placed, refresh_index, ..PlanResult::default() })
}

fn refused(tx: &Tx, refusal: PlanRefusal) -> PlanResult {
    PlanResult { refused: Some(refusal), refresh_index: tx.index, ..PlanResult::default() }
}

/// What refuses the whole plan.
fn check(tx: &Tx, plan: &Plan) -> Result<(), PlanRefusal> {
    let rows = plan.parts.values().map(|p| p.place.len() + p.update.len() + p.stop.len() + p.preempt.len());
    if rows.sum::<usize>() > ROWS_MAX || plan.create_evals.len() > ROWS_MAX {
        return Err(PlanRefusal::TooLarge);
    }
    let eval = tx.state.eval(&plan.eval_id).ok_or(PlanRefusal::EvalNotFound)?;
    if eval.status.is_terminal() {
        return Err(PlanRefusal::EvalFinished);
    }
    if !is_well_formed(tx, plan, eval) {
        return Err(PlanRefusal::Malformed);
    }
    let job = tx.state.job(&plan.namespace, &plan.job_id).filter(|job| job.incarnation() == plan.job_incarnation);
    if tx.state.job_fence(&plan.namespace, &plan.job_id, plan.job_incarnation) > plan.snapshot_index {
        return Err(PlanRefusal::StaleSnapshot);
    }
    let starts = plan.parts.values().any(|part| !part.place.is_empty() || !part.update.is_empty());
    if !starts && plan.deployment.is_none() {
        return Ok(());
    }
    match job {
        Some(job) if !job.is_stopped() => check_versions(tx, plan, job),
        _ => Err(PlanRefusal::JobStopped),
    }
}

/// Every row it would write can be written, and belongs where it stands.
fn is_well_formed(tx: &Tx, plan: &Plan, eval: &Evaluation) -> bool {
    if (&eval.namespace, &eval.job_id) != (&plan.namespace, &plan.job_id) {
        return false;
    }
    let mut seen: BTreeSet<&AllocId> = BTreeSet::new();
    for (node, part) in &plan.parts {
        for row in &part.place {
            let at_home = row.node_id.is_empty() || row.node_id == *node;
            let of_job = row.job_incarnation.is_none_or(|incarnation| incarnation == plan.job_incarnation);
            let new = seen.insert(&row.id) && tx.state.alloc(&row.id).is_none();
            if !(at_home && of_job && new && valid_id(row.id.as_str(), "an allocation").is_ok()) {
                return false;
            }
        }
    }
    let deployment = plan.deployment.as_ref();
    let sound = |eval: &Evaluation| valid_id(eval.id.as_str(), "an evaluation").is_ok() && !eval.job_id.is_empty();
    deployment.is_none_or(|row| valid_id(row.id.as_str(), "a deployment").is_ok())
        && plan.eval.as_ref().is_none_or(|eval| eval.id == plan.eval_id)
        && plan.create_evals.iter().all(sound)
}

/// A version that was forgotten since the snapshot can be run by nobody.
fn check_versions(tx: &Tx, plan: &Plan, job: &Job) -> Result<(), PlanRefusal> {
    let rows = plan.parts.values().flat_map(|part| part.place.iter().chain(&part.update));
    let mut versions: BTreeSet<u64> = rows.map(|row| row.job_version.unwrap_or(plan.job_version)).collect();
    versions.remove(&job.version());
    let kept =
        |version: &u64| tx.state.job_version(&plan.namespace, &plan.job_id, plan.job_incarnation, *version).is_some();
    if versions.iter().all(kept) { Ok(()) } else { Err(PlanRefusal::StaleSnapshot) }
}

/// From now on a plan for this job must know this one.
fn move_fence(tx: &mut Tx, plan: &Plan) {
    let job = tx.state.job(&plan.namespace, &plan.job_id);
    if job.is_some_and(|job| job.incarnation() == plan.job_incarnation) {
        let (namespace, id) = (plan.namespace.clone(), plan.job_id.clone());
        tx.put(Change::JobFence { namespace, id, incarnation: plan.job_incarnation, index: tx.index });
    }
}

/// The evaluation ends with the plan only when nothing was dropped; else its scheduler tries again. Jobs
/// that lost allocations to it are looked at in any case.
fn finish_eval(tx: &mut Tx, plan: &Plan, full: bool) -> Result<(), Refusal> {
    if full && let Some(eval) = &plan.eval {
        eval::replace(tx, eval);
    }
    for eval in plan.create_evals.iter().filter(|eval| full || eval.triggered_by == TRIGGER_PREEMPTION) {
        let mut eval = eval.clone();
        if eval.status == EvalStatus::Blocked && eval.snapshot_index.get() == 0 {
            eval.snapshot_index = plan.snapshot_index;
        }
        eval::insert(tx, eval)?;
    }
    Ok(())
}
