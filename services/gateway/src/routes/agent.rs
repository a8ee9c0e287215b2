//! The process that answers, and the processes around it.
//!
//! The reference's agent is server and client in one. Here a gateway answers for the cluster: `server` is
//! the state servers, `client` the nodes.

use std::collections::BTreeMap;

use api::public::{AgentHealth, AgentHealthResponse, AgentMember, ServerMembers};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use kit::gossip::{Member, Status};
use model::Role;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::errors::Answered;
use crate::options::Options;
use crate::raft_status;

const PROTOCOL: u8 = 1;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(members)).routes(routes!(health))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct MembersParams {
    /// Every process of the control plane, not only the state servers.
    all: Option<bool>,
}

/// List members
///
/// The state servers; with `all`, every process of the control plane.
#[utoipa::path(get, path = "/v1/agent/members", operation_id = "listMembers", tag = "agent", params(MembersParams),
    responses((status = 200, description = "Who is there", body = ServerMembers)))]
async fn members(State(app): State<App>, options: Options) -> Answered {
    let all = options.params.flag("all")?.unwrap_or(false);
    let known = app.directory.all();
    let wanted = known.iter().filter(|(member, _)| all || member.role == Role::State);
    let mut members: Vec<AgentMember> = wanted.map(|(member, status)| shown(member, *status)).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    options.style.json(&ServerMembers {
        server_name: app.name.clone(),
        server_region: app.region.clone(),
        server_dc: app.datacenter.clone(),
        members,
    })
}

/// A member in the form in which clients know servers. `Port` is that of its gossip, the tags name that of
/// its internal listener.
pub(super) fn shown(member: &Member, status: Status) -> AgentMember {
    let role = if member.role == Role::State { "nomad" } else { member.role.as_str() };
    let mut tags: BTreeMap<String, String> = member.tags.clone();
    let version = member.tag(kit::shell::TAG_VERSION).unwrap_or_default().to_owned();
    for (name, value) in [
        ("role", role.to_owned()),
        ("service", member.role.to_string()),
        ("region", member.region.to_string()),
        ("dc", member.datacenter.to_string()),
        ("build", version),
        ("id", member.name.to_string()),
        ("rpc_addr", member.api.ip().to_string()),
        ("port", member.api.port().to_string()),
        ("raft_vsn", "3".to_owned()),
        ("vsn", "1".to_owned()),
        ("revision", String::new()),
    ] {
        tags.insert(name.to_owned(), value);
    }
    if member.tag("expect") == Some("1") {
        tags.insert("bootstrap".to_owned(), "1".to_owned());
    }
    let status = match status {
        // It had no chance to object yet.
        Status::Alive | Status::Suspect => "alive",
        Status::Failed => "failed",
        Status::Left => "left",
    };
    AgentMember {
        name: format!("{}.{}", member.name, member.region),
        addr: member.gossip.ip().to_string(),
        port: member.gossip.port(),
        tags,
        status: status.to_owned(),
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        protocol_cur: PROTOCOL,
        delegate_min: PROTOCOL,
        delegate_max: PROTOCOL,
        delegate_cur: PROTOCOL,
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct HealthParams {
    /// `server` or `client`; both unless given. May be repeated.
    #[param(rename = "type")]
    kind: Option<String>,
}

/// Read the health of the cluster
#[utoipa::path(get, path = "/v1/agent/health", operation_id = "readHealth", tag = "agent", params(HealthParams),
    responses(
        (status = 200, description = "Well", body = AgentHealthResponse),
        (status = 500, description = "Not well; the same body", body = AgentHealthResponse, content_type = "text/plain")))]
async fn health(State(app): State<App>, options: Options) -> Answered {
    let asked: Vec<&str> = options.params.all("type").collect();
    let wants = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let server = if wants("server") { Some(server_health(&app).await) } else { None };
    let mut client = wants("client").then(|| client_health(&app));
    if asked.is_empty() {
        // A cluster without nodes is not ill.
        client = client.filter(|health| health.ok);
    }
    let ok = server.iter().chain(&client).all(|health| health.ok);
    let mut response = options.style.json(&AgentHealthResponse { client, server })?;
    if !ok {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    Ok(response)
}

async fn server_health(app: &App) -> AgentHealth {
    let leader = raft_status::ask(app).await.is_some_and(|status| status.leader.is_some());
    let message = if leader { "ok" } else { "no leader" };
    AgentHealth { ok: leader, message: message.to_owned() }
}

fn client_health(app: &App) -> AgentHealth {
    let ok = app.watches.view().state.nodes().any(|node| node.status == model::NodeStatus::Ready);
    let message = if ok { "ok" } else { "client not enabled" };
    AgentHealth { ok, message: message.to_owned() }
}
