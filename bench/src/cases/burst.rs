//! Many allocations at once: how fast they are placed and reported running, and how many plans get in each
//! other's way with 1, 2 and 4 schedulers.
//!
//! Clock: first request sent → blocking read answered that shows the last allocation. A reader goes from job
//! to job, so that reading costs the servers little.

use std::time::Duration;

use anyhow::Context as _;
use client::public::PublicClient;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cases::Ground;
use crate::cluster::Shape;
use crate::load::{self, Plans, Stage as How};
use crate::report::{Floor, Report, per_second};

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 100, value_parser = crate::count(100_000))]
    jobs: usize,
    /// Allocations of each job.
    #[arg(long, default_value_t = 100, value_parser = crate::count(100_000))]
    count: usize,
    /// Simulated nodes; each has room for 200 allocations.
    #[arg(long, default_value_t = 500, value_parser = crate::count(crate::fleet::NODES_MAX))]
    nodes: usize,
    /// Schedulers, round by round; each round has a cluster of its own.
    #[arg(long, default_value = "1,2,4", value_delimiter = ',', value_parser = crate::schedulers())]
    schedulers: Vec<u16>,
    /// Jobs that are sent at the same time.
    #[arg(long, default_value_t = 16, value_parser = crate::count(1_024))]
    submitters: usize,
    /// Longest time until everything runs, in seconds.
    #[arg(long, default_value_t = 300)]
    within: u64,
}

/// The shapes that floors are set for: jobs, allocations of each, nodes → placed/s, running/s, MiB of a service.
struct Floors {
    placed: Option<Floor>,
    running: Option<Floor>,
    memory: Option<Floor>,
}

impl Args {
    fn floors(&self) -> Floors {
        let (placed, running, memory) = match (self.jobs, self.count, self.nodes) {
            (100, 100, 500) => (Some(5_000.0), Some(3_000.0), None),
            (10, 1_000, _) => (Some(8_000.0), None, None),
            (1_000, 100, 1_000) => (None, None, Some(1e9 / f64::from(1 << 20))),
            _ => (None, None, None),
        };
        Floors {
            placed: placed.map(Floor::AtLeast),
            running: running.map(Floor::AtLeast),
            memory: memory.map(Floor::AtMost),
        }
    }
}

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    crate::fleet::has_room(args.nodes, args.jobs * args.count)?;
    let mut report = Report::default();
    let rounds = if ground.address.is_some() { &args.schedulers[..1] } else { &args.schedulers[..] };
    for schedulers in rounds {
        round(ground, args, *schedulers, &mut report).await?;
    }
    Ok(report)
}

async fn round(ground: &Ground, args: &Args, schedulers: u16, report: &mut Report) -> anyhow::Result<()> {
    let stage = ground.stage(Shape::of_nodes(args.nodes, schedulers)).await?;
    let api = &stage.api;
    let run = format!("burst-{}", std::process::id());
    let ids: Vec<String> = (0..args.jobs).map(|n| format!("{run}-{n}")).collect();
    let (usage, plans) = (stage.usage(), Plans::now(api).await?);
    let sent: Vec<watch::Sender<bool>> = ids.iter().map(|_| watch::Sender::new(false)).collect();
    let started = Instant::now();
    let submit = async {
        let jobs = ids.iter().zip(&sent).map(|(id, sent)| async move {
            load::register(api, &load::mocks(id, args.count)).await?;
            sent.send_replace(true);
            anyhow::Ok(())
        });
        futures::stream::iter(jobs).buffer_unordered(args.submitters).try_collect::<()>().await?;
        anyhow::Ok(started.elapsed())
    };
    let until = |how| all_are(api, &ids, &sent, how, args);
    let (submitted, placed, running) = tokio::try_join!(submit, until(How::Placed), until(How::Running))?;
    let now = Plans::now(api).await?;

    let (floors, allocs) = (args.floors(), args.jobs * args.count);
    let name = format!("{schedulers} schedulers:");
    report.add_for(format!("{name} placed"), per_second(allocs, placed - started), "allocs/s", floors.placed);
    report.add_for(format!("{name} running"), per_second(allocs, running - started), "allocs/s", floors.running);
    report.add(format!("{name} submitting took"), submitted.as_secs_f64(), "s");
    report.add(format!("{name} placing took"), (placed - started).as_secs_f64(), "s");
    report.add(format!("{name} until running took"), (running - started).as_secs_f64(), "s");
    let (submitted, conflicts) = (now.submitted - plans.submitted, now.conflicts - plans.conflicts);
    report.add(format!("{name} plans"), submitted, "");
    report.add(format!("{name} plans that did not pass whole"), conflicts * 100.0 / submitted.max(1.0), "%");
    let (mib, _) = usage.loopback_since();
    report.add(format!("{name} loopback per allocation"), mib * 1024.0 / allocs as f64, "KiB");
    if let Some(noted) = stage.note(report, &format!("{schedulers} schedulers"), &usage) {
        let per_alloc = noted.cpu_s * 1e6 / allocs as f64;
        report.add(format!("{name} processor time of services per allocation"), per_alloc, "µs");
        report.add_for(format!("{name} largest service, peak RSS"), noted.peak_rss_mib, "MiB", floors.memory);
    } else {
        load::purge_all(api, ids.into_iter()).await?;
    }
    Ok(())
}

async fn all_are(
    api: &PublicClient,
    ids: &[String],
    sent: &[watch::Sender<bool>],
    how: How,
    args: &Args,
) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + Duration::from_secs(args.within);
    let mut last = Instant::now();
    for (id, sent) in ids.iter().zip(sent) {
        let mut sent = sent.subscribe();
        tokio::time::timeout_at(deadline, sent.wait_for(|yes| *yes)).await.context("not all jobs were taken")??;
        let within = deadline.saturating_duration_since(Instant::now());
        last = load::wait_count(api, id, within, how, args.count).await?;
    }
    Ok(last)
}
