//! Writing into a plan what needs no node to be found: stops and notes.

use fsm::Plan;
use fsm::plan::PlanStop;
use model::{ClientStatus, DesiredStatus, EvalId};

use crate::read;
use crate::reconcile::{Changes, Stop};
use crate::work::Work;

pub(super) fn put_stop(plan: &mut Plan, stop: &Stop<'_>) {
    plan.parts.entry(stop.alloc.node_id.clone()).or_default().stop.push(PlanStop {
        id: stop.alloc.id.clone(),
        desired_status: DesiredStatus::Stop,
        description: stop.description.to_owned(),
        client_status: stop.client_status,
        followup_eval_id: stop.followup.clone(),
    });
}

/// What was asked to stop on a node that is gone will never say that it did.
pub(super) fn repair_lost(work: &Work<'_>, changes: &Changes<'_>, plan: &mut Plan) {
    for alloc in work.allocs.iter().filter(|a| read::stuck_on_node(a)) {
        let away = work.state.node(&alloc.node_id).is_none_or(|node| read::is_unreachable(node));
        if away && !changes.stop.iter().any(|s| s.alloc.id == alloc.id) {
            put_stop(plan, &Stop::lost(alloc));
        }
    }
}

/// An allocation takes note of the evaluation that will look at it again: a stop that stops nothing, so
/// that it passes whatever became of the node.
pub(super) fn note_followups(changes: &Changes<'_>, plan: &mut Plan) {
    for (alloc, followup) in &changes.followup_of {
        let note = PlanStop {
            id: alloc.id.clone(),
            desired_status: alloc.desired_status,
            followup_eval_id: EvalId::clone(followup),
            ..PlanStop::default()
        };
        plan.parts.entry(alloc.node_id.clone()).or_default().stop.push(note);
    }
}

/// Allocations go out of reach, or are back: stops that stop nothing.
pub(super) fn note_reach(changes: &Changes<'_>, plan: &mut Plan) {
    let gone = changes.unknown.iter().map(|(alloc, followup)| PlanStop {
        id: alloc.id.clone(),
        desired_status: alloc.desired_status,
        client_status: Some(ClientStatus::Unknown),
        followup_eval_id: followup.clone(),
        ..PlanStop::default()
    });
    let back = changes.reconnected.iter().map(|alloc| PlanStop {
        id: alloc.id.clone(),
        desired_status: alloc.desired_status,
        client_status: Some(ClientStatus::Running),
        ..PlanStop::default()
    });
    let of = changes.unknown.iter().map(|(alloc, _)| alloc).chain(&changes.reconnected);
    for (alloc, note) in of.zip(gone.chain(back)) {
        plan.parts.entry(alloc.node_id.clone()).or_default().stop.push(note);
    }
}
