//! `operator debug`: what somebody who is to help needs to see of a cluster, in one file.
//!
//! ```text
//!   cluster/*.json   once: servers, raft, autopilot, configuration, the nodes asked for
//!   0000/*.json …    each interval: jobs, allocations, evaluations, deployments, nodes, metrics, usage
//!   index.json       last: what was captured, and what could not be
//! ```
//!
//! * What looks like a secret by its name is `<redacted>`, whatever it is; jobs are listed, not spelt out, so no
//!   task's environment is in it. The file is readable by its owner only.
//! * A question that fails is noted, and the others are asked. An interrupt ends the capture early, and the file
//!   is whole.
//! * One answer is held in memory at a time; it is no longer than the client takes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::public::{PublicError, Query};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use model::node::NodeListStub;
use model::time::parse_go_duration;
use serde_json::{Value, json};

use super::{Cx, Failure};

const REDACTED: &str = "<redacted>";
/// Parts of names of what nobody else is to read.
const SECRET: &[&str] = &["secret", "token", "password", "passwd", "credential", "privatekey", "encryptkey", "apikey"];
const BLOCK: usize = 512;
/// Captures in one file.
const CAPTURES_MAX: u32 = 10_000;

const ONCE: &[(&str, &str)] = &[
    ("agent-self", "/v1/agent/self"),
    ("members", "/v1/agent/members?all=true"),
    ("agent-health", "/v1/agent/health"),
    ("regions", "/v1/regions"),
    ("peers", "/v1/status/peers"),
    ("raft", "/v1/operator/raft/configuration"),
    ("autopilot", "/v1/operator/autopilot/configuration"),
    ("scheduler", "/v1/operator/scheduler/configuration"),
    ("root-keys", "/v1/operator/keyring/keys"),
    ("namespaces", "/v1/namespaces"),
    ("node-pools", "/v1/node/pools"),
];
const EACH_TIME: &[(&str, &str)] = &[
    ("leader", "/v1/status/leader"),
    ("autopilot-health", "/v1/operator/autopilot/health"),
    ("nodes", "/v1/nodes?resources=true"),
    ("jobs", "/v1/jobs?namespace=*"),
    ("allocations", "/v1/allocations?namespace=*"),
    ("evaluations", "/v1/evaluations?namespace=*"),
    ("deployments", "/v1/deployments?namespace=*"),
    ("metrics", "/v1/metrics"),
];

/// What is asked for.
struct Plan {
    captures: u32,
    interval: Duration,
    output: Option<PathBuf>,
}

pub async fn debug(cx: &mut Cx) -> Result<u8, Failure> {
    let plan = plan(cx)?;
    let nodes = nodes(cx).await?;
    let stamp = jiff::Timestamp::from_nanosecond(cx.ui.now().into()).unwrap_or_default();
    let name = format!("steppe-debug-{}", stamp.strftime("%Y-%m-%d-%H%M%SZ"));
    let (mut sink, path) = Sink::open(plan.output.as_deref(), &name).map_err(|error| failed(&name, &error))?;
    let mut errors = Vec::new();
    let mut write = |path: &str, value: &Value| sink.add(path, value).map_err(|error| failed(path, &error));
    cx.ui.note(format!("capturing into {}, {} times; an interrupt ends it early", path.display(), plan.captures));

    for (file, asked) in ONCE {
        capture(cx, &format!("cluster/{file}.json"), asked, &mut write, &mut errors).await?;
    }
    for id in &nodes {
        let file = format!("cluster/node-{id}.json");
        capture(cx, &file, &format!("/v1/node/{id}"), &mut write, &mut errors).await?;
    }
    let mut done = 0;
    while done < plan.captures {
        for (file, asked) in EACH_TIME {
            capture(cx, &format!("{done:04}/{file}.json"), asked, &mut write, &mut errors).await?;
        }
        for id in &nodes {
            let file = format!("{done:04}/usage-{id}.json");
            capture(cx, &file, &format!("/v1/client/stats?node_id={id}"), &mut write, &mut errors).await?;
        }
        done += 1;
        if done < plan.captures {
            tokio::select! {
                () = tokio::time::sleep(plan.interval) => {}
                _ = tokio::signal::ctrl_c() => break,
            }
        }
    }
    let index = json!({
        "Program": super::version(),
        "Address": cx.client.address(),
        "Captures": done,
        "IntervalSeconds": plan.interval.as_secs(),
        "Nodes": nodes,
        "Errors": errors,
        "NotCaptured": "log lines, which `steppe monitor` shows, and profiles, which there are none of",
    });
    write("index.json", &index)?;
    sink.finish().map_err(|error| failed(&name, &error))?;
    for error in &errors {
        cx.ui.warn(&format!("Warning: {error}"));
    }
    cx.ui.line(format!(
        "Created debug {}: {}",
        if plan.output.is_some() { "directory" } else { "archive" },
        path.display()
    ));
    Ok(0)
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(format!("Error writing {what}: {error}"))
}

fn plan(cx: &Cx) -> Result<Plan, Failure> {
    let span = |name: &str| -> Result<Duration, Failure> {
        let text = cx.flags.some(name).unwrap_or_default();
        let span = parse_go_duration(text).and_then(|span| u64::try_from(span.0).ok()).map(Duration::from_nanos);
        span.filter(|span| *span >= Duration::from_secs(1))
            .ok_or_else(|| Failure::new(format!("Error parsing {name}: {text:?} is no duration of a second or more")))
    };
    let (duration, interval) = (span("duration")?, span("interval")?);
    if interval > duration {
        return Err(Failure::new("Error: -interval must not be longer than -duration"));
    }
    let captures = u32::try_from(duration.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX).max(1);
    if captures > CAPTURES_MAX {
        return Err(Failure::new(format!(
            "Error: that would be more than {CAPTURES_MAX} captures, ask for a longer -interval"
        )));
    }
    Ok(Plan { captures, interval, output: cx.flags.some("output").map(PathBuf::from) })
}

/// Ids of the nodes that are asked for their own state.
async fn nodes(cx: &Cx) -> Result<Vec<String>, Failure> {
    let listed = cx.client.get::<Option<Vec<NodeListStub>>>("/v1/nodes", &Query::default()).await;
    let (all, _) = listed.map_err(|error| Failure::api("Error querying node list", &error))?;
    let asked = cx.flags.some("node-id").unwrap_or("all");
    let wanted = |node: &NodeListStub| {
        asked == "all" || asked.split(',').any(|id| !id.is_empty() && node.id.as_str().starts_with(id))
    };
    let class = cx.flags.some("node-class");
    let most: usize = cx.flags.some("max-nodes").and_then(|text| text.parse().ok()).unwrap_or(10);
    let most = if most == 0 { usize::MAX } else { most };
    let all = all.unwrap_or_default();
    let chosen = all.iter().filter(|node| wanted(node) && class.is_none_or(|class| node.node_class == class));
    let chosen: Vec<String> = chosen.take(most).map(|node| node.id.to_string()).collect();
    if chosen.is_empty() && asked != "all" {
        return Err(Failure::new(format!("Error: no node has an id that begins with {asked:?}")));
    }
    Ok(chosen)
}

async fn capture(
    cx: &Cx,
    file: &str,
    asked: &str,
    write: &mut impl FnMut(&str, &Value) -> Result<(), Failure>,
    errors: &mut Vec<String>,
) -> Result<(), Failure> {
    let (path, rest) = asked.split_once('?').unwrap_or((asked, ""));
    let mut query = Query { stale: cx.flags.is("stale"), ..Query::default() };
    for (name, value) in rest.split('&').filter_map(|pair| pair.split_once('=')) {
        query = match name {
            "namespace" => Query { namespace: Some(value.to_owned()), ..query },
            _ => query.with(name, value),
        };
    }
    let body = match cx.client.send(Method::GET, path, &query, None).await {
        Ok(answer) => answer.body,
        // Not healthy is an answer, too.
        Err(PublicError::Status { body, .. }) if body.starts_with('{') => body.into(),
        Err(error) => {
            errors.push(format!("{asked}: {error}"));
            return Ok(());
        }
    };
    match serde_json::from_slice::<Value>(&body) {
        Ok(mut value) => {
            redact(&mut value);
            write(file, &value)
        }
        Err(error) => {
            errors.push(format!("{asked}: the answer is no JSON: {error}"));
            Ok(())
        }
    }
}

/// Whatever has a secret's name is not passed on.
fn redact(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(redact),
        Value::Object(all) => {
            for (name, value) in all {
                let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
                let plain = plain.to_ascii_lowercase();
                let empty = value.is_null() || value == "" || value.is_boolean();
                if !empty && SECRET.iter().any(|word| plain.contains(word)) {
                    *value = REDACTED.into();
                } else {
                    redact(value);
                }
            }
        }
        _ => {}
    }
}

/// Where captures go: an archive, or a directory that was asked for.
enum Sink {
    Archive { out: GzEncoder<File>, unfinished: PathBuf, path: PathBuf, name: String },
    Directory(PathBuf),
}

impl Sink {
    fn open(parent: Option<&Path>, name: &str) -> io::Result<(Self, PathBuf)> {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        if let Some(parent) = parent {
            let path = parent.join(name);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            return Ok((Self::Directory(path.clone()), path));
        }
        let path = PathBuf::from(format!("{name}.tar.gz"));
        // Under another name until it is whole.
        let unfinished = PathBuf::from(format!("{name}.unfinished"));
        let file = File::options().create_new(true).write(true).mode(0o600).open(&unfinished)?;
        let out = GzEncoder::new(file, Compression::fast());
        Ok((Self::Archive { out, unfinished, path: path.clone(), name: name.to_owned() }, path))
    }

    fn add(&mut self, path: &str, value: &Value) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(value)?;
        match self {
            Self::Directory(dir) => {
                let path = dir.join(path);
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                std::fs::write(path, text)
            }
            Self::Archive { out, name, .. } => {
                out.write_all(&head(&format!("{name}/{path}"), text.len()))?;
                out.write_all(&text)?;
                out.write_all(&vec![0; text.len().next_multiple_of(BLOCK) - text.len()])
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        let Self::Archive { mut out, unfinished, path, .. } = self else { return Ok(()) };
        out.write_all(&[0; BLOCK * 2])?;
        out.finish()?.sync_all()?;
        std::fs::rename(unfinished, path)
    }
}

/// A tar header (ustar) of a plain file. Names are short: ours and UUIDs.
fn head(name: &str, bytes: usize) -> [u8; BLOCK] {
    let mut head = [0; BLOCK];
    let mut put = |at: usize, text: &str, most: usize| {
        let bytes = &text.as_bytes()[..text.len().min(most)];
        head[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, name, 100);
    put(100, "0000600\0", 8);
    put(108, "0000000\0", 8);
    put(116, "0000000\0", 8);
    put(124, &format!("{bytes:011o}\0"), 12);
    put(136, "00000000000\0", 12);
    put(148, "        ", 8);
    put(156, "0", 1);
    put(257, "ustar\0", 6);
    put(263, "00", 2);
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_secret_s_name_is_not_passed_on_however_deep() {
        let mut value = json!({
            "SecretID": "s1", "Nodes": [{"Meta": {"db_password": "s2", "rack": "r1"}, "client_token": {"a": "s3"}}],
            "config": {"Server": {"EncryptKey": "s4"}, "Telemetry": {"Enabled": true}}, "Token": ""
        });
        redact(&mut value);
        let text = value.to_string();
        assert!(["s1", "s2", "s3", "s4"].iter().all(|secret| !text.contains(&format!("\"{secret}\""))), "{text}");
        assert_eq!((&value["Nodes"][0]["Meta"]["rack"], &value["Token"]), (&json!("r1"), &json!("")));
    }

    #[test]
    fn a_header_has_the_checksum_that_tar_looks_for() {
        let head = head("a/b.json", 5);
        assert_eq!(&head[124..136], b"00000000005\0");
        let mut blank = head;
        blank[148..156].copy_from_slice(b"        ");
        let sum: u32 = blank.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(&head[148..155], format!("{sum:06o}\0").as_bytes());
    }
}
