//! The leader's process is killed, from the outside.
#![allow(clippy::unwrap_used)]

use e2e::cluster::Cluster;
use serde_json::{Value, json};

fn leader(configuration: &Value) -> Option<String> {
    let servers = configuration["Servers"].as_array()?;
    let leader = servers.iter().find(|s| s["Leader"] == true)?;
    // `name.region`
    leader["Node"].as_str()?.split('.').next().map(str::to_owned)
}

#[tokio::test]
async fn followers_of_a_killed_leader_campaign_because_its_process_is_gone() {
    const CONFIGURATION: &str = "/v1/operator/raft/configuration";
    const GONE: &str = "the leader's process is gone, asking for an election";
    let cluster = Cluster::start();
    let names: Vec<String> = (1..=3).map(|n| format!("state-{n}")).collect();
    let old = leader(&cluster.get(CONFIGURATION).await).unwrap();
    assert!(names.iter().all(|name| !cluster.log(name).contains(GONE)), "nobody suspects a sound leader");
    cluster.kill(&old);
    let now = cluster.until(CONFIGURATION, "another server leads", |v| leader(v).is_some_and(|new| new != old)).await;
    let asked: Vec<&String> = names.iter().filter(|name| cluster.log(name).contains(GONE)).collect();
    let others: Vec<&String> = names.iter().filter(|name| **name != old).collect();
    assert_eq!(asked, others, "both have seen it go, before any election timer; {now}");
    let job = json!({"Job": {"ID": "after", "Datacenters": ["*"], "TaskGroups": [
        {"Name": "g", "Count": 1, "Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": {"run_for": "100ms"}}]}]}});
    cluster.put("/v1/jobs", &job).await.unwrap();
}
