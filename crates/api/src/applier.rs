//! The plan applier: a plan in, what became of it out.

use fsm::Plan;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST` [`SubmitPlans`], answered by [`PlansSubmitted`].
pub const PLANS: &str = "/v1/internal/plans";

/// Placements and updates in one submission, so that its command does not hold up the beats behind it.
pub const PLACEMENTS_MAX: usize = 2_000;
/// Plans in one submission.
pub const PLANS_MAX: usize = 256;

/// Plans of one worker, made on one another in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubmitPlans {
    pub plans: Vec<Plan>,
}

/// One answer per plan, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlansSubmitted {
    pub results: Vec<fsm::PlanResult>,
}
