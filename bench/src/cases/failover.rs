//! The raft leader is killed: how long until the next write is accepted?
//!
//! Clock: the kill → the answer to a client that tries again at once.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::public::{PublicClient, Query, Settings};
use serde_json::Value;
use tokio::time::Instant;

use crate::cases::Ground;
use crate::cluster::Shape;
use crate::load;
use crate::report::{Floor, Report, quantile};

const LATE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);
const LOOK: Duration = Duration::from_millis(50);
/// For one try: who hangs is asked again.
const TRY: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Args {
    /// Leaders killed, one after the other.
    #[arg(long, default_value_t = 20, value_parser = crate::count(1_000))]
    kills: usize,
    /// Simulated nodes.
    #[arg(long, default_value_t = 10, value_parser = crate::count(crate::fleet::NODES_MAX))]
    nodes: usize,
}

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    ground.must_be_ours("failover")?;
    let mut stage = ground.stage(Shape::of_nodes(args.nodes, 2)).await?;
    let (mut report, before) = (Report::default(), stage.usage());
    let cluster = stage.cluster.as_mut().context("a cluster of ours")?;
    let api = PublicClient::new(Settings { address: cluster.address(), timeout: TRY, ..Settings::default() })?;
    let (mut written, mut placed) = (Vec::new(), Vec::new());
    for n in 0..args.kills {
        let leader = calm(&api).await?;
        let id = format!("failover-{}-{n}", std::process::id());
        cluster.kill(&leader)?;
        let killed = Instant::now();
        let job = load::mock(&id);
        while let Err(error) = api.put::<_, Value>("/v1/jobs", &Query::default(), &job).await {
            ensure!(killed.elapsed() < LATE, "no write was accepted in time: {error}");
            tokio::time::sleep(PAUSE).await;
        }
        written.push(killed.elapsed());
        placed.push(load::wait(&api, &id, LATE, load::is_placed).await? - killed);
        cluster.spawn(&leader)?;
    }
    calm(&api).await?;
    stage.note(&mut report, &format!("{} kills", args.kills), &before);
    written.sort_unstable();
    let floor = |ms| (args.kills >= 20).then_some(Floor::AtMost(ms));
    report.add_for("leader killed to write accepted, median", quantile(&written, 0.5) * 1e3, "ms", floor(1e3));
    report.add("leader killed to write accepted, p90", quantile(&written, 0.9) * 1e3, "ms");
    report.add_for("leader killed to write accepted, most", quantile(&written, 1.0) * 1e3, "ms", floor(2e3));
    report.add_times("leader killed to its job placed", placed);
    let jobs: (Vec<Value>, _) = api.get("/v1/jobs", &Query::default()).await?;
    ensure!(jobs.0.len() == args.kills, "{} jobs were accepted, and {} are there", args.kills, jobs.0.len());
    Ok(report)
}

/// Waits until the group can afford to lose its leader; the leader's name.
async fn calm(api: &PublicClient) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        if let Some(leader) = leader_of_whole(api).await {
            return Ok(leader);
        }
        ensure!(began.elapsed() < LATE, "the state servers do not come together again");
        tokio::time::sleep(LOOK).await;
    }
}

async fn leader_of_whole(api: &PublicClient) -> Option<String> {
    let (health, _) = api.get::<Value>("/v1/operator/autopilot/health", &Query::default()).await.ok()?;
    let servers = health["Servers"].as_array().filter(|_| health["FailureTolerance"] == 1)?;
    let leader = servers.iter().find(|server| server["Leader"] == true)?;
    let name = leader["Name"].as_str()?;
    // `state-1.global`, say.
    Some(name.split('.').next()?.to_owned())
}
