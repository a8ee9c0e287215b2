//! Jobs: a new one, a new version of one, its end; and which versions are kept.
//!
//! ```text
//!   (none) ─register─► v0 ─register, other spec─► v1 … ─deregister─► vn, stopped ─register─► vn+1
//!      ▲                    same spec: no version                         │
//!      └───────────────────────────── purge ◄────────────────────────────┘
//! ```
//!
//! An incarnation is the life between two purges; its create index names it. Allocations of a purged
//! incarnation that still run keep their versions until they are forgotten themselves. So do allocations of
//! the present incarnation; but a version that is kept for them alone is no longer *tracked* (`versions.rs`):
//! nobody lists it, goes back to it or names it.

use std::sync::Arc;

use model::access::NODE_POOL_DEFAULT;
use model::job::{JobSubmission, JobVersionTag};
use model::{EvalId, EvalStatus, Evaluation, Index, Job, JobId, JobStatus, NamespaceName};

use super::alloc::forget;
use super::tx::Tx;
use super::{eval, launch};
use crate::change::Change;
use crate::command::{JobDeregister, JobRegister, JobTag, Refusal, Reply};
use crate::state::JobKey;

const JOB_ID_BYTES_MAX: usize = 1024;
/// Longest name and description of a version.
const TAG_BYTES_MAX: usize = 1024;

pub(super) fn register(tx: &mut Tx, register: &JobRegister) -> Result<Reply, Refusal> {
    let mut job = register.job.clone();
    if job.node_pool.as_deref().is_none_or(str::is_empty) {
        job.node_pool = Some(NODE_POOL_DEFAULT.to_owned());
    }
    let (namespace, id) = job.key();
    if id.is_empty() || id.as_str().len() > JOB_ID_BYTES_MAX {
        return Err(Refusal::Invalid(format!("a job id has 1 to {JOB_ID_BYTES_MAX} bytes")));
    }
    check_place(tx, &job, &namespace, &id)?;
    let old = tx.state.job(&namespace, &id).cloned();
    enforce_index(register.enforce_index, old.as_deref())?;
    if let Some(old) = &old {
        check_transition(old, &job)?;
    }
    let key = (namespace, id);
    let version = next_version(tx, job, old.as_deref());
    let spec_index = match (&version, &old) {
        (None, Some(old)) => old.job_modify_index(),
        _ => tx.index,
    };
    // The evaluation first: the job's status follows from it.
    let eval_id = new_eval(tx, register.eval.as_ref(), &key, spec_index)?;
    if let Some(job) = version {
        insert_version(tx, job, old.as_deref(), register.submission.as_ref());
    }
    Ok(reply(tx, &key, eval_id))
}

pub(super) fn reply(tx: &Tx, key: &JobKey, eval_id: Option<EvalId>) -> Reply {
    let job = tx.state.job(&key.0, &key.1);
    Reply::Job {
        job_modify_index: job.map_or(tx.index, |job| job.job_modify_index()),
        version: job.map_or(0, |job| job.version()),
        eval_index: eval_id.as_ref().map(|_| tx.index),
        eval_id,
    }
}

pub(super) fn check_place(tx: &Tx, job: &Job, namespace: &NamespaceName, id: &JobId) -> Result<(), Refusal> {
    if tx.state.namespace(namespace).is_none() {
        return Err(Refusal::Invalid(format!("job \"{id}\" is in nonexistent namespace \"{namespace}\"")));
    }
    let pool = job.node_pool();
    if tx.state.node_pool(pool).is_none() {
        return Err(Refusal::Invalid(format!("job \"{id}\" is in nonexistent node pool \"{pool}\"")));
    }
    Ok(())
}

/// Compare and set on the specification's index. Clients match on these texts.
pub(super) fn enforce_index(given: Option<Index>, old: Option<&Job>) -> Result<(), Refusal> {
    let Some(given) = given else { return Ok(()) };
    let problem = match old {
        None if given.get() == 0 => return Ok(()),
        None => "job does not exist".to_owned(),
        Some(_) if given.get() == 0 => "job already exists".to_owned(),
        Some(old) if old.job_modify_index() == given => return Ok(()),
        Some(old) => format!("job exists with conflicting job modify index: {}", old.job_modify_index()),
    };
    Err(Refusal::Conflict(format!("Enforcing job modify index {given}: {problem}")))
}

/// What a job is, it stays.
fn check_transition(old: &Job, new: &Job) -> Result<(), Refusal> {
    let problem = if old.kind_text() != new.kind_text() {
        format!("cannot update job from type \"{}\" to \"{}\"", old.kind_text(), new.kind_text())
    } else if old.is_periodic() != new.is_periodic() {
        "cannot update job between being periodic and not".to_owned()
    } else if old.is_parameterized() != new.is_parameterized() {
        "cannot update job between being parameterized and not".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::Invalid(problem))
}

/// The job as its next version is to stand; `None` when it asks for what the present one asks for.
pub(super) fn next_version(tx: &Tx, mut job: Job, old: Option<&Job>) -> Option<Job> {
    job.stop = Some(job.is_stopped());
    job.namespace = Some(job.namespace());
    if let Some(old) = old {
        // Absent and false are the same wish.
        let mut present = old.clone();
        present.stop = Some(old.is_stopped());
        if !present.spec_changed(&job) {
            return None;
        }
    }
    job.stable = Some(false);
    job.version_tag = None;
    if job.submit_time.unwrap_or(0) == 0 {
        job.submit_time = Some(tx.now);
    }
    Some(job)
}

/// Writes a job as the version behind `old`, or as the first.
pub(super) fn insert_version(tx: &mut Tx, mut job: Job, old: Option<&Job>, source: Option<&JobSubmission>) {
    let key = job.key();
    let index = tx.index;
    job.version = Some(old.map_or(0, |old| old.version() + 1));
    job.create_index = Some(old.map_or(index, Job::incarnation));
    job.job_modify_index = Some(index);
    job.modify_index = Some(index);
    job.name_scaling_policies(old, index);
    let status = tx.state.derive_status(&job, false);
    job.status = Some(status.to_string());
    tx.count_child(&job, old.map(status_of), Some(status));
    job.status_description.get_or_insert_default();
    let summary = tx.summary_or_new(&key);
    for group in &job.task_groups {
        summary.summary.entry(group.name().to_owned()).or_default();
    }
    let version = job.version();
    let is_periodic = job.is_periodic();
    tx.put(Change::Job(Arc::new(job)));
    if is_periodic {
        launch::begin(tx, &key);
    }
    if let Some(source) = source {
        put_submission(tx, &key, version, source);
    }
    tx.loosen_job(&key, old.map_or(index, Job::incarnation));
    tx.touch(&key);
}

fn put_submission(tx: &mut Tx, key: &JobKey, version: u64, source: &JobSubmission) {
    let submission = JobSubmission {
        namespace: key.0.to_string(),
        job_id: key.1.to_string(),
        version,
        job_modify_index: tx.index,
        ..source.clone()
    };
    let (namespace, id) = key.clone();
    tx.put(Change::JobSubmission { namespace, id, version, submission: Some(Arc::new(submission)) });
}

pub(super) fn new_eval(
    tx: &mut Tx,
    eval: Option<&Evaluation>,
    key: &JobKey,
    spec_index: Index,
) -> Result<Option<EvalId>, Refusal> {
    let Some(eval) = eval else { return Ok(None) };
    let (namespace, job_id) = key.clone();
    let eval = Evaluation { namespace, job_id, job_modify_index: spec_index, ..eval.clone() };
    let id = eval.id.clone();
    eval::insert(tx, eval)?;
    Ok(Some(id))
}

pub(super) fn deregister(tx: &mut Tx, command: &JobDeregister) -> Result<Reply, Refusal> {
    let key = (command.namespace.clone(), command.job_id.clone());
    let Some(old) = tx.state.job(&key.0, &key.1).cloned() else {
        // Gone is what was asked for.
        return Ok(Reply::Job { job_modify_index: Index(0), version: 0, eval_id: None, eval_index: None });
    };
    if command.purge {
        purge(tx, &old);
        let eval_id = new_eval(tx, command.eval.as_ref(), &key, tx.index)?;
        let eval_index = eval_id.as_ref().map(|_| tx.index);
        return Ok(Reply::Job { job_modify_index: tx.index, version: old.version(), eval_id, eval_index });
    }
    let spec_index = if old.is_stopped() { old.job_modify_index() } else { tx.index };
    let eval_id = new_eval(tx, command.eval.as_ref(), &key, spec_index)?;
    if !old.is_stopped() {
        let mut job = Job::clone(&old);
        job.stop = Some(true);
        job.version_tag = None;
        job.submit_time = Some(if command.submit_time == 0 { tx.now } else { command.submit_time });
        insert_version(tx, job, Some(&old), None);
    }
    Ok(reply(tx, &key, eval_id))
}

/// Forgets the job with all that is only about it. Allocations that have ended are forgotten with it; the
/// others stay, with the versions they run, until they have ended and are forgotten.
pub(super) fn purge(tx: &mut Tx, job: &Job) {
    let key = job.key();
    let (namespace, id) = key.clone();
    let open: Vec<_> = tx.state.open_evals_of_job(&namespace, &id).cloned().collect();
    for eval in &open {
        let waits = eval.status == EvalStatus::Blocked;
        let status = if waits { EvalStatus::Cancelled } else { EvalStatus::Complete };
        eval::set_status(tx, eval, status, "job was purged");
    }
    let deployments: Vec<_> = tx.state.deployments_of_job(&namespace, &id).map(|d| d.id.clone()).collect();
    for deployment in &deployments {
        tx.forget_deployment(deployment);
    }
    let from = (namespace.clone(), id.clone(), 0);
    let versions: Vec<u64> = tx
        .state
        .job_submissions
        .range(from..)
        .take_while(|((ns, job, _), _)| *ns == namespace && *job == id)
        .map(|((_, _, version), _)| *version)
        .collect();
    for version in versions {
        let (namespace, id) = key.clone();
        tx.put(Change::JobSubmission { namespace, id, version, submission: None });
    }
    let over: Vec<_> = tx.state.allocs_of_job(&namespace, &id).filter(|row| row.client_terminal()).cloned().collect();
    for row in &over {
        forget(tx, row);
    }
    let incarnation = job.incarnation();
    if tx.state.job_fence(&namespace, &id, incarnation).get() > 0 {
        let (namespace, id) = key.clone();
        tx.put(Change::JobFence { namespace, id, incarnation, index: Index(0) });
    }
    if tx.state.job_scaling(&namespace, &id).is_some() {
        let (namespace, id) = key.clone();
        tx.put(Change::JobScalingGone { namespace, id });
    }
    if tx.state.periodic_launch(&namespace, &id).is_some() {
        let (namespace, id) = key.clone();
        tx.put(Change::PeriodicLaunchGone { namespace, id });
    }
    tx.count_child(job, Some(status_of(job)), Some(JobStatus::Dead));
    tx.forget_summary(&key);
    tx.put(Change::JobGone { namespace, id });
    tx.loosen_job(&key, incarnation);
}

pub(super) fn stability(
    tx: &mut Tx,
    namespace: &NamespaceName,
    id: &JobId,
    version: u64,
    stable: bool,
) -> Result<Reply, Refusal> {
    let incarnation = tx.state.job(namespace, id).map(|job| job.incarnation());
    let found = incarnation.is_some_and(|incarnation| {
        tx.state.job_version_tracked(namespace, id, version).is_some()
            && mark_stable(tx, namespace, id, incarnation, version, stable)
    });
    if found {
        return Ok(Reply::Done);
    }
    let what = format!("job \"{id}\" in namespace \"{namespace}\" at version {version}");
    Err(Refusal::NotFound { what })
}

/// Names a version, or takes the name away. A name is one version's at most; a version has one name.
pub(super) fn tag(tx: &mut Tx, command: &JobTag) -> Result<Reply, Refusal> {
    let JobTag { namespace, job_id, name, set } = command;
    let fits = (1..=TAG_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if !fits {
        return Err(Refusal::Invalid(format!("a tag's name has 1 to {TAG_BYTES_MAX} bytes")));
    }
    let job = tx.state.job(namespace, job_id).cloned();
    let job = job.ok_or_else(|| Refusal::NotFound { what: format!("job \"{job_id}\"") })?;
    let versions: Vec<Arc<Job>> = tx.state.job_versions(namespace, job_id).into_iter().cloned().collect();
    let named = versions.iter().find(|row| row.version_tag.as_ref().is_some_and(|tag| tag.name == *name));
    let Some(set) = set else {
        let text = format!("tag \"{name}\" not found on job \"{job_id}\"");
        let row = named.ok_or(Refusal::Invalid(text))?;
        write_tag(tx, row, &job, None);
        tx.loosen_job(&job.key(), job.incarnation());
        return Ok(Reply::Tag { tag: None });
    };
    if set.description.len() > TAG_BYTES_MAX {
        return Err(Refusal::Invalid(format!("a tag's description has at most {TAG_BYTES_MAX} bytes")));
    }
    let version = set.version.unwrap_or_else(|| job.version());
    let what = || format!("job \"{job_id}\" in namespace \"{namespace}\" at version {version}");
    let row = versions.iter().find(|row| row.version() == version);
    let row = row.ok_or_else(|| Refusal::NotFound { what: what() })?;
    if named.is_some_and(|other| other.version() != version) {
        let text = format!("tag \"{name}\" already exists on a different version of job \"{job_id}\"");
        return Err(Refusal::Conflict(text));
    }
    let tag = JobVersionTag { name: name.clone(), description: set.description.clone(), tagged_time: tx.now };
    write_tag(tx, row, &job, Some(tag.clone()));
    Ok(Reply::Tag { tag: Some(tag) })
}

fn write_tag(tx: &mut Tx, row: &Job, current: &Job, tag: Option<JobVersionTag>) {
    let mut row = row.clone();
    row.version_tag = tag;
    row.modify_index = Some(tx.index);
    let is_current = row.version() == current.version();
    let row = Arc::new(row);
    tx.put(if is_current { Change::Job(row) } else { Change::JobVersion(row) });
}

fn status_of(job: &Job) -> JobStatus {
    job.status.as_deref().and_then(JobStatus::parse).unwrap_or(JobStatus::Pending)
}

/// Sets a version's stable flag, which is no part of its specification. False when there is no such
/// version.
pub(super) fn mark_stable(
    tx: &mut Tx,
    namespace: &NamespaceName,
    id: &JobId,
    incarnation: Index,
    version: u64,
    stable: bool,
) -> bool {
    let Some(row) = tx.state.job_version(namespace, id, incarnation, version) else { return false };
    if row.is_stable() == stable && row.stable.is_some() {
        return true;
    }
    let mut row = Job::clone(row);
    row.stable = Some(stable);
    row.modify_index = Some(tx.index);
    let current = tx.state.job(namespace, id);
    let is_current = current.is_some_and(|job| job.incarnation() == incarnation && job.version() == version);
    let row = Arc::new(row);
    tx.put(if is_current { Change::Job(row) } else { Change::JobVersion(row) });
    true
}

/// Forgets versions of an incarnation that are not tracked (see `versions.rs`) and that no allocation runs, and
/// what was submitted for any that is not tracked.
pub(super) fn prune(tx: &mut Tx, namespace: &NamespaceName, id: &JobId, incarnation: Index) {
    let key = |version| (namespace.clone(), id.clone(), incarnation, version);
    let versions: Vec<u64> =
        tx.state.job_versions.range(key(0)..=key(u64::MAX)).map(|(_, job)| job.version()).collect();
    let current = tx.state.job(namespace, id).is_some_and(|job| job.incarnation() == incarnation);
    let tracked: Vec<u64> = match current {
        true => tx.state.job_versions(namespace, id).into_iter().map(|job| job.version()).collect(),
        false => Vec::new(),
    };
    for version in versions.into_iter().filter(|version| !tracked.contains(version)) {
        if current && tx.state.job_submission(namespace, id, version).is_some() {
            let (namespace, id) = (namespace.clone(), id.clone());
            tx.put(Change::JobSubmission { namespace, id, version, submission: None });
        }
        if !tx.state.version_use.contains_key(&key(version)) {
            let (namespace, id) = (namespace.clone(), id.clone());
            tx.put(Change::JobVersionGone { namespace, id, incarnation, version });
        }
    }
}
