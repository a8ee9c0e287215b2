//! A new root key, when an operator wants one. The old one verifies and decrypts until it is removed.

use api::state::{Proposed, ROTATE_KEY, RotateKey, RotatedKey};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use client::http::Call;
use fsm::{Command, Envelope, Reply};
use kit::guard::{Refused, require};
use model::Role;
use model::keyring::RootKeyState;
use raft::ProposeError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::keyring;
use crate::routes::{App, FORWARD, propose_error};

/// State servers hand on what is the leader's.
const ASKERS: &[Role] = &[Role::Gateway, Role::Operator, Role::State];
const KEY_ID_BYTES_MAX: usize = 64;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(rotate)).layer(require(ASKERS))
}

/// Make a root key
///
/// Its secrets are made here and encrypted before they get into the log.
#[utoipa::path(post, path = ROTATE_KEY, operation_id = "rotateKey", tag = "log", request_body = RotateKey,
    responses(
        (status = 200, description = "The new key", body = RotatedKey),
        (status = 400, description = "No usable id", body = ErrorBody),
        (status = 409, description = "Refused", body = ErrorBody),
        (status = 503, description = "No leader", body = ErrorBody)))]
async fn rotate(State(app): State<App>, headers: HeaderMap, Json(wish): Json<RotateKey>) -> Result<Response, Refused> {
    if wish.key_id.is_empty() || wish.key_id.len() > KEY_ID_BYTES_MAX {
        return Err(Refused::new(Code::BadRequest, "the new key needs an id"));
    }
    let running = app.running()?;
    let now = client::clock::unix_nanos();
    let made = keyring::new_key(wish.key_id.clone(), now).map_err(|e| Refused::new(Code::NotReady, e))?;
    let Command::RootKeyAdd { mut key, material, .. } = made else {
        return Err(Refused::new(Code::NotReady, "no key was made"));
    };
    if wish.publish_time > 0 {
        (key.meta.state, key.meta.publish_time) = (RootKeyState::Prepublished, wish.publish_time);
    }
    let command = Command::RootKeyAdd { key, material, replaces: true };
    let envelope = Envelope { request: wish.request, proposer: Role::State, lease: None, now, command };
    let bytes = model::sparse::to_vec(&envelope).map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
    match running.raft.propose(bytes.into()).await {
        Ok((_, proposed)) => {
            let done: Proposed =
                serde_json::from_slice(&proposed).map_err(|e| Refused::new(Code::UnknownOutcome, e.to_string()))?;
            if let Reply::Refused(refusal) = done.reply {
                return Err(Refused::new(Code::Conflict, refusal.to_string()));
            }
            let state = running.machine.state();
            let key = state.root_keys().find(|key| key.meta.key_id == wish.key_id).map(|key| key.meta.clone());
            let key = key.ok_or_else(|| Refused::new(Code::Conflict, "the new key is gone again"))?;
            tracing::info!(key_id = key.key_id, state = ?key.state, "a root key was made");
            Ok(Json(RotatedKey { key, index: done.index }).into_response())
        }
        Err(ProposeError::NotLeader { leader }) => {
            let call = Call::post(ROTATE_KEY, FORWARD).json(&wish);
            let call = call.map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
            app.forward(leader, &headers, call).await
        }
        Err(error) => Err(propose_error(&error)),
    }
}
