//! Agents know gateways only: their requests for certificates are passed on to a state server, which
//! alone can sign.

use std::time::Duration;

use api::state::{CERTIFICATES, SignRequest, Signed};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use kit::guard::{Peer, Refused};
use model::Role;

use super::{fresh, introduce, own_node, taken};
use crate::app::App;

/// For a copy of the state that is up to date.
const READ: Duration = Duration::from_secs(2);

/// Renew a certificate
///
/// An agent has its own signed, under the name and role it has.
#[utoipa::path(post, path = CERTIFICATES, operation_id = "renewCertificate", tag = "agents", request_body = SignRequest,
    responses(
        (status = 200, description = "The certificate", body = Signed),
        (status = 400, description = "Not a usable signing request", body = ErrorBody),
        (status = 403, description = "Not the caller's own name", body = ErrorBody),
        (status = 503, description = "No state server signs", body = ErrorBody)))]
pub async fn sign(
    State(app): State<App>,
    peer: Peer,
    Json(mut request): Json<SignRequest>,
) -> Result<Json<Signed>, Refused> {
    let node = own_node(&peer, &request.name)?;
    // A copy that lags would make a purged node's certificate good for another week.
    taken(&fresh(&app, READ).await?.state, &node, &peer.admission)?;
    if request.role != Role::Agent {
        return Err(Refused::new(Code::Forbidden, "an agent's certificate is for an agent"));
    }
    request.admission.clone_from(&peer.admission);
    let signed = introduce::ask(&app, CERTIFICATES, &request).await;
    signed.map(Json).inspect_err(|refused| {
        tracing::warn!(node_id = %peer.name, error = refused.0.message, "no certificate for an agent");
    })
}
