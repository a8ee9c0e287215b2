//! The second step: from a client's form to the stored one.

use super::service::{self, Place};
use super::{default, default_text, task};
use crate::access::{NODE_POOL_DEFAULT, PRIORITY_DEFAULT};
use crate::group::{ScalingPolicy, TaskGroup};
use crate::ids::NamespaceName;
use crate::job::{Job, UpdateStrategy};
use crate::time::Nanos;

pub(super) fn job(job: &mut Job) {
    if job.datacenters.is_empty() {
        job.datacenters = vec!["*".to_owned()];
    }
    if job.namespace.as_ref().is_none_or(NamespaceName::is_empty) {
        job.namespace = Some(NamespaceName::default_namespace());
    }
    if job.node_pool.as_deref().is_none_or(str::is_empty) {
        job.node_pool = Some(NODE_POOL_DEFAULT.to_owned());
    }
    if job.priority == Some(0) {
        job.priority = Some(PRIORITY_DEFAULT);
    }
    default_text(&mut job.dispatch_idempotency_token, "");
    default(&mut job.submit_time, 0);
    if let Some(parameterized) = &mut job.parameterized_job {
        super::default_empty(&mut parameterized.payload, "optional");
    }
    // in the groups by now
    job.reschedule = None;
    job.migrate = None;
    job.update = Some(remaining_update(job.update.as_ref()));

    let namespace = job.namespace().as_str().to_owned();
    let id = job.id();
    let name = job.name().to_owned();
    for one in &mut job.task_groups {
        group(one, &Owner { namespace: &namespace, id: id.as_str(), name: &name });
    }
}

/// What a job keeps of its update block once the groups have theirs.
fn remaining_update(update: Option<&UpdateStrategy>) -> UpdateStrategy {
    UpdateStrategy {
        stagger: Some(update.and_then(|update| update.stagger).unwrap_or_default()),
        max_parallel: Some(update.and_then(|update| update.max_parallel).unwrap_or(0)),
        health_check: Some(String::new()),
        min_healthy_time: Some(Nanos(0)),
        healthy_deadline: Some(Nanos(0)),
        progress_deadline: Some(Nanos(0)),
        canary: Some(0),
        auto_revert: Some(false),
        auto_promote: Some(false),
    }
}

/// The job that a group is of.
struct Owner<'a> {
    namespace: &'a str,
    id: &'a str,
    name: &'a str,
}

fn group(group: &mut TaskGroup, owner: &Owner<'_>) {
    default(&mut group.prevent_reschedule_on_lost, false);
    if let Some(disconnect) = &mut group.disconnect {
        default(&mut disconnect.lost_after, Nanos(0));
    }
    for (label, volume) in &mut group.volumes {
        super::default_empty(&mut volume.name, label);
        volume.extra_keys_hcl.clear();
        if let Some(options) = &mut volume.mount_options {
            options.extra_keys_hcl.clear();
        }
    }
    group.networks.iter_mut().for_each(task::server_network);
    let name = group.name().to_owned();
    if let Some(policy) = &mut group.scaling {
        scaling(policy);
        let target = [("Namespace", owner.namespace), ("Job", owner.id), ("Group", &name)];
        policy.target = target.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    }
    let place = Place { job: owner.name, group: &name, task: None };
    group.services.iter_mut().for_each(|one| service::server(one, &place, owner.namespace));
    for one in &mut group.tasks {
        let task_name = one.name.clone();
        let place = Place { task: Some(&task_name), ..place };
        one.services.iter_mut().for_each(|one| service::server(one, &place, owner.namespace));
        task::server(one, owner.namespace);
    }
}

/// An unset upper bound is -1, which validation refuses.
pub(super) fn scaling(policy: &mut ScalingPolicy) {
    policy.namespace.clear();
    default(&mut policy.min, 0);
    default(&mut policy.max, -1);
}
