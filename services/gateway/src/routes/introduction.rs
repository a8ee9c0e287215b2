//! Tokens for nodes that are to be introduced.

use std::time::Duration;

use api::state::{INTRODUCTION_TOKEN, MintToken, Minted};
use axum::extract::State;
use client::anyone::Unheard;
use client::http::Call;
use model::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::read::LEADER_HOLD;

const CALL: Duration = Duration::from_millis(1_500);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(mint))
}

#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    /// A duration as text, or nanoseconds.
    #[serde(rename = "TTL")]
    #[schema(value_type = Option<String>)]
    ttl: Value,
    node_name: String,
    node_pool: String,
}

#[derive(Clone, Debug, Default, Serialize, ToSchema)]
struct Answer {
    #[serde(rename = "JWT")]
    jwt: String,
}

/// Make an introduction token for a node
#[utoipa::path(post, path = "/v1/acl/identity/client-introduction-token", operation_id = "createIntroductionToken",
    tag = "nodes", request_body = Asked,
    responses(
        (status = 200, description = "The token", body = Answer),
        (status = 400, description = "It would be usable for too long, or by no machine", body = String, content_type = "text/plain"),
        (status = 503, description = "No state server signs", body = String, content_type = "text/plain")))]
async fn mint(State(app): State<App>, options: Options, body: Whole) -> Answered {
    let (asked, _): (Asked, _) = body.decode(&options)?;
    let bad = || ApiError::bad("TTL is no duration such as 5m");
    let ttl_ns = match &asked.ttl {
        Value::Null => 0,
        Value::String(text) if text.is_empty() => 0,
        Value::String(text) => model::time::parse_go_duration(text).ok_or_else(bad)?.0,
        other => other.as_i64().ok_or_else(bad)?,
    };
    let ask = MintToken { ttl_ns, node_name: asked.node_name, node_pool: asked.node_pool };
    let call = Call::post(INTRODUCTION_TOKEN, CALL).json(&ask);
    let call = call.map_err(|e| ApiError::internal("wish cannot be written", &e))?;
    match app.any(Role::State).patient(LEADER_HOLD.within).ask::<Minted>(&call).await {
        Ok(minted) => options.style.json(&Answer { jwt: minted.token }),
        Err(Unheard::Refused { status, body }) => Err(ApiError::new(status, body.message)),
        Err(Unheard::Silent { .. }) => Err(ApiError::not_ready("no state server signs at the moment")),
    }
}
