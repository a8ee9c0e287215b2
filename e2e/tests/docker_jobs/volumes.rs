//! Volumes of hosts: two nodes, of which one has them.

use std::fs;
use std::path::Path;

use e2e::cluster::text;
use e2e::machine::{ALONE, Machine, RAW_EXEC};
use e2e::ports::free_port;
use serde_json::Value;

use super::{containers_of, eventually, image};

/// A job of `count` tasks; `volume` and `mounts` are the bodies of their blocks.
fn job(name: &str, count: u32, script: &str, volumes: &[&str], mounts: &[&str]) -> String {
    let image = image();
    let volumes: String = volumes.iter().map(|body| format!("    volume {body}\n")).collect();
    let mounts: String = mounts.iter().map(|body| format!("      volume_mount {{\n{body}\n      }}\n")).collect();
    format!(
        r#"job "{name}" {{
  group "g" {{
    count = {count}
    restart {{
      attempts = 0
      mode     = "fail"
    }}
    reschedule {{
      attempts  = 0
      unlimited = false
    }}
{volumes}
    task "t" {{
      driver = "docker"
      config {{
        image   = "{image}"
        command = "/bin/sh"
        args    = ["-c", "{script}; while :; do usleep 100000; done"]
      }}
{mounts}
      resources {{
        cpu    = 20
        memory = 20
      }}
    }}
  }}
}}
"#
    )
}

fn mount(volume: &str, destination: &str, more: &str) -> String {
    format!("volume      = \"{volume}\"\ndestination = \"{destination}\"\n{more}")
}

fn host(name: &str, source: &str, more: &str) -> String {
    format!("\"{name}\" {{\n      type   = \"host\"\n      source = \"{source}\"\n      {more}\n    }}")
}

/// A server with volumes that is a client, too, and a client without.
fn machines(dir: &Path) -> [Machine; 2] {
    let port = free_port();
    let volume = |name: &str, read_only: bool| {
        let path = dir.join("volumes").join(name);
        format!(
            "  host_volume \"{name}\" {{\n    path      = \"{}\"\n    read_only = {read_only}\n  }}\n",
            path.display()
        )
    };
    let volumes: String = [("data", false), ("conf", true), ("each[0]", false), ("each[1]", false), ("lost", false)]
        .map(|(name, read_only)| volume(name, read_only))
        .concat();
    let first = format!("{ALONE}client {{\n  enabled = true\n{volumes}}}\n{RAW_EXEC}");
    let servers = format!("client {{\n  enabled = true\n  servers = [\"127.0.0.1:{}\"]\n}}\n{RAW_EXEC}", port + 1);
    [Machine::new(dir, "with", "127.0.0.1", port, &first), Machine::new(dir, "without", "127.0.0.2", port, &servers)]
}

async fn started(dir: &Path) -> ([Machine; 2], String) {
    let mut machines = machines(dir);
    // One directory is not there: nothing starts, and the sentence names the volume.
    for name in ["data", "conf", "each[0]", "each[1]"] {
        fs::create_dir_all(dir.join("volumes").join(name)).unwrap();
    }
    let said = machines[0].refused(&[]);
    assert!(said.contains("client.host_volume \"lost\".path: ") && said.contains("No such file"), "node-20: {said}");
    fs::create_dir(dir.join("volumes/lost")).unwrap();
    fs::write(dir.join("volumes/conf/a"), "of the host\n").unwrap();

    machines[0].start(&[]);
    let ready = |wanted: usize| {
        move |v: &Value| {
            let nodes = v.as_array().map(Vec::as_slice).unwrap_or_default();
            let fine = |n: &&Value| n["Status"] == "ready" && n["Drivers"]["docker"]["Healthy"] == true;
            nodes.iter().filter(fine).count() == wanted
        }
    };
    machines[0].until("/v1/nodes", "the first node", ready(1)).await;
    let token = machines[0].ok(&["node", "intro", "create", "-node-name", "without"]);
    machines[1].start(&["-client-intro-token", token.trim()]);
    let nodes = machines[0].until("/v1/nodes", "both nodes", ready(2)).await;
    let with = nodes.as_array().unwrap().iter().find(|node| node["Name"] == "with").unwrap();
    (machines, with["ID"].as_str().unwrap().to_owned())
}

fn run(dir: &Path, machine: &Machine, name: &str, text: &str) -> String {
    let path = dir.join(format!("{name}.nomad.hcl")).display().to_string();
    fs::write(&path, text).unwrap();
    machine.ok(&["job", "run", "-detach", &path]);
    path
}

async fn running(machine: &Machine, job: &str, count: usize) -> Vec<Value> {
    let all = |v: &Value| {
        let allocs = v.as_array().map(Vec::as_slice).unwrap_or_default();
        allocs.iter().filter(|alloc| alloc["ClientStatus"] == "running").count() == count
    };
    let path = format!("/v1/job/{job}/allocations");
    machine.until(&path, "it runs", all).await.as_array().unwrap().clone()
}

pub async fn of_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machines, with) = started(dir.path()).await;
    let machine = &machines[0];
    let volume = |path: &str| dir.path().join("volumes").join(path);

    // The request says whether it writes, and so may each mount.
    let script = "cat /conf/a; echo x > /conf/b || echo no conf; echo x > /look/b || echo no look; \
                  echo $NOMAD_ALLOC_INDEX > /local/data/i$NOMAD_ALLOC_INDEX";
    let mounts = [
        mount("d", "${NOMAD_TASK_DIR}/data", ""),
        mount("d", "/x/../look", "read_only = true"),
        mount("c", "/conf", "propagation_mode = \"private\""),
    ];
    let mounts = mounts.each_ref().map(String::as_str);
    let volumes = [host("d", "data", ""), host("c", "conf", "read_only = true")];
    let uses = job("uses", 2, script, &volumes.each_ref().map(String::as_str), &mounts);
    let file = run(dir.path(), machine, "uses", &uses);
    let allocs = running(machine, "uses", 2).await;
    for alloc in &allocs {
        let id = alloc["ID"].as_str().unwrap();
        assert_eq!(alloc["NodeID"], with.as_str(), "only there is the volume");
        let full = machine.until(&format!("/v1/allocation/{id}"), "the row", |v| v["ID"] == id).await;
        assert_eq!(full["Metrics"]["ConstraintFiltered"]["missing host volumes"], 1, "{}", full["Metrics"]);
        let said = || async { text(&machine.steppe(&["alloc", "logs", id]).stdout) };
        eventually("what it found", || async { said().await == "of the host\nno conf\nno look\n" }).await;
    }
    for index in ["0", "1"] {
        let path = volume(&format!("data/i{index}"));
        eventually("what it wrote", || async { fs::read_to_string(&path).is_ok_and(|text| text.trim() == index) })
            .await;
    }
    assert!(!volume("conf/b").exists() && !volume("data/b").exists());
    let eval = allocs[0]["EvalID"].as_str().unwrap();
    let told = machine.until(&format!("/v1/evaluation/{eval}/explain"), "why", |v| v["Groups"].is_array()).await;
    let nodes = told["Groups"][0]["Nodes"].as_array().unwrap();
    let other = nodes.iter().find(|node| node["Standing"] == "filtered").unwrap_or_else(|| panic!("{told}"));
    assert!(other["Reason"].as_str().unwrap().contains("missing host volumes"), "{told}");

    let shown = machine.ok(&["alloc", "status", allocs[0]["ID"].as_str().unwrap()]);
    assert!(shown.contains("Host Volumes:\nID  Read Only\nd   false\nd   true\nc   true\n"), "{shown}");

    // Containers outlive the agent, and keep what they have mounted.
    let id = allocs[0]["ID"].as_str().unwrap();
    let containers = containers_of(id);
    e2e::cluster::kill_9(machine.process("client"));
    eventually("the agent is back", || async { machine.steppe(&["alloc", "fs", id]).status.success() }).await;
    assert_eq!((containers_of(id), containers.len()), (containers.clone(), 1));
    fs::write(volume("data/later"), "seen\n").unwrap();
    let seen = machine.ok(&["alloc", "exec", "-i=false", "-t=false", id, "/bin/cat", "/local/data/later"]);
    assert_eq!(seen, "seen\n");

    // Another place for a volume is another container.
    fs::write(&file, uses.replace("/x/../look", "/elsewhere")).unwrap();
    let planned = text(&machine.steppe(&["job", "plan", &file]).stdout);
    assert!(planned.contains("+/- Task: \"t\" (forces create/destroy update)"), "{planned}");

    let each = each_its_own(dir.path(), machine).await;
    nowhere(dir.path(), machine).await;
    lost(dir.path(), machine).await;
    for name in ["uses", "each"] {
        machine.ok(&["job", "stop", "-detach", name]);
    }
    for alloc in allocs.iter().chain(&each) {
        eventually("no container", || async { containers_of(alloc["ID"].as_str().unwrap()).is_empty() }).await;
    }
    for machine in &mut machines {
        machine.end("-INT");
    }
    assert!(volume("conf/a").exists() && volume("data/i1").exists(), "volumes are the operator's");
}

/// Each allocation has the volume of its index.
async fn each_its_own(dir: &Path, machine: &Machine) -> Vec<Value> {
    let text = job(
        "each",
        2,
        "echo $NOMAD_ALLOC_INDEX > /mine/index",
        &[&host("v", "each", "per_alloc = true")],
        &[&mount("v", "/mine", "")],
    );
    run(dir, machine, "each", &text);
    let allocs = running(machine, "each", 2).await;
    for index in ["0", "1"] {
        let path = dir.join(format!("volumes/each[{index}]/index"));
        eventually("its own", || async { fs::read_to_string(&path).is_ok_and(|text| text.trim() == index) }).await;
    }
    allocs
}

/// What no node has, or may be written to nowhere, waits and says why.
async fn nowhere(dir: &Path, machine: &Machine) {
    for (name, source) in [("nowhere", "unheard-of"), ("writer", "conf")] {
        run(dir, machine, name, &job(name, 1, "true", &[&host("v", source, "")], &[&mount("v", "/v", "")]));
        let blocked = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|eval| eval["Status"] == "blocked"));
        let path = format!("/v1/job/{name}/evaluations");
        let evals = machine.until(&path, "it waits", blocked).await;
        let failed = evals.as_array().unwrap().iter().find(|eval| eval["FailedTGAllocs"].is_object()).unwrap();
        let metric = &failed["FailedTGAllocs"]["g"];
        assert_eq!(metric["ConstraintFiltered"]["missing host volumes"], 2, "{failed}");
        let said = machine.ok(&["eval", "explain", failed["ID"].as_str().unwrap()]);
        assert!(said.contains("missing host volumes"), "{said}");
        machine.ok(&["job", "stop", "-detach", name]);
    }
}

/// A directory that was there when the agent started.
async fn lost(dir: &Path, machine: &Machine) {
    fs::remove_dir(dir.join("volumes/lost")).unwrap();
    run(dir, machine, "lost", &job("lost", 1, "true", &[&host("v", "lost", "")], &[&mount("v", "/v", "")]));
    let failed = |v: &Value| v.as_array().is_some_and(|all| all.iter().any(|a| a["ClientStatus"] == "failed"));
    let allocs = machine.until("/v1/job/lost/allocations", "it failed", failed).await;
    let events = allocs[0]["TaskStates"]["t"]["Events"].as_array().unwrap();
    let told = |event: &&Value| {
        event["DisplayMessage"].as_str().is_some_and(|text| {
            text.contains("volume \"v\" cannot be mounted: host volume \"lost\": ") && text.contains("No such file")
        })
    };
    assert!(events.iter().any(|event| told(&event)), "volume-01: {events:?}");
    assert!(!dir.join("volumes/lost").exists(), "nothing is made in its place");
    machine.ok(&["job", "stop", "-detach", "lost"]);
}

pub async fn refused() {
    let cluster = e2e::cluster::Cluster::start();
    let mounted = job("m", 1, "true", &[&host("v", "s", "")], &[&mount("v", "/v", "")]);
    let csi = "\"v\" {\n      type = \"csi\"\n      source = \"s\"\n      access_mode = \"single-node-writer\"\n      \
               attachment_mode = \"file-system\"\n    }";
    for (text_of, told) in [
        (
            mounted
                .replace("driver = \"docker\"", "driver = \"raw_exec\"")
                .replace(&format!("image   = \"{}\"", image()), ""),
            "volume_mount with driver \"raw_exec\" in task \"t\" of group \"g\"",
        ),
        (mounted.replace("source = \"s\"", "source = \"s\"\n      sticky = true"), "volume.sticky in group \"g\""),
        (job("m", 1, "true", &[csi], &[&mount("v", "/v", "")]), "volume of type \"csi\" in group \"g\""),
    ] {
        let file = cluster.file("m.nomad.hcl", &text_of);
        for (words, goes) in
            [(&["job", "run", "-detach"][..], false), (&["job", "plan"], true), (&["job", "validate"], true)]
        {
            let said = cluster.steppe(&[words, &[file.as_str()]].concat());
            let all = text(&said.stdout) + &text(&said.stderr);
            assert!(all.contains(told), "{words:?}: {all}");
            assert!(goes || !said.status.success(), "{words:?}: {all}");
        }
    }
    assert_eq!(cluster.get("/v1/jobs").await, serde_json::json!([]));
}
