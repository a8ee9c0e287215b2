//! Certificates and keys of machines, as an operator has them: real processes, bad luck included.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use client::public::{PublicClient, Query, Settings};
use e2e::cluster::{WITHIN, free_port, program};
use e2e::machine::Machine;
use serde_json::Value;

const RAW_EXEC: &str = "plugin \"raw_exec\" { config { enabled = true } }\n";
const ALONE: &str = "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n";

fn ready(nodes: &Value) -> usize {
    nodes.as_array().map_or(0, |all| all.iter().filter(|n| n["Status"] == "ready").count())
}

fn tls(dir: &Path, words: &[&str]) {
    let done = Command::new(program()).arg("tls").args(words).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority with certificates for servers, clients and people in `dir`.
fn certificates(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    tls(dir, &["ca", "create"]);
    tls(dir, &["cert", "create", "-server"]);
    tls(dir, &["cert", "create", "-client", "-additional-dnsname", "server.global.nomad"]);
    tls(dir, &["cert", "create", "-cli"]);
}

fn tls_block(dir: &Path, holder: &str) -> String {
    let dir = dir.display();
    format!(
        "tls {{\n  http = true\n  verify_https_client = true\n  ca_file = \"{dir}/nomad-agent-ca.pem\"\n  cert_file = \
         \"{dir}/global-{holder}-nomad.pem\"\n  key_file = \"{dir}/global-{holder}-nomad-key.pem\"\n}}\n"
    )
}

/// Waits until what is tried succeeds.
async fn until<T>(what: &str, mut tried: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(done) = tried().await {
            return done;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn leader(settings: Settings) -> Result<String, client::public::PublicError> {
    let client = PublicClient::new(settings)?;
    client.get::<String>("/v1/status/leader", &Query::default()).await.map(|(leader, _)| leader)
}

#[tokio::test]
async fn the_api_speaks_https_to_those_it_believes_on_servers_and_on_clients_alone() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let certs = dir.path().join("certs");
    certificates(&certs);
    let more = format!("{ALONE}client {{ enabled = true }}\n{RAW_EXEC}{}", tls_block(&certs, "server"));
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, &more).by_https(&certs);
    server.start(&[]);
    server.until("/v1/nodes", "the node is ready", |v| ready(v) == 1).await;

    // A machine of one role, brought in by a token.
    let more = format!(
        "client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n{RAW_EXEC}{}",
        port + 1,
        tls_block(&certs, "client")
    );
    let token = server.ok(&["node", "intro", "create"]);
    let mut client = Machine::new(dir.path(), "client", "127.0.0.2", port, &more).by_https(&certs);
    client.start(&["-client-intro-token", token.trim()]);
    client.until("/v1/nodes", "both nodes are ready", |v| ready(v) == 2).await;

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
