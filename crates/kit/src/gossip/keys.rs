//! The route by which a gateway changes the keys of a process, as an operator asks.
//!
//! Keys travel over mutual TLS only, between processes that have them anyway, and stand in no log.

use api::Code;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use client::tls::Role;
use serde::{Deserialize, Serialize};

use super::ring::Ring;
use super::seal::KeyRing;
use crate::guard::{refusal, require};

/// Route of the keys.
pub const CHANGE: &str = "/v1/internal/gossip/keys";
const BODY_BYTES_MAX: usize = 4 << 10;

/// What a gateway asks.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysAsked {
    /// To be used from now on, if it is newer than what is in use.
    pub ring: Option<Ring>,
}

/// What is in use after that.
#[derive(Serialize, Deserialize)]
pub struct Keys {
    pub ring: Ring,
}

pub(super) fn router(keys: KeyRing) -> Router {
    Router::new()
        .route(CHANGE, post(change))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .route_layer(require(&[Role::Gateway]))
        .with_state(keys)
}

async fn change(State(keys): State<KeyRing>, Json(asked): Json<KeysAsked>) -> Response {
    if let Some(ring) = asked.ring {
        match keys.adopt(ring) {
            Ok(true) => tracing::info!(keys = ?keys.ring().fingerprints(), "gossip keys changed"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "gossip keys are not changed");
                return refusal(Code::BadRequest, error.to_string());
            }
        }
    }
    Json(Keys { ring: keys.ring() }).into_response()
}
