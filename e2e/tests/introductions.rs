//! Nodes that come in, are sent away, and come back: by tokens and by an operator's certificates.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use api::node::{BEAT, Beat, BeatTaken};
use client::error::CallError;
use client::http::{Http, Target};
use client::public::{PublicClient, Query};
use client::tls::Identity;
use e2e::cluster::program;
use e2e::fleet::ready_nodes;
use e2e::machine::{ALONE, KEY, Machine, RAW_EXEC, certificates, until};
use e2e::ports::free_port;
use model::Role;
use serde_json::{Value, json};

const PURGED: &str = "this node was purged and must be introduced anew";
const SOON: Duration = Duration::from_secs(5);

async fn purge(server: &Machine, id: &str) {
    let api = PublicClient::new(server.settings()).unwrap();
    let path = format!("/v1/node/{id}/purge");
    api.put::<_, Value>(&path, &Query::default(), &Value::Null).await.unwrap();
}

fn token(server: &Machine) -> String {
    server.ok(&["node", "intro", "create"]).trim().to_owned()
}

fn node(dir: &Path, name: &str, ip: &str, port: u16, servers: &str, more: &str) -> Machine {
    let more = format!("client {{\n  enabled = true\n  servers = [\"{servers}:{}\"]\n}}\n{RAW_EXEC}{more}", port + 1);
    Machine::new(dir, name, ip, port, &more)
}

/// What a refusal says; a server that cannot tell just now refuses nothing.
fn refused(answer: Result<BeatTaken, CallError>) -> Option<String> {
    answer.err().filter(|error| error.status().is_some_and(|s| s.as_u16() == 403)).map(|error| error.to_string())
}

/// What the cluster says to a beat under this identity.
async fn beat(identity: &Path, id: &str, port: u16) -> Result<BeatTaken, CallError> {
    let http = Http::new(Identity::load(identity).unwrap());
    let gateway = Target::new(([127, 0, 0, 1], port + 1).into(), Role::Gateway);
    http.post_json(gateway, BEAT, &Beat { node_id: id.into() }, SOON).await
}

#[tokio::test]
async fn a_token_that_no_machine_could_use_or_for_too_long_is_not_made_by_the_api() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, ALONE);
    server.start(&[]);
    server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    let api = PublicClient::new(server.settings()).unwrap();
    let asked = async |body: Value| {
        let path = "/v1/acl/identity/client-introduction-token";
        api.put::<_, Value>(path, &Query::default(), &body).await.map_err(|error| error.to_string())
    };
    // The longest there may be, and a time that is shorter than the clock's steps.
    for ttl in [json!("30m"), json!("1ms"), json!(1), json!(0), json!(""), json!(null)] {
        assert!(asked(json!({"TTL": ttl})).await.unwrap().0["JWT"].is_string(), "{ttl}");
    }
    for (body, said) in [
        (json!({"TTL": "30m1s"}), "at most 1800 seconds"),
        (json!({"TTL": 1_800_000_000_001_i64}), "at most 1800 seconds"),
        (json!({"TTL": i64::MAX}), "at most 1800 seconds"),
        (json!({"TTL": "-1s"}), "TTL: it is a time above zero"),
        (json!({"TTL": i64::MIN}), "TTL: it is a time above zero"),
        (json!({"TTL": "soon"}), "TTL is no duration"),
        (json!({"TTL": 1.5}), "TTL is no duration"),
        (json!({"NodePool": "all"}), "NodePool: no node is in pool `all`"),
        (json!({"NodePool": "a b"}), "NodePool: it is letters"),
        (json!({"NodeName": "a/b"}), "NodeName: it is letters"),
        (json!({"NodeName": "a".repeat(129)}), "at most 128"),
    ] {
        let error = asked(body.clone()).await.unwrap_err();
        assert!(error.contains("400") && error.contains(said), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_stolen_before_the_purge_is_of_no_use_once_the_node_is_back() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, ALONE);
    server.start(&[]);
    server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    let mut one = node(dir.path(), "node", "127.0.0.2", port, "127.0.0.1", "");
    one.start(&["-client-intro-token", &token(&server)]);
    let nodes = server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let id = nodes[0]["ID"].as_str().unwrap().to_owned();
    let (own, stolen) = (one.data.join("client/identity"), dir.path().join("stolen"));
    assert!(Command::new("cp").arg("-a").args([&own, &stolen]).status().unwrap().success());
    until("its beat is taken", async || beat(&stolen, &id, port).await.ok()).await;

    one.end("-TERM");
    purge(&server, &id).await;
    until("the purge is known", async || refused(beat(&stolen, &id, port).await)).await;
    one.start(&["-client-intro-token", &token(&server)]);
    server.until("/v1/nodes", "the node is back", |v| ready_nodes(v) == 1).await;
    let said = until("it is refused", async || refused(beat(&stolen, &id, port).await)).await;
    assert!(said.contains("this certificate is from before the node was purged"), "{said}");
    until("its beat is taken", async || beat(&own, &id, port).await.ok()).await;
    // What the servers know survives them, and a renewal keeps what the node is known by.
    server.end("-TERM");
    server.start(&[]);
    server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let said = until("it is refused again", async || refused(beat(&stolen, &id, port).await)).await;
    assert!(said.contains("this certificate is from before the node was purged"), "{said}");
}

#[tokio::test]
async fn a_node_beside_a_server_comes_back_by_a_token_too_and_stays() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let more = format!("{ALONE}client {{ enabled = true }}\n{RAW_EXEC}");
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, &more);
    one.start(&[]);
    let nodes = one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let id = nodes[0]["ID"].as_str().unwrap().to_owned();
    purge(&one, &id).await;
    let refused = |machine: &Machine, before: usize| machine.log().matches(PURGED).count() > before;
    until("its agent is refused", async || refused(&one, 0).then_some(())).await;
    let token = token(&one);
    one.end("-TERM");
    let before = one.log().matches(PURGED).count();
    one.start(&[]);
    until("it is refused again", async || refused(&one, before).then_some(())).await;
    assert_eq!(ready_nodes(&one.until("/v1/nodes", "an answer", |_| true).await), 0);
    one.end("-TERM");
    one.start(&["-client-intro-token", &token]);
    let same = |v: &Value| ready_nodes(v) == 1 && v[0]["ID"] == id.as_str();
    one.until("/v1/nodes", "the node is back", same).await;
    // The token is not looked at again, nor is it needed.
    one.end("-TERM");
    let before = one.log().matches(PURGED).count();
    one.start(&[]);
    one.until("/v1/nodes", "the node is ready", same).await;
    // The controller may still be taking its work up again.
    let identity = one.data.join("client/identity");
    until("its beat is taken", async || beat(&identity, &id, port).await.ok()).await;
    assert!(!refused(&one, before), "{}", one.log());
}

#[tokio::test]
async fn a_node_whose_certificate_ended_while_it_was_off_says_so_and_comes_in_by_a_token() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, ALONE);
    server.start(&[]);
    server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    let mut one = node(dir.path(), "node", "127.0.0.2", port, "127.0.0.1", "");
    let id = client::state::new_uuid();
    std::fs::create_dir_all(one.data.join("client")).unwrap();
    std::fs::write(one.data.join("client/node-id"), &id).unwrap();
    let authority = kit::pki::Authority::load(server.data.join("server/ca")).unwrap();
    let identity = one.data.join("client/identity");
    authority.write_identity(&identity, Role::Agent, &id, "global", Duration::from_secs(1)).unwrap();
    let ends = Identity::load(&identity).unwrap().not_after();
    until("its certificate has ended", async || (SystemTime::now() > ends).then_some(())).await;
    let said = one.refused(&[]);
    assert!(said.contains("has expired: give it a token of `steppe node intro create`"), "{said}");
    one.start(&["-client-intro-token", &token(&server)]);
    server.until("/v1/nodes", "it is in", |v| ready_nodes(v) == 1 && v[0]["ID"] == id.as_str()).await;
}

fn tls_block(dir: &Path, holder: &str, http: bool) -> String {
    let dir = dir.display();
    format!(
        "tls {{\n  http = {http}\n  rpc = true\n  verify_server_hostname = true\n  verify_https_client = {http}\n  ca_file = \
         \"{dir}/nomad-agent-ca.pem\"\n  cert_file = \"{dir}/global-{holder}-nomad.pem\"\n  key_file = \
         \"{dir}/global-{holder}-nomad-key.pem\"\n}}\n"
    )
}

#[tokio::test]
async fn three_servers_and_a_node_with_an_operator_s_certificates_need_no_token() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let (certs, theirs) = (dir.path().join("certs"), dir.path().join("theirs"));
    certificates(&certs, &[]);
    certificates(&theirs, &[]);
    let serf = port + 2;
    let mut servers: Vec<Machine> = (1..=3)
        .map(|n| {
            let more = format!(
                "server {{\n  enabled = true\n  bootstrap_expect = 3\n  encrypt = \"{KEY}\"\n  server_join {{\n    \
                 retry_join = [\"127.0.0.1:{serf}\", \"127.0.0.2:{serf}\", \"127.0.0.3:{serf}\"]\n  }}\n}}\n{}",
                tls_block(&certs, "server", true)
            );
            Machine::new(dir.path(), &format!("server-{n}"), &format!("127.0.0.{n}"), port, &more).by_https(&certs)
        })
        .collect();
    servers.iter_mut().for_each(|s| s.start(&[]));
    for server in &servers {
        server.until("/v1/status/peers", "three servers", |v| v.as_array().is_some_and(|p| p.len() == 3)).await;
    }
    let client = |name: &str, ip: &str, tls: String| node(dir.path(), name, ip, port, "127.0.0.2", &tls);
    let mut one = client("node", "127.0.0.5", tls_block(&certs, "client", false));
    one.start(&[]);
    let nodes = servers[0].until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let id = nodes[0]["ID"].as_str().unwrap().to_owned();

    // Whom the operator's authority made no node is none, nor is who has another's, or nothing.
    let said = client("person", "127.0.0.6", tls_block(&certs, "cli", false)).refused(&[]);
    assert!(said.contains("the certificate is not for client.global.nomad, nor for server.global.nomad"), "{said}");
    let said = client("other", "127.0.0.6", tls_block(&theirs, "client", false)).refused(&[]);
    assert!(said.contains("do not believe each other's certificates"), "{said}");
    let said = client("nobody", "127.0.0.6", String::new()).refused(&[]);
    assert!(said.contains("this node has no certificate yet: give it a token"), "{said}");

    // An operator's certificate does not undo a purge; a token does.
    one.end("-TERM");
    purge(&servers[1], &id).await;
    let identity = one.data.join("client/identity");
    until("the purge is known", async || refused(beat(&identity, &id, port).await)).await;
    std::fs::remove_dir_all(&identity).unwrap();
    let said = one.refused(&[]);
    assert!(said.contains("this node was purged and must be introduced anew, by a token"), "{said}");
    one.start(&["-client-intro-token", &token(&servers[2])]);
    servers[2].until("/v1/nodes", "the node is back", |v| ready_nodes(v) == 1 && v[0]["ID"] == id.as_str()).await;

    // The command line takes what it needs from flags as well as from the environment.
    let cas = dir.path().join("cas");
    std::fs::create_dir_all(&cas).unwrap();
    std::fs::copy(certs.join("nomad-agent-ca.pem"), cas.join("ca.pem")).unwrap();
    let at = |file: &str| certs.join(file).display().to_string();
    let (cert, key) = (at("global-cli-nomad.pem"), at("global-cli-nomad-key.pem"));
    let flags = |more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["server", "members", "-address", &servers[2].address]).args(more).env_clear();
        command.output().unwrap().status.success()
    };
    let own = ["-client-cert", cert.as_str(), "-client-key", key.as_str()];
    let with = |more: &[&str]| flags(&[&own[..], more].concat());
    let (path, name) = (cas.display().to_string(), "server.global.nomad");
    assert!(with(&["-ca-path", &path, "-tls-server-name", name]), "a directory of authorities");
    assert!(with(&["-tls-skip-verify"]), "whoever answers is believed");
    assert!(!with(&["-tls-server-name", name]), "an authority that nobody named is not believed");
    assert!(!with(&["-ca-path", &path]), "the address is not in the certificate");
    assert!(!flags(&["-ca-path", &path, "-tls-server-name", name]), "who shows no certificate is not served");
    let env = Command::new(program())
        .args(["server", "members"])
        .env_clear()
        .env("NOMAD_ADDR", &servers[2].address)
        .env("NOMAD_CAPATH", &path)
        .env("NOMAD_CLIENT_CERT", &cert)
        .env("NOMAD_CLIENT_KEY", &key)
        .env("NOMAD_TLS_SERVER_NAME", name)
        .output()
        .unwrap();
    assert!(env.status.success(), "{}", String::from_utf8_lossy(&env.stderr));
}
