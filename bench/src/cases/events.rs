//! Many readers of the event stream while much happens: does each get everything, once and in order?
//!
//! What happens: jobs without allocations are registered at a steady rate, some events each. Every reader
//! keeps a count and a hash of what it got; a reader whose indexes fall, or who was cut off, fails the run.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client::public::PublicClient;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cases::Ground;
use crate::cluster::Shape;
use crate::load;
use crate::report::{Floor, Report};

/// Readers from one address; the API takes 100 connections from one, and the jobs come from somewhere, too.
const READERS_PER_ADDRESS: usize = 50;
const LATE: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 100)]
    readers: usize,
    /// Events per second to cause; what comes of it is reported.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// A job registration makes about this many events.
const EVENTS_PER_JOB: u32 = 4;

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Index", default)]
    index: u64,
    #[serde(rename = "Events", default)]
    events: Vec<Event>,
    #[serde(rename = "Err", default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Topic")]
    topic: String,
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Key")]
    key: String,
}

/// What a reader got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    events: u64,
    registered: usize,
    hash: u64,
}

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    let stage = ground.stage(Shape::of_nodes(1, 2)).await?;
    let api = &stage.api;
    let address = api.address().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let address: SocketAddr = address.parse().context("the address must be http://IP:PORT")?;
    let run = format!("events-{}", std::process::id());
    let end = format!("{run}-end");
    let mut readers = Vec::new();
    for n in 0..args.readers {
        let stream = open(address, n).await.with_context(|| format!("reader {n}"))?;
        let (run, end) = (run.clone(), end.clone());
        readers.push(tokio::spawn(async move { read(stream, &run, &end).await }));
    }
    let count = args.rate * args.seconds / EVENTS_PER_JOB;
    let (usage, started) = (stage.usage(), Instant::now());
    cause(api, &run, count, args).await?;
    let caused = started.elapsed();
    load::register(api, &quiet(&end)).await?;
    let (last, mut all) = (Instant::now(), Vec::new());
    for reader in readers {
        all.push(tokio::time::timeout(LATE, reader).await.context("a reader did not get to the end")???);
    }
    let behind = last.elapsed();
    let first = all.first().context("no reader")?.clone();
    let alike = all.iter().filter(|got| **got == first).count();
    ensure!(
        alike == all.len(),
        "{} of {} readers got something else: {first:?}, {all:?}",
        all.len() - alike,
        all.len()
    );
    ensure!(first.registered == count as usize, "{} of {count} registrations were told", first.registered);
    let mut report = Report::default();
    report.add("readers", all.len() as f64, "");
    report.add("events to each", first.events as f64, "");
    let floor = (args.readers >= 100 && args.rate >= 1_000).then_some(Floor::AtLeast(1_000.0));
    report.add_for("events", first.events as f64 / caused.as_secs_f64(), "/s", floor);
    report.add("lost or double", 0.0, "");
    report.add("last write to last reader", behind.as_secs_f64() * 1e3, "ms");
    stage.note(&mut report, "events", &usage);
    if stage.cluster.is_none() {
        load::purge_all(api, (0..count).map(|n| format!("{run}-{n}")).chain([end])).await?;
    }
    Ok(report)
}

/// A job that asks for nothing.
fn quiet(id: &str) -> serde_json::Value {
    let mut job = load::mock(id);
    job["Job"]["TaskGroups"][0]["Count"] = 0.into();
    job
}

async fn cause(api: &PublicClient, run: &str, count: u32, args: &Args) -> anyhow::Result<()> {
    let (at_once, started) = (Arc::new(Semaphore::new(32)), Instant::now());
    let mut sent = Vec::new();
    for n in 0..count {
        let due = Duration::from_secs_f64(f64::from(n * EVENTS_PER_JOB) / f64::from(args.rate.max(1)));
        tokio::time::sleep_until(started + due).await;
        let permit = Arc::clone(&at_once).acquire_owned().await?;
        let (api, job) = (api.clone(), quiet(&format!("{run}-{n}")));
        sent.push(tokio::spawn(async move {
            let _permit = permit;
            load::register(&api, &job).await
        }));
    }
    for one in sent {
        one.await??;
    }
    Ok(())
}

/// A stream whose head was read. HTTP/1.0, so that its body is the lines and nothing else.
async fn open(address: SocketAddr, n: usize) -> anyhow::Result<BufReader<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    if address.ip().is_loopback() {
        let host = u8::try_from(2 + n / READERS_PER_ADDRESS).context("too many readers")?;
        socket.bind(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), 0).into())?;
    }
    let mut stream = BufReader::new(socket.connect(address).await?);
    stream.write_all(b"GET /v1/event/stream?namespace=* HTTP/1.0\r\nHost: bench\r\n\r\n").await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    ensure!(line.contains(" 200 "), "answered {line:?}");
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).await?;
    }
    Ok(stream)
}

async fn read(mut stream: BufReader<TcpStream>, run: &str, end: &str) -> anyhow::Result<Got> {
    let (mut hash, mut events, mut seen, mut last, mut text) = (DefaultHasher::new(), 0, HashSet::new(), 0, Vec::new());
    let mut began = false;
    loop {
        text.clear();
        ensure!(stream.read_until(b'\n', &mut text).await? > 0, "the stream ended");
        let line: Line = serde_json::from_slice(&text)?;
        if let Some(error) = line.error {
            bail!("cut off: {error}");
        }
        if line.events.is_empty() {
            continue;
        }
        ensure!(line.index > last, "index {} after {last}", line.index);
        last = line.index;
        for event in line.events {
            let registered = event.topic == "Job" && event.kind == "JobRegistered";
            // Readers begin at different moments, so each counts from the first of this run's jobs.
            began |= event.key.starts_with(run);
            if !began {
                continue;
            }
            if registered && event.key == end {
                return Ok(Got { events, registered: seen.len(), hash: hash.finish() });
            }
            (line.index, &event.topic, &event.kind, &event.key).hash(&mut hash);
            events += 1;
            if registered {
                seen.insert(event.key);
            }
        }
    }
}
