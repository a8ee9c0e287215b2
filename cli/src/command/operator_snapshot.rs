//! Snapshots of the cluster as files: save, restore, look inside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use client::archive::{ArchiveError, Meta, unpack};
use client::public::Query;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{Cx, Failure};
use crate::format::{bytes, json as printed, pairs, row, table};

pub async fn save(cx: &mut Cx) -> Result<u8, Failure> {
    let path = match cx.arg(0) {
        "" => PathBuf::from(format!("steppe-state-{}.snap", cx.ui.now() / 1_000_000_000)),
        named => PathBuf::from(named),
    };
    let query = Query { stale: cx.flags.is("stale"), ..Query::default() };
    let opened = cx.client.stream("/v1/operator/snapshot", &query).await;
    let mut stream = opened.map_err(|error| Failure::api("Error saving snapshot", &error))?;
    // Under another name until it is known to be whole.
    let unverified = path.with_extension("unverified");
    let written = async {
        let mut file = private(&unverified).map_err(|error| failed(&unverified, &error))?;
        while let Some(piece) = stream.chunk().await.map_err(|error| Failure::api("Error saving snapshot", &error))? {
            file.write_all(&piece).map_err(|error| failed(&unverified, &error))?;
        }
        file.sync_all().map_err(|error| failed(&unverified, &error))?;
        open(&unverified)?;
        std::fs::rename(&unverified, &path).map_err(|error| failed(&path, &error))
    };
    if let Err(failure) = written.await {
        let _ = std::fs::remove_file(&unverified);
        return Err(failure);
    }
    cx.ui.line(format!("State file written to {}", path.display()));
    Ok(0)
}

/// It holds keys: nobody else reads it.
fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().create(true).truncate(true).write(true).mode(0o600).open(path)
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("Error writing {}: {error}", path.display()))
}

/// The archive, checked from end to end, and the state in it.
fn open(path: &Path) -> Result<(Meta, File), Failure> {
    let opening = |cause: String| Failure::new(format!("Error opening snapshot file {}: {cause}", path.display()));
    let mut file = File::open(path).map_err(|error| opening(error.to_string()))?;
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err(opening("it is no file".to_owned()));
    }
    unpack(&mut file).map_err(|error| {
        let cause = match &error {
            ArchiveError::Io(cause) => format!(": {cause}"),
            _ => String::new(),
        };
        Failure::new(format!("Error verifying snapshot file {}: {error}{cause}", path.display()))
    })
}

pub async fn restore(cx: &mut Cx) -> Result<u8, Failure> {
    let path = PathBuf::from(cx.arg(0));
    let (meta, _) = open(&path)?;
    let whole = std::fs::read(&path).map_err(|e| Failure::new(format!("Error opening snapshot file: {e}")))?;
    let body = Some(("application/octet-stream", whole.into()));
    let sent = cx.client.send(Method::PUT, "/v1/operator/snapshot", &Query::default(), body).await;
    sent.map_err(|error| Failure::api("Error restoring snapshot", &error))?;
    cx.ui.line(format!("Snapshot Restored: {} of index {}", meta.id, meta.index));
    Ok(0)
}

/// Rows and bytes of one table.
#[derive(Default)]
struct Size {
    rows: u64,
    bytes: u64,
}

pub async fn inspect(cx: &mut Cx) -> Result<u8, Failure> {
    let path = PathBuf::from(cx.arg(0));
    let (meta, state) = open(&path)?;
    let tables = sizes(state).map_err(|e| Failure::new(format!("Error reading snapshot: {e}")))?;
    if cx.flags.is("json") {
        let stats: Vec<_> =
            tables.iter().map(|(name, size)| json!({"Name": name, "Count": size.rows, "Sum": size.bytes})).collect();
        let value = json!({"Meta": {"ID": meta.id, "Size": meta.state_bytes, "Index": meta.index, "Term": meta.term,
            "Version": meta.version, "Created": meta.created, "Region": meta.region, "Program": meta.program},
            "Stats": stats, "TotalSize": meta.state_bytes});
        cx.ui.line(printed(&value));
        return Ok(0);
    }
    cx.ui.line(pairs(&[
        ("Created", cx.stamp(meta.created)),
        ("ID", meta.id.clone()),
        ("Size", bytes(meta.state_bytes)),
        ("Index", meta.index.to_string()),
        ("Term", meta.term.to_string()),
        ("Version", meta.version.to_string()),
        ("Region", meta.region.clone()),
        ("Written By", meta.program.clone()),
    ]));
    cx.ui.line("");
    let mut rows = vec![row(["Type", "Count", "Size"])];
    for (name, size) in &tables {
        rows.push(vec![name.clone(), size.rows.to_string(), bytes(size.bytes)]);
    }
    rows.push(vec![
        "Total".to_owned(),
        tables.iter().map(|t| t.1.rows).sum::<u64>().to_string(),
        bytes(meta.state_bytes),
    ]);
    cx.ui.line(table(&rows));
    Ok(0)
}

/// The tables of a state that is known to be whole, the largest first.
fn sizes(state: File) -> std::io::Result<Vec<(String, Size)>> {
    #[derive(Deserialize)]
    struct Head {
        counts: BTreeMap<String, u64>,
    }
    #[derive(Deserialize)]
    struct End {
        section: String,
    }
    let mut lines = BufReader::new(state);
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let head: Head = serde_json::from_str(&line)?;
    let (mut tables, mut open) = (Vec::new(), Size::default());
    loop {
        line.clear();
        let read = lines.read_line(&mut line)?;
        if read == 0 {
            break;
        }
        // A row never looks so: rows that are objects begin with another name.
        if line.starts_with("{\"section\":")
            && let Ok(End { section }) = serde_json::from_str::<End>(&line)
            && head.counts.get(&section) == Some(&open.rows)
        {
            if open.rows > 0 {
                tables.push((section, open));
            }
            open = Size::default();
            continue;
        }
        open.rows += 1;
        open.bytes += read as u64;
    }
    tables.sort_by_key(|(_, size)| std::cmp::Reverse(size.bytes));
    Ok(tables)
}
