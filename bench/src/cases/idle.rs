//! One job at a time on an idle cluster with real agents: submit → placed, submit → running.

use std::time::Duration;

use tokio::time::Instant;

use crate::cases::Ground;
use crate::cluster::Shape;
use crate::load;
use crate::report::Report;

const LATE: Duration = Duration::from_secs(30);
const WARM_UP: usize = 5;

#[derive(clap::Args)]
pub struct Args {
    /// Jobs, one after the other.
    #[arg(long, default_value_t = 200, value_parser = crate::count(100_000))]
    jobs: usize,
    /// Containers of this image, which every node has under a fixed tag, instead of `raw_exec` tasks.
    #[arg(long, value_name = "IMAGE")]
    docker: Option<String>,
    /// Pause between jobs, in milliseconds.
    #[arg(long, default_value_t = 50)]
    pause_ms: u64,
    /// Nodes with agents of their own.
    #[arg(long, default_value_t = 2, value_parser = crate::agents())]
    agents: u16,
}

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    let stage = ground.stage(Shape { nodes: 0, agents: args.agents, schedulers: 2, beat: None }).await?;
    let (api, mut report) = (&stage.api, Report::default());
    let before = stage.usage();
    stage.note(&mut report, "before the first job", &before);
    let (mut placed, mut running) = (Vec::new(), Vec::new());
    for n in 0..args.jobs + WARM_UP {
        let id = format!("idle-{}-{n}", std::process::id());
        let job = match &args.docker {
            Some(image) => load::docker(&id, image),
            None => load::raw_exec(&id),
        };
        let sent = Instant::now();
        load::register(api, &job).await?;
        let times = (
            load::wait(api, &id, LATE, load::is_placed).await? - sent,
            load::wait(api, &id, LATE, load::is_running).await? - sent,
        );
        if n >= WARM_UP {
            placed.push(times.0);
            running.push(times.1);
        }
        if n + 1 == args.jobs + WARM_UP {
            stage.note(&mut report, "with the last job running", &before);
        }
        load::purge(api, &id).await?;
        tokio::time::sleep(Duration::from_millis(args.pause_ms)).await;
    }
    report.add_times_for("submit to placed", placed, &[("p50", 8.0), ("p99", 40.0)]);
    let floor = if args.docker.is_some() { 600.0 } else { 80.0 };
    report.add_times_for("submit to running", running, &[("p99", floor)]);
    Ok(report)
}
