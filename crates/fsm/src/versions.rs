//! Which versions of a job can somebody still see, name, and go back to?
//!
//! Rows of versions are kept for two reasons: they are *tracked*, or an allocation still runs them. Only the
//! first is for people. What is tracked follows from the rows alone, so that every copy of the state says the
//! same, in the very write that adds a version; what else is kept goes when its last allocation does.

use std::sync::Arc;

use model::{Job, JobId, NamespaceName};

use crate::State;

/// Versions of a job that are tracked, those with a tag not counted.
pub const VERSIONS_TRACKED: usize = 6;

impl State {
    /// Tracked versions of the present incarnation, oldest first: those with a tag, and the newest
    /// [`VERSIONS_TRACKED`] of the others, among which there is a stable one if there is any.
    pub fn job_versions(&self, namespace: &NamespaceName, id: &JobId) -> Vec<&Arc<Job>> {
        let Some(job) = self.job(namespace, id) else { return Vec::new() };
        let key = |version| (namespace.clone(), id.clone(), job.incarnation(), version);
        let all: Vec<&Arc<Job>> = self.job_versions.range(key(0)..=key(u64::MAX)).map(|(_, job)| job).collect();
        let newest = newest(&all);
        let is_tracked = |job: &&Arc<Job>| job.version_tag.is_some() || newest.contains(&job.version());
        all.into_iter().filter(is_tracked).collect()
    }

    /// One tracked version of the present incarnation.
    pub fn job_version_tracked(&self, namespace: &NamespaceName, id: &JobId, version: u64) -> Option<&Arc<Job>> {
        self.job_versions(namespace, id).into_iter().find(|job| job.version() == version)
    }
}

/// The versions without a tag that are tracked, of all given oldest first.
fn newest(versions: &[&Arc<Job>]) -> Vec<u64> {
    let mut untagged = versions.iter().rev().filter(|job| job.version_tag.is_none());
    let mut kept: Vec<&&Arc<Job>> = untagged.by_ref().take(VERSIONS_TRACKED).collect();
    if !kept.iter().any(|job| job.is_stable())
        && let Some(stable) = untagged.find(|job| job.is_stable())
    {
        kept.pop();
        kept.push(stable);
    }
    kept.iter().map(|job| job.version()).collect()
}
