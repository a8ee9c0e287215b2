//! `node meta read` and `node meta apply`.

use std::collections::BTreeMap;

use client::public::Query;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cx, Failure, lookup, machine, show};
use crate::format::pairs;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NodeMeta {
    meta: BTreeMap<String, String>,
    dynamic: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "Static")]
    configured: Option<BTreeMap<String, String>>,
}

/// The node of `-node-id`, or the one at the address.
async fn node(cx: &Cx) -> Result<String, Failure> {
    if let Some(typed) = cx.flags.some("node-id") {
        return Ok(lookup::node(cx, typed).await?.id.to_string());
    }
    let answer = cx.client.get::<Value>("/v1/agent/self", &Query::default()).await;
    let (agent, _) = answer.map_err(|error| Failure::api("Error querying agent info", &error))?;
    match agent["stats"]["client"]["node_id"].as_str() {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => Err(Failure::new("The process at this address runs no node").hint("-node-id names one")),
    }
}

pub async fn read(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let query = Query::default().with("node_id", node(cx).await?);
    let answer = cx.client.get::<Value>("/v1/client/metadata", &query).await;
    let (value, _) = answer.map_err(|error| Failure::api("Error reading dynamic node metadata", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let meta: NodeMeta = serde_json::from_value(value)
        .map_err(|error| Failure::new(format!("Error reading dynamic node metadata: {error}")))?;
    let dynamic = meta.dynamic.unwrap_or_default().into_iter();
    let dynamic = dynamic.map(|(key, value)| (key, value.unwrap_or_else(|| "<unset>".to_owned()))).collect();
    for (title, map) in
        [("All Meta", meta.meta), ("Dynamic Meta", dynamic), ("Static Meta", meta.configured.unwrap_or_default())]
    {
        let rows: Vec<(&str, String)> = map.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let body = if rows.is_empty() { "<none>".to_owned() } else { pairs(&rows) };
        let text = show::section(cx, title, &body);
        cx.ui.line(text.trim_start());
    }
    Ok(0)
}

pub async fn apply(cx: &mut Cx) -> Result<u8, Failure> {
    let mut meta: BTreeMap<String, Option<String>> = BTreeMap::new();
    for key in cx.flags.text("unset").split(',').filter(|key| !key.is_empty()) {
        meta.insert(key.to_owned(), None);
    }
    for pair in &cx.flags.args {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("{pair:?} is no key=value")).hint("a key is removed by -unset=key"))?;
        meta.insert(key.to_owned(), Some(value.to_owned()));
    }
    if meta.is_empty() {
        return Err(Failure::new("Nothing is changed: give key=value, or -unset"));
    }
    let node = node(cx).await?;
    let query = Query::default().with("node_id", node.as_str());
    let body = json!({"NodeID": node, "Meta": meta});
    let done = cx.client.post::<_, Value>("/v1/client/metadata", &query, &body).await;
    done.map_err(|error| Failure::api("Error applying dynamic node metadata", &error))?;
    Ok(0)
}
