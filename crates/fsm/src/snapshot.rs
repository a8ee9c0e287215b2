//! The state as a stream of lines, for raft's snapshots and for followers that begin.
//!
//! ```text
//!   {"format":"steppe-state","version":2,"index":…,"hash":…,"counts":{"leases":2,"jobs":17,…}}
//!   one line per row, section after section in the order of [`Section::ALL`]
//!   {"section":"jobs","sum":"…"}      after each section: checksum of everything before this line
//!   {"end":true,"sum":"…"}
//! ```
//!
//! Invariants
//! * The same state gives the same bytes, and reading them gives the same state.
//! * What can be derived is not written, except node fences: they count history, not rows.
//! * A stream that is cut, damaged, longer than it says or of another version is refused whole; no line
//!   longer than [`LINE_BYTES_MAX`] is held in memory.
//! * With a list of tables only those are written, and the copy that is read knows that it holds no
//!   others. The window of answered requests is written for raft only (no list).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use imbl::OrdMap;
use model::job::JobSubmission;
use model::keyring::RootKey;
use model::{Index, Job, JobId, NamespaceName, NodeFence, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::apply::Staged;
use crate::change::{ClusterMeta, Table};
use crate::command::{KeyMaterial, RequestId};
use crate::commit::version_key;
use crate::hash::{self, Hash};
use crate::state::State;
use crate::window::{Seen, Window};

const FORMAT: &str = "steppe-state";
/// 1 had neither autopilot nor root keys; it is still read.
const VERSION: u32 = 2;
const VERSION_OLDEST: u32 = 1;
/// No row is longer than this; commands are bounded well below it.
pub const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot cannot be read or written")]
    Io(#[from] io::Error),
    #[error("this is no snapshot of the state")]
    NotASnapshot,
    #[error(
        "snapshot has format version {0}, this program reads versions {VERSION_OLDEST} to {VERSION}: it is of a newer program, or damaged"
    )]
    UnknownVersion(u32),
    #[error("snapshot ends early, in {0}")]
    Truncated(&'static str),
    #[error("snapshot is damaged, in {0}")]
    Damaged(&'static str),
    #[error("snapshot line is longer than {LINE_BYTES_MAX} bytes, in {0}")]
    LineTooLong(&'static str),
}

/// What a section holds. The order is the order in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Leases,
    Jobs,
    JobVersions,
    JobSubmissions,
    JobSummaries,
    Nodes,
    Allocs,
    Evals,
    Deployments,
    Namespaces,
    NodePools,
    SchedulerConfig,
    JobScaling,
    PeriodicLaunches,
    JobFences,
    NodeFences,
    NodeSuspects,
    NodeRevocations,
    NodeAdmissions,
    Requests,
    Autopilot,
    RootKeys,
    KeyMaterial,
    Staged,
}

impl Section {
    const ALL: [Self; 24] = [
        Self::Leases,
        Self::Jobs,
        Self::JobVersions,
        Self::JobSubmissions,
        Self::JobSummaries,
        Self::Nodes,
        Self::Allocs,
        Self::Evals,
        Self::Deployments,
        Self::Namespaces,
        Self::NodePools,
        Self::SchedulerConfig,
        Self::JobScaling,
        Self::PeriodicLaunches,
        Self::JobFences,
        Self::NodeFences,
        Self::NodeSuspects,
        Self::NodeRevocations,
        Self::NodeAdmissions,
        Self::Requests,
        Self::Autopilot,
        Self::RootKeys,
        Self::KeyMaterial,
        Self::Staged,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Leases => Table::Leases.as_str(),
            Self::Jobs => Table::Jobs.as_str(),
            Self::JobVersions => Table::JobVersions.as_str(),
            Self::JobSubmissions => Table::JobSubmissions.as_str(),
            Self::JobSummaries => Table::JobSummaries.as_str(),
            Self::Nodes => Table::Nodes.as_str(),
            Self::Allocs => Table::Allocs.as_str(),
            Self::Evals => Table::Evals.as_str(),
            Self::Deployments => Table::Deployments.as_str(),
            Self::Namespaces => Table::Namespaces.as_str(),
            Self::NodePools => Table::NodePools.as_str(),
            Self::SchedulerConfig => Table::SchedulerConfig.as_str(),
            Self::JobScaling => Table::JobScaling.as_str(),
            Self::PeriodicLaunches => Table::PeriodicLaunches.as_str(),
            Self::JobFences => Table::JobFences.as_str(),
            Self::NodeFences => "node_fences",
            Self::NodeSuspects => "node_suspects",
            Self::NodeRevocations => "node_revocations",
            Self::NodeAdmissions => "node_admissions",
            Self::Requests => "requests",
            Self::Autopilot => Table::Autopilot.as_str(),
            Self::RootKeys => Table::RootKeys.as_str(),
            Self::KeyMaterial => "key_material",
            Self::Staged => "staged",
        }
    }

    /// Whether a copy of these tables has the section; `None` is raft's own snapshot.
    fn is_in(self, tables: Option<&BTreeSet<Table>>) -> bool {
        let Some(tables) = tables else { return true };
        match self {
            // Fences count what happens to both.
            Self::NodeFences => tables.contains(&Table::Nodes) && tables.contains(&Table::Allocs),
            Self::NodeSuspects | Self::NodeRevocations | Self::NodeAdmissions => tables.contains(&Table::Nodes),
            // The state servers' own.
            Self::Requests | Self::KeyMaterial | Self::Staged => false,
            _ => Table::parse(self.name()).is_some_and(|table| tables.contains(&table)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    index: Index,
    hash: String,
    cluster: ClusterMeta,
    tables: Option<BTreeSet<Table>>,
    table_index: Vec<Index>,
    /// See [`State::offset`]; of raft's snapshots only.
    #[serde(default, skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_floor: Option<RequestId>,
    counts: BTreeMap<String, usize>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[derive(Serialize, Deserialize)]
struct Trailer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    section: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<bool>,
    sum: String,
}

/// Writes the state, or the given tables of it. Nothing is held back: give a buffered writer.
///
/// # Errors
/// Those of the writer, and [`SnapshotError::LineTooLong`].
pub fn write_snapshot(
    state: &State,
    w: &mut (impl Write + ?Sized),
    tables: Option<&[Table]>,
) -> Result<(), SnapshotError> {
    let tables: Option<BTreeSet<Table>> = tables.map(|tables| tables.iter().copied().collect());
    let mut out = Out { w, sum: Hash::default(), line: Vec::new(), place: "header" };
    // A section that came later is left out while it is empty, so that older programs can read the rest.
    let is_there = |section: &Section| *section != Section::NodeAdmissions || !state.admissions.is_empty();
    let sections = || Section::ALL.into_iter().filter(|s| s.is_in(tables.as_ref()) && is_there(s));
    let skip_current = Section::Jobs.is_in(tables.as_ref());
    let holds = |table: &Table| tables.as_ref().is_none_or(|tables| tables.contains(table));
    out.row(&Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        index: state.index,
        hash: state.hash_text(),
        cluster: state.cluster.clone(),
        tables: tables.clone().filter(|tables| tables.len() < Table::ALL.len()),
        table_index: Table::ALL
            .iter()
            .map(|table| if holds(table) { state.table_index(*table) } else { Index(0) })
            .collect(),
        offset: if tables.is_none() { state.offset } else { 0 },
        requests_floor: if tables.is_none() { state.requests.floor } else { None },
        counts: sections().map(|s| (s.name().to_owned(), count(state, s, skip_current))).collect(),
    })?;
    for section in sections() {
        out.place = section.name();
        write_section(state, section, skip_current, &mut out)?;
        let sum = hash::text(out.sum.value());
        out.row(&Trailer { section: Some(section.name().to_owned()), end: None, sum })?;
    }
    let sum = hash::text(out.sum.value());
    out.row(&Trailer { section: None, end: Some(true), sum })?;
    out.w.flush()?;
    Ok(())
}

/// The versions to write: those that the jobs' own rows do not give back.
fn versions(state: &State, skip_current: bool) -> impl Iterator<Item = &Arc<Job>> {
    let is_current = |job: &Job| state.jobs.get(&job.key()).is_some_and(|now| version_key(now) == version_key(job));
    state.job_versions.values().filter(move |job| !(skip_current && is_current(job)))
}

fn count(state: &State, section: Section, skip_current: bool) -> usize {
    match section {
        Section::Leases => state.leases.len(),
        Section::Jobs => state.jobs.len(),
        Section::JobVersions => versions(state, skip_current).count(),
        Section::JobSubmissions => state.job_submissions.len(),
        Section::JobSummaries => state.job_summaries.len(),
        Section::Nodes => state.nodes.len(),
        Section::Allocs => state.allocs.len(),
        Section::Evals => state.evals.len(),
        Section::Deployments => state.deployments.len(),
        Section::Namespaces => state.namespaces.len(),
        Section::NodePools => state.node_pools.len(),
        Section::SchedulerConfig => usize::from(state.scheduler_config.is_some()),
        Section::JobScaling => state.job_scaling.len(),
        Section::PeriodicLaunches => state.periodic_launches.len(),
        Section::JobFences => state.job_fences.len(),
        Section::NodeFences => state.node_fences.len(),
        Section::NodeSuspects => state.suspects.len(),
        Section::NodeRevocations => state.revoked.len(),
        Section::NodeAdmissions => state.admissions.len(),
        Section::Requests => state.requests.seen.len(),
        Section::Autopilot => usize::from(state.autopilot.is_some()),
        Section::RootKeys => state.root_keys.len(),
        Section::KeyMaterial => state.key_material.len(),
        Section::Staged => state.staged.as_ref().map_or(0, |staged| 1 + staged.pieces.len()),
    }
}

fn write_section<W: Write + ?Sized>(
    state: &State,
    section: Section,
    skip_current: bool,
    out: &mut Out<'_, W>,
) -> Result<(), SnapshotError> {
    match section {
        Section::Leases => out.rows(state.leases.values()),
        Section::Jobs => out.rows(state.jobs.values()),
        Section::JobVersions => out.rows(versions(state, skip_current)),
        Section::JobSubmissions => out.rows(state.job_submissions.iter()),
        Section::JobSummaries => out.rows(state.job_summaries.values()),
        Section::Nodes => out.rows(state.nodes.values()),
        Section::Allocs => out.rows(state.allocs.values()),
        Section::Evals => out.rows(state.evals.values()),
        Section::Deployments => out.rows(state.deployments.values()),
        Section::Namespaces => out.rows(state.namespaces.values()),
        Section::NodePools => out.rows(state.node_pools.values()),
        Section::SchedulerConfig => out.rows(state.scheduler_config.iter()),
        Section::JobScaling => out.rows(state.job_scaling.values()),
        Section::PeriodicLaunches => out.rows(state.periodic_launches.values()),
        Section::JobFences => out.rows(state.job_fences.iter()),
        Section::NodeFences => out.rows(state.node_fences.iter()),
        Section::NodeSuspects => out.rows(state.suspects.iter()),
        Section::NodeRevocations => out.rows(state.revoked.iter()),
        Section::NodeAdmissions => out.rows(state.admissions.iter()),
        Section::Requests => out.rows(state.requests.seen.iter()),
        Section::Autopilot => out.rows(state.autopilot.iter()),
        Section::RootKeys => out.rows(state.root_keys.values()),
        Section::KeyMaterial => out.rows(state.key_material.iter()),
        Section::Staged => match &state.staged {
            Some(staged) => {
                out.row(&staged.id)?;
                out.rows(staged.pieces.iter())
            }
            None => Ok(()),
        },
    }
}

struct Out<'a, W: Write + ?Sized> {
    w: &'a mut W,
    sum: Hash,
    line: Vec<u8>,
    place: &'static str,
}

impl<W: Write + ?Sized> Out<'_, W> {
    fn row(&mut self, row: &impl Serialize) -> Result<(), SnapshotError> {
        self.line.clear();
        model::sparse::to_writer(&mut self.line, row).map_err(io::Error::from)?;
        if self.line.len() >= LINE_BYTES_MAX {
            return Err(SnapshotError::LineTooLong(self.place));
        }
        self.line.push(b'\n');
        self.sum.update(&self.line);
        self.w.write_all(&self.line)?;
        Ok(())
    }

    fn rows<T: Serialize>(&mut self, mut rows: impl Iterator<Item = T>) -> Result<(), SnapshotError> {
        rows.try_for_each(|row| self.row(&row))
    }
}

/// Reads what [`write_snapshot`] wrote.
///
/// # Errors
/// See [`SnapshotError`].
pub fn read_snapshot(r: impl BufRead) -> Result<State, SnapshotError> {
    let mut input = In { r, sum: Hash::default(), line: Vec::new(), place: "header" };
    let header = read_header(&mut input)?;
    let mut state = State {
        index: header.index,
        hash: hash::parse(&header.hash).ok_or(SnapshotError::Damaged("header"))?,
        cluster: header.cluster,
        requests: Window { seen: OrdMap::new(), floor: header.requests_floor },
        offset: header.offset,
        ..State::default()
    };
    if header.table_index.len() > Table::ALL.len() {
        return Err(SnapshotError::Damaged("header"));
    }
    // An older program knew fewer tables.
    state.table_index.iter_mut().zip(header.table_index).for_each(|(place, index)| *place = index);
    for section in Section::ALL {
        let Some(rows) = header.counts.get(section.name()) else { continue };
        input.place = section.name();
        for _ in 0..*rows {
            read_row(&mut state, section, &mut input)?;
        }
        input.trailer(Some(section.name()))?;
    }
    input.place = "end";
    input.trailer(None)?;
    if input.next()? {
        return Err(SnapshotError::Damaged("end"));
    }
    state.followed = header.tables;
    Ok(state)
}

fn read_header(input: &mut In<impl BufRead>) -> Result<Header, SnapshotError> {
    #[derive(Deserialize)]
    struct Kind {
        format: String,
        version: u32,
    }
    if !input.next()? {
        return Err(SnapshotError::Truncated("header"));
    }
    let kind: Kind = serde_json::from_slice(&input.line).map_err(|_| SnapshotError::NotASnapshot)?;
    if kind.format != FORMAT {
        return Err(SnapshotError::NotASnapshot);
    }
    if !(VERSION_OLDEST..=VERSION).contains(&kind.version) {
        return Err(SnapshotError::UnknownVersion(kind.version));
    }
    let header: Header = input.parse()?;
    let known = |name: &String| Section::ALL.iter().any(|section| section.name() == name);
    if header.counts.keys().all(known) { Ok(header) } else { Err(SnapshotError::Damaged("header")) }
}

fn read_row(state: &mut State, section: Section, input: &mut In<impl BufRead>) -> Result<(), SnapshotError> {
    if !input.next()? {
        return Err(SnapshotError::Truncated(section.name()));
    }
    match section {
        Section::Leases => {
            let row: Arc<crate::change::Lease> = input.parse()?;
            state.leases.insert(row.name, row);
        }
        Section::Jobs => {
            let row: Arc<Job> = input.parse()?;
            state.job_versions.insert(version_key(&row), Arc::clone(&row));
            state.jobs.insert(row.key(), row);
        }
        Section::JobVersions => {
            let row: Arc<Job> = input.parse()?;
            state.job_versions.insert(version_key(&row), row);
        }
        Section::JobSubmissions => {
            let (key, row): ((NamespaceName, JobId, u64), Arc<JobSubmission>) = input.parse()?;
            state.job_submissions.insert(key, row);
        }
        Section::JobSummaries => {
            let row: Arc<model::summary::JobSummary> = input.parse()?;
            state.job_summaries.insert((row.namespace.clone(), row.job_id.clone()), row);
        }
        Section::Nodes => {
            let row: Arc<model::Node> = input.parse()?;
            state.nodes.insert(row.id.clone(), row);
        }
        Section::Allocs => state.restore_alloc(input.parse()?),
        Section::Evals => state.write_eval(input.parse()?),
        Section::Deployments => state.write_deployment(input.parse()?),
        Section::Namespaces => {
            let row: Arc<model::namespace::Namespace> = input.parse()?;
            state.namespaces.insert(row.name.as_str().into(), row);
        }
        Section::NodePools => {
            let row: Arc<model::namespace::NodePool> = input.parse()?;
            state.node_pools.insert(row.name.clone(), row);
        }
        Section::SchedulerConfig => state.scheduler_config = Some(input.parse()?),
        Section::JobScaling => {
            let row: Arc<model::scaling::JobScaling> = input.parse()?;
            state.job_scaling.insert((row.namespace.clone(), row.job_id.clone()), row);
        }
        Section::PeriodicLaunches => {
            let row: Arc<model::launch::PeriodicLaunch> = input.parse()?;
            state.periodic_launches.insert((row.namespace.clone(), row.id.clone()), row);
        }
        Section::JobFences => {
            let (key, row): ((NamespaceName, JobId, Index), Index) = input.parse()?;
            state.job_fences.insert(key, row);
        }
        Section::NodeFences => {
            let (key, row): (NodeId, NodeFence) = input.parse()?;
            state.node_fences.insert(key, row);
        }
        Section::NodeSuspects => {
            let id: NodeId = input.parse()?;
            state.suspects.insert(id);
        }
        Section::NodeRevocations => {
            let (key, row): (NodeId, Index) = input.parse()?;
            state.revoked.insert(key, row);
        }
        Section::NodeAdmissions => {
            let (key, row): (NodeId, Arc<crate::state::Admission>) = input.parse()?;
            state.admissions.insert(key, row);
        }
        Section::Requests => {
            let (key, row): (RequestId, Arc<Seen>) = input.parse()?;
            state.requests.seen.insert(key, row);
        }
        Section::Autopilot => state.autopilot = Some(input.parse()?),
        Section::RootKeys => {
            let row: Arc<RootKey> = input.parse()?;
            state.root_keys.insert(row.meta.key_id.clone(), row);
        }
        Section::KeyMaterial => {
            let (key, row): (String, Arc<KeyMaterial>) = input.parse()?;
            state.key_material.insert(key, row);
        }
        Section::Staged => match &mut state.staged {
            Some(staged) => Arc::make_mut(staged).pieces.push(input.parse()?),
            None => state.staged = Some(Arc::new(Staged { id: input.parse()?, pieces: Vec::new() })),
        },
    }
    Ok(())
}

struct In<R> {
    r: R,
    sum: Hash,
    line: Vec<u8>,
    place: &'static str,
}

impl<R: BufRead> In<R> {
    /// Reads a line into `self.line`; false at the end of the stream.
    fn next(&mut self) -> Result<bool, SnapshotError> {
        self.line.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        if self.r.by_ref().take(limit).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(false);
        }
        if self.line.last() != Some(&b'\n') {
            let long = self.line.len() > LINE_BYTES_MAX;
            return Err(if long {
                SnapshotError::LineTooLong(self.place)
            } else {
                SnapshotError::Truncated(self.place)
            });
        }
        self.sum.update(&self.line);
        Ok(true)
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, SnapshotError> {
        serde_json::from_slice(&self.line).map_err(|_| SnapshotError::Damaged(self.place))
    }

    /// The line behind a section, or the last one.
    fn trailer(&mut self, section: Option<&'static str>) -> Result<(), SnapshotError> {
        let expected = hash::text(self.sum.value());
        if !self.next()? {
            return Err(SnapshotError::Truncated(self.place));
        }
        let trailer: Trailer = self.parse()?;
        let ends = trailer.end.unwrap_or(false);
        let fits = trailer.section.as_deref() == section && ends == section.is_none() && trailer.sum == expected;
        if fits { Ok(()) } else { Err(SnapshotError::Damaged(self.place)) }
    }
}
