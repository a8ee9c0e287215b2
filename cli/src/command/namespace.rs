//! `namespace apply|delete|inspect|status`.

use std::path::Path;

use bytes::Bytes;
use client::public::{Query, segment};
use http::Method;
use model::namespace::Namespace;
use serde_json::{Map, Value};

use super::spec_file::{Field, entries, object, text};
use super::{Cx, Failure, machine, show};
use crate::format::{pairs, row, table};

const FIELDS: &[(&str, Field)] = &[
    ("name", Field::Plain("Name")),
    ("description", Field::Plain("Description")),
    ("quota", Field::Plain("Quota")),
    ("meta", Field::Map("Meta")),
    (
        "capabilities",
        Field::Block(
            "Capabilities",
            &[
                ("enabled_task_drivers", Field::Plain("EnabledTaskDrivers")),
                ("disabled_task_drivers", Field::Plain("DisabledTaskDrivers")),
                ("enabled_network_modes", Field::Plain("EnabledNetworkModes")),
                ("disabled_network_modes", Field::Plain("DisabledNetworkModes")),
            ],
        ),
    ),
    (
        "node_pool_config",
        Field::Block(
            "NodePoolConfiguration",
            &[
                ("default", Field::Plain("Default")),
                ("allowed", Field::Plain("Allowed")),
                ("denied", Field::Plain("Denied")),
            ],
        ),
    ),
];

fn path(name: &str) -> String {
    format!("/v1/namespace/{}", segment(name))
}

/// The argument is a file, `-`, or the name of a namespace to make or change.
pub async fn apply(cx: &mut Cx) -> Result<u8, Failure> {
    let typed = cx.arg(0).to_owned();
    let is_file = typed == "-" || cx.flags.is("json") || Path::new(&typed).is_file();
    let mut namespace = if is_file { from_file(cx, &typed)? } else { from_name(cx, &typed).await? };
    for (flag, name) in [("description", "Description"), ("quota", "Quota")] {
        if let Some(text) = cx.flags.list(flag).last() {
            namespace.insert(name.to_owned(), Value::String(text.clone()));
        }
    }
    let name = namespace.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Failure::new("Namespace name is required"));
    }
    let body = Some(("application/json", Bytes::from(Value::Object(namespace).to_string())));
    let sent = cx.writer()?.send(Method::PUT, "/v1/namespace", &Query::default(), body).await;
    sent.map_err(|error| Failure::api("Error applying namespace specification", &error))?;
    cx.ui.line(format!("Successfully applied namespace specification {name:?}!"));
    Ok(0)
}

fn from_file(cx: &Cx, typed: &str) -> Result<Map<String, Value>, Failure> {
    let text = text(typed)?;
    if !cx.flags.is("json") {
        return object(&entries(typed, &text)?, FIELDS);
    }
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("Failed to parse {typed}: {error}")))
}

/// What is there is kept.
async fn from_name(cx: &Cx, name: &str) -> Result<Map<String, Value>, Failure> {
    match cx.client.get::<Value>(&path(name), &Query::default()).await {
        Ok((Value::Object(there), _)) => Ok(there),
        Err(error) if !error.is_not_found() => Err(Failure::api("Error looking up namespace", &error)),
        _ => Ok(Map::from_iter([("Name".to_owned(), Value::String(name.to_owned()))])),
    }
}

pub async fn delete(cx: &mut Cx) -> Result<u8, Failure> {
    let name = cx.arg(0).to_owned();
    let sent = cx.writer()?.send(Method::DELETE, &path(&name), &Query::default(), None).await;
    sent.map_err(|error| Failure::api("Error deleting namespace", &error))?;
    cx.ui.line(format!("Successfully deleted namespace {name:?}!"));
    Ok(0)
}

/// The namespace that the argument means: an exact name, or the beginning of one only.
async fn found(cx: &Cx) -> Result<Value, Failure> {
    let typed = cx.arg(0);
    let query = Query { prefix: Some(typed.to_owned()), ..Query::default() };
    let asked = cx.client.get::<Vec<Value>>("/v1/namespaces", &query).await;
    let (mut all, _) = asked.map_err(|error| Failure::api("Error retrieving namespaces", &error))?;
    if let Some(at) = all.iter().position(|one| one["Name"] == typed) {
        return Ok(all.remove(at));
    }
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(Failure::new(format!("Namespace {typed:?} matched no namespaces"))),
        _ => {
            let mut rows = vec![row(["Name", "Description"])];
            let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
            rows.extend(all.iter().map(|one| vec![text(one, "Name"), text(one, "Description")]));
            Err(Failure::new(format!("Prefix matched multiple namespaces\n\n{}", table(&rows))))
        }
    }
}

pub async fn inspect(cx: &mut Cx) -> Result<u8, Failure> {
    let namespace = found(cx).await?;
    machine::print(cx, &namespace)
}

pub async fn status(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let value = found(cx).await?;
    if machine {
        return machine::print(cx, &value);
    }
    let one: Namespace =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error retrieving namespaces: {error}")))?;
    let listed = |list: &[String]| if list.is_empty() { "*".to_owned() } else { list.join(",") };
    let none = |list: &[String]| list.join(",");
    let capabilities = one.capabilities.clone().unwrap_or_default();
    let text = pairs(&[
        ("Name", one.name.clone()),
        ("Description", one.description.clone()),
        ("Quota", one.quota.clone()),
        ("Enabled Drivers", listed(&capabilities.enabled_task_drivers)),
        ("Disabled Drivers", none(&capabilities.disabled_task_drivers)),
        ("Enabled Network Modes", listed(&capabilities.enabled_network_modes)),
        ("Disabled Network Modes", none(&capabilities.disabled_network_modes)),
    ]);
    cx.ui.line(text);
    if !one.meta.is_empty() {
        let meta: Vec<(&str, String)> = one.meta.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let text = show::section(cx, "Metadata", &pairs(&meta));
        cx.ui.line(text);
    }
    Ok(0)
}
