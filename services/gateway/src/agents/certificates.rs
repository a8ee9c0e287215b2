//! Agents know gateways only: their requests for certificates are passed on to a state server, which
//! alone can sign.

use std::time::Duration;

use api::state::{CERTIFICATES, SignRequest, Signed};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use client::http::Target;
use kit::guard::{Peer, Refused};
use model::Role;

use super::own_node;
use crate::app::App;

const CALL: Duration = Duration::from_secs(5);

/// Renew a certificate
#[utoipa::path(post, path = CERTIFICATES, operation_id = "renewCertificate", tag = "agents", request_body = SignRequest,
    responses(
        (status = 200, description = "The certificate", body = Signed),
        (status = 403, description = "Not the caller's own name", body = ErrorBody),
        (status = 503, description = "No state server signs", body = ErrorBody)))]
pub async fn sign(
    State(app): State<App>,
    peer: Peer,
    Json(request): Json<SignRequest>,
) -> Result<Json<Signed>, Refused> {
    own_node(&peer, &request.name)?;
    if request.role != Role::Agent {
        return Err(Refused::new(Code::Forbidden, "an agent's certificate is for an agent"));
    }
    for server in app.peers.peers(Role::State) {
        let target = Target::new(server.addr, Role::State);
        match app.http.post_json::<_, Signed>(target, CERTIFICATES, &request, CALL).await {
            Ok(signed) => return Ok(Json(signed)),
            Err(error) => tracing::warn!(peer = server.name, error = %error, "no certificate from this server"),
        }
    }
    Err(Refused::new(Code::NotReady, "no state server signs at the moment"))
}
