//! The applier's endpoint.

use api::applier::{PLACEMENTS_MAX, PLANS_MAX, PlansSubmitted, SubmitPlans};
use api::{Code, ErrorBody};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use client::lease::LeaseKeeper;
use kit::guard::{Refused, require};
use model::Role;
use tokio::sync::{mpsc, oneshot};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::apply::{Submission, placements};

/// Largest submission.
const BODY_BYTES_MAX: usize = 16 << 20;
const SCHEDULERS: &[Role] = &[Role::Scheduler];

#[derive(Clone)]
pub struct App {
    pub submit: mpsc::Sender<Submission>,
    pub lease: LeaseKeeper,
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(submit_plans))
        .layer(require(SCHEDULERS))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Submit plans
///
/// They are checked in order, each against all before it, and committed together with whatever else is
/// waiting. One answer per plan.
#[utoipa::path(post, path = api::applier::PLANS, operation_id = "submitPlans", tag = "plans",
    request_body = SubmitPlans,
    responses(
        (status = 200, description = "What became of each plan", body = PlansSubmitted),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 403, description = "The caller is no scheduler", body = ErrorBody),
        (status = 413, description = "More than one command may carry", body = ErrorBody),
        (status = 429, description = "Too many submissions are waiting", body = ErrorBody),
        (status = 503, description = "Not the active applier; nothing was done", body = ErrorBody)))]
async fn submit_plans(State(app): State<App>, body: Bytes) -> Result<Json<PlansSubmitted>, Refused> {
    if app.lease.current().is_none() {
        return Err(Refused::new(Code::NotActive, "this applier is not the active one"));
    }
    let body: SubmitPlans =
        serde_json::from_slice(&body).map_err(|e| Refused::new(Code::BadRequest, format!("no plans: {e}")))?;
    let placed: usize = body.plans.iter().map(placements).sum();
    // What cannot be cut into pieces may be larger, alone; the command's size in bytes is its limit then.
    let whole = body.plans.len() == 1 && body.plans.iter().all(|plan| plan.all_at_once);
    if body.plans.len() > PLANS_MAX || placed > PLACEMENTS_MAX && !whole {
        return Err(Refused::new(Code::TooLarge, "more plans or placements than one command may carry"));
    }
    let (answer, answered) = oneshot::channel();
    app.submit
        .try_send(Submission { plans: body.plans, answer })
        .map_err(|_| Refused::new(Code::TooMany, "too many plans are waiting"))?;
    match answered.await {
        Ok(Ok(results)) => Ok(Json(PlansSubmitted { results })),
        Ok(Err(_)) => Err(Refused::new(Code::NotActive, "this applier is not the active one")),
        Err(_) => Err(Refused::new(Code::NotReady, "the applier is shutting down")),
    }
}
