//! How the group of state servers looks after itself.

use api::public::OperatorHealthReply;
use api::state::AUTOPILOT_HEALTH;
use axum::extract::State;
use axum::http::StatusCode;
use client::http::Call;
use fsm::{Command, Reply};
use model::autopilot::AutopilotConfiguration;
use model::{Index, Role};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::{Whole, Write};
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::read::{LEADER_HOLD, fresh};
use crate::write::propose;

const ASK: std::time::Duration = std::time::Duration::from_secs(3);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(configuration, configure)).routes(routes!(health))
}

/// Read autopilot's configuration
#[utoipa::path(get, path = "/v1/operator/autopilot/configuration", operation_id = "readAutopilotConfiguration", tag = "operator",
    responses((status = 200, description = "The configuration", body = AutopilotConfiguration)))]
async fn configuration(State(app): State<App>, options: Options) -> Answered {
    let view = fresh(&app, options.stale).await?;
    options.style.json(&*view.state.autopilot())
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct SetParams {
    /// Set it only if it was last changed at this index.
    cas: Option<u64>,
}

/// Set autopilot's configuration
#[utoipa::path(post, path = "/v1/operator/autopilot/configuration", operation_id = "setAutopilotConfiguration", tag = "operator",
    params(SetParams), request_body = AutopilotConfiguration,
    responses(
        (status = 200, description = "Whether it was set", body = bool, content_type = "application/json"),
        (status = 400, description = "Not a configuration", body = String, content_type = "text/plain")))]
async fn configure(State(app): State<App>, options: Options, write: Write, body: Whole) -> Answered {
    let cas = match options.params.text("cas") {
        Some(text) => {
            let index =
                text.parse().map_err(|_| ApiError::bad(format!("Error parsing cas value: {text:?} is no index")))?;
            Some(Index(index))
        }
        None => None,
    };
    let decoded = body.decode::<AutopilotConfiguration>(&options);
    let (config, _) = decoded.map_err(|e| ApiError::bad(format!("Error parsing autopilot config: {}", e.text())))?;
    let command = Command::AutopilotSet { config: Box::new(config), cas };
    let (_, reply) = propose(&app, &write, command).await?;
    options.style.json(&matches!(reply, Reply::Set { updated: true }))
}

/// Read the health of the state servers
#[utoipa::path(get, path = "/v1/operator/autopilot/health", operation_id = "readAutopilotHealth", tag = "operator",
    responses(
        (status = 200, description = "All are healthy", body = OperatorHealthReply),
        (status = 429, description = "One is not; the same body", body = OperatorHealthReply)))]
async fn health(State(app): State<App>, options: Options) -> Answered {
    let call = Call::get(AUTOPILOT_HEALTH, ASK);
    let mut asked = app.any(Role::State).ask::<OperatorHealthReply>(&call).await;
    if asked.is_err() {
        // A new leader is about to look; without one there is nothing to wait for.
        app.state.read_index(LEADER_HOLD).await?;
        asked = app.any(Role::State).patient(LEADER_HOLD.within).ask(&call).await;
    }
    let health = asked.map_err(|_| ApiError::not_ready("no leader has looked at the group yet"))?;
    let mut response = options.style.json(&health)?;
    if !health.healthy {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    Ok(response)
}
