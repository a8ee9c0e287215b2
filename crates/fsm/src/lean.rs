//! What of a plan's rows need not be said, because it is said once for all of them or written by the state machine?
//!
//! A plan of a thousand placements is read and written by a scheduler, an applier and three state servers. Its rows differ
//! in little: all are of one job, and those of a group mostly hold the same of their nodes.
//!
//! ```text
//!   scheduler ──lean──► applier: rejoin, check, lean ──► log ──► state machine: `Plan::holds`
//! ```
//!
//! Invariants
//! * A lean plan does to the state what the plan did that it was made from.
//! * Rows of the state that hold the same by one plan share it.

use std::sync::Arc;

use model::Allocation;
use model::alloc::AllocatedResources;

use crate::plan::Plan;

impl Plan {
    /// Leaves out of the rows what they need not say.
    pub fn lean(&mut self) {
        self.rejoin();
        let mut mixed = Vec::new();
        for row in self.parts.values().flat_map(|part| &part.place) {
            match &row.allocated_resources {
                Some(held) if !self.resources.contains_key(&row.task_group) => {
                    self.resources.insert(row.task_group.clone(), Arc::clone(held));
                }
                Some(_) => {}
                None => mixed.push(row.task_group.clone()),
            }
        }
        // To say nothing would mean something else there.
        mixed.iter().for_each(|group| drop(self.resources.remove(group)));
        let Self { parts, resources, job_incarnation, job_version, .. } = self;
        for (node, part) in parts {
            for row in &mut part.place {
                row.allocated_resources.take_if(|held| {
                    resources.get(&row.task_group).is_some_and(|shared| Arc::ptr_eq(shared, held) || shared == held)
                });
                if row.node_id == *node {
                    row.node_id = Default::default();
                }
                row.job_version = row.job_version.filter(|version| version != job_version);
                row.job_incarnation = row.job_incarnation.filter(|incarnation| incarnation != job_incarnation);
                leave_to_the_state_machine(row);
            }
            part.update.iter_mut().for_each(|row| *row = update(std::mem::take(row), *job_version));
        }
    }

    /// Says of each placement itself what it holds.
    pub fn rejoin(&mut self) {
        for row in self.parts.values_mut().flat_map(|part| &mut part.place) {
            if row.allocated_resources.is_none() {
                row.allocated_resources = self.resources.get(&row.task_group).cloned();
            }
        }
        self.resources.clear();
    }

    /// What a placement of this plan holds of its node.
    pub fn holds(&self, row: &Allocation) -> Option<Arc<AllocatedResources>> {
        row.allocated_resources.as_ref().or_else(|| self.resources.get(&row.task_group)).cloned()
    }
}

/// What it says of every placement (`apply/plan_write.rs`, `place`).
fn leave_to_the_state_machine(row: &mut Allocation) {
    row.namespace = Default::default();
    row.eval_id = Default::default();
    row.node_name.clear();
    row.job_id = Default::default();
    (row.create_index, row.modify_index, row.alloc_modify_index) = Default::default();
    (row.create_time, row.modify_time) = (0, 0);
}

/// Of an update in place, what it changes (`apply/plan_write.rs`, `update`).
fn update(row: Allocation, of_plan: u64) -> Allocation {
    Allocation {
        id: row.id,
        task_group: row.task_group,
        metrics: row.metrics,
        desired_description: row.desired_description,
        deployment_id: row.deployment_id,
        followup_eval_id: row.followup_eval_id,
        job_version: row.job_version.filter(|version| *version != of_plan),
        ..Allocation::default()
    }
}

#[cfg(test)]
mod tests {
    use model::alloc::AllocatedSharedResources;

    use super::*;
    use crate::plan::PlanPart;

    fn holding(disk_mb: i64) -> Option<Arc<AllocatedResources>> {
        let shared = AllocatedSharedResources { disk_mb, ..AllocatedSharedResources::default() };
        Some(Arc::new(AllocatedResources { shared, ..AllocatedResources::default() }))
    }

    fn row(id: &str, group: &str, held: Option<Arc<AllocatedResources>>) -> Allocation {
        Allocation {
            id: id.into(),
            namespace: "ns".into(),
            job_id: "j".into(),
            eval_id: "e".into(),
            node_id: "n".into(),
            node_name: "one".into(),
            task_group: group.into(),
            name: format!("j.{group}[0]"),
            allocated_resources: held,
            job_version: Some(3),
            job_incarnation: Some(7.into()),
            create_time: 5,
            ..Allocation::default()
        }
    }

    fn plan(place: Vec<Allocation>) -> Plan {
        let part = PlanPart { place, ..PlanPart::default() };
        Plan {
            namespace: "ns".into(),
            job_id: "j".into(),
            eval_id: "e".into(),
            job_incarnation: 7.into(),
            job_version: 3,
            parts: [("n".into(), part)].into(),
            ..Plan::default()
        }
    }

    fn held(plan: &Plan) -> Vec<Option<Arc<AllocatedResources>>> {
        plan.parts["n"].place.iter().map(|row| plan.holds(row)).collect()
    }

    #[test]
    fn what_the_first_placement_of_a_group_holds_is_said_once_and_shared() {
        let rows = vec![
            row("a", "g", holding(10)),
            row("b", "g", holding(10)),
            row("c", "g", holding(11)),
            row("d", "h", holding(10)),
        ];
        let whole = plan(rows);
        let mut lean = whole.clone();
        lean.lean();
        let said: Vec<bool> = lean.parts["n"].place.iter().map(|row| row.allocated_resources.is_some()).collect();
        assert_eq!((said, lean.resources.len()), (vec![false, false, true, false], 2));
        assert_eq!(held(&lean), held(&whole));
        assert!(Arc::ptr_eq(held(&lean)[0].as_ref().unwrap(), held(&lean)[1].as_ref().unwrap()));
        let mut again = lean.clone();
        again.lean();
        assert_eq!(again, lean);
        again.rejoin();
        assert_eq!((held(&again), again.resources.len()), (held(&whole), 0));
    }

    #[test]
    fn a_row_that_holds_nothing_goes_on_holding_nothing() {
        let mut lean = plan(vec![row("a", "g", holding(10)), row("b", "g", None)]);
        let before = held(&lean);
        lean.lean();
        assert_eq!((held(&lean), lean.resources.len()), (before, 0));
    }

    #[test]
    fn a_row_says_what_contradicts_its_plan() {
        let odd = Allocation { node_id: "other".into(), job_version: Some(2), ..row("a", "g", None) };
        let mut lean = plan(vec![odd, row("b", "g", None)]);
        lean.lean();
        let [odd, usual] = lean.parts["n"].place.as_slice() else { panic!("two rows") };
        assert_eq!((odd.node_id.as_str(), odd.job_version), ("other", Some(2)));
        let bare =
            Allocation { id: "b".into(), task_group: "g".into(), name: "j.g[0]".into(), ..Allocation::default() };
        assert_eq!(*usual, bare);
    }
}
