//! Looking after servers: joining by hand, saying that one will not come back, which node is the machine's own.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use e2e::fleet::ready_nodes;
use e2e::machine::{KEY, Machine};
use e2e::ports::free_port;
use serde_json::{Value, json};

/// A server of three; with `joins`, one that was told to join the first.
fn server(dir: &Path, n: u16, port: u16, joins: bool, more: &str) -> Machine {
    let join =
        if joins { format!("server_join {{ retry_join = [\"127.0.0.1:{}\"] }}\n", port + 2) } else { String::new() };
    let text =
        format!("server {{\n  enabled = true\n  bootstrap_expect = 3\n  encrypt = \"{KEY}\"\n  {join}}}\n{more}");
    Machine::new(dir, &format!("server-{n}"), &format!("127.0.0.{n}"), port, &text)
}

fn members(v: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = v["Members"].as_array().cloned().unwrap_or_default();
    all.iter().map(|m| (text(&m["Name"]), text(&m["Status"]))).collect()
}

/// leader-004
#[tokio::test]
async fn a_server_joins_by_hand_and_one_said_farewell_to_gives_up_its_place() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut servers: Vec<Machine> = (1..=3).map(|n| server(dir.path(), n, port, n == 2, "")).collect();
    servers.iter_mut().for_each(|s| s.start(&[]));
    servers[0].until("/v1/agent/members", "two find each other", |v| members(v).len() == 2).await;
    servers[2].until("/v1/agent/members", "the third is alone", |v| members(v).len() == 1).await;

    let nowhere = servers[2].steppe(&["server", "join", "127.0.0.9"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let said = e2e::cluster::text(&nowhere.stderr);
    assert!(said.contains("127.0.0.9:4648: nobody answers there who has a gossip key of this cluster"), "{said}");
    let joined = servers[2].ok(&["server", "join", &format!("127.0.0.1:{}", port + 2)]);
    assert_eq!(joined.trim(), "Joined 1 servers successfully");
    for server in &servers {
        server.until("/v1/status/peers", "three servers", |v| v.as_array().is_some_and(|p| p.len() == 3)).await;
    }
    let info = servers[2].ok(&["agent-info"]);
    for line in ["  members = 3", "  num_peers = 2", "  known_regions = 1", "  encrypted = true"] {
        assert!(info.lines().any(|l| l == line), "{line} not in\n{info}");
    }

    // Leadership goes where an operator wants it.
    let raft = servers[0].until("/v1/operator/raft/configuration", "three voters", |v| {
        v["Servers"].as_array().is_some_and(|s| s.len() == 3)
    });
    let raft = raft.await;
    let follower =
        raft["Servers"].as_array().unwrap().iter().find(|s| s["Leader"] == false && s["Node"] != "server-3.global");
    let follower = follower.unwrap().clone();
    let moved =
        servers[2].ok(&["operator", "raft", "transfer-leadership", "-peer-id", follower["ID"].as_str().unwrap()]);
    assert!(moved.starts_with("Success. Leadership went from "), "{moved}");
    servers[1].until("/v1/status/leader", "the new leader", |v| *v == follower["Address"]).await;

    // Autopilot would take a dead server out by itself; here only the operator's word does.
    servers[0].ok(&["operator", "autopilot", "set-config", "-cleanup-dead-servers=false"]);
    servers[2].end("-TERM");
    let third = |status: &'static str| move |v: &Value| members(v).contains(&("server-3.global".into(), status.into()));
    servers[0].until("/v1/agent/members", "the third failed", third("failed")).await;
    servers[0].ok(&["server", "force-leave", "server-3.global"]);
    for server in &servers[..2] {
        server.until("/v1/agent/members", "the third left", third("left")).await;
        server.until("/v1/status/peers", "two servers", |v| v.as_array().is_some_and(|p| p.len() == 2)).await;
    }
    servers[0].ok(&["server", "force-leave", "server-1"]);
    servers[1].ok(&["server", "force-leave", "-prune", "server-3"]);
    for server in &servers[..2] {
        server.until("/v1/agent/members", "the third is not listed", |v| members(v).len() == 2).await;
    }
    // It comes back, to whom it was joined by hand; the one that was alive all the time still is.
    servers[2].start(&[]);
    for server in &servers {
        server.until("/v1/status/peers", "three again", |v| v.as_array().is_some_and(|p| p.len() == 3)).await;
        let alive = |v: &Value| members(v).len() == 3 && members(v).iter().all(|(_, status)| status == "alive");
        server.until("/v1/agent/members", "all alive", alive).await;
    }
}

#[tokio::test]
async fn a_machine_s_own_node_is_known_without_its_name() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let text = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\nclient { enabled = true }\n";
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, text);
    one.start(&[]);
    let text = format!("client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n", port + 1);
    let mut two = Machine::new(dir.path(), "two", "127.0.0.2", port, &text);
    one.until("/v1/nodes", "a node", |v| v.as_array().is_some_and(|n| n.len() == 1)).await;
    let token = one.ok(&["node", "intro", "create", "-node-name", "two"]);
    two.start(&["-client-intro-token", token.trim()]);
    let nodes = two.until("/v1/nodes", "two nodes", |v| ready_nodes(v) == 2).await;
    let id = |name: &str| nodes.as_array().unwrap().iter().find(|n| n["Name"] == name).unwrap()["ID"].clone();

    for (machine, name, is_server) in [(&one, "one", true), (&two, "two", false)] {
        let own =
            machine.until("/v1/agent/self", "itself", |v| v["stats"]["client"]["heartbeat_ttl"].is_string()).await;
        assert_eq!(own["stats"]["client"]["node_id"], id(name), "{own:#}");
        assert_eq!(
            (&own["config"]["Server"]["Enabled"], &own["config"]["NodeName"]),
            (&json!(is_server), &json!(name))
        );
        assert_eq!(own["stats"]["raft"].is_object(), is_server);
        machine.ok(&["node", "eligibility", "-self", "-disable"]);
        let ineligible = |v: &Value| v["SchedulingEligibility"] == "ineligible";
        one.until(&format!("/v1/node/{}", id(name).as_str().unwrap()), "its own node", ineligible).await;
        let host = machine.until("/v1/client/stats", "its own host", |v| v["Memory"].is_object()).await;
        assert!(host["Uptime"].as_u64().is_some());
        machine.ok(&["node", "meta", "apply", "-node-id", id(name).as_str().unwrap(), &format!("who={name}")]);
        machine.until("/v1/client/metadata", "its own words", |v| v["Meta"]["who"] == name).await;
        machine.ok(&["operator", "api", "-X", "PUT", "/v1/client/gc"]);
        let servers = machine.ok(&["node", "config", "-servers"]);
        assert!(servers.contains(&format!("127.0.0.1:{}", port + 1)), "{servers}");
    }
    let refused = two.steppe(&["client-config", "-update-servers", "127.0.0.9"]);
    assert!(e2e::cluster::text(&refused.stderr).contains("no server of this cluster answers at 127.0.0.9:4647"));
    two.ok(&["client-config", "-update-servers", &format!("127.0.0.1:{}", port + 1)]);
    let refused = two.steppe(&["server", "join", "127.0.0.1"]);
    assert!(e2e::cluster::text(&refused.stderr).contains("501 (Invalid method)"));
    two.until("/v1/nodes", "both are still ready", |v| ready_nodes(v) == 2).await;
}

/// keyring-003, keyring-005
#[tokio::test]
async fn root_keys_are_rotated_and_removed_by_hand_and_old_ones_verify_until_then() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let text = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n";
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, text);
    one.start(&[]);
    let keys = "/v1/operator/keyring/keys";
    let states = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().map(|k| k["State"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let first = one.until(keys, "one key", |v| states(v) == ["active"]).await[0]["KeyID"].clone();
    let first = first.as_str().unwrap();
    one.ok(&["operator", "root", "keyring", "rotate", "-full", "-verbose"]);
    let both = one.until(keys, "two keys", |v| states(v) == ["active", "inactive"]).await;
    let second = both[0]["KeyID"].as_str().unwrap().to_owned();
    assert_eq!(both[1]["KeyID"], first);
    let published = |v: &Value, id: &str| v["keys"].as_array().unwrap().iter().any(|k| k["kid"] == id);
    let jwks = one.until("/.well-known/jwks.json", "both verify", |v| published(v, &second)).await;
    assert!(published(&jwks, first), "{jwks:#}");
    let refused = one.steppe(&["operator", "root", "keyring", "remove", &second]);
    let said = e2e::cluster::text(&refused.stderr);
    assert!(said.contains("active root key cannot be deleted - call rotate first"), "{said}");
    let ahead = one.ok(&["operator", "root", "keyring", "rotate", "-prepublish", "1s"]);
    assert!(ahead.contains("prepublished"), "{ahead}");
    one.until(keys, "its time comes", |v| states(v) == ["active", "inactive", "inactive"]).await;
    // What a snapshot brings back is all of them.
    let file = dir.path().join("s.snap").display().to_string();
    one.ok(&["operator", "snapshot", "save", &file]);
    one.ok(&["operator", "root", "keyring", "remove", &first[..8]]);
    one.until(keys, "two are left", |v| states(v) == ["active", "inactive"]).await;
    let gone = |v: &Value| !published(v, first);
    one.until("/.well-known/jwks.json", "it verifies no more", gone).await;
    one.ok(&["operator", "snapshot", "restore", &file]);
    one.until(keys, "all three are back", |v| states(v).len() == 3).await;
}

/// Whoever launches periodic jobs may die at any time: others go on, and no turn is taken twice.
#[tokio::test]
async fn periodic_jobs_are_launched_whichever_controller_dies() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut servers: Vec<Machine> = (1..=3).map(|n| server(dir.path(), n, port, n > 1, "")).collect();
    servers.iter_mut().for_each(|s| s.start(&[]));
    servers[0].until("/v1/status/peers", "three servers", |v| v.as_array().is_some_and(|p| p.len() == 3)).await;
    let file = dir.path().join("tick.hcl");
    let text = "job \"tick\" {\n  type = \"batch\"\n  periodic { crons = [\"*/1 * * * * * *\"] }\n  group \"g\" {\n    task \"t\" {\n      \
        driver = \"raw_exec\"\n      config { command = \"/bin/true\" }\n    }\n  }\n}\n";
    std::fs::write(&file, text).unwrap();
    servers[0].ok(&["job", "run", "-detach", &file.display().to_string()]);
    let turns = |v: &Value| -> Vec<String> {
        let ids = v.as_array().into_iter().flatten().filter_map(|job| job["ID"].as_str().map(str::to_owned));
        ids.filter(|id| id.starts_with("tick/periodic-")).collect()
    };
    for n in 0..3 {
        let before = turns(&servers[n].until("/v1/jobs", "it ticks", |v| !turns(v).is_empty()).await).len();
        e2e::cluster::kill_9(servers[n].process("server/controller"));
        let after = servers[(n + 1) % 3].until("/v1/jobs", "it ticks on", |v| turns(v).len() >= before + 2).await;
        let mut all = turns(&after);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "each turn once");
    }
}

#[tokio::test]
async fn a_capture_for_whoever_is_to_help_is_one_file_without_secrets() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let text = format!(
        "server {{\n  enabled = true\n  bootstrap_expect = 1\n  encrypt = \"{KEY}\"\n}}\nclient {{ enabled = true }}\n"
    );
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, &text);
    one.start(&[]);
    one.until("/v1/nodes", "a node", |v| ready_nodes(v) == 1).await;
    let out = dir.path().join("debug");
    let said =
        one.ok(&["operator", "debug", "-duration", "2s", "-interval", "1s", "-output", &out.display().to_string()]);
    let made = said.trim().strip_prefix("Created debug directory: ").unwrap().to_owned();
    for file in ["cluster/raft.json", "cluster/agent-self.json", "0000/metrics.json", "0001/jobs.json", "index.json"] {
        let text = std::fs::read_to_string(Path::new(&made).join(file)).unwrap();
        assert!(!text.contains(KEY), "{file}");
        serde_json::from_str::<Value>(&text).unwrap();
    }
    let here = std::process::Command::new(e2e::cluster::program())
        .args(["operator", "debug", "-duration", "1s", "-interval", "1s"])
        .env("NOMAD_ADDR", &one.address)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = e2e::cluster::text(&here.stdout);
    let archive = said.trim().strip_prefix("Created debug archive: ").unwrap_or_else(|| panic!("{said}"));
    let list = std::process::Command::new("tar").arg("tzf").arg(dir.path().join(archive)).output().unwrap();
    let listed = e2e::cluster::text(&list.stdout);
    assert!(list.status.success() && listed.contains("/0000/nodes.json") && listed.contains("/index.json"), "{listed}");
}
