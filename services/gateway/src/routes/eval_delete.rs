//! Evaluations deleted by hand: for a cluster that was flooded with them. Only while the broker is paused,
//! and only those from which nothing is still to follow; the state machine checks both again.

use std::sync::LazyLock;

use api::filter::{Filter, Schema};
use api::operate::{EvalDeleteRequest, EvalDeleteResponse};
use axum::extract::State;
use fsm::Command;
use model::{EvalId, Evaluation, Index};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::WriteParams;
use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::list::check_uuid;
use crate::options::Options;
use crate::read::fresh;
use crate::write::propose;

/// Ids in one request, and in one command.
const IDS_MAX: usize = 7_281;

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Evaluation>);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(delete))
}

/// Delete evaluations
///
/// By id or by filter, while the broker is paused (see the scheduler configuration). A filter leaves out
/// what cannot be deleted; an id of such an evaluation is refused.
#[utoipa::path(delete, path = "/v1/evaluations", operation_id = "deleteEvaluations", tag = "evaluations",
    params(WriteParams),
    request_body(content = EvalDeleteRequest, example = json!({"Filter": "Status == \"pending\" and JobID == \"flood\""})),
    responses(
        (status = 200, description = "How many were deleted", body = EvalDeleteResponse),
        (status = 400, description = "Neither ids nor a filter, or both, or too many", body = String, content_type = "text/plain"),
        (status = 404, description = "eval not found", body = String, content_type = "text/plain"),
        (status = 409, description = "The broker is not paused, or something may still follow", body = String, content_type = "text/plain")))]
async fn delete(State(app): State<App>, options: Options, write: Write, body: Whole) -> Answered {
    let (request, _) = body.decode::<EvalDeleteRequest>(&options)?;
    match (request.eval_ids.is_empty(), request.filter.is_empty()) {
        (false, false) => return Err(ApiError::bad("evals cannot be deleted by both ID and filter")),
        (true, true) => return Err(ApiError::bad("evals must be deleted by either ID or filter")),
        _ => {}
    }
    if request.eval_ids.len() > IDS_MAX {
        let count = request.eval_ids.len();
        return Err(ApiError::bad(format!("request includes {count} evaluation IDs, must be {IDS_MAX} or fewer")));
    }
    request.eval_ids.iter().try_for_each(|id| check_uuid("eval", id.as_str()))?;
    let ids = if request.filter.is_empty() { request.eval_ids } else { chosen(&app, &request.filter).await? };
    let mut response = EvalDeleteResponse { count: ids.len(), index: Index(0) };
    let mut write = write;
    let mut parts = ids.chunks(IDS_MAX).map(<[EvalId]>::to_vec).collect::<Vec<_>>();
    if parts.is_empty() {
        // Refused all the same when the broker is not paused.
        parts.push(Vec::new());
    }
    for evals in parts {
        (response.index, _) = propose(&app, &write, Command::EvalDelete { evals }).await?;
        write = write.part();
    }
    options.style.write(&response, response.index)
}

/// The evaluations for which the filter holds and from which nothing is to follow.
async fn chosen(app: &App, filter: &str) -> Result<Vec<EvalId>, ApiError> {
    let filter = Filter::parse(filter)?;
    let view = fresh(app, false).await?;
    let mut ids = Vec::new();
    for eval in view.state.evals() {
        let fits = filter.matches(&SCHEMA, eval)?;
        if fits && view.state.may_delete_eval(eval) {
            ids.push(eval.id.clone());
        }
    }
    Ok(ids)
}
