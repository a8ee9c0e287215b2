//! Jobs, as they are read.

use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use api::public::JobVersionsResponse;
use axum::extract::{Path, State};
use fsm::{State as Rows, Table};
use model::diff::{JobDiff, diff_jobs};
use model::job::JobSubmission;
use model::summary::{JobListStub, JobSummary};
use model::{Allocation, Deployment, Evaluation, Index, Job};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::allocs::{AllocStubs, stub};
use super::{ListParams, ReadParams};
use crate::answer::Meta;
use crate::app::App;
use crate::blocking::{Key, View};
use crate::errors::{Answered, ApiError};
use crate::intake::key;
use crate::list::{Place, TokenForm, page};
use crate::options::Options;
use crate::read::read;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Job>);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(info))
        .routes(routes!(versions))
        .routes(routes!(submission))
        .routes(routes!(allocations))
        .routes(routes!(evaluations))
        .routes(routes!(deployments))
        .routes(routes!(deployment))
        .routes(routes!(summary))
        .routes(routes!(services))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
pub struct JobListParams {
    /// Show each job's metadata.
    meta: Option<bool>,
}

/// List jobs
#[utoipa::path(get, path = "/v1/jobs", operation_id = "listJobs", tag = "jobs", params(ReadParams, ListParams, JobListParams),
    responses(
        (status = 200, description = "The jobs", body = Vec<JobListStub>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain"),
        (status = 500, description = "No cluster leader", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    options.params.flag("meta")?;
    let tables = [Table::Jobs, Table::JobSummaries];
    let (view, mut meta) = read(&app, &options, Key::JobList, |v| v.tables(&tables)).await?;
    let wanted = |job: &&Job| options.shows(&job.namespace()) && job.id().as_str().starts_with(options.prefix());
    let stubs = stubs(&view.state, view.state.jobs().map(AsRef::as_ref).filter(wanted), &options, &mut meta)?;
    options.style.read(&stubs, &meta)
}

/// A job's place by namespace and id.
pub fn place(job: &Job) -> Place<'_> {
    Place::namespace_id(job.namespace_text(), job.id.as_ref().map_or("", |id| id.as_str()))
}

/// The page of these jobs that the caller asks for.
///
/// # Errors
/// A parameter, the filter or the token cannot be read.
pub fn stubs<'a>(
    state: &Rows,
    jobs: impl Iterator<Item = &'a Job>,
    options: &Options,
    meta: &mut Meta,
) -> Result<Vec<JobListStub>, ApiError> {
    let with_meta = options.params.flag("meta")?.unwrap_or(false);
    let rows = jobs.map(|job| (place(job), job));
    let holds = |filter: &Filter, job: &&Job| filter.matches(&SCHEMA, job);
    let jobs = page(rows, TokenForm::NamespaceId, options, holds, meta)?;
    Ok(jobs.into_iter().map(|job| list_stub(state, job, with_meta)).collect())
}

fn list_stub(state: &Rows, job: &Job, with_meta: bool) -> JobListStub {
    let (namespace, id) = job.key();
    JobListStub {
        parent_id: job.parent_id.clone().unwrap_or_default(),
        name: job.name().to_owned(),
        datacenters: job.datacenters.clone(),
        node_pool: job.node_pool().to_owned(),
        multiregion: job.multiregion.clone(),
        kind: job.kind_text().to_owned(),
        priority: job.priority(),
        periodic: job.is_periodic(),
        parameterized_job: job.is_parameterized(),
        stop: job.is_stopped(),
        status: job.status.clone().unwrap_or_default(),
        status_description: job.status_description.clone().unwrap_or_default(),
        job_summary: state.job_summary(&namespace, &id).map(|summary| JobSummary::clone(summary)),
        create_index: job.create_index.unwrap_or_default(),
        modify_index: job.modify_index.unwrap_or_default(),
        job_modify_index: job.job_modify_index(),
        submit_time: job.submit_time.unwrap_or_default(),
        meta: if with_meta { job.meta.clone() } else { Default::default() },
        namespace,
        id,
    }
}

/// Read a job
#[utoipa::path(get, path = "/v1/job/{job_id}", operation_id = "readJob", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ReadParams),
    responses(
        (status = 200, description = "The job", body = Job),
        (status = 404, description = "job not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let (namespace, id) = key(&options, &id);
    let watched = Key::Job(namespace.clone(), id.clone());
    let look = |v: &View| v.row(v.state.job(&namespace, &id).and_then(|job| job.modify_index), Table::Jobs);
    let (view, meta) = read(&app, &options, watched, look).await?;
    let job = view.state.job(&namespace, &id).ok_or_else(|| not_found(&meta))?;
    options.style.read(job, &meta)
}

fn not_found(meta: &Meta) -> ApiError {
    ApiError::not_found("job not found").at(meta.clone())
}

/// List a job's versions
///
/// Newest first. With `diffs`, `Diffs` says what became of each version's predecessor in it; with
/// `diff_version` or `diff_tag`, what became of that version in each.
#[utoipa::path(get, path = "/v1/job/{job_id}/versions", operation_id = "listJobVersions", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), VersionsParams, ReadParams),
    responses(
        (status = 200, description = "The versions", body = JobVersionsResponse),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain"),
        (status = 404, description = "job versions not found", body = String, content_type = "text/plain")))]
async fn versions(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let (namespace, id) = key(&options, &id);
    let against = against(&options)?;
    let newest = |v: &View| {
        let versions = v.state.job_versions(&namespace, &id);
        v.row(versions.iter().filter_map(|job| job.modify_index).max(), Table::Jobs)
    };
    let (view, meta) = read(&app, &options, Key::Job(namespace.clone(), id.clone()), newest).await?;
    let versions: Vec<&Job> = view.state.job_versions(&namespace, &id).into_iter().rev().map(AsRef::as_ref).collect();
    if versions.is_empty() {
        return Err(ApiError::not_found("job versions not found").at(meta));
    }
    let diffs = against.map(|against| diffs(&versions, &against)).transpose()?.unwrap_or_default();
    let response = JobVersionsResponse {
        versions: versions.into_iter().cloned().collect(),
        diffs,
        index: meta.index,
        known_leader: meta.known_leader,
        ..JobVersionsResponse::default()
    };
    options.style.read(&response, &meta)
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct VersionsParams {
    /// Say what changed.
    diffs: Option<bool>,
    /// Compare each with this version instead of with the one before.
    diff_version: Option<u64>,
    /// Compare each with the version of this tag.
    diff_tag: Option<String>,
}

/// What versions are compared with.
enum Against {
    Before,
    Version(u64),
    Tag(String),
}

fn against(options: &Options) -> Result<Option<Against>, ApiError> {
    let wanted = options.params.flag("diffs")?.unwrap_or(false);
    let tag = options.params.get("diff_tag").filter(|tag| !tag.is_empty());
    let version = options.params.get("diff_version").filter(|version| !version.is_empty());
    let bad = || ApiError::bad("Failed to parse value of \"diff_version\" as a version number");
    let version = version.map(|text| text.parse::<u64>().map_err(|_| bad())).transpose()?;
    Ok(wanted.then(|| match (tag, version) {
        (Some(tag), _) => Against::Tag(tag.to_owned()),
        (None, Some(version)) => Against::Version(version),
        (None, None) => Against::Before,
    }))
}

/// `versions` newest first.
fn diffs(versions: &[&Job], against: &Against) -> Result<Vec<JobDiff>, ApiError> {
    let compare = |old: &Job, new: &Job| {
        diff_jobs(Some(old), new).map_err(|error| ApiError::internal("versions cannot be compared", &error))
    };
    let tagged = |job: &Job, name: &str| job.version_tag.as_ref().is_some_and(|tag| tag.name == name);
    let base = match against {
        Against::Before => return versions.windows(2).map(|pair| compare(pair[1], pair[0])).collect(),
        Against::Version(version) => versions.iter().find(|job| job.version() == *version),
        Against::Tag(name) => versions.iter().find(|job| tagged(job, name)),
    };
    let missing = || match against {
        Against::Tag(name) => ApiError::not_found(format!("tag {name:?} not found")),
        Against::Version(version) => ApiError::not_found(format!("version {version} not found")),
        Against::Before => ApiError::not_found("job versions not found"),
    };
    let base = base.ok_or_else(missing)?;
    versions.iter().map(|job| compare(base, job)).collect()
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct SubmissionParams {
    /// Which version.
    version: u64,
}

/// Read the text a job's version was made from
#[utoipa::path(get, path = "/v1/job/{job_id}/submission", operation_id = "readJobSubmission", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), SubmissionParams, ReadParams),
    responses(
        (status = 200, description = "The text", body = JobSubmission),
        (status = 400, description = "The version is missing", body = String, content_type = "text/plain"),
        (status = 404, description = "job source not found", body = String, content_type = "text/plain")))]
async fn submission(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let version = options.params.get("version").and_then(|v| v.parse::<u64>().ok());
    let version = version.ok_or_else(|| ApiError::bad("Unable to parse job submission version parameter"))?;
    let (namespace, id) = key(&options, &id);
    let look = |v: &View| {
        let row = v.state.job_submission(&namespace, &id, version);
        v.row(row.map(|row| row.job_modify_index), Table::JobSubmissions)
    };
    let (view, meta) = read(&app, &options, Key::Job(namespace.clone(), id.clone()), look).await?;
    let row = view.state.job_submission(&namespace, &id, version);
    let row = row.ok_or_else(|| ApiError::not_found("job source not found").at(meta.clone()))?;
    options.style.read(row, &meta)
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct AllParams {
    /// Also those of earlier jobs of the same id.
    all: Option<bool>,
}

/// List a job's allocations
#[utoipa::path(get, path = "/v1/job/{job_id}/allocations", operation_id = "listJobAllocations", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), AllParams, ReadParams),
    responses((status = 200, description = "The allocations", body = Vec<model::alloc::AllocStub>)))]
async fn allocations(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let all = options.params.flag("all")?.unwrap_or(false);
    let (namespace, id) = key(&options, &id);
    let look = |v: &View| v.rows(v.state.allocs_of_job(&namespace, &id).map(|a| a.modify_index), Table::Allocs);
    let (view, meta) = read(&app, &options, Key::JobAllocs(namespace.clone(), id.clone()), look).await?;
    let incarnation = view.state.job(&namespace, &id).map(|job| job.incarnation());
    let of_this_job = |alloc: &&Allocation| all || incarnation.is_none() || alloc.job_incarnation() == incarnation;
    let allocs = view.state.allocs_of_job(&namespace, &id).map(AsRef::as_ref).filter(of_this_job);
    let stubs: Vec<_> = allocs.map(|alloc| stub(&view.state, alloc, AllocStubs::default())).collect();
    options.style.read(&stubs, &meta)
}

/// List a job's evaluations
#[utoipa::path(get, path = "/v1/job/{job_id}/evaluations", operation_id = "listJobEvaluations", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ReadParams),
    responses((status = 200, description = "The evaluations, newest first", body = Vec<Evaluation>)))]
async fn evaluations(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let (namespace, id) = key(&options, &id);
    let look = |v: &View| v.rows(v.state.evals_of_job(&namespace, &id).map(|e| e.modify_index), Table::Evals);
    let (view, meta) = read(&app, &options, Key::JobEvals(namespace.clone(), id.clone()), look).await?;
    let mut evals: Vec<&Evaluation> = view.state.evals_of_job(&namespace, &id).map(AsRef::as_ref).collect();
    evals.sort_by(|a, b| b.create_index.cmp(&a.create_index).then_with(|| a.id.cmp(&b.id)));
    options.style.read(&evals, &meta)
}

fn deployments_seen(v: &View, key: &(model::NamespaceName, model::JobId)) -> crate::blocking::Seen {
    v.rows(v.state.deployments_of_job(&key.0, &key.1).map(|d| d.modify_index), Table::Deployments)
}

/// List a job's deployments
#[utoipa::path(get, path = "/v1/job/{job_id}/deployments", operation_id = "listJobDeployments", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), AllParams, ReadParams),
    responses((status = 200, description = "The deployments, newest first", body = Vec<Deployment>)))]
async fn deployments(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let all = options.params.flag("all")?.unwrap_or(false);
    let job = key(&options, &id);
    let watched = Key::JobDeployments(job.0.clone(), job.1.clone());
    let (view, meta) = read(&app, &options, watched, |v| deployments_seen(v, &job)).await?;
    let incarnation = view.state.job(&job.0, &job.1).map(|job| job.incarnation());
    let of_this_job = |d: &&Deployment| all || incarnation.is_none_or(|index| d.job_create_index == index);
    let rows = view.state.deployments_of_job(&job.0, &job.1).map(AsRef::as_ref);
    let mut rows: Vec<&Deployment> = rows.filter(of_this_job).collect();
    rows.sort_by_key(|d| std::cmp::Reverse(d.create_index));
    options.style.read(&rows, &meta)
}

/// Read a job's latest deployment
///
/// `null` when it has none.
#[utoipa::path(get, path = "/v1/job/{job_id}/deployment", operation_id = "readJobDeployment", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ReadParams),
    responses((status = 200, description = "The deployment, or null", body = Option<Deployment>)))]
async fn deployment(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let job = key(&options, &id);
    let watched = Key::JobDeployments(job.0.clone(), job.1.clone());
    let look = |v: &View| {
        let latest = v.state.latest_deployment(&job.0, &job.1);
        v.row(latest.map(|d| d.modify_index), Table::Deployments)
    };
    let (view, meta) = read(&app, &options, watched, look).await?;
    let incarnation = view.state.job(&job.0, &job.1).map_or(Index(0), |job| job.incarnation());
    let latest = view.state.latest_deployment(&job.0, &job.1).filter(|d| d.job_create_index == incarnation);
    options.style.read(&latest, &meta)
}

/// Read a job's summary
#[utoipa::path(get, path = "/v1/job/{job_id}/summary", operation_id = "readJobSummary", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ReadParams),
    responses(
        (status = 200, description = "Counts of its allocations", body = JobSummary),
        (status = 404, description = "job not found", body = String, content_type = "text/plain")))]
async fn summary(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let (namespace, id) = key(&options, &id);
    let look = |v: &View| {
        let row = v.state.job_summary(&namespace, &id);
        v.row(row.map(|row| row.modify_index), Table::JobSummaries)
    };
    let (view, meta) = read(&app, &options, Key::Job(namespace.clone(), id.clone()), look).await?;
    let row = view.state.job_summary(&namespace, &id).ok_or_else(|| not_found(&meta))?;
    options.style.read(row, &meta)
}

/// Services that a job registered
///
/// None yet: jobs with services are refused until registration is built.
#[utoipa::path(get, path = "/v1/job/{job_id}/services", operation_id = "listJobServices", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ReadParams),
    responses(
        (status = 200, description = "The services", body = Vec<Object>),
        (status = 404, description = "job not found", body = String, content_type = "text/plain")))]
async fn services(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let (namespace, id) = key(&options, &id);
    let look = |v: &View| v.row(v.state.job(&namespace, &id).and_then(|job| job.modify_index), Table::Jobs);
    let (view, meta) = read(&app, &options, Key::Job(namespace.clone(), id.clone()), look).await?;
    view.state.job(&namespace, &id).ok_or_else(|| not_found(&meta))?;
    options.style.read::<[serde_json::Value]>(&[], &meta)
}
