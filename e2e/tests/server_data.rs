//! A server's data: read while it is off, of a newer program, of another cluster; and the root keys in them, turning.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use client::public::{PublicClient, Query};
use e2e::cluster::{WITHIN, text};
use e2e::machine::{KEY, Machine};
use e2e::ports::free_port;
use serde_json::Value;

fn leads(v: &Value) -> bool {
    v.as_str().is_some_and(|l| !l.is_empty())
}

/// A server on its own; `more` is inside its block.
fn alone(dir: &std::path::Path, name: &str, ip: &str, port: u16, more: &str) -> Machine {
    let text = format!("server {{\n  enabled = true\n  bootstrap_expect = 1\n  encrypt = \"{KEY}\"\n{more}}}\n");
    Machine::new(dir, name, ip, port, &text)
}

async fn kids(server: &Machine) -> Vec<String> {
    let api = PublicClient::new(server.settings()).unwrap();
    let (keys, _) = api.get::<Value>("/.well-known/jwks.json", &Query::default()).await.unwrap();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn keys_in(v: &Value, state: &str) -> Vec<String> {
    let all = v.as_array().into_iter().flatten().filter(|key| key["State"] == state);
    all.map(|key| key["KeyID"].as_str().unwrap().to_owned()).collect()
}

/// keyring-005, and gc-015 in short.
#[tokio::test]
async fn root_keys_turn_by_themselves_and_the_next_one_is_told_before_it_signs() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let times = "root_key_rotation_threshold = \"8s\"\nroot_key_gc_threshold = \"1s\"\nroot_key_gc_interval = \"1s\"\n";
    let mut one = alone(dir.path(), "one", "127.0.0.1", port, times);
    one.start(&[]);
    let path = "/v1/operator/keyring/keys";
    let first = one.until(path, "one key from the beginning", |v| keys_in(v, "active").len() == 1).await;
    let first = keys_in(&first, "active").remove(0);
    let ahead = one.until(path, "the next is published", |v| keys_in(v, "prepublished").len() == 1).await;
    assert_eq!(keys_in(&ahead, "active"), [first.as_str()], "and does not sign yet");
    let next = keys_in(&ahead, "prepublished").remove(0);
    let told = kids(&one).await;
    assert!(told.contains(&first) && told.contains(&next), "{told:?}");
    let gone = |v: &Value| keys_in(v, "active") == [next.as_str()] && keys_in(v, "inactive").is_empty();
    one.until(path, "the next signs, and the first is forgotten", gone).await;
    assert!(!kids(&one).await.contains(&first));
}

#[tokio::test]
async fn a_stopped_server_s_data_are_shown_without_secrets_and_a_running_one_s_are_not() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut one = alone(dir.path(), "one", "127.0.0.1", port, "");
    one.start(&[]);
    one.until("/v1/status/leader", "a leader", leads).await;
    one.ok(&["namespace", "apply", "-description", "seen later", "kept"]);
    let data = one.data.display().to_string();
    let raft = |words: &[&str]| one.steppe(&[&["operator", "raft"], words].concat());
    for what in ["info", "logs", "state", "migrate-backend"] {
        let refused = raft(&[what, &data]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("a server is running on"), "{}", text(&refused.stderr));
    }
    assert!(text(&raft(&["info", "/nowhere"]).stderr).contains("/nowhere holds no data of a server"));

    one.end("-TERM");
    let info = one.ok(&["operator", "raft", "info", &data]);
    assert!(info.lines().any(|l| l.starts_with("Log Entries") && l.contains("1 to ")), "{info}");
    let said = one.ok(&["operator", "raft", "migrate-backend", "-yes", &data]);
    assert!(said.starts_with("Nothing to migrate"), "{said}");
    let logs = one.ok(&["operator", "raft", "logs", "-pretty", &data]);
    let entries: Value = serde_json::from_str(&logs).unwrap();
    let indexes: Vec<u64> = entries.as_array().unwrap().iter().map(|e| e["Index"].as_u64().unwrap()).collect();
    assert!(indexes.len() > 3 && indexes.windows(2).all(|w| w[1] == w[0] + 1), "{indexes:?}");
    assert!(logs.contains("seen later") && logs.contains("<redacted>") && !logs.contains("\"wrapping_key\": \"A"));
    let state: Value = serde_json::from_str(&one.ok(&["operator", "raft", "state", &data])).unwrap();
    let kept = state["namespaces"].as_array().unwrap().iter().find(|n| n["Name"] == "kept").unwrap();
    assert_eq!(kept["Description"], "seen later");
    let early: Value =
        serde_json::from_str(&one.ok(&["operator", "raft", "state", "-last-index", "2", &data])).unwrap();
    assert!(!early.to_string().contains("seen later"), "{early}");

    // Who only looked changed nothing.
    one.start(&[]);
    let there = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|n| n["Name"] == "kept"));
    one.until("/v1/namespaces", "it goes on", there).await;
    one.end("-TERM");
    // Data of a newer program are left alone, by whoever looks.
    std::fs::write(one.data.join("server/state/raft/format"), "999").unwrap();
    let newer = "was written by a newer steppe: its format is 999";
    assert!(text(&one.steppe(&["operator", "raft", "info", &data]).stderr).contains(newer));
    one.start(&[]);
    wait_for(&one, newer);
}

fn wait_for(machine: &Machine, said: &str) {
    let deadline = Instant::now() + WITHIN;
    while !machine.log().contains(said) {
        assert!(Instant::now() < deadline, "`{said}` is not said:\n{}", machine.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_server_with_another_cluster_s_data_says_so_and_joins_nobody() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut ours = alone(dir.path(), "ours", "127.0.0.1", port, "");
    ours.start(&[]);
    ours.until("/v1/status/leader", "a leader", leads).await;
    let mut other = alone(dir.path(), "other", "127.0.0.2", port, "");
    other.start(&[]);
    other.until("/v1/status/leader", "a leader of its own", leads).await;
    other.end("-TERM");
    let join = format!("server_join {{ retry_join = [\"127.0.0.1:{}\"] }}\n", port + 2);
    let mut other = alone(dir.path(), "other", "127.0.0.2", port, &join);
    other.start(&[]);
    wait_for(&other, "this server's data are of cluster");
    wait_for(&other, "start it with an empty data directory to join them");
    let raft = ours.until("/v1/operator/raft/configuration", "an answer", |v| v["Servers"].is_array()).await;
    assert_eq!(raft["Servers"].as_array().unwrap().len(), 1, "{raft}");
    ours.until("/v1/status/leader", "ours goes on", leads).await;
    // With nothing of its own it is one of them.
    other.end("-TERM");
    std::fs::remove_dir_all(other.data.join("server")).unwrap();
    other.start(&[]);
    let two = |v: &Value| v["Servers"].as_array().is_some_and(|s| s.len() == 2);
    ours.until("/v1/operator/raft/configuration", "two servers", two).await;
}
