//! Machines whose wire is cut, without a word to anybody: the rest goes on, the cut-off refuses, nothing that was
//! acknowledged is lost, and all is well again by itself.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use client::public::{PublicClient, Query, Settings};
use e2e::cluster::text;
use e2e::machine::{KEY, Machine, RAW_EXEC, until};
use e2e::wires::Wires;
use serde_json::{Value, json};

const PORT: u16 = 4646;
/// Election and a look round; far more than it takes on a quiet machine.
const FAIL_OVER: Duration = Duration::from_secs(8);
/// A cut-off server refuses within a second; the rest is the command line's start.
const REFUSAL: Duration = Duration::from_secs(3);

fn server(dir: &std::path::Path, wires: &Wires, n: u8) -> Machine {
    let more = format!(
        "server {{\n  enabled = true\n  bootstrap_expect = 3\n  encrypt = \"{KEY}\"\n  server_join {{\n    retry_join = \
         [\"10.77.0.1:{serf}\", \"10.77.0.2:{serf}\", \"10.77.0.3:{serf}\"]\n  }}\n}}\n",
        serf = PORT + 2
    );
    let mut machine = Machine::new(dir, &format!("server-{n}"), &Wires::ip(n), PORT, &more);
    machine.program = wires.program(dir, n);
    machine
}

fn node(dir: &std::path::Path, wires: &Wires, n: u8) -> Machine {
    let rpc = PORT + 1;
    let more = format!(
        "client {{\n  enabled = true\n  servers = [\"10.77.0.1:{rpc}\", \"10.77.0.2:{rpc}\", \"10.77.0.3:{rpc}\"]\n}}\n{RAW_EXEC}"
    );
    let mut machine = Machine::new(dir, &format!("node-{n}"), &Wires::ip(n), PORT, &more);
    machine.program = wires.program(dir, n);
    machine
}

async fn three_servers(dir: &std::path::Path, wires: &Wires) -> [Machine; 3] {
    let mut servers = [1, 2, 3].map(|n| server(dir, wires, n));
    servers.iter_mut().for_each(|server| server.start(&[]));
    for server in &servers {
        server
            .until("/v1/operator/raft/configuration", "three voters", |raft| {
                raft["Servers"]
                    .as_array()
                    .is_some_and(|all| all.len() == 3 && all.iter().all(|one| one["Voter"] == true))
            })
            .await;
    }
    servers
}

fn api(n: u8) -> PublicClient {
    let address = format!("http://{}:{PORT}", Wires::ip(n));
    PublicClient::new(Settings { address, ..Settings::default() }).unwrap()
}

/// The number of the machine whose server leads.
async fn leader(asked: u8) -> u8 {
    let (leader, _) = api(asked).get::<String>("/v1/status/leader", &Query::default()).await.unwrap();
    leader.split(':').next().unwrap().rsplit('.').next().unwrap().parse().unwrap()
}

async fn register(to: &PublicClient, id: &str, count: u32) -> bool {
    let task = json!({"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["1000"]},
        "Resources": {"CPU": 20, "MemoryMB": 10}});
    let group = json!({"Name": "g", "Count": count, "Tasks": [task]});
    let body = json!({"Job": {"ID": id, "Name": id, "Datacenters": ["*"], "TaskGroups": [group]}});
    let query = Query::default();
    let sent = to.put::<_, Value>("/v1/jobs", &query, &body);
    tokio::time::timeout(FAIL_OVER, sent).await.is_ok_and(|done| done.is_ok())
}

/// Runs the command line on a machine itself, with what it took.
fn at(machine: &Machine, words: &[&str]) -> (Output, Duration) {
    let began = Instant::now();
    let done = Command::new(&machine.program).args(words).env("NOMAD_ADDR", &machine.address).output().unwrap();
    (done, began.elapsed())
}

#[tokio::test]
async fn a_leader_that_is_cut_off_refuses_is_succeeded_and_follows_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let wires = Wires::lay(3);
    let servers = three_servers(dir.path(), &wires).await;
    let old = leader(1).await;
    let other = old % 3 + 1;
    let to = api(other);
    assert!(register(&to, "before", 1).await);

    wires.cut(old);
    let (cut, mut acknowledged) = (Instant::now(), vec!["before".to_owned()]);
    for n in 0.. {
        let id = format!("during-{n}");
        if register(&to, &id, 1).await {
            acknowledged.push(id);
            break;
        }
        assert!(cut.elapsed() < FAIL_OVER, "nobody takes writes");
    }
    println!("a write is taken {} ms after the leader was cut off", cut.elapsed().as_millis());
    let alone = &servers[usize::from(old) - 1];
    for words in [&["job", "stop", "-detach", "before"] as &[&str], &["job", "status"], &["node", "status"]] {
        let (done, took) = at(alone, words);
        assert!(!done.status.success(), "{words:?}: {}", text(&done.stdout));
        assert!(text(&done.stderr).contains("No cluster leader"), "{words:?}: {}", text(&done.stderr));
        assert!(took < REFUSAL, "{words:?} took {took:?}");
    }
    for n in 0..10 {
        let id = format!("meanwhile-{n}");
        if register(&to, &id, 1).await {
            acknowledged.push(id);
        }
    }
    assert_eq!(acknowledged.len(), 12, "with a leader every write is taken: {acknowledged:?}");

    wires.mend(old);
    let has_all = |jobs: &Value| {
        let ids: Vec<&str> = jobs.as_array().into_iter().flatten().filter_map(|job| job["ID"].as_str()).collect();
        acknowledged.iter().all(|id| ids.contains(&id.as_str()))
    };
    alone.until("/v1/jobs", "it has what was written without it", has_all).await;
    until("it knows who leads", async || (leader(old).await == leader(other).await).then_some(())).await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_is_replaced_and_ends_what_it_runs_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let wires = Wires::lay(5);
    let servers = three_servers(dir.path(), &wires).await;
    let mut nodes = [4, 5].map(|n| node(dir.path(), &wires, n));
    for node in &mut nodes {
        let token = servers[0].ok(&["node", "intro", "create"]);
        node.start(&["-client-intro-token", token.trim()]);
    }
    let ready = |nodes: &Value| {
        nodes.as_array().is_some_and(|all| all.len() == 2 && all.iter().all(|node| node["Status"] == "ready"))
    };
    servers[0].until("/v1/nodes", "both nodes are ready", ready).await;
    let to = api(1);
    assert!(register(&to, "web", 2).await);
    let running = |allocs: &Value| -> Vec<(String, String)> {
        let live = |alloc: &&Value| alloc["ClientStatus"] == "running" && alloc["DesiredStatus"] == "run";
        let all = allocs.as_array().into_iter().flatten().filter(live);
        all.map(|alloc| (alloc["Name"].as_str().unwrap().into(), alloc["NodeName"].as_str().unwrap().into())).collect()
    };
    let allocs = servers[0].until("/v1/job/web/allocations", "two run", |v| running(v).len() == 2).await;
    let (_, cut_off) = running(&allocs).remove(0);
    let n: u8 = cut_off.trim_start_matches("node-").parse().unwrap();

    wires.cut(n);
    let down = |nodes: &Value| {
        nodes.as_array().unwrap().iter().any(|node| node["Name"] == *cut_off && node["Status"] == "down")
    };
    servers[0].until("/v1/nodes", "it is noticed", down).await;
    let elsewhere = |allocs: &Value| {
        let found = running(allocs);
        found.len() == 2 && found.iter().all(|(_, node)| *node != cut_off)
    };
    servers[0].until("/v1/job/web/allocations", "both run on the other node", elsewhere).await;

    wires.mend(n);
    servers[0].until("/v1/nodes", "it is back", ready).await;
    let sleepers = || {
        let found = Command::new("ip").args(["netns", "pids", &wires.space(n)]).output().unwrap();
        let names = text(&found.stdout);
        let of = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        names.lines().filter(|pid| of(pid).trim() == "sleep").count()
    };
    until("what ran there has ended", async || (sleepers() == 0).then_some(())).await;
    let allocs = servers[0].until("/v1/job/web/allocations", "two run", |v| running(v).len() == 2).await;
    let mut names: Vec<String> = running(&allocs).into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["web.g[0]", "web.g[1]"]);
}
