//! `node pool …`: groups of nodes that jobs may ask for.

use bytes::Bytes;
use client::public::{Query, segment};
use config::syntax::Value as Read;
use http::Method;
use model::namespace::NodePool;
use model::node::NodeListStub;
use model::summary::JobListStub;
use serde_json::Value;

use super::spec_file::{Field, entries, object, text};
use super::{Cx, Failure, machine, show};
use crate::format::{pairs, row, table};

const FIELDS: &[(&str, Field)] = &[
    ("name", Field::Plain("Name")),
    ("description", Field::Plain("Description")),
    ("meta", Field::Map("Meta")),
    ("node_identity_ttl", Field::Plain("NodeIdentityTTL")),
    (
        "scheduler_config",
        Field::Block(
            "SchedulerConfiguration",
            &[
                ("scheduler_algorithm", Field::Plain("SchedulerAlgorithm")),
                ("memory_oversubscription_enabled", Field::Plain("MemoryOversubscriptionEnabled")),
            ],
        ),
    ),
];

const EXAMPLE_HCL: &str = r#"node_pool "example" {
  description = "Example node pool"

  # Key and value pairs that are kept with the pool.
  meta {
    environment = "test"
    owner       = "sre"
  }

  # How long the identities of the pool's nodes last.
  # node_identity_ttl = "24h"

  # How jobs are placed on the pool's nodes, instead of the cluster's own way.
  # scheduler_config {
  #   scheduler_algorithm             = "spread"
  #   memory_oversubscription_enabled = true
  # }
}
"#;
const EXAMPLE_JSON: &str = r#"{
  "Name": "example",
  "Description": "Example node pool",
  "Meta": {
    "environment": "test",
    "owner": "sre"
  }
}
"#;

fn page(cx: &Cx) -> Query {
    Query {
        filter: cx.flags.some("filter").map(str::to_owned),
        per_page: cx.flags.uint("per-page"),
        next_token: cx.flags.some("page-token").map(str::to_owned),
        ..Query::default()
    }
}

/// Gets a list, prints it for a machine if that was asked for, and gives it back otherwise.
async fn listed<T: serde::de::DeserializeOwned>(
    cx: &mut Cx,
    path: &str,
    doing: &str,
) -> Result<Option<(Vec<T>, Option<String>)>, Failure> {
    let machine = machine::wanted(cx)?;
    let (value, meta) = cx.client.get::<Value>(path, &page(cx)).await.map_err(|error| Failure::api(doing, &error))?;
    if machine {
        machine::print(cx, &value)?;
        return Ok(None);
    }
    let rows: Option<Vec<T>> =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("{doing}: {error}")))?;
    Ok(Some((rows.unwrap_or_default(), meta.next_token)))
}

fn rows(pools: &[NodePool]) -> Vec<Vec<String>> {
    let mut rows = vec![row(["Name", "Description"])];
    rows.extend(pools.iter().map(|pool| vec![pool.name.clone(), pool.description.clone()]));
    rows
}

pub async fn list(cx: &mut Cx) -> Result<u8, Failure> {
    let Some((pools, next)) = listed::<NodePool>(cx, "/v1/node/pools", "Error querying node pools").await? else {
        return Ok(0);
    };
    cx.ui.line(if pools.is_empty() { "No node pools".to_owned() } else { table(&rows(&pools)) });
    cx.more("node pool list", next.as_deref());
    Ok(0)
}

/// The name of the pool that the argument means: an exact name, or the beginning of one only.
async fn named(cx: &Cx) -> Result<String, Failure> {
    let typed = cx.arg(0);
    let query = Query { prefix: Some(typed.to_owned()), ..Query::default() };
    let asked = cx.client.get::<Option<Vec<NodePool>>>("/v1/node/pools", &query).await;
    let (pools, _) = asked.map_err(|error| Failure::api("Error querying node pool", &error))?;
    let pools = pools.unwrap_or_default();
    match (pools.iter().find(|pool| pool.name == typed), pools.as_slice()) {
        (Some(pool), _) => Ok(pool.name.clone()),
        (None, [pool]) => Ok(pool.name.clone()),
        (None, []) => Err(Failure::new(format!("No node pool with prefix {typed:?} found"))),
        (None, several) => {
            Err(Failure::new(format!("Prefix matched multiple node pools\n\n{}", table(&rows(several)))))
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/node/pool/{}", segment(name))
}

pub async fn info(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let name = named(cx).await?;
    let failed = |error| Failure::api("Error querying node pool", &error);
    let (value, _) = cx.client.get::<Value>(&path(&name), &Query::default()).await.map_err(failed)?;
    if machine {
        return machine::print(cx, &value);
    }
    let pool: NodePool =
        serde_json::from_value(value).map_err(|error| Failure::new(format!("Error querying node pool: {error}")))?;
    let mut head = vec![("Name", pool.name.clone()), ("Description", pool.description.clone())];
    if pool.node_identity_ttl.0 > 0 {
        head.push(("Node Identity TTL", pool.node_identity_ttl.to_string()));
    }
    cx.ui.line(pairs(&head));
    let meta: Vec<(&str, String)> = pool.meta.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let text = if meta.is_empty() { "No metadata".to_owned() } else { pairs(&meta) };
    let text = show::section(cx, "Metadata", &text);
    cx.ui.line(text);
    if let Some(config) = &pool.scheduler_configuration {
        let mut lines = Vec::new();
        if !config.scheduler_algorithm.is_empty() {
            lines.push(("Scheduler Algorithm", config.scheduler_algorithm.clone()));
        }
        if let Some(on) = config.memory_oversubscription_enabled {
            lines.push(("Memory Oversubscription Enabled", on.to_string()));
        }
        let text = show::section(cx, "Scheduler Configuration", &pairs(&lines));
        cx.ui.line(text);
    }
    Ok(0)
}

pub async fn nodes(cx: &mut Cx) -> Result<u8, Failure> {
    let name = named(cx).await?;
    let path = format!("{}/nodes", path(&name));
    let Some((nodes, next)) = listed::<NodeListStub>(cx, &path, "Error querying nodes").await? else { return Ok(0) };
    let mut rows = show::node_rows(cx, &nodes);
    if let Some(at) = rows[0].iter().position(|head| head == "Node Pool") {
        rows.iter_mut().for_each(|row| drop(row.remove(at)));
    }
    let text = if nodes.is_empty() { "No nodes".to_owned() } else { table(&rows) };
    cx.ui.line(text);
    cx.more("node pool nodes", next.as_deref());
    Ok(0)
}

pub async fn jobs(cx: &mut Cx) -> Result<u8, Failure> {
    let name = named(cx).await?;
    let path = format!("{}/jobs", path(&name));
    let Some((jobs, next)) = listed::<JobListStub>(cx, &path, "Error querying jobs").await? else { return Ok(0) };
    let text = if jobs.is_empty() { "No jobs".to_owned() } else { table(&show::job_rows(cx, &jobs)) };
    cx.ui.line(text);
    cx.more("node pool jobs", next.as_deref());
    Ok(0)
}

pub async fn apply(cx: &mut Cx) -> Result<u8, Failure> {
    let typed = cx.arg(0).to_owned();
    let text = text(&typed)?;
    let pool = if cx.flags.is("json") {
        serde_json::from_str::<Value>(&text)
            .map_err(|error| Failure::new(format!("Failed to parse {typed}: {error}")))?
    } else {
        let mut pools = Vec::new();
        for entry in entries(&typed, &text)? {
            match (entry.key.as_str(), &entry.node.value) {
                ("node_pool", Read::Object(labels)) => {
                    for label in labels {
                        let Read::Object(body) = &label.node.value else {
                            return Err(Failure::new("node_pool must have a name and a body"));
                        };
                        let mut pool = object(body, FIELDS)?;
                        pool.insert("Name".to_owned(), Value::String(label.key.clone()));
                        pools.push(pool);
                    }
                }
                (other, _) => return Err(Failure::new(format!("line {}: invalid key: {other}", entry.at.line))),
            }
        }
        match pools.len() {
            1 => Value::Object(pools.remove(0)),
            n => return Err(Failure::new(format!("only one 'node_pool' block allowed, there are {n}"))),
        }
    };
    let name = pool["Name"].as_str().unwrap_or_default().to_owned();
    let body = Some(("application/json", Bytes::from(pool.to_string())));
    let sent = cx.writer()?.send(Method::PUT, "/v1/node/pools", &Query::default(), body).await;
    sent.map_err(|error| Failure::api("Error applying node pool", &error))?;
    cx.ui.line(format!("Successfully applied node pool {name:?}!"));
    Ok(0)
}

pub async fn delete(cx: &mut Cx) -> Result<u8, Failure> {
    let name = cx.arg(0).to_owned();
    let sent = cx.writer()?.send(Method::DELETE, &path(&name), &Query::default(), None).await;
    sent.map_err(|error| Failure::api("Error deleting node pool", &error))?;
    cx.ui.line(format!("Successfully deleted node pool {name:?}!"));
    Ok(0)
}

pub async fn init(cx: &mut Cx) -> Result<u8, Failure> {
    let (example, default) = match cx.flags.text("out") {
        "hcl" => (EXAMPLE_HCL, "pool.nomad.hcl"),
        "json" => (EXAMPLE_JSON, "pool.nomad.json"),
        other => return Err(Failure::new(format!("-out must be \"hcl\" or \"json\", not {other:?}"))),
    };
    let file = cx.flags.args.first().map_or(default, String::as_str).to_owned();
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).open(&file);
    let written = made.and_then(|mut file| std::io::Write::write_all(&mut file, example.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(format!("File {file:?} already exists")),
        _ => Failure::new(format!("Failed to write {file:?}: {error}")),
    })?;
    if !cx.flags.is("quiet") {
        cx.ui.line(format!("Example node pool specification written to {file}"));
    }
    Ok(0)
}
