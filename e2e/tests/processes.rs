//! The cluster that `scripts/up` starts, from the outside.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::BufRead as _;

use e2e::cluster::{Cluster, kill_9, processes_of, text};
use e2e::leftovers::signal_pid;
use serde_json::{Value, json};

const UPDATE: &str = r#"
  update {
    max_parallel      = 1
    health_check      = "task_states"
    min_healthy_time  = "200ms"
    healthy_deadline  = "1m"
    progress_deadline = "2m"
  }"#;

fn job(id: &str, kind: &str, count: u32, script: &str) -> String {
    let update = if kind == "service" { UPDATE } else { "" };
    format!(
        r#"job "{id}" {{
  type        = "{kind}"
  datacenters = ["*"]{update}
  group "g" {{
    count = {count}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sh"
        args    = ["-c", "{script}"]
      }}
      resources {{
        cpu    = 20
        memory = 20
      }}
    }}
  }}
}}
"#
    )
}

fn by_status(allocs: &Value) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for alloc in allocs.as_array().unwrap() {
        *counts.entry(alloc["ClientStatus"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn up_is_idempotent_and_jobs_come_back_after_down_and_up() {
    let cluster = Cluster::start();
    let names = cluster.names();
    assert_eq!(names.len(), 11);
    let pids: Vec<u32> = names.iter().map(|n| cluster.pid(n)).collect();
    cluster.up();
    assert_eq!(names.iter().map(|n| cluster.pid(n)).collect::<Vec<_>>(), pids, "nothing was started again");

    // What ends while it waits is started, too: one that was just killed runs for another moment.
    let servers: Vec<u32> = names.iter().zip(&pids).filter(|(n, _)| n.starts_with("state")).map(|(_, p)| *p).collect();
    servers.iter().for_each(|pid| signal_pid(*pid, "-STOP"));
    let mut up = cluster.command(&["local", "up"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(up.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.next().unwrap().contains("run already"));
    cluster.kill("agent-1");
    servers.iter().for_each(|pid| signal_pid(*pid, "-CONT"));
    let said: Vec<String> = said.collect();
    assert!(up.wait().unwrap().success() && said.iter().any(|line| line.contains("started agent-1")), "{said:?}");
    let status = cluster.ok(&["local", "status"]);
    assert!(!status.contains("stopped"), "{status}");

    let file = cluster.file("keep.nomad.hcl", &job("keep", "service", 3, "while true; do echo alive; sleep 1; done"));
    cluster.ok(&["job", "run", &file]);
    cluster.until_allocs("keep", "running", 3).await;
    let data = cluster.data();
    cluster.down();
    assert_eq!(processes_of(&data), Vec::<String>::new(), "no process is left");
    cluster.up();
    cluster.until_allocs("keep", "running", 3).await;
}

#[tokio::test]
async fn each_kind_of_job_runs_as_it_should() {
    let cluster = Cluster::start();
    for (kind, count, script) in [
        ("service", 2, "sleep 1000"),
        ("batch", 3, "echo done"),
        ("system", 1, "sleep 1000"),
        ("sysbatch", 1, "echo done"),
    ] {
        let file = cluster.file(&format!("{kind}.nomad.hcl"), &job(kind, kind, count, script));
        cluster.ok(&["job", "run", &file]);
    }
    cluster.until_allocs("service", "running", 2).await;
    cluster.until_allocs("system", "running", 2).await;
    let done = cluster
        .until("/v1/job/batch/allocations", "batch is complete", |v| by_status(v).get("complete") == Some(&3))
        .await;
    cluster
        .until("/v1/job/sysbatch/allocations", "sysbatch is complete", |v| by_status(v).get("complete") == Some(&2))
        .await;
    assert_eq!(cluster.ok(&["alloc", "logs", done[0]["ID"].as_str().unwrap()]), "done\n");
    cluster.until("/v1/job/batch", "the job is dead", |v| v["Status"] == "dead").await;

    cluster.ok(&["job", "stop", "-purge", "service"]);
    let gone = cluster.steppe(&["job", "status", "service"]);
    assert!(!gone.status.success());
}

#[tokio::test]
async fn counts_in_place_and_destructive_updates_roll() {
    let cluster = Cluster::start();
    let run = |name: &str, contents: &str| {
        let file = cluster.file(name, contents);
        cluster.ok(&["job", "run", "-detach", &file])
    };
    run("one.hcl", &job("web", "service", 3, "sleep 1000"));
    let first = cluster.until_allocs("web", "running", 3).await;
    cluster.until("/v1/job/web/deployment", "deployment is successful", |d| d["Status"] == "successful").await;

    run("more.hcl", &job("web", "service", 5, "sleep 1000"));
    let more = cluster.until_allocs("web", "running", 5).await;
    let kept = first.iter().filter(|a| more.iter().any(|b| b["ID"] == a["ID"])).count();
    assert_eq!(kept, 3, "those that ran are kept");

    run("new.hcl", &job("web", "service", 5, "sleep 2000"));
    cluster
        .until("/v1/job/web/deployment", "the second version is deployed", |d| {
            d["Status"] == "successful" && d["JobVersion"] == 2
        })
        .await;
    let new = cluster.until_allocs("web", "running", 5).await;
    assert!(new.iter().all(|a| a["JobVersion"] == 2 && !more.iter().any(|b| b["ID"] == a["ID"])), "all were replaced");

    // Which is to be told soon.
    let bad = job("web", "service", 5, "exit 1").replace("\"1m\"", "\"5s\"").replace("\"2m\"", "\"8s\"");
    run("bad.hcl", &bad);
    cluster
        .until("/v1/job/web/deployment", "a version that does not run fails", |d| {
            d["Status"] == "failed" && d["JobVersion"] == 3
        })
        .await;
    let old = cluster.get("/v1/job/web/allocations").await;
    let running_old = old
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["JobVersion"] == 2 && a["ClientStatus"] == "running" && a["DesiredStatus"] == "run")
        .count();
    assert!(running_old >= 4, "only one at a time was put at risk, {running_old} of the old version run");
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_whichever_process_is_killed() {
    let cluster = Cluster::start();
    let mut acknowledged = Vec::new();
    let mut n = 0;
    for victim in cluster.names().into_iter().filter(|n| !n.starts_with("agent") && !n.starts_with("gateway")) {
        for round in 0..6 {
            let id = format!("job-{n}");
            n += 1;
            let job = json!({"Job": {"ID": id, "Name": id, "Type": "service", "Datacenters": ["*"], "TaskGroups": [{"Name": "g", "Count": 1,
                "Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": {"run_for": "1h"}, "Resources": {"CPU": 1, "MemoryMB": 10}}]}]}});
            if round == 3 {
                cluster.kill(&victim);
            }
            if cluster.put("/v1/jobs", &job).await.is_ok() {
                acknowledged.push(id);
            }
        }
        cluster.up();
    }
    assert!(acknowledged.len() > n * 9 / 10, "{} of {n} were acknowledged", acknowledged.len());
    for id in &acknowledged {
        cluster.until_allocs(id, "running", 1).await;
    }
}

#[tokio::test]
async fn a_task_survives_its_agent_with_its_whole_output() {
    let cluster = Cluster::start();
    let script = "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.05; done";
    let file = cluster.file("count.hcl", &job("count", "service", 2, script));
    cluster.ok(&["job", "run", &file]);
    let before = cluster.until_allocs("count", "running", 2).await;
    for agent in ["agent-1", "agent-2"] {
        kill_9(cluster.pid(agent));
    }
    cluster.up();
    cluster
        .until("/v1/nodes", "nodes are ready", |v| {
            v.as_array().is_some_and(|n| n.len() == 2 && n.iter().all(|n| n["Status"] == "ready"))
        })
        .await;
    let after = cluster.until_allocs("count", "running", 2).await;
    for alloc in &before {
        let id = alloc["ID"].as_str().unwrap();
        assert!(after.iter().any(|a| a["ID"] == alloc["ID"]), "allocation {id} was kept");
        let info = cluster.get(&format!("/v1/allocation/{id}")).await;
        assert_eq!(info["TaskStates"]["t"]["Restarts"], 0, "the task was not started again");
        let log = cluster.ok(&["alloc", "logs", id]);
        let lines: Vec<u64> = log.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect();
        assert!(lines.len() > 5);
        assert!(lines.windows(2).all(|w| w[1] == w[0] + 1) && lines[0] == 1, "no line is missing");
    }
}

#[tokio::test]
async fn allocations_of_a_dead_node_run_elsewhere() {
    let cluster = Cluster::start();
    let file = cluster.file("web.hcl", &job("web", "service", 4, "sleep 1000"));
    cluster.ok(&["job", "run", &file]);
    cluster.until_allocs("web", "running", 4).await;
    cluster.kill("agent-1");
    cluster
        .until("/v1/nodes", "one node is down", |v| {
            v.as_array().is_some_and(|n| n.iter().filter(|n| n["Status"] == "down").count() == 1)
        })
        .await;
    let nodes = cluster.get("/v1/nodes").await;
    let alive = nodes.as_array().unwrap().iter().find(|n| n["Status"] == "ready").unwrap()["ID"].clone();
    cluster
        .until("/v1/job/web/allocations", "all run on the other", |v| {
            v.as_array().is_some_and(|all| {
                all.iter().filter(|a| a["NodeID"] == alive && a["ClientStatus"] == "running").count() == 4
            })
        })
        .await;
}

#[tokio::test]
async fn internal_listeners_refuse_callers_without_a_certificate() {
    let cluster = Cluster::start();
    // Every port that a process of the cluster listens on, but the public one.
    let listening = text(&std::process::Command::new("cat").arg("/proc/net/tcp").output().unwrap().stdout);
    let ports = listening.lines().filter_map(|l| {
        let fields: Vec<&str> = l.split_whitespace().collect();
        (fields.get(3) == Some(&"0A")).then(|| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok())?
    });
    let mut internal = 0;
    let me: Vec<u16> = ports.filter(|p| *p != cluster.port).collect();
    for port in me {
        let url = format!("http://127.0.0.1:{port}/v1/internal/raft/status");
        let plain = std::process::Command::new("curl")
            .args(["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url])
            .output()
            .unwrap();
        assert_ne!(text(&plain.stdout), "200", "port {port} answers plain HTTP");
        let url = format!("https://127.0.0.1:{port}/v1/internal/raft/status");
        let tls = std::process::Command::new("curl")
            .args(["-sk", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url])
            .output()
            .unwrap();
        assert_ne!(text(&tls.stdout), "200", "port {port} answers without a certificate");
        internal += 1;
    }
    assert!(internal >= 10, "found only {internal} listeners");
}
