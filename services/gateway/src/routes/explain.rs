//! Why an evaluation came out as it did: its row, its allocations and the scheduler's trace, put together.

use std::collections::BTreeMap;

use api::explain::{EvalExplanation, EvalTrace, GroupExplanation, Happening, Moment, Placement};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use fsm::{State as Rows, Table};
use model::{Allocation, Carried, EvalId, EvalStatus, Evaluation};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ReadParams;
use crate::app::App;
use crate::blocking::{Key, View};
use crate::errors::{Answered, ApiError};
use crate::list::check_uuid;
use crate::options::Options;
use crate::read::read;
use crate::traces;

/// Allocations told in the history one by one.
const MOMENTS_MAX: usize = 100;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(explain))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct ExplainParams {
    /// Only what lasts: without the verdict on each node.
    summary: Option<bool>,
}

/// Explain an evaluation
///
/// Its history with times; for every node the first check it failed, or its score by component; for what
/// found no place the nearest change that would place it. The verdicts on nodes are kept by the scheduler
/// that made them, 64 MB of them: 410 when they are gone, and `summary=true` still answers.
#[utoipa::path(get, path = "/v1/evaluation/{eval_id}/explain", operation_id = "explainEvaluation", tag = "evaluations",
    params(("eval_id" = String, Path, description = "Full id"), ExplainParams, ReadParams),
    responses(
        (status = 200, description = "Why it came out as it did", body = EvalExplanation),
        (status = 400, description = "Not a full id", body = String, content_type = "text/plain"),
        (status = 404, description = "eval not found", body = String, content_type = "text/plain"),
        (status = 410, description = "No scheduler remembers it", body = String, content_type = "text/plain")))]
async fn explain(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    check_uuid("eval", &id)?;
    let id = EvalId::from(id);
    let look = |v: &View| v.row(v.state.eval(&id).map(|eval| eval.modify_index), Table::Evals);
    let (view, meta) = read(&app, &options, Key::Eval(id.clone()), look).await?;
    let eval = view.state.eval(&id).ok_or_else(|| ApiError::not_found("eval not found").at(meta.clone()))?;
    let summary = options.params.get("summary") == Some("true");
    let trace = traces::ask(&app, &id).await;
    if trace.is_none() && !summary && eval.status.is_terminal() {
        let text = format!("the trace of evaluation {id} is gone, ask with summary=true for what lasts");
        return Err(ApiError::new(StatusCode::GONE, text).at(meta));
    }
    let mut explanation = put_together(&view.state, eval, trace.unwrap_or_default());
    if summary {
        explanation.groups.iter_mut().for_each(|group| group.nodes.clear());
    }
    options.style.read(&explanation, &meta)
}

fn put_together(state: &Rows, eval: &Evaluation, trace: EvalTrace) -> EvalExplanation {
    let mut groups: BTreeMap<&str, GroupExplanation> = BTreeMap::new();
    for (name, desired) in eval.plan_annotations.iter().flat_map(|plan| &plan.desired_tg_updates) {
        groups.entry(name).or_default().desired = Some(desired.clone());
    }
    for (name, failure) in &eval.failed_tg_allocs {
        let group = groups.entry(name).or_default();
        group.unplaced = failure.coalesced_failures + 1;
        group.failure = Some(failure.clone());
    }
    for (name, queued) in eval.queued_allocations.iter().filter(|(_, queued)| **queued > 0) {
        groups.entry(name).or_default().unplaced = *queued;
    }
    let allocs: Vec<&Allocation> = state.allocs_of_eval(&eval.id).map(AsRef::as_ref).collect();
    for alloc in &allocs {
        groups.entry(&alloc.task_group).or_default().placed.push(placement(alloc));
    }
    for seen in &trace.groups {
        let group = groups.entry(&seen.task_group).or_default();
        group.nodes.clone_from(&seen.nodes);
        group.needs.clone_from(&seen.needs);
    }
    let groups = groups.into_iter().map(|(name, group)| GroupExplanation { task_group: name.to_owned(), ..group });
    EvalExplanation {
        eval_id: eval.id.clone(),
        namespace: eval.namespace.clone(),
        job_id: eval.job_id.clone(),
        kind: eval.kind.clone(),
        triggered_by: eval.triggered_by.clone(),
        status: eval.status,
        status_description: eval.status_description.clone(),
        blocked_eval: eval.blocked_eval.clone(),
        scheduler: trace.scheduler,
        timeline: timeline(eval, &allocs, trace.timeline),
        groups: groups.collect(),
    }
}

fn placement(alloc: &Allocation) -> Placement {
    let metrics = alloc.metrics.as_ref().map(Carried::look);
    let chosen = metrics.as_ref().and_then(|m| m.score_meta_data.iter().find(|node| node.node_id == alloc.node_id));
    Placement {
        alloc_id: alloc.id.clone(),
        name: alloc.name.clone(),
        node_id: alloc.node_id.clone(),
        node_name: alloc.node_name.clone(),
        client_status: Some(alloc.client_status),
        scores: chosen.map(|node| node.scores.to_map()).unwrap_or_default(),
        score: chosen.map_or(0.0, |node| node.norm_score),
        preempted: alloc.preempted_allocations.clone(),
    }
}

/// What the rows tell and what the scheduler saw, oldest first. Rows bear the time of the decision; what they tell
/// became true when a plan of that decision was accepted.
fn timeline(eval: &Evaluation, allocs: &[&Allocation], seen: Vec<Moment>) -> Vec<Moment> {
    let moment = |time, what, detail: String| Moment { time, what, detail };
    let accepted: Vec<i64> = seen.iter().filter(|m| m.what == Happening::PlanAccepted).map(|m| m.time).collect();
    let committed = |decided: i64| accepted.iter().copied().find(|time| *time >= decided).unwrap_or(decided);
    let mut all = vec![moment(eval.create_time, Happening::Created, format!("triggered by {}", eval.triggered_by))];
    all.extend(seen);
    for alloc in allocs.iter().take(MOMENTS_MAX) {
        let detail = format!("{} ({}) on node {}", alloc.name, alloc.id, alloc.node_name);
        all.push(moment(committed(alloc.create_time), Happening::AllocCreated, detail));
    }
    if let Some(more) = allocs.len().checked_sub(MOMENTS_MAX).filter(|more| *more > 0) {
        let time = allocs.iter().map(|alloc| committed(alloc.create_time)).max().unwrap_or_default();
        all.push(moment(time, Happening::AllocCreated, format!("and {more} more")));
    }
    let status = match eval.status {
        EvalStatus::Pending => {
            let until = eval.wait_until.filter(|until| !until.is_zero());
            until.map(|until| (Happening::Waiting, format!("until {until}")))
        }
        EvalStatus::Blocked => Some((Happening::Blocked, "until there is room".to_owned())),
        ended => Some((Happening::Finished, format!("{ended} {}", eval.status_description).trim_end().to_owned())),
    };
    all.sort_by_key(|one| one.time);
    // What it is now comes last, whatever the clocks of other machines said.
    let last = all.last().map_or(eval.modify_time, |one| one.time.max(eval.modify_time));
    all.extend(status.map(|(what, detail)| moment(last, what, detail)));
    all
}
