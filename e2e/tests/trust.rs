//! Certificates and keys of machines, as an operator has them: real processes, bad luck included.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use client::public::{PublicClient, Query, Settings};
use e2e::fleet::ready_nodes;
use e2e::machine::{ALONE, KEY, Machine, RAW_EXEC, certificates, one_of_three, tls, until};
use e2e::ports::free_port;
use serde_json::Value;

fn tls_block(dir: &Path, holder: &str) -> String {
    let dir = dir.display();
    format!(
        "tls {{\n  http = true\n  verify_https_client = true\n  ca_file = \"{dir}/nomad-agent-ca.pem\"\n  cert_file = \
         \"{dir}/global-{holder}-nomad.pem\"\n  key_file = \"{dir}/global-{holder}-nomad-key.pem\"\n}}\n"
    )
}

async fn leader(settings: Settings) -> Result<String, client::public::PublicError> {
    let client = PublicClient::new(settings)?;
    client.get::<String>("/v1/status/leader", &Query::default()).await.map(|(leader, _)| leader)
}

#[tokio::test]
async fn the_api_speaks_https_to_those_it_believes_on_servers_and_on_clients_alone() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let certs = dir.path().join("certs");
    certificates(&certs, &["-additional-dnsname", "server.global.nomad"]);
    let more = format!("{ALONE}client {{ enabled = true }}\n{RAW_EXEC}{}", tls_block(&certs, "server"));
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, &more).by_https(&certs);
    server.start(&[]);
    server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;

    // A machine of one role, brought in by a token.
    let more = format!(
        "client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n{RAW_EXEC}{}",
        port + 1,
        tls_block(&certs, "client")
    );
    let token = server.ok(&["node", "intro", "create"]);
    let mut client = Machine::new(dir.path(), "client", "127.0.0.2", port, &more).by_https(&certs);
    client.start(&["-client-intro-token", token.trim()]);
    client.until("/v1/nodes", "both nodes are ready", |v| ready_nodes(v) == 2).await;

    for machine in [&server, &client] {
        let good = machine.settings();
        leader(good.clone()).await.unwrap();
        let without = Settings { client_cert: None, client_key: None, ..good.clone() };
        leader(without).await.unwrap_err();
        let unknown = Settings { ca_cert: None, ..good.clone() };
        leader(unknown).await.unwrap_err();
        let plain = Settings { address: good.address.replace("https", "http"), ..Settings::default() };
        let said = leader(plain).await.unwrap_err().to_string();
        assert!(said.contains("Client sent an HTTP request to an HTTPS server."), "{said}");
    }
    assert!(server.log().contains("the caller's certificate is refused"), "{}", server.log());

    // New files are taken up by themselves; open connections go on.
    let open = PublicClient::new(server.settings()).unwrap();
    let ask = async || open.get::<String>("/v1/status/leader", &Query::default()).await.is_ok();
    assert!(ask().await);
    let (gateway, agent) = (server.process("server/gateway"), client.process("client"));
    let next = dir.path().join("next");
    std::fs::create_dir_all(&next).unwrap();
    let ca = |name: &str| certs.join(name).display().to_string();
    let (ca_cert, ca_key) = (ca("nomad-agent-ca.pem"), ca("nomad-agent-ca-key.pem"));
    let named = ["cert", "create", "-server", "-region", "next", "-ca", &ca_cert, "-key", &ca_key];
    tls(&next, &named);
    for holder in ["server", "client"] {
        for end in ["-key.pem", ".pem"] {
            let to = certs.join(format!("global-{holder}-nomad{end}"));
            std::fs::copy(next.join(format!("next-server-nomad{end}")), to).unwrap();
        }
    }
    for (machine, hangup) in [(&server, true), (&client, false)] {
        if hangup {
            assert!(Command::new("kill").args(["-HUP", &machine.pid().to_string()]).status().unwrap().success());
        }
        let named = Settings { tls_server_name: Some("server.next.nomad".to_owned()), ..machine.settings() };
        until("the new certificate is served", async || leader(named.clone()).await.ok()).await;
    }
    assert!(ask().await, "an open connection was cut");
    assert_eq!((server.process("server/gateway"), client.process("client")), (gateway, agent), "nothing restarted");
}

async fn listed(server: &Machine) -> Value {
    let api = PublicClient::new(server.settings()).unwrap();
    api.get::<Value>("/v1/agent/keyring/list", &Query::default()).await.unwrap().0
}

#[tokio::test]
async fn gossip_keys_turn_under_way_and_no_member_is_lost() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut servers: Vec<Machine> = (1..=3).map(|n| one_of_three(dir.path(), n, port)).collect();
    servers.iter_mut().for_each(|s| s.start(&[]));
    for server in &servers {
        server.until("/v1/status/peers", "three servers", |v| v.as_array().is_some_and(|p| p.len() == 3)).await;
        let all = |v: &Value| v["NumNodes"] == 18 && v["Messages"].as_object().is_some_and(serde_json::Map::is_empty);
        server.until("/v1/agent/keyring/list", "all processes say which keys they have", all).await;
    }
    let first = listed(&servers[0]).await;
    let (old, count) = first["PrimaryKeys"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(*count, 18);
    assert!(old.starts_with("sha256:") && !first.to_string().contains(KEY), "{first}");

    let new = servers[0].ok(&["operator", "gossip", "keyring", "generate"]).trim().to_owned();
    let said = |machine: &Machine, words: &[&str]| {
        let words: Vec<&str> = ["operator", "gossip", "keyring"].iter().chain(words).copied().collect();
        let done = machine.steppe(&words);
        (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    for (words, text) in [
        (["use", new.as_str()], "there is no such key"),
        (["remove", KEY], "cannot be removed"),
        (["install", "short"], "a gossip key is 16, 24 or 32 bytes"),
    ] {
        let (good, output) = said(&servers[0], &words);
        assert!(!good && output.contains(text), "{words:?}: {output}");
    }
    // Each step at another server.
    for (server, words) in [(0, ["install", new.as_str()]), (1, ["use", new.as_str()])] {
        let (good, output) = said(&servers[server], &words);
        assert!(good, "{words:?}: {output}");
    }
    // A process that comes back knows what is in use now, and so does one that knows the old key only.
    let file = servers[2].data.join("server/broker/identity/gossip.key");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains(&new) && kept.contains(KEY));
    std::fs::write(&file, KEY).unwrap();
    let broker = servers[2].process("server/broker");
    assert!(Command::new("kill").args(["-KILL", &broker.to_string()]).status().unwrap().success());
    until("the broker has the keys again", async || {
        (servers[2].process("server/broker") != broker && std::fs::read_to_string(&file).unwrap() == kept).then_some(())
    })
    .await;
    let all = |v: &Value| v["NumNodes"] == 18 && v["PrimaryKeys"].as_object().is_some_and(|p| p.len() == 1);
    servers[2].until("/v1/agent/keyring/list", "all seal with the new key", all).await;
    until("the old key is removed", async || said(&servers[2], &["remove", old]).0.then_some(())).await;

    // Each hears in its own time that the broker is back.
    let one = |v: &Value| v["NumNodes"] == 18 && v["Keys"].as_object().is_some_and(|keys| keys.len() == 1);
    servers[1].until("/v1/agent/keyring/list", "all have one key", one).await;
    // A whole machine comes back with the new key; the one it was configured with is of no use any more.
    servers[0].end("-TERM");
    servers[0].start(&[]);
    servers[0].until("/v1/agent/keyring/list", "all are there again", all).await;
    servers[1]
        .until("/v1/operator/raft/configuration", "three servers", |v| {
            v["Servers"].as_array().is_some_and(|s| s.len() == 3)
        })
        .await;
    for server in &servers {
        let log = server.log();
        assert!(!log.contains(&new) && !log.contains(KEY), "{log}");
        // The broker that knew the old key only could not read the others at first.
        let rejected = |line: &&str| line.contains("gossip packet rejected") && !line.contains("broker");
        assert_eq!(log.lines().find(rejected), None);
    }
    // The first server went on purpose, the broker was killed. Of the others nobody is lost: whom a process took
    // for failed, because an answer came late, it hears of again.
    for server in &servers[1..] {
        until("who was missed is heard of", async || missed(&server.log()).is_empty().then_some(())).await;
    }
}

/// Members that a process took for failed and has not heard of since, those left out that went on purpose.
fn missed(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("kit::gossip::engine: member")).collect();
    let who = |line: &str| -> Vec<String> {
        let words = line.split_whitespace();
        let by = line.split_whitespace().take(1);
        by.chain(words.filter(|w| w.starts_with("name=") || w.starts_with("role="))).map(str::to_owned).collect()
    };
    let is_lost = |(at, line): &(usize, &&str)| {
        let on_purpose = line.contains("127.0.0.1:") || line.contains("role=broker");
        let heard = |later: &&str| !later.contains("member failed") && who(later) == who(line);
        line.contains("member failed") && !on_purpose && !lines[*at..].iter().any(heard)
    };
    lines.iter().enumerate().filter(is_lost).map(|(_, line)| (*line).to_owned()).collect()
}

#[tokio::test]
async fn a_purged_node_is_refused_until_it_is_introduced_anew() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, ALONE);
    server.start(&[]);
    server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    let more = format!("client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n{RAW_EXEC}", port + 1);
    let mut node = Machine::new(dir.path(), "node", "127.0.0.2", port, &more);
    let token = server.ok(&["node", "intro", "create"]);
    node.start(&["-client-intro-token", token.trim()]);
    let nodes = server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let id = nodes[0]["ID"].as_str().unwrap().to_owned();

    let api = PublicClient::new(server.settings()).unwrap();
    let purge = format!("/v1/node/{id}/purge");
    api.put::<_, Value>(&purge, &Query::default(), &Value::Null).await.unwrap();
    let said = "this node was purged and must be introduced anew";
    until("the agent is refused", async || node.log().contains(said).then_some(())).await;
    // Started again with what it has, it stays outside.
    node.end("-TERM");
    let before = node.log().matches(said).count();
    node.start(&[]);
    until("it is refused again", async || (node.log().matches(said).count() > before).then_some(())).await;
    assert_eq!(ready_nodes(&server.until("/v1/nodes", "an answer", |_| true).await), 0);
    node.end("-TERM");
    let token = server.ok(&["node", "intro", "create"]);
    node.start(&["-client-intro-token", token.trim()]);
    let nodes = server.until("/v1/nodes", "the node is back", |v| ready_nodes(v) == 1).await;
    assert_eq!(nodes[0]["ID"].as_str(), Some(id.as_str()));
}
