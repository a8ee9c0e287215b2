//! What does a state server count, and how long does it take?
//!
//! Names are the reference's where it has the thing: dashboards read them. A command that the reference does not have
//! is counted as `nomad.nomad.fsm.<its own name>`. Times are milliseconds.
//!
//! ```text
//!   proposed here ─► committed, on its way into the machine ─► applied
//!      raft.apply          raft.commitTime                      fsm.<command>, raft.fsm.apply for the batch
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use fsm::Command;
use kit::metrics::{Counter, Gauge, Metrics, Sample};
use raft::{Role, Status};
use tokio::sync::watch;

pub struct Numbers {
    metrics: Metrics,
    /// By command.
    applied: Mutex<HashMap<&'static str, Sample>>,
    proposed: Counter,
    committed: Sample,
    batch: Sample,
    batch_entries: Gauge,
}

impl Numbers {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            applied: Mutex::default(),
            proposed: metrics.counter("nomad.raft.apply", &[]),
            committed: metrics.sample("nomad.raft.commitTime", &[]),
            batch: metrics.sample("nomad.raft.fsm.apply", &[]),
            batch_entries: metrics.gauge("nomad.raft.commitNumLogs", &[]),
            metrics,
        }
    }

    /// A command that was proposed here is committed, and goes into the machine.
    pub fn committed(&self, proposed: Instant) {
        self.proposed.increment();
        self.committed.since(proposed);
    }

    pub fn applied(&self, command: &Command, began: Instant) {
        let name = name(command);
        let mut all = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = all.entry(name).or_insert_with(|| self.metrics.sample(&format!("nomad.nomad.fsm.{name}"), &[]));
        sample.since(began);
    }

    pub fn batch(&self, entries: usize, began: Instant) {
        self.batch.since(began);
        self.batch_entries.set(float(u64::try_from(entries).unwrap_or(u64::MAX)));
    }
}

#[allow(clippy::cast_precision_loss)]
fn float(n: u64) -> f64 {
    n as f64
}

/// Follows raft until it ends: where its log is, and each change of its role.
pub async fn follow(metrics: Metrics, mut status: watch::Receiver<Status>) {
    let (last, applied) = (metrics.gauge("nomad.raft.lastIndex", &[]), metrics.gauge("nomad.raft.appliedIndex", &[]));
    let mut role = None;
    loop {
        let now = {
            let seen = status.borrow_and_update();
            last.set(float(seen.last_log));
            applied.set(float(seen.applied));
            seen.role
        };
        if role.replace(now) != Some(now)
            && let Some(word) = state_of(now)
        {
            metrics.counter(&format!("nomad.raft.state.{word}"), &[]).increment();
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// The reference knows these.
fn state_of(role: Role) -> Option<&'static str> {
    match role {
        Role::Leader => Some("leader"),
        Role::Candidate => Some("candidate"),
        Role::Follower => Some("follower"),
        Role::Learner | Role::Stopped => None,
    }
}

fn name(command: &Command) -> &'static str {
    match command {
        // As the reference names them.
        Command::ClusterInit { .. } => "cluster_meta",
        Command::JobRegister(_) => "register_job",
        Command::EvalCreate { .. }
        | Command::EvalUpdate { .. }
        | Command::EvalUnblock { .. }
        | Command::EvalFinish { .. } => "update_eval",
        Command::PlanApply { .. } => "apply_plan_results",
        Command::NodeRegister { .. } => "register_node",
        Command::NodeStatusUpdate { .. } => "node_status_update",
        Command::AllocClientUpdate { .. } => "alloc_client_update",
        Command::SchedulerConfigSet { .. } => "apply_scheduler_config",
        Command::AutopilotSet { .. } => "autopilot",
        Command::RootKeyAdd { .. } | Command::RootKeyActivate { .. } => "apply_wrapped_root_key_upsert",
        // Ours.
        Command::FeatureLevel { .. } => "feature_level",
        Command::LeaseAcquire { .. } => "lease_acquire",
        Command::LeaseRelease { .. } => "lease_release",
        Command::LeaseExpire { .. } => "lease_expire",
        Command::JobDeregister(_) => "job_deregister",
        Command::JobScale(_) => "job_scale",
        Command::JobTag(_) => "job_tag",
        Command::JobDispatch(_) => "job_dispatch",
        Command::JobLaunch(_) => "job_launch",
        Command::JobStability { .. } => "job_stability",
        Command::NodeSuspect { .. } => "node_suspect",
        Command::NodeEligibility { .. } => "node_eligibility",
        Command::NodeDrain { .. } => "node_drain",
        Command::NodeDeregister { .. } => "node_deregister",
        Command::NodeAdmit { .. } => "node_admit",
        Command::AllocDesiredTransition { .. } => "alloc_desired_transition",
        Command::DeploymentUpdate(_) => "deployment_update",
        Command::NamespaceUpsert { .. } => "namespace_upsert",
        Command::NamespaceDelete { .. } => "namespace_delete",
        Command::NodePoolUpsert { .. } => "node_pool_upsert",
        Command::NodePoolDelete { .. } => "node_pool_delete",
        Command::RootKeyRemove { .. } => "root_key_remove",
        Command::Restore(_) => "restore",
        Command::EvalDelete { .. } => "eval_delete",
        Command::SummariesReconcile => "summaries_reconcile",
        Command::Reap { .. } => "reap",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_counted_by_its_name_and_a_time_to_commit_only_where_it_was_proposed() {
        let metrics = Metrics::default();
        let numbers = Numbers::new(metrics.clone());
        let began = Instant::now();
        numbers.applied(&Command::SummariesReconcile, began);
        numbers.applied(&Command::SummariesReconcile, began);
        numbers.batch(2, began);
        let text = metrics.prometheus();
        assert!(text.contains("nomad_nomad_fsm_summaries_reconcile_count 2"), "{text}");
        assert!(text.contains("nomad_raft_fsm_apply_count 1") && text.contains("nomad_raft_commitNumLogs 2"), "{text}");
        assert!(!text.contains("nomad_raft_commitTime_count 1"), "{text}");
        numbers.committed(began);
        assert!(metrics.prometheus().contains("nomad_raft_commitTime_count 1"));
    }

    #[tokio::test]
    async fn each_change_of_role_is_counted_once() {
        let metrics = Metrics::default();
        let (sender, status) = watch::channel(Status { role: Role::Follower, last_log: 7, ..Status::default() });
        let following = tokio::spawn(follow(metrics.clone(), status));
        let counted = |what: &str| metrics.prometheus().contains(what);
        let until = async |what: &str| {
            let wait = async {
                while !counted(what) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect(what);
        };
        until("nomad_raft_lastIndex 7").await;
        sender.send_modify(|status| status.role = Role::Leader);
        until("nomad_raft_state_leader 1").await;
        sender.send_modify(|status| status.last_log = 8);
        until("nomad_raft_lastIndex 8").await;
        assert!(counted("nomad_raft_state_leader 1") && counted("nomad_raft_state_follower 1"));
        drop(sender);
        following.await.unwrap();
    }
}
