//! Jobs at a glance.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use api::job_changes::{
    JobStatusesAlloc, JobStatusesDeployment, JobStatusesJob, JobStatusesLatestDeployment, JobStatusesRequest,
    NamespacedId,
};
use axum::extract::State;
use fsm::{State as Rows, Table};
use model::alloc::TaskState;
use model::{Allocation, Deployment, Job, NamespaceName};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ListParams, ReadParams};
use crate::app::App;
use crate::blocking::{Key, View};
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::list::{Place, TokenForm, page};
use crate::options::Options;
use crate::read::read;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Job>);
/// What a status shows.
const TABLES: [Table; 4] = [Table::Jobs, Table::JobSummaries, Table::Allocs, Table::Deployments];

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(selected))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct StatusesParams {
    /// Show what periodic and parameterized jobs launched, too.
    include_children: Option<bool>,
}

/// List jobs with what runs of them
///
/// Newest change first.
#[utoipa::path(get, path = "/v1/jobs/statuses", operation_id = "listJobStatuses", tag = "jobs",
    params(ReadParams, ListParams, StatusesParams),
    responses(
        (status = 200, description = "The jobs", body = Vec<JobStatusesJob>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let children = options.params.flag("include_children")?.unwrap_or(false);
    let shows = |job: &Job| options.shows(&job.namespace()) && (children || !is_child(job));
    statuses(&app, &options, shows).await
}

/// Read some jobs with what runs of them
#[utoipa::path(post, path = "/v1/jobs/statuses", operation_id = "readJobStatuses", tag = "jobs",
    request_body(content = JobStatusesRequest, example = json!({"Jobs": [{"ID": "hello", "Namespace": "default"}]})),
    params(ReadParams, ListParams),
    responses(
        (status = 200, description = "Those of the jobs that are there", body = Vec<JobStatusesJob>),
        (status = 400, description = "No jobs are asked for", body = String, content_type = "text/plain")))]
async fn selected(State(app): State<App>, options: Options, body: Whole) -> Answered {
    let (request, _) = body.decode::<JobStatusesRequest>(&options)?;
    if request.jobs.is_empty() {
        return Err(ApiError::bad("no jobs in request"));
    }
    let wanted: BTreeSet<(NamespaceName, String)> = request
        .jobs
        .into_iter()
        .map(|NamespacedId { id, namespace }| {
            let namespace = if namespace.is_empty() { options.namespace() } else { namespace };
            (namespace, id.to_string())
        })
        .collect();
    let children = request.include_children || options.params.flag("include_children")?.unwrap_or(false);
    let shows = |job: &Job| {
        let of = |id: &str| wanted.contains(&(job.namespace(), id.to_owned()));
        of(job.id().as_str()) || (children && is_child(job) && of(job.parent_id.as_deref().unwrap_or("")))
    };
    statuses(&app, &options, shows).await
}

fn is_child(job: &Job) -> bool {
    job.parent_id.as_deref().is_some_and(|parent| !parent.is_empty())
}

fn place(job: &Job) -> Place<'_> {
    Place { index: job.modify_index.unwrap_or_default().get(), ..super::jobs::place(job) }
}

async fn statuses(app: &App, options: &Options, shows: impl Fn(&Job) -> bool) -> Answered {
    let (view, mut meta) = read(app, options, Key::JobStatuses, |v: &View| v.tables(&TABLES)).await?;
    let jobs = view.state.jobs().map(AsRef::as_ref).filter(|job| shows(job));
    let rows = jobs.map(|job| (place(job), job));
    let holds = |filter: &Filter, job: &&Job| filter.matches(&SCHEMA, job);
    // Newest first unless asked otherwise.
    let turned = Options { reverse: !options.reverse, ..options.clone() };
    let jobs = page(rows, TokenForm::IndexNamespaceId, &turned, holds, &mut meta)?;
    let jobs: Vec<JobStatusesJob> = jobs.into_iter().map(|job| job_status(&view.state, job)).collect();
    options.style.read(&jobs, &meta)
}

fn job_status(state: &Rows, job: &Job) -> JobStatusesJob {
    let (namespace, id) = job.key();
    let is_parent = job.is_parent();
    let of_this_job = |alloc: &&Allocation| !is_parent && alloc.job_incarnation() == Some(job.incarnation());
    let allocs = state.allocs_of_job(&namespace, &id).map(AsRef::as_ref).filter(of_this_job);
    let latest = state.latest_deployment(&namespace, &id).filter(|row| row.job_create_index == job.incarnation());
    let status = |job: &Job| job.status.clone().unwrap_or_default();
    let children = state.children_of_job(&namespace, &id).filter(|_| is_parent);
    JobStatusesJob {
        name: job.name().to_owned(),
        kind: job.kind_text().to_owned(),
        node_pool: job.node_pool().to_owned(),
        datacenters: job.datacenters.clone(),
        priority: job.priority(),
        version: job.version(),
        submit_time: job.submit_time.unwrap_or_default(),
        modify_index: job.modify_index.unwrap_or_default(),
        allocs: allocs.map(alloc_status).collect(),
        group_count_sum: job.total_count(),
        child_statuses: children.map(|child| status(child)).collect(),
        parent_id: job.parent_id.clone().unwrap_or_default(),
        latest_deployment: latest.map(|row| deployment_status(row)),
        stop: job.is_stopped(),
        is_pack: job.meta.contains_key("pack.name"),
        status: status(job),
        id,
        namespace,
    }
}

fn alloc_status(alloc: &Allocation) -> JobStatusesAlloc {
    JobStatusesAlloc {
        id: alloc.id.clone(),
        group: alloc.task_group.clone(),
        client_status: alloc.client_status.to_string(),
        node_id: alloc.node_id.clone(),
        deployment_status: JobStatusesDeployment { canary: alloc.is_canary(), healthy: alloc.is_healthy() },
        job_version: alloc.job_version.unwrap_or_default(),
        followup_eval_id: alloc.followup_eval_id.clone(),
        has_paused_task: alloc.task_states.values().any(TaskState::is_paused),
    }
}

fn deployment_status(row: &Deployment) -> JobStatusesLatestDeployment {
    let mut canaries = row.task_groups.values().filter(|group| group.desired_canaries > 0).peekable();
    let has_canaries = canaries.peek().is_some();
    JobStatusesLatestDeployment {
        id: row.id.clone(),
        is_active: row.status.is_active(),
        job_version: row.job_version,
        status: row.status.to_string(),
        status_description: row.status_description.clone(),
        all_auto_promote: has_canaries && canaries.all(|group| group.auto_promote),
        requires_promotion: row.status.is_active()
            && row.task_groups.values().any(|group| group.desired_canaries > 0 && !group.promoted),
    }
}
