//! `monitor` and `monitor export`: what a machine's processes log, as they log it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::public::Query;
use serde::Deserialize;

use super::{Cx, Failure, lookup};

/// A frame of the stream; `{}` is a beat, which shows that the machine lives.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Frame {
    data: String,
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let query = query(cx).await?;
    read(cx, "/v1/agent/monitor", &query).await
}

/// # Errors
/// The machine has no such log.
pub async fn export(cx: &mut Cx) -> Result<u8, Failure> {
    let mut query = machine(cx).await?;
    for (flag, name) in [("service-name", "service_name"), ("logs-since", "logs_since")] {
        if let Some(text) = cx.flags.some(flag) {
            query = query.with(name, text);
        }
    }
    for (flag, name) in [("on-disk", "on_disk"), ("follow", "follow")] {
        if cx.flags.is(flag) {
            query = query.with(name, "true");
        }
    }
    read(cx, "/v1/agent/monitor/export", &query).await
}

async fn read(cx: &mut Cx, path: &str, query: &Query) -> Result<u8, Failure> {
    let failed = |error| Failure::api("Error starting monitor", &error);
    let mut stream = cx.client.stream(path, query).await.map_err(failed)?;
    let mut frames = Vec::new();
    while let Some(piece) = stream.chunk().await.map_err(|error| Failure::api("Error monitoring logs", &error))? {
        frames.extend_from_slice(&piece);
        let mut read = serde_json::Deserializer::from_slice(&frames).into_iter::<Frame>();
        let mut taken = 0;
        while let Some(Ok(frame)) = read.next() {
            taken = read.byte_offset();
            cx.ui.raw(&STANDARD.decode(&frame.data).unwrap_or_default());
        }
        frames.drain(..taken);
        if cx.ui.is_closed() {
            break;
        }
    }
    Ok(0)
}

/// The machine that is meant.
async fn machine(cx: &Cx) -> Result<Query, Failure> {
    let mut query = Query::default();
    if let Some(server) = cx.flags.some("server-id") {
        query = query.with("server_id", server);
    }
    if let Some(node) = cx.flags.some("node-id") {
        query = query.with("node_id", lookup::node(cx, node).await?.id.to_string());
    }
    Ok(query)
}

async fn query(cx: &Cx) -> Result<Query, Failure> {
    let mut query = machine(cx).await?;
    if let Some(level) = cx.flags.some("log-level") {
        query = query.with("log_level", level);
    }
    for (flag, name) in [("json", "log_json"), ("log-include-location", "log_include_location")] {
        if cx.flags.is(flag) {
            query = query.with(name, "true");
        }
    }
    Ok(query)
}
