//! Whether a registration says something new.
//!
//! A job that is registered again with the same specification keeps its version. What the cluster itself
//! writes into a job (status, indexes, times, ids of scaling policies) is no part of the specification.

use crate::group::{ScalingPolicy, TaskGroup};
use crate::job::Job;

impl Job {
    /// True when `other` asks for something else than this job. Both must be canonicalized.
    pub fn spec_changed(&self, other: &Self) -> bool {
        !same_spec(self, other)
    }
}

/// Compares field by field; a field that is new in [`Job`] must be named here or the build fails.
fn same_spec(old: &Job, new: &Job) -> bool {
    let Job {
        region,
        namespace,
        id,
        name,
        kind,
        priority,
        all_at_once,
        datacenters,
        node_pool,
        constraints,
        affinities,
        task_groups,
        update,
        multiregion,
        spreads,
        periodic,
        parameterized_job,
        reschedule,
        migrate,
        meta,
        ui,
        stop,
        parent_id,
        dispatched,
        dispatch_idempotency_token,
        payload,
        consul_namespace,
        vault_namespace,
        // what the cluster writes
        nomad_token_id: _,
        status: _,
        status_description: _,
        stable: _,
        version: _,
        submit_time: _,
        create_index: _,
        modify_index: _,
        job_modify_index: _,
        version_tag: _,
    } = old;
    *region == new.region
        && *namespace == new.namespace
        && *id == new.id
        && *name == new.name
        && *kind == new.kind
        && *priority == new.priority
        && *all_at_once == new.all_at_once
        && *datacenters == new.datacenters
        && *node_pool == new.node_pool
        && *constraints == new.constraints
        && *affinities == new.affinities
        && *update == new.update
        && *multiregion == new.multiregion
        && *spreads == new.spreads
        && *periodic == new.periodic
        && *parameterized_job == new.parameterized_job
        && *reschedule == new.reschedule
        && *migrate == new.migrate
        && *meta == new.meta
        && *ui == new.ui
        && *stop == new.stop
        && *parent_id == new.parent_id
        && *dispatched == new.dispatched
        && *dispatch_idempotency_token == new.dispatch_idempotency_token
        && *payload == new.payload
        && *consul_namespace == new.consul_namespace
        && *vault_namespace == new.vault_namespace
        && same_groups(task_groups, &new.task_groups)
}

fn same_groups(old: &[TaskGroup], new: &[TaskGroup]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| old == new || same_but_scaling_ids(old, new))
}

/// Slow path: equal once the ids and indexes of the scaling policies are set aside.
fn same_but_scaling_ids(old: &TaskGroup, new: &TaskGroup) -> bool {
    let bare = |group: &TaskGroup| {
        let mut group = group.clone();
        group.scaling.iter_mut().for_each(forget_ids);
        for task in &mut group.tasks {
            task.scaling_policies.iter_mut().for_each(forget_ids);
        }
        group
    };
    let scales =
        |group: &TaskGroup| group.scaling.is_some() || group.tasks.iter().any(|task| !task.scaling_policies.is_empty());
    scales(old) && scales(new) && bare(old) == bare(new)
}

fn forget_ids(policy: &mut ScalingPolicy) {
    policy.id.clear();
    policy.namespace.clear();
    policy.target.clear();
    policy.create_index = crate::ids::Index::default();
    policy.modify_index = crate::ids::Index::default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Index;

    fn job() -> Job {
        let group = TaskGroup { scaling: Some(ScalingPolicy::default()), ..TaskGroup::default() };
        Job { id: Some("web".into()), task_groups: vec![group], ..Job::default() }
    }

    #[test]
    fn what_the_cluster_writes_is_no_change() {
        let mut stored = job();
        stored.version = Some(3);
        stored.status = Some("running".into());
        stored.stable = Some(true);
        stored.submit_time = Some(1);
        stored.create_index = Some(Index(7));
        stored.job_modify_index = Some(Index(8));
        stored.modify_index = Some(Index(9));
        stored.nomad_token_id = Some("t".into());
        stored.task_groups[0].scaling.as_mut().unwrap().id = "p".into();
        assert!(!stored.spec_changed(&job()));
    }

    #[test]
    fn whatever_an_author_writes_is_a_change() {
        let changes: [fn(&mut Job); 5] = [
            |job| job.priority = Some(60),
            |job| job.stop = Some(true),
            |job| drop(job.meta.insert("a".into(), "b".into())),
            |job| job.task_groups[0].count = Some(5),
            |job| job.task_groups[0].scaling.as_mut().unwrap().max = Some(5),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut new = job();
            change(&mut new);
            assert!(job().spec_changed(&new), "change {at}");
        }
    }
}
