//! What happens to a machine that nobody wished for: each is survived, or refused with one clear sentence.
#![allow(clippy::unwrap_used)]

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::cluster::WITHIN;
use e2e::disk::Disk;
use e2e::fleet::ready_nodes;
use e2e::machine::{KEY, Machine, RAW_EXEC};
use e2e::ports::free_port;
use serde_json::Value;

#[test]
fn whichever_port_is_taken_the_refusal_names_it_and_its_key() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let server = format!("server {{\n  enabled = true\n  bootstrap_expect = 1\n  encrypt = \"{KEY}\"\n}}\n");
    let machine = Machine::new(dir.path(), "m", "127.0.0.1", port, &server);
    let expected =
        |port: u16, key: &str| format!("127.0.0.1:{port} cannot be listened on ({key}): is another agent running?");
    for (n, key) in [(0, "ports.http"), (1, "ports.rpc")] {
        let held = TcpListener::bind(("127.0.0.1", port + n)).unwrap();
        let said = machine.refused(&[]);
        assert!(said.contains(&expected(port + n, key)), "{said}");
        drop(held);
    }
    let held = UdpSocket::bind(("127.0.0.1", port + 2)).unwrap();
    let said = machine.refused(&[]);
    assert!(said.contains(&expected(port + 2, "ports.serf")), "{said}");
    drop(held);
    let client = format!("client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n", port + 1);
    let client = Machine::new(dir.path(), "c", "127.0.0.1", port, &client);
    let _held = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let said = client.refused(&[]);
    assert!(said.contains(&expected(port, "ports.http")), "{said}");
    assert!(!dir.path().join("c/client").exists(), "nothing was begun");
}

fn job(dir: &Path, id: &str, script: &str) -> String {
    let path = dir.join(format!("{id}.hcl"));
    let text = format!(
        "job \"{id}\" {{\n  group \"g\" {{\n    restart {{\n      attempts = 1\n      \
         interval = \"5s\"\n      delay = \"1s\"\n      mode = \"delay\"\n    }}\n    task \"t\" {{\n      driver = \"raw_exec\"\n      \
         config {{\n        command = \"/bin/sh\"\n        args = [\"-c\", \"{script}\"]\n      }}\n      resources {{\n        cpu = \
         20\n        memory = 20\n      }}\n    }}\n  }}\n}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// The number grows: whoever writes it lives.
fn until_more(path: &Path, more: usize) {
    let (began, deadline) = (lines(path), Instant::now() + WITHIN);
    while lines(path) < began + more {
        assert!(Instant::now() < deadline, "{} does not grow", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn status(of: &'static str) -> impl Fn(&Value) -> bool {
    move |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|a| a["ClientStatus"] == of))
}

#[tokio::test]
async fn a_full_disk_at_the_agent_harms_no_neighbour_and_is_over_when_there_is_room() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let disk = Disk::mount(dir.path().join("disk"), 24);
    let more = format!(
        "server {{\n  enabled = true\n  bootstrap_expect = 1\n}}\nclient {{\n  enabled = true\n  state_dir = \"{0}/state\"\n  alloc_dir \
         = \"{0}/alloc\"\n  gc_disk_usage_threshold = 100\n  gc_inode_usage_threshold = 100\n  disk_total_mb = 10000\n}}\n{RAW_EXEC}",
        disk.path().display()
    );
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, &more);
    one.start(&[]);
    one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let ticks = dir.path().join("ticks");
    // It says so much that its logs need room, too.
    let script = format!("while true; do echo $$ >> {}; echo tick tick tick; sleep 0.02; done", ticks.display());
    one.ok(&["job", "run", "-detach", &job(dir.path(), "neighbour", &script)]);
    one.until("/v1/job/neighbour/allocations", "it runs", status("running")).await;
    until_more(&ticks, 5);

    disk.fill();
    one.ok(&["job", "run", "-detach", &job(dir.path(), "late", "exec sleep 1000")]);
    let said = |v: &Value| {
        let states = v.as_array().and_then(|all| all.first()?["TaskStates"]["t"]["Events"].as_array().cloned());
        let texts: Vec<String> = states.into_iter().flatten().map(|e| e["DisplayMessage"].to_string()).collect();
        texts.into_iter().find(|text| text.to_lowercase().contains("no space left on device"))
    };
    let allocs = one.until("/v1/job/late/allocations", "it says that there is no room", |v| said(v).is_some()).await;
    let text = said(&allocs).unwrap();
    assert!(text.contains("there is no room for the task's state: No space left on device"), "{text}");
    one.until("/v1/nodes", "the node is ready all the time", |v| ready_nodes(v) == 1).await;
    until_more(&ticks, 50);
    // The agent goes and comes back while there is no room.
    let noted: Value = serde_json::from_slice(&std::fs::read(disk.path().join("state/process.json")).unwrap()).unwrap();
    e2e::cluster::kill_9(u32::try_from(noted["pid"].as_u64().unwrap()).unwrap());
    let log = || std::fs::read_to_string(dir.path().join("one.log")).unwrap_or_default();
    let deadline = Instant::now() + WITHIN;
    while !log().contains("agent has ended") {
        assert!(Instant::now() < deadline, "{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    until_more(&ticks, 50);

    disk.make_room();
    one.until("/v1/job/late/allocations", "it runs when there is room", status("running")).await;
    one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    until_more(&ticks, 5);
    let text = std::fs::read_to_string(&ticks).unwrap();
    let mut pids: Vec<&str> = text.lines().collect();
    pids.dedup();
    assert_eq!(pids.len(), 1, "the neighbour was never started anew: {pids:?}");
    for job in ["neighbour", "late"] {
        one.ok(&["job", "stop", "-purge", "-detach", job]);
    }
    let over = |v: &Value| v.as_array().is_none_or(|a| a.iter().all(|a| a["ClientStatus"] == "complete"));
    one.until("/v1/allocations", "no task is left", over).await;
    one.end("-TERM");
}
