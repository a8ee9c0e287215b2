//! `steppe-bench`: load, latency and memory of a cluster with simulated nodes.
//!
//! ```text
//!   case ─► ceilings ─► cluster and fleet ─► load through the public API ─► what it cost ─► ceilings ─► report
//!   up, down: a cluster and a fleet for somebody else's measurements
//! ```
//!
//! Loads and times go through the public API only, so that with `--address` a case runs unchanged against any
//! server of that API.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cases;
mod cluster;
mod fleet;
mod load;
mod machine;
mod report;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use cli::local::process::Tie;
use kit::process::Shutdown;

use crate::cases::Ground;
use crate::cluster::{AGENTS_MAX, Cluster, Place, SCHEDULERS_MAX, Shape};
use crate::machine::{Ceilings, Machine};
use crate::report::Report;

/// As the `steppe` program: simulated nodes cost what agents cost.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "steppe-bench", about = "Measure a cluster: start what a case needs, load it, and say what it cost")]
struct Args {
    /// One JSON object as the last line.
    #[arg(long, global = true)]
    json: bool,
    /// Measure the cluster with this API instead of one of the program's own.
    #[arg(long, global = true, value_name = "URL")]
    address: Option<String>,
    /// Directory of the program's own cluster, on the disk that is to be measured.
    #[arg(long, global = true, value_name = "DIR", env = "STEPPE_BENCH_DATA", default_value = ".steppe-bench")]
    data_dir: PathBuf,
    /// First port of the program's own cluster.
    #[arg(long, global = true, value_name = "PORT", env = "STEPPE_BENCH_PORT", default_value_t = 14_646,
        value_parser = clap::value_parser!(u16).range(1_024..=65_000))]
    port: u16,
    /// The `steppe` program; the one beside this program unless given.
    #[arg(long, global = true, value_name = "FILE")]
    program: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    #[command(flatten)]
    Case(Case),
    /// Start a cluster with simulated nodes, leave it running, and print its address.
    Up(Up),
    /// End what `up` has started, and remove it.
    Down,
    /// The simulated nodes of a cluster; started by the other commands.
    #[command(hide = true)]
    Fleet(fleet::Args),
}

#[derive(Subcommand)]
enum Case {
    /// One-alloc jobs in a closed loop: jobs placed per second, and time from submit to placed.
    Jobs(cases::jobs::Args),
    /// Many allocations at once: placed and running per second, and conflicts with 1, 2 and 4 schedulers.
    Burst(cases::burst::Args),
    /// One job at a time on an idle cluster with real agents: submit to placed, submit to running.
    Idle(cases::idle::Args),
    /// Nodes that only beat: processor time of each service.
    Nodes(cases::nodes::Args),
    /// What lists, rows and blocking queries cost.
    Read(cases::read::Args),
    /// The raft leader is killed: time until the next write is accepted.
    Failover(cases::failover::Args),
    /// Readers of the event stream while much happens: whether each gets everything, once and in order.
    Events(cases::events::Args),
    /// `job plan` of a job of many groups: new, unchanged, and changed in every group.
    Plan(cases::plan::Args),
}

impl Case {
    fn name(&self) -> &'static str {
        match self {
            Self::Jobs(_) => "jobs",
            Self::Burst(_) => "burst",
            Self::Idle(_) => "idle",
            Self::Nodes(_) => "nodes",
            Self::Read(_) => "read",
            Self::Failover(_) => "failover",
            Self::Events(_) => "events",
            Self::Plan(_) => "plan",
        }
    }

    async fn run(&self, ground: &Ground) -> anyhow::Result<Report> {
        match self {
            Self::Jobs(args) => cases::jobs::run(ground, args).await,
            Self::Burst(args) => cases::burst::run(ground, args).await,
            Self::Idle(args) => cases::idle::run(ground, args).await,
            Self::Nodes(args) => cases::nodes::run(ground, args).await,
            Self::Read(args) => cases::read::run(ground, args).await,
            Self::Failover(args) => cases::failover::run(ground, args).await,
            Self::Events(args) => cases::events::run(ground, args).await,
            Self::Plan(args) => cases::plan::run(ground, args).await,
        }
    }
}

#[derive(clap::Args)]
struct Up {
    /// Simulated nodes.
    #[arg(long, value_parser = count(fleet::NODES_MAX))]
    nodes: usize,
    #[arg(long, default_value_t = 2, value_parser = schedulers())]
    schedulers: u16,
}

/// A number that is not nought.
fn count(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

fn schedulers() -> RangedU64ValueParser<u16> {
    RangedU64ValueParser::new().range(1..=u64::from(SCHEDULERS_MAX))
}

fn agents() -> RangedU64ValueParser<u16> {
    RangedU64ValueParser::new().range(1..=u64::from(AGENTS_MAX))
}

impl Args {
    fn place(&self) -> anyhow::Result<Place> {
        let beside = || anyhow::Ok(std::env::current_exe().context("finding this program")?.with_file_name("steppe"));
        let program = self.program.clone().map_or_else(beside, Ok)?;
        // Processes that go on are found by it from elsewhere, too.
        let dir = std::path::absolute(&self.data_dir).context("the data directory")?;
        Ok(Place { dir, port: self.port, program })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.what {
        // It has a runtime of its own kind.
        What::Fleet(fleet) => fleet::run(fleet).map(|()| ExitCode::SUCCESS),
        _ => tokio::runtime::Runtime::new().context("starting").and_then(|runtime| runtime.block_on(run(&args))),
    };
    done.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let place = args.place()?;
    let shutdown = Shutdown::on_signals()?;
    let work = async {
        match &args.what {
            What::Case(case) => measure(args, case, place).await,
            What::Up(up) => start(up, &place).await,
            What::Down => {
                let was_there = place.down()?;
                println!("{}", if was_there { "ended, and removed" } else { "nothing was running" });
                Ok(())
            }
            What::Fleet(_) => Ok(()),
        }
    };
    match shutdown.or(work).await {
        Some(done) => done.map(|()| ExitCode::SUCCESS),
        // What was started has been ended with the work.
        None => Ok(ExitCode::from(130)),
    }
}

async fn start(up: &Up, place: &Place) -> anyhow::Result<()> {
    let cluster = Cluster::start(place, Shape::of_nodes(up.nodes, up.schedulers), Tie::Loose).await?;
    println!("{}", cluster.address());
    eprintln!("{} simulated nodes are ready; `./scripts/bench down` ends them and the cluster", up.nodes);
    cluster.leave();
    Ok(())
}

async fn measure(args: &Args, case: &Case, place: Place) -> anyhow::Result<()> {
    let ground = Ground { place, address: args.address.clone() };
    let machine = Machine::look();
    let disk = ground.disk()?.to_owned();
    let ceilings = || {
        let disk = disk.clone();
        async {
            let measured = tokio::task::spawn_blocking(move || Ceilings::measure(&disk)).await?;
            measured.context("measuring what the machine can do")
        }
    };
    let before = ceilings().await?;
    let report = case.run(&ground).await?;
    report.print(case.name(), &machine, &[before, ceilings().await?], args.json);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        Args::command().debug_assert();
    }

    #[test]
    fn nonsense_is_refused() {
        let parse = |words: &[&str]| Args::try_parse_from([&["steppe-bench"], words].concat());
        for words in [
            &["up"][..],
            &["up", "--nodes", "0"],
            &["up", "--nodes", "99999"],
            &["jobs", "--submitters", "0"],
            &["burst", "--schedulers", "1,99"],
            &["idle", "--agents", "many"],
            &["--port", "80", "down"],
            &["nodes", "--beat", "0"],
            &["marathon"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        assert!(parse(&["jobs", "--json", "--submitters", "1,2"]).is_ok());
    }
}
