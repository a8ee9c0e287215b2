//! Networks that the tasks of an allocation share.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use driver::contract::{Driver as _, DriverError, ExecOutput, ExecRequest, GroupNetwork, Namespace};
use driver::orphans::Keep;
use driver::raw_exec::{Options, RawExec};
use driver::supervisor::client::Launch;
use model::AllocId;
use model::alloc::PortMapping;
use serde_json::json;

use crate::engine::docker;
use crate::host::{Host, eventually};
use crate::runner;

pub const TESTS: &[runner::Test] = &[
    ("containers_of_a_group_share_localhost_and_its_ports_docker_24_docker_25_network_01_network_02", share),
    ("a_program_of_the_host_is_in_its_groups_network_raw_exec_07", program_joins),
    ("a_groups_network_outlives_the_agent_and_sweeps_while_the_allocation_is_kept_docker_38", outlives),
    ("a_group_without_network_has_localhost_only", without),
    ("what_cannot_be_in_a_groups_network_is_refused", refused),
];

pub const BRIDGE: &str = "steppe-test0";
const SUBNET: &str = "172.31.240.0/24";

fn wanted(host: &Host, mode: &str, ports: Vec<PortMapping>) -> GroupNetwork {
    GroupNetwork {
        alloc_id: AllocId::from(host.alloc_id.as_str()),
        mode: mode.into(),
        bridge: BRIDGE.into(),
        subnet: SUBNET.into(),
        hostname: "group".into(),
        ports,
    }
}

fn make(host: &Host, wanted: &GroupNetwork) -> Namespace {
    host.run(host.driver().network(wanted)).unwrap()
}

fn end(host: &Host) {
    host.run(host.driver().end_network(&AllocId::from(host.alloc_id.as_str()))).unwrap();
    assert_eq!(docker(&["inspect", &holder(host)]), None, "it is gone");
}

fn holder(host: &Host) -> String {
    format!("nomad_init_{}", host.alloc_id)
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn share() {
    let host = Host::new(json!({}));
    let port = free_port();
    let mapping = PortMapping { label: "http".into(), value: port.into(), to: 8080, host_ip: String::new() };
    let asked = wanted(&host, "bridge", vec![mapping.clone()]);
    let shared = make(&host, &asked);
    assert!(shared.address.starts_with("172.31.240.") && shared.interface == "eth0", "{shared:?}");
    assert_eq!(make(&host, &asked), shared, "it is found again");
    let joined = |mut task: driver::TaskConfig| {
        task.around.network_mode = "bridge".into();
        task.around.namespace = Some(shared.clone());
        task.around.ports = vec![mapping.clone()];
        task
    };
    let web = json!({"command": "/bin/httpd", "args": ["-f", "-p", "8080", "-h", "/www"], "ports": ["http"],
                     "extra_hosts": ["db:10.1.2.3"]});
    let web = host.start(joined(host.task("web", web)));
    eventually("the port reaches the container", || get(port).is_some_and(|a| a.contains("hello from a container")));
    let ask = "cat /etc/hosts; hostname; echo -e 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 8080";
    let client = host.start(joined(host.sh("client", ask)));
    assert!(host.run(host.driver().wait(&client.task_id)).unwrap().is_success());
    let said = host.output("client.stdout");
    assert!(said.contains("hello from a container"), "{said}");
    assert!(said.contains(&format!("{} group", shared.address)) && said.contains("\ngroup\n"), "{said}");
    let hosts = docker(&["exec", &host.name("web"), "cat", "/etc/hosts"]).unwrap();
    assert!(hosts.contains("10.1.2.3 db"), "{hosts}");
    host.destroy(&web);
    host.destroy(&client);
    end(&host);
    assert!(get(port).is_none(), "the port is free");
}

fn program_joins() {
    let host = Host::new(json!({}));
    let shared = make(&host, &wanted(&host, "bridge", Vec::new()));
    let web = json!({"command": "/bin/httpd", "args": ["-f", "-p", "8080", "-h", "/www"]});
    let mut web = host.task("web", web);
    web.around.namespace = Some(shared.clone());
    let web = host.start(web);
    let program = env!("CARGO_BIN_EXE_steppe-supervise-test").into();
    let launch = Launch { program, args: vec!["supervise".into()] };
    let programs = RawExec::new(Options { enabled: true, ..Options::default() }, launch, None);
    let script = "until exec 3<>/dev/tcp/127.0.0.1/8080; do sleep 0.05; done; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; \
                  cat <&3; cat /proc/net/fib_trie; sleep 60";
    let mut task = host.task("program", json!({"command": "/bin/bash", "args": ["-c", script]}));
    task.config.remove("image");
    task.env.insert("PATH".into(), "/bin:/usr/bin".into());
    task.around.namespace = Some(shared.clone());
    let started = host.run(programs.start(task)).unwrap();
    eventually("the program reaches the container at localhost", || {
        host.output("program.stdout").contains("hello from a container")
    });
    eventually("the program has the group's address", || host.output("program.stdout").contains(&shared.address));
    // A command beside it is where it is.
    let said = host.run(async {
        let request = ExecRequest { command: vec!["cat".into(), "/proc/net/fib_trie".into()], tty: false };
        let mut session = programs.exec(&started.task_id, request).await.unwrap();
        let mut said = String::new();
        while let Some(piece) = session.output.recv().await {
            match piece {
                ExecOutput::Stdout(bytes) => said.push_str(&String::from_utf8_lossy(&bytes)),
                ExecOutput::Exited(exit) => {
                    assert!(exit.is_success(), "{exit:?}");
                    break;
                }
                _ => {}
            }
        }
        said
    });
    assert!(said.contains(&shared.address), "{said}");
    host.run(programs.destroy(&started.task_id, true)).unwrap();
    host.destroy(&web);
    end(&host);
}

fn outlives() {
    let mut host = Host::new(json!({}));
    let asked = wanted(&host, "bridge", Vec::new());
    let shared = make(&host, &asked);
    host.die();
    host.begin();
    host.finds_engine();
    let keep = Keep { networks: BTreeSet::from([host.alloc_id.clone()]), ..Keep::default() };
    host.run(host.driver().sweep(&keep)).unwrap();
    assert_eq!(make(&host, &asked), shared, "the same network, with its address");
    host.die();
    host.begin();
    host.finds_engine();
    let ended = Keep { allocs: BTreeSet::from([host.alloc_id.clone()]), ..Keep::default() };
    assert_eq!(host.run(host.driver().sweep(&ended)).unwrap(), 1);
    assert_eq!(docker(&["inspect", &holder(&host)]), None, "the allocation is known, and has ended");
    // One that was ended from outside is made anew.
    let first = make(&host, &asked);
    docker(&["stop", "-t", "0", &holder(&host)]).unwrap();
    assert_ne!(make(&host, &asked).container, first.container);
    end(&host);
    end(&host);
}

fn without() {
    let host = Host::new(json!({}));
    let shared = make(&host, &wanted(&host, "none", Vec::new()));
    assert_eq!((shared.address.as_str(), shared.interface.as_str()), ("", ""));
    let mut task = host.sh("t", "cat /proc/net/dev");
    task.around.network_mode = "none".into();
    task.around.namespace = Some(shared);
    let started = host.start(task);
    host.run(host.driver().wait(&started.task_id)).unwrap();
    let said = host.output("t.stdout");
    assert!(said.contains("lo:") && !said.contains("eth0"), "{said}");
    host.destroy(&started);
    end(&host);
}

fn refused() {
    let host = Host::new(json!({}));
    let shared = make(&host, &wanted(&host, "bridge", Vec::new()));
    let mut task = host.task("t", json!({"command": "/bin/sleep", "args": ["1"], "hostname": "own"}));
    task.around.namespace = Some(shared);
    let error = host.run(host.driver().start(task)).unwrap_err();
    assert!(error.to_string().contains("group's network block"), "{error}");
    let (subnet, alloc_id) = ("172.31.241.0/24".into(), "another".into());
    let other = GroupNetwork { subnet, alloc_id, ..wanted(&host, "bridge", Vec::new()) };
    let error = host.run(host.driver().network(&other)).unwrap_err();
    assert!(
        matches!(&error, DriverError::Start { message, recoverable: false } if message.contains(SUBNET)),
        "{error}"
    );
    end(&host);
    // Somebody else's container of that name is left alone.
    let label = format!("com.hashicorp.nomad.alloc_id={}", host.alloc_id);
    let image = crate::image();
    docker(&["create", "--name", &holder(&host), "--label", &label, &image, "/bin/sleep", "1"]).unwrap();
    let error = host.run(host.driver().network(&wanted(&host, "bridge", Vec::new()))).unwrap_err();
    assert!(error.to_string().contains("not this node's"), "{error}");
    host.run(host.driver().end_network(&AllocId::from(host.alloc_id.as_str()))).unwrap();
    assert!(docker(&["inspect", &holder(&host)]).is_some());
}
