//! What schedulers decide, carried out on machines of real processes: who is preempted ends before who takes
//! the place starts and comes back when there is room; devices are given to one task each; what is not to run
//! without the cluster does not.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use client::public::{PublicClient, Query};
use e2e::cluster::text;
use e2e::fleet::ready_nodes;
use e2e::machine::{ALONE, Machine, RAW_EXEC, until};
use e2e::ports::free_port;
use serde_json::{Value, json};

const CLIENT: &str = "client {\n  enabled = true\n  cpu_total_compute = 4000\n  memory_total_mb = 1000\n  device = { \
                      \"acme/null/n\" = \"/dev/null,/dev/zero\" }\n}\n";

/// A job of one group, which asks for so much and runs the script.
fn job(id: &str, priority: u32, count: usize, memory: usize, script: &str) -> Value {
    json!({"ID": id, "Name": id, "Type": "service", "Priority": priority, "Datacenters": ["*"], "TaskGroups": [{
        "Name": "g", "Count": count,
        "Tasks": [{"Name": "t", "Driver": "raw_exec", "KillTimeout": 20_000_000_000_i64,
            "Config": {"command": "/bin/sh", "args": ["-c", script]},
            "Resources": {"CPU": 20, "MemoryMB": memory}}],
    }]})
}

async fn run(machine: &Machine, job: Value) -> String {
    let api = PublicClient::new(machine.settings()).unwrap();
    let done = api.put::<_, Value>("/v1/jobs", &Query::default(), &json!({ "Job": job })).await;
    done.unwrap().0["EvalID"].as_str().unwrap().to_owned()
}

async fn put(machine: &Machine, path: &str, body: &Value) -> Value {
    let api = PublicClient::new(machine.settings()).unwrap();
    api.put::<_, Value>(path, &Query::default(), body).await.unwrap().0
}

fn all<'a>(list: &'a Value, what: impl Fn(&Value) -> bool + 'a) -> Vec<&'a Value> {
    list.as_array().into_iter().flatten().filter(|row| what(row)).collect()
}

fn runs(alloc: &Value) -> bool {
    alloc["ClientStatus"] == "running" && alloc["DesiredStatus"] == "run"
}

async fn running(machine: &Machine, job: &str, count: usize) -> Value {
    let what = format!("{count} of {job} run");
    machine.until(&format!("/v1/job/{job}/allocations"), &what, |v| all(v, runs).len() == count).await
}

async fn machine(dir: &Path) -> Machine {
    let mut machine = Machine::new(dir, "m", "127.0.0.1", free_port(), &format!("{ALONE}{CLIENT}{RAW_EXEC}"));
    machine.start(&[]);
    machine.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    machine
}

#[tokio::test]
async fn who_is_preempted_ends_first_and_comes_back_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(dir.path()).await;
    let go = dir.path().join("go");
    let stubborn = format!(
        "trap 'while [ ! -e {} ]; do sleep 0.05; done; exit 0' INT; while true; do sleep 0.05; done",
        go.display()
    );
    run(&machine, job("low", 20, 3, 300, &stubborn)).await;
    running(&machine, "low", 3).await;

    // Services preempt nobody unless they are told to.
    let high = || job("high", 80, 1, 500, "exec sleep 1000");
    let eval = run(&machine, high()).await;
    let path = format!("/v1/evaluation/{eval}");
    let told = machine.until(&path, "nothing is preempted", |v| v["Status"] == "complete").await;
    assert_eq!(told["FailedTGAllocs"]["g"]["DimensionExhausted"]["memory"], 1, "{told:#}");
    let config = json!({"SchedulerAlgorithm": "binpack", "PreemptionConfig": {"ServiceSchedulerEnabled": true}});
    put(&machine, "/v1/operator/scheduler/configuration", &config).await;
    let api = PublicClient::new(machine.settings()).unwrap();
    let plan = json!({"Job": high(), "Diff": false});
    let planned: Value = api.put("/v1/job/high/plan", &Query::default(), &plan).await.unwrap().0;
    assert_eq!(planned["Annotations"]["PreemptedAllocs"].as_array().unwrap().len(), 2, "{planned:#}");
    let mut again = high();
    again["Meta"] = json!({"again": "1"});
    run(&machine, again).await;
    let placed = machine.until("/v1/job/high/allocations", "it has a place", |v| v[0]["ID"].is_string()).await;
    let id = placed[0]["ID"].as_str().unwrap().to_owned();
    let evicted = machine
        .until("/v1/job/low/allocations", "two make room", |v| {
            all(v, |alloc| alloc["DesiredStatus"] == "evict" && alloc["PreemptedByAllocation"] == id.as_str()).len()
                == 2
        })
        .await;
    let evicted: Vec<String> = all(&evicted, |alloc| alloc["DesiredStatus"] == "evict")
        .iter()
        .map(|alloc| alloc["ID"].as_str().unwrap().to_owned())
        .collect();
    let path = format!("/v1/allocation/{id}");
    let waits = machine.until(&path, "it names them", |v| v["PreemptedAllocations"].is_array()).await;
    let mut named: Vec<&str> =
        waits["PreemptedAllocations"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    let mut wanted: Vec<&str> = evicted.iter().map(String::as_str).collect();
    named.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(named, wanted);
    // Their tasks ask for more time, and have it.
    for id in &evicted {
        let path = format!("/v1/allocation/{id}");
        machine
            .until(&path, "it is asked to end", |v| v["TaskStates"]["t"]["Events"].to_string().contains("Killing"))
            .await;
    }
    let waits = machine.until(&path, "its row", |v| v["ID"].is_string()).await;
    assert_eq!((&waits["ClientStatus"], &waits["TaskStates"]), (&json!("pending"), &Value::Null), "{waits:#}");
    std::fs::write(&go, "").unwrap();
    running(&machine, "high", 1).await;
    let started = machine.until(&path, "its row", |v| v["ID"].is_string()).await;
    let time = |alloc: &Value, what: &str| alloc["TaskStates"]["t"][what].as_str().unwrap().to_owned();
    for id in &evicted {
        let ended =
            machine.until(&format!("/v1/allocation/{id}"), "it ended", |v| v["ClientStatus"] == "complete").await;
        assert!(time(&ended, "FinishedAt") <= time(&started, "StartedAt"), "{ended:#}\n{started:#}");
    }

    // Who was preempted is looked at again, waits, and comes back when there is room.
    let follow = |v: &Value| {
        let preempted = all(v, |eval| eval["TriggeredBy"] == "preemption" && eval["Status"] == "complete");
        let blocked = all(v, |eval| eval["Status"] == "blocked");
        !preempted.is_empty() && blocked.len() == 1
    };
    machine.until("/v1/job/low/evaluations", "a follow-up that is blocked", follow).await;
    // What it waits for is told in numbers, too.
    let gauge = |v: &Value, name: &str| {
        let named = |g: &&Value| g["Name"] == name && g["Labels"]["job"] == "low";
        v["Gauges"].as_array().into_iter().flatten().find(named).and_then(|g| g["Value"].as_f64())
    };
    machine
        .until("/v1/metrics", "what is blocked is counted", |v| {
            gauge(v, "nomad.nomad.blocked_evals.job.memory") == Some(600.0)
        })
        .await;
    machine.ok(&["job", "stop", "-detach", "high"]);
    running(&machine, "low", 3).await;
    let ended = |v: &Value| all(v, |eval| eval["Status"] == "blocked").is_empty();
    machine.until("/v1/job/low/evaluations", "nothing is blocked any more", ended).await;
}

#[tokio::test]
async fn each_device_has_one_task_and_who_finds_none_waits() {
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(dir.path()).await;
    let asking = |id: &str, count, device: &str| {
        let mut job = job(id, 50, count, 20, "echo $STEPPE_DEVICES; exec sleep 1000");
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["Devices"] = json!([{"Name": device, "Count": 1}]);
        job
    };
    let eval = run(&machine, asking("gpus", 1, "nvidia/gpu")).await;
    let told = machine.until(&format!("/v1/evaluation/{eval}"), "no node has any", |v| v["Status"] == "complete").await;
    assert_eq!(told["FailedTGAllocs"]["g"]["ConstraintFiltered"]["missing devices"], 1, "{told:#}");
    assert!(told["BlockedEval"].as_str().is_some_and(|id| !id.is_empty()), "{told:#}");

    let eval = run(&machine, asking("null", 3, "acme/null")).await;
    running(&machine, "null", 2).await;
    let told = machine.until(&format!("/v1/evaluation/{eval}"), "it is done", |v| v["Status"] == "complete").await;
    assert_eq!(told["FailedTGAllocs"]["g"]["NodesExhausted"], 1, "{told:#}");
    let mut given = Vec::new();
    for alloc in all(&running(&machine, "null", 2).await, runs) {
        let id = alloc["ID"].as_str().unwrap();
        let row = machine.until(&format!("/v1/allocation/{id}"), "its row", |v| v["ID"].is_string()).await;
        let device = &row["AllocatedResources"]["Tasks"]["t"]["Devices"][0];
        assert_eq!((&device["Vendor"], &device["Name"]), (&json!("acme"), &json!("n")));
        let own = device["DeviceIDs"][0].as_str().unwrap().to_owned();
        until("the task says what it was given", async || {
            let said = machine.steppe(&["alloc", "logs", id]);
            (text(&said.stdout).trim() == own).then_some(())
        })
        .await;
        given.push(own);
    }
    given.sort();
    assert_eq!(given, ["/dev/null", "/dev/zero"]);
    // One is free again when its task has gone.
    let first = all(&running(&machine, "null", 2).await, runs)[0]["ID"].as_str().unwrap().to_owned();
    put(&machine, &format!("/v1/allocation/{first}/stop"), &json!({})).await;
    machine
        .until("/v1/job/null/allocations", "another has it", |v| {
            all(v, runs).len() == 2
                && all(v, |alloc| alloc["ID"] == first.as_str() && alloc["ClientStatus"] == "complete").len() == 1
        })
        .await;
}

#[tokio::test]
async fn what_may_not_run_without_the_cluster_ends_and_is_replaced_when_it_is_back() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, ALONE);
    server.start(&[]);
    server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    let token = server.ok(&["node", "intro", "create"]);
    let more = format!("client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n{RAW_EXEC}", port + 1);
    let mut client = Machine::new(dir.path(), "client", "127.0.0.3", port, &more);
    client.start(&["-client-intro-token", token.trim()]);
    server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;

    let beat = |name: &str| {
        let file = dir.path().join(name);
        let script = format!("while true; do echo $NOMAD_ALLOC_ID > {}; sleep 0.05; done", file.display());
        (file, script)
    };
    let ((alone, script), (stays, other)) = (beat("alone"), beat("stays"));
    let mut timed = job("timed", 50, 1, 20, &script);
    timed["TaskGroups"][0]["Disconnect"] = json!({"StopOnClientAfter": 3_000_000_000_i64});
    run(&server, timed).await;
    run(&server, job("stays", 50, 1, 20, &other)).await;
    running(&server, "stays", 1).await;
    let first = all(&running(&server, "timed", 1).await, runs)[0]["ID"].as_str().unwrap().to_owned();

    let lives = async |file: &Path| {
        let _ = std::fs::remove_file(file);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        file.exists()
    };
    until("both beat", async || (lives(&alone).await && lives(&stays).await).then_some(())).await;
    server.end("-KILL");
    // A busy machine may keep a script from its turn for a while: one silence is no end.
    let ended = async || {
        for _ in 0..4 {
            if lives(&alone).await {
                return None;
            }
        }
        Some(())
    };
    until("it ends by itself", ended).await;
    until("the other goes on", async || lives(&stays).await.then_some(())).await;

    server.start(&[]);
    let again = |v: &Value| all(v, runs).iter().any(|alloc| alloc["ID"] != first.as_str());
    server.until("/v1/job/timed/allocations", "another runs in its place", again).await;
    let ended = server.until(&format!("/v1/allocation/{first}"), "it ended", |v| v["ClientStatus"] != "running").await;
    assert!(ended["ClientStatus"] == "complete" || ended["ClientStatus"] == "lost", "{ended:#}");
    running(&server, "stays", 1).await;
    until("both beat again", async || (lives(&alone).await && lives(&stays).await).then_some(())).await;
}

/// Statuses of a job's evaluations.
fn statuses(evals: &Value, status: &str) -> usize {
    all(evals, |eval| eval["Status"] == status).len()
}

#[tokio::test]
async fn what_an_operator_sets_is_how_schedulers_decide() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let pool =
        "client {\n  enabled = true\n  cpu_total_compute = 4000\n  memory_total_mb = 1000\n  node_pool = \"special\"\n";
    let mut server = Machine::new(dir.path(), "m", "127.0.0.1", port, &format!("{ALONE}{pool}}}\n{RAW_EXEC}"));
    server.start(&[]);
    server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let token = server.ok(&["node", "intro", "create", "-node-pool", "special"]);
    let more = format!("{pool}  servers = [\"127.0.0.1:{}\"]\n}}\n{RAW_EXEC}", port + 1);
    let mut client = Machine::new(dir.path(), "c", "127.0.0.3", port, &more);
    client.start(&["-client-intro-token", token.trim()]);
    server.until("/v1/nodes", "both nodes are ready", |v| ready_nodes(v) == 2).await;
    let in_pool = |id: &str, count| {
        let mut job = job(id, 50, count, 20, "exec sleep 1000");
        job["NodePool"] = json!("special");
        // Anti-affinity would part them all the same.
        job["TaskGroups"][0]["Count"] = json!(1);
        let mut other = job["TaskGroups"][0].clone();
        other["Name"] = json!("h");
        job["TaskGroups"].as_array_mut().unwrap().push(other);
        job
    };
    let homes = |v: &Value| {
        let mut homes: Vec<String> =
            all(v, runs).iter().map(|alloc| alloc["NodeName"].as_str().unwrap().to_owned()).collect();
        homes.sort();
        homes.dedup();
        homes.len()
    };

    // The cluster packs, the pool spreads.
    let config = json!({"SchedulerAlgorithm": "binpack", "MemoryOversubscriptionEnabled": false});
    put(&server, "/v1/operator/scheduler/configuration", &config).await;
    run(&server, in_pool("packed", 2)).await;
    assert_eq!(homes(&running(&server, "packed", 2).await), 1);
    server.ok(&["job", "stop", "-purge", "packed"]);
    // What is being stopped has its room until it has ended.
    let ended = |v: &Value| all(v, |alloc| alloc["ClientStatus"] == "running").is_empty();
    server.until("/v1/allocations", "nothing runs", ended).await;
    let mut special = json!({"Name": "special", "SchedulerConfiguration": {"SchedulerAlgorithm": "spread",
        "MemoryOversubscriptionEnabled": true}});
    put(&server, "/v1/node/pool/special", &special).await;
    let mut beyond = in_pool("spread", 2);
    beyond["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMaxMB"] = json!(200);
    run(&server, beyond.clone()).await;
    let spread = running(&server, "spread", 2).await;
    assert_eq!(homes(&spread), 2);
    let most = async |job: &str| {
        let allocs = running(&server, job, 2).await;
        let of_g = all(&allocs, |alloc| runs(alloc) && alloc["TaskGroup"] == "g")[0]["ID"].as_str().unwrap().to_owned();
        let row = server.until(&format!("/v1/allocation/{of_g}"), "its row", |v| v["ID"].is_string()).await;
        row["AllocatedResources"]["Tasks"]["t"]["Memory"]["MemoryMaxMB"].as_i64().unwrap()
    };
    assert_eq!(most("spread").await, 200, "the pool allows it");
    server.ok(&["job", "stop", "-purge", "spread"]);
    special["SchedulerConfiguration"] = Value::Null;
    put(&server, "/v1/node/pool/special", &special).await;
    beyond["ID"] = json!("within");
    run(&server, beyond).await;
    assert_eq!(most("within").await, 0, "the cluster does not");

    // A pause keeps everything; what was asked for again and again meanwhile is looked at once.
    let paused = json!({"SchedulerAlgorithm": "binpack", "PauseEvalBroker": true});
    put(&server, "/v1/operator/scheduler/configuration", &paused).await;
    for round in 0..12 {
        let mut again = in_pool("again", 2);
        again["Meta"] = json!({"round": round.to_string()});
        run(&server, again).await;
    }
    server.until("/v1/job/again/evaluations", "all wait", |v| statuses(v, "pending") == 12).await;
    assert_eq!(server.until("/v1/job/again/allocations", "none", Value::is_array).await, json!([]));
    put(&server, "/v1/operator/scheduler/configuration", &config).await;
    let allocs = running(&server, "again", 2).await;
    let newest = server.until("/v1/job/again", "the job", |v| v["ID"] == "again").await["Version"].clone();
    assert!(all(&allocs, |alloc| alloc["JobVersion"] != newest).is_empty(), "{newest}: {allocs:#}");
    // Who decided has seen them all, so nobody needs to look again.
    let shed = |v: &Value| statuses(v, "canceled") == 11 && statuses(v, "complete") == 1;
    let evals = server.until("/v1/job/again/evaluations", "the others are cancelled", shed).await;
    let cancelled = all(&evals, |eval| eval["Status"] == "canceled");
    assert!(cancelled.iter().all(|eval| !eval["StatusDescription"].as_str().unwrap().is_empty()), "{cancelled:#?}");

    // Nothing is taken while registration is closed; what makes no sense is never taken.
    let api = PublicClient::new(server.settings()).unwrap();
    let register = async |job: Value| {
        let done = api.put::<_, Value>("/v1/jobs", &Query::default(), &json!({ "Job": job })).await;
        done.map(|_| ()).map_err(|error| error.to_string())
    };
    let closed = json!({"SchedulerAlgorithm": "binpack", "RejectJobRegistration": true});
    put(&server, "/v1/operator/scheduler/configuration", &closed).await;
    assert!(register(in_pool("late", 1)).await.unwrap_err().contains("403"));
    put(&server, "/v1/operator/scheduler/configuration", &config).await;
    let breaks: [(&str, Value); 6] = [
        ("/TaskGroups/0/Count", json!(-1)),
        ("/TaskGroups/0/Tasks/0/Resources/MemoryMB", json!(-5)),
        ("/TaskGroups/0/Tasks/0/Resources/CPU", json!(i64::MIN)),
        ("/Constraints", json!([{"LTarget": "${attr.kernel.name}", "Operand": "resembles", "RTarget": "linux"}])),
        (
            "/Spreads",
            json!([{"Attribute": "${node.datacenter}", "Weight": 50, "SpreadTarget": [
                {"Value": "dc1", "Percent": 60}, {"Value": "dc1", "Percent": 60}]}]),
        ),
        ("/Constraints", json!([{"LTarget": "${attr.kernel.name}", "Operand": "regexp", "RTarget": "((("}])),
    ];
    for (place, value) in breaks {
        let mut bad = in_pool("bad", 1);
        bad["Constraints"] = json!([]);
        bad["Spreads"] = json!([]);
        *bad.pointer_mut(place).unwrap() = value;
        let refused = register(bad).await.unwrap_err();
        assert!(refused.contains("400"), "{place}: {refused}");
    }
    // What asks for more than there is waits, whatever it is.
    let mut vast = in_pool("vast", 1);
    vast["TaskGroups"][0]["Tasks"][0]["Resources"] = json!({"CPU": 2_000_000_000, "MemoryMB": 2_000_000_000});
    let eval = run(&server, vast).await;
    let told = server.until(&format!("/v1/evaluation/{eval}"), "it is decided", |v| v["Status"] == "complete").await;
    assert_eq!(told["FailedTGAllocs"]["g"]["NodesExhausted"], 2, "{told:#}");
}
