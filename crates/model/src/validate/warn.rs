//! What is accepted, but should be known.

use super::problem::{Findings, report};
use crate::driver_config;
use crate::group::TaskGroup;
use crate::job::Job;
use crate::task::{Task, WorkloadIdentity};

pub(super) fn warnings(job: &Job) -> Vec<String> {
    let mut out = Vec::new();
    if job.periodic.as_ref().is_some_and(|periodic| periodic.spec.as_deref().is_some_and(|spec| !spec.is_empty())) {
        out.push("cron is deprecated, use crons instead".to_owned());
    }
    let groups_with = |wanted: fn(&TaskGroup) -> bool| job.task_groups.iter().filter(|group| wanted(group)).count();
    let canaries = groups_with(|group| group.update.as_ref().is_some_and(|update| update.canary() > 0));
    let promoted = groups_with(|group| group.update.as_ref().is_some_and(|update| update.auto_promote()));
    if promoted > 0 && promoted < canaries {
        out.push("auto_promote must be true for all groups to enable automatic promotion".to_owned());
    }
    for group in &job.task_groups {
        let found = of_group(group).into_vec();
        if !found.is_empty() {
            out.push(format!("Group {:?} has warnings: {}", group.name(), report(&found).trim_end()));
        }
    }
    out
}

fn of_group(group: &TaskGroup) -> Findings {
    let mut found = Findings::default();
    let (parallel, count) = (group.update.as_ref().map_or(0, |update| update.max_parallel()), group.count());
    found.when(parallel > count && count > 1, || {
        format!("Update max parallel count is greater than task group count ({parallel} > {count})")
    });
    for (set, old, new) in [
        (group.max_client_disconnect.is_some(), "max_client_disconnect", "disconnect.lost_after"),
        (
            group.stop_after_client_disconnect.is_some(),
            "stop_after_client_disconnect",
            "disconnect.stop_on_client_after",
        ),
        (group.prevent_reschedule_on_lost == Some(true), "prevent_reschedule_on_lost", "disconnect.replace"),
    ] {
        found.when(set, || format!("{old} is deprecated and ignored. Use {new} instead"));
    }
    found.when(group.networks.iter().any(|network| network.mbits.unwrap_or(0) > 0), || {
        "mbits has been deprecated and is ignored, remove it from the network block".into()
    });
    found.when(!group.services.is_empty() && group.shutdown_delay.is_none_or(|delay| delay.0 == 0), || {
        "group has services but no shutdown_delay set; requests may still arrive while its tasks are being stopped"
            .into()
    });
    for task in &group.tasks {
        let mut within = Findings::default();
        of_task(task, &mut within);
        found.part(format!("Task {:?} has warnings", task.name), within);
    }
    found
}

fn of_task(task: &Task, found: &mut Findings) {
    if let Some(key) = driver_config::lacks(&task.driver, &task.config) {
        found.say(format!("{} config: {key:?} is missing, the task cannot start", task.driver));
    }
    if let Some(resources) = &task.resources {
        found.when(resources.iops.unwrap_or(0) > 0, || {
            "iops is deprecated and ignored, remove it from the resources block".into()
        });
        found.when(!resources.networks.is_empty(), || {
            "network in resources is deprecated, use the network block of the group".into()
        });
    }
    found.when(task.templates.iter().any(|one| one.vault_grace.is_some_and(|grace| grace.0 != 0)), || {
        "vault_grace is deprecated and ignored, remove it from the template block".into()
    });
    found.when(!task.services.is_empty() && task.shutdown_delay.0 == 0, || {
        "task has services but no shutdown_delay set; requests may still arrive while it is being stopped".into()
    });
    for one in &task.identities {
        let texts = identity(one);
        found.when(!texts.is_empty(), || format!("identity {:?}: {}", one.name, texts.join("; ")));
    }
}

fn identity(one: &WorkloadIdentity) -> Vec<&'static str> {
    let mut texts = Vec::new();
    match one.audience.len() {
        0 => texts.push("an identity without an audience is accepted by anyone"),
        1 => {}
        _ => texts.push("an identity with several audiences lets each of them act as the others see it"),
    }
    if one.ttl.0 == 0 {
        texts.push("an identity without a ttl never expires");
    }
    texts
}
