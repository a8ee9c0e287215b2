//! Plans and what became of them, in words: lines of an evaluation's history.

use std::collections::BTreeMap;

use api::explain::Happening;
use fsm::{Plan, PlanResult};

/// "2 to place, 1 to stop" of a plan.
pub fn plan(plan: &Plan) -> String {
    let count = |of: fn(&fsm::PlanPart) -> usize| plan.parts.values().map(of).sum::<usize>();
    let counts = [
        (count(|part| part.place.len()), "to place"),
        (count(|part| part.update.len()), "to update in place"),
        (count(|part| part.stop.len()), "to stop or note"),
        (count(|part| part.preempt.len()), "to preempt"),
    ];
    let mut said: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let short: i64 = plan.eval.iter().flat_map(|eval| eval.queued_allocations.values()).sum();
    if short > 0 {
        said.push(format!("{short} without a place"));
    }
    let what = if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") };
    format!("{what}; made from index {}", plan.snapshot_index)
}

/// What the applier said of a plan.
pub fn result(result: &PlanResult) -> (Happening, String) {
    if let Some(refusal) = &result.refused {
        return (Happening::PlanRejected, refusal.to_string());
    }
    if result.dropped.is_empty() {
        return (Happening::PlanAccepted, format!("{} placed at index {}", result.placed.len(), result.index));
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for why in result.dropped.values() {
        *reasons.entry(why.to_string()).or_default() += 1;
    }
    let reasons: Vec<String> = reasons.iter().map(|(why, n)| format!("{why} ({n} nodes)")).collect();
    let placed = result.placed.len();
    (Happening::PlanRejected, format!("in part: {placed} placed, the rest is decided again: {}", reasons.join(", ")))
}

#[cfg(test)]
mod tests {
    use fsm::{PartDropped, PlanRefusal};

    use super::*;

    #[test]
    fn a_plan_that_was_refused_says_why() {
        let refused = PlanResult { refused: Some(PlanRefusal::StaleSnapshot), ..PlanResult::default() };
        assert_eq!(
            result(&refused),
            (Happening::PlanRejected, "snapshot is older than the job's last plan".to_owned())
        );
        let dropped = [("a", PartDropped::NodeFull), ("b", PartDropped::NodeFull), ("c", PartDropped::PortTaken)];
        let dropped = dropped.map(|(id, why)| (id.to_owned().into(), why)).into();
        let (what, said) = result(&PlanResult { dropped, ..PlanResult::default() });
        assert_eq!(what, Happening::PlanRejected);
        assert_eq!(
            said,
            "in part: 0 placed, the rest is decided again: a port is taken (1 nodes), the node is full (2 nodes)"
        );
    }

    #[test]
    fn an_empty_plan_is_told_as_such() {
        assert_eq!(plan(&Plan::default()), "nothing to do; made from index 0");
    }
}
