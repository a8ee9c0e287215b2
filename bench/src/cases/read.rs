//! What reading costs: lists and single rows, and blocking queries that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use client::public::{PublicClient, Query};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cases::{Ground, Stage};
use crate::cluster::Shape;
use crate::load;
use crate::report::{Report, per_second, quantile};

const LATE: Duration = Duration::from_secs(120);
const SUBMITTERS: usize = 32;
const WAIT: Duration = Duration::from_secs(300);

#[derive(clap::Args)]
pub struct Args {
    /// Jobs that are there.
    #[arg(long, default_value_t = 1_000, value_parser = crate::count(100_000))]
    jobs: usize,
    /// Allocations of each.
    #[arg(long, default_value_t = 10, value_parser = crate::count(1_000))]
    count: usize,
    /// Simulated nodes.
    #[arg(long, default_value_t = 200, value_parser = crate::count(crate::fleet::NODES_MAX))]
    nodes: usize,
    /// Readers at the same time, for the rates.
    #[arg(long, default_value_t = 16, value_parser = crate::count(1_024))]
    readers: usize,
    /// How long each path is read, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    read_ms: u64,
    /// Blocking queries that wait at the same time.
    #[arg(long, default_value_t = 1_000, value_parser = crate::count(5_000))]
    waiting: usize,
}

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    ground.must_be_ours("read")?;
    crate::fleet::has_room(args.nodes, args.jobs * args.count)?;
    crate::fleet::allow_files(args.waiting)?;
    let stage = ground.stage(Shape::of_nodes(args.nodes, 2)).await?;
    let (api, mut report) = (&stage.api, Report::default());
    let id = |n: usize| format!("read-{n}");
    let fill = (0..args.jobs).map(|n| async move {
        load::register(api, &load::mocks(&id(n), args.count)).await?;
        load::wait_count(api, &id(n), LATE, load::Stage::Running, args.count).await
    });
    futures::stream::iter(fill).buffer_unordered(SUBMITTERS).try_for_each(|_| async { Ok(()) }).await?;
    let (nodes, _) = api.get::<Vec<Value>>("/v1/nodes", &Query::default()).await?;
    let node = nodes.first().and_then(|node| node["ID"].as_str()).context("a node")?.to_owned();
    let paged = || Query { per_page: 100, ..Query::default() };
    let filtered = || Query { filter: Some(format!("JobID == {:?}", id(0))), ..Query::default() };
    let stale = || Query { stale: true, ..Query::default() };
    let paths = [
        ("job", format!("/v1/job/{}", id(0)), Query::default()),
        ("job, stale", format!("/v1/job/{}", id(0)), stale()),
        ("allocations of a job", format!("/v1/job/{}/allocations", id(0)), Query::default()),
        ("allocations of a node", format!("/v1/node/{node}/allocations"), Query::default()),
        ("100 jobs", "/v1/jobs".to_owned(), paged()),
        ("100 allocations", "/v1/allocations".to_owned(), paged()),
        ("allocations by a filter", "/v1/allocations".to_owned(), filtered()),
        ("100 evaluations", "/v1/evaluations".to_owned(), paged()),
        ("all nodes", "/v1/nodes".to_owned(), Query::default()),
        ("all jobs", "/v1/jobs".to_owned(), Query::default()),
        ("all allocations", "/v1/allocations".to_owned(), Query::default()),
    ];
    for (name, path, query) in paths {
        measure(&stage, args, name, &path, &query, &mut report).await?;
    }
    blocking(&stage, args, &mut report).await?;
    Ok(report)
}

async fn read(api: &PublicClient, path: &str, query: &Query) -> anyhow::Result<usize> {
    Ok(api.send(Method::GET, path, query, None).await.with_context(|| path.to_owned())?.body.len())
}

/// One reader for the time, many for the rate.
async fn measure(
    stage: &Stage,
    args: &Args,
    name: &str,
    path: &str,
    query: &Query,
    report: &mut Report,
) -> anyhow::Result<()> {
    let within = Duration::from_millis(args.read_ms);
    let (mut times, began) = (Vec::new(), Instant::now());
    let mut bytes = 0;
    while began.elapsed() < within / 2 || times.is_empty() {
        let sent = Instant::now();
        bytes = read(&stage.api, path, query).await?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    let (count, began, usage) = (Arc::new(AtomicUsize::new(0)), Instant::now(), stage.usage());
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..args.readers {
        let (api, path, query, count) = (stage.api.clone(), path.to_owned(), query.clone(), Arc::clone(&count));
        readers.spawn(async move {
            while began.elapsed() < within {
                read(&api, &path, &query).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader??;
    }
    let (took, count) = (began.elapsed(), count.load(Ordering::Relaxed));
    let mut cost = Report::default();
    let noted = stage.note(&mut cost, "", &usage);
    report.add(format!("{name}: bytes"), bytes as f64, "");
    report.add(format!("{name}: one reader, p50"), quantile(&times, 0.5) * 1e3, "ms");
    report.add(format!("{name}: one reader, p99"), quantile(&times, 0.99) * 1e3, "ms");
    report.add(format!("{name}: {} readers", args.readers), per_second(count, took), "/s");
    if let Some(noted) = noted {
        report.add(format!("{name}: processor time of services"), noted.cpu_s * 1e6 / count.max(1) as f64, "µs");
    }
    Ok(())
}

/// Many blocking queries wait, each for a job of its own; then some of those jobs change.
async fn blocking(stage: &Stage, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let jobs = args.jobs;
    let (answered, mut answers) = mpsc::channel::<(usize, Instant)>(args.waiting);
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..args.waiting {
        let (api, answered) = (stage.api.clone(), answered.clone());
        readers.spawn(async move {
            let query = Query { wait: Some(WAIT), ..Query::default() };
            let mut reads = api.blocking::<Value>(format!("/v1/job/read-{}", n % jobs), query);
            loop {
                reads.next().await?;
                if answered.send((n, Instant::now())).await.is_err() {
                    return anyhow::Ok(());
                }
            }
        });
    }
    // The first answer of each comes at once.
    for _ in 0..args.waiting {
        tokio::time::timeout(LATE, answers.recv()).await.context("not all blocking queries were answered once")?;
    }
    let (usage, began) = (stage.usage(), Instant::now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut cost = Report::default();
    if let Some(noted) = stage.note(&mut cost, "", &usage) {
        let share = noted.cpu_s * 100.0 / began.elapsed().as_secs_f64();
        report.add(format!("{} blocking queries that wait: all services", args.waiting), share, "% of a core");
    }
    let mut times = Vec::new();
    for n in 0..args.waiting.min(jobs).min(100) {
        // Changed in place: no allocation is replaced.
        let mut job = load::mocks(&format!("read-{n}"), args.count);
        job["Job"]["Priority"] = 60.into();
        let sent = Instant::now();
        load::register(&stage.api, &job).await?;
        loop {
            let answer = tokio::time::timeout(LATE, answers.recv()).await.context("a blocking query was not woken")?;
            let (reader, at) = answer.context("all readers are gone")?;
            if reader % jobs == n && at >= sent {
                times.push(at - sent);
                break;
            }
        }
    }
    report.add_times("write to its blocking query answered, among the others", times);
    readers.shutdown().await;
    Ok(())
}
