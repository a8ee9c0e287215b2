//! New evaluations: why, and what every one of them carries.

use model::ids::NewId;
use model::{EvalStatus, Evaluation, Job, JobId, NamespaceName, Timestamp};

/// Why the controller wants a job looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    NodeUpdate,
    NodeDrain,
    AllocFailure,
    JobDeregister,
    Reconnect,
    DeploymentWatcher,
    PeriodicJob,
}

impl Trigger {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeUpdate => "node-update",
            Self::NodeDrain => "node-drain",
            Self::AllocFailure => "alloc-failure",
            Self::JobDeregister => "job-deregister",
            Self::Reconnect => "reconnect",
            Self::DeploymentWatcher => "deployment-watcher",
            Self::PeriodicJob => "periodic-job",
        }
    }

    /// A pending evaluation of a job. The job may be a version that is no longer the current one, or
    /// gone: then the one that an allocation ran.
    pub fn eval(
        self,
        namespace: &NamespaceName,
        job_id: &JobId,
        job: &Job,
        now: Timestamp,
        new_id: NewId<'_>,
    ) -> Evaluation {
        Evaluation {
            id: new_id().into(),
            namespace: namespace.clone(),
            priority: job.priority(),
            kind: job.kind_text().to_owned(),
            triggered_by: self.as_str().to_owned(),
            job_id: job_id.clone(),
            status: EvalStatus::Pending,
            create_time: now.unix_nanos(),
            modify_time: now.unix_nanos(),
            ..Evaluation::default()
        }
    }
}
