//! The cluster's keys, as far as they are anybody's business.

use api::public::{JsonWebKey, JsonWebKeys};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use fsm::Table;
use model::keyring::RootKeyMeta;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ReadParams;
use crate::app::App;
use crate::blocking::Key;
use crate::errors::Answered;
use crate::options::Options;
use crate::read::{fresh, meta, read};

/// Keys are fetched again at least this often, and at most.
const MAX_AGE_S: std::ops::RangeInclusive<i64> = 15 * 60..=24 * 3600;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(keys)).routes(routes!(jwks))
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
