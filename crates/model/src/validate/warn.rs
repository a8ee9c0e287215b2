//! What is accepted, but should be known.

use super::problem::{Findings, labelled};
use crate::driver_config;
use crate::group::TaskGroup;
use crate::job::Job;
use crate::service::Service;
use crate::task::{Task, WorkloadIdentity};

pub(super) fn warnings(job: &Job) -> Findings {
    let mut out = Findings::default();
    if job.periodic.as_ref().is_some_and(|periodic| periodic.spec.as_deref().is_some_and(|spec| !spec.is_empty())) {
        out.at("periodic.cron").say("cron is deprecated, use crons instead");
    }
    let groups_with = |wanted: fn(&TaskGroup) -> bool| job.task_groups.iter().filter(|group| wanted(group)).count();
    let canaries = groups_with(|group| group.update.as_ref().is_some_and(|update| update.canary() > 0));
    let promoted = groups_with(|group| group.update.as_ref().is_some_and(|update| update.auto_promote()));
    out.when(promoted > 0 && promoted < canaries, || {
        "auto_promote must be true for all groups to enable automatic promotion".into()
    });
    for group in &job.task_groups {
        out.at(labelled("group", group.name())).part(format!("Group {:?} has warnings", group.name()), of_group(group));
    }
    out
}

/// What a posted job says that nothing reads: told before canonicalizing drops it.
pub(super) fn without_effect(job: &Job) -> Vec<String> {
    let mut out = Vec::new();
    for group in &job.task_groups {
        let place = format!("group {:?}", group.name());
        let mut say = |what: &str, place: &str, instead: &str| {
            out.push(format!("{what} of {place} has no effect{instead}"));
        };
        for service in &group.services {
            for check in service.checks.iter().filter(|check| !check.advertise.is_empty()) {
                say("check.advertise", &place, &format!(" (check {:?}): use address_mode", check.name));
            }
        }
        let no_device = ": the agent's configuration says which interface is used";
        if group.networks.iter().any(|network| !network.device.is_empty()) {
            say("network.device", &place, no_device);
        }
        for task in &group.tasks {
            let place = format!("task {:?} of {place}", task.name);
            if task.log_config.as_ref().is_some_and(|logs| logs.enabled.is_some()) {
                say("logs.enabled", &place, ": use logs.disabled");
            }
            if task.vault.as_ref().is_some_and(|vault| !vault.policies.is_empty()) {
                say("vault.policies", &place, ": use vault.role");
            }
            if let Some(asked) = &task.resources {
                if asked.disk_mb.unwrap_or(0) > 0 {
                    say("resources.disk", &place, ": use ephemeral_disk of the group");
                }
                if asked.networks.iter().any(|network| !network.device.is_empty()) {
                    say("network.device", &place, no_device);
                }
            }
            for check in task.services.iter().flat_map(|service| &service.checks) {
                if !check.advertise.is_empty() {
                    say("check.advertise", &place, &format!(" (check {:?}): use address_mode", check.name));
                }
            }
        }
    }
    out
}

fn of_group(group: &TaskGroup) -> Findings {
    let mut found = Findings::default();
    let (parallel, count) = (group.update.as_ref().map_or(0, |update| update.max_parallel()), group.count());
    found.at("update.max_parallel").when(parallel > count && count > 1, || {
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
        found.at(old).when(set, || format!("{old} is deprecated and ignored. Use {new} instead"));
    }
    found.at("network[0].mbits").when(group.networks.iter().any(|network| network.mbits.unwrap_or(0) > 0), || {
        "mbits has been deprecated and is ignored, remove it from the network block".into()
    });
    found.when(!group.services.is_empty() && group.shutdown_delay.is_none_or(|delay| delay.0 == 0), || {
        "group has services but no shutdown_delay set; requests may still arrive while its tasks are being stopped"
            .into()
    });
    for (i, service) in group.services.iter().enumerate() {
        found.at(format!("service[{i}]")).all(of_service(service));
    }
    for task in &group.tasks {
        let mut within = Findings::default();
        of_task(task, &mut within);
        found.at(labelled("task", &task.name)).part(format!("Task {:?} has warnings", task.name), within);
    }
    found
}

fn of_task(task: &Task, found: &mut Findings) {
    if let Some(key) = driver_config::lacks(&task.driver, &task.config) {
        found.at("config").say(format!("{} config: {key:?} is missing, the task cannot start", task.driver));
    }
    if let Some(resources) = &task.resources {
        found.at("resources.iops").when(resources.iops.unwrap_or(0) > 0, || {
            "iops is deprecated and ignored, remove it from the resources block".into()
        });
        found.at("resources.network[0]").when(!resources.networks.is_empty(), || {
            "network in resources is deprecated, use the network block of the group".into()
        });
    }
    let vault_grace = task.templates.iter().position(|one| one.vault_grace.is_some_and(|grace| grace.0 != 0));
    let place = format!("template[{}].vault_grace", vault_grace.unwrap_or(0));
    found.at(place).when(vault_grace.is_some(), || {
        "vault_grace is deprecated and ignored, remove it from the template block".into()
    });
    found.when(!task.services.is_empty() && task.shutdown_delay.0 == 0, || {
        "task has services but no shutdown_delay set; requests may still arrive while it is being stopped".into()
    });
    for one in &task.identities {
        let mut texts = identity(one);
        if one.name.starts_with("vault_") && task.vault.is_none() {
            texts.push("the task has such an identity but no vault block");
        }
        found
            .at(labelled("identity", &one.name))
            .when(!texts.is_empty(), || format!("identity {:?}: {}", one.name, texts.join("; ")));
    }
    for (i, service) in task.services.iter().enumerate() {
        found.at(format!("service[{i}]")).all(of_service(service));
    }
}

fn of_service(service: &Service) -> Findings {
    let mut found = Findings::default();
    if let Some(one) = &service.identity {
        let texts = identity(one);
        found
            .at("identity")
            .when(!texts.is_empty(), || format!("identity of service {:?}: {}", service.name, texts.join("; ")));
    }
    let sidecar = service.connect.as_ref().and_then(|connect| connect.sidecar_task.as_ref());
    found
        .at("connect.sidecar_task")
        .when(sidecar.is_some_and(|sidecar| sidecar.shutdown_delay.is_none_or(|delay| delay.0 == 0)), || {
            format!("sidecar_task of service {:?} has no shutdown_delay set", service.name)
        });
    found
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
    if one.env && one.ttl.0 > 0 && one.change_mode != "restart" {
        texts.push(
            "in the environment without change_mode \"restart\", it may result in task not getting updated identity",
        );
    }
    texts
}
