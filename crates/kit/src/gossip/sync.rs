//! Push-pull: two members exchange all they know over internal HTTP.

use std::time::Duration;

use api::Code;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use client::error::CallError;
use client::http::{Http, Target};
use client::tls::Role;
use serde::{Deserialize, Serialize};

use super::farewell::Farewell;
use super::ring::Ring;
use super::{Gossip, KeyRing, Member};
use crate::guard::{refusal, require};

/// Route of push-pull.
pub const PATH: &str = "/v1/internal/gossip/sync";
/// Route by which farewells are told.
const FAREWELL: &str = "/v1/internal/gossip/farewell";
/// Those that take part in gossip.
const ROLES: &[Role] =
    &[Role::Gateway, Role::State, Role::Broker, Role::Scheduler, Role::Applier, Role::Controller, Role::Autoscaler];
const MEMBERS_MAX: usize = 4096;
const FAREWELLS_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 4 << 20;
const WITHIN: Duration = Duration::from_secs(3);

/// All that one member knows, those that failed included.
#[derive(Serialize, Deserialize)]
pub(super) struct Known {
    pub members: Vec<foca::Member<Member>>,
    #[serde(default)]
    pub farewells: Vec<Farewell>,
    /// The keys it seals with: who was away when they changed learns them so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<Ring>,
}

/// Takes over the keys of another, if they are newer.
pub(super) fn adopt(keys: &KeyRing, ring: Option<Ring>) {
    match ring.map(|ring| keys.adopt(ring)) {
        Some(Ok(true)) => tracing::info!(keys = ?keys.ring().fingerprints(), "gossip keys changed"),
        Some(Err(error)) => tracing::warn!(%error, "another's gossip keys are not taken over"),
        _ => {}
    }
}

pub(super) fn router(gossip: Gossip) -> Router {
    Router::new()
        .route(PATH, post(exchange))
        .route(FAREWELL, post(farewell))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .route_layer(require(ROLES))
        .with_state(gossip)
}

async fn exchange(State(gossip): State<Gossip>, Json(theirs): Json<Known>) -> Response {
    if theirs.members.len() > MEMBERS_MAX {
        return refusal(Code::TooLarge, format!("more than {MEMBERS_MAX} members"));
    }
    let mut theirs = theirs;
    adopt(gossip.keys(), theirs.ring.take());
    match gossip.exchange(theirs).await {
        Ok(known) => Json(Known { ring: Some(gossip.keys().ring()), ..known }).into_response(),
        Err(error) => refusal(Code::NotReady, error.to_string()),
    }
}

async fn farewell(State(gossip): State<Gossip>, Json(mut said): Json<Vec<Farewell>>) -> Response {
    said.truncate(FAREWELLS_MAX);
    match gossip.take_farewells(said).await {
        Ok(()) => Json(()).into_response(),
        Err(error) => refusal(Code::NotReady, error.to_string()),
    }
}

/// Tells `member` who will not come back.
pub(super) async fn tell(http: &Http, member: &Member, said: &[Farewell]) -> Result<(), CallError> {
    http.post_json(&Target::new(member.api, member.role), FAREWELL, said, WITHIN).await
}

/// Tells `member` what we know; answers what it knows.
pub(super) async fn call(http: &Http, member: &Member, ours: Known) -> Result<Known, CallError> {
    let to = Target::new(member.api, member.role);
    let mut known: Known = http.post_json(&to, PATH, &ours, WITHIN).await?;
    known.members.truncate(MEMBERS_MAX);
    known.farewells.truncate(FAREWELLS_MAX);
    Ok(known)
}
