//! Which processes make up a machine? The reference's agent is one; here a machine has several.
//!
//! `steppe agent` gives the services of a machine one name and the machine's address, and the node the same
//! name. Where every process has a name of its own (`scripts/up`), those at a gateway's address are its machine.

use std::net::IpAddr;

use client::http::Target;
use model::{NodeId, Role};

use crate::app::App;
use crate::errors::ApiError;
use crate::machine::Asked;
use crate::options::Params;
use crate::raft_status;
use crate::routes::at_node;

/// A process, by what stays the same when it is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    Service { role: Role, name: String },
    Node(NodeId),
}

impl Process {
    /// As log lines and lists name it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Service { role, .. } => role.as_str(),
            Self::Node(_) => Role::Agent.as_str(),
        }
    }

    /// Where it is now.
    pub async fn target(&self, app: &App) -> Option<Target> {
        match self {
            Self::Service { role, name } => {
                let found = app.directory.by_role(*role).into_iter().find(|member| *member.name == **name)?;
                Some(Target::new(found.api, *role))
            }
            Self::Node(id) => at_node::target(app, id).await.ok(),
        }
    }
}

fn services(app: &App, is: impl Fn(&str, IpAddr) -> bool) -> Vec<Process> {
    let known = app.directory.all();
    let fit = known.iter().filter(|(member, _)| is(&member.name, member.api.ip()));
    let mut all: Vec<Process> =
        fit.map(|(member, _)| Process::Service { role: member.role, name: member.name.to_string() }).collect();
    all.sort_by_key(|process| process.label());
    all
}

/// The processes of the machine that was asked.
pub fn of_asked(app: &App, asked: &Asked) -> Vec<Process> {
    let mut all = Vec::new();
    if asked.server {
        all = services(app, |name, _| name == app.name);
        if all.len() <= 1 {
            let own = app.directory.by_role(Role::Gateway).into_iter().find(|member| *member.name == *app.name);
            all = services(app, |name, ip| name == app.name || own.as_ref().is_some_and(|own| own.api.ip() == ip));
        }
    }
    all.extend(asked.node.clone().map(Process::Node));
    all
}

/// The machine that `server_id` or `node_id` names; the one that was asked unless either is said.
///
/// # Errors
/// Both are said, which is refused with `both`; or there is no such machine.
pub async fn named(app: &App, asked: &Asked, params: &Params, both: &str) -> Result<Vec<Process>, ApiError> {
    match (params.text("server_id"), params.text("node_id")) {
        (Some(_), Some(_)) => Err(ApiError::bad(both)),
        (Some(server), None) => of_server(app, server).await,
        (None, Some(id)) => of_node(app, &NodeId::from(id)),
        (None, None) => Ok(of_asked(app, asked)),
    }
}

async fn of_server(app: &App, server: &str) -> Result<Vec<Process>, ApiError> {
    let mut wanted = server.strip_suffix(&format!(".{}", app.region)).unwrap_or(server).to_owned();
    if server == "leader" {
        let leader = raft_status::ask(app).await.and_then(|status| status.leader);
        wanted = leader.ok_or_else(ApiError::no_leader)?.name;
    }
    let mut all = services(app, |name, _| name == wanted);
    if all.is_empty() {
        return Err(ApiError::not_found(format!("unknown Nomad server {server}")));
    }
    let view = app.watches.view();
    let at = app.directory.all().iter().find(|(member, _)| *member.name == *wanted).map(|(m, _)| m.api.ip());
    all.extend(
        view.state
            .nodes()
            .filter(|n| n.name == wanted && ip_of(&n.http_addr) == at)
            .map(|n| Process::Node(n.id.clone())),
    );
    Ok(all)
}

fn of_node(app: &App, id: &NodeId) -> Result<Vec<Process>, ApiError> {
    let view = app.watches.view();
    let node = view.state.node(id).ok_or_else(|| ApiError::not_found(format!("Unknown node {:?}", id.as_str())))?;
    let mut all = services(app, |name, ip| node.name == name && ip_of(&node.http_addr) == Some(ip));
    all.push(Process::Node(id.clone()));
    Ok(all)
}

fn ip_of(addr: &str) -> Option<IpAddr> {
    Some(addr.parse::<std::net::SocketAddr>().ok()?.ip())
}
