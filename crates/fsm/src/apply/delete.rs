//! Rows that an operator deletes: node pools, namespaces, evaluations. All that are named or none, and only
//! what nothing depends on.

use model::access::{NODE_POOL_ALL, NODE_POOL_DEFAULT};
use model::{ClientStatus, DesiredStatus, EvalId, Evaluation, Job, JobStatus, NamespaceName};

use super::tx::Tx;
use crate::change::Change;
use crate::command::{Refusal, Reply};
use crate::state::State;

/// Rows one command may name.
const ROWS_MAX: usize = 10_000;

fn few(rows: usize) -> Result<(), Refusal> {
    if rows > ROWS_MAX {
        return Err(Refusal::Invalid(format!("a command names at most {ROWS_MAX} rows")));
    }
    Ok(())
}

fn is_dead(job: &Job) -> bool {
    job.status.as_deref() == Some(JobStatus::Dead.as_str())
}

pub(super) fn node_pools(tx: &mut Tx, names: &[String]) -> Result<Reply, Refusal> {
    few(names.len())?;
    let region = tx.state.cluster().region.clone();
    for name in names {
        if [NODE_POOL_ALL, NODE_POOL_DEFAULT].contains(&name.as_str()) {
            return Err(Refusal::Invalid(format!("deleting node pool \"{name}\" is not allowed")));
        }
        if tx.state.node_pool(name).is_none() {
            return Err(Refusal::NotFound { what: "node pool".to_owned() });
        }
        if tx.state.jobs().any(|job| job.node_pool() == name && !is_dead(job)) {
            let text = format!("node pool \"{name}\" has non-terminal jobs in regions: [{region}]");
            return Err(Refusal::Conflict(text));
        }
        if tx.state.nodes().any(|node| node.pool() == name) {
            return Err(Refusal::Conflict(format!("node pool \"{name}\" has nodes in regions: [{region}]")));
        }
    }
    for name in names {
        tx.put(Change::NodePoolGone { name: name.clone() });
    }
    Ok(Reply::Done)
}

pub(super) fn namespaces(tx: &mut Tx, names: &[NamespaceName]) -> Result<Reply, Refusal> {
    few(names.len())?;
    let region = tx.state.cluster().region.clone();
    for name in names {
        if *name == NamespaceName::default_namespace() {
            return Err(Refusal::Conflict("can not delete default namespace".to_owned()));
        }
        if tx.state.namespace(name).is_none() {
            return Err(Refusal::NotFound { what: "Namespace".to_owned() });
        }
        let used = |what: &str| {
            Err(Refusal::Conflict(format!("namespace \"{name}\" has non-terminal {what} in regions: [{region}]")))
        };
        if tx.state.jobs().any(|job| job.namespace() == *name && !is_dead(job)) {
            return used("jobs");
        }
        if tx.state.allocs().any(|alloc| alloc.namespace == *name && !alloc.client_terminal()) {
            return used("allocations");
        }
    }
    for name in names {
        tx.put(Change::NamespaceGone { name: name.clone() });
    }
    Ok(Reply::Done)
}

pub(super) fn evals(tx: &mut Tx, ids: &[EvalId]) -> Result<Reply, Refusal> {
    few(ids.len())?;
    if !tx.state.scheduler_config().pause_eval_broker {
        let text = "eval broker is enabled; eval broker must be paused to delete evals";
        return Err(Refusal::Conflict(text.to_owned()));
    }
    for id in ids {
        let eval = tx.state.eval(id).ok_or_else(|| Refusal::NotFound { what: "eval".to_owned() })?;
        if !tx.state.may_delete_eval(eval) {
            return Err(Refusal::Conflict(format!("eval {id} is not safe to delete")));
        }
    }
    for id in ids {
        let Some(eval) = tx.state.eval(id).cloned() else { continue };
        tx.touch_evals_gone(&(eval.namespace.clone(), eval.job_id.clone()));
        tx.put(Change::EvalGone { id: id.clone() });
    }
    Ok(Reply::Done)
}

impl State {
    /// Whether nothing is still to follow from an evaluation: its job is gone or dead, or none of its
    /// allocations lives or may be tried again.
    pub fn may_delete_eval(&self, eval: &Evaluation) -> bool {
        let Some(job) = self.job(&eval.namespace, &eval.job_id).filter(|job| !is_dead(job)) else { return true };
        self.allocs_of_eval(&eval.id).all(|alloc| {
            let version = self.job_of_alloc(alloc).unwrap_or(job);
            let retried = version.lookup_group(&alloc.task_group).and_then(|group| group.rescheduling()).is_some();
            let waits = alloc.client_status == ClientStatus::Failed
                && alloc.desired_status == DesiredStatus::Run
                && alloc.next_allocation.is_empty()
                && retried;
            alloc.client_terminal() && !waits
        })
    }
}
