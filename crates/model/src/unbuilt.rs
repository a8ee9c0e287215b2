//! Blocks that a job may hold, that are understood, and that nothing carries out yet.
//!
//! Parse, validate and plan accept them. Register refuses a job that has one wherever its tasks would
//! otherwise run differently from what was asked: better a refusal by name than a silence. One line per
//! block; whoever builds a block deletes its line.

use crate::group::{TaskGroup, VolumeRequest};
use crate::job::Job;
use crate::task::{Task, WorkloadIdentity};
use crate::validate::labelled;

/// Drivers that run tasks.
const DRIVERS: [&str; 3] = ["raw_exec", "docker", "mock_driver"];
/// Those of them whose tasks see the host as it is.
const MOUNTS_NOTHING: [&str; 1] = ["raw_exec"];
/// Network modes that can be set up.
const NETWORK_MODES: [&str; 4] = ["", "host", "none", "bridge"];

/// A block by its name in a job file, and whether a job, group or task has it.
type Line<T> = (&'static str, fn(&T) -> bool);

const OF_JOB: &[Line<Job>] = &[("multiregion", |job| job.multiregion.is_some())];

const OF_GROUP: &[Line<TaskGroup>] = &[
    ("volume.type", |group| group.volumes.values().any(|volume| volume.kind != "host")),
    ("volume.sticky", |group| host_volumes(group).any(|volume| volume.sticky)),
    // What a directory that an operator names cannot be held to.
    ("volume.access_mode", |group| host_volumes(group).any(|volume| volume.access_mode == "single-node-single-writer")),
    ("volume.attachment_mode", |group| host_volumes(group).any(|volume| volume.attachment_mode == "block-device")),
    ("consul", |group| group.consul.is_some()),
    ("service", |group| !group.services.is_empty()),
    ("max_run_duration", |group| group.max_run_duration.is_some()),
    ("ephemeral_disk.migrate", |group| group.ephemeral_disk.as_ref().is_some_and(|disk| disk.migrate == Some(true))),
    ("network.mode", |group| group.networks.iter().any(|one| !NETWORK_MODES.contains(&one.mode.as_str()))),
    ("network.cni", |group| group.networks.iter().any(|one| one.cni.is_some())),
];

const OF_TASK: &[Line<Task>] = &[
    ("driver", |task| !DRIVERS.contains(&task.driver.as_str())),
    ("template", |task| !task.templates.is_empty()),
    ("artifact", |task| !task.artifacts.is_empty()),
    ("volume_mount", |task| !task.volume_mounts.is_empty() && MOUNTS_NOTHING.contains(&task.driver.as_str())),
    ("vault", |task| task.vault.is_some()),
    ("consul", |task| task.consul.is_some()),
    ("service", |task| !task.services.is_empty()),
    ("secret", |task| !task.secrets.is_empty()),
    ("identity", |task| task.identity.iter().chain(&task.identities).any(is_handed_over)),
    ("csi_plugin", |task| task.csi_plugin_config.is_some()),
    ("resources.network", |task| task.resources.as_ref().is_some_and(|asked| !asked.networks.is_empty())),
];

fn host_volumes(group: &TaskGroup) -> impl Iterator<Item = &VolumeRequest> {
    group.volumes.values().filter(|volume| volume.kind == "host")
}

/// True when a task is to see the identity's token.
fn is_handed_over(identity: &WorkloadIdentity) -> bool {
    identity.env || identity.file
}

/// The blocks of a job that nothing carries out yet, each with its place, in the order of the job.
/// Empty when the job will run as asked.
pub fn unbuilt(job: &Job) -> Vec<String> {
    unbuilt_in(job).into_iter().map(|(text, _)| text).collect()
}

/// The same, each with its path ([`crate::Sentence`]).
pub fn unbuilt_in(job: &Job) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> =
        blocks_of(job, OF_JOB).map(|(name, _)| ((*name).to_owned(), (*name).to_owned())).collect();
    for group in &job.task_groups {
        let place = format!("group {:?}", group.name());
        let path = labelled("group", group.name());
        out.extend(blocks_of(group, OF_GROUP).map(|(name, _)| {
            let text = match *name {
                "volume.type" => format!("volume of type \"csi\" in {place}"),
                name => format!("{name} in {place}"),
            };
            (text, format!("{path}.{name}"))
        }));
        for task in &group.tasks {
            let place = format!("task {:?} of {place}", task.name);
            let path = format!("{path}.{}", labelled("task", &task.name));
            out.extend(blocks_of(task, OF_TASK).map(|(name, _)| {
                let text = match *name {
                    "driver" => format!("driver {:?} in {place}", task.driver),
                    "volume_mount" => format!("volume_mount with driver {:?} in {place}", task.driver),
                    name => format!("{name} in {place}"),
                };
                (text, format!("{path}.{name}"))
            }));
        }
    }
    out
}

fn blocks_of<'a, T>(noun: &'a T, lines: &'a [Line<T>]) -> impl Iterator<Item = &'a Line<T>> {
    lines.iter().filter(move |(_, has)| has(noun))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::NetworkResource;
    use crate::task::{Template, VolumeMount};

    fn job() -> Job {
        let task = Task { name: "t".into(), driver: "raw_exec".into(), ..Task::default() };
        let group = TaskGroup { name: Some("g".into()), tasks: vec![task], ..TaskGroup::default() };
        let mut job = Job { id: Some("a".into()), task_groups: vec![group], ..Job::default() };
        job.canonicalize();
        job
    }

    #[test]
    fn a_plain_job_is_built() {
        assert_eq!(unbuilt(&job()), Vec::<String>::new());
    }

    #[test]
    fn a_block_that_is_not_built_is_named_with_its_place() {
        let mut job = job();
        job.multiregion = Some(crate::job::Multiregion::default());
        job.task_groups[0].networks = vec![NetworkResource { mode: "cni/mesh".into(), ..NetworkResource::default() }];
        job.task_groups[0].tasks[0].driver = "qemu".into();
        job.task_groups[0].tasks[0].templates = vec![Template::default()];
        assert_eq!(
            unbuilt(&job),
            [
                "multiregion",
                "network.mode in group \"g\"",
                "driver \"qemu\" in task \"t\" of group \"g\"",
                "template in task \"t\" of group \"g\"",
            ]
        );
    }

    #[test]
    fn host_volumes_are_built_and_what_only_other_volumes_can_be_is_not() {
        type Change = fn(&mut VolumeRequest);
        let with = |change: Change| {
            let mut job = job();
            let mut volume = VolumeRequest { kind: "host".into(), source: "s".into(), ..VolumeRequest::default() };
            change(&mut volume);
            job.task_groups[0].volumes = [("v".to_owned(), volume)].into();
            let mount = VolumeMount { volume: Some("v".into()), destination: Some("/v".into()), ..Default::default() };
            job.task_groups[0].tasks[0].driver = "docker".into();
            job.task_groups[0].tasks[0].volume_mounts = vec![mount];
            job
        };
        let fine: [Change; 4] = [
            |_| {},
            |volume| volume.read_only = true,
            |volume| volume.per_alloc = true,
            |volume| volume.access_mode = "single-node-writer".into(),
        ];
        for change in fine {
            assert_eq!(unbuilt(&with(change)), Vec::<String>::new());
        }
        let refused: [(Change, &str); 4] = [
            (|volume| volume.kind = "csi".into(), "volume of type \"csi\" in group \"g\""),
            (|volume| volume.sticky = true, "volume.sticky in group \"g\""),
            (|volume| volume.access_mode = "single-node-single-writer".into(), "volume.access_mode in group \"g\""),
            (|volume| volume.attachment_mode = "block-device".into(), "volume.attachment_mode in group \"g\""),
        ];
        for (change, told) in refused {
            assert_eq!(unbuilt(&with(change)), [told]);
        }
        let mut job = with(|_| {});
        job.task_groups[0].tasks[0].driver = "raw_exec".into();
        assert_eq!(
            unbuilt_in(&job),
            [(
                "volume_mount with driver \"raw_exec\" in task \"t\" of group \"g\"".to_owned(),
                "group.g.task.t.volume_mount".to_owned()
            )],
            "raw_exec-08"
        );
    }
}
