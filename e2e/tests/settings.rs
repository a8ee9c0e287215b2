//! What a configuration file says is what the machine does.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::cluster::WITHIN;
use e2e::fleet::ready_nodes;
use e2e::machine::{ALONE, KEY, Machine, until};
use e2e::ports::free_port;
use serde_json::{Value, json};

const RAW_EXEC: &str = "plugin \"raw_exec\" { config { enabled = true denied_envvars = [\"DENIED_*\"] } }\n";

/// A job whose task says `words` and stays.
fn job(dir: &Path, id: &str, count: usize, words: &str) -> String {
    let path = dir.join(format!("{id}.hcl"));
    let text = format!(
        "job \"{id}\" {{\n  group \"g\" {{\n    count = {count}\n    task \"t\" {{\n      driver = \"raw_exec\"\n      config {{\n        \
         command = \"/bin/sh\"\n        args = [\"-c\", \"{words}; exec sleep 1000\"]\n      }}\n      env {{\n        DENIED_X = \
         \"seen\"\n        OPEN_X = \"seen\"\n      }}\n      resources {{\n        cpu = 20\n        memory = 20\n      }}\n    }}\n  \
         }}\n}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// What comes back on a connection until its end, or until nothing comes any more.
fn heard(tcp: &mut TcpStream, within: Duration) -> std::io::Result<String> {
    tcp.set_read_timeout(Some(within)).unwrap();
    let mut all = String::new();
    tcp.read_to_string(&mut all).map(|_| all)
}

#[tokio::test]
async fn the_public_api_answers_at_each_address_that_is_named_on_servers_and_on_clients_alone() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let addresses = |last: u8| format!("addresses {{ http = \"127.0.0.{last} 127.0.0.{}\" }}\n", last + 1);
    let more = format!("{ALONE}{}", addresses(1));
    let mut server = Machine::new(dir.path(), "server", "127.0.0.1", port, &more);
    server.start(&[]);
    server.until("/v1/status/leader", "a leader", |v| v.as_str().is_some_and(|l| !l.is_empty())).await;
    let token = server.ok(&["node", "intro", "create"]);
    let more = format!("client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n{}", port + 1, addresses(3));
    let mut client = Machine::new(dir.path(), "client", "127.0.0.3", port, &more);
    client.start(&["-client-intro-token", token.trim()]);
    server.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    for last in 1..=4 {
        let at = format!("-address=http://127.0.0.{last}:{port}");
        assert!(server.ok(&["node", "status", &at]).contains("ready"), "127.0.0.{last}");
    }
    let held = std::net::TcpListener::bind(("127.0.0.6", port)).unwrap();
    let taken = Machine::new(dir.path(), "taken", "127.0.0.5", port, &format!("{ALONE}{}", addresses(5)));
    let said = taken.refused(&[]);
    assert!(said.contains(&format!("127.0.0.6:{port} cannot be listened on")), "{said}");
    drop(held);
}

#[tokio::test]
async fn limits_headers_metrics_and_denials_are_as_the_file_says() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let more = format!(
        "limits {{\n  http_max_conns_per_client = 6\n  https_handshake_timeout = \"1s\"\n  rpc_max_conns_per_client = 25\n  \
         rpc_handshake_timeout = \"20s\"\n}}\nhttp_api_response_headers {{\n  X-Where = \"here\"\n}}\ntelemetry {{\n  prefix_filter = \
         [\"-nomad.nomad.broker\"]\n}}\nautopilot {{\n  min_quorum = 3\n  last_contact_threshold = \"1s\"\n}}\nserver {{\n  enabled = true\n  \
         bootstrap_expect = 1\n  default_scheduler_config {{\n    scheduler_algorithm = \"spread\"\n    preemption_config {{\n      \
         service_scheduler_enabled = true\n    }}\n  }}\n}}\nclient {{\n  enabled = true\n  options {{\n    driver.denylist = \
         \"docker\"\n    env.denylist = \"HOME\"\n  }}\n}}\n{RAW_EXEC}"
    );
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, &more);
    one.start(&[]);
    let nodes = one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let drivers = nodes[0]["Drivers"].as_object().unwrap();
    assert!(!drivers.contains_key("docker") && drivers.contains_key("raw_exec"), "{drivers:?}");

    let scheduler = one.until("/v1/operator/scheduler/configuration", "the first one", |v| v.is_object()).await;
    let scheduler = &scheduler["SchedulerConfig"];
    assert_eq!(
        (&scheduler["SchedulerAlgorithm"], &scheduler["PreemptionConfig"]["ServiceSchedulerEnabled"]),
        (&"spread".into(), &true.into())
    );
    let autopilot = one.until("/v1/operator/autopilot/configuration", "the first one", |v| v.is_object()).await;
    assert_eq!((&autopilot["MinQuorum"], &autopilot["LastContactThreshold"]), (&3.into(), &"1s".into()));

    let is_broker = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("nomad.nomad.broker"));
    let shown = |v: &Value| v["Gauges"].as_array().is_some_and(|all| all.iter().any(|g| !is_broker(&g["Name"])));
    let metrics = one.until("/v1/metrics", "metrics", shown).await;
    assert!(!metrics["Gauges"].as_array().unwrap().iter().any(|g| is_broker(&g["Name"])), "{metrics:#}");

    let words = "echo denied=$DENIED_X open=$OPEN_X home=$HOME.";
    one.ok(&["job", "run", &job(dir.path(), "says", 1, words)]);
    let deadline = Instant::now() + WITHIN;
    loop {
        let said = one.ok(&["alloc", "logs", "-job", "says"]);
        if said.contains("denied= open=seen home=.") {
            break;
        }
        assert!(said.is_empty() && Instant::now() < deadline, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }

    // The public listener: a header on every answer, a deadline for who says nothing, a limit to an address.
    let http: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    let mut tcp = TcpStream::connect(http).unwrap();
    tcp.write_all(b"GET /v1/status/leader HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let answer = heard(&mut tcp, WITHIN).unwrap();
    assert!(answer.contains("x-where: here"), "{answer}");
    let began = Instant::now();
    assert_eq!(heard(&mut TcpStream::connect(http).unwrap(), WITHIN).unwrap(), "");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let mut kept = Vec::new();
    for _ in 0..6 {
        let mut tcp = TcpStream::connect(http).unwrap();
        // Said enough to have all the time that a head may take.
        tcp.write_all(b"GET /v1").unwrap();
        kept.push(tcp);
    }
    let refused = heard(&mut TcpStream::connect(http).unwrap(), WITHIN).unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 429") && refused.contains("too many connections from this address"),
        "{refused}"
    );
    drop(kept);

    // The agents' listener closes what is over the limit, and leaves the rest their time.
    let rpc: SocketAddr = format!("127.0.0.1:{}", port + 1).parse().unwrap();
    let mut all: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(rpc).unwrap()).collect();
    let closed = all.iter_mut().filter_map(|tcp| heard(tcp, Duration::from_millis(100)).ok()).count();
    assert!((15..30).contains(&closed), "{closed} of 40 were closed");
    drop(all);
    one.until("/v1/nodes", "the node is still there", |v| ready_nodes(v) == 1).await;
}

/// A job whose port is on a host network; its task says what it was told of it.
fn on_network(dir: &Path, id: &str, port: &str) -> String {
    let path = dir.join(format!("{id}.hcl"));
    let text = format!(
        "job \"{id}\" {{\n  group \"g\" {{\n    network {{\n      port \"x\" {{\n        {port}\n      }}\n    }}\n    task \"t\" {{\n      \
         driver = \"raw_exec\"\n      config {{\n        command = \"/bin/sh\"\n        args = [\"-c\", \"echo $NOMAD_HOST_IP_x \
         $NOMAD_IP_x $NOMAD_ADDR_x $NOMAD_HOST_ADDR_x; exec sleep 1000\"]\n      }}\n      resources {{\n        cpu = 20\n        \
         memory = 20\n      }}\n    }}\n  }}\n}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// covers: network-03 (the address that a task is told), feasible-011
#[tokio::test]
async fn a_port_is_given_at_the_host_network_that_it_names() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let fixed = free_port();
    let more = format!(
        "{ALONE}client {{\n  enabled = true\n  network_interface = \"lo\"\n  host_network \"loop2\" {{\n    cidr = \
         \"127.0.0.2/32\"\n    reserved_ports = \"22\"\n  }}\n  host_network \"nowhere\" {{\n    interface = \"no-such0\"\n  }}\n  \
         options {{\n    driver.denylist = \"docker\"\n  }}\n}}\n{RAW_EXEC}"
    );
    let mut one = Machine::new(dir.path(), "one", "127.0.0.1", port, &more);
    one.start(&[]);
    let nodes = one.until("/v1/nodes", "the node is ready", |v| ready_nodes(v) == 1).await;
    let node = one.until(&format!("/v1/node/{}", nodes[0]["ID"].as_str().unwrap()), "the node", Value::is_object).await;
    let expected = json!({"Name": "loop2", "CIDR": "127.0.0.2/32", "Interface": "", "ReservedPorts": "22"});
    assert_eq!(node["HostNetworks"]["loop2"], expected);
    let address =
        json!({"Family": "ipv4", "Alias": "loop2", "Address": "127.0.0.2", "ReservedPorts": "22", "Gateway": ""});
    let [lo] = node["NodeResources"]["NodeNetworks"].as_array().unwrap().as_slice() else { panic!("{node:#}") };
    assert_eq!((&lo["Device"], lo["Addresses"].as_array().unwrap().last().unwrap()), (&json!("lo"), &address));
    assert_eq!(node["NodeResources"]["Networks"][0]["IP"], "127.0.0.1");
    let told = one.log();
    assert!(told.contains("host network has no address on this machine") && told.contains("nowhere"), "{told}");

    // The same port on two networks is two ports.
    for (id, network, ip) in [("two", "\n        host_network = \"loop2\"", "127.0.0.2"), ("one", "", "127.0.0.1")] {
        one.ok(&["job", "run", "-detach", &on_network(dir.path(), id, &format!("static = {fixed}{network}"))]);
        let running = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|a| a["ClientStatus"] == "running"));
        let allocs = one.until(&format!("/v1/job/{id}/allocations"), "it runs", running).await;
        let alloc = allocs[0]["ID"].as_str().unwrap();
        let full = one.until(&format!("/v1/allocation/{alloc}"), "it", Value::is_object).await;
        let given = json!([{"Label": "x", "Value": fixed, "To": 0, "HostIP": ip}]);
        assert_eq!(full["AllocatedResources"]["Shared"]["Ports"], given);
        until("what the task was told", async || {
            let said = one.ok(&["alloc", "logs", alloc]);
            (said == format!("{ip} {ip} {ip}:{fixed} {ip}:{fixed}\n")).then_some(())
        })
        .await;
    }

    for (id, said, label) in [
        ("missing", "host_network = \"nowhere\"", "missing host network \"nowhere\" for port \"x\""),
        ("kept", "static = 22\n        host_network = \"loop2\"", "network: reserved port collision x=22"),
    ] {
        one.ok(&["job", "run", "-detach", &on_network(dir.path(), id, said)]);
        let blocked = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|e| e["Status"] == "blocked"));
        let evals = one.until(&format!("/v1/job/{id}/evaluations"), "it is blocked", blocked).await;
        let metrics = evals.as_array().unwrap().iter().map(|eval| &eval["FailedTGAllocs"]["g"]);
        let counted = |m: &Value| m["ConstraintFiltered"][label] == 1 || m["DimensionExhausted"][label] == 1;
        assert!(metrics.clone().any(counted), "{label}: {evals:#}");
    }
}

fn server(dir: &Path, n: u16, port: u16) -> Machine {
    let serf = port + 2;
    let more = format!(
        "leave_on_terminate = true\nserver {{\n  enabled = true\n  bootstrap_expect = 3\n  encrypt = \"{KEY}\"\n  server_join {{\n    \
         retry_join = [\"127.0.0.1:{serf}\", \"127.0.0.2:{serf}\", \"127.0.0.3:{serf}\"]\n  }}\n}}\n"
    );
    Machine::new(dir, &format!("server-{n}"), &format!("127.0.0.{n}"), port, &more)
}

#[tokio::test]
async fn who_leaves_in_good_order_takes_its_vote_along_and_its_work_goes_elsewhere() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut servers: Vec<Machine> = (1..=3).map(|n| server(dir.path(), n, port)).collect();
    servers.iter_mut().for_each(|s| s.start(&[]));
    let peers = |count: usize| move |v: &Value| v.as_array().is_some_and(|p| p.len() == count);
    for server in &servers {
        server.until("/v1/status/peers", "three servers", peers(3)).await;
    }
    let client = |n: u16| {
        let rpc = port + 1;
        let more = format!(
            "leave_on_interrupt = true\nclient {{\n  enabled = true\n  servers = [\"127.0.0.1:{rpc}\", \"127.0.0.3:{rpc}\"]\n  \
             drain_on_shutdown {{\n    deadline = \"20s\"\n  }}\n}}\n{RAW_EXEC}"
        );
        Machine::new(dir.path(), &format!("client-{n}"), &format!("127.0.0.{}", 3 + n), port, &more)
    };
    let mut clients: Vec<Machine> = (1..=2).map(client).collect();
    for client in &mut clients {
        let token = servers[0].ok(&["node", "intro", "create"]);
        client.start(&["-client-intro-token", token.trim()]);
    }
    servers[2].until("/v1/nodes", "both nodes are ready", |v| ready_nodes(v) == 2).await;
    servers[2].ok(&["job", "run", "-detach", &job(dir.path(), "moves", 2, "true")]);
    let running = |node: Option<String>| {
        move |v: &Value| {
            let here = |a: &&Value| node.as_ref().is_none_or(|id| a["NodeID"] == id.as_str());
            let runs = |a: &&Value| a["ClientStatus"] == "running" && a["DesiredStatus"] == "run";
            v.as_array().is_some_and(|all| all.iter().filter(runs).filter(here).count() == 2)
        }
    };
    servers[2].until("/v1/job/moves/allocations", "two run", running(None)).await;
    let nodes = servers[2].until("/v1/nodes", "nodes", |v| ready_nodes(v) == 2).await;
    let id = |name: &str| {
        nodes.as_array().unwrap().iter().find(|n| n["Name"] == name).unwrap()["ID"].as_str().unwrap().to_owned()
    };

    clients[0].end("-INT");
    assert!(clients[0].log().contains("the node is drained"), "{}", clients[0].log());
    servers[2].until("/v1/job/moves/allocations", "both run on the other", running(Some(id("client-2")))).await;
    let left = servers[2].until(&format!("/v1/node/{}", id("client-1")), "the node", |v| v["ID"].is_string()).await;
    assert_eq!(left["SchedulingEligibility"], "ineligible");
    // A signal that does not mean leaving leaves tasks alone.
    clients[1].end("-TERM");
    servers[2].until("/v1/job/moves/allocations", "both run on", running(Some(id("client-2")))).await;

    // One server after the other leaves: the one that stays is a majority of itself.
    for n in [0, 1] {
        let took = servers[n].end("-TERM");
        assert!(servers[n].log().contains("has left the raft group"), "{}", servers[n].log());
        assert!(took < Duration::from_secs(15), "{took:?}");
        servers[2].until("/v1/status/peers", "one server less", peers(2 - n)).await;
    }
    servers[2].ok(&["job", "run", "-detach", &job(dir.path(), "later", 0, "true")]);
    // And one that comes back is taken in again.
    servers[0].start(&[]);
    servers[2].until("/v1/status/peers", "two servers again", peers(2)).await;
    servers[0].until("/v1/job/later", "what it missed", |v| v["ID"] == "later").await;
    clients[1].start(&[]);
    servers[2].ok(&["job", "stop", "-purge", "-detach", "moves"]);
    let over = |v: &Value| v.as_array().is_none_or(|a| a.iter().all(|a| a["ClientStatus"] == "complete"));
    clients[1].until("/v1/job/moves/allocations", "no task is left", over).await;
}
