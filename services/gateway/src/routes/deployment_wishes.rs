//! What somebody wants of a deployment: pause, resume, fail, promote, a verdict.

use api::job_changes::{DeploymentRequest, DeploymentUpdateResponse};
use axum::extract::{Path, State};
use control::deployment::hand::{HandError, Wish, by_hand};
use fsm::Command;
use model::{DeploymentId, Index, Timestamp};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::list::check_uuid;
use crate::options::Options;
use crate::read::fresh;
use crate::write::propose;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(fail))
        .routes(routes!(pause))
        .routes(routes!(promote))
        .routes(routes!(unblock))
        .routes(routes!(health))
}

/// The body, which names the deployment of the path.
fn request(options: &Options, body: &Whole, id: &str) -> Result<DeploymentRequest, ApiError> {
    let (request, _) = body.decode::<DeploymentRequest>(options)?;
    match request.deployment_id.as_str() {
        "" => Err(ApiError::bad("DeploymentID must be specified")),
        given if given != id => Err(ApiError::bad("Deployment ID does not match")),
        _ => Ok(request),
    }
}

/// Fail a deployment
///
/// Goes back to the newest stable version where a group asks for that.
#[utoipa::path(post, path = "/v1/deployment/fail/{deployment_id}", operation_id = "failDeployment", tag = "deployments",
    params(("deployment_id" = String, Path, description = "Full id"), super::WriteParams),
    responses(
        (status = 200, description = "It failed", body = DeploymentUpdateResponse),
        (status = 404, description = "deployment not found", body = String, content_type = "text/plain"),
        (status = 409, description = "It is over", body = String, content_type = "text/plain")))]
async fn fail(State(app): State<App>, Path(id): Path<String>, options: Options, write: Write) -> Answered {
    carry_out(&app, &options, write, &id, Wish::Fail).await
}

/// Pause or resume a deployment
#[utoipa::path(post, path = "/v1/deployment/pause/{deployment_id}", operation_id = "pauseDeployment", tag = "deployments",
    request_body(content = DeploymentRequest, example = json!({"DeploymentID": "70638f62-5c19-193e-30d6-f9d6e689ab8e", "Pause": true})),
    params(("deployment_id" = String, Path, description = "Full id"), super::WriteParams),
    responses(
        (status = 200, description = "It is", body = DeploymentUpdateResponse),
        (status = 404, description = "deployment not found", body = String, content_type = "text/plain"),
        (status = 409, description = "It is over", body = String, content_type = "text/plain")))]
async fn pause(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let wish = if request(&options, &body, &id)?.pause { Wish::Pause } else { Wish::Resume };
    carry_out(&app, &options, write, &id, wish).await
}

/// Promote canaries
///
/// Of all groups, or of some. Each must have its canaries healthy.
#[utoipa::path(post, path = "/v1/deployment/promote/{deployment_id}", operation_id = "promoteDeployment", tag = "deployments",
    request_body(content = DeploymentRequest, example = json!({"DeploymentID": "70638f62-5c19-193e-30d6-f9d6e689ab8e", "All": true})),
    params(("deployment_id" = String, Path, description = "Full id"), super::WriteParams),
    responses(
        (status = 200, description = "Promoted", body = DeploymentUpdateResponse),
        (status = 400, description = "There is no such group", body = String, content_type = "text/plain"),
        (status = 404, description = "deployment not found", body = String, content_type = "text/plain"),
        (status = 409, description = "It is over, or canaries are not healthy", body = String, content_type = "text/plain")))]
async fn promote(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let request = request(&options, &body, &id)?;
    if !request.all && request.groups.is_empty() {
        return Err(ApiError::bad("all groups, or some by their names, must be specified"));
    }
    let wish = Wish::Promote((!request.all).then_some(request.groups));
    carry_out(&app, &options, write, &id, wish).await
}

/// Unblock a deployment
///
/// One that waits for other regions.
#[utoipa::path(post, path = "/v1/deployment/unblock/{deployment_id}", operation_id = "unblockDeployment", tag = "deployments",
    request_body = DeploymentRequest, params(("deployment_id" = String, Path, description = "Full id"), super::WriteParams),
    responses(
        (status = 200, description = "It goes on", body = DeploymentUpdateResponse),
        (status = 404, description = "deployment not found", body = String, content_type = "text/plain"),
        (status = 409, description = "It is over, or not blocked", body = String, content_type = "text/plain")))]
async fn unblock(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    request(&options, &body, &id)?;
    carry_out(&app, &options, write, &id, Wish::Unblock).await
}

/// Say which allocations are well
///
/// One that is not fails the deployment.
#[utoipa::path(post, path = "/v1/deployment/allocation-health/{deployment_id}", operation_id = "setDeploymentAllocHealth", tag = "deployments",
    request_body = DeploymentRequest, params(("deployment_id" = String, Path, description = "Full id"), super::WriteParams),
    responses(
        (status = 200, description = "Noted", body = DeploymentUpdateResponse),
        (status = 400, description = "No allocations, or others than the deployment's", body = String, content_type = "text/plain"),
        (status = 404, description = "deployment not found", body = String, content_type = "text/plain"),
        (status = 409, description = "It is over", body = String, content_type = "text/plain")))]
async fn health(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let request = request(&options, &body, &id)?;
    let (healthy, unhealthy) = (request.healthy_allocation_ids, request.unhealthy_allocation_ids);
    carry_out(&app, &options, write, &id, Wish::Health { healthy, unhealthy }).await
}

async fn carry_out(app: &App, options: &Options, mut write: Write, id: &str, wish: Wish) -> Answered {
    check_uuid("deployment", id)?;
    let view = fresh(app, false).await?;
    let row = view.state.deployment(&DeploymentId::from(id));
    let row = row.ok_or_else(|| ApiError::not_found("deployment not found"))?;
    // A write that is named makes the same command again.
    let now = Timestamp(i64::try_from(write.request.at_ms).unwrap_or(i64::MAX / 1_000_000).saturating_mul(1_000_000));
    let mut mint = || write.mint();
    let (update, reverted_job_version) = by_hand(&view.state, row, wish, now, &mut mint)?;
    let eval_id = update.eval.as_ref().map(|eval| eval.id.to_string()).unwrap_or_default();
    let (index, _) = propose(app, &write, Command::DeploymentUpdate(Box::new(update))).await?;
    let response = DeploymentUpdateResponse {
        eval_create_index: if eval_id.is_empty() { Index(0) } else { index },
        eval_id,
        deployment_modify_index: index,
        reverted_job_version,
        index,
    };
    options.style.write(&response, index)
}

impl From<HandError> for ApiError {
    fn from(error: HandError) -> Self {
        match error {
            HandError::NotFound => Self::not_found(error.to_string()),
            HandError::NoGroup(_) | HandError::NoAllocs => Self::bad(error.to_string()),
            HandError::NotBlocked => Self::new(axum::http::StatusCode::CONFLICT, error.to_string()),
        }
    }
}
