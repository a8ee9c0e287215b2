//! Forgetting what is over. The controller says what is old enough; what is not over is kept, whoever
//! asks.

use model::{AllocId, DeploymentId, EvalId, JobId, JobStatus, NamespaceName};

use super::alloc::{forget, is_over};
use super::job;
use super::tx::Tx;
use crate::change::Change;
use crate::command::{Refusal, Reply};

/// Rows one command may name.
const ROWS_MAX: usize = 50_000;

pub(super) fn reap(
    tx: &mut Tx,
    evals: &[EvalId],
    allocs: &[AllocId],
    deployments: &[DeploymentId],
    jobs: &[(NamespaceName, JobId)],
) -> Result<Reply, Refusal> {
    if evals.len() + allocs.len() + deployments.len() + jobs.len() > ROWS_MAX {
        return Err(Refusal::Invalid(format!("a command names at most {ROWS_MAX} rows")));
    }
    for id in allocs {
        let Some(row) = tx.state.alloc(id).filter(|row| is_over(row)).cloned() else { continue };
        forget(tx, &row);
    }
    for id in evals {
        let Some(row) = tx.state.eval(id).filter(|row| row.status.is_terminal()).cloned() else { continue };
        tx.touch_evals_gone(&(row.namespace.clone(), row.job_id.clone()));
        tx.put(Change::EvalGone { id: id.clone() });
    }
    for id in deployments {
        if tx.state.deployment(id).is_some_and(|row| !row.status.is_active()) {
            tx.forget_deployment(id);
        }
    }
    for (namespace, id) in jobs {
        let Some(job) = tx.state.job(namespace, id).cloned() else { continue };
        let dead = job.status.as_deref() == Some(JobStatus::Dead.as_str());
        let tagged = tx.state.job_versions(namespace, id).iter().any(|version| version.version_tag.is_some());
        if dead && !tagged {
            job::purge(tx, &job);
        }
    }
    Ok(Reply::Done)
}
