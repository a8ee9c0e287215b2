//! `server members` and `operator raft list-peers`.

use api::public::{AgentMember, RaftConfiguration, ServerMembers};
use client::public::Query;
use serde_json::Value;

use super::{Cx, Failure, machine};
use crate::format::{row, table};

pub async fn members(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let (value, _) = cx
        .client
        .get::<Value>("/v1/agent/members", &Query::default())
        .await
        .map_err(|error| Failure::api("Error querying servers", &error))?;
    if machine {
        return machine::print(cx, &value["Members"]);
    }
    let answer: ServerMembers =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying servers: {error}")))?;
    let mut members = answer.members;
    members.sort_by(|a, b| a.name.cmp(&b.name));
    // Without a leader the list is still worth showing.
    let leader = cx.client.get::<String>("/v1/status/leader", &Query { stale: true, ..Query::default() }).await;
    let leader = leader.map(|(leader, _)| leader);
    let text = table(&member_rows(cx, &members, leader.as_deref().unwrap_or("")));
    cx.ui.line(text);
    match leader {
        Ok(_) => Ok(0),
        Err(error) => Err(Failure::api("Error determining leaders", &error)),
    }
}

fn member_rows(cx: &Cx, members: &[AgentMember], leader: &str) -> Vec<Vec<String>> {
    let detailed = cx.flags.is("detailed") || cx.verbose();
    let mut rows = vec![if detailed {
        row([
            "Name",
            "Address",
            "Port",
            "Status",
            "Leader",
            "Protocol",
            "Raft Version",
            "Build",
            "Datacenter",
            "Region",
            "Tags",
        ])
    } else {
        row(["Name", "Address", "Port", "Status", "Leader", "Raft Version", "Build", "Datacenter", "Region"])
    }];
    for member in members {
        let tag = |name: &str| member.tags.get(name).cloned().unwrap_or_default();
        let host = match tag("rpc_addr") {
            text if text.is_empty() => member.addr.clone(),
            text => text,
        };
        let leads = leader == format!("{host}:{}", tag("port"));
        let mut cells = vec![
            member.name.clone(),
            member.addr.clone(),
            member.port.to_string(),
            member.status.clone(),
            leads.to_string(),
        ];
        cells.extend(detailed.then(|| member.protocol_cur.to_string()));
        cells.extend([tag("raft_vsn"), tag("build"), tag("dc"), tag("region")]);
        if detailed {
            let tags: Vec<String> = member.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
            cells.push(tags.join(","));
        }
        rows.push(cells);
    }
    rows
}

pub async fn peers(cx: &mut Cx) -> Result<u8, Failure> {
    let query = Query { stale: cx.flags.is("stale"), ..Query::default() };
    let (raft, _) = cx
        .client
        .get::<RaftConfiguration>("/v1/operator/raft/configuration", &query)
        .await
        .map_err(|error| Failure::api("Failed to retrieve raft configuration", &error))?;
    let mut rows = vec![row(["Node", "ID", "Address", "State", "Voter", "RaftProtocol"])];
    for server in raft.servers {
        let state = if server.leader { "leader" } else { "follower" };
        rows.push(vec![
            server.node,
            server.id,
            server.address,
            state.to_owned(),
            server.voter.to_string(),
            server.raft_protocol,
        ]);
    }
    cx.ui.line(table(&rows));
    Ok(0)
}
