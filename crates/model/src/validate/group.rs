//! Rules of a task group.

use std::collections::BTreeMap;

use super::problem::Findings;
use super::problem::labelled;
use super::{constraint, network, policy, service, task, volume};
use crate::access::TaskStage;
use crate::group::TaskGroup;
use crate::job::Job;
use crate::status::JobKind;

/// Least disk a group may ask for, in MiB.
const DISK_MB_MIN: i64 = 10;

pub(super) fn check(group: &TaskGroup, job: &Job) -> Findings {
    let mut found = Findings::default();
    found.when(group.name().is_empty(), || "Missing task group name".into());
    found.at("count").when(group.count() < 0, || "Task group count can't be negative".into());
    found.when(group.tasks.is_empty() && !brings_task(group), || "Missing tasks for task group".into());
    delays(group, job, &mut found);
    constraint::constraints(&group.constraints, constraint::At::Group, &mut found);
    constraint::scores(&group.affinities, &group.spreads, job.kind(), &mut found);
    policies(group, job, &mut found);
    let disk = group.disk_mb();
    found
        .at("ephemeral_disk.size")
        .when(disk < DISK_MB_MIN, || format!("minimum DiskMB value is {DISK_MB_MIN}; got {disk}"));
    found.all(volume::requests(group, job));
    task_names(group, &mut found);
    found.part("Task group network validation failed", network::of_group(group));
    found.all(service::of_group(group));
    if let Some(consul) = &group.consul {
        found.at("consul.cluster").when(!matches!(consul.cluster.as_str(), "" | "default"), || {
            format!("Consul cluster {:?} requires Nomad Enterprise", consul.cluster)
        });
    }
    if let Some(scaling) = &group.scaling {
        found.at("scaling").part("Scaling policy invalid", policy::scaling(scaling, group.count()));
    }
    for one in &group.tasks {
        found
            .at(labelled("task", &one.name))
            .part(format!("Task {} validation failed", one.name), task::check(one, group, job));
    }
    found
}

/// A gateway service brings the task that serves it.
fn brings_task(group: &TaskGroup) -> bool {
    group.services.iter().any(|service| service.connect.as_ref().is_some_and(|connect| connect.gateway.is_some()))
}

fn delays(group: &TaskGroup, job: &Job, found: &mut Findings) {
    found.at("shutdown_delay").when(group.shutdown_delay.is_some_and(|delay| delay.0 < 0), || {
        "ShutdownDelay must be a positive value".into()
    });
    if let Some(most) = group.max_run_duration {
        found.at("max_run_duration").when(most.0 <= 0, || "MaxRunDuration must be greater than zero".into());
        found.at("max_run_duration").when(!matches!(job.kind(), Some(JobKind::Batch | JobKind::SysBatch)), || {
            format!("Job type {:?} does not allow max_run_duration", job.kind_text())
        });
    }
}

fn policies(group: &TaskGroup, job: &Job, found: &mut Findings) {
    let kind = job.kind();
    match &group.restart_policy {
        Some(restart) => found.at("restart").part("", policy::restart(restart)),
        None => found.say(format!("Task Group {} should have a restart policy", group.name())),
    }
    match (&group.reschedule_policy, kind) {
        (Some(_), Some(JobKind::System)) => {
            found.at("reschedule").say("System jobs should not have a reschedule policy")
        }
        (Some(_), Some(JobKind::SysBatch)) => {
            found.at("reschedule").say("SysBatch jobs should not have a reschedule policy")
        }
        (Some(reschedule), _) => found.at("reschedule").part("", policy::reschedule(reschedule)),
        (None, Some(JobKind::Service | JobKind::Batch)) => {
            found.say(format!("Task Group {} should have a reschedule policy", group.name()));
        }
        (None, _) => {}
    }
    if let Some(update) = &group.update {
        if matches!(kind, Some(JobKind::Service | JobKind::System)) {
            found.at("update").part("", policy::update(update));
        } else {
            found.at("update").say(format!("Job type {:?} does not allow update block", job.kind_text()));
        }
    }
    if let Some(migrate) = &group.migrate {
        if kind == Some(JobKind::Service) {
            found.at("migrate").part("", policy::migrate(migrate));
        } else {
            found.at("migrate").say(format!("Job type {:?} does not allow migrate block", job.kind_text()));
        }
    }
    if let Some(disconnect) = &group.disconnect {
        found.at("disconnect").all(policy::disconnect(disconnect, kind));
    }
}

fn task_names(group: &TaskGroup, found: &mut Findings) {
    let (mut seen, mut leaders, mut last_leader) = (BTreeMap::new(), 0, String::new());
    for (i, one) in group.tasks.iter().enumerate() {
        let path = labelled("task", &one.name);
        found.at(path.clone()).when(one.name.is_empty(), || format!("Task {} missing name", i + 1));
        match seen.get_mut(one.name.as_str()) {
            Some((first, times)) => {
                found.at(format!("{path}[{times}]")).say(format!(
                    "Task {} redefines {:?} from task {first}",
                    i + 1,
                    one.name
                ));
                *times += 1;
            }
            None => drop(seen.insert(one.name.as_str(), (i + 1, 1))),
        }
        if one.leader {
            leaders += 1;
            last_leader = format!("{path}.leader");
        }
    }
    found.at(last_leader).when(leaders > 1, || "Only one task may be marked as leader".into());
    let main = group.tasks.iter().any(|task| task.stage() == TaskStage::Main && task.lifecycle.is_none());
    found.when(!group.tasks.is_empty() && !main, || {
        format!("Task group {} must have at least one main task", group.name())
    });
}
