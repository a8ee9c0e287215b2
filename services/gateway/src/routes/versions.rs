//! Versions of a job: going back to one, naming one, saying that one is good.

use api::job_changes::{
    JobRevertRequest, JobStabilityRequest, JobStabilityResponse, JobTagResponse, TagVersionRequest,
};
use api::public::JobRegisterResponse;
use axum::extract::{Path, State};
use fsm::command::{JobRegister, JobTag, TagSet};
use fsm::{Command, Reply};
use model::Job;
use model::job::JobVersionTag;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::register::{check_registration_is_on, registered};
use crate::answer::Meta;
use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::intake::key;
use crate::options::Options;
use crate::read::fresh;
use crate::write::{Trigger, evaluation, propose};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(revert)).routes(routes!(stable)).routes(routes!(tag)).routes(routes!(untag))
}

/// The body names the job of the path.
fn check_id(given: &str, path: &str) -> Result<(), ApiError> {
    match given {
        "" => Err(ApiError::bad("JobID must be specified")),
        given if given != path => Err(ApiError::bad("Job ID does not match")),
        _ => Ok(()),
    }
}

/// Go back to a version of a job
///
/// What that version asked for becomes a new version.
#[utoipa::path(post, path = "/v1/job/{job_id}/revert", operation_id = "revertJob", tag = "jobs",
    request_body(content = JobRevertRequest, example = json!({"JobID": "hello", "JobVersion": 0})),
    params(("job_id" = String, Path, description = "Id of the job"), super::WriteParams),
    responses(
        (status = 200, description = "The new version and its evaluation", body = JobRegisterResponse),
        (status = 400, description = "It is the current version", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such version", body = String, content_type = "text/plain"),
        (status = 409, description = "Another version is the current one", body = String, content_type = "text/plain")))]
async fn revert(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    mut write: Write,
    body: Whole,
) -> Answered {
    let (request, _) = body.decode::<JobRevertRequest>(&options)?;
    check_id(&request.job_id, &id)?;
    check_registration_is_on(&app)?;
    let (namespace, job_id) = key(&options, &id);
    let view = fresh(&app, false).await?;
    let missing = || ApiError::not_found(format!("job {:?} not found", job_id.as_str()));
    let present = view.state.job(&namespace, &job_id).ok_or_else(missing)?;
    if let Some(prior) = request.enforce_prior_version.filter(|prior| *prior != present.version()) {
        let text = format!("Current job has version {}; enforcing version {prior}", present.version());
        return Err(ApiError::new(axum::http::StatusCode::CONFLICT, text));
    }
    let version = request.job_version;
    if version == present.version() {
        return Err(ApiError::bad("can't revert to current version"));
    }
    let old = view.state.job_version_tracked(&namespace, &job_id, version);
    let missing = || {
        let (job, namespace) = (job_id.as_str(), namespace.as_str());
        ApiError::not_found(format!("job {job:?} in namespace {namespace:?} at version {version} not found"))
    };
    let mut job = Job::clone(old.ok_or_else(missing)?);
    job.version_tag = None;
    job.stable = Some(false);
    job.submit_time = Some(0);
    let submission = view.state.job_submission(&namespace, &job_id, version).map(|row| (**row).clone());
    let eval = (!job.is_parent()).then(|| evaluation(&mut write, &job, Trigger::JobRegister, None));
    let enforce_index = Some(present.job_modify_index());
    let command = JobRegister { job, eval, submission, enforce_index };
    let (index, reply) = propose(&app, &write, Command::JobRegister(Box::new(command))).await?;
    let response = JobRegisterResponse { index, ..registered(reply) };
    options.style.read(&response, &Meta { index, ..Meta::default() })
}

/// Say whether a version is stable
#[utoipa::path(post, path = "/v1/job/{job_id}/stable", operation_id = "setJobStability", tag = "jobs",
    request_body(content = JobStabilityRequest, example = json!({"JobID": "hello", "JobVersion": 0, "Stable": true})),
    params(("job_id" = String, Path, description = "Id of the job"), super::WriteParams),
    responses(
        (status = 200, description = "It is", body = JobStabilityResponse),
        (status = 404, description = "There is no such version", body = String, content_type = "text/plain")))]
async fn stable(
    State(app): State<App>,
    Path(id): Path<String>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let (request, _) = body.decode::<JobStabilityRequest>(&options)?;
    check_id(&request.job_id, &id)?;
    let (namespace, job_id) = key(&options, &id);
    let (version, stable) = (request.job_version, request.stable);
    let (index, _) = propose(&app, &write, Command::JobStability { namespace, job_id, version, stable }).await?;
    options.style.write(&JobStabilityResponse { index }, index)
}

/// Name a version of a job
///
/// A version with a name is kept.
#[utoipa::path(post, path = "/v1/job/{job_id}/versions/{name}/tag", operation_id = "tagJobVersion", tag = "jobs",
    request_body(content = TagVersionRequest, example = json!({"Version": 0, "Description": "before the move"})),
    params(("job_id" = String, Path, description = "Id of the job"), ("name" = String, Path, description = "The name"), super::WriteParams),
    responses(
        (status = 200, description = "The tag", body = JobTagResponse),
        (status = 404, description = "There is no such version", body = String, content_type = "text/plain"),
        (status = 409, description = "Another version has that name", body = String, content_type = "text/plain")))]
async fn tag(
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
    options: Options,
    write: Write,
    body: Whole,
) -> Answered {
    let (request, _) = body.decode::<TagVersionRequest>(&options)?;
    if request.latest && request.version != 0 {
        return Err(ApiError::bad("a tag is for the latest version or for a numbered one, not for both"));
    }
    let version = (!request.latest).then_some(request.version);
    let set = TagSet { version, description: request.description };
    write_tag(&app, &options, &write, &id, name, Some(set)).await
}

/// Take a version's name away
#[utoipa::path(delete, path = "/v1/job/{job_id}/versions/{name}/tag", operation_id = "untagJobVersion", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ("name" = String, Path, description = "The name"), super::WriteParams),
    responses(
        (status = 200, description = "It has none", body = JobTagResponse),
        (status = 404, description = "No version has that name", body = String, content_type = "text/plain")))]
async fn untag(
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
    options: Options,
    write: Write,
) -> Answered {
    let (namespace, job_id) = key(&options, &id);
    let view = fresh(&app, false).await?;
    let named = |job: &Job| job.version_tag.as_ref().is_some_and(|tag| tag.name == name);
    if !view.state.job_versions(&namespace, &job_id).into_iter().any(|job| named(job)) {
        return Err(ApiError::not_found(format!("tag {name:?} not found on job {id:?}")));
    }
    write_tag(&app, &options, &write, &id, name, None).await
}

async fn write_tag(
    app: &App,
    options: &Options,
    write: &Write,
    id: &str,
    name: String,
    set: Option<TagSet>,
) -> Answered {
    let (namespace, job_id) = key(options, id);
    let (index, reply) =
        propose(app, write, Command::JobTag(Box::new(JobTag { namespace, job_id, name, set }))).await?;
    let tag = match reply {
        Reply::Tag { tag: Some(tag) } => tag,
        _ => JobVersionTag::default(),
    };
    let JobVersionTag { name, description, tagged_time } = tag;
    options.style.json(&JobTagResponse { name, description, tagged_time, index, ..JobTagResponse::default() })
}
