//! How long does `job plan` take for a job of many groups: for a new job, for one that runs and is asked for again, and
//! for one whose every group changes?

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::public::{PublicClient, Query};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cases::Ground;
use crate::cluster::Shape;
use crate::load;
use crate::report::Report;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 100)]
    groups: usize,
    /// Plans of each kind, one after the other.
    #[arg(long, default_value_t = 50)]
    plans: usize,
}

const WITHIN: Duration = Duration::from_secs(60);

/// For 100 groups, each of the three kinds.
const FLOOR: &[(&str, f64)] = &[("p99", 50.0)];

pub async fn run(ground: &Ground, args: &Args) -> anyhow::Result<Report> {
    let stage = ground.stage(Shape::of_nodes(10, 2)).await?;
    let (api, floor) = (&stage.api, if args.groups == 100 { FLOOR } else { &[] });
    let id = format!("plan-{}", std::process::id());
    let mut report = Report::default();
    let first = many(&id, args.groups, "1h");
    report.add_times_for("plan of a new job", times(api, &id, &first, args, "place").await?, floor);
    load::register(api, &first).await?;
    let all_placed = |allocs: &[Value]| allocs.len() == args.groups;
    load::wait_all(api, &id, WITHIN, all_placed).await?;
    report.add_times_for("plan of the same job", times(api, &id, &first, args, "ignore").await?, floor);
    let changed = many(&id, args.groups, "2h");
    let took = times(api, &id, &changed, args, "destructive").await?;
    report.add_times_for("plan of a change in every group", took, floor);
    load::purge(api, &id).await?;
    Ok(report)
}

/// Every plan says that one allocation of every group is `wished`.
async fn times(api: &PublicClient, id: &str, job: &Value, args: &Args, wished: &str) -> anyhow::Result<Vec<Duration>> {
    let path = format!("/v1/job/{id}/plan");
    let body = json!({"Job": job["Job"], "Diff": true});
    let mut times = Vec::new();
    for _ in 0..args.plans {
        let sent = Instant::now();
        let (plan, _): (Value, _) = api.put(&path, &Query::default(), &body).await.context("plan")?;
        times.push(sent.elapsed());
        let groups = plan["Annotations"]["DesiredTGUpdates"].as_object().context("a plan without annotations")?;
        let field = |group: &Value| -> u64 {
            let name = match wished {
                "place" => "Place",
                "ignore" => "Ignore",
                _ => "DestructiveUpdate",
            };
            group[name].as_u64().unwrap_or(0)
        };
        let of = groups.values().filter(|group| field(group) == 1).count();
        ensure!(of == args.groups, "{of} of {} groups {wished}: {:?}", args.groups, plan["FailedTGAllocs"]);
    }
    Ok(times)
}

fn many(id: &str, groups: usize, run_for: &str) -> Value {
    let mut job = load::job(id, "mock_driver", json!({"run_for": run_for}));
    let group = job["Job"]["TaskGroups"][0].clone();
    let named = |n| {
        let mut group = group.clone();
        group["Name"] = format!("g{n}").into();
        group
    };
    job["Job"]["TaskGroups"] = (0..groups).map(named).collect();
    job
}
