//! This node's place in the cluster: which servers it talks to, when they last heard from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use client::http::{Call, Target};
use model::Role;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, Said, bad};

/// Where servers take agents unless it is said.
const RPC_PORT: u16 = 4647;
const SERVERS_MAX: usize = 64;
const ADDRESS_BYTES_MAX: usize = 256;
/// For a server to answer.
const KNOCK: Duration = Duration::from_secs(2);
/// The cluster's least time to live of a node that does not beat, and how many beats it may miss.
const TTL_MIN: Duration = Duration::from_secs(5);
const BEATS_MISSED: u32 = 3;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(stats)).routes(routes!(servers, set_servers))
}

/// What `/v1/agent/self` says of this node
#[utoipa::path(get, path = api::node::CLIENT_STATS, operation_id = "clientStats", tag = "host",
    responses(
        (status = 200, description = "Texts by name", body = BTreeMap<String, String>),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody)))]
async fn stats(State(app): State<App>) -> Json<BTreeMap<String, String>> {
    let link = &app.link;
    let period = Duration::from_millis(link.period_ms.load(Ordering::Relaxed));
    let beaten = link.heard();
    let last = beaten.map_or_else(|| "never".to_owned(), |at| format!("{}ms", at.elapsed().as_millis()));
    let known: Vec<String> = link.gateways.in_order().iter().map(ToString::to_string).collect();
    let live = app.roster.views().iter().filter(|view| !view.report.client_status.is_terminal()).count();
    let pairs = [
        ("node_id", link.node_id.to_string()),
        ("known_servers", known.join(",")),
        ("num_allocations", live.to_string()),
        ("last_heartbeat", last),
        ("heartbeat_ttl", format!("{}s", (period * BEATS_MISSED).max(TTL_MIN).as_secs_f64())),
    ];
    Json(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The servers this agent talks to
#[utoipa::path(get, path = api::node::SERVERS, operation_id = "agentServers", tag = "host",
    responses(
        (status = 200, description = "host:port of each", body = Vec<String>),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody)))]
async fn servers(State(app): State<App>) -> Json<Vec<String>> {
    Json(app.link.gateways.names())
}

/// Talk to other servers
///
/// In the place of those given before, until the agent is started again. Refused when none of them answers.
#[utoipa::path(post, path = api::node::SERVERS, operation_id = "setAgentServers", tag = "host", request_body = Vec<String>,
    responses(
        (status = 200, description = "Set"),
        (status = 400, description = "Not a list of addresses, or none of them answers", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody)))]
async fn set_servers(State(app): State<App>, Json(given): Json<Vec<String>>) -> Result<StatusCode, Said> {
    let usable = |address: &String| !address.is_empty() && address.len() <= ADDRESS_BYTES_MAX;
    if given.is_empty() || given.len() > SERVERS_MAX || !given.iter().all(usable) {
        return Err(bad(format!("from 1 to {SERVERS_MAX} server addresses are needed")));
    }
    let given: Vec<String> = given.iter().map(|address| with_port(address)).collect();
    let knocks = futures::future::join_all(given.iter().map(|address| answers(&app, address))).await;
    if !knocks.contains(&true) {
        return Err(bad(format!("no server of this cluster answers at {}", given.join(", "))));
    }
    tracing::info!(servers = given.join(" "), "other servers were given");
    app.link.gateways.give(given);
    app.link.gateways.pick(None).await;
    app.link.beat.notify_one();
    Ok(StatusCode::OK)
}

async fn answers(app: &App, address: &str) -> bool {
    let found = tokio::time::timeout(KNOCK, tokio::net::lookup_host(address)).await;
    let addr: Option<SocketAddr> = found.ok().and_then(Result::ok).and_then(|mut all| all.next());
    let Some(addr) = addr else { return false };
    app.link.http.call(&Target::new(addr, Role::Gateway), Call::get("/health/live", KNOCK)).await.is_ok()
}

fn with_port(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    if !port.is_empty() && (!host.contains(':') || host.ends_with(']')) {
        address.to_owned()
    } else {
        format!("{address}:{RPC_PORT}")
    }
}
