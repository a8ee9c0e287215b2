//! Jobs that start others: what the children are called, and the record of the last launch.

use serde::{Deserialize, Serialize};

use crate::ids::{Index, JobId, NamespaceName};
use crate::job::Job;

/// Between a periodic job's id and its child's moment.
pub const PERIODIC: &str = "/periodic-";
/// Between a parameterized job's id and its child's name.
pub const DISPATCH: &str = "/dispatch-";
/// Largest payload of a dispatch.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// When a periodic job was launched last. A row; never on the public wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct PeriodicLaunch {
    pub namespace: NamespaceName,
    #[serde(rename = "ID")]
    pub id: JobId,
    /// Unix nanoseconds; the moment of the registration until there was a launch.
    pub launch: i64,
    pub create_index: Index,
    pub modify_index: Index,
}

impl Job {
    /// The child that a periodic job launches at a moment (Unix seconds).
    #[must_use]
    pub fn periodic_child(&self, at_s: i64) -> Self {
        let id = format!("{}{PERIODIC}{at_s}", self.id());
        Self { periodic: None, ..self.child(id) }
    }

    /// The child of a dispatch; `name` is what follows the infix.
    #[must_use]
    pub fn dispatched_child(&self, name: &str) -> Self {
        let id = format!("{}{DISPATCH}{name}", self.id());
        Self { dispatched: true, ..self.child(id) }
    }

    /// A job of its own, with nothing of what the cluster wrote into its parent.
    fn child(&self, id: String) -> Self {
        Self {
            parent_id: Some(self.id().to_string()),
            name: Some(id.clone()),
            id: Some(id.into()),
            status: Some(String::new()),
            status_description: Some(String::new()),
            stable: Some(false),
            version: Some(0),
            version_tag: None,
            submit_time: Some(0),
            create_index: None,
            modify_index: None,
            job_modify_index: None,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{ParameterizedJobConfig, PeriodicConfig};

    #[test]
    fn children_are_named_after_their_parent_and_are_jobs_of_their_own() {
        let parent = Job {
            id: Some("nightly".into()),
            periodic: Some(PeriodicConfig::default()),
            parameterized_job: Some(ParameterizedJobConfig::default()),
            version: Some(4),
            stable: Some(true),
            ..Job::default()
        };
        let child = parent.periodic_child(1_795_243_230);
        assert_eq!((child.id().as_str(), child.name()), ("nightly/periodic-1795243230", "nightly/periodic-1795243230"));
        assert_eq!((child.parent_id.as_deref(), child.version(), child.is_periodic()), (Some("nightly"), 0, false));
        let child = parent.dispatched_child("1-ab");
        assert_eq!(child.id().as_str(), "nightly/dispatch-1-ab");
        assert!(!child.is_parameterized() && child.is_periodic(), "a dispatched child may be periodic itself");
    }
}
