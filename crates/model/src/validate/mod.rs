//! What is wrong with a job, everything at once.
//!
//! [`validate`] looks through a canonicalized job ([`Job::canonicalize`]) and reports each problem, in
//! the order in which the parts stand in a job: job, its policies, groups, their networks, services and
//! volumes, tasks. It never stops at the first. [`warnings`] tells what is accepted but should be known.
//!
//! ```text
//!   job.rs ─▶ group.rs ─▶ policy.rs   restart, reschedule, update, migrate, disconnect, scaling
//!     │          ├──────▶ network.rs, volume.rs, service.rs ──▶ connect.rs   the service mesh
//!     │          └──────▶ task.rs ──▶ attachments.rs   artifacts, templates, identities, secrets …
//!     └─▶ constraint.rs, cron.rs
//! ```
//!
//! Invariants: nothing is changed, nothing outside the job is asked. So these are not here: whether the
//! namespace and the node pool exist, what a namespace allows, whether an update changes what may not
//! change (state knows), and whether a node's driver allows what its configuration asks for (its shape is
//! [`crate::driver_config`]'s). What is right but
//! not built yet is told by [`crate::unbuilt`].
//!
//! Texts and nesting are those that clients match on. Source: `validation.tsv`, recorded refusals.

mod attachments;
mod connect;
mod constraint;
mod group;
mod job;
mod network;
mod policy;
mod problem;
mod service;
mod task;
mod volume;
mod warn;

pub use problem::{Problem, Sentence, labelled, report, report_warnings};

use crate::access::PRIORITY_MAX;
use crate::job::Job;

/// Bounds that an operator may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Highest priority a job may have.
    pub priority_max: i64,
    /// Most allocations a job may want over all groups; 0 is no bound.
    pub count_max: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { priority_max: PRIORITY_MAX, count_max: 50_000 }
    }
}

/// All that is wrong with a canonicalized job, under the usual limits. Empty when it may be registered.
pub fn validate(job: &Job) -> Vec<Problem> {
    validate_within(job, Limits::default())
}

/// All that is wrong with a canonicalized job.
pub fn validate_within(job: &Job, limits: Limits) -> Vec<Problem> {
    job::check(job, limits).into_vec()
}

/// What is accepted, but should be known.
pub fn warnings(job: &Job) -> Vec<String> {
    warnings_in(job).iter().map(|found| found.to_string().trim_end().to_owned()).collect()
}

/// The same, each with its place.
pub fn warnings_in(job: &Job) -> Vec<Problem> {
    warn::warnings(job).into_vec()
}

/// What a posted job says that nothing reads, before [`Job::canonicalize`] drops it.
pub fn without_effect(job: &Job) -> Vec<String> {
    warn::without_effect(job)
}

/// A list as the reference prints it: `[a b]`.
fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(" "))
}

/// True when a relative path leaves the directory `depth` levels above where it starts. Absolute paths
/// are read as relative; a part with an interpolation counts as one level.
fn escapes(path: &str, depth: usize) -> bool {
    let mut level = depth;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match level.checked_sub(1) {
                Some(up) => level = up,
                None => return true,
            },
            _ => level += 1,
        }
    }
    false
}

/// True when each character fits and there are 1 to 128 of them.
fn is_name(text: &str, fits: impl Fn(char) -> bool) -> bool {
    (1..=128).contains(&text.len()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_escapes_only_when_it_leaves_its_directory() {
        assert!(!escapes("local/../../alloc/data", 1));
        assert!(escapes("local/../../../x", 1));
        assert!(escapes("../x", 0) && !escapes("/../x", 1) && !escapes("${NOMAD_TASK_DIR}/../x", 0));
    }

    #[test]
    fn problems_are_counted_and_nested() {
        let mut inner = problem::Findings::default();
        inner.say("b");
        let mut outer = problem::Findings::default();
        outer.say("a");
        outer.part("in g", inner);
        let text = report(&outer.into_vec());
        assert_eq!(text, "2 errors occurred:\n\t* a\n\t* in g: 1 error occurred:\n\t* b\n\n\n\n");
        assert_eq!(report(&[]), "");
        assert_eq!(report_warnings(&["x".into()]), "1 warning:\n\n* x");
    }
}
