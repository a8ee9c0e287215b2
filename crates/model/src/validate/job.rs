//! Rules of the job itself.

use std::collections::BTreeMap;

use super::problem::Findings;
use super::problem::labelled;
use super::{Limits, constraint, group, list};
use crate::access::PRIORITY_MIN;
use crate::cron::Schedule;
use crate::job::{Job, ParameterizedJobConfig, PeriodicConfig};
use crate::status::JobKind;

/// Longest description shown in a user interface, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1000;
const KINDS: [&str; 4] = ["service", "batch", "system", "sysbatch"];

pub(super) fn check(job: &Job, limits: Limits) -> Findings {
    let mut found = Findings::default();
    names(job, &mut found);
    if job.kind_text() == "_core" || job.kind_text() == "core" {
        found.at("type").say("job type cannot be core");
    } else {
        found.at("type").unless_known(job.kind_text(), &KINDS, || format!("Invalid job type: {:?}", job.kind_text()));
    }
    found
        .at("datacenters")
        .when(job.datacenters.iter().any(String::is_empty), || "datacenter must be non-empty string".into());
    found.when(job.task_groups.is_empty(), || "Missing job task groups".into());
    found.when(!job.dispatched && !job.payload.is_empty(), || {
        "job can't be submitted with a payload, it can only be dispatched with one".into()
    });
    counts(job, limits, &mut found);
    constraint::constraints(&job.constraints, constraint::At::Job, &mut found);
    constraint::scores(&job.affinities, &job.spreads, job.kind(), &mut found);
    group_names(job, &mut found);
    for one in &job.task_groups {
        let name = one.name();
        found
            .at(format!("{}.count", labelled("group", name)))
            .when(job.kind() == Some(JobKind::System) && one.count() > 1, || {
                format!("Job task group {name} has count {}. Count cannot exceed 1 with system scheduler", one.count())
            });
        found.at(labelled("group", name)).part(format!("Task group {name} validation failed"), group::check(one, job));
    }
    let scaled = job.task_groups.iter().any(|group| group.scaling.is_some());
    let scaling = job.task_groups.iter().find(|group| group.scaling.is_some());
    let scaling = scaling.map_or_else(String::new, |group| format!("{}.scaling", labelled("group", group.name())));
    found.at(scaling).when(job.kind() == Some(JobKind::System) && scaled, || {
        "Task groups with job type system do not support scaling blocks".into()
    });
    launching(job, &mut found);
    found.at("multiregion").when(job.is_multiregion(), || "Multiregion jobs are unlicensed".into());
    if let Some(ui) = &job.ui {
        let length = ui.description.len();
        found.at("ui.description").when(length > DESCRIPTION_BYTES_MAX, || {
            format!("UI description must be under {DESCRIPTION_BYTES_MAX} characters, currently {length}")
        });
    }
    found
}

fn names(job: &Job, found: &mut Findings) {
    let region = job.region.as_deref().unwrap_or("");
    found.at("region").when(region.is_empty() && !job.is_multiregion(), || "Missing job region".into());
    let id = job.id();
    found.at("id").when(id.is_empty(), || "Missing job ID".into());
    found.at("id").when(id.as_str().contains(' '), || "Job ID contains a space".into());
    found.at("id").when(id.as_str().contains('\0'), || "Job ID contains a null character".into());
    let name = job.name.as_deref().unwrap_or("");
    found.at("name").when(name.is_empty(), || "Missing job name".into());
    found.at("name").when(name.contains('\0'), || "Job Name contains a null character".into());
}

fn counts(job: &Job, limits: Limits, found: &mut Findings) {
    let priority = job.priority.unwrap_or(0);
    found.at("priority").when(!(PRIORITY_MIN..=limits.priority_max).contains(&priority), || {
        format!("job priority must be between [{PRIORITY_MIN}, {}]", limits.priority_max)
    });
    let total = job.total_count();
    found.when(limits.count_max > 0 && total > limits.count_max, || {
        format!("total count was greater than configured job_max_count: {total} > {}", limits.count_max)
    });
}

fn group_names(job: &Job, found: &mut Findings) {
    let mut seen = BTreeMap::new();
    for (i, one) in job.task_groups.iter().enumerate() {
        let name = one.name();
        let path = labelled("group", name);
        found.at(path.clone()).when(name.is_empty(), || format!("Job task group {} missing name", i + 1));
        found
            .at(path.clone())
            .when(name.contains('\0'), || format!("Job task group {} name contains null character", i + 1));
        match seen.get_mut(name) {
            Some((first, times)) => {
                found
                    .at(format!("{path}[{times}]"))
                    .say(format!("Job task group {} redefines {name:?} from group {first}", i + 1));
                *times += 1;
            }
            None => drop(seen.insert(name, (i + 1, 1))),
        }
    }
}

/// Periodic and parameterized jobs.
fn launching(job: &Job, found: &mut Findings) {
    let ends = matches!(job.kind(), Some(JobKind::Batch | JobKind::SysBatch));
    if let Some(config) = job.periodic.as_ref().filter(|config| config.enabled.unwrap_or(true)) {
        found
            .at("periodic")
            .when(!ends, || "Periodic can only be used with \"batch\" or \"sysbatch\" scheduler".into());
        found.at("periodic").part("", periodic(config));
    }
    if let Some(config) = &job.parameterized_job {
        found
            .at("parameterized")
            .when(!ends, || "Parameterized job can only be used with \"batch\" or \"sysbatch\" scheduler".into());
        found.at("parameterized").part("", parameterized(config));
    }
}

fn periodic(config: &PeriodicConfig) -> Findings {
    let mut found = Findings::default();
    let spec = config.spec.as_deref().unwrap_or("");
    found.at("crons").when(!spec.is_empty() && !config.specs.is_empty(), || "Only cron or crons may be used".into());
    found.when(spec.is_empty() && config.specs.is_empty(), || "Must specify a spec".into());
    if let Err(error) = config.zone() {
        found
            .at("time_zone")
            .say(format!("Invalid time zone {:?}: {error}", config.time_zone.as_deref().unwrap_or("")));
    }
    let kind = config.spec_type.as_deref().unwrap_or("cron");
    found.when(kind != "cron", || format!("Unknown periodic specification type {kind:?}"));
    if kind == "cron" {
        let attribute = if config.specs.is_empty() { "cron" } else { "crons" };
        for spec in config.schedules() {
            if let Err(reason) = Schedule::parse(spec) {
                found.at(attribute).say(format!("Invalid cron spec {spec:?}: {reason}"));
            }
        }
    }
    found
}

fn parameterized(config: &ParameterizedJobConfig) -> Findings {
    let mut found = Findings::default();
    found.at("payload").unless_known(&config.payload, &["optional", "required", "forbidden"], || {
        format!("Unknown payload requirement: {:?}", config.payload)
    });
    let both: Vec<&String> = config.meta_required.iter().filter(|key| config.meta_optional.contains(key)).collect();
    found.at("meta_required").when(!both.is_empty(), || {
        format!("Required and optional meta keys should be disjoint. Following keys exist in both: {}", list(&both))
    });
    found
}
