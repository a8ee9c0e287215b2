//! A node that has no certificate yet, and a token: passed on to a state server, which alone can sign.

use std::time::Duration;

use api::state::{INTRODUCE, Introduce, Introduced};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use client::error::CallError;
use client::http::Target;
use kit::guard::Refused;
use model::{NodeId, Role};

use crate::app::App;

/// For one server.
const CALL: Duration = Duration::from_millis(1_500);

/// Take in a node that has an introduction token
///
/// The one call that needs no certificate: the token proves itself.
#[utoipa::path(post, path = INTRODUCE, operation_id = "introduceNode", tag = "agents", request_body = Introduce,
    responses(
        (status = 200, description = "Its certificate", body = Introduced),
        (status = 400, description = "Not a usable signing request", body = ErrorBody),
        (status = 403, description = "The token does not allow it", body = ErrorBody),
        (status = 409, description = "A node of this id is known", body = ErrorBody),
        (status = 503, description = "No state server signs", body = ErrorBody)))]
pub async fn introduce(State(app): State<App>, Json(request): Json<Introduce>) -> Result<Json<Introduced>, Refused> {
    // Nobody comes in under another's id, whatever token they have.
    if app.watches.view().state.node(&NodeId::from(request.node_id.as_str())).is_some() {
        return Err(Refused::new(Code::Conflict, "a node of this id is known; purge it before it is introduced again"));
    }
    for server in app.peers.peers(Role::State) {
        let target = Target::new(server.addr, Role::State);
        match app.http.post_json::<_, Introduced>(target, INTRODUCE, &request, CALL).await {
            Ok(introduced) => return Ok(Json(introduced)),
            Err(CallError::Status { body, .. }) if matches!(body.code(), Code::BadRequest | Code::Forbidden) => {
                return Err(Refused(body));
            }
            Err(error) => tracing::debug!(peer = server.name, error = %error, "no introduction by this server"),
        }
    }
    Err(Refused::new(Code::NotReady, "no state server signs at the moment"))
}
