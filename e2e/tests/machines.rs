//! Machines from configuration files, on loopback addresses of their own.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use e2e::fleet::ready_nodes;
use e2e::machine::{Machine, RAW_EXEC, one_of_three};
use e2e::ports::free_port;
use serde_json::Value;

fn client(dir: &std::path::Path, n: u16, port: u16) -> Machine {
    let rpc = port + 1;
    let more = format!(
        "client {{\n  enabled = true\n  servers = [\"127.0.0.1:{rpc}\", \"127.0.0.2:{rpc}\"]\n  node_class = \"c{n}\"\n  meta \
         {{ rack = \"r{n}\" }}\n  host_volume \"data\" {{\n    path = \"/srv\"\n    read_only = true\n  }}\n  reserved {{\n    cpu \
         = 100\n    memory = 64\n  }}\n}}\n{RAW_EXEC}"
    );
    Machine::new(dir, &format!("client-{n}"), &format!("127.0.0.{}", 3 + n), port, &more)
}

fn job(dir: &std::path::Path) -> String {
    let path = dir.join("greet.hcl");
    let text = "job \"greet\" {\n  group \"g\" {\n    count = 2\n    task \"t\" {\n      driver = \"raw_exec\"\n      config {\n        \
        command = \"/bin/sh\"\n        args    = [\"-c\", \"echo hello; exec sleep 1000\"]\n      }\n      resources {\n        cpu \
        = 20\n        memory = 20\n      }\n    }\n  }\n}\n";
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn three_servers_and_two_clients_are_a_cluster_that_outlives_any_one_of_them() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut servers: Vec<Machine> = (1..=3).map(|n| one_of_three(dir.path(), n, port)).collect();
    servers.iter_mut().for_each(|s| s.start(&[]));
    for server in &servers {
        server.until("/v1/status/peers", "three servers", |v| v.as_array().is_some_and(|p| p.len() == 3)).await;
        server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    }
    let mut clients: Vec<Machine> = (1..=2).map(|n| client(dir.path(), n, port)).collect();
    assert!(clients[0].refused(&[]).contains("this node has no certificate yet"));
    let token = servers[1].ok(&["node", "intro", "create", "-node-name", "client-1"]);
    let said = clients[1].refused(&["-client-intro-token", token.trim()]);
    assert!(said.contains("refuses this node: the introduction token is for a node of another name"), "{said}");
    for (client, name) in clients.iter_mut().zip(["client-1", "client-2"]) {
        let token = servers[1].ok(&["node", "intro", "create", "-node-name", name]);
        client.start(&["-client-intro-token", token.trim()]);
    }
    // A machine that is no server answers the API by passing it on.
    let nodes = clients[1].until("/v1/nodes", "two nodes are ready", |v| ready_nodes(v) == 2).await;
    let of = |name: &str| nodes.as_array().unwrap().iter().find(|n| n["Name"] == name).unwrap().clone();
    assert_eq!(of("client-2")["NodeClass"], "c2");
    let id = of("client-1")["ID"].as_str().unwrap().to_owned();
    let node = clients[0].until(&format!("/v1/node/{id}"), "the node", |v| v["ID"] == id.as_str()).await;
    assert_eq!((&node["Meta"]["rack"], &node["HostVolumes"]["data"]["Path"]), (&"r1".into(), &"/srv".into()));
    assert_eq!(node["ReservedResources"]["Memory"]["MemoryMB"], 64);

    clients[0].ok(&["job", "run", "-detach", &job(dir.path())]);
    let running =
        |v: &Value| v.as_array().is_some_and(|a| a.iter().filter(|a| a["ClientStatus"] == "running").count() == 2);
    clients[0].until("/v1/job/greet/allocations", "two run", running).await;

    // A service that dies is started again, and the supervisor says so.
    let before = servers[0].process("server/broker");
    e2e::cluster::kill_9(before);
    servers[2].until("/v1/job/greet/allocations", "the API answers", running).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while servers[0].process("server/broker") == before {
        assert!(std::time::Instant::now() < deadline, "{}", servers[0].log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(servers[0].log().contains("broker has ended"), "{}", servers[0].log());

    // A server goes, and the others carry on; tasks outlive their machine's restart.
    let took = servers[0].end("-INT");
    assert!(took < Duration::from_secs(6), "{took:?}");
    servers[1].until("/v1/status/leader", "a leader among two", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    clients[0].end("-TERM");
    clients[0].start(&[]);
    clients[0].until("/v1/nodes", "both nodes are ready", |v| ready_nodes(v) == 2).await;
    clients[0].until("/v1/job/greet/allocations", "both still run", running).await;
    servers[0].start(&[]);
    servers[0].until("/v1/job/greet/allocations", "the first is back", running).await;
    clients[1].ok(&["job", "stop", "-purge", "-detach", "greet"]);
    let over = |v: &Value| v.as_array().is_none_or(|a| a.iter().all(|a| a["ClientStatus"] == "complete"));
    clients[1].until("/v1/allocations", "no task is left", over).await;
}

#[tokio::test]
async fn bad_luck_is_refused_with_one_clear_sentence() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let more =
        format!("server {{\n  enabled = true\n  bootstrap_expect = 1\n}}\nclient {{ enabled = true }}\n{RAW_EXEC}");
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, &more);
    one.start(&[]);
    one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let pid = one.pid();
    let said = one.refused(&[]);
    assert!(said.contains(&format!("another agent (process {pid}) is running on")), "{said}");
    let other = dir.path().join("other").display().to_string();
    let said = one.refused(&["-data-dir", &other]);
    assert!(said.contains(&format!("127.0.0.1:{port} cannot be listened on (ports.http)")), "{said}");

    // A node of one cluster at the door of another.
    let door = free_port();
    let mut two = Machine::new(dir.path(), "two", "127.0.0.2", door, &more);
    two.start(&[]);
    two.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let at = |servers: u16, ip: u8| {
        let more =
            format!("client {{\n  enabled = true\n  servers = [\"127.0.0.{ip}:{}\"]\n}}\n{RAW_EXEC}", servers + 1);
        Machine::new(dir.path(), "lost", "127.0.0.5", port, &more)
    };
    let token = one.ok(&["node", "intro", "create"]);
    let said = at(door, 2).refused(&["-client-intro-token", token.trim()]);
    assert!(said.contains("the introduction token is of another cluster"), "{said}");
    let mut lost = at(port, 1);
    lost.start(&["-client-intro-token", token.trim()]);
    lost.until("/v1/nodes", "two nodes are ready", |v| ready_nodes(v) == 2).await;
    lost.end("-TERM");
    let said = at(door, 2).refused(&[]);
    assert!(said.contains("is of another cluster than the certificate in"), "{said}");
}

#[tokio::test]
async fn a_copy_of_a_nodes_data_is_kept_out_while_the_node_lives_and_may_take_its_place_then() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let more = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n";
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, more);
    server.start(&[]);
    server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    let client = |name: &str, ip: &str| {
        let more = format!("client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n{RAW_EXEC}", port + 1);
        Machine::new(dir.path(), name, ip, port, &more)
    };
    let mut first = client("first", "127.0.0.5");
    let token = server.ok(&["node", "intro", "create"]);
    first.start(&["-client-intro-token", token.trim()]);
    server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let mut copy = client("copy", "127.0.0.6");
    let copied = std::process::Command::new("cp").arg("-a").arg(&first.data).arg(&copy.data).status().unwrap();
    assert!(copied.success());
    copy.start(&[]);
    let limit = tokio::time::timeout(Duration::from_secs(30), async {
        while !copy.log().contains("this node ID is in use by another agent that is alive") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(limit.await.is_ok(), "{}", copy.log());
    let at = |ip: &'static str| move |v: &Value| ready_nodes(v) == 1 && v[0]["Address"] == ip;
    server.until("/v1/nodes", "the first one is ready where it was", at("127.0.0.5")).await;
    first.end("-KILL");
    server.until("/v1/nodes", "its copy took its place", at("127.0.0.6")).await;
    first.start(&[]);
    let limit = tokio::time::timeout(Duration::from_secs(30), async {
        while !first.log().contains("this node ID is in use by another agent that is alive") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(limit.await.is_ok(), "{}", first.log());
    server.until("/v1/nodes", "its copy stays", at("127.0.0.6")).await;
}
