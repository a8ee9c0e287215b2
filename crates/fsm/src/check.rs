//! Is the state whole? Run after every command in tests and in simulation; too slow for every day.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdSet;
use model::summary::TaskGroupSummary;
use model::{Allocation, ClientStatus, EvalStatus, JobStatus};

use crate::commit::{version_key, version_of};
use crate::state::{State, VersionUse};

/// A rule that the state breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {what}")]
pub struct Broken {
    pub rule: &'static str,
    pub what: String,
}

fn rule(holds: bool, rule: &'static str, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { rule, what: what() }) }
}

impl State {
    /// Checks every rule that ties rows to each other and to what is derived from them. Of a copy that
    /// holds some tables only the derived indexes are checked.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_indexes()?;
        if self.followed.is_some() {
            return Ok(());
        }
        self.check_jobs()?;
        self.check_summaries()?;
        self.check_allocs()?;
        self.check_evals()?;
        self.check_deployments()?;
        self.check_moments()
    }

    fn check_indexes(&self) -> Result<(), Broken> {
        let mut by_node = OrdSet::new();
        let mut by_job = OrdSet::new();
        let mut by_eval = OrdSet::new();
        let mut by_deployment = OrdSet::new();
        let mut used: BTreeMap<_, VersionUse> = BTreeMap::new();
        for alloc in self.allocs.values() {
            by_node.insert((alloc.node_id.clone(), alloc.id.clone()));
            by_job.insert((alloc.namespace.clone(), alloc.job_id.clone(), alloc.id.clone()));
            by_eval.insert((alloc.eval_id.clone(), alloc.id.clone()));
            if let Some(deployment) = alloc.deployment_id.non_empty() {
                by_deployment.insert((deployment.clone(), alloc.id.clone()));
            }
            if let Some(key) = version_of(alloc) {
                let used = used.entry(key).or_default();
                used.rows += 1;
                used.live += u64::from(!alloc.is_terminal());
            }
        }
        let evals = |open: bool| -> OrdSet<_> {
            let wanted = self.evals.values().filter(|eval| !open || !eval.status.is_terminal());
            wanted.map(|eval| (eval.namespace.clone(), eval.job_id.clone(), eval.id.clone())).collect()
        };
        let deployments: OrdSet<_> =
            self.deployments.values().map(|d| (d.namespace.clone(), d.job_id.clone(), d.id.clone())).collect();
        for (same, name) in [
            (by_node == self.allocs_by_node, "allocations by node"),
            (by_job == self.allocs_by_job, "allocations by job"),
            (by_eval == self.allocs_by_eval, "allocations by evaluation"),
            (by_deployment == self.allocs_by_deployment, "allocations by deployment"),
            (used.into_iter().eq(self.version_use.iter().map(|(k, v)| (k.clone(), *v))), "use of versions"),
            (evals(false) == self.evals_by_job, "evaluations by job"),
            (evals(true) == self.open_evals, "open evaluations"),
            (deployments == self.deployments_by_job, "deployments by job"),
        ] {
            rule(same, "an index follows from its rows", || name.to_owned())?;
        }
        Ok(())
    }

    fn check_jobs(&self) -> Result<(), Broken> {
        for (key, job) in &self.jobs {
            let name = || format!("job {}", key.1);
            rule(*key == job.key(), "a row stands under its own key", name)?;
            rule(self.job_versions.get(&version_key(job)) == Some(job), "the current version is a version", name)?;
            rule(self.job_summaries.contains_key(key), "a job has a summary", name)?;
            let derived = self.derive_status(job, false);
            let status = job.status.as_deref().and_then(JobStatus::parse);
            // Once its evaluations are forgotten, nothing tells a job that ran from a new one.
            let forgotten = derived == JobStatus::Pending
                && status == Some(JobStatus::Dead)
                && self.evals_of_job(&key.0, &key.1).next().is_none();
            rule(status == Some(derived) || forgotten, "a job's status follows from its rows", || {
                format!("{} is {status:?}, not {derived}", name())
            })?;
        }
        for (key, job) in &self.job_versions {
            let name = || format!("job {} version {}", key.1, key.3);
            rule(*key == version_key(job), "a row stands under its own key", name)?;
            let current = self.jobs.get(&job.key()).is_some_and(|now| now.incarnation() == key.2);
            rule(current || self.version_use.contains_key(key), "a version belongs to a job or is used", name)?;
        }
        for key in self.job_summaries.keys() {
            rule(self.jobs.contains_key(key), "a summary belongs to a job", || format!("job {}", key.1))?;
        }
        for key in self.job_scaling.keys().chain(self.periodic_launches.keys()) {
            rule(self.jobs.contains_key(key), "events and launches belong to a job", || format!("job {}", key.1))?;
        }
        for (namespace, id, incarnation) in self.job_fences.keys() {
            let job = self.job(namespace, id);
            let holds = job.is_some_and(|job| job.incarnation() == *incarnation);
            rule(holds, "a fence belongs to a job", || format!("job {id} of {incarnation}"))?;
        }
        Ok(())
    }

    /// What still moves is counted exactly; complete, failed and lost also count what is forgotten.
    fn check_summaries(&self) -> Result<(), Broken> {
        let mut counted: BTreeMap<_, BTreeMap<String, TaskGroupSummary>> = BTreeMap::new();
        for alloc in self.allocs.values() {
            let Some(job) = self.job(&alloc.namespace, &alloc.job_id) else { continue };
            if alloc.job_incarnation == job.create_index {
                let group = counted.entry(alloc.job_key()).or_default().entry(alloc.task_group.clone()).or_default();
                *crate::apply::bucket(group, alloc.client_status) += 1;
            }
        }
        for (key, summary) in &self.job_summaries {
            let counted = counted.remove(key).unwrap_or_default();
            let groups: BTreeSet<_> = summary.summary.keys().chain(counted.keys()).collect();
            for group in groups {
                let ours = summary.summary.get(group).cloned().unwrap_or_default();
                let rows = counted.get(group).cloned().unwrap_or_default();
                let moving = |s: &TaskGroupSummary| (s.starting, s.running, s.unknown);
                let ended = |s: &TaskGroupSummary| [s.complete, s.failed, s.lost];
                let holds = moving(&ours) == moving(&rows)
                    && ours.queued >= 0
                    && ended(&ours).iter().zip(ended(&rows)).all(|(ours, rows)| *ours >= rows);
                rule(holds, "a summary counts the allocations", || {
                    format!("job {} group {group}: {ours:?}, rows come to {rows:?}", key.1)
                })?;
            }
        }
        Ok(())
    }

    fn check_allocs(&self) -> Result<(), Broken> {
        for (id, alloc) in &self.allocs {
            let name = || format!("allocation {id}");
            rule(*id == alloc.id, "a row stands under its own key", name)?;
            rule(alloc.job.is_none(), "a row names its job's version instead of holding the job", name)?;
            let version = version_of(alloc);
            let known = version.is_some_and(|version| self.job_versions.contains_key(&version));
            rule(known, "an allocation's version of the job is kept", name)?;
            let linked = |before: &Allocation| !before.next_allocation.is_empty();
            let follows = alloc.previous_allocation.non_empty().and_then(|before| self.allocs.get(before));
            rule(follows.is_none_or(|before| linked(before)), "a replaced allocation names its successor", name)?;
            let settled = alloc.client_status != ClientStatus::Lost || alloc.is_terminal();
            rule(settled, "a lost allocation is terminal", name)?;
        }
        for id in self.revoked.keys() {
            rule(self.node(id).is_none(), "a revoked node is not registered", || format!("node {id}"))?;
            rule(!self.admissions.contains_key(id), "a revoked node is not admitted", || format!("node {id}"))?;
        }
        for id in &self.suspects {
            let alive = self.node(id).is_some_and(|node| !node.is_down());
            rule(alive, "only a node that is not down is suspect", || format!("node {id}"))?;
        }
        let fenced: BTreeSet<_> = self.node_fences.keys().collect();
        let nodes: BTreeSet<_> = self.nodes.keys().collect();
        rule(fenced == nodes, "each node has a fence", || format!("{} of {}", fenced.len(), nodes.len()))
    }

    fn check_evals(&self) -> Result<(), Broken> {
        let mut blocked = BTreeSet::new();
        for (id, eval) in &self.evals {
            rule(*id == eval.id, "a row stands under its own key", || format!("evaluation {id}"))?;
            if eval.status == EvalStatus::Blocked {
                let key = (&eval.namespace, &eval.job_id, &eval.node_id);
                rule(blocked.insert(key), "a job has one blocked evaluation", || format!("job {}", eval.job_id))?;
            }
        }
        Ok(())
    }

    fn check_deployments(&self) -> Result<(), Broken> {
        for (id, deployment) in &self.deployments {
            let name = || format!("deployment {id}");
            rule(*id == deployment.id, "a row stands under its own key", name)?;
            for group in deployment.task_groups.values() {
                let judged = group.healthy_allocs + group.unhealthy_allocs;
                let counts = group.healthy_allocs >= 0 && group.unhealthy_allocs >= 0 && judged <= group.placed_allocs;
                rule(counts, "a deployment counts what was placed", || format!("{}: {group:?}", name()))?;
            }
        }
        Ok(())
    }

    fn check_moments(&self) -> Result<(), Broken> {
        let allocs = self.allocs.values().map(|row| (row.id.to_string(), row.create_index, row.modify_index));
        let evals = self.evals.values().map(|row| (row.id.to_string(), row.create_index, row.modify_index));
        let nodes = self.nodes.values().map(|row| (row.id.to_string(), row.create_index, row.modify_index));
        let deployments = self.deployments.values().map(|row| (row.id.to_string(), row.create_index, row.modify_index));
        let jobs = self.job_versions.values();
        let jobs = jobs.map(|row| (row.id().to_string(), row.incarnation(), row.modify_index.unwrap_or_default()));
        for (id, created, modified) in allocs.chain(evals).chain(nodes).chain(deployments).chain(jobs) {
            let holds = created.get() > 0 && created <= modified && modified <= self.index;
            rule(holds, "a row was made before it was changed, and both by now", || {
                format!("{id}: {created}, {modified} at {}", self.index)
            })?;
        }
        let newest = self.table_index.iter().max().copied().unwrap_or_default();
        rule(newest <= self.index, "no table is ahead of the log", || format!("{newest}"))
    }
}
