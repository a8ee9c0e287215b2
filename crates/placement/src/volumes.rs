//! What is known of volumes beside the nodes' rows, and the checks of a group against it, node by node.
//!
//! Rows of dynamic host volumes and of CSI volumes come in with the fleet ([`Fleet::with_volumes`]): whoever
//! holds such rows gives them to it. Nobody does yet, so a request for a dynamic host volume or a CSI volume is
//! infeasible everywhere: a volume is never supposed to be there. Host volumes that a node's configuration names
//! stand in the node's row. What uses a volume *now* is not in the rows but counted from the allocations of the working copy, so that it holds for
//! what the same plan places and stops.
//!
//! [`Fleet::with_volumes`]: crate::Fleet::with_volumes

use std::collections::{BTreeMap, BTreeSet};

use model::group::VolumeRequest;
use model::{AllocId, JobId, NamespaceName, Node, NodeId, TaskGroup};

use crate::fleet::Slot;
use crate::volume::{CsiVolume, HostVolume, NoVolume, StickyClaim, csi_volume, host_volume, sticky};
use crate::work::Work;

/// Rows of volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Dynamic host volumes by id.
    pub host: BTreeMap<String, HostVolume>,
    pub csi: BTreeMap<(NamespaceName, String), CsiVolume>,
    pub claims: Vec<Claim>,
}

/// A dynamic host volume that an allocation with a sticky request was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub namespace: NamespaceName,
    pub job: JobId,
    pub group: String,
    pub volume: String,
    /// Where the volume is.
    pub node: NodeId,
}

/// What stands on a node, for requests whose answer depends on it.
pub(crate) trait Site {
    /// Somebody writes to a host volume of that name there, or may.
    fn writes(&self, source: &str) -> bool;
    /// CSI volumes of a plugin that are attached there.
    fn attached(&self, plugin: &str) -> usize;
    /// An allocation of the group is on that node.
    fn serves(&self, node: &NodeId) -> bool;
}

/// A node on which nobody is.
pub(crate) struct Vacant;

impl Site for Vacant {
    fn writes(&self, _: &str) -> bool {
        false
    }

    fn attached(&self, _: &str) -> usize {
        0
    }

    fn serves(&self, _: &NodeId) -> bool {
        false
    }
}

/// A group's requests.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    all: Vec<VolumeRequest>,
    namespace: NamespaceName,
    job: JobId,
    group: String,
}

impl Requests {
    pub(crate) fn of(namespace: NamespaceName, job: JobId, group: &TaskGroup) -> Self {
        Self { all: group.volumes.values().cloned().collect(), namespace, job, group: group.name().to_owned() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// # Errors
    /// The first request that the node cannot serve.
    pub(crate) fn check(&self, node: &Node, rows: &Volumes, site: &dyn Site) -> Result<(), NoVolume> {
        let mut claims = self.claims(rows, site);
        for request in &self.all {
            if request.kind == "csi" {
                let volume = rows.csi.get(&(self.namespace.clone(), request.source.clone()));
                let attached = volume.map_or(0, |volume| site.attached(&volume.plugin));
                csi_volume(node, request, None, volume, attached, (&self.namespace, &self.job))?;
                continue;
            }
            let with_use = |id: &str| {
                let has_writer = |row: &HostVolume| row.has_writer || site.writes(&request.source);
                rows.host.get(id).map(|row| HostVolume { has_writer: has_writer(row), ..row.clone() })
            };
            host_volume(node, request, None, &self.namespace, &with_use)?;
            let id = node.host_volumes.get(&request.source).map_or("", |info| &info.id);
            if request.sticky && !sticky(&mut claims, id) {
                return Err(NoVolume::Host);
            }
        }
        Ok(())
    }

    fn claims(&self, rows: &Volumes, site: &dyn Site) -> Vec<StickyClaim> {
        let own =
            |claim: &&Claim| claim.namespace == self.namespace && claim.job == self.job && claim.group == self.group;
        let claim = |claim: &Claim| StickyClaim { volume: claim.volume.clone(), met: site.serves(&claim.node) };
        rows.claims.iter().filter(own).map(claim).collect()
    }

    /// What no change of a node would bring, as blocked evaluations name it.
    pub(crate) fn missing(&self, rows: &Volumes) -> impl Iterator<Item = String> {
        let missing = |request: &&VolumeRequest| {
            request.kind == "csi" && !rows.csi.contains_key(&(self.namespace.clone(), request.source.clone()))
        };
        self.all.iter().filter(missing).map(|request| format!("csi-volume:{}:{}", self.namespace, request.source))
    }
}

/// How a placement's search differs from those of the rest of its group: by the volumes of its index, or by
/// what its siblings were given (the second number, which no two share).
pub(crate) type Variant = Option<(usize, usize)>;

/// Whether allocations of the group see different volumes; `name` is the allocation's, `serial` a new number.
pub(crate) fn variant(group: &TaskGroup, name: &str, serial: usize) -> Variant {
    let asks = |what: fn(&VolumeRequest) -> bool| group.volumes.values().any(what);
    if group.volumes.is_empty() || !asks(|request| request.per_alloc || request.sticky) {
        return None;
    }
    Some((index_of(name), if asks(|request| request.sticky) { serial } else { 0 }))
}

/// The group as an allocation of that name sees it: each with volumes of its own asks for those of its index.
pub(crate) fn resolved(group: &TaskGroup, name: &str) -> TaskGroup {
    let mut group = group.clone();
    for request in group.volumes.values_mut().filter(|request| request.per_alloc) {
        request.source = format!("{}[{}]", request.source, index_of(name));
        request.per_alloc = false;
    }
    group
}

/// The number at the end of `job.group[3]`.
fn index_of(name: &str) -> usize {
    let digits = name.strip_suffix(']').and_then(|name| name.rsplit_once('[')).map(|(_, digits)| digits);
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A node of the working copy, seen by a group; perhaps as if one allocation were not there.
pub(crate) struct AtNode<'a> {
    pub work: &'a Work<'a>,
    pub slot: Slot,
    pub group_no: usize,
    pub without: Option<&'a AllocId>,
}

impl AtNode<'_> {
    /// What each allocation there asks for, under the name it has it, and in which namespace; `None` for one of which
    /// nothing is known.
    fn used(&self) -> impl Iterator<Item = Option<(NamespaceName, Vec<VolumeRequest>)>> {
        let tenants = self.work.fleet.row(self.slot).tenants();
        tenants.iter().filter(|tenant| Some(&tenant.id) != self.without).map(|tenant| {
            let Some(alloc) = self.work.state.alloc(&tenant.id) else {
                // Placed by this very plan, or by one that is on its way, of which nothing is known.
                let (namespace, _) = self.work.job_id()?;
                return self.work.mounts.get(&tenant.id).map(|requests| (namespace.clone(), requests.clone()));
            };
            let job = self.work.state.job_of_alloc(alloc)?;
            let group = job.lookup_group(&alloc.task_group)?;
            Some((alloc.namespace.clone(), resolved(group, &alloc.name).volumes.into_values().collect()))
        })
    }
}

impl Site for AtNode<'_> {
    fn writes(&self, source: &str) -> bool {
        let writer = |request: &VolumeRequest| request.kind != "csi" && request.source == source && !request.read_only;
        self.used().any(|known| known.is_none_or(|(_, requests)| requests.iter().any(writer)))
    }

    fn attached(&self, plugin: &str) -> usize {
        let rows = self.work.fleet.volumes();
        let volumes = self.used().flatten().flat_map(|(namespace, requests)| {
            let csi = requests.into_iter().filter(|request| request.kind == "csi");
            csi.map(move |request| (namespace.clone(), request.source))
        });
        let of_plugin = volumes.filter(|volume| rows.csi.get(volume).is_some_and(|row| row.plugin == plugin));
        of_plugin.collect::<BTreeSet<_>>().len()
    }

    fn serves(&self, node: &NodeId) -> bool {
        self.work.fleet.slot(node).is_some_and(|slot| self.work.of_group(self.group_no, slot) > 0)
    }
}
