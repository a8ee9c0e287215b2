//! A node that has no certificate yet, and a token: passed on to a state server, which alone can sign.

use std::time::Duration;

use api::state::{INTRODUCE, Introduce, Introduced};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use client::error::CallError;
use client::http::Target;
use fsm::Command;
use kit::guard::Refused;
use model::{NodeId, Role};

use super::fresh;
use crate::app::App;

/// For one server.
const CALL: Duration = Duration::from_millis(1_500);

/// How long a node that comes back may wait until it is admitted; the agent waits 5 s.
const ADMIT: Duration = Duration::from_secs(2);

/// A node that was purged, and whose token was good, is trusted again. Only a state server that checked the token
/// signs, so whoever comes here was introduced by an operator.
async fn admit(app: &App, id: &str) -> Result<(), Refused> {
    let id = NodeId::from(id);
    if !fresh(app, ADMIT).await?.state.is_revoked(&id) {
        return Ok(());
    }
    tracing::info!(node_id = %id, "a purged node is introduced anew");
    let command = Command::NodeAdmit { nodes: vec![id] };
    let admitted = app.state.propose(command, None, ADMIT).await;
    admitted.map(drop).map_err(|_| Refused::new(Code::NotReady, "the node cannot be admitted at the moment"))
}

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
            Ok(introduced) => {
                admit(&app, &request.node_id).await?;
                return Ok(Json(introduced));
            }
            Err(CallError::Status { body, .. }) if matches!(body.code(), Code::BadRequest | Code::Forbidden) => {
                return Err(Refused(body));
            }
            Err(error) => tracing::debug!(peer = server.name, error = %error, "no introduction by this server"),
        }
    }
    Err(Refused::new(Code::NotReady, "no state server signs at the moment"))
}
