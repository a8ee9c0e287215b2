//! Jobs whose tasks are containers, on a cluster of real processes and a real Docker Engine.
#![allow(clippy::unwrap_used)]

#[path = "../../crates/driver/tests/support/dockerd.rs"]
mod dockerd;
#[path = "../../crates/driver/tests/support/engine.rs"]
mod engine;
#[path = "../../crates/driver/tests/support/runner.rs"]
mod runner;
#[path = "docker_jobs/volumes.rs"]
mod volumes;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use e2e::cluster::Cluster;
use e2e::machine::{ALONE, Machine};
use engine::docker;
use serde_json::Value;

const TESTS: &[runner::Test] = &[
    ("a_job_of_containers_runs_outlives_its_agent_and_leaves_nothing_restore_03", || on_runtime(life())),
    ("an_image_that_cannot_be_had_fails_the_allocation_in_one_sentence_docker_06", || on_runtime(no_image())),
    ("a_container_is_worked_with_as_any_task_exec_session_01", || on_runtime(everyday())),
    ("a_task_that_ran_out_of_memory_says_so_in_its_events_docker_33", || on_runtime(out_of_memory())),
    ("tasks_of_a_group_share_its_network_and_its_ports_over_the_agents_death_docker_24_network_01", || {
        on_runtime(bridge())
    }),
    ("a_port_of_a_host_network_is_bound_on_its_address_alone_network_03", || on_runtime(host_network())),
    ("what_could_never_run_is_refused_before_it_is_registered", || on_runtime(refused())),
    (
        "tasks_see_the_volumes_of_their_node_and_no_other_node_is_given_them_docker_22_volume_01_volume_02_node_20",
        || on_runtime(volumes::of_hosts()),
    ),
    ("what_no_driver_or_node_can_mount_is_refused_raw_exec_08", || on_runtime(volumes::refused())),
];

const DAEMON_TESTS: &[runner::Test] =
    &[("tasks_and_neighbours_outlive_an_engine_that_is_away_docker_39", || on_runtime(engine_away()))];

fn main() -> ExitCode {
    let missing = engine::missing();
    if missing.is_none() {
        engine::import(&image());
    }
    let codes = [
        runner::main(|| missing.clone(), TESTS),
        runner::main(|| missing.clone().or_else(dockerd::missing), DAEMON_TESTS),
    ];
    if missing.is_none() {
        docker(&["rmi", "-f", &image()]);
    }
    if codes == [ExitCode::SUCCESS; 2] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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

async fn bridge() {
    let cluster = Cluster::start();
    let text = r#"job "shared" {
  datacenters = ["*"]
  group "g" {
    network {
      mode = "bridge"
      port "http" {
        to = 8080
      }
    }
    task "httpd" {
      driver = "docker"
      config {
        image   = "IMAGE"
        command = "/bin/sh"
        args    = ["-c", "echo shared > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
      }
      resources {
        memory = 32
      }
    }
    task "reader" {
      driver = "docker"
      config {
        image   = "IMAGE"
        command = "/bin/sh"
        args    = ["-c", "while true; do wget -q -O - http://127.0.0.1:8080/index.html; sleep 1; done"]
      }
      resources {
        memory = 32
      }
    }
  }
}
"#;
    let file = cluster.file("shared.nomad.hcl", &text.replace("IMAGE", &image()));
    cluster.ok(&["job", "run", "-detach", &file]);
    let alloc = cluster.until_allocs("shared", "running", 1).await.remove(0);
    let id = alloc["ID"].as_str().unwrap().to_owned();
    let full = cluster.get(&format!("/v1/allocation/{id}")).await;
    let port = full["AllocatedResources"]["Shared"]["Ports"][0].clone();
    assert_eq!(port["To"], 8080);
    let answered = || async { get(&port).is_ok_and(|text| text.contains("shared")) };
    eventually("an answer at the host's port", answered).await;
    let read = || async { e2e::cluster::text(&cluster.steppe(&["alloc", "logs", &id, "reader"]).stdout) };
    eventually("the neighbour reads at localhost", || async { read().await.contains("shared") }).await;
    let addressed = |v: &Value| v["NetworkStatus"]["Address"].as_str().is_some_and(|address| !address.is_empty());
    cluster.until(&format!("/v1/allocation/{id}"), "its address is told", addressed).await;

    let containers: BTreeSet<String> = containers_of(&id).into_iter().collect();
    for name in cluster.names().into_iter().filter(|name| name.contains("agent")) {
        cluster.kill(&name);
    }
    eventually("an answer without agents", answered).await;
    cluster.up();
    let ready = |v: &Value| v.as_array().is_some_and(|nodes| nodes.iter().all(|node| node["Status"] == "ready"));
    cluster.until("/v1/nodes", "the nodes are back", ready).await;
    eventually("an answer with the new agents", answered).await;
    assert_eq!(containers_of(&id).into_iter().collect::<BTreeSet<_>>(), containers);

    cluster.ok(&["job", "stop", "-detach", "shared"]);
    cluster.until(&format!("/v1/allocation/{id}"), "it is complete", |v| v["ClientStatus"] == "complete").await;
    let init = format!("name=nomad_init_{id}");
    let gone =
        || async { containers_of(&id).is_empty() && docker(&["ps", "-aq", "--filter", &init]).unwrap().is_empty() };
    eventually("containers and network are gone", gone).await;
}

/// One group shares a bridge, the other publishes the port of its container.
async fn host_network() {
    let (dir, port) = (tempfile::tempdir().unwrap(), e2e::ports::free_port());
    let more = format!(
        "{ALONE}client {{\n  enabled = true\n  network_interface = \"lo\"\n  host_network \"loop2\" {{\n    cidr = \
         \"127.0.0.2/32\"\n  }}\n}}\n"
    );
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, &more);
    one.start(&[]);
    one.until("/v1/nodes", "the node is ready", |v| e2e::fleet::ready_nodes(v) == 1).await;
    for (id, mode, ports) in [("bridged", "bridge", ""), ("published", "host", "ports = [\"http\"]")] {
        let text = r#"job "ID" {
  group "g" {
    network {
      mode = "MODE"
      port "http" {
        to           = 8080
        host_network = "loop2"
      }
    }
    task "httpd" {
      driver = "docker"
      config {
        image   = "IMAGE"
        command = "/bin/sh"
        args    = ["-c", "echo here > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
        PORTS
      }
      resources {
        memory = 32
      }
    }
  }
}
"#;
        let text = text.replace("ID", id).replace("MODE", mode).replace("IMAGE", &image()).replace("PORTS", ports);
        let file = dir.path().join(format!("{id}.hcl"));
        std::fs::write(&file, text).unwrap();
        one.ok(&["job", "run", "-detach", &file.display().to_string()]);
        let running = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|a| a["ClientStatus"] == "running"));
        let allocs = one.until(&format!("/v1/job/{id}/allocations"), "it runs", running).await;
        let path = format!("/v1/allocation/{}", allocs[0]["ID"].as_str().unwrap());
        let port = one.until(&path, "it", Value::is_object).await["AllocatedResources"]["Shared"]["Ports"][0].clone();
        assert_eq!(port["HostIP"], "127.0.0.2");
        let answered = || async { get(&port).is_ok_and(|text| text.contains("here")) };
        eventually("an answer at the network's address", answered).await;
        let number = u16::try_from(port["Value"].as_u64().unwrap()).unwrap();
        let elsewhere = std::net::TcpStream::connect(("127.0.0.1", number)).map_err(|error| error.kind());
        assert_eq!(elsewhere.err(), Some(std::io::ErrorKind::ConnectionRefused));
        one.ok(&["job", "stop", "-detach", id]);
        one.until(&path, "it is complete", |v| v["ClientStatus"] == "complete").await;
    }
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

/// A job of one container that runs a script.
fn job(name: &str, kind: &str, script: &str, more: &str) -> String {
    let image = image();
    format!(
        r#"job "{name}" {{
  type = "{kind}"
  group "g" {{
    restart {{
      attempts = 0
      mode     = "fail"
    }}
    reschedule {{
      attempts  = 0
      unlimited = false
    }}
    task "t" {{
      driver = "docker"
      config {{
        image   = "{image}"
        command = "/bin/sh"
        args    = ["-c", "{script}"]
        {more}
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

async fn everyday() {
    let cluster = Cluster::start();
    let script = "trap 'echo usr1' USR1; echo up; echo content > /local/file; while :; do usleep 10000; done";
    let file = cluster.file("work.nomad.hcl", &job("work", "service", script, ""));
    cluster.ok(&["job", "run", "-detach", &file]);
    let alloc = cluster.until_allocs("work", "running", 1).await.remove(0);
    let id = alloc["ID"].as_str().unwrap().to_owned();
    let logs = || async { e2e::cluster::text(&cluster.steppe(&["alloc", "logs", &id]).stdout) };
    eventually("the first output", || async { logs().await == "up\n" }).await;

    // Two streams and an exit code, without a terminal.
    let ran = cluster.steppe(&[
        "alloc",
        "exec",
        "-i=false",
        "-t=false",
        &id,
        "/bin/sh",
        "-c",
        "echo out; echo err >&2; exit 9",
    ]);
    assert_eq!(
        (ran.stdout.as_slice(), ran.stderr.as_slice(), ran.status.code()),
        (&b"out\n"[..], &b"err\n"[..], Some(9))
    );
    // What is typed goes in.
    let mut typing = std::process::Command::new(e2e::cluster::program());
    typing
        .args(["alloc", "exec", "-i=true", "-t=false", &id, "/bin/cat"])
        .env("NOMAD_ADDR", format!("http://127.0.0.1:{}", cluster.port));
    let mut typing = typing.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    typing.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let typed = typing.wait_with_output().unwrap();
    assert_eq!((typed.stdout.as_slice(), typed.status.code()), (&b"typed\n"[..], Some(0)));
    // A terminal, as large as the caller's.
    let program = e2e::cluster::program();
    // The size comes a moment after the command's start.
    let size = "until /bin/busybox stty size 2>/dev/null | /bin/busybox grep 1; do usleep 20000; done";
    let inner = format!("stty rows 41 cols 123; exec {} alloc exec {id} /bin/sh -c '{size}'", program.display());
    let mut terminal = std::process::Command::new("script");
    terminal.args(["-qec", &inner, "/dev/null"]).env("NOMAD_ADDR", format!("http://127.0.0.1:{}", cluster.port));
    terminal.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut terminal = terminal.spawn().expect("script, of package bsdutils");
    // Whoever sits there types nothing, and stays.
    let keys = terminal.stdin.take();
    let seen = terminal.wait_with_output().unwrap();
    drop(keys);
    assert!(e2e::cluster::text(&seen.stdout).contains("41 123"), "{seen:?}");
    assert_eq!(seen.status.code(), Some(0), "{seen:?}");
    let nothing = cluster.steppe(&["alloc", "exec", "-i=false", "-t=false", &id, "/no/such"]);
    assert!(!nothing.status.success(), "{nothing:?}");

    cluster.ok(&["alloc", "signal", "-s", "SIGUSR1", &id]);
    eventually("the signal's trace", || async { logs().await == "up\nusr1\n" }).await;
    assert_eq!(cluster.ok(&["alloc", "fs", &id, "t/local/file"]), "content\n");
    let used = |v: &Value| v["ResourceUsage"]["MemoryStats"]["RSS"].as_u64().is_some_and(|rss| rss > 0);
    cluster.until(&format!("/v1/client/allocation/{id}/stats"), "its usage", used).await;

    let before = containers_of(&id);
    cluster.ok(&["alloc", "restart", &id]);
    let again = || async { containers_of(&id).len() == 1 && containers_of(&id) != before };
    eventually("another container", again).await;
    cluster.ok(&["job", "stop", "-detach", "work"]);
    eventually("no container", || async { containers_of(&id).is_empty() }).await;
}

async fn out_of_memory() {
    let cluster = Cluster::start();
    let script = "sleep 1; exec /bin/dd if=/dev/zero of=/dev/null bs=100M";
    let file = cluster.file("hungry.nomad.hcl", &job("hungry", "batch", script, ""));
    cluster.ok(&["job", "run", "-detach", &file]);
    let failed = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|a| a["ClientStatus"] == "failed"));
    let allocs = cluster.until("/v1/job/hungry/allocations", "it failed", failed).await;
    let events = allocs[0]["TaskStates"]["t"]["Events"].as_array().unwrap();
    let end = events.iter().find(|event| event["Type"] == "Terminated").unwrap();
    assert_eq!((&end["ExitCode"], &end["Details"]["oom_killed"]), (&137.into(), &"true".into()), "{end}");
    assert!(end["DisplayMessage"].as_str().unwrap().contains("OOM Killed"), "{end}");
}

async fn refused() {
    let cluster = Cluster::start();
    let file = cluster
        .file("typo.nomad.hcl", &job("typo", "batch", "true", "network_mod = \"none\"\n        tty = \"maybe\""));
    for words in [&["job", "run", "-detach"][..], &["job", "plan"], &["job", "validate"]] {
        let said = cluster.steppe(&[words, &[file.as_str()]].concat());
        let text = e2e::cluster::text(&said.stdout) + &e2e::cluster::text(&said.stderr);
        assert!(!said.status.success(), "{words:?}: {text}");
        assert!(text.contains("unknown key \"network_mod\", did you mean \"network_mode\"?"), "{words:?}: {text}");
        assert!(text.contains("\"tty\" must be true or false"), "{words:?}: {text}");
    }
    assert_eq!(cluster.get("/v1/jobs").await, serde_json::json!([]));
}

async fn engine_away() {
    let mut engine = dockerd::Dockerd::start(&image(), true);
    let dir = tempfile::tempdir().unwrap();
    let more = format!(
        "plugin \"docker\" {{\n  config {{\n    endpoint = \"{}\"\n  }}\n}}\nplugin \"raw_exec\" {{\n  config {{\n    enabled = true\n  }}\n}}\n",
        engine.host()
    );
    let mut machine = e2e::machine::Machine::new(dir.path(), "alone", "127.0.0.1", e2e::ports::free_port(), &more);
    machine.start(&["-dev"]);
    let health = |healthy: bool| {
        move |v: &Value| v.as_array().is_some_and(|n| n.len() == 1 && n[0]["Drivers"]["docker"]["Healthy"] == healthy)
    };
    let node =
        machine.until("/v1/nodes", "the engine is found", health(true)).await[0]["ID"].as_str().unwrap().to_owned();
    let count = "i=0; while :; do i=$((i+1)); echo $i; usleep 100000; done";
    let plain = job("beside", "service", count, "")
        .replace("\"docker\"", "\"raw_exec\"")
        .replace(&format!("image   = \"{}\"", image()), "")
        .replace("usleep 100000", "sleep 0.1");
    for (name, text) in [("inside", job("inside", "service", count, "")), ("beside", plain)] {
        let path = dir.path().join(format!("{name}.nomad.hcl"));
        std::fs::write(&path, text).unwrap();
        machine.ok(&["job", "run", "-detach", path.to_str().unwrap()]);
    }
    let running = |v: &Value| v.as_array().is_some_and(|all| all.len() == 1 && all[0]["ClientStatus"] == "running");
    let mut before = Vec::new();
    for name in ["inside", "beside"] {
        before.push(machine.until(&format!("/v1/job/{name}/allocations"), "it runs", running).await[0].clone());
    }
    let containers = engine.docker(&["ps", "-q", "--no-trunc"]).unwrap();
    assert_eq!(containers.lines().count(), 1);

    engine.end("-KILL");
    machine.until("/v1/nodes", "ill health is told", health(false)).await;
    // A job that asks for containers waits; the others go on.
    let path = dir.path().join("late.nomad.hcl");
    std::fs::write(&path, job("late", "service", count, "")).unwrap();
    machine.ok(&["job", "run", "-detach", path.to_str().unwrap()]);
    let blocked = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|eval| eval["Status"] == "blocked"));
    machine.until("/v1/job/late/evaluations", "it waits", blocked).await;
    for name in ["inside", "beside"] {
        machine.until(&format!("/v1/job/{name}/allocations"), "it runs on", running).await;
    }

    engine.begin();
    machine.until("/v1/nodes", "good health is told", health(true)).await;
    machine.until("/v1/job/late/allocations", "it waits no longer", running).await;
    for (name, before) in ["inside", "beside"].into_iter().zip(&before) {
        let now = &machine.until(&format!("/v1/job/{name}/allocations"), "it runs on", running).await[0];
        assert_eq!(now["ID"], before["ID"]);
        assert_eq!(now["TaskStates"]["t"]["StartedAt"], before["TaskStates"]["t"]["StartedAt"]);
        assert_eq!(now["TaskStates"]["t"]["Restarts"], 0);
    }
    assert!(engine.docker(&["ps", "-q", "--no-trunc"]).unwrap().contains(&containers));
    let told = machine.until(&format!("/v1/node/{node}"), "node", |v| v["Events"].is_array()).await;
    let of_docker = |event: &&Value| event["Subsystem"] == "Driver" && event["Details"]["driver"] == "docker";
    let told: Vec<&str> =
        told["Events"].as_array().unwrap().iter().filter(of_docker).map(|e| e["Message"].as_str().unwrap()).collect();
    assert!(told.ends_with(&["Failed to connect to docker daemon", "Healthy"]), "{told:?}");
    // Output that was written meanwhile is there.
    let id = before[0]["ID"].as_str().unwrap();
    let lines: Vec<u64> = machine.ok(&["alloc", "logs", id]).lines().map(|line| line.parse().unwrap()).collect();
    assert!(lines.windows(2).all(|pair| pair[0] < pair[1]), "{lines:?}");
    for name in ["inside", "late", "beside"] {
        machine.ok(&["job", "stop", "-detach", name]);
    }
    eventually("no container", || async { engine.docker(&["ps", "-aq"]).is_some_and(|ids| ids.is_empty()) }).await;
    machine.end("-INT");
}

async fn eventually<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    let until = std::time::Instant::now() + e2e::cluster::WITHIN;
    while !done().await {
        assert!(std::time::Instant::now() < until, "never came: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
