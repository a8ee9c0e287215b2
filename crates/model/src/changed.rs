//! Whether a registration says something new.
//!
//! A job that is registered again with the same specification keeps its version. What the cluster itself
//! writes into a job (status, indexes, times, ids of scaling policies) is no part of the specification.

use crate::group::{ScalingPolicy, TaskGroup};
use crate::job::Job;
use crate::task::Task;

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

/// Whether two nouns are the same in all fields but some. Every field is named, or the build fails.
macro_rules! same {
    ($name:ident, $of:ident, without $($skip:ident)+, with $($field:ident)+) => {
        fn $name(old: &$of, new: &$of) -> bool {
            let $of { $($skip: _,)+ $($field),+ } = old;
            true $(&& *$field == new.$field)+
        }
    };
}

same!(same_but_parts, TaskGroup, without scaling tasks,
    with name count constraints affinities spreads volumes restart_policy disconnect reschedule_policy ephemeral_disk
    update migrate networks meta services shutdown_delay max_run_duration stop_after_client_disconnect
    max_client_disconnect consul prevent_reschedule_on_lost);

same!(same_but_policies, Task, without scaling_policies,
    with name driver user lifecycle config constraints affinities env services resources restart_policy meta
    kill_timeout log_config artifacts vault consul templates dispatch_payload volume_mounts csi_plugin_config leader
    shutdown_delay kill_signal kind secrets identity identities actions schedule);

same!(same_but_ids, ScalingPolicy, without id namespace target create_index modify_index,
    with kind policy min max enabled);

/// Equal once the ids and indexes of the scaling policies are set aside. Takes no memory.
fn same_but_scaling_ids(old: &TaskGroup, new: &TaskGroup) -> bool {
    let scaling = match (&old.scaling, &new.scaling) {
        (Some(old), Some(new)) => same_but_ids(old, new),
        (old, new) => old.is_none() && new.is_none(),
    };
    let task = |(old, new): (&Task, &Task)| {
        let (before, after) = (&old.scaling_policies, &new.scaling_policies);
        before.len() == after.len()
            && before.iter().zip(after).all(|(old, new)| same_but_ids(old, new))
            && same_but_policies(old, new)
    };
    scaling
        && old.tasks.len() == new.tasks.len()
        && same_but_parts(old, new)
        && old.tasks.iter().zip(&new.tasks).all(task)
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
