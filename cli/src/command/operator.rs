//! Commands for whoever runs the cluster: raw requests, metrics, namespaces.

use std::io::{IsTerminal as _, Read as _};

use bytes::Bytes;
use client::public::{PublicError, Query};
use http::Method;
use serde_json::Value;

use super::{Cx, Failure, machine};
use crate::format::{row, table};

const BODY_BYTES_MAX: u64 = 64 << 20;

pub async fn namespaces(cx: &mut Cx) -> Result<u8, Failure> {
    let machine = machine::wanted(cx)?;
    let (value, _) = cx
        .client
        .get::<Value>("/v1/namespaces", &Query::default())
        .await
        .map_err(|error| Failure::api("Error retrieving namespaces", &error))?;
    if machine {
        return machine::print(cx, &value);
    }
    let mut rows = vec![row(["Name", "Description"])];
    for one in value.as_array().into_iter().flatten() {
        let text = |name: &str| one[name].as_str().unwrap_or("").to_owned();
        rows.push(vec![text("Name"), text("Description")]);
    }
    cx.ui.line(if rows.len() == 1 { "No namespaces found".to_owned() } else { table(&rows) });
    Ok(0)
}

pub async fn metrics(cx: &mut Cx) -> Result<u8, Failure> {
    machine::wanted(cx)?;
    let mut query = Query::default();
    if let Some(format) = cx.flags.some("format") {
        query = query.with("format", format);
    }
    let answer = cx.client.send(Method::GET, "/v1/metrics", &query, None).await;
    let body = answer.map_err(|error| Failure::api("Error getting metrics", &error))?.body;
    match serde_json::from_slice::<Value>(&body) {
        Ok(value) => machine::print(cx, &value),
        Err(_) => {
            cx.ui.raw(&body);
            Ok(0)
        }
    }
}

pub async fn api(cx: &mut Cx) -> Result<u8, Failure> {
    let typed = cx.arg(0);
    let path = if typed.starts_with('/') { typed.to_owned() } else { format!("/v1/{typed}") };
    if path.contains(char::is_whitespace) {
        return Err(Failure::new(format!("Error: {path:?} is no path")));
    }
    let body = body()?;
    let method = match cx.flags.some("X") {
        Some(method) => method.to_ascii_uppercase(),
        None if body.is_some() => "POST".to_owned(),
        None => "GET".to_owned(),
    };
    let query = Query { filter: cx.flags.some("filter").map(str::to_owned), ..Query::default() };
    if cx.flags.is("dryrun") {
        let headers = cx.flags.list("H").iter().map(|h| format!(" -H '{}'", h.replace('\'', r"'\''")));
        let data = if body.is_some() { " --data-binary @-" } else { "" };
        let text = format!("curl -X {method}{}{data} '{}{path}'", headers.collect::<String>(), cx.client.address());
        cx.ui.line(text);
        return Ok(0);
    }
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Failure::new(format!("Error: no method {method:?}")))?;
    let mut headers = Vec::new();
    for text in cx.flags.list("H") {
        let (name, value) =
            text.split_once(':').ok_or_else(|| Failure::new(format!("Error: -H {text:?} has no colon")))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let client = cx.client_with(headers)?;
    match client.send(method, &path, &query, body.map(|bytes| ("application/json", bytes))).await {
        Ok(answer) => {
            if cx.verbose() {
                cx.ui.note(answer.status.to_string());
                for (name, value) in &answer.headers {
                    cx.ui.note(format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
                }
            }
            cx.ui.raw(&answer.body);
            if !answer.body.ends_with(b"\n") && !answer.body.is_empty() {
                cx.ui.raw(b"\n");
            }
            Ok(0)
        }
        Err(PublicError::Status { status, body }) => {
            cx.ui.line(&body);
            Err(Failure::new(format!("Error: Unexpected response code: {}", status.as_u16())))
        }
        Err(error) => Err(Failure::api("Error", &error)),
    }
}

/// What stands in stdin, if it is no terminal and not empty.
fn body() -> Result<Option<Bytes>, Failure> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(format!("Error reading stdin: {error}")))?;
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(Failure::new(format!("Error reading stdin: more than {BODY_BYTES_MAX} bytes")));
    }
    Ok((!bytes.is_empty()).then(|| bytes.into()))
}
