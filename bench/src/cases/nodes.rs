//! What nodes cost that only beat.

use std::time::Duration;

use tokio::time::Instant;

use crate::cases::Ground;
use crate::cluster::Shape;
use crate::report::{Floor, Report};

#[derive(clap::Args)]
pub struct Args {
    /// Simulated nodes.
    #[arg(long, default_value_t = 5_000, value_parser = crate::count(crate::fleet::NODES_MAX))]
    nodes: usize,
    /// Period of a node's beats, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    beat: u64,
    /// How long it is measured, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
}

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    ground.must_be_ours("nodes")?;
    let began = Instant::now();
    let beat = Duration::from_secs(args.beat);
    let stage = ground.stage(Shape { nodes: args.nodes, agents: 0, schedulers: 2, beat: Some(beat) }).await?;
    let mut report = Report::default();
    report.add("until all are ready", began.elapsed().as_secs_f64(), "s");
    // Every node has learnt the period that so many nodes have, and nothing is left of their coming.
    tokio::time::sleep(beat * 2).await;
    let (usage, measured) = (stage.usage(), Instant::now());
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let seconds = measured.elapsed().as_secs_f64();
    let (mib, packets) = usage.loopback_since();
    if let Some(noted) = stage.note(&mut report, &format!("{seconds:.1} s of beats"), &usage) {
        let floor = (args.nodes == 5_000 && args.beat == 5).then_some(Floor::AtMost(30.0));
        report.add_for("processor time of all services", noted.cpu_s * 100.0 / seconds, "% of a core", floor);
        let beats = args.nodes as f64 * seconds / args.beat as f64;
        report.add("processor time of services per beat", noted.cpu_s * 1e6 / beats, "µs");
        report.add("loopback per beat", mib * 1024.0 / beats, "KiB");
        report.add("loopback per beat, packets", packets / beats, "");
    }
    Ok(report)
}
