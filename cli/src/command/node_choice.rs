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

/// The node of the machine at the address.
async fn local(cx: &Cx) -> Result<NodeListStub, Failure> {
    let asked = cx.client.get::<Value>("/v1/agent/self", &Query::default()).await;
    let (agent, _) = asked.map_err(|error| Failure::api("Error querying agent info", &error))?;
    match agent["stats"]["client"]["node_id"].as_str() {
        Some(id) if !id.is_empty() => lookup::one(cx, id).await,
        _ => {
            Err(Failure::new(format!("Error querying agent info: the machine at {} has no node", cx.client.address()))
                .hint("name the node; `steppe node status` lists them"))
        }
    }
}
