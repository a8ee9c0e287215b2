//! The cluster's keys: what may be known of them, a new one, an old one's end.

use api::public::{JsonWebKey, JsonWebKeys};
use api::state::{ROTATE_KEY, RotateKey, RotatedKey};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use client::anyone::Unheard;
use client::http::Call;
use fsm::{Command, Table};
use model::keyring::RootKeyMeta;
use model::{Index, Role};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ReadParams;
use crate::app::App;
use crate::blocking::Key;
use crate::body::Write;
use crate::errors::{Answered, ApiError};
use crate::options::Options;
use crate::read::{fresh, meta, read};
use crate::write::propose;

/// Keys are fetched again at least this often, and at most.
const MAX_AGE_S: std::ops::RangeInclusive<i64> = 15 * 60..=24 * 3600;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(keys)).routes(routes!(jwks)).routes(routes!(rotate)).routes(routes!(remove))
}

/// List root keys
#[utoipa::path(get, path = "/v1/operator/keyring/keys", operation_id = "listRootKeys", tag = "operator", params(ReadParams),
    responses((status = 200, description = "What may be known of each", body = Vec<RootKeyMeta>)))]
async fn keys(State(app): State<App>, options: Options) -> Answered {
    let table = [Table::RootKeys];
    let (view, meta) = read(&app, &options, Key::Table(Table::RootKeys), |v| v.tables(&table)).await?;
    let mut keys: Vec<&RootKeyMeta> = view.state.root_keys().map(|key| &key.meta).collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.create_index));
    options.style.read(&keys, &meta)
}

/// Read the public keys that verify workload identities
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "readJsonWebKeys", tag = "operator",
    responses((status = 200, description = "RFC 7517", body = JsonWebKeys)))]
async fn jwks(State(app): State<App>, options: Options) -> Answered {
    let view = fresh(&app, options.stale).await?;
    let keys = view.state.root_keys().map(|key| JsonWebKey {
        usage: "sig".to_owned(),
        kty: "OKP".to_owned(),
        kid: key.meta.key_id.clone(),
        crv: "Ed25519".to_owned(),
        alg: "EdDSA".to_owned(),
        x: key.public.clone(),
    });
    let keys = JsonWebKeys { keys: keys.collect() };
    let mut response =
        options.style.read(&keys, &meta(&app, options.stale, view.state.table_index(Table::RootKeys)))?;
    // A key that has just come may be one of several soon; an old one stays.
    let now = client::clock::unix_nanos();
    let newest = view.state.root_keys().map(|key| key.meta.create_time).max().unwrap_or(now);
    let age = (now - newest).max(0) / 1_000_000_000;
    let max_age = age.clamp(*MAX_AGE_S.start(), *MAX_AGE_S.end());
    let value = HeaderValue::from_str(&format!("max-age={max_age}"));
    response.headers_mut().extend(value.map(|value| (header::CACHE_CONTROL, value)));
    Ok(response)
}

const ROTATE: std::time::Duration = std::time::Duration::from_secs(10);
const ALGORITHM: &str = "aes256-gcm";

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct RotateParams {
    /// `aes256-gcm`.
    algo: Option<String>,
    /// Have everything encrypted anew. Nothing is encrypted with root keys yet, so it is done at once.
    full: Option<String>,
    /// Unix nanoseconds: publish the key now, and sign with it from then on.
    publish_time: Option<i64>,
}

/// `KeyringRotateRootKeyResponse` on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct KeyRotated {
    key: RootKeyMeta,
    index: Index,
}

/// `KeyringDeleteRootKeyResponse` on the wire.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct KeyRemoved {
    index: Index,
}

/// Make a new root key
///
/// The old one verifies and decrypts until it is removed.
#[utoipa::path(post, path = "/v1/operator/keyring/rotate", operation_id = "rotateRootKey", tag = "operator", params(RotateParams),
    responses(
        (status = 200, description = "The new key", body = KeyRotated),
        (status = 400, description = "Unknown algorithm, or full with publish_time", body = String, content_type = "text/plain")))]
async fn rotate(State(app): State<App>, options: Options, mut write: Write) -> Answered {
    let bad = |text: &str| Err(ApiError::bad(text));
    if let Some(other) = options.params.text("algo").filter(|algo| *algo != ALGORITHM) {
        return Err(ApiError::bad(format!("unknown algorithm {other:?}, there is {ALGORITHM}")));
    }
    let publish_time = options.params.int("publish_time")?.unwrap_or(0);
    if publish_time < 0 {
        return bad("publish_time must not be negative");
    }
    if options.params.has("full") && publish_time > 0 {
        return bad("can't prepublish and full rotate in the same request");
    }
    let wish = RotateKey { key_id: write.mint(), request: Some(write.request), publish_time };
    let RotatedKey { key, index } = ask_to_rotate(&app, &wish).await?;
    let mut response = options.style.json(&KeyRotated { key, index })?;
    indexed(&mut response, index);
    Ok(response)
}

/// Asks any state server; it hands the wish to the leader.
async fn ask_to_rotate(app: &App, wish: &RotateKey) -> Result<RotatedKey, ApiError> {
    let call = Call::post(ROTATE_KEY, ROTATE).json(wish);
    let call = call.map_err(|e| ApiError::internal("wish cannot be written", &e))?;
    let asked = app.any(Role::State).ask(&call).await;
    asked.map_err(|error| match error {
        Unheard::Refused { status, body } => ApiError::new(status, body.message),
        Unheard::Silent { last, .. } => {
            tracing::warn!(error = last.map(tracing::field::display), "root key is not rotated");
            ApiError::no_leader()
        }
    })
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct RemoveParams {
    /// Although allocations that it signed for are not over.
    force: Option<bool>,
}

/// Remove a root key
///
/// What it signed is not verified any more, what it encrypted not read. The active one is never removed.
#[utoipa::path(delete, path = "/v1/operator/keyring/key/{key_id}", operation_id = "removeRootKey", tag = "operator",
    params(("key_id" = String, Path, description = "Full id of the key"), RemoveParams),
    responses(
        (status = 200, description = "Removed", body = KeyRemoved),
        (status = 404, description = "There is no such key", body = String, content_type = "text/plain"),
        (status = 409, description = "It is active, or in use", body = String, content_type = "text/plain"),
        (status = 422, description = "force is no boolean", body = String, content_type = "text/plain")))]
async fn remove(State(app): State<App>, Path(key_id): Path<String>, options: Options, write: Write) -> Answered {
    let invalid = |_| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid force parameter");
    let force = options.params.flag("force").map_err(invalid)?.unwrap_or(false);
    let (index, _) = propose(&app, &write, Command::RootKeyRemove { key_id, force }).await?;
    let mut response = options.style.json(&KeyRemoved { index })?;
    indexed(&mut response, index);
    Ok(response)
}

fn indexed(response: &mut axum::response::Response, index: Index) {
    response.headers_mut().insert(api::headers::INDEX, index.get().into());
}
