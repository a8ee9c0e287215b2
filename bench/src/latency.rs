//! One job at a time on an idle cluster.

use std::time::Duration;

use client::public::PublicClient;
use tokio::time::Instant;

use crate::jobs;
use crate::report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Jobs, one after the other.
    #[arg(long, default_value_t = 200)]
    jobs: usize,
    /// Wait until a `raw_exec` task runs, too.
    #[arg(long)]
    run: bool,
    /// Wait until a container of this image runs, which every node has under a fixed tag.
    #[arg(long, value_name = "IMAGE")]
    docker: Option<String>,
    /// Pause between jobs, in milliseconds.
    #[arg(long, default_value_t = 50)]
    pause_ms: u64,
}

pub async fn run(api: &PublicClient, args: &Args) -> anyhow::Result<Report> {
    let (mut placed, mut running) = (Vec::new(), Vec::new());
    let runs = args.run || args.docker.is_some();
    let within = Duration::from_secs(30);
    for n in 0..args.jobs {
        let id = format!("latency-{}-{n}", std::process::id());
        let job = match &args.docker {
            Some(image) => jobs::docker(&id, image),
            None if args.run => jobs::raw_exec(&id),
            None => jobs::mock(&id),
        };
        let sent = Instant::now();
        jobs::register(api, &job).await?;
        placed.push(jobs::wait(api, &id, within, jobs::is_placed).await? - sent);
        if runs {
            running.push(jobs::wait(api, &id, within, jobs::is_running).await? - sent);
        }
        jobs::purge(api, &id).await?;
        tokio::time::sleep(Duration::from_millis(args.pause_ms)).await;
    }
    let mut report = Report::default();
    report.add_times("submit to placed", placed);
    if runs {
        report.add_times("submit to running", running);
    }
    Ok(report)
}
