//! Which directories of the host does a task see, and where?
//!
//! A task's `volume_mount` names a request of its group, the request names a volume of the node, and the node's
//! configuration names the directory: no path of the host ever comes from a job. A mount is for reading only if
//! any of the three says so. What cannot be resolved is a sentence that names the volume, and the task does not
//! start. Whether the task's driver can do it is asked first; where in a container it may be is the driver's to say.

use std::path::{Path, PathBuf};

use driver::host_mount::{HostMount, Propagation};
use model::group::VolumeRequest;
use model::task::{Task, VolumeMount};
use model::{Allocation, Node, TaskGroup};

/// What a task's mounts are resolved against.
pub struct Place<'a> {
    pub alloc: &'a Allocation,
    pub group: &'a TaskGroup,
    /// As this agent makes it from its own configuration.
    pub node: &'a Node,
    /// The driver can mount.
    pub mounts: bool,
}

/// Looks at the host: blocks.
///
/// # Errors
/// A sentence for the task's events.
pub fn resolve(
    place: &Place<'_>,
    task: &Task,
    interpolated: &impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<HostMount>, String> {
    task.volume_mounts.iter().map(|mount| resolve_one(place, task, mount, interpolated)).collect()
}

fn resolve_one(
    place: &Place<'_>,
    task: &Task,
    mount: &VolumeMount,
    interpolated: &impl Fn(&str) -> Result<String, String>,
) -> Result<HostMount, String> {
    let text = |given: &Option<String>| given.clone().unwrap_or_default();
    let name = interpolated(&text(&mount.volume))?;
    let wrong = |why: String| format!("volume {name:?} cannot be mounted: {why}");
    if !place.mounts {
        return Err(wrong(format!(
            "tasks of driver {:?} see the host as it is, and nothing at another place",
            task.driver
        )));
    }
    let request = place.group.volumes.get(&name);
    let request = request.ok_or_else(|| wrong(format!("group {:?} does not ask for it", place.group.name())))?;
    if request.kind != "host" {
        return Err(wrong(format!("volumes of type {:?} are not built", request.kind)));
    }
    let source = source(place.alloc, request).map_err(wrong)?;
    let volume = place.node.host_volumes.get(&source);
    let volume = volume.ok_or_else(|| wrong(format!("this node has no host volume {source:?}")))?;
    is_there(Path::new(&volume.path)).map_err(|why| wrong(format!("host volume {source:?}: {why}")))?;
    let propagation = text(&mount.propagation_mode);
    Ok(HostMount {
        source: PathBuf::from(&volume.path),
        destination: interpolated(&text(&mount.destination))?,
        read_only: volume.read_only || request.read_only || mount.read_only == Some(true),
        propagation: Propagation::parse(&propagation)
            .ok_or_else(|| wrong(format!("propagation mode {propagation:?} is not known")))?,
        selinux_label: text(&mount.se_linux_label),
        volume: name,
    })
}

/// The node's volume that a request is for.
fn source(alloc: &Allocation, request: &VolumeRequest) -> Result<String, String> {
    if !request.per_alloc {
        return Ok(request.source.clone());
    }
    let index = alloc.index().ok_or_else(|| format!("the allocation {:?} has no index", alloc.name))?;
    Ok(format!("{}[{index}]", request.source))
}

/// Nothing is made in place of what an operator has lost.
///
/// # Errors
/// The path and why.
pub fn is_there(path: &Path) -> Result<(), String> {
    std::fs::metadata(path).map(drop).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::node::HostVolumeInfo;

    fn resolved(change: impl FnOnce(&mut TaskGroup, &mut Node, &mut VolumeMount)) -> Result<HostMount, String> {
        let dir = tempfile::tempdir().unwrap();
        let info = |path: &Path| HostVolumeInfo { path: path.display().to_string(), ..HostVolumeInfo::default() };
        let mut node = Node::default();
        for name in ["data", "data[2]"] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            node.host_volumes.insert(name.to_owned(), info(&path));
        }
        let request = VolumeRequest { kind: "host".into(), source: "data".into(), ..VolumeRequest::default() };
        let mut group = TaskGroup { volumes: [("v".to_owned(), request)].into(), ..TaskGroup::default() };
        let mut mount =
            VolumeMount { volume: Some("v".into()), destination: Some("${dir}/data".into()), ..VolumeMount::default() };
        change(&mut group, &mut node, &mut mount);
        let alloc = Allocation { name: "job.g[2]".into(), ..Allocation::default() };
        let task = Task { driver: "docker".into(), volume_mounts: vec![mount], ..Task::default() };
        let place = Place { alloc: &alloc, group: &group, node: &node, mounts: task.driver == "docker" };
        let said = |text: &str| Ok(text.replace("${dir}", "/local").replace("${name}", "v"));
        let mut mounts = resolve(&place, &task, &said)?;
        Ok(mounts.remove(0))
    }

    fn request(group: &mut TaskGroup) -> &mut VolumeRequest {
        group.volumes.get_mut("v").unwrap()
    }

    #[test]
    fn a_mount_is_the_nodes_directory_at_the_tasks_place() {
        let made = resolved(|_, _, mount| mount.volume = Some("${name}".into())).unwrap();
        assert!(made.source.ends_with("data"), "{made:?}");
        assert_eq!((made.volume.as_str(), made.destination.as_str()), ("v", "/local/data"));
        assert_eq!((made.read_only, made.propagation), (false, Propagation::Private));
        let made = resolved(|_, _, mount| mount.propagation_mode = Some("host-to-task".into())).unwrap();
        assert_eq!(made.propagation, Propagation::HostToTask);
    }

    #[test]
    fn volume_02_each_allocation_has_the_volume_of_its_index() {
        let made = resolved(|group, _, _| request(group).per_alloc = true).unwrap();
        assert!(made.source.ends_with("data[2]"), "{made:?}");
        let lost = resolved(|group, node, _| {
            request(group).per_alloc = true;
            node.host_volumes.remove("data[2]");
        });
        assert_eq!(lost.unwrap_err(), "volume \"v\" cannot be mounted: this node has no host volume \"data[2]\"");
    }

    #[test]
    fn one_word_of_three_makes_a_mount_read_only() {
        let words: [fn(&mut TaskGroup, &mut Node, &mut VolumeMount); 3] = [
            |group, _, _| request(group).read_only = true,
            |_, node, _| node.host_volumes.get_mut("data").unwrap().read_only = true,
            |_, _, mount| mount.read_only = Some(true),
        ];
        for word in words {
            assert!(resolved(word).unwrap().read_only);
        }
        assert!(!resolved(|_, _, mount| mount.read_only = Some(false)).unwrap().read_only);
    }

    #[test]
    fn volume_01_what_cannot_be_resolved_is_named() {
        type Change = fn(&mut TaskGroup, &mut Node, &mut VolumeMount);
        let cases: [(Change, &str); 5] = [
            (
                |_, node, _| node.host_volumes.clear(),
                "volume \"v\" cannot be mounted: this node has no host volume \"data\"",
            ),
            (
                |_, node, _| node.host_volumes.get_mut("data").unwrap().path = "/no/such/dir".into(),
                "volume \"v\" cannot be mounted: host volume \"data\": /no/such/dir: No such file or directory",
            ),
            (
                |_, _, mount| mount.volume = Some("w".into()),
                "volume \"w\" cannot be mounted: group \"\" does not ask for it",
            ),
            (|group, _, _| request(group).kind = "csi".into(), "volumes of type \"csi\" are not built"),
            (|_, _, mount| mount.propagation_mode = Some("odd".into()), "propagation mode \"odd\" is not known"),
        ];
        for (change, told) in cases {
            let error = resolved(change).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_job_can_name_no_path_of_the_host() {
        for source in ["/etc", "../data", "data/..", "./data", "data[2]/../data", ""] {
            let lost = resolved(|group, _, _| request(group).source = source.into());
            assert!(lost.unwrap_err().contains("this node has no host volume"), "{source}");
        }
    }

    #[test]
    fn raw_exec_08_a_driver_that_cannot_mount_refuses_the_task() {
        let mount = VolumeMount { volume: Some("v".into()), ..VolumeMount::default() };
        let task = Task { driver: "raw_exec".into(), volume_mounts: vec![mount], ..Task::default() };
        let (alloc, group, node) = (Allocation::default(), TaskGroup::default(), Node::default());
        let place = Place { alloc: &alloc, group: &group, node: &node, mounts: false };
        let error = resolve(&place, &task, &|text: &str| Ok(text.to_owned())).unwrap_err();
        assert!(error.starts_with("volume \"v\" cannot be mounted: tasks of driver \"raw_exec\""), "{error}");
    }
}
