//! The keys that seal gossip: seen, and changed one step at a time on every process.
//!
//! ```text
//!   ask every living process for its keys ─► the newest ─► changed by the rules of `kit::gossip::Ring`
//!     ─► every process takes it over, keeps it in its file, and says so; who is away learns it by gossip
//! ```
//!
//! * A key is used only once all have it, and removed only once all use another: no process is lost on the way.
//! * Keys are not shown, but their fingerprints: as long as the API asks nobody who they are, whoever reaches it
//!   would otherwise have what the cluster's trust may have been made from. A fingerprint names a key in calls.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::any;
use client::http::Target;
use kit::gossip::{Change, KEYS_PATH, Keys, KeysAsked, Member, Ring};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::body::Whole;
use crate::errors::{Answered, ApiError};
use crate::options::Options;

/// For one process.
const CALL: Duration = Duration::from_secs(3);

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(install)).routes(routes!(turn)).routes(routes!(remove))
}

/// What is none of them.
pub fn odd_paths() -> Router<App> {
    Router::new().route("/v1/agent/keyring/{op}", any(|| async { ApiError::not_found("resource not found") }))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(default, rename_all = "PascalCase")]
struct KeyringRequest {
    /// A key in base64, or the fingerprint of one that is listed.
    key: String,
}

#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct KeyringResponse {
    /// What went wrong, by process.
    messages: BTreeMap<String, String>,
    /// How many processes have a key, by its fingerprint.
    keys: BTreeMap<String, usize>,
    /// How many processes seal with a key, by its fingerprint.
    primary_keys: BTreeMap<String, usize>,
    /// Processes of the control plane.
    num_nodes: usize,
}

/// List the keys that seal gossip
#[utoipa::path(get, path = "/v1/agent/keyring/list", operation_id = "listGossipKeys", tag = "agent",
    responses((status = 200, description = "Fingerprints of the keys", body = KeyringResponse)))]
async fn list(State(app): State<App>, options: Options) -> Answered {
    options.style.json(&shown(&everywhere(&app, None).await))
}

/// Have every process accept another key
#[utoipa::path(post, path = "/v1/agent/keyring/install", operation_id = "installGossipKey", tag = "agent", request_body = KeyringRequest,
    responses(
        (status = 200, description = "Done everywhere", body = KeyringResponse),
        (status = 400, description = "It is no key, or there are too many", body = String, content_type = "text/plain"),
        (status = 500, description = "Not done everywhere", body = String, content_type = "text/plain")))]
async fn install(State(app): State<App>, options: Options, body: Whole) -> Answered {
    change(&app, &options, &body, Change::Install).await
}

/// Have every process seal with a key
#[utoipa::path(post, path = "/v1/agent/keyring/use", operation_id = "useGossipKey", tag = "agent", request_body = KeyringRequest,
    responses(
        (status = 200, description = "Done everywhere", body = KeyringResponse),
        (status = 400, description = "There is no such key", body = String, content_type = "text/plain"),
        (status = 409, description = "Not every process has it yet", body = String, content_type = "text/plain"),
        (status = 500, description = "Not done everywhere", body = String, content_type = "text/plain")))]
async fn turn(State(app): State<App>, options: Options, body: Whole) -> Answered {
    change(&app, &options, &body, Change::Use).await
}

/// Have no process accept a key any more
#[utoipa::path(post, path = "/v1/agent/keyring/remove", operation_id = "removeGossipKey", tag = "agent", request_body = KeyringRequest,
    responses(
        (status = 200, description = "Done everywhere", body = KeyringResponse),
        (status = 400, description = "There is no such key, or it is the one that seals", body = String, content_type = "text/plain"),
        (status = 409, description = "Not every process seals with another yet", body = String, content_type = "text/plain"),
        (status = 500, description = "Not done everywhere", body = String, content_type = "text/plain")))]
async fn remove(State(app): State<App>, options: Options, body: Whole) -> Answered {
    change(&app, &options, &body, Change::Remove).await
}

/// Each process by name, with its keys or why they are not known.
type Found = BTreeMap<String, Result<Ring, String>>;

async fn change(app: &App, options: &Options, body: &Whole, change: Change) -> Answered {
    let (asked, _): (KeyringRequest, _) = body.decode(options)?;
    let before = everywhere(app, None).await;
    let newest = before.values().flatten().max_by_key(|ring| ring.version).cloned().unwrap_or_else(|| app.keys.ring());
    let now_ms = u64::try_from(client::clock::unix_nanos() / 1_000_000).unwrap_or(0);
    let wanted = newest.changed(change, asked.key.trim(), now_ms).map_err(|e| ApiError::bad(e.to_string()))?;
    if change != Change::Install && wanted != newest {
        let late = before.iter().filter(|(_, ring)| !ring.as_ref().is_ok_and(|ring| *ring == newest));
        let late: Vec<&str> = late.map(|(name, _)| name.as_str()).collect();
        if !late.is_empty() {
            let text =
                format!("not every process has the keys that are now in use; try again soon: {}", late.join(", "));
            return Err(ApiError::new(StatusCode::CONFLICT, text));
        }
    }
    let after = everywhere(app, Some(&wanted)).await;
    let failed: Vec<String> = after.iter().filter_map(|(n, r)| Some(format!("{n}: {}", r.as_ref().err()?))).collect();
    if !failed.is_empty() {
        let text = format!("{}/{} nodes reported failure: {}", failed.len(), after.len(), failed.join("; "));
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    tracing::info!(change = ?change, keys = ?wanted.fingerprints(), "gossip keys changed by an operator");
    options.style.json(&shown(&after))
}

/// Asks every living process for its keys; with a ring, has it take that over first.
async fn everywhere(app: &App, ring: Option<&Ring>) -> Found {
    let members = app.directory.members();
    let asking = members.iter().map(|member| async move {
        let answer = if *member.name == *app.name && member.role == model::Role::Gateway {
            here(app, ring)
        } else {
            there(app, member, ring).await
        };
        (format!("{}.{}", member.name, member.role), answer)
    });
    futures::future::join_all(asking).await.into_iter().collect()
}

fn here(app: &App, ring: Option<&Ring>) -> Result<Ring, String> {
    if let Some(ring) = ring {
        app.keys.adopt(ring.clone()).map_err(|e| e.to_string())?;
    }
    Ok(app.keys.ring())
}

async fn there(app: &App, member: &Member, ring: Option<&Ring>) -> Result<Ring, String> {
    let target = Target::new(member.api, member.role);
    let asked = KeysAsked { ring: ring.cloned() };
    let keys: Keys = app.http.post_json(target, KEYS_PATH, &asked, CALL).await.map_err(|e| e.to_string())?;
    match ring {
        Some(ring) if keys.ring != *ring => Err("somebody else changes the keys at the same time".to_owned()),
        _ => Ok(keys.ring),
    }
}

fn shown(found: &Found) -> KeyringResponse {
    let mut response = KeyringResponse { num_nodes: found.len(), ..KeyringResponse::default() };
    for (name, ring) in found {
        match ring {
            Ok(ring) => {
                for (at, key) in ring.fingerprints().into_iter().enumerate() {
                    if at == 0 {
                        *response.primary_keys.entry(key.clone()).or_default() += 1;
                    }
                    *response.keys.entry(key).or_default() += 1;
                }
            }
            Err(reason) => drop(response.messages.insert(name.clone(), reason.clone())),
        }
    }
    response
}
