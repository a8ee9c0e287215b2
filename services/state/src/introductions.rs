//! Nodes that nobody knows yet: tokens are made and taken where the authority's key is.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use api::state::{INTRODUCE, INTRODUCTION_TOKEN, Introduce, Introduced, MintToken, Minted};
use api::{Code, ErrorBody};
use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use kit::guard::{Refused, require};
use kit::introduction::{Claims, Token, Wish, is_node_id};
use model::Role;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::certificates::Signer;
use crate::routes::App;

/// Gateways pass on what nodes and operators ask.
const CALLERS: &[Role] = &[Role::Gateway, Role::Operator];
const BODY_BYTES_MAX: usize = 64 << 10;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(mint))
        .routes(routes!(introduce))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(require(CALLERS))
}

fn signer(app: &App) -> Result<&Arc<Signer>, Refused> {
    app.signer.as_ref().ok_or_else(|| Refused::new(Code::NotReady, "this server does not have the authority's key"))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Make an introduction token
#[utoipa::path(post, path = INTRODUCTION_TOKEN, operation_id = "mintIntroductionToken", tag = "trust",
    request_body = MintToken,
    responses(
        (status = 200, description = "The token", body = Minted),
        (status = 400, description = "It would be usable for too long, or by no machine", body = ErrorBody),
        (status = 503, description = "This server does not have the authority's key", body = ErrorBody)))]
async fn mint(State(app): State<App>, Json(ask): Json<MintToken>) -> Result<Json<Minted>, Refused> {
    let signer = signer(&app)?;
    // Zero is no wish.
    let ttl_ns = Some(ask.ttl_ns).filter(|ttl| *ttl != 0);
    let wish = Wish { node_name: &ask.node_name, node_pool: &ask.node_pool, ttl_ns };
    wish.check().map_err(|(what, why)| Refused::new(Code::BadRequest, format!("{what}: {why}")))?;
    let ttl = ttl_ns.map_or(app.introduction_ttl, model::Nanos);
    if ttl > app.introduction_ttl_max {
        let most = app.introduction_ttl_max.0 / 1_000_000_000;
        return Err(Refused::new(Code::BadRequest, format!("a token may be used for at most {most} seconds")));
    }
    let seconds = u64::try_from(ttl.0).unwrap_or(0).div_ceil(1_000_000_000);
    let claims = Claims {
        region: signer.region().to_owned(),
        node_name: ask.node_name,
        node_pool: ask.node_pool,
        expires: unix_seconds() + seconds,
        nonce: client::state::new_uuid(),
    };
    Ok(Json(Minted { token: Token::mint(&signer.introduction_key(), &claims).text() }))
}

/// Take in a node that has an introduction token
#[utoipa::path(post, path = INTRODUCE, operation_id = "introduceNode", tag = "trust", request_body = Introduce,
    responses(
        (status = 200, description = "Its certificate", body = Introduced),
        (status = 400, description = "Not a usable signing request, or no node id", body = ErrorBody),
        (status = 403, description = "The token does not allow it", body = ErrorBody),
        (status = 503, description = "This server does not have the authority's key", body = ErrorBody)))]
async fn introduce(State(app): State<App>, Json(ask): Json<Introduce>) -> Result<Json<Introduced>, Refused> {
    let signer = signer(&app)?;
    let forbidden = |error: kit::introduction::IntroductionError| {
        tracing::warn!(node_id = ask.node_id, node_name = ask.node_name, reason = %error, "introduction refused");
        Refused::new(Code::Forbidden, error.to_string())
    };
    let token = Token::of_claims(&signer.introduction_key(), &ask.claims);
    token.check("ask", &ask.parts(), &ask.proof).map_err(forbidden)?;
    let claims = token.claims().map_err(forbidden)?;
    claims.allow(signer.region(), &ask.node_name, &ask.node_pool, unix_seconds()).map_err(forbidden)?;
    if !is_node_id(&ask.node_id) {
        return Err(Refused::new(Code::BadRequest, "a node's id is a UUID in lower case"));
    }
    let request = api::state::SignRequest {
        csr: ask.csr.clone(),
        role: Role::Agent,
        name: ask.node_id.clone(),
        admission: ask.admission,
    };
    let certificate = signer.sign(&request).map_err(|e| Refused::new(Code::BadRequest, e.to_string()))?;
    let ca = signer.ca_pem().to_owned();
    let proof = token.prove("answer", &[&ask.csr, &ca, &certificate]);
    tracing::info!(node_id = ask.node_id, node_name = ask.node_name, "node introduced");
    Ok(Json(Introduced { ca, certificate, proof }))
}
