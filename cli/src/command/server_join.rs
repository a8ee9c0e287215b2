//! `server join`, `server force-leave`, `agent-info`, `client-config`.

use api::public::{AgentJoinResponse, AgentMember, ServerMembers};
use client::public::Query;
use http::Method;
use serde_json::Value;

use super::{Cx, Failure, machine};
use crate::flags::nearest;

pub async fn join(cx: &mut Cx) -> Result<u8, Failure> {
    let query = cx.flags.args.iter().fold(Query::default(), |query, address| query.with("address", address));
    let sent = cx.client.put::<_, AgentJoinResponse>("/v1/agent/join", &query, &()).await;
    let (done, _) = sent.map_err(|error| Failure::api("Error joining", &error))?;
    if done.num_joined > 0 {
        cx.ui.line(format!("Joined {} servers successfully", done.num_joined));
    }
    if done.error.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(format!("Error joining: {}", done.error))
        .hint("servers of one cluster have one `server { encrypt = … }`; an address is that of gossip (port 4648)"))
}

pub async fn force_leave(cx: &mut Cx) -> Result<u8, Failure> {
    let asked = cx.client.get::<ServerMembers>("/v1/agent/members", &Query::default()).await;
    let (members, _) = asked.map_err(|error| Failure::api("Error querying servers", &error))?;
    let name = cx.arg(0);
    let region = |member: &AgentMember| member.tags.get("region").cloned().unwrap_or_default();
    let bare = |member: &AgentMember| match member.name.strip_suffix(&format!(".{}", region(member))) {
        Some(bare) => bare.to_owned(),
        None => member.name.clone(),
    };
    if !members.members.iter().any(|member| member.name == name || bare(member) == name) {
        // The API says nothing of a name that nobody has.
        let failure = Failure::new(format!("Error force-leaving server {name}: there is no server of this name"));
        let near = nearest(name, members.members.iter().map(|member| member.name.as_str())).map(str::to_owned);
        return Err(failure.hint(match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => "`steppe server members` lists them".to_owned(),
        }));
    }
    let mut query = Query::default().with("node", cx.arg(0));
    if cx.flags.is("prune") {
        query = query.with("prune", "true");
    }
    let sent = cx.client.send(Method::PUT, "/v1/agent/force-leave", &query, None).await;
    let verb = if cx.flags.is("prune") { "pruning" } else { "force-leaving" };
    sent.map_err(|error| Failure::api(&format!("Error {verb} server {}", cx.arg(0)), &error))?;
    Ok(0)
}

pub async fn info(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let asked = cx.client.get::<Value>("/v1/agent/self", &Query::default()).await;
    let (agent, _) = asked.map_err(|error| Failure::api("Error querying agent info", &error))?;
    if machine {
        return machine::print(cx, &agent);
    }
    let empty = serde_json::Map::new();
    let sections = agent["stats"].as_object().unwrap_or(&empty);
    for (name, section) in sections {
        cx.ui.line(name);
        for (key, value) in section.as_object().unwrap_or(&empty) {
            cx.ui.line(format!("  {key} = {}", value.as_str().unwrap_or_default()));
        }
    }
    Ok(0)
}

pub async fn client_config(cx: &mut Cx) -> Result<u8, Failure> {
    const PATH: &str = "/v1/agent/servers";
    match (cx.flags.is("servers"), cx.flags.is("update-servers")) {
        (true, false) if cx.flags.args.is_empty() => {
            let asked = cx.client.get::<Vec<String>>(PATH, &Query::default()).await;
            let (servers, _) = asked.map_err(|error| Failure::api("Error querying server list", &error))?;
            for server in servers {
                cx.ui.line(server);
            }
            Ok(0)
        }
        (false, true) => {
            if cx.flags.args.is_empty() {
                return Err(Failure::new("If the '-update-servers' flag is set, the servers' addresses are needed"));
            }
            let query = cx.flags.args.iter().fold(Query::default(), |query, address| query.with("address", address));
            let sent = cx.client.send(Method::PUT, PATH, &query, None).await;
            sent.map_err(|error| Failure::api("Error updating server list", &error))?;
            cx.ui.line("Updated server list");
            Ok(0)
        }
        _ => Err(Failure::new("Exactly one of '-servers' and '-update-servers <address>...' is needed")),
    }
}
