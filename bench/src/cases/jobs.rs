//! One-alloc jobs in a closed loop: each submitter sends its next job when its last one is placed.
//!
//! Clock: request sent → blocking read answered, per job; throughput: first request → last answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::public::PublicClient;
use tokio::time::Instant;

use crate::cases::Ground;
use crate::cluster::Shape;
use crate::load;
use crate::report::{Floor, Report, per_second};

const LATE: Duration = Duration::from_secs(60);
const WARM_UP: usize = 64;
/// The number of submitters that floors are set for.
const FLOORS_FOR: [usize; 2] = [32, 128];

#[derive(clap::Args)]
pub struct Args {
    /// Jobs of each round.
    #[arg(long, default_value_t = 4_000, value_parser = crate::count(1_000_000))]
    jobs: usize,
    /// Jobs on their way at once, round by round.
    #[arg(long, default_value = "32,128", value_delimiter = ',', value_parser = crate::count(4_096))]
    submitters: Vec<usize>,
    /// Simulated nodes.
    #[arg(long, default_value_t = 100, value_parser = crate::count(crate::fleet::NODES_MAX))]
    nodes: usize,
    #[arg(long, default_value_t = 2, value_parser = crate::schedulers())]
    schedulers: u16,
}

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    let stage = ground.stage(Shape::of_nodes(args.nodes, args.schedulers)).await?;
    let run = format!("jobs-{}", std::process::id());
    let mut report = Report::default();
    round(&stage.api, &format!("{run}-warm"), WARM_UP.min(args.jobs), 8).await?;
    for submitters in &args.submitters {
        let before = stage.usage();
        let (times, took) = round(&stage.api, &format!("{run}-{submitters}"), args.jobs, *submitters).await?;
        let has_floor = FLOORS_FOR.contains(submitters);
        let rate = per_second(times.len(), took);
        let name = format!("{submitters} submitters:");
        report.add_for(format!("{name} jobs"), rate, "jobs/s", has_floor.then_some(Floor::AtLeast(700.0)));
        let floors: &[_] = if has_floor { &[("p99", 500.0)] } else { &[] };
        let (mib, packets) = before.loopback_since();
        report.add_times_for(&format!("{name} submit to placed"), times, floors);
        report.add(format!("{name} loopback per job"), mib * 1024.0 / args.jobs as f64, "KiB");
        report.add(format!("{name} loopback per job, packets"), packets / args.jobs as f64, "");
        if let Some(noted) = stage.note(&mut report, &format!("{submitters} submitters"), &before) {
            let name = format!("{name} processor time of services per job");
            report.add(name, noted.cpu_s * 1e3 / args.jobs as f64, "ms");
        }
    }
    if stage.cluster.is_none() {
        let rounds = args.submitters.iter().map(|submitters| (format!("{run}-{submitters}"), args.jobs));
        let rounds = rounds.chain([(format!("{run}-warm"), WARM_UP.min(args.jobs))]);
        let ids = rounds.flat_map(|(round, jobs)| (0..jobs).map(move |n| format!("{round}-{n}")));
        load::purge_all(&stage.api, ids).await?;
    }
    Ok(report)
}

async fn round(
    api: &PublicClient,
    run: &str,
    jobs: usize,
    submitters: usize,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..submitters {
        let (api, next, run) = (api.clone(), next.clone(), run.to_owned());
        workers.spawn(async move {
            let mut times = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= jobs {
                    return anyhow::Ok(times);
                }
                let id = format!("{run}-{n}");
                let sent = Instant::now();
                load::register(&api, &load::mock(&id)).await?;
                times.push(load::wait(&api, &id, LATE, load::is_placed).await? - sent);
            }
        });
    }
    let mut times = Vec::new();
    while let Some(worker) = workers.join_next().await {
        times.extend(worker??);
    }
    Ok((times, started.elapsed()))
}
