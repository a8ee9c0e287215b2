//! What an operator sees of a machine and does to it: its log, its metrics, its settings read again.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use e2e::cluster::program;
use e2e::fleet::ready_nodes;
use e2e::machine::Machine;
use e2e::ports::free_port;
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(30);

fn machine(dir: &std::path::Path, more: &str) -> Machine {
    let more = format!(
        "server {{\n  enabled = true\n  bootstrap_expect = 1\n}}\nclient {{ enabled = true }}\nplugin \"raw_exec\" {{ \
         config {{ enabled = true }} }}\n{more}"
    );
    Machine::new(dir, "one", "127.0.0.1", free_port(), &more)
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
    let nodes = one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
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
    // What keeps them is heard, too; by the agent on a machine without a server.
    one.ok(&["operator", "api", "-X", "POST", "/v1/agent/reload"]);
    let read_again = |line: &str| line.contains("configuration was read again");
    assert!(server.until("the machine's own line", read_again).starts_with("machine "));
    let line = json.until("the same as JSON", read_again);
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["process"], &value["level"]), (&"machine".into(), &"INFO".into()), "{line}");
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

/// Names that dashboards made for the reference read, and what has them here from the first minute on.
const NAMES: &[&str] = &[
    "nomad.client.allocated.cpu",
    "nomad.client.allocated.disk",
    "nomad.client.allocated.max_memory",
    "nomad.client.allocated.memory",
    "nomad.client.allocations.pending",
    "nomad.client.allocations.running",
    "nomad.client.allocations.terminal",
    "nomad.client.allocs.cpu.allocated",
    "nomad.client.allocs.cpu.total_percent",
    "nomad.client.allocs.cpu.total_ticks",
    "nomad.client.allocs.memory.allocated",
    "nomad.client.allocs.memory.rss",
    "nomad.client.allocs.memory.usage",
    "nomad.client.host.cpu.idle",
    "nomad.client.host.cpu.system",
    "nomad.client.host.cpu.total_percent",
    "nomad.client.host.cpu.total_ticks",
    "nomad.client.host.cpu.user",
    "nomad.client.host.disk.available",
    "nomad.client.host.disk.inodes_percent",
    "nomad.client.host.disk.size",
    "nomad.client.host.disk.used",
    "nomad.client.host.disk.used_percent",
    "nomad.client.host.memory.available",
    "nomad.client.host.memory.free",
    "nomad.client.host.memory.total",
    "nomad.client.host.memory.used",
    "nomad.client.tasks.dead",
    "nomad.client.tasks.pending",
    "nomad.client.tasks.running",
    "nomad.client.unallocated.cpu",
    "nomad.client.unallocated.disk",
    "nomad.client.unallocated.memory",
    "nomad.client.uptime",
    "nomad.nomad.autopilot.failure_tolerance",
    "nomad.nomad.autopilot.healthy",
    "nomad.nomad.blocked_evals.total_blocked",
    "nomad.nomad.blocked_evals.total_escaped",
    "nomad.nomad.broker.total_pending",
    "nomad.nomad.broker.total_ready",
    "nomad.nomad.broker.total_unacked",
    "nomad.nomad.broker.total_waiting",
    "nomad.nomad.heartbeat.active",
    "nomad.nomad.job_status.dead",
    "nomad.nomad.job_status.pending",
    "nomad.nomad.job_status.running",
    "nomad.nomad.job_summary.complete",
    "nomad.nomad.job_summary.failed",
    "nomad.nomad.job_summary.lost",
    "nomad.nomad.job_summary.queued",
    "nomad.nomad.job_summary.running",
    "nomad.nomad.job_summary.starting",
    "nomad.nomad.job_summary.unknown",
    "nomad.raft.appliedIndex",
    "nomad.raft.lastIndex",
    "nomad.raft.peers",
];

fn names(metrics: &Value) -> Vec<String> {
    let all = metrics["Gauges"].as_array().into_iter().flatten();
    all.filter_map(|gauge| gauge["Name"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_read_with_their_labels_and_are_sent_by_udp() {
    let dir = tempfile::tempdir().unwrap();
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(WITHIN)).unwrap();
    let statsite = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, taken) = mpsc::channel();
    let by_tcp = statsite.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut rounds = statsite.incoming().map(|stream| std::io::read_to_string(stream.unwrap()).unwrap());
        let found = rounds.find(|text| text.contains("nomad.nomad.broker.total_ready.one:0|g\n"));
        let _ = sender.send(found.unwrap());
    });
    let more = format!(
        "telemetry {{\n  use_node_name = true\n  statsite_address = \"{by_tcp}\"\n  publish_node_metrics = true\n  publish_allocation_metrics = true\n  datadog_address = \"{}\"\n  \
         datadog_tags = [\"env:test\"]\n}}\n",
        sink.local_addr().unwrap()
    );
    let mut one = machine(dir.path(), &more);
    one.start(&[]);
    one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    one.ok(&["job", "run", "-detach", &job(dir.path(), "counted")]);
    let missing = |v: &Value| {
        let there = names(v);
        NAMES.iter().filter(|name| !there.iter().any(|t| t == *name)).copied().collect::<Vec<_>>()
    };
    let metrics = one.until("/v1/metrics", "all names", |v| missing(v).is_empty()).await;
    let labelled = |name: &str| {
        let gauge = metrics["Gauges"].as_array().unwrap().iter().find(|g| g["Name"] == name).unwrap();
        gauge["Labels"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(labelled("nomad.nomad.job_summary.running"), ["host", "job", "namespace", "task_group"]);
    assert_eq!(
        labelled("nomad.client.allocs.memory.usage"),
        ["alloc_id", "host", "job", "namespace", "node_id", "task", "task_group"]
    );
    assert_eq!(
        labelled("nomad.client.allocations.running"),
        ["datacenter", "host", "node_class", "node_id", "node_pool", "node_scheduling_eligibility", "node_status"]
    );
    let text = one.ok(&["operator", "metrics", "-format", "prometheus"]);
    assert!(text.contains("nomad_nomad_job_summary_running{host=\"one\",job=\"counted\""), "{text}");
    // Counted since the start.
    for name in [
        "nomad_raft_apply",
        "nomad_raft_commitTime_count",
        "nomad_raft_fsm_apply_count",
        "nomad_raft_state_leader",
        "nomad_nomad_fsm_cluster_meta_count",
        "nomad_nomad_fsm_register_node_count",
        "nomad_nomad_fsm_register_job_count",
        "nomad_nomad_fsm_apply_plan_results_count",
        "nomad_nomad_rpc_query",
        "nomad_nomad_rpc_request",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name}{{host=\"one\""))), "{name} not in\n{text}");
    }

    let text = taken.recv_timeout(WITHIN).expect("statsite is sent to");
    assert!(text.lines().all(|line| line.contains(':') && line.contains('|')) && !text.contains('#'), "{text}");
    let mut packet = [0; 2_048];
    loop {
        let length = sink.recv(&mut packet).expect("packets come");
        let packet = std::str::from_utf8(&packet[..length]).unwrap();
        assert!(packet.lines().all(|line| line.contains("|#") && line.contains("env:test")), "{packet}");
        if packet.contains("nomad.nomad.broker.total_ready:0|g|#host:one") {
            break;
        }
    }
}

#[tokio::test]
async fn a_configuration_read_again_names_what_waits_for_the_next_start_and_profiles_need_debugging() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = machine(dir.path(), "log_level = \"INFO\"\n");
    one.start(&[]);
    one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let said = text_of(&one, &["monitor", "export", "-on-disk"]);
    assert!(said.contains("keeps no log file"), "{said}");
    for path in ["/v1/agent/pprof/cmdline", "/v1/agent/host"] {
        let said = text_of(&one, &["operator", "api", path]);
        assert!(said.contains("Permission denied"), "{said}");
    }
    let file = dir.path().join("one.hcl");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("\"INFO\"", "\"WARN\"");
    let log_file = dir.path().join("more.log");
    let now = format!(
        "{text}enable_debug = true\nlimits {{ http_max_conns_per_client = 7 }}\nlog_file = \"{}\"\nleave_on_terminate = true\n\
         client {{ meta {{ rack = \"r9\" }} }}\ntelemetry {{ filter_default = false prefix_filter = [\"+nomad.raft\"] }}\n",
        log_file.display()
    );
    std::fs::write(&file, now).unwrap();
    one.ok(&["operator", "api", "-X", "POST", "/v1/agent/reload"]);
    let deadline = Instant::now() + WITHIN;
    let wanted = "taking effect at the next start only: enable_debug";
    while !one.log().contains(wanted) {
        assert!(Instant::now() < deadline, "{}", one.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(one.log().contains("log level is warn"), "{}", one.log());
    // From now on lines go to the file, too, and the machine leaves when it is told to end.
    let config = one.until("/v1/agent/self", "settings", |v| v["config"]["LeaveOnTerm"] == true).await;
    assert_eq!(config["config"]["EnableDebug"], false, "that waits");
    // Metadata, telemetry and limits do not wait.
    let node = one.until("/v1/nodes?prefix=", "a node", |v| ready_nodes(v) == 1).await[0]["ID"].clone();
    let path = format!("/v1/node/{}", node.as_str().unwrap());
    one.until(&path, "the node's new metadata", |v| v["Meta"]["rack"] == "r9").await;
    one.until("/v1/metrics", "fewer metrics", |v| {
        let names: Vec<&str> =
            v["Gauges"].as_array().into_iter().flatten().filter_map(|g| g["Name"].as_str()).collect();
        !names.is_empty() && names.iter().all(|name| name.starts_with("nomad.raft"))
    })
    .await;
    assert!(!one.log().contains("starting it again"), "{}", one.log());
    for words in
        [&["monitor", "export", "-on-disk"] as &[&str], &["monitor", "export", "-on-disk", "-server-id", "one"]]
    {
        let exported = one.ok(words);
        assert!(exported.lines().any(|line| line.starts_with("machine ") && line.contains(wanted)), "{exported}");
    }
    let said = text_of(&one, &["monitor", "export", "-on-disk", "-follow"]);
    assert!(said.contains("Cannot follow log file"), "{said}");
    one.end("-TERM");
    let kept = std::fs::read_to_string(&log_file).unwrap();
    assert!(
        kept.contains(wanted) && kept.contains("the only one that votes") && !kept.contains("is starting"),
        "{kept}"
    );
    one.start(&[]);
    one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    assert!(text_of(&one, &["operator", "api", "/v1/agent/pprof/cmdline"]).contains("serve\0gateway"));
    let nodes = one.until("/v1/nodes", "the node", |v| ready_nodes(v) == 1).await;
    let id = nodes[0]["ID"].as_str().unwrap();
    let host = one.until("/v1/agent/host", "the host", Value::is_object).await;
    assert!(host["OS"].as_str().unwrap().contains("Linux"), "{host}");
    assert!(host["Environment"]["PATH"].is_string() && host["Disk"].is_object(), "{host}");
    for (query, agent) in [(format!("node_id={id}"), id), ("server_id=leader".to_owned(), "one.global")] {
        let named = one.until(&format!("/v1/agent/host?{query}"), "the host", Value::is_object).await;
        assert_eq!((&named["AgentID"], &named["HostData"]["OS"]), (&agent.into(), &host["OS"]));
    }
    let said = text_of(&one, &["operator", "api", "/v1/agent/host?node_id=a&server_id=b"]);
    assert!(said.contains("Can only forward to either client node or server"), "{said}");
    let said = text_of(&one, &["operator", "api", "/v1/agent/pprof/heap"]);
    assert!(said.contains("no such runtime is here"), "{said}");
    let said = text_of(&one, &["operator", "api", "/v1/agent/pprof/nothing"]);
    assert!(said.contains("Pprof profile not found profile: nothing"), "{said}");
}

/// Whatever a command says.
fn text_of(machine: &Machine, words: &[&str]) -> String {
    let done = machine.steppe(words);
    e2e::cluster::text(&done.stdout) + &e2e::cluster::text(&done.stderr)
}
