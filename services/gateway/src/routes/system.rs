//! The cluster put in order by hand: collection of what is over, summaries counted anew, how schedulers work.

use std::time::Duration;

use api::controller::{COLLECT, Collect, Collected};
use api::operate::{SchedulerConfigurationResponse, SchedulerSetConfigurationResponse};
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use fsm::{Command, Reply};
use model::scheduler_config::SchedulerConfiguration;
use model::{Index, Nanos};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ReadParams, WriteParams};
use crate::agents::controller;
use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::public::AskedMethod;
use crate::read::{self, fresh};
use crate::write::propose;

/// How long a collection may take; what is left after that is found by the next.
const COLLECT_WITHIN: Duration = Duration::from_secs(30);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(collect))
        .routes(routes!(reconcile_summaries))
        .routes(routes!(scheduler_configuration, set_scheduler_configuration))
}

/// These two take PUT, and no POST, as the reference does.
fn only_put(method: &Method) -> Result<(), ApiError> {
    if *method == Method::PUT {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Invalid method"))
}

/// Collect garbage
///
/// Forgets all that is over, however young. Only by PUT.
#[utoipa::path(post, path = "/v1/system/gc", operation_id = "collectGarbage", tag = "system",
    responses(
        (status = 200, description = "Forgotten"),
        (status = 405, description = "Not asked by PUT", body = String, content_type = "text/plain"),
        (status = 503, description = "No controller works", body = String, content_type = "text/plain")))]
async fn collect(State(app): State<App>, AskedMethod(method): AskedMethod) -> Answered {
    only_put(&method)?;
    let index = app.state.read_index(read::LEADER_HOLD).await?;
    let ask = Collect { index };
    let done = controller::post::<_, Collected>(&app.controller, COLLECT, &ask, COLLECT_WITHIN, COLLECT_WITHIN).await;
    done.map_err(|error| {
        tracing::warn!(error = error, "garbage is not collected");
        ApiError::not_ready("no controller collects garbage at the moment")
    })?;
    Ok(StatusCode::OK.into_response())
}

/// Count summaries anew
///
/// Makes the summary of each job say what its allocations say. Only by PUT.
#[utoipa::path(post, path = "/v1/system/reconcile/summaries", operation_id = "reconcileSummaries", tag = "system",
    responses(
        (status = 200, description = "Counted"),
        (status = 405, description = "Not asked by PUT", body = String, content_type = "text/plain"),
        (status = 500, description = "No cluster leader", body = String, content_type = "text/plain")))]
async fn reconcile_summaries(State(app): State<App>, AskedMethod(method): AskedMethod, write: Write) -> Answered {
    only_put(&method)?;
    propose(&app, &write, Command::SummariesReconcile).await?;
    Ok(StatusCode::OK.into_response())
}

/// Read the scheduler configuration
#[utoipa::path(get, path = "/v1/operator/scheduler/configuration", operation_id = "readSchedulerConfiguration",
    tag = "operator", params(ReadParams),
    responses((status = 200, description = "How the cluster schedules", body = SchedulerConfigurationResponse)))]
async fn scheduler_configuration(State(app): State<App>, options: Options) -> Answered {
    let view = fresh(&app, options.stale).await?;
    let config = view.state.scheduler_config();
    let meta = read::meta(&app, options.stale, config.modify_index);
    let response = SchedulerConfigurationResponse {
        index: meta.index,
        last_contact: Nanos(i64::try_from(meta.last_contact.as_nanos()).unwrap_or(i64::MAX)),
        known_leader: meta.known_leader,
        next_token: String::new(),
        scheduler_config: Some(SchedulerConfiguration::clone(&config)),
    };
    options.style.read(&response, &meta)
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct CasParams {
    /// Set only if the configuration was last modified at this index.
    cas: Option<u64>,
}

/// Set the scheduler configuration
///
/// The whole of it: what the body leaves out is set to its default.
#[utoipa::path(post, path = "/v1/operator/scheduler/configuration", operation_id = "setSchedulerConfiguration",
    tag = "operator", params(CasParams, WriteParams),
    request_body(content = SchedulerConfiguration, example = json!({"SchedulerAlgorithm": "spread"})),
    responses(
        (status = 200, description = "Set, unless it had changed meanwhile", body = SchedulerSetConfigurationResponse),
        (status = 400, description = "Malformed, or no such algorithm", body = String, content_type = "text/plain")))]
async fn set_scheduler_configuration(
    State(app): State<App>,
    options: Options,
    write: Write,
    body: Whole,
) -> Result<Response, ApiError> {
    let prefixed = |e: ApiError| ApiError::new(e.status(), format!("Error parsing scheduler config: {}", e.text()));
    let (config, _) = body.decode::<SchedulerConfiguration>(&options).map_err(prefixed)?;
    let cas = match options.params.text("cas") {
        Some(text) => {
            let bad = |_| {
                ApiError::bad(format!("Error parsing cas value: strconv.ParseUint: parsing {text:?}: invalid syntax"))
            };
            Some(Index(text.parse().map_err(bad)?))
        }
        None => None,
    };
    let (index, reply) = propose(&app, &write, Command::SchedulerConfigSet { config: Box::new(config), cas }).await?;
    let updated = matches!(reply, Reply::Set { updated: true });
    options.style.write(&SchedulerSetConfigurationResponse { updated, index }, index)
}
