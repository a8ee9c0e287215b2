//! Every process of a cluster is replaced by another build's, machine by machine, while work goes on.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::public::{PublicClient, Query, Settings};
use e2e::cluster::program;
use e2e::fleet::ready_nodes;
use e2e::machine::{Machine, one_of_three, until};
use e2e::ports::free_port;
use serde_json::{Value, json};

const TASKS: usize = 6;

fn client(dir: &Path, n: u16, port: u16) -> Machine {
    let rpc = port + 1;
    let more = format!(
        "client {{\n  enabled = true\n  servers = [\"127.0.0.1:{rpc}\", \"127.0.0.2:{rpc}\", \"127.0.0.3:{rpc}\"]\n}}\nplugin \
         \"raw_exec\" {{ config {{ enabled = true }} }}\n"
    );
    Machine::new(dir, &format!("client-{n}"), &format!("127.0.0.{}", 3 + n), port, &more)
}

fn running(count: usize) -> impl Fn(&Value) -> bool {
    move |v| v.as_array().is_some_and(|all| all.iter().filter(|a| a["ClientStatus"] == "running").count() == count)
}

/// Registers a job after the other until told to stop, asking whichever machine answers; the ids of those
/// that were acknowledged.
async fn register(addresses: Vec<String>, stop: Arc<AtomicBool>) -> Vec<String> {
    let settings = |address: &String| Settings {
        address: address.clone(),
        timeout: Duration::from_secs(3),
        ..Settings::default()
    };
    let clients: Vec<PublicClient> = addresses.iter().map(|a| PublicClient::new(settings(a)).unwrap()).collect();
    let mut acknowledged = Vec::new();
    let mut n = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let id = format!("load-{n}");
        // What counts is that it is there.
        let task = json!({"Name": "t", "Driver": "mock_driver", "Config": {"run_for": "1s"}});
        let group = json!({"Name": "g", "Count": 0, "Tasks": [task]});
        let job = json!({"Job": {"ID": id, "Name": id, "Type": "service", "TaskGroups": [group]}});
        let client = &clients[n % clients.len()];
        if client.put::<_, Value>("/v1/jobs", &Query::default(), &job).await.is_ok() {
            acknowledged.push(id);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    acknowledged
}

/// The pid of each task's program, by what it was told to write.
fn pids(dir: &Path) -> BTreeMap<String, String> {
    let of = |n: usize| {
        let text = std::fs::read_to_string(dir.join(format!("pid-{n}"))).unwrap_or_default();
        (format!("pid-{n}"), text)
    };
    (0..TASKS).map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_machine_by_machine_under_load_loses_nothing_acknowledged_and_touches_no_task() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut servers: Vec<Machine> = (1..=3).map(|n| one_of_three(dir.path(), n, port)).collect();
    servers.iter_mut().for_each(|s| s.start(&[]));
    for server in &servers {
        server.until("/v1/status/peers", "three servers", |v| v.as_array().is_some_and(|p| p.len() == 3)).await;
    }
    let mut clients: Vec<Machine> = (1..=3).map(|n| client(dir.path(), n, port)).collect();
    for client in &mut clients {
        let token = servers[0].ok(&["node", "intro", "create"]);
        client.start(&["-client-intro-token", token.trim()]);
    }
    servers[0].until("/v1/nodes", "three nodes are ready", |v| ready_nodes(v) == 3).await;
    let script = format!("echo $$ >> {}/pid-$NOMAD_ALLOC_INDEX; exec sleep 1000", dir.path().display());
    let task = json!({"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sh", "args": ["-c", script]},
        "Resources": {"CPU": 20, "MemoryMB": 20}});
    let group = json!({"Name": "g", "Count": TASKS, "Tasks": [task]});
    let job = json!({"Job": {"ID": "stays", "Name": "stays", "Type": "service", "TaskGroups": [group]}});
    let settings = Settings { address: servers[0].address.clone(), ..Settings::default() };
    let api = PublicClient::new(settings).unwrap();
    api.put::<_, Value>("/v1/jobs", &Query::default(), &job).await.unwrap();
    servers[0].until("/v1/job/stays/allocations", "all run", running(TASKS)).await;
    let begun = async || Some(pids(dir.path())).filter(|all| all.values().all(|pid| pid.ends_with('\n')));
    let before = until("each has written its pid", begun).await;
    assert!(before.values().all(|pid| pid.lines().count() == 1), "{before:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let addresses = servers.iter().chain(&clients).map(|m| m.address.clone()).collect();
    let load = tokio::spawn(register(addresses, Arc::clone(&stop)));
    let rebuilt: PathBuf = dir.path().join("steppe-new");
    std::fs::copy(program(), &rebuilt).unwrap();
    for server in &mut servers {
        server.end("-TERM");
        server.program.clone_from(&rebuilt);
        server.start(&[]);
        // As an operator waits before the next one: it is there, follows, and all are well.
        server.until("/v1/status/leader", "it knows the leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
        server.until("/v1/operator/autopilot/health", "all servers are well", |v| v["FailureTolerance"] == 1).await;
    }
    for client in &mut clients {
        client.end("-TERM");
        client.program.clone_from(&rebuilt);
        client.start(&[]);
        client.until("/v1/nodes", "all nodes are ready", |v| ready_nodes(v) == 3).await;
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = load.await.unwrap();
    assert!(acknowledged.len() > 20, "{} jobs", acknowledged.len());

    let jobs =
        servers[2].until("/v1/jobs", "jobs", |v| v.as_array().is_some_and(|all| all.len() > acknowledged.len())).await;
    let there: Vec<&str> = jobs.as_array().unwrap().iter().filter_map(|j| j["ID"].as_str()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !there.contains(&id.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    servers[1].until("/v1/job/stays/allocations", "all run still", running(TASKS)).await;
    assert_eq!(pids(dir.path()), before, "no task was started anew");
    for pid in before.values().map(|text| text.trim()) {
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "task {pid} is gone");
    }
    let server_processes = ["state", "broker", "applier", "controller", "scheduler", "gateway"];
    let of_servers = servers.iter().flat_map(|s| server_processes.map(|role| s.process(&format!("server/{role}"))));
    for pid in of_servers.chain(clients.iter().map(|c| c.process("client"))) {
        assert_eq!(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap(), rebuilt, "an old process is left");
    }

    clients[0].ok(&["job", "stop", "-purge", "-detach", "stays"]);
    let over = |v: &Value| v.as_array().is_none_or(|all| all.iter().all(|a| a["ClientStatus"] == "complete"));
    clients[0].until("/v1/job/stays/allocations", "no task is left", over).await;
}
