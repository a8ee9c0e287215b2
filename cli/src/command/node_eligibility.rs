//! `node eligibility`: whether a node gets new work.

use api::operate::NodeChangeResponse;
use client::public::Query;
use serde_json::json;

use super::node_choice::chosen;
use super::{Cx, Failure};

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let eligibility = match (cx.flags.is("enable"), cx.flags.is("disable")) {
        (true, false) => "eligible",
        (false, true) => "ineligible",
        _ => return Err(Failure::new("Either the '-enable' or '-disable' flag must be set")),
    };
    let node = chosen(cx).await?.node;
    let path = format!("/v1/node/{}/eligibility", node.id);
    let body = json!({"NodeID": node.id, "Eligibility": eligibility});
    let sent = cx.writer()?.put::<_, NodeChangeResponse>(&path, &Query::default(), &body).await;
    sent.map_err(|error| Failure::api("Error updating scheduling eligibility", &error))?;
    cx.ui.line(format!("Node \"{}\" scheduling eligibility set: {eligibility} for scheduling", node.id));
    Ok(0)
}
