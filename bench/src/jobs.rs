//! Jobs to measure with, and waiting for what becomes of them by blocking reads.

use std::time::Duration;

use anyhow::Context as _;
use client::public::{PublicClient, Query};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A job with one allocation of one small task.
pub fn job(id: &str, driver: &str, config: Value) -> Value {
    json!({"Job": {
        "ID": id, "Name": id, "Type": "service", "Datacenters": ["*"],
        "TaskGroups": [{
            "Name": "g", "Count": 1, "EphemeralDisk": {"SizeMB": 10},
            "Update": {"MaxParallel": 0},
            "Tasks": [{
                "Name": "t", "Driver": driver, "Config": config,
                "Resources": {"CPU": 1, "MemoryMB": 10},
                "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
            }],
        }],
    }})
}

/// Runs in memory of the agent for a long time.
pub fn mock(id: &str) -> Value {
    job(id, "mock_driver", json!({"run_for": "1h"}))
}

/// A real process.
pub fn raw_exec(id: &str) -> Value {
    job(id, "raw_exec", json!({"command": "/bin/sleep", "args": ["3600"]}))
}

/// A container of an image that is on the nodes.
pub fn docker(id: &str, image: &str) -> Value {
    job(id, "docker", json!({"image": image, "command": "/bin/sleep", "args": ["3600"]}))
}

pub async fn register(api: &PublicClient, job: &Value) -> anyhow::Result<()> {
    let _: (Value, _) = api.put("/v1/jobs", &Query::default(), job).await.context("register")?;
    Ok(())
}

pub async fn purge(api: &PublicClient, id: &str) -> anyhow::Result<()> {
    let query = Query::default().with("purge", "true");
    let _: (Value, _) = api.delete(&format!("/v1/job/{id}"), &query).await.context("purge")?;
    Ok(())
}

/// Waits by blocking reads until the job has an allocation for which `wanted` holds.
pub async fn wait(
    api: &PublicClient,
    id: &str,
    within: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<Instant> {
    wait_all(api, id, within, |allocs| allocs.iter().any(&wanted)).await
}

/// Waits until the job's allocations are as `wanted` says.
pub async fn wait_all(
    api: &PublicClient,
    id: &str,
    within: Duration,
    wanted: impl Fn(&[Value]) -> bool,
) -> anyhow::Result<Instant> {
    let path = format!("/v1/job/{id}/allocations");
    let mut reads = api.blocking::<Vec<Value>>(path, Query { index: 1, ..Query::default() });
    let look = async {
        loop {
            let (allocs, _) = reads.next().await?;
            if wanted(&allocs) {
                return anyhow::Ok(Instant::now());
            }
        }
    };
    tokio::time::timeout(within, look).await.with_context(|| format!("job {id} did not get there in time"))?
}

pub fn is_placed(_: &Value) -> bool {
    true
}

pub fn is_running(alloc: &Value) -> bool {
    alloc["ClientStatus"] == "running"
}
