//! Evaluations.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use axum::extract::{Path, State};
use fsm::{State as Rows, Table};
use model::eval::EvalStub;
use model::{EvalId, Evaluation, Index, Nanos};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::allocs::{AllocStubs, stub as alloc_stub};
use super::{ListParams, ReadParams};
use crate::app::App;
use crate::blocking::{Key, View};
use crate::errors::{Answered, ApiError};
use crate::list::{Place, TokenForm, check_uuid, check_uuid_prefix, page};
use crate::options::Options;
use crate::read::read;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Evaluation>);
/// Related evaluations shown of one; the chain of a job that failed for a week is longer.
const RELATED_MAX: usize = 1_000;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(count)).routes(routes!(info)).routes(routes!(allocations))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct EvalListParams {
    /// Only those of this job; not together with a filter.
    job: Option<String>,
    /// Only those in this status; not together with a filter.
    status: Option<String>,
}

/// List evaluations
#[utoipa::path(get, path = "/v1/evaluations", operation_id = "listEvaluations", tag = "evaluations",
    params(ReadParams, ListParams, EvalListParams),
    responses(
        (status = 200, description = "The evaluations", body = Vec<Evaluation>),
        (status = 400, description = "A parameter cannot be read", body = String, content_type = "text/plain")))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    let (prefix, job, status) = (options.prefix(), options.params.text("job"), options.params.text("status"));
    if options.params.text("filter").is_some() && (job.is_some() || status.is_some()) {
        return Err(ApiError::bad("Filter expression cannot be used with other filter parameters"));
    }
    check_uuid_prefix("eval", prefix)?;
    let (view, mut meta) = read(&app, &options, Key::Table(Table::Evals), |v| v.tables(&[Table::Evals])).await?;
    let form = if prefix.is_empty() { TokenForm::IndexId } else { TokenForm::Id };
    let wanted = |eval: &&Evaluation| {
        options.shows(&eval.namespace)
            && eval.id.as_str().starts_with(prefix)
            && job.is_none_or(|job| eval.job_id == *job)
            && status.is_none_or(|status| eval.status.as_str() == status)
    };
    let evals = view.state.evals().map(AsRef::as_ref).filter(wanted);
    let rows = evals.map(|eval| (Place::by(form, eval.create_index, eval.id.as_str()), eval));
    let holds = |filter: &Filter, eval: &&Evaluation| filter.matches(&SCHEMA, eval);
    let evals = page(rows, form, &options, holds, &mut meta)?;
    options.style.read(&evals, &meta)
}

/// How many evaluations there are.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct EvalCountResponse {
    count: usize,
    index: Index,
    last_contact: Nanos,
    known_leader: bool,
    next_token: String,
}

/// Count evaluations
#[utoipa::path(get, path = "/v1/evaluations/count", operation_id = "countEvaluations", tag = "evaluations",
    params(ReadParams, ListParams),
    responses((status = 200, description = "How many", body = EvalCountResponse)))]
async fn count(State(app): State<App>, options: Options) -> Answered {
    let prefix = options.prefix();
    check_uuid_prefix("eval", prefix)?;
    let filter = options.params.text("filter").map(Filter::parse).transpose()?;
    let (view, meta) = read(&app, &options, Key::Table(Table::Evals), |v| v.tables(&[Table::Evals])).await?;
    let mut count = 0;
    for eval in view.state.evals() {
        if !options.shows(&eval.namespace) || !eval.id.as_str().starts_with(prefix) {
            continue;
        }
        let fits = match &filter {
            Some(filter) => filter.matches(&SCHEMA, eval)?,
            None => true,
        };
        count += usize::from(fits);
    }
    let response = EvalCountResponse {
        count,
        index: meta.index,
        last_contact: Nanos(i64::try_from(meta.last_contact.as_nanos()).unwrap_or(i64::MAX)),
        known_leader: meta.known_leader,
        next_token: String::new(),
    };
    options.style.read(&response, &meta)
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct RelatedParams {
    /// Also the evaluations before and after it.
    related: Option<bool>,
}

/// Read an evaluation
#[utoipa::path(get, path = "/v1/evaluation/{eval_id}", operation_id = "readEvaluation", tag = "evaluations",
    params(("eval_id" = String, Path, description = "Full id"), RelatedParams, ReadParams),
    responses(
        (status = 200, description = "The evaluation", body = Evaluation),
        (status = 400, description = "Not a full id", body = String, content_type = "text/plain"),
        (status = 404, description = "eval not found", body = String, content_type = "text/plain")))]
async fn info(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("eval", &id)?;
    let id = EvalId::from(id);
    let look = |v: &View| v.row(v.state.eval(&id).map(|eval| eval.modify_index), Table::Evals);
    let (view, meta) = read(&app, &options, Key::Eval(id.clone()), look).await?;
    let eval = view.state.eval(&id).ok_or_else(|| ApiError::not_found("eval not found").at(meta.clone()))?;
    if options.params.get("related") != Some("true") {
        return options.style.read(eval, &meta);
    }
    let related_evals = related(&view.state, eval);
    options.style.read(&Evaluation { related_evals, ..Evaluation::clone(eval) }, &meta)
}

/// Evaluations that lead to this one or follow from it, however far, oldest first.
fn related(state: &Rows, eval: &Evaluation) -> Vec<EvalStub> {
    let mut found: BTreeMap<(Index, EvalId), EvalStub> = BTreeMap::new();
    let mut seen = std::collections::HashSet::from([eval.id.clone()]);
    let mut next: VecDeque<EvalId> = links(eval).collect();
    while let Some(id) = next.pop_front() {
        if found.len() >= RELATED_MAX || !seen.insert(id.clone()) {
            continue;
        }
        if let Some(row) = state.eval(&id) {
            found.insert((row.create_index, id), stub(row));
            next.extend(links(row));
        }
    }
    found.into_values().collect()
}

fn links(eval: &Evaluation) -> impl Iterator<Item = EvalId> {
    let links = [&eval.next_eval, &eval.previous_eval, &eval.blocked_eval];
    links.map(Clone::clone).into_iter().filter(|id| !id.is_empty())
}

fn stub(eval: &Evaluation) -> EvalStub {
    EvalStub {
        id: eval.id.clone(),
        priority: eval.priority,
        kind: eval.kind.clone(),
        triggered_by: eval.triggered_by.clone(),
        namespace: eval.namespace.clone(),
        job_id: eval.job_id.clone(),
        node_id: eval.node_id.clone(),
        deployment_id: eval.deployment_id.clone(),
        status: eval.status,
        status_description: eval.status_description.clone(),
        wait_until: eval.wait_until.unwrap_or_default(),
        next_eval: eval.next_eval.clone(),
        previous_eval: eval.previous_eval.clone(),
        blocked_eval: eval.blocked_eval.clone(),
        create_index: eval.create_index,
        modify_index: eval.modify_index,
        create_time: eval.create_time,
        modify_time: eval.modify_time,
    }
}

/// List an evaluation's allocations
#[utoipa::path(get, path = "/v1/evaluation/{eval_id}/allocations", operation_id = "listEvaluationAllocations", tag = "evaluations",
    params(("eval_id" = String, Path, description = "Full id"), ReadParams),
    responses((status = 200, description = "The allocations it placed or changed", body = Vec<model::alloc::AllocStub>)))]
async fn allocations(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("eval", &id)?;
    let id = EvalId::from(id);
    let look = |v: &View| v.rows(v.state.allocs_of_eval(&id).map(|alloc| alloc.modify_index), Table::Allocs);
    let (view, meta) = read(&app, &options, Key::EvalAllocs(id.clone()), look).await?;
    let allocs = view.state.allocs_of_eval(&id);
    let stubs: Vec<_> = allocs.map(|alloc| alloc_stub(&view.state, alloc, AllocStubs::default())).collect();
    options.style.read(&stubs, &meta)
}
