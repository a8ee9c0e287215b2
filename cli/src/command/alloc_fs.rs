//! `alloc fs`: directories and files of an allocation.
//!
//! A path is looked at first: a directory is listed, a file printed; `-stat` shows what it is, `-tail` only its
//! end, `-f` goes on as it grows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::public::{PublicStream, Query};
use model::Allocation;
use serde::Deserialize;

use super::alloc_act::{found, whole};
use super::alloc_logs::{Tail, of_job};
use super::{Cx, Failure};
use crate::format::{bytes, row, table};

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct FileInfo {
    name: String,
    is_dir: bool,
    size: u64,
    file_mode: String,
    mod_time: String,
    content_type: String,
}

/// A frame of a stream; `{}` is a beat.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Frame {
    data: String,
    file_event: String,
}

pub async fn run(cx: &mut Cx) -> Result<u8, Failure> {
    let alloc = if cx.flags.is("job") {
        let id = of_job(cx).await?;
        whole(cx, &id).await?
    } else {
        found(cx, cx.arg(0)).await?
    };
    let path = if cx.arg(1).is_empty() { "/".to_owned() } else { cx.arg(1).to_owned() };
    let info: FileInfo = ask(cx, &alloc, "stat", &path).await?;
    if cx.flags.is("stat") {
        let mut rows = vec![row(["Mode", "Size", "Modified Time", "Content Type", "Name"])];
        let mut cells = common(cx, &info);
        cells.insert(3, info.content_type.clone());
        rows.push(cells);
        cx.ui.line(table(&rows));
        return Ok(0);
    }
    if info.is_dir {
        let entries: Vec<FileInfo> = ask(cx, &alloc, "ls", &path).await?;
        let mut rows = vec![row(["Mode", "Size", "Modified Time", "Name"])];
        rows.extend(entries.iter().map(|info| common(cx, info)));
        cx.ui.line(table(&rows));
        return Ok(0);
    }
    if cx.flags.is("f") || cx.flags.is("tail") {
        follow(cx, &alloc, &path).await
    } else {
        print(cx, &alloc, &path).await
    }
}

fn query(cx: &Cx, alloc: &Allocation, path: &str) -> Query {
    cx.within(alloc.namespace.as_str()).with("path", path)
}

async fn ask<T: serde::de::DeserializeOwned>(
    cx: &Cx,
    alloc: &Allocation,
    action: &str,
    path: &str,
) -> Result<T, Failure> {
    let url = format!("/v1/client/fs/{action}/{}", alloc.id);
    let answer = cx.client.get::<T>(&url, &query(cx, alloc, path)).await;
    answer.map(|(value, _)| value).map_err(|error| {
        let failure = Failure::api(if action == "ls" { "Error listing alloc dir" } else { "Error" }, &error);
        match error.status().map(|status| status.as_u16()) {
            Some(404) if alloc.task_states.is_empty() => failure.hint("the allocation has not started yet"),
            Some(404) if path != "/" => failure.hint("`steppe alloc fs <allocation>` lists what is there"),
            _ => failure,
        }
    })
}

/// Mode, size, time and name.
fn common(cx: &Cx, info: &FileInfo) -> Vec<String> {
    let plain = cx.flags.is("H");
    let size = if plain { info.size.to_string() } else { bytes(info.size) };
    let exact = info.mod_time.parse::<jiff::Timestamp>().ok();
    let nanos = exact.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    let time = match nanos {
        Some(_) if plain => info.mod_time.clone(),
        Some(nanos) => cx.stamp(nanos),
        None => info.mod_time.clone(),
    };
    let name = if info.is_dir && !info.name.ends_with('/') { format!("{}/", info.name) } else { info.name.clone() };
    vec![info.file_mode.clone(), size, time, name]
}

async fn open(cx: &Cx, alloc: &Allocation, action: &str, query: &Query) -> Result<PublicStream, Failure> {
    let url = format!("/v1/client/fs/{action}/{}", alloc.id);
    cx.client.stream(&url, query).await.map_err(|error| Failure::api("Error reading file", &error))
}

async fn next(stream: &mut PublicStream) -> Result<Option<bytes::Bytes>, Failure> {
    stream.chunk().await.map_err(|error| Failure::api("Error reading file", &error))
}

async fn print(cx: &mut Cx, alloc: &Allocation, path: &str) -> Result<u8, Failure> {
    let mut stream = open(cx, alloc, "cat", &query(cx, alloc, path)).await?;
    while let Some(piece) = next(&mut stream).await? {
        cx.ui.raw(&piece);
        if cx.ui.is_closed() {
            break;
        }
    }
    Ok(0)
}

async fn follow(cx: &mut Cx, alloc: &Allocation, path: &str) -> Result<u8, Failure> {
    let mut query = query(cx, alloc, path).with("follow", cx.flags.is("f").to_string());
    if let Some(offset) = Tail::offset(cx) {
        query = query.with("origin", "end").with("offset", offset.to_string());
    }
    let mut stream = open(cx, alloc, "stream", &query).await?;
    let (mut frames, mut tail) = (Vec::new(), Tail::of(cx));
    while let Some(piece) = next(&mut stream).await? {
        frames.extend_from_slice(&piece);
        let mut read = serde_json::Deserializer::from_slice(&frames).into_iter::<Frame>();
        let mut taken = 0;
        while let Some(Ok(frame)) = read.next() {
            taken = read.byte_offset();
            let data = STANDARD.decode(&frame.data).unwrap_or_default();
            if !data.is_empty() {
                let data = tail.take(&data);
                cx.ui.raw(&data);
            }
            if !frame.file_event.is_empty() {
                cx.ui.note(format!("steppe: {:?} {path}", frame.file_event));
            }
        }
        frames.drain(..taken);
        if cx.ui.is_closed() {
            return Ok(0);
        }
    }
    let rest = tail.rest();
    cx.ui.raw(&rest);
    Ok(0)
}
