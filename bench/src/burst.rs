//! Many one-alloc jobs at once.
//!
//! Clock: request sent → blocking read answered, per job; throughput: first request → last answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::public::PublicClient;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use crate::jobs;
use crate::report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Jobs in all.
    #[arg(long, default_value_t = 2000)]
    jobs: usize,
    /// Jobs on their way at once.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Leave the jobs running.
    #[arg(long)]
    keep: bool,
}

pub async fn run(api: &PublicClient, args: &Args) -> anyhow::Result<Report> {
    let run = format!("burst-{}", std::process::id());
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..args.concurrency.max(1) {
        let (api, next, run, count) = (api.clone(), next.clone(), run.clone(), args.jobs);
        workers.push(tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return anyhow::Ok(times);
                }
                let id = format!("{run}-{n}");
                let sent = Instant::now();
                jobs::register(&api, &jobs::mock(&id)).await?;
                let placed = jobs::wait(&api, &id, Duration::from_secs(60), jobs::is_placed).await?;
                times.push(placed - sent);
            }
        }));
    }
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let took = started.elapsed();
    let mut report = Report::default();
    report.add("jobs", times.len() as f64, "jobs");
    report.add("placed", times.len() as f64 / took.as_secs_f64(), "jobs/s");
    report.add_times("submit to placed", times);
    if !args.keep {
        // A few at a time: the API limits the connections of one address.
        let ids = (0..args.jobs).map(|n| format!("{run}-{n}"));
        futures::stream::iter(ids)
            .map(|id| async move { jobs::purge(api, &id).await })
            .buffer_unordered(32)
            .try_collect::<()>()
            .await?;
    }
    Ok(report)
}
