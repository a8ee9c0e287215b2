//! What the machine that was asked is: its settings, its place among the servers, its node.

use std::collections::BTreeMap;
use std::time::Duration;

use api::node::{CLIENT_STATS, SERVERS};
use api::public::{AgentMember, AgentSelf};
use api::state::{RAFT_STATUS, RaftStatus};
use axum::extract::State;
use axum::http::StatusCode;
use client::http::Target;
use kit::gossip::Status;
use model::{NodeId, Role};
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agent::shown;
use super::at_node::{get_json, post, target};
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::Options;
use crate::raft_status;

/// A process of the same machine that takes longer is left out.
const ASK: Duration = Duration::from_secs(1);
/// Addresses given to a node at a time.
const SERVERS_MAX: usize = 64;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(agent_self)).routes(routes!(servers, set_servers))
}

type Section = BTreeMap<String, String>;

fn section(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Section {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Read the configuration and state of the machine asked
///
/// `stats.client.node_id` names its node, if it has one. Secrets are not shown.
#[utoipa::path(get, path = "/v1/agent/self", operation_id = "readAgentSelf", tag = "agent",
    responses((status = 200, description = "Configuration, membership, numbers", body = AgentSelf)))]
async fn agent_self(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    let mut stats = BTreeMap::from([("runtime".to_owned(), runtime())]);
    if let Some(id) = &asked.node {
        stats.insert("client".to_owned(), client_stats(&app, id).await);
    }
    let mut member = AgentMember::default();
    if asked.server {
        let status = own_raft(&app).await;
        stats.insert("nomad".to_owned(), nomad(&app, &status));
        stats.insert("raft".to_owned(), raft(&status));
        stats.insert("serf".to_owned(), serf(&app));
        stats.insert("gateway".to_owned(), gateway(&app));
        let all = app.directory.all();
        let own = |role: Role| all.iter().find(|(m, _)| m.role == role && *m.name == *app.name);
        // The reference's server; a machine may run a gateway alone.
        let found = own(Role::State).or_else(|| own(Role::Gateway));
        member = found.map(|(member, status)| shown(member, *status)).unwrap_or_default();
    }
    options.style.json(&AgentSelf { config: config(&app, &asked), member, stats })
}

fn config(app: &App, asked: &Asked) -> BTreeMap<String, Value> {
    let version = json!({ "BuildDate": null, "Revision": "", "Version": env!("CARGO_PKG_VERSION"),
        "VersionMetadata": "", "VersionPrerelease": "" });
    let view = app.watches.view();
    let node = asked.node.as_ref().and_then(|id| view.state.node(id));
    let mut config = BTreeMap::from([
        ("Region".to_owned(), json!(app.region)),
        ("Datacenter".to_owned(), json!(app.datacenter)),
        ("NodeName".to_owned(), json!(app.name)),
        ("Server".to_owned(), json!({ "Enabled": asked.server })),
        ("Client".to_owned(), json!({ "Enabled": asked.node.is_some() })),
        ("ACL".to_owned(), json!({ "Enabled": false })),
    ]);
    if asked.server {
        config.extend(app.machine.settings());
    } else if let Some(node) = node {
        config.insert("Datacenter".to_owned(), json!(node.datacenter));
        config.insert("NodeName".to_owned(), json!(node.name));
        let client =
            json!({ "Enabled": true, "NodeClass": node.node_class, "NodePool": node.node_pool, "Meta": node.meta });
        config.insert("Client".to_owned(), client);
    }
    config.insert("Version".to_owned(), version);
    config
}

/// Raft as this machine's state server sees it; as any other does where there is none.
async fn own_raft(app: &App) -> RaftStatus {
    let own = app.directory.by_role(Role::State).into_iter().find(|member| *member.name == *app.name);
    if let Some(own) = own {
        let to = Target::new(own.api, Role::State);
        if let Ok(status) = app.http.get_json::<RaftStatus>(to, RAFT_STATUS, ASK).await {
            return status;
        }
    }
    raft_status::ask(app).await.unwrap_or_default()
}

fn nomad(app: &App, status: &RaftStatus) -> Section {
    let leads = status.name == app.name && status.role == "leader";
    section([
        ("server", "true".to_owned()),
        ("leader", leads.to_string()),
        ("leader_addr", status.leader.as_ref().map(|l| l.addr.clone()).unwrap_or_default()),
        ("known_regions", "1".to_owned()),
        ("bootstrap", (status.peers.len() == 1).to_string()),
    ])
}

fn raft(status: &RaftStatus) -> Section {
    let state = match status.role.as_str() {
        "leader" => "Leader",
        "candidate" => "Candidate",
        _ => "Follower",
    };
    let voters = status.peers.iter().filter(|peer| peer.voter).count();
    let one = |peer: &api::state::RaftPeer| {
        let suffrage = if peer.voter { "Voter" } else { "Nonvoter" };
        format!("{{Suffrage:{suffrage} ID:{} Address:{}}}", peer.id, peer.addr)
    };
    let members: Vec<String> = status.peers.iter().map(one).collect();
    let contact = match (state, status.last_contact_ms) {
        ("Leader", _) | (_, 0) => "0".to_owned(),
        (_, ms) => format!("{ms}ms"),
    };
    section([
        ("state", state.to_owned()),
        ("term", status.term.get().to_string()),
        ("num_peers", voters.saturating_sub(1).to_string()),
        ("last_log_index", status.last_log.get().to_string()),
        ("last_log_term", status.term.get().to_string()),
        ("commit_index", status.committed.get().to_string()),
        ("applied_index", status.applied.get().to_string()),
        ("fsm_pending", status.committed.get().saturating_sub(status.applied.get()).to_string()),
        ("last_snapshot_index", status.snapshot.get().to_string()),
        ("last_contact", contact),
        ("latest_configuration", format!("[{}]", members.join(" "))),
        ("protocol_version", "3".to_owned()),
        ("logstore_backend", "redb".to_owned()),
    ])
}

fn serf(app: &App) -> Section {
    let all = app.directory.all();
    let servers = || all.iter().filter(|(member, _)| member.role == Role::State);
    let count = |is: fn(Status) -> bool| servers().filter(|(_, status)| is(*status)).count().to_string();
    section([
        ("members", servers().count().to_string()),
        ("failed", count(|s| s == Status::Failed)),
        ("left", count(|s| s == Status::Left)),
        ("encrypted", "true".to_owned()),
    ])
}

fn gateway(app: &App) -> Section {
    section([
        ("uptime_s", app.started.elapsed().as_secs().to_string()),
        ("blocking_queries", app.watches.waiting().to_string()),
        ("agent_streams", app.streams.count().to_string()),
        ("applied_index", app.replica.index().get().to_string()),
    ])
}

fn runtime() -> Section {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    section([
        ("arch", arch.to_owned()),
        ("cpu_count", cpus.clone()),
        ("max_procs", cpus),
        ("kernel.name", std::env::consts::OS.to_owned()),
        ("version", format!("steppe{}", env!("CARGO_PKG_VERSION"))),
    ])
}

/// What the node's agent says of itself; its id, if it says nothing.
async fn client_stats(app: &App, id: &NodeId) -> Section {
    let ask = async {
        let to = target(app, id).await.ok()?;
        app.http.get_json::<Section>(to, CLIENT_STATS, ASK).await.ok()
    };
    let mut said = tokio::time::timeout(ASK, ask).await.ok().flatten().unwrap_or_default();
    said.insert("node_id".to_owned(), id.to_string());
    said
}

/// List the servers that the machine's node talks to
#[utoipa::path(get, path = "/v1/agent/servers", operation_id = "listServers", tag = "agent",
    responses(
        (status = 200, description = "host:port of each", body = Vec<String>),
        (status = 501, description = "The machine asked has no node", body = String, content_type = "text/plain")))]
async fn servers(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    get_json(&app, asked.client_only()?, SERVERS.to_owned(), options.style).await
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct SetServersParams {
    /// `host` or `host:port` of a server. May be repeated.
    address: String,
}

/// Set the servers that the machine's node talks to
///
/// Until its agent is started again; at least one of them must answer.
#[utoipa::path(post, path = "/v1/agent/servers", operation_id = "setServers", tag = "agent", params(SetServersParams),
    responses(
        (status = 200, description = "Set"),
        (status = 400, description = "No address, or none that answers", body = String, content_type = "text/plain"),
        (status = 501, description = "The machine asked has no node", body = String, content_type = "text/plain")))]
async fn set_servers(State(app): State<App>, asked: Asked, options: Options) -> Result<StatusCode, ApiError> {
    let id = asked.client_only()?;
    let addresses: Vec<&str> = options.params.all("address").filter(|a| !a.is_empty()).collect();
    if addresses.is_empty() {
        return Err(ApiError::bad("missing server address"));
    }
    if addresses.len() > SERVERS_MAX {
        return Err(ApiError::bad(format!("more than {SERVERS_MAX} server addresses")));
    }
    post(&app, id, SERVERS.to_owned(), &addresses).await?;
    Ok(StatusCode::OK)
}
