//! The scheduler's endpoints: dry runs.

use std::time::Duration;

use api::scheduler::{DryRun, DryRunResult};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use client::replica::Replica;
use client::state::new_uuid;
use kit::guard::{Refused, require};
use model::{Evaluation, Job, Role};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::view::Views;

const GATEWAYS: &[Role] = &[Role::Gateway, Role::Operator];
const CATCH_UP: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub struct App {
    pub replica: Replica,
    pub views: Views,
}

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(dry_run)).layer(require(GATEWAYS))
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
        };
        placement::dry_run(request, &ask.job)
    });
    Ok(Json(DryRunResult {
        annotations: result.annotations,
        failed_tg_allocs: result.failed_tg_allocs,
        created_evals: result.created_evals,
    }))
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
