//! Volumes: may a node serve a group's requests?
//!
//! A *static* host volume is a directory that a node's configuration names; the node's row says all. A
//! *dynamic* one and a CSI volume have rows of their own, which say who may use them how and who does;
//! what of these rows counts here comes in as [`HostVolume`] and [`CsiVolume`]. Where no such row is
//! known, nothing is feasible: a volume is never supposed to be there.
//!
//! Pure; asked by [`crate::feasible`]. Every answer names its reason, which is the key of metrics.

use std::collections::BTreeMap;

use model::group::VolumeRequest;
use model::{JobId, NamespaceName, Node, NodeId};

/// Why a node cannot serve a volume request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVolume {
    #[error("missing host volumes")]
    Host,
    #[error("missing CSI Volume {0}")]
    Csi(String),
    #[error("CSI plugin {0} is missing from client")]
    PluginMissing(String),
    #[error("CSI plugin {plugin} is unhealthy on client {node}")]
    PluginUnhealthy { plugin: String, node: NodeId },
    #[error("CSI plugin {plugin} has the maximum number of volumes on client {node}")]
    PluginFull { plugin: String, node: NodeId },
    #[error("did not meet topology requirement")]
    Topology,
    #[error("CSI volume {0} is unschedulable or has exhausted its available reader claims")]
    NoReader(String),
    #[error("CSI volume {0} is unschedulable or is read-only")]
    NoWriter(String),
    #[error("CSI volume {0} has exhausted its available writer claims")]
    WriterTaken(String),
    #[error(
        "CSI volume {0} has exhausted its available writer claims and is claimed by a garbage collected allocation; waiting for claim to be released"
    )]
    WriterGone(String),
}

/// What counts of a dynamic host volume's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostVolume {
    pub id: String,
    pub namespace: NamespaceName,
    pub ready: bool,
    /// (access mode, attachment mode) it may be used in.
    pub capabilities: Vec<(String, String)>,
    /// An allocation on its node writes to it, or may.
    pub has_writer: bool,
}

/// A volume that a sticky request was given before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyClaim {
    pub volume: String,
    /// Somebody uses it.
    pub met: bool,
}

/// What counts of a CSI volume's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiVolume {
    pub id: String,
    pub plugin: String,
    /// Segments of which a node must have all of one entry; empty for any node.
    pub topologies: Vec<BTreeMap<String, String>>,
    pub may_read: bool,
    pub may_write: bool,
    pub writers_max: Option<usize>,
    pub writers: Vec<CsiWriter>,
}

/// Who holds a write claim; the job is `None` when the allocation is forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiWriter {
    pub job: Option<(NamespaceName, JobId)>,
}

const READER: &str = "single-node-reader-only";
const WRITER: &str = "single-node-writer";
const SINGLE_WRITER: &str = "single-node-single-writer";
const FILE_SYSTEM: &str = "file-system";

fn source(request: &VolumeRequest, index: Option<usize>) -> String {
    match index.filter(|_| request.per_alloc) {
        Some(index) => format!("{}[{index}]", request.source),
        None => request.source.clone(),
    }
}

/// Whether a node has a host volume for a request of the allocation with that index.
///
/// # Errors
/// [`NoVolume::Host`].
pub fn host_volume(
    node: &Node,
    request: &VolumeRequest,
    index: Option<usize>,
    namespace: &NamespaceName,
    row: &dyn Fn(&str) -> Option<HostVolume>,
) -> Result<(), NoVolume> {
    let info = node.host_volumes.get(&source(request, index)).ok_or(NoVolume::Host)?;
    let fine = if info.id.is_empty() {
        !request.sticky && (request.read_only || !info.read_only)
    } else {
        row(&info.id).is_some_and(|row| of_row(&row, request, namespace))
    };
    fine.then_some(()).ok_or(NoVolume::Host)
}

fn of_row(row: &HostVolume, request: &VolumeRequest, namespace: &NamespaceName) -> bool {
    let or = |given: &str, default: &str| if given.is_empty() { default.to_owned() } else { given.to_owned() };
    let access = or(&request.access_mode, if request.read_only { READER } else { WRITER });
    let attachment = or(&request.attachment_mode, FILE_SYSTEM);
    let matches_mode = access == READER && request.read_only || access != READER && !request.read_only;
    row.ready
        && row.namespace == *namespace
        && row.capabilities.contains(&(access.clone(), attachment))
        && (matches_mode || access.contains("multi-writer"))
        && !(access == SINGLE_WRITER && row.has_writer)
}

/// Whether a sticky request may go to a volume: one of the claims that nobody meets must be for it, if
/// there are any, and that is used up.
pub fn sticky(claims: &mut Vec<StickyClaim>, volume: &str) -> bool {
    if claims.iter().all(|claim| claim.met) {
        return true;
    }
    let found = claims.iter().position(|claim| !claim.met && claim.volume == volume);
    found.map(|at| claims.remove(at)).is_some()
}

/// Whether a node can serve a CSI volume; `attached` volumes of its plugin are on the node.
///
/// # Errors
/// The first thing that is in the way.
pub fn csi_volume(
    node: &Node,
    request: &VolumeRequest,
    index: Option<usize>,
    volume: Option<&CsiVolume>,
    attached: usize,
    job: (&NamespaceName, &JobId),
) -> Result<(), NoVolume> {
    let Some(volume) = volume else { return Err(NoVolume::Csi(source(request, index))) };
    let plugin = || volume.plugin.clone();
    let Some(info) = node.csi_node_plugins.get(&volume.plugin) else { return Err(NoVolume::PluginMissing(plugin())) };
    if !info.healthy {
        return Err(NoVolume::PluginUnhealthy { plugin: plugin(), node: node.id.clone() });
    }
    let own = info.node_info.as_ref();
    let most = own.and_then(|own| usize::try_from(own.max_volumes).ok()).filter(|most| *most > 0);
    if most.is_some_and(|most| attached >= most) {
        return Err(NoVolume::PluginFull { plugin: plugin(), node: node.id.clone() });
    }
    let segments = own.and_then(|own| own.accessible_topology.as_ref()).map(|t| &t.segments);
    let within = |wanted: &BTreeMap<String, String>| {
        segments.is_some_and(|segments| wanted.iter().all(|(key, value)| segments.get(key) == Some(value)))
    };
    if !volume.topologies.is_empty() && !volume.topologies.iter().any(within) {
        return Err(NoVolume::Topology);
    }
    claims(request, volume, job)
}

fn claims(request: &VolumeRequest, volume: &CsiVolume, job: (&NamespaceName, &JobId)) -> Result<(), NoVolume> {
    let id = || volume.id.clone();
    if request.read_only {
        return if volume.may_read { Ok(()) } else { Err(NoVolume::NoReader(id())) };
    }
    if !volume.may_write {
        return Err(NoVolume::NoWriter(id()));
    }
    if volume.writers_max.is_none_or(|most| volume.writers.len() < most) {
        return Ok(());
    }
    let own = |writer: &CsiWriter| writer.job.as_ref().map(|(namespace, id)| (namespace, id) == job);
    match volume.writers.iter().map(own).find(|own| *own != Some(true)) {
        None => Ok(()),
        Some(None) => Err(NoVolume::WriterGone(id())),
        Some(_) => Err(NoVolume::WriterTaken(id())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::node::{CSIInfo, CSINodeInfo, CSITopology, HostVolumeInfo};

    fn request(read_only: bool) -> VolumeRequest {
        VolumeRequest { kind: "host".into(), source: "data".into(), read_only, ..VolumeRequest::default() }
    }

    fn with(read_only: bool, id: &str) -> Node {
        let info = HostVolumeInfo { read_only, id: id.into(), ..HostVolumeInfo::default() };
        Node { host_volumes: [("data".to_owned(), info)].into(), ..Node::default() }
    }

    fn fits(node: &Node, request: &VolumeRequest, row: Option<HostVolume>) -> bool {
        host_volume(node, request, Some(2), &"default".into(), &|_| row.clone()).is_ok()
    }

    #[test]
    fn feasible_003_a_read_only_volume_takes_read_only_requests() {
        assert!(fits(&with(true, ""), &request(true), None));
        assert!(!fits(&with(true, ""), &request(false), None));
        assert!(fits(&with(false, ""), &request(false), None));
        assert!(!fits(&Node::default(), &request(true), None));
        let mut each = request(false);
        each.per_alloc = true;
        assert!(!fits(&with(false, ""), &each, None));
        each.source = "da".into();
        let mut node = with(false, "");
        let info = node.host_volumes["data"].clone();
        node.host_volumes.insert("da[2]".into(), info);
        assert!(fits(&node, &each, None));
    }

    #[test]
    fn feasible_004_a_static_volume_cannot_be_sticky() {
        let sticky = VolumeRequest { sticky: true, ..request(true) };
        assert!(!fits(&with(false, ""), &sticky, None));
    }

    fn row(access: &str) -> HostVolume {
        HostVolume {
            id: "v".into(),
            namespace: "default".into(),
            ready: true,
            capabilities: vec![(access.into(), FILE_SYSTEM.into())],
            has_writer: false,
        }
    }

    #[test]
    fn feasible_005_a_dynamic_volume_must_be_ready_and_able() {
        let node = with(false, "v");
        assert!(!fits(&node, &request(false), Some(HostVolume { ready: false, ..row(WRITER) })));
        assert!(!fits(&node, &request(false), Some(row(READER))));
        assert!(fits(&node, &request(false), Some(row(WRITER))));
        assert!(fits(&node, &request(true), Some(row(READER))));
        assert!(!fits(&node, &request(false), Some(HostVolume { namespace: "other".into(), ..row(WRITER) })));
        assert!(!fits(&node, &request(false), None));
    }

    #[test]
    fn feasible_006_the_claimed_volume_comes_first() {
        let claim = |volume: &str, met| StickyClaim { volume: volume.into(), met };
        let mut claims = vec![claim("a", false), claim("b", true)];
        assert!(!sticky(&mut claims, "c"));
        assert!(sticky(&mut claims, "a"));
        assert!(sticky(&mut claims, "c"), "no claim waits any more");
    }

    /// covers: feasible-008
    #[test]
    fn feasible_007_a_single_writer_is_alone_and_others_are_not() {
        let node = with(false, "v");
        let ask = |mode: &str, read_only| VolumeRequest { access_mode: mode.into(), ..request(read_only) };
        let used = |mode: &str| Some(HostVolume { has_writer: true, ..row(mode) });
        assert!(!fits(&node, &ask(SINGLE_WRITER, false), used(SINGLE_WRITER)));
        assert!(fits(&node, &ask(SINGLE_WRITER, false), Some(row(SINGLE_WRITER))));
        assert!(fits(&node, &ask("single-node-multi-writer", false), used("single-node-multi-writer")));
        assert!(fits(&node, &ask(READER, true), used(READER)));
    }

    fn plugin(healthy: bool, max_volumes: i64, zone: &str) -> Node {
        let topology = CSITopology { segments: [("zone".to_owned(), zone.to_owned())].into() };
        let own = CSINodeInfo { max_volumes, accessible_topology: Some(topology), ..CSINodeInfo::default() };
        let info = CSIInfo { healthy, node_info: Some(own), ..CSIInfo::default() };
        Node { id: "n".into(), csi_node_plugins: [("p".to_owned(), info)].into(), ..Node::default() }
    }

    fn csi() -> CsiVolume {
        CsiVolume {
            id: "v".into(),
            plugin: "p".into(),
            topologies: vec![[("zone".to_owned(), "a".to_owned())].into()],
            may_read: true,
            may_write: true,
            writers_max: Some(1),
            writers: Vec::new(),
        }
    }

    #[test]
    fn feasible_009_each_csi_obstacle_has_its_own_reason() {
        let namespace = NamespaceName::from("default");
        let job = JobId::from("j");
        let check = |node: &Node, volume: Option<&CsiVolume>, attached| {
            csi_volume(node, &request(false), None, volume, attached, (&namespace, &job))
        };
        let (fine, volume) = (plugin(true, 2, "a"), csi());
        assert_eq!(check(&fine, Some(&volume), 1), Ok(()));
        assert_eq!(check(&Node::default(), Some(&volume), 0), Err(NoVolume::PluginMissing("p".into())));
        let unhealthy = NoVolume::PluginUnhealthy { plugin: "p".into(), node: "n".into() };
        assert_eq!(check(&plugin(false, 2, "a"), Some(&volume), 0), Err(unhealthy));
        let full = NoVolume::PluginFull { plugin: "p".into(), node: "n".into() };
        assert_eq!(check(&fine, Some(&volume), 2), Err(full));
        assert_eq!(check(&plugin(true, 2, "b"), Some(&volume), 0), Err(NoVolume::Topology));
        assert_eq!(check(&fine, None, 0), Err(NoVolume::Csi("data".into())));
    }

    #[test]
    fn feasible_010_a_write_claim_of_another_blocks_until_it_is_released() {
        let (namespace, job) = (NamespaceName::from("default"), JobId::from("j"));
        let node = plugin(true, 0, "a");
        let with = |writers| CsiVolume { writers, ..csi() };
        let by = |job: Option<&str>| CsiWriter { job: job.map(|job| ("default".into(), job.into())) };
        let check = |volume: &CsiVolume| csi_volume(&node, &request(false), None, Some(volume), 0, (&namespace, &job));
        assert_eq!(check(&with(vec![by(Some("j"))])), Ok(()));
        assert_eq!(check(&with(vec![by(Some("k"))])), Err(NoVolume::WriterTaken("v".into())));
        assert_eq!(check(&with(vec![by(None)])), Err(NoVolume::WriterGone("v".into())));
        assert_eq!(check(&with(Vec::new())), Ok(()));
        let mut closed = csi();
        closed.may_write = false;
        assert_eq!(check(&closed), Err(NoVolume::NoWriter("v".into())));
    }
}
