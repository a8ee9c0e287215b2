//! Which node is a command about: the one named, or with `-self` the one on this machine.

use client::public::Query;
use model::node::NodeListStub;
use serde_json::Value;

use super::{Cx, Failure, lookup};

/// The node, and whether its id was typed in full.
pub struct Chosen {
    pub node: NodeListStub,
    pub exact: bool,
}

/// The node that the command's argument or `-self` means.
///
/// # Errors
/// Neither or both are given, or there is no such node.
pub async fn chosen(cx: &Cx) -> Result<Chosen, Failure> {
    match (cx.flags.is("self"), cx.flags.args.is_empty()) {
        (true, true) => Ok(Chosen { node: local(cx).await?, exact: true }),
        (true, false) => Err(Failure::new("A node cannot be named together with -self")),
        (false, true) => Err(Failure::new("Node ID must be specified if -self isn't being used")),
        (false, false) => {
            let node = lookup::node(cx, cx.arg(0)).await?;
            let exact = node.id.as_str() == cx.arg(0) || node.name == cx.arg(0);
            Ok(Chosen { node, exact })
        }
    }
}

/// The node of the process at the address, or else the only one that has this machine's name.
async fn local(cx: &Cx) -> Result<NodeListStub, Failure> {
    let asked = cx.client.get::<Value>("/v1/agent/self", &Query::default()).await;
    let (agent, _) = asked.map_err(|error| Failure::api("Error querying agent info", &error))?;
    if let Some(id) = agent["stats"]["client"]["node_id"].as_str().filter(|id| !id.is_empty()) {
        return lookup::one(cx, id).await;
    }
    let listed = cx.client.get::<Option<Vec<NodeListStub>>>("/v1/nodes", &Query::default()).await;
    let (nodes, _) = listed.map_err(|error| Failure::api("Error querying node", &error))?;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let mut here: Vec<_> = nodes.unwrap_or_default().into_iter().filter(|node| node.name == name).collect();
    match here.len() {
        1 => Ok(here.remove(0)),
        0 => Err(Failure::new(format!("Error querying agent info: no node is named {name:?}, as this machine is"))
            .hint("name the node; `steppe node status` lists them")),
        _ => Err(Failure::new(format!("Error querying agent info: several nodes are named {name:?}"))
            .hint("name the node by its id; `steppe node status` lists them")),
    }
}
