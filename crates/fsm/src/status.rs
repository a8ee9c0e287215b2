//! Where a job stands as a whole, from the rows that belong to it.

use model::{Job, JobKind, JobStatus};

use crate::state::State;

impl State {
    /// The status a job should have. `evals_deleted` says that the last of its evaluations was just
    /// forgotten: a job that once ran is then dead, not new.
    pub(crate) fn derive_status(&self, job: &Job, evals_deleted: bool) -> JobStatus {
        let (namespace, id) = job.key();
        if job.kind() == Some(JobKind::System) || job.is_parameterized() || job.is_periodic() {
            return if job.is_stopped() { JobStatus::Dead } else { JobStatus::Running };
        }
        let own = |created| created == job.incarnation();
        let deploying =
            self.deployments_of_job(&namespace, &id).any(|d| d.status.is_active() && own(d.job_create_index));
        if deploying || self.live_allocs(&namespace, &id, job.incarnation()) > 0 {
            return JobStatus::Running;
        }
        if self.open_evals_of_job(&namespace, &id).next().is_some() {
            return JobStatus::Pending;
        }
        let was_looked_at = evals_deleted || job.is_stopped() || self.evals_of_job(&namespace, &id).next().is_some();
        if was_looked_at { JobStatus::Dead } else { JobStatus::Pending }
    }
}
