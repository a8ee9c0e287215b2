//! Who is part of the control plane, changed by hand: joining others, and saying who will not come back.

use std::path::{Path, PathBuf};

use api::public::AgentJoinResponse;
use axum::extract::State;
use axum::http::StatusCode;
use kit::gossip::Gossip;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::Options;

/// Where a server's gossip is unless it is said.
const SERF_PORT: u16 = 4648;
/// Addresses that are remembered over a restart; the newest stay.
const REMEMBERED_MAX: usize = 32;
const REMEMBERED: &str = "joined";

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(join)).routes(routes!(force_leave))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct JoinParams {
    /// `host` or `host:port` of a server's gossip. May be repeated.
    address: String,
}

/// Join other servers
///
/// The machine asked greets them, and goes on doing so after a restart. They must have this cluster's gossip
/// key and certificate authority (`server { encrypt = … }`).
#[utoipa::path(post, path = "/v1/agent/join", operation_id = "joinServers", tag = "agent", params(JoinParams),
    responses(
        (status = 200, description = "How many were joined, and what went wrong with the others", body = AgentJoinResponse),
        (status = 400, description = "No address", body = String, content_type = "text/plain"),
        (status = 501, description = "The machine asked is no server", body = String, content_type = "text/plain")))]
async fn join(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    asked.server_only()?;
    let addresses: Vec<String> = options.params.all("address").filter(|a| !a.is_empty()).map(with_port).collect();
    if addresses.is_empty() {
        return Err(ApiError::bad("missing address to join"));
    }
    let done = gossip(&app)?.join(&addresses).await;
    if let Some(dir) = &app.data_dir
        && let Err(error) = remember(dir, &done.joined)
    {
        tracing::warn!(%error, "joined addresses are not remembered");
    }
    options.style.json(&AgentJoinResponse {
        num_joined: u64::try_from(done.joined.len()).unwrap_or(u64::MAX),
        error: done.errors.join("; "),
        warning: String::new(),
    })
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct LeaveParams {
    /// Name of the member, with or without its region.
    node: String,
    /// Do not even list it any more.
    prune: Option<bool>,
}

/// Say that a server that failed will not come back
///
/// It is then `left`, and its place among the state servers is given up at once. Nothing happens to one that is
/// alive.
#[utoipa::path(post, path = "/v1/agent/force-leave", operation_id = "forceLeave", tag = "agent", params(LeaveParams),
    responses(
        (status = 200, description = "Said"),
        (status = 400, description = "No name, or prune is no boolean", body = String, content_type = "text/plain"),
        (status = 501, description = "The machine asked is no server", body = String, content_type = "text/plain")))]
async fn force_leave(State(app): State<App>, asked: Asked, options: Options) -> Result<StatusCode, ApiError> {
    asked.server_only()?;
    let name = options.params.text("node").ok_or_else(|| ApiError::bad("missing node to force leave"))?;
    let prune = options.params.flag("prune").map_err(|_| ApiError::bad("invalid prune value"))?.unwrap_or(false);
    let left = gossip(&app)?.force_leave(name, prune).await;
    left.map_err(|error| ApiError::internal("a member cannot be said farewell to", &error))?;
    Ok(StatusCode::OK)
}

fn gossip(app: &App) -> Result<&Gossip, ApiError> {
    app.gossip.as_ref().ok_or_else(|| ApiError::not_ready("gossip is not running"))
}

fn with_port(address: &str) -> String {
    let has_port =
        |text: &str| text.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match address {
        text if has_port(text) => text.to_owned(),
        text if text.contains(':') && !text.starts_with('[') => format!("[{text}]:{SERF_PORT}"),
        text => format!("{text}:{SERF_PORT}"),
    }
}

fn remembered_at(dir: &Path) -> PathBuf {
    dir.join(REMEMBERED)
}

/// The addresses joined by hand before.
pub fn remembered(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(remembered_at(dir)).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).take(REMEMBERED_MAX).map(str::to_owned).collect()
}

fn remember(dir: &Path, joined: &[String]) -> std::io::Result<()> {
    let mut all: Vec<String> = joined.to_vec();
    all.extend(remembered(dir).into_iter().filter(|known| !joined.contains(known)));
    all.truncate(REMEMBERED_MAX);
    std::fs::create_dir_all(dir)?;
    files::replace(&remembered_at(dir), all.join("\n").as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_means_the_port_of_gossip() {
        for (given, wanted) in [
            ("10.0.0.1", "10.0.0.1:4648"),
            ("10.0.0.1:5", "10.0.0.1:5"),
            ("server-1", "server-1:4648"),
            ("fe80::1", "[fe80::1]:4648"),
            ("[fe80::1]", "[fe80::1]:4648"),
            ("[fe80::1]:5", "[fe80::1]:5"),
        ] {
            assert_eq!(with_port(given), wanted);
        }
    }

    #[test]
    fn what_was_joined_is_remembered_once_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        assert!(remembered(dir.path()).is_empty());
        remember(dir.path(), &["a:1".into(), "b:1".into()]).unwrap();
        remember(dir.path(), &["b:1".into(), "c:1".into()]).unwrap();
        assert_eq!(remembered(dir.path()), ["b:1", "c:1", "a:1"]);
        let many: Vec<String> = (0..100).map(|n| format!("h{n}:1")).collect();
        remember(dir.path(), &many).unwrap();
        assert_eq!(remembered(dir.path()).len(), REMEMBERED_MAX);
    }
}
