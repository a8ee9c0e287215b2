//! A plan with more placements than one command may carry is shortened: its first placements now, the rest
//! when the evaluation is looked at again.
//!
//! Invariants
//! * A stop whose replacement is left for later is left for later too, unless it only states what is lost.
//! * A shortened plan does not finish its evaluation, and creates none but those of the jobs that lose allocations to
//!   it: these are lost with the plan, and nobody would look at their jobs again.
//! * All or nothing stays whole.

use std::collections::HashSet;

use fsm::Plan;
use fsm::plan::TRIGGER_PREEMPTION;
use model::AllocId;

/// New and changed allocations of a plan.
pub fn placements(plan: &Plan) -> usize {
    plan.parts.values().map(|part| part.place.len() + part.update.len()).sum()
}

/// Leaves out what a placement or an update does not change. Rows are here in brief (`fsm::Change::brief`): what is
/// missing in those that stay must not be written over what is there.
pub fn say_only_what_changes(plan: &mut Plan) {
    for row in plan.parts.values_mut().flat_map(|part| &mut part.update) {
        row.metrics = None;
    }
    plan.lean();
}

/// True when something was left for later.
pub fn shorten(plan: &mut Plan, max: usize) -> bool {
    if plan.all_at_once || placements(plan) <= max {
        return false;
    }
    let mut room = max;
    let mut waiting: HashSet<AllocId> = HashSet::new();
    for part in plan.parts.values_mut() {
        let place = part.place.len().min(room);
        room -= place;
        let later = part.place.split_off(place);
        waiting.extend(later.into_iter().filter_map(|alloc| alloc.previous_allocation.non_empty().cloned()));
        part.update.truncate(room);
        room -= part.update.len();
        if part.place.is_empty() {
            part.preempt.clear();
        } else {
            part.preempt.retain(|preempted| part.place.iter().any(|alloc| alloc.id == preempted.by));
        }
    }
    for part in plan.parts.values_mut() {
        part.stop.retain(|stop| stop.client_status.is_some() || !waiting.contains(&stop.id));
    }
    plan.parts.retain(|_, part| {
        let empty = part.place.is_empty() && part.update.is_empty() && part.stop.is_empty() && part.preempt.is_empty();
        !empty
    });
    plan.eval = None;
    let preempts = plan.parts.values().any(|part| !part.preempt.is_empty());
    plan.create_evals.retain(|eval| preempts && eval.triggered_by == TRIGGER_PREEMPTION);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use fsm::{PlanPart, PlanPreempt, PlanStop};
    use model::{Allocation, ClientStatus, Evaluation};

    fn alloc(id: &str, replaces: &str) -> Allocation {
        Allocation { id: id.into(), previous_allocation: replaces.into(), ..Allocation::default() }
    }

    fn stop(id: &str, lost: bool) -> PlanStop {
        let client_status = lost.then_some(ClientStatus::Lost);
        PlanStop { id: id.into(), client_status, ..PlanStop::default() }
    }

    #[test]
    fn an_update_in_place_does_not_carry_what_is_known_here_in_brief() {
        let mut row = alloc("a", "");
        row.metrics = Some(Default::default());
        row.task_states.insert("t".to_owned(), Default::default());
        let place = vec![row.clone()];
        let part = PlanPart { update: vec![row], place: place.clone(), ..PlanPart::default() };
        let mut plan = Plan { parts: [("n".into(), part)].into(), ..Plan::default() };
        say_only_what_changes(&mut plan);
        assert_eq!(plan.parts["n"].update, [alloc("a", "")]);
        assert_eq!(plan.parts["n"].place, place, "why it is placed there is told");
    }

    fn plan() -> Plan {
        let first = PlanPart {
            place: vec![alloc("a1", "old1"), alloc("a2", "old2")],
            stop: vec![stop("old2", false), stop("old3", false), stop("old4", true), stop("other", false)],
            ..PlanPart::default()
        };
        let second = PlanPart {
            place: vec![alloc("a3", "old3"), alloc("a4", "old4")],
            stop: vec![stop("old1", false)],
            ..PlanPart::default()
        };
        Plan {
            parts: [("n1".into(), first), ("n2".into(), second)].into(),
            eval: Some(Evaluation::default()),
            create_evals: vec![Evaluation::default()],
            ..Plan::default()
        }
    }

    #[test]
    fn a_plan_within_the_limit_and_one_that_is_all_or_nothing_stay_as_they_are() {
        let (mut small, mut whole) = (plan(), Plan { all_at_once: true, ..plan() });
        assert!(!shorten(&mut small, 4) && !shorten(&mut whole, 1));
        assert_eq!((small, whole), (plan(), Plan { all_at_once: true, ..plan() }));
    }

    #[test]
    fn a_shortened_plan_stops_nothing_whose_replacement_waits_and_finishes_nothing() {
        let mut short = plan();
        assert!(shorten(&mut short, 3));
        assert_eq!(placements(&short), 3);
        assert!(short.eval.is_none() && short.create_evals.is_empty());
        let stops: Vec<&str> = short.parts.values().flat_map(|part| &part.stop).map(|s| s.id.as_str()).collect();
        assert_eq!(stops, ["old2", "old3", "old4", "other", "old1"], "only a4 waits, and old4 is lost anyway");
        let mut short = plan();
        assert!(shorten(&mut short, 1));
        let stops: Vec<&str> = short.parts.values().flat_map(|part| &part.stop).map(|s| s.id.as_str()).collect();
        assert_eq!(stops, ["old4", "other", "old1"]);
    }

    #[test]
    fn jobs_that_lose_allocations_to_a_shortened_plan_are_looked_at_again() {
        let look = |why: &str| Evaluation { triggered_by: why.to_owned(), ..Evaluation::default() };
        let with = |node: &str, by: &str| {
            let mut plan = plan();
            let preempt = PlanPreempt { id: "victim".into(), by: by.into() };
            plan.parts.entry(node.into()).or_default().preempt.push(preempt);
            plan.create_evals = vec![look(TRIGGER_PREEMPTION), look("queued-allocs")];
            plan
        };
        let mut now = with("n1", "a1");
        assert!(shorten(&mut now, 1));
        assert_eq!(now.parts["n1"].preempt.len(), 1);
        assert_eq!(now.create_evals, [look(TRIGGER_PREEMPTION)], "and nothing else");
        let mut later = with("n2", "a4");
        assert!(shorten(&mut later, 1));
        assert!(later.create_evals.is_empty(), "who takes its place waits, so the victim stays");
    }
}
