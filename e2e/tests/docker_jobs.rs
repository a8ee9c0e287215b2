//! Jobs whose tasks are containers, on a cluster of real processes and a real Docker Engine.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/driver/tests/support/engine.rs"]
mod engine;
#[path = "../../crates/driver/tests/support/runner.rs"]
mod runner;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use e2e::cluster::Cluster;
use engine::docker;
use serde_json::Value;

const TESTS: &[runner::Test] = &[
    ("a_job_of_containers_runs_outlives_its_agent_and_leaves_nothing_restore_03", || on_runtime(life())),
    ("an_image_that_cannot_be_had_fails_the_allocation_in_one_sentence_docker_06", || on_runtime(no_image())),
];

fn main() -> ExitCode {
    let missing = engine::missing();
    if missing.is_none() {
        engine::import(&image());
    }
    let code = runner::main(missing.clone(), TESTS);
    if missing.is_none() {
        docker(&["rmi", "-f", &image()]);
    }
    code
}

fn on_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
}

fn image() -> String {
    format!("steppe-test/e2e:{}", std::process::id())
}

fn containers_of(alloc: &str) -> Vec<String> {
    let filter = format!("label=com.hashicorp.nomad.alloc_id={alloc}");
    let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]).unwrap();
    ids.lines().map(str::to_owned).collect()
}

fn get(port: &Value) -> std::io::Result<String> {
    let at = (port["HostIP"].as_str().unwrap(), u16::try_from(port["Value"].as_u64().unwrap()).unwrap());
    let mut stream = std::net::TcpStream::connect(at)?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

async fn life() {
    let cluster = Cluster::start();
    let var = format!("image={}", image());
    cluster.ok(&["job", "run", "-var", &var, "examples/docker.nomad.hcl"]);
    let alloc = cluster.until_allocs("docker-web", "running", 1).await.remove(0);
    let id = alloc["ID"].as_str().unwrap().to_owned();
    let full = cluster.get(&format!("/v1/allocation/{id}")).await;
    let port = full["AllocatedResources"]["Shared"]["Ports"][0].clone();
    let containers = containers_of(&id);
    assert_eq!(containers.len(), 1);
    let answered = || async { get(&port).is_ok_and(|text| text.contains(&format!("hello from {id}"))) };
    eventually("an answer from the container", answered).await;

    // Its agents die: the container is the same, and what it says meanwhile is kept.
    for name in cluster.names().into_iter().filter(|name| name.contains("agent")) {
        cluster.kill(&name);
    }
    eventually("an answer without agents", answered).await;
    cluster.up();
    let logs = || async { cluster.steppe(&["alloc", "logs", "-stderr", &id]) };
    eventually("requests in the log", || async { e2e::cluster::text(&logs().await.stdout).lines().count() >= 2 }).await;
    let ready = |v: &Value| v.as_array().is_some_and(|nodes| nodes.iter().all(|node| node["Status"] == "ready"));
    cluster.until("/v1/nodes", "the nodes are back", ready).await;
    assert_eq!(containers_of(&id), containers);
    let now = cluster.get(&format!("/v1/allocation/{id}")).await;
    assert_eq!(
        (now["ClientStatus"].as_str(), now["TaskStates"]["httpd"]["Restarts"].as_u64()),
        (Some("running"), Some(0))
    );

    // A container that ends is started again, as another one.
    docker(&["kill", &containers[0]]).unwrap();
    let path = format!("/v1/allocation/{id}");
    let ended = |v: &Value| {
        let events = v["TaskStates"]["httpd"]["Events"].as_array().cloned().unwrap_or_default();
        events.iter().any(|event| event["Type"] == "Terminated" && event["ExitCode"] == 137)
    };
    cluster.until(&path, "the end is told", ended).await;

    cluster.ok(&["job", "stop", "-detach", "docker-web"]);
    cluster.until(&path, "the allocation is complete", |v| v["ClientStatus"] == "complete").await;
    eventually("the container is gone", || async { containers_of(&id).is_empty() }).await;
    let complaints: BTreeSet<String> = cluster
        .names()
        .iter()
        .flat_map(|name| cluster.log(name).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains("ERROR") || line.contains("panicked"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

async fn no_image() {
    let cluster = Cluster::start();
    let file = cluster.file(
        "none.nomad.hcl",
        r#"job "none" {
  datacenters = ["*"]
  type        = "batch"
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    task "t" {
      driver = "docker"
      config {
        image = "127.0.0.1:1/none:1"
      }
    }
  }
}
"#,
    );
    cluster.ok(&["job", "run", "-detach", &file]);
    let failed = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|a| a["ClientStatus"] == "failed"));
    let allocs = cluster.until("/v1/job/none/allocations", "the allocation failed", failed).await;
    let events = allocs[0]["TaskStates"]["t"]["Events"].as_array().unwrap();
    let told: Vec<&str> = events.iter().filter_map(|e| e["DisplayMessage"].as_str()).collect();
    assert!(told.contains(&"Downloading image"), "{told:?}");
    assert!(told.iter().any(|text| text.starts_with("Failed to pull `127.0.0.1:1/none:1`: ")), "{told:?}");
}

async fn eventually<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    let until = std::time::Instant::now() + e2e::cluster::WITHIN;
    while !done().await {
        assert!(std::time::Instant::now() < until, "never came: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
