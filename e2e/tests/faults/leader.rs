//! Whoever leads is killed: how long until the next write, and is anybody overlooked meanwhile?

use std::time::{Duration, Instant};

use client::public::Query;
use e2e::fleet::{Fleet, Shape, ready_nodes, sleeping_job};
use e2e::load::{Chance, is_long};
use model::Role;
use serde_json::Value;

/// Three periods of a node's beat, and no less.
const TTL: Duration = Duration::from_secs(5);

/// Writes until a write is accepted, as a client does that tries again at once; how long it took.
async fn next_write(fleet: &Fleet, id: &str) -> Duration {
    let (began, api, job) = (Instant::now(), fleet.api(0), sleeping_job(id, 0));
    loop {
        let sent: Result<(Value, _), _> = api.put("/v1/jobs", &Query::default(), &job).await;
        match sent {
            Ok(_) => return began.elapsed(),
            Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}\n{}", fleet.complaints()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// leader-003
#[tokio::test]
async fn the_next_write_after_the_leader_was_killed_is_accepted_within_a_second_or_two() {
    let mut fleet = Fleet::start(Shape::SMALL).await;
    let mut took = Vec::new();
    for n in 0..if is_long() { 20 } else { 5 } {
        let leader = fleet.leader().await;
        fleet.kill(&leader);
        took.push(next_write(&fleet, &format!("after-{n}")).await);
        fleet.spawn(&leader);
        // The next one meets a group that can afford it, and whose members know each other.
        let well = |v: &Value| v["FailureTolerance"] == 1;
        fleet.until("/v1/operator/autopilot/health", "all three are well", well).await;
    }
    let mut sorted = took.clone();
    sorted.sort();
    let (median, most) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    println!("leader killed → next write accepted: median {median:?}, most {most:?} of {took:?}");
    assert!(median < Duration::from_secs(1), "median {median:?} of {took:?}");
    assert!(most <= Duration::from_secs(2), "{most:?} of {took:?}");
    let jobs = fleet.until("/v1/jobs", "the jobs", Value::is_array).await;
    assert_eq!(jobs.as_array().unwrap().len(), took.len(), "each that was accepted is there");
}

/// heartbeat-001, heartbeat-004: a new leader gives nodes a period of grace, no minutes.
#[tokio::test]
async fn agents_killed_just_after_a_change_of_leaders_are_all_noticed_within_their_time_to_live() {
    let mut chance = Chance::new("a third of the agents");
    let mut fleet = Fleet::start(Shape { agents: 6, ..Shape::SMALL }).await;
    let leader = fleet.leader().await;
    fleet.kill(&leader);
    let killed = Instant::now();
    fleet.spawn(&leader);
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(killed.elapsed())).await;
    let mut agents = fleet.of(Role::Agent);
    for _ in 0..2 {
        let agent = agents.remove(chance.below(agents.len()));
        println!("{agent} dies");
        fleet.kill(&agent);
    }
    let died = Instant::now();
    let down = |v: &Value| v.as_array().is_some_and(|all| all.iter().filter(|n| n["Status"] == "down").count() == 2);
    let within = TTL + Duration::from_secs(2);
    let (nodes, _) = fleet.until_within(within, "/v1/nodes", "both are down", down).await;
    println!("both were down {:?} after their death", died.elapsed());
    assert_eq!(ready_nodes(&nodes), 4, "and none of the others: {nodes:#}");
}
