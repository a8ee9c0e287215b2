//! What a machine's host is like, for whoever looks for what is wrong with it.

use api::process::{HOST, HostData};
use axum::extract::State;
use axum::http::StatusCode;
use client::error::CallError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::ANSWER;
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::Options;
use crate::processes::{self, Process};

const BOTH: &str = "Can only forward to either client node or server";

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(host))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct HostParams {
    /// The machine of this node, by its full id.
    node_id: Option<String>,
    /// The machine of this server: its name, with or without the region, or `leader`.
    server_id: Option<String>,
}

/// `HostDataResponse` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
struct OfAnother {
    #[serde(rename = "AgentID")]
    agent_id: String,
    host_data: HostData,
}

/// Read what a host is like
///
/// Of the machine asked; with `node_id` or `server_id` of that one, and then with its name beside it.
#[utoipa::path(get, path = "/v1/agent/host", operation_id = "readHost", tag = "agent", params(HostParams),
    responses(
        (status = 200, description = "The host; in `HostData` when another machine was named", body = HostData),
        (status = 400, description = "Both are named", body = String, content_type = "text/plain"),
        (status = 403, description = "Without `enable_debug`", body = String, content_type = "text/plain"),
        (status = 404, description = "No such machine", body = String, content_type = "text/plain"),
        (status = 503, description = "No process of it answers", body = String, content_type = "text/plain")))]
async fn host(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    if !app.machine.enable_debug {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Permission denied"));
    }
    let processes = processes::named(&app, &asked, &options.params, BOTH).await?;
    let host_data = first(&app, &processes).await?;
    let named = options.params.text("node_id").map(str::to_owned).or_else(|| {
        let mut services = processes.iter().filter_map(|process| match process {
            Process::Service { name, .. } => Some(format!("{name}.{}", app.region)),
            Process::Node(_) => None,
        });
        options.params.text("server_id").and_then(|_| services.next())
    });
    match named {
        Some(agent_id) => options.style.json(&OfAnother { agent_id, host_data }),
        None => options.style.json(&host_data),
    }
}

/// From the first process that answers: they have one host.
async fn first(app: &App, processes: &[Process]) -> Result<HostData, ApiError> {
    for process in processes {
        let Some(target) = process.target(app).await else { continue };
        match app.http.get_json::<HostData>(target, HOST, ANSWER).await {
            Ok(found) => return Ok(found),
            Err(CallError::Status { body, .. }) => tracing::debug!(text = body.message, "a process refuses"),
            Err(error) => tracing::debug!(process = process.label(), %error, "a process does not answer"),
        }
    }
    Err(ApiError::not_ready("no process of this machine says what its host is like at the moment"))
}
