//! Rules of a task group.

use std::collections::BTreeMap;

use super::problem::Findings;
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
    found.when(group.count() < 0, || "Task group count can't be negative".into());
    found.when(group.tasks.is_empty() && !brings_task(group), || "Missing tasks for task group".into());
    delays(group, job, &mut found);
    constraint::constraints(&group.constraints, constraint::At::Group, &mut found);
    constraint::scores(&group.affinities, &group.spreads, job.kind(), &mut found);
    policies(group, job, &mut found);
    let disk = group.disk_mb();
    found.when(disk < DISK_MB_MIN, || format!("minimum DiskMB value is {DISK_MB_MIN}; got {disk}"));
    found.all(volume::requests(group, job));
    task_names(group, &mut found);
    found.part("Task group network validation failed", network::of_group(group));
    found.all(service::of_group(group));
    if let Some(consul) = &group.consul {
        found.when(!matches!(consul.cluster.as_str(), "" | "default"), || {
            format!("Consul cluster {:?} requires Nomad Enterprise", consul.cluster)
        });
    }
    if let Some(scaling) = &group.scaling {
        found.part("Scaling policy invalid", policy::scaling(scaling, group.count()));
    }
    for one in &group.tasks {
        found.part(format!("Task {} validation failed", one.name), task::check(one, group, job));
    }
    found
}

/// A gateway service brings the task that serves it.
fn brings_task(group: &TaskGroup) -> bool {
    group.services.iter().any(|service| service.connect.as_ref().is_some_and(|connect| connect.gateway.is_some()))
}

fn delays(group: &TaskGroup, job: &Job, found: &mut Findings) {
    found.when(group.shutdown_delay.is_some_and(|delay| delay.0 < 0), || {
        "ShutdownDelay must be a positive value".into()
    });
    if let Some(most) = group.max_run_duration {
        found.when(most.0 <= 0, || "MaxRunDuration must be greater than zero".into());
        found.when(!matches!(job.kind(), Some(JobKind::Batch | JobKind::SysBatch)), || {
            format!("Job type {:?} does not allow max_run_duration", job.kind_text())
        });
    }
}

fn policies(group: &TaskGroup, job: &Job, found: &mut Findings) {
    let kind = job.kind();
    match &group.restart_policy {
        Some(restart) => found.part("", policy::restart(restart)),
        None => found.say(format!("Task Group {} should have a restart policy", group.name())),
    }
    match (&group.reschedule_policy, kind) {
        (Some(_), Some(JobKind::System)) => found.say("System jobs should not have a reschedule policy"),
        (Some(_), Some(JobKind::SysBatch)) => found.say("SysBatch jobs should not have a reschedule policy"),
        (Some(reschedule), _) => found.part("", policy::reschedule(reschedule)),
        (None, Some(JobKind::Service | JobKind::Batch)) => {
            found.say(format!("Task Group {} should have a reschedule policy", group.name()));
        }
        (None, _) => {}
    }
    if let Some(update) = &group.update {
        if matches!(kind, Some(JobKind::Service | JobKind::System)) {
            found.part("", policy::update(update));
        } else {
            found.say(format!("Job type {:?} does not allow update block", job.kind_text()));
        }
    }
    if let Some(migrate) = &group.migrate {
        if kind == Some(JobKind::Service) {
            found.part("", policy::migrate(migrate));
        } else {
            found.say(format!("Job type {:?} does not allow migrate block", job.kind_text()));
        }
    }
    if let Some(disconnect) = &group.disconnect {
        found.all(policy::disconnect(disconnect, kind));
    }
}

fn task_names(group: &TaskGroup, found: &mut Findings) {
    let (mut seen, mut leaders) = (BTreeMap::new(), 0);
    for (i, one) in group.tasks.iter().enumerate() {
        found.when(one.name.is_empty(), || format!("Task {} missing name", i + 1));
        match seen.get(one.name.as_str()) {
            Some(first) => found.say(format!("Task {} redefines {:?} from task {first}", i + 1, one.name)),
            None => drop(seen.insert(one.name.as_str(), i + 1)),
        }
        leaders += usize::from(one.leader);
    }
    found.when(leaders > 1, || "Only one task may be marked as leader".into());
    let main = group.tasks.iter().any(|task| task.stage() == TaskStage::Main && task.lifecycle.is_none());
    found.when(!group.tasks.is_empty() && !main, || {
        format!("Task group {} must have at least one main task", group.name())
    });
}
