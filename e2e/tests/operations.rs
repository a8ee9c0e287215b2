//! What an operator sees of a machine and does to it: its log, its metrics, its settings read again.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use e2e::cluster::{free_port, program};
use e2e::machine::Machine;
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(30);

fn machine(dir: &std::path::Path, more: &str) -> Machine {
    let more = format!(
        "server {{\n  enabled = true\n  bootstrap_expect = 1\n}}\nclient {{ enabled = true }}\nplugin \"raw_exec\" {{ \
         config {{ enabled = true }} }}\n{more}"
    );
    Machine::new(dir, "one", "127.0.0.1", free_port(), &more)
}

fn ready(nodes: &Value) -> bool {
    nodes.as_array().is_some_and(|all| all.iter().any(|n| n["Status"] == "ready"))
}

/// A command that goes on, read line by line.
struct Watched {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watched {
    fn start(machine: &Machine, words: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(words).env("NOMAD_ADDR", &machine.address).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Reads until a line is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let (deadline, mut seen) = (Instant::now() + WITHIN, Vec::new());
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if wanted(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("not in time: {what}\n{}", seen.join("\n"));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn job(dir: &std::path::Path, name: &str) -> String {
    let path = dir.join(format!("{name}.hcl"));
    let text = format!(
        "job \"{name}\" {{\n  group \"g\" {{\n    task \"t\" {{\n      driver = \"raw_exec\"\n      config {{\n        command \
         = \"/bin/sleep\"\n        args    = [\"1000\"]\n      }}\n      resources {{\n        cpu = 20\n        memory = \
         20\n      }}\n    }}\n  }}\n}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_machines_log_is_watched_whole_finer_than_it_is_kept_and_also_by_node_and_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = machine(dir.path(), "log_level = \"WARN\"\n");
    one.start(&[]);
    let nodes = one.until("/v1/nodes", "the node is ready", ready).await;
    let node = nodes[0]["ID"].as_str().unwrap().to_owned();
    let text = Watched::start(&one, &["monitor"]);
    let json = Watched::start(&one, &["monitor", "-json", "-log-level", "debug", "-node-id", &node]);
    let server = Watched::start(&one, &["monitor", "-server-id", "leader", "-log-level", "TRACE"]);
    // All three read when each has said something: the agent takes an allocation up, and says so.
    let taken_up = |line: &str| line.contains("allocation is taken up");
    let mut n = 0;
    let mut first = |watched: &Watched, what: &str| {
        let deadline = Instant::now() + WITHIN;
        loop {
            n += 1;
            one.ok(&["job", "run", "-detach", &job(dir.path(), &format!("job-{n}"))]);
            let found = watched.lines.recv_timeout(Duration::from_secs(5)).ok();
            let more = std::iter::from_fn(|| watched.lines.recv_timeout(Duration::from_secs(1)).ok());
            if let Some(line) = found.into_iter().chain(more).find(|line| taken_up(line)) {
                return line;
            }
            assert!(Instant::now() < deadline, "not in time: {what}");
        }
    };
    assert!(first(&text, "text").starts_with("agent "));
    let line = first(&json, "json");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["process"], &value["level"]), (&"agent".into(), &"INFO".into()), "{line}");
    assert!(first(&server, "server").starts_with("agent "));
    // A process that dies is said to be gone, and read again when it is back: or it could not be gone again.
    let gone = |line: &str| line.starts_with("scheduler ") && line.contains("cannot be read at the moment");
    let before = one.process("server/scheduler");
    e2e::cluster::kill_9(before);
    text.until("it is gone", gone);
    let deadline = Instant::now() + WITHIN;
    loop {
        assert!(Instant::now() < deadline, "it is not read again");
        let now = one.process("server/scheduler");
        let more = std::iter::from_fn(|| text.lines.recv_timeout(Duration::from_secs(2)).ok());
        let mut more = more.take(100);
        if now != before {
            // Ends in good order here, and is started again all the same.
            let _ = Command::new("kill").args(["-TERM", &now.to_string()]).status();
        }
        if more.any(|line| gone(&line)) {
            break;
        }
    }
    assert!(!one.log().contains(" INFO agent::"), "its own log stays as it is configured: {}", one.log());
}
