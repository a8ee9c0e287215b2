//! `steppe-bench`: load and latency of a running cluster, through its public API only, so that it runs
//! unchanged against any server of that API.

mod burst;
mod events;
mod fsync;
mod jobs;
mod latency;
mod memory;
mod plan;
mod report;

use clap::{Parser, Subcommand};
use client::public::{PublicClient, Settings};

#[derive(Parser)]
#[command(name = "steppe-bench", about = "Measure a running cluster through its public API")]
struct Args {
    /// Address of the API.
    #[arg(long, default_value = "http://127.0.0.1:4646", env = "NOMAD_ADDR")]
    address: String,
    /// One JSON object on stdout instead of a table.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    case: Case,
}

#[derive(Subcommand)]
enum Case {
    /// Many one-alloc jobs at once: placed jobs per second, and time from request to answered blocking read.
    Burst(burst::Args),
    /// One job at a time on an idle cluster: submit to placed, and with `--run` submit to running.
    Latency(latency::Args),
    /// Readers of the event stream while much happens: whether each gets everything, once and in order.
    Events(events::Args),
    /// `job plan` of a job of many groups: new, unchanged, and changed in every group.
    Plan(plan::Args),
    /// Memory of the cluster's processes (PSS), as they are now.
    Memory(memory::Args),
    /// What the disk can do: appends of 4 KiB with fdatasync, one after the other.
    Fsync(fsync::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let api = PublicClient::new(Settings { address: args.address, ..Settings::default() })?;
    let report = match args.case {
        Case::Burst(burst) => burst::run(&api, &burst).await?,
        Case::Latency(latency) => latency::run(&api, &latency).await?,
        Case::Events(events) => events::run(&api, &events).await?,
        Case::Plan(plan) => plan::run(&api, &plan).await?,
        Case::Memory(memory) => memory::run(&memory)?,
        Case::Fsync(fsync) => fsync::run(&fsync)?,
    };
    report.print(args.json);
    Ok(())
}
