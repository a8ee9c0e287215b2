//! Making room by taking it from less important jobs, and what the plan, the metrics and the trace say of
//! it.

use std::collections::BTreeSet;

use fsm::State;
use fsm::plan::{PlanPreempt, TRIGGER_PREEMPTION};
use model::alloc::AllocStub;
use model::metric::AllocMetric;
use model::{Allocation, EvalId, EvalStatus, Evaluation, JobKind};

use super::{Found, Pass, PlacerKey};
use crate::explain::{GroupTrace, Nearest, Placed};
use crate::fleet::Slot;
use crate::placer::Pick;

/// Whether jobs of that kind may take room from others.
pub(super) fn preempts(state: &State, kind: JobKind) -> bool {
    let config = &state.scheduler_config().preemption_config;
    match kind {
        JobKind::Service => config.service_scheduler_enabled,
        JobKind::Batch => config.batch_scheduler_enabled,
        JobKind::System => config.system_scheduler_enabled,
        JobKind::SysBatch => config.sys_batch_scheduler_enabled,
    }
}

impl<'a> Pass<'a, '_> {
    /// Lets less important allocations leave for one of the group; on one node, if there is a choice.
    pub(super) fn make_room(&mut self, key: PlacerKey<'a>, on: Option<Slot>) -> Option<(Found, AllocMetric)> {
        if !self.preempts {
            return None;
        }
        let placer = self.placers.get_mut(&key)?;
        loop {
            let pick = match on {
                Some(slot) => placer.evict_on(&self.work, slot)?,
                None => placer.evict(&self.work)?,
            };
            // As things stood before they leave: these counts are what the search saw.
            let metric = placer.metric(&self.work, Some(&pick));
            self.work.evict(pick.slot, &pick.victims);
            match placer.allocate(&self.work, pick.slot, &mut self.ports) {
                Ok((resources, held)) => return Some((Found { pick, resources, held }, metric)),
                Err(_) => self.work.unevict(pick.slot, &pick.victims),
            }
            if on.is_some() || !placer.give_up_eviction(pick.slot) {
                return None;
            }
        }
    }

    pub(super) fn trace(&mut self, group: &str, version: u64) -> Option<&mut GroupTrace> {
        self.out.traces.groups.iter_mut().find(|t| t.group == group && t.job_version == version)
    }

    /// Writes down where one went and who left for it.
    pub(super) fn note_placed(&mut self, alloc: &Allocation, version: u64, pick: &Pick) {
        let placed = Placed {
            alloc: alloc.id.clone(),
            name: alloc.name.clone(),
            node: alloc.node_id.clone(),
            score: pick.score(),
            preempted: alloc.preempted_allocations.clone(),
        };
        let now = (self.clock)();
        if let Some(trace) = self.trace(&alloc.task_group, version) {
            trace.placed.push(placed);
            trace.ranked_at = now;
        }
        if pick.victims.is_empty() {
            return;
        }
        if let Some(desired) = self.out.desired.get_mut(&alloc.task_group) {
            desired.preemptions += pick.victims.len() as u64;
        }
        let part = self.plan.parts.entry(alloc.node_id.clone()).or_default();
        for victim in &pick.victims {
            part.preempt.push(PlanPreempt { id: victim.id.clone(), by: alloc.id.clone() });
            if let Some(row) = self.work.state.alloc(&victim.id) {
                self.out.preempted.push(stub(self.work.state, row, &alloc.id));
            }
        }
    }

    pub(super) fn note_short(&mut self, key: PlacerKey<'a>, nearest: Vec<Nearest>) {
        let now = (self.clock)();
        if let Some(trace) = self.trace(key.0, key.1.1) {
            trace.nearest = nearest;
            trace.ranked_at = now;
        }
    }

    /// One evaluation for each job that lost allocations.
    pub(super) fn call_preempted(&mut self, new_id: &mut dyn FnMut() -> String) {
        let state = self.work.state;
        let mut seen = BTreeSet::new();
        for stub in &self.out.preempted {
            let job = state.job(&stub.namespace, &stub.job_id);
            let Some(job) = job.filter(|_| seen.insert((stub.namespace.clone(), stub.job_id.clone()))) else {
                continue;
            };
            self.out.preempted_jobs.push(Evaluation {
                id: EvalId::from(new_id()),
                namespace: stub.namespace.clone(),
                priority: job.priority(),
                kind: job.kind_text().to_owned(),
                triggered_by: TRIGGER_PREEMPTION.to_owned(),
                job_id: stub.job_id.clone(),
                job_modify_index: job.job_modify_index(),
                status: EvalStatus::Pending,
                create_time: self.now,
                modify_time: self.now,
                ..Evaluation::default()
            });
        }
    }
}

fn stub(state: &State, row: &Allocation, by: &model::AllocId) -> AllocStub {
    AllocStub {
        id: row.id.clone(),
        eval_id: row.eval_id.clone(),
        name: row.name.clone(),
        namespace: row.namespace.clone(),
        node_id: row.node_id.clone(),
        node_name: row.node_name.clone(),
        job_id: row.job_id.clone(),
        job_type: state.job_of_alloc(row).map_or_else(String::new, |job| job.kind_text().to_owned()),
        job_version: row.job_version.unwrap_or(0),
        task_group: row.task_group.clone(),
        desired_status: row.desired_status,
        client_status: row.client_status,
        preempted_by_allocation: by.clone(),
        create_index: row.create_index,
        modify_index: row.modify_index,
        create_time: row.create_time,
        modify_time: row.modify_time,
        ..AllocStub::default()
    }
}
