//! What happened, in one word: which command a line of the feed comes from.
//!
//! The words are the event types of the compatible interface; readers of the event stream see them.

use crate::command::Command;

impl Command {
    /// What it is called once it has happened; empty for what changes no row that anybody reads about.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::JobRegister(_) | Self::JobStability { .. } => "JobRegistered",
            Self::JobDeregister(_) => "JobDeregistered",
            Self::EvalCreate { .. } | Self::EvalUpdate { .. } | Self::EvalUnblock { .. } | Self::EvalFinish { .. } => {
                "EvaluationUpdated"
            }
            Self::PlanApply { .. } => "PlanResult",
            Self::NodeRegister { .. } => "NodeRegistration",
            Self::NodeStatusUpdate { .. } => "NodeStreamEvent",
            Self::NodeEligibility { .. } => "NodeEligibility",
            Self::NodeDrain { .. } => "NodeDrain",
            Self::NodeDeregister { .. } => "NodeDeregistration",
            Self::AllocClientUpdate { .. } => "AllocationUpdated",
            Self::AllocDesiredTransition { .. } => "AllocationUpdateDesiredStatus",
            Self::DeploymentUpdate(update) => {
                if !update.promote.is_empty() {
                    "DeploymentPromotion"
                } else if !update.healthy.is_empty() || !update.unhealthy.is_empty() {
                    "DeploymentAllocHealth"
                } else {
                    "DeploymentStatusUpdate"
                }
            }
            Self::NodePoolUpsert { .. } => "NodePoolUpserted",
            Self::NodePoolDelete { .. } => "NodePoolDeleted",
            Self::EvalDelete { .. } => "EvaluationUpdated",
            Self::Reap { .. } => "JobBatchDeregistered",
            // Whoever tells of the rows says what is usual for them.
            _ => "",
        }
    }
}
