//! `node purge`: a node is forgotten, with its trust. The reference has this in its API only.

use api::operate::NodeUpdateResponse;
use client::public::Query;
use serde_json::json;

use super::node_choice::{Chosen, chosen};
use super::{Cx, Failure};
use crate::format::count;

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let Chosen { node, .. } = chosen(cx).await?;
    if !cx.flags.is("yes") {
        if !cx.ui.interactive {
            return Err(Failure::new(format!("Node \"{}\" ({}) is not purged unasked", node.id, node.name))
                .hint("-yes purges it without a question"));
        }
        let question = format!(
            "Are you sure you want to purge node \"{}\" ({})? What it runs ends, and it comes back only with a new \
             introduction token.",
            node.id, node.name
        );
        if !cx.ui.confirm(&question) {
            cx.ui.note(format!("Node \"{}\" is left as it is", node.id));
            return Ok(0);
        }
    }
    let path = format!("/v1/node/{}/purge", node.id);
    let sent = cx.writer()?.put::<_, NodeUpdateResponse>(&path, &Query::default(), &json!({})).await;
    let (done, _) = sent.map_err(|error| Failure::api("Error purging node", &error))?;
    cx.ui.line(format!("Node \"{}\" is purged: {}", node.id, count(done.eval_ids.len(), "evaluation")));
    Ok(0)
}
