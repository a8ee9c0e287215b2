//! Who may propose what, and under which lease.

use std::slice::from_ref;

use model::{Role, Term};

use crate::command::{Command, Envelope, LeaseName, Refusal, RestoreStep};
use crate::state::State;

/// Name of a command, and the roles that propose it. The same words as the variants' docs.
fn proposers(command: &Command) -> (&'static str, &'static [Role]) {
    use Role::{Applier, Broker, Controller, Gateway, Scheduler, State};
    match command {
        Command::ClusterInit { .. } => ("ClusterInit", &[State]),
        Command::FeatureLevel { .. } => ("FeatureLevel", &[State]),
        Command::LeaseAcquire { lease, .. } => ("LeaseAcquire", from_ref(lease.owner())),
        Command::LeaseRelease { lease, .. } => ("LeaseRelease", from_ref(lease.owner())),
        Command::LeaseExpire { .. } => ("LeaseExpire", &[State]),
        Command::JobRegister(_) => ("JobRegister", &[Gateway]),
        Command::JobDeregister(_) => ("JobDeregister", &[Gateway]),
        Command::JobScale(_) => ("JobScale", &[Gateway]),
        Command::JobTag(_) => ("JobTag", &[Gateway]),
        Command::JobDispatch(_) => ("JobDispatch", &[Gateway]),
        Command::JobLaunch(_) => ("JobLaunch", &[Controller, Gateway]),
        Command::JobStability { .. } => ("JobStability", &[Gateway]),
        Command::EvalCreate { .. } => ("EvalCreate", &[Gateway, Controller]),
        Command::EvalUpdate { .. } => ("EvalUpdate", &[Scheduler]),
        Command::EvalUnblock { .. } => ("EvalUnblock", &[Broker]),
        Command::EvalFinish { .. } => ("EvalFinish", &[Broker]),
        Command::PlanApply { .. } => ("PlanApply", &[Applier]),
        Command::NodeRegister { .. } => ("NodeRegister", &[Gateway]),
        Command::NodeStatusUpdate { .. } => ("NodeStatusUpdate", &[Controller]),
        Command::NodeSuspect { .. } => ("NodeSuspect", &[Controller]),
        Command::NodeEligibility { .. } => ("NodeEligibility", &[Gateway, Applier]),
        Command::NodeDrain { .. } => ("NodeDrain", &[Gateway, Controller]),
        Command::NodeDeregister { .. } => ("NodeDeregister", &[Gateway, Controller]),
        Command::NodeAdmit { .. } => ("NodeAdmit", &[Gateway]),
        Command::AllocClientUpdate { .. } => ("AllocClientUpdate", &[Controller]),
        Command::AllocDesiredTransition { .. } => ("AllocDesiredTransition", &[Gateway, Controller]),
        Command::DeploymentUpdate(_) => ("DeploymentUpdate", &[Controller, Gateway]),
        Command::SchedulerConfigSet { .. } => ("SchedulerConfigSet", &[Gateway]),
        Command::NamespaceUpsert { .. } => ("NamespaceUpsert", &[Gateway]),
        Command::NodePoolUpsert { .. } => ("NodePoolUpsert", &[Gateway]),
        Command::AutopilotSet { .. } => ("AutopilotSet", &[Gateway]),
        Command::RootKeyAdd { .. } => ("RootKeyAdd", &[State]),
        Command::RootKeyActivate { .. } => ("RootKeyActivate", &[State]),
        Command::RootKeyRemove { .. } => ("RootKeyRemove", &[Gateway, State]),
        Command::Restore(RestoreStep::Abort { .. }) => ("Restore", &[Gateway, State]),
        Command::Restore(_) => ("Restore", &[Gateway]),
        Command::NodePoolDelete { .. } => ("NodePoolDelete", &[Gateway]),
        Command::NamespaceDelete { .. } => ("NamespaceDelete", &[Gateway]),
        Command::EvalDelete { .. } => ("EvalDelete", &[Gateway]),
        Command::SummariesReconcile => ("SummariesReconcile", &[Gateway]),
        Command::Reap { .. } => ("Reap", &[Controller]),
    }
}

pub(super) fn role(envelope: &Envelope) -> Result<(), Refusal> {
    let (command, roles) = proposers(&envelope.command);
    if roles.contains(&envelope.proposer) {
        return Ok(());
    }
    Err(Refusal::WrongRole { role: envelope.proposer, command: command.to_owned() })
}

/// A role with a lease must hold it, at its present term; getting and giving back the lease itself is
/// checked where it is done.
pub(super) fn lease(state: &State, envelope: &Envelope) -> Result<(), Refusal> {
    let about_lease = matches!(envelope.command, Command::LeaseAcquire { .. } | Command::LeaseRelease { .. });
    let Some(lease) = LeaseName::of(envelope.proposer).filter(|_| !about_lease) else { return Ok(()) };
    let current = state.lease(lease);
    let given = envelope.lease.as_ref().filter(|fence| fence.lease == lease).map(|fence| fence.term);
    let held = current.is_some_and(|row| !row.holder.is_empty() && Some(row.term) == given);
    if held {
        return Ok(());
    }
    let term = current.map_or(Term(0), |row| row.term);
    Err(Refusal::StaleLease { lease, given: given.unwrap_or_default(), current: term })
}
