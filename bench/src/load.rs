//! Jobs to measure with, and waiting for what becomes of them by blocking reads: the time of an answer is the
//! time of what it tells.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use client::public::{PublicClient, PublicError, Query};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// MHz and MiB of one task: a simulated node has room for 200.
const TASK_CPU_MHZ: i64 = crate::fleet::NODE_CPU_MHZ / 200;
const TASK_MEMORY_MIB: i64 = 64;
/// How long an API may have too much to do.
const BUSY_MAX: Duration = Duration::from_secs(120);
const BUSY_PAUSE: Duration = Duration::from_millis(50);
const GROUP: &str = "g";

/// A job with one allocation of one small task.
pub fn job(id: &str, driver: &str, config: Value) -> Value {
    json!({"Job": {
        "ID": id, "Name": id, "Type": "service", "Datacenters": ["*"],
        "TaskGroups": [{
            "Name": GROUP, "Count": 1, "EphemeralDisk": {"SizeMB": 10},
            "Update": {"MaxParallel": 0},
            "Tasks": [{
                "Name": "t", "Driver": driver, "Config": config,
                "Resources": {"CPU": TASK_CPU_MHZ, "MemoryMB": TASK_MEMORY_MIB},
                "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
            }],
        }],
    }})
}

/// Runs in memory of the agent for a long time.
pub fn mock(id: &str) -> Value {
    job(id, "mock_driver", json!({"run_for": "1h"}))
}

/// The same with many allocations.
pub fn mocks(id: &str, count: usize) -> Value {
    let mut job = mock(id);
    job["Job"]["TaskGroups"][0]["Count"] = count.into();
    job
}

/// A real process.
pub fn raw_exec(id: &str) -> Value {
    job(id, "raw_exec", json!({"command": "/bin/sleep", "args": ["3600"]}))
}

/// A container of an image that is on the nodes.
pub fn docker(id: &str, image: &str) -> Value {
    job(id, "docker", json!({"image": image, "command": "/bin/sleep", "args": ["3600"]}))
}

/// Asks again while the API says that it has too much to do, or does not know in time, as clients do: that takes time
/// and is no failure, and the same job registered twice is one.
pub async fn register(api: &PublicClient, job: &Value) -> anyhow::Result<()> {
    let query = Query::default();
    patient(|| api.put::<_, Value>("/v1/jobs", &query, job)).await.context("register")?;
    Ok(())
}

async fn patient<T, F>(mut ask: impl FnMut() -> F) -> Result<T, PublicError>
where
    F: Future<Output = Result<T, PublicError>>,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if is_busy(&error) && began.elapsed() < BUSY_MAX => tokio::time::sleep(BUSY_PAUSE).await,
            answer => return answer,
        }
    }
}

fn is_busy(error: &PublicError) -> bool {
    matches!(
        error.status(),
        Some(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS | StatusCode::GATEWAY_TIMEOUT)
    )
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

/// How many allocations of a job have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Counts {
    starting: usize,
    running: usize,
    complete: usize,
    failed: usize,
    lost: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    summary: HashMap<String, Counts>,
}

/// How far allocations are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Placed,
    Running,
}

/// Waits by blocking reads of its summary until so many allocations of the job are there.
pub async fn wait_count(
    api: &PublicClient,
    id: &str,
    within: Duration,
    stage: Stage,
    wanted: usize,
) -> anyhow::Result<Instant> {
    let path = format!("/v1/job/{id}/summary");
    let mut reads = api.blocking::<Summary>(path, Query { index: 1, ..Query::default() });
    let look = async {
        loop {
            let summary = match reads.next().await {
                Ok((summary, _)) => summary,
                Err(error) if is_busy(&error) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Counts { starting, running, complete, failed, lost } =
                summary.summary.get(GROUP).copied().unwrap_or_default();
            let count = match stage {
                Stage::Placed => starting + running + complete + failed + lost,
                Stage::Running => running,
            };
            if count >= wanted {
                return anyhow::Ok(Instant::now());
            }
        }
    };
    let late = || format!("job {id} did not have {wanted} allocations {stage:?} after {} s", within.as_secs());
    tokio::time::timeout(within, look).await.with_context(late)?
}

/// Counters that services keep of plans, since they began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plans {
    pub submitted: f64,
    /// Those that did not pass whole.
    pub conflicts: f64,
}

impl Plans {
    /// # Errors
    /// The metrics cannot be read.
    pub async fn now(api: &PublicClient) -> anyhow::Result<Self> {
        let query = Query::default().with("format", "prometheus");
        let answer = api.send(Method::GET, "/v1/metrics", &query, None).await.context("metrics")?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let sum = |name: &str| {
            let series =
                text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Ok(Self { submitted: sum("steppe_plan_submitted"), conflicts: sum("nomad_nomad_plan_node_rejected") })
    }
}

/// Purges a few at a time: an API may limit the connections of one address.
pub async fn purge_all(api: &PublicClient, ids: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let purges = futures::stream::iter(ids).map(|id| async move { purge(api, &id).await });
    purges.buffer_unordered(32).try_collect::<()>().await
}
