//! `steppe operator gossip keyring`: the keys that seal gossip.

use std::collections::BTreeMap;

use client::public::Query;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cx, Failure, machine};
use crate::format::{row, table};

#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct Keys {
    messages: BTreeMap<String, String>,
    keys: BTreeMap<String, u64>,
    primary_keys: BTreeMap<String, u64>,
    num_nodes: u64,
}

/// # Errors
/// The cluster does not say.
pub async fn list(cx: &mut Cx) -> Result<u8, Failure> {
    let asked = cx.client.get::<Value>("/v1/agent/keyring/list", &Query::default()).await;
    let (answer, _) = asked.map_err(|error| Failure::api("Error listing keys", &error))?;
    if machine::wanted(cx)? {
        return machine::print(cx, &answer);
    }
    let keys: Keys = serde_json::from_value(answer)
        .map_err(|error| Failure::new(format!("Error listing keys: the answer cannot be read: {error}")))?;
    cx.ui.line("==> Gathering installed encryption keys...");
    let mut rows = vec![row(["Key", "Installed", "In Use"])];
    for (key, count) in &keys.keys {
        let primary = keys.primary_keys.get(key).copied().unwrap_or(0);
        rows.push(vec![key.clone(), format!("{count}/{}", keys.num_nodes), format!("{primary}/{}", keys.num_nodes)]);
    }
    cx.ui.line(table(&rows));
    for (process, reason) in &keys.messages {
        cx.ui.warn(&format!("{process} does not say: {reason}"));
    }
    Ok(u8::from(!keys.messages.is_empty()))
}

/// # Errors
/// The key is none, or not every process has it now.
pub async fn install(cx: &mut Cx) -> Result<u8, Failure> {
    change(cx, "install", "==> Installing new gossip encryption key...").await
}

/// # Errors
/// There is no such key, or not every process uses it now.
pub async fn turn(cx: &mut Cx) -> Result<u8, Failure> {
    change(cx, "use", "==> Changing primary gossip encryption key...").await
}

/// # Errors
/// There is no such key, it is the one in use, or not every process forgot it.
pub async fn remove(cx: &mut Cx) -> Result<u8, Failure> {
    change(cx, "remove", "==> Removing gossip encryption key...").await
}

async fn change(cx: &mut Cx, what: &str, said: &str) -> Result<u8, Failure> {
    let body = json!({ "Key": cx.arg(0) });
    let path = format!("/v1/agent/keyring/{what}");
    let done = cx.client.put::<_, Value>(&path, &Query::default(), &body).await;
    done.map_err(|error| Failure::api("error", &error))?;
    cx.ui.line(said);
    cx.ui.line("Successful");
    Ok(0)
}
