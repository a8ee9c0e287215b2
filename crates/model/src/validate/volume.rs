//! Volumes that a group asks for and mounts that its tasks make of them.

use super::problem::{Findings, labelled};
use crate::group::{TaskGroup, VolumeRequest};
use crate::job::Job;
use crate::status::JobKind;
use crate::task::Task;

const HOST_ACCESS: [&str; 5] =
    ["", "single-node-reader-only", "single-node-writer", "single-node-single-writer", "single-node-multi-writer"];
const CSI_ACCESS: [&str; 5] = [
    "single-node-reader-only",
    "single-node-writer",
    "multi-node-reader-only",
    "multi-node-single-writer",
    "multi-node-multi-writer",
];
const HOST_ATTACHMENT: [&str; 3] = ["", "file-system", "block-device"];

pub(super) fn requests(group: &TaskGroup, job: &Job) -> Findings {
    let mut found = Findings::default();
    for (name, volume) in &group.volumes {
        let mut within = Findings::default();
        request(volume, group, job.kind(), &mut within);
        found.at(labelled("volume", name)).part(format!("Task group volume validation for {name} failed"), within);
    }
    found
}

fn request(volume: &VolumeRequest, group: &TaskGroup, kind: Option<JobKind>, found: &mut Findings) {
    found.at("source").when(volume.source.is_empty(), || "volume has an empty source".into());
    let canaries = group.update.as_ref().map_or(0, |update| update.canary());
    found
        .at("per_alloc")
        .when(volume.per_alloc && canaries > 0, || "volume cannot be per_alloc when canaries are in use".into());
    let per_node = matches!(kind, Some(JobKind::System | JobKind::SysBatch));
    found
        .at("per_alloc")
        .when(volume.per_alloc && per_node, || "volume cannot be per_alloc for system or sysbatch jobs".into());
    found
        .at("sticky")
        .when(volume.per_alloc && volume.sticky, || "volume cannot be per_alloc and sticky at the same time".into());
    match volume.kind.as_str() {
        "host" => host(volume, found),
        "csi" => csi(volume, group, found),
        other => {
            found.at("type").unless_known(other, &["host", "csi"], || format!("volume has unrecognized type {other}"))
        }
    }
}

fn host(volume: &VolumeRequest, found: &mut Findings) {
    let access = volume.access_mode.as_str();
    found
        .at("access_mode")
        .unless_known(access, &HOST_ACCESS, || format!("host volumes cannot have access mode {access:?}"));
    found.at("attachment_mode").unless_known(&volume.attachment_mode, &HOST_ATTACHMENT, || {
        format!("host volumes cannot have attachment mode {:?}", volume.attachment_mode)
    });
    found.at("access_mode").when(access == "single-node-reader-only" && !volume.read_only, || {
        format!("{access} volumes must be read-only")
    });
    found.at("mount_options").when(volume.mount_options.is_some(), || "host volumes cannot have mount options".into());
}

fn csi(volume: &VolumeRequest, group: &TaskGroup, found: &mut Findings) {
    let (access, attachment) = (volume.access_mode.as_str(), volume.attachment_mode.as_str());
    found.at("attachment_mode").when(attachment.is_empty(), || "CSI volumes must have an attachment mode".into());
    found.at("attachment_mode").unless_known(attachment, &HOST_ATTACHMENT, || {
        format!("CSI volumes have an unknown attachment mode {attachment:?}")
    });
    found.at("access_mode").when(access.is_empty(), || "CSI volumes must have an access mode".into());
    if !access.is_empty() {
        found
            .at("access_mode")
            .unless_known(access, &CSI_ACCESS, || format!("CSI volumes have an unknown access mode {access:?}"));
    }
    found
        .at("access_mode")
        .when(access.ends_with("reader-only") && !volume.read_only, || format!("{access} volumes must be read-only"));
    let one_node = access.starts_with("single-node");
    let one_writer = access == "multi-node-single-writer" && !volume.read_only;
    if group.count() > 1 && !volume.per_alloc {
        found.at("access_mode").when(one_node, || {
            format!(
                "volume with {access} access mode allows only one node, so it needs per_alloc for count {}",
                group.count()
            )
        });
        found.at("access_mode").when(one_writer, || {
            format!(
                "volume with {access} access mode allows only one writer, so it needs per_alloc for count {}",
                group.count()
            )
        });
    }
    found.at("mount_options").when(attachment == "block-device" && volume.mount_options.is_some(), || {
        "block devices cannot have mount options".into()
    });
    found.at("sticky").when(volume.sticky, || "CSI volumes cannot be sticky".into());
}

pub(super) fn mounts(task: &Task, group: &TaskGroup, found: &mut Findings) {
    for (i, mount) in task.volume_mounts.iter().enumerate() {
        let path = format!("volume_mount[{i}]");
        let name = mount.volume.as_deref().unwrap_or("");
        if name.is_empty() {
            found.at(format!("{path}.volume")).say(format!("Volume Mount ({i}) references an empty volume"));
        } else {
            // one of a type that there is not is refused, and mounts nothing
            let known = group.volumes.iter().filter(|(_, volume)| matches!(volume.kind.as_str(), "host" | "csi"));
            let there = known.map(|(name, _)| name.as_str());
            found
                .at(format!("{path}.volume"))
                .unless_there(name, there, || format!("Volume Mount ({i}) references undefined volume {name}"));
        }
        let mode = mount.propagation_mode.as_deref().unwrap_or("private");
        found.at(format!("{path}.propagation_mode")).unless_known(
            mode,
            &["", "private", "host-to-task", "bidirectional"],
            || format!("Volume Mount ({i}) has an invalid propagation mode: {mode:?}"),
        );
        let label = mount.se_linux_label.as_deref().unwrap_or("");
        found.at(format!("{path}.selinux_label")).when(!matches!(label, "" | "z" | "Z"), || {
            format!("Volume Mount ({i}) has an invalid SELinux label: {label:?}")
        });
        found.at(format!("{path}.destination")).when(mount.destination.as_deref().unwrap_or("").is_empty(), || {
            format!("Volume Mount ({i}) has an empty destination")
        });
    }
}
