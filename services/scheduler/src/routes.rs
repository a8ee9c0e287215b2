//! The scheduler's endpoints: dry runs, and what it remembers of its decisions.

use std::time::Duration;

use api::explain::EvalTrace;
use api::scheduler::{DryRun, DryRunResult};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::{Path, State};
use client::replica::Replica;
use client::state::new_uuid;
use kit::guard::{Refused, require};
use model::{EvalId, Evaluation, Job, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::traces::{self, Traces};
use crate::view::Views;

const GATEWAYS: &[Role] = &[Role::Gateway, Role::Operator];
const CATCH_UP: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub struct App {
    /// Of this scheduler.
    pub name: String,
    pub replica: Replica,
    pub views: Views,
    pub traces: Traces,
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(dry_run)).routes(routes!(trace)).layer(require(GATEWAYS))
}

/// Dry run
///
/// What registering the job would do, from the scheduler's present view. Nothing is changed.
#[utoipa::path(post, path = api::scheduler::DRY_RUN, operation_id = "dryRun", tag = "decisions",
    request_body = DryRun,
    responses(
        (status = 200, description = "What would happen", body = DryRunResult),
        (status = 403, description = "The caller is no gateway", body = ErrorBody),
        (status = 503, description = "The replica has not caught up", body = ErrorBody)))]
async fn dry_run(State(app): State<App>, Json(ask): Json<DryRun>) -> Result<Json<DryRunResult>, Refused> {
    let reached = app.replica.reached(ask.wait_index, CATCH_UP).await;
    reached.map_err(|e| Refused::new(Code::NotReady, e.to_string()))?;
    let view = app.views.load_full();
    let result = tokio::task::block_in_place(|| {
        let request = placement::Request {
            state: &view.state,
            fleet: &view.fleet,
            eval: &eval_for(&ask.job),
            now: client::clock::unix_nanos(),
            seed: 1,
            retry: false,
            new_id: &mut new_uuid,
            suspects: &|id| view.state.is_suspect(id),
            clock: &client::clock::unix_nanos,
        };
        placement::dry_run(request, &ask.job)
    });
    Ok(Json(DryRunResult {
        annotations: result.annotations,
        failed_tg_allocs: result.failed_tg_allocs,
        created_evals: result.created_evals,
        groups: traces::planned(&result.traces, &view.state),
    }))
}

/// Trace of an evaluation
///
/// What this scheduler remembers of deciding it: the last 64 MB of such traces are kept.
#[utoipa::path(get, path = api::explain::TRACE, operation_id = "readTrace", tag = "decisions",
    params(("eval_id" = String, Path, description = "Full id")),
    responses(
        (status = 200, description = "When what happened, and how each node stood", body = EvalTrace),
        (status = 403, description = "The caller is no gateway", body = ErrorBody),
        (status = 410, description = "Not decided here, or too long ago", body = ErrorBody)))]
async fn trace(State(app): State<App>, Path(id): Path<String>) -> Result<Json<EvalTrace>, Refused> {
    let record = app.traces.get(&EvalId::from(id));
    let record = record.ok_or_else(|| Refused::new(Code::Gone, "no trace of this evaluation is kept here"))?;
    let view = app.views.load_full();
    Ok(Json(tokio::task::block_in_place(|| traces::told(&app.name, &record, &view.state))))
}

/// The evaluation that registering the job would create.
fn eval_for(job: &Job) -> Evaluation {
    let (namespace, job_id) = job.key();
    Evaluation {
        id: new_uuid().into(),
        namespace,
        job_id,
        priority: job.priority(),
        kind: job.kind_text().to_owned(),
        triggered_by: "job-register".to_owned(),
        ..Evaluation::default()
    }
}
