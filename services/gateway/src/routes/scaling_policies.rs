//! The bounds that groups set to their counts, for whoever scales them.

use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use axum::extract::{Path, State};
use fsm::{State as Rows, Table};
use model::group::ScalingPolicy;
use model::scaling::ScalingPolicyListStub;
use model::{Job, NamespaceName};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ListParams, ReadParams};
use crate::app::App;
use crate::blocking::{Key, View};
use crate::errors::{Answered, ApiError};
use crate::list::{Place, TokenForm, check_uuid, check_uuid_prefix, page};
use crate::options::Options;
use crate::read::read;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<ScalingPolicy>);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(info))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct PolicyListParams {
    /// Only those of this job.
    job: Option<String>,
    /// Only those of this type: `horizontal`.
    r#type: Option<String>,
}

/// A policy with the namespace and whether it is in force: those of a stopped job are not.
pub(super) fn policies(state: &Rows) -> impl Iterator<Item = (NamespaceName, bool, &ScalingPolicy)> {
    state.jobs().map(AsRef::as_ref).flat_map(|job: &Job| {
        let policies = job.task_groups.iter().filter_map(|group| group.scaling.as_ref());
        let enabled = |policy: &ScalingPolicy| !job.is_stopped() && policy.enabled.unwrap_or(true);
        // One without an id is of a version older than ids of policies.
        policies.filter(|policy| !policy.id.is_empty()).map(move |policy| (job.namespace(), enabled(policy), policy))
    })
}

/// List scaling policies
#[utoipa::path(get, path = "/v1/scaling/policies", operation_id = "listScalingPolicies", tag = "scaling",
    params(ReadParams, ListParams, PolicyListParams),
    responses(
        (status = 200, description = "The policies", body = Vec<ScalingPolicyListStub>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let prefix = options.prefix();
    check_uuid_prefix("scaling policy", prefix)?;
    let (view, mut meta) = read(&app, &options, Key::Table(Table::Jobs), |v| v.tables(&[Table::Jobs])).await?;
    let (job, kind) = (options.params.text("job"), options.params.text("type"));
    let wanted = |(namespace, _, policy): &(NamespaceName, bool, &ScalingPolicy)| {
        options.shows(namespace)
            && policy.id.starts_with(prefix)
            && job.is_none_or(|job| policy.target.get("Job").is_some_and(|target| target == job))
            && kind.is_none_or(|kind| policy.kind == kind)
    };
    let stub = |(_, enabled, policy): (NamespaceName, bool, &ScalingPolicy)| ScalingPolicyListStub {
        id: policy.id.clone(),
        enabled,
        kind: policy.kind.clone(),
        target: policy.target.clone(),
        create_index: policy.create_index,
        modify_index: policy.modify_index,
    };
    let stubs: Vec<ScalingPolicyListStub> = policies(&view.state).filter(wanted).map(stub).collect();
    let rows = stubs.iter().map(|stub| (Place::id(&stub.id), stub));
    let holds = |filter: &Filter, stub: &&ScalingPolicyListStub| filter.matches(&SCHEMA, stub);
    let stubs = page(rows, TokenForm::Id, &options, holds, &mut meta)?;
    options.style.read(&stubs, &meta)
}

/// Read a scaling policy
#[utoipa::path(get, path = "/v1/scaling/policy/{id}", operation_id = "readScalingPolicy", tag = "scaling",
    params(("id" = String, Path, description = "Full id"), ReadParams),
    responses(
        (status = 200, description = "The policy", body = ScalingPolicy),
        (status = 400, description = "Not a full id", body = String, content_type = "text/plain"),
        (status = 404, description = "policy not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("scaling policy", &id)?;
    let look = |v: &View| v.row(find(&v.state, &id).map(|(_, policy)| policy.modify_index), Table::Jobs);
    let (view, meta) = read(&app, &options, Key::Table(Table::Jobs), look).await?;
    let found = find(&view.state, &id);
    let (enabled, policy) = found.ok_or_else(|| ApiError::not_found("policy not found").at(meta.clone()))?;
    options.style.read(&ScalingPolicy { enabled: Some(enabled), ..policy.clone() }, &meta)
}

fn find<'a>(state: &'a Rows, id: &str) -> Option<(bool, &'a ScalingPolicy)> {
    policies(state).find(|(_, _, policy)| policy.id == id).map(|(_, enabled, policy)| (enabled, policy))
}
