//! Looking after servers: joining by hand, saying that one will not come back, which node is the machine's own.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use e2e::cluster::free_port;
use e2e::machine::Machine;
use serde_json::{Value, json};

const KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

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
    let ready = |v: &Value| v.as_array().is_some_and(|n| n.iter().filter(|n| n["Status"] == "ready").count() == 2);
    let nodes = two.until("/v1/nodes", "two nodes", ready).await;
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
    two.until("/v1/nodes", "both are still ready", ready).await;
}
