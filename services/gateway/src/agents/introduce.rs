//! A node that has no certificate yet, and a token or a certificate of the operator's: its request is passed on to
//! a state server, which alone can sign.
//!
//! ```text
//!   token        ─► INTRODUCE at a state server, which checks it
//!   certificate  ─► judged by the listener ([`kit::vouched`]) ─► CERTIFICATES at a state server
//!                                                             └► a node that was purged is admitted with a new mark
//! ```
//!
//! A node that was purged comes back by a token only: its operator's certificate may be what was stolen. Its new
//! certificate carries a mark that none of its older ones has, and from its admission on only those with the mark
//! are taken.

use std::time::Duration;

use api::state::{CERTIFICATES, INTRODUCE, Introduce, Introduced, SignRequest, Signed};
use api::{Code, ErrorBody};
use axum::extract::State;
use axum::{Extension, Json};
use client::anyone::Unheard;
use client::http::Call;
use client::state::new_uuid;
use fsm::Command;
use kit::guard::Refused;
use kit::introduction::is_node_id;
use kit::vouched::Vouched;
use model::{NodeId, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{fresh, reached};
use crate::app::App;

/// For one server.
const CALL: Duration = Duration::from_millis(1_500);

/// How long a node that comes back may wait until it is admitted; the agent waits 5 s.
const ADMIT: Duration = Duration::from_secs(2);

/// A node that was purged, and whose token was good, is trusted again. Only a state server that checked the token
/// signs, so whoever comes here was introduced by an operator.
async fn admit(app: &App, id: NodeId, mark: &str) -> Result<(), Refused> {
    let not_now = || Refused::new(Code::NotReady, "the node cannot be admitted at the moment");
    let command = Command::NodeAdmit { nodes: vec![id.clone()], admission: mark.to_owned() };
    let (index, _) = app.state.propose(command, None, ADMIT).await.map_err(|_| not_now())?;
    // Two introductions at once: one of them is admitted, and the other asks again.
    let view = reached(app, index, tokio::time::Instant::now() + ADMIT).await?;
    if view.state.shuts_out(&id, mark) {
        return Err(not_now());
    }
    tracing::info!(node_id = %id, "a purged node was introduced anew");
    Ok(())
}

/// Take in a node that has an introduction token, or an operator's certificate
///
/// The one call that needs no certificate of the cluster.
#[utoipa::path(post, path = INTRODUCE, operation_id = "introduceNode", tag = "agents", request_body = Introduce,
    responses(
        (status = 200, description = "Its certificate", body = Introduced),
        (status = 400, description = "Not a usable signing request", body = ErrorBody),
        (status = 403, description = "The token or the certificate does not allow it", body = ErrorBody),
        (status = 409, description = "A node of this id is known", body = ErrorBody),
        (status = 503, description = "No state server signs", body = ErrorBody)))]
pub async fn introduce(
    State(app): State<App>,
    vouched: Option<Extension<Vouched>>,
    Json(mut request): Json<Introduce>,
) -> Result<Json<Introduced>, Refused> {
    let id = NodeId::from(request.node_id.as_str());
    let view = fresh(&app, ADMIT).await?;
    // Nobody comes in under another's id, whatever they have.
    if view.state.node(&id).is_some() {
        return Err(Refused::new(Code::Conflict, "a node of this id is known; purge it before it is introduced again"));
    }
    let revoked = view.state.is_revoked(&id);
    request.admission = if revoked { new_uuid() } else { view.state.admission(&id).to_owned() };
    if let Some(Extension(vouched)) = vouched.filter(|_| request.claims.is_empty()) {
        let holder = vouched.0.as_ref().as_ref().map_err(|why| Refused::new(Code::Forbidden, why))?;
        if revoked {
            let text = "this node was purged and must be introduced anew, by a token";
            return Err(Refused::new(Code::Forbidden, text));
        }
        return by_certificate(&app, request, holder).await.map(Json);
    }
    let introduced: Introduced = ask(&app, INTRODUCE, &request).await?;
    if revoked {
        admit(&app, id, &request.admission).await?;
    }
    Ok(Json(introduced))
}

async fn by_certificate(app: &App, request: Introduce, holder: &str) -> Result<Introduced, Refused> {
    if !is_node_id(&request.node_id) {
        return Err(Refused::new(Code::BadRequest, "a node's id is a UUID in lower case"));
    }
    let Introduce { csr, node_id, node_name, admission, .. } = request;
    let wish = SignRequest { csr, role: Role::Agent, name: node_id, admission };
    let signed: Signed = ask(app, CERTIFICATES, &wish).await?;
    tracing::info!(node_id = wish.name, node_name, holder, "node introduced by an operator's certificate");
    Ok(Introduced { ca: signed.ca, certificate: signed.certificate, proof: String::new() })
}

/// One state server after the other, until one answers.
pub(super) async fn ask<T: DeserializeOwned>(app: &App, path: &str, body: &impl Serialize) -> Result<T, Refused> {
    let call = Call::post(path, CALL).json(body);
    let call = call.map_err(|error| Refused::new(Code::Internal, error.to_string()))?;
    app.any(Role::State).ask(&call).await.map_err(|error| match error {
        Unheard::Refused { body, .. } => Refused(*body),
        Unheard::Silent { .. } => Refused::new(Code::NotReady, "no state server signs at the moment"),
    })
}
