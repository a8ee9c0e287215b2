//! `compose.yaml` as people use it, with either Compose.

use std::path::PathBuf;
use std::process::{Command, Output};

use client::public::{PublicClient, Query, Settings};
use serde_json::{Value, json};

use crate::engine::docker;
use crate::suite::{IMAGE, containers_of_tasks, job, tag, task_image};

/// A program that reads the file.
pub struct Compose {
    /// Words of the command; the first that exists.
    candidates: &'static [&'static [&'static str]],
    major: &'static str,
}

pub const V1: Compose = Compose { candidates: &[&["docker-compose"]], major: "1." };
/// As a plugin of the docker command, or where scripts/test puts it.
pub const V2: Compose =
    Compose { candidates: &[&["docker", "compose"], &["steppe-compose-v2"], &["docker-compose"]], major: "2." };

impl Compose {
    fn words(&self) -> Option<Vec<String>> {
        let is_it = |words: &&&[&str]| {
            let mut command = Command::new(program(words[0]));
            let said = command.args(&words[1..]).args(["version", "--short"]).output();
            said.is_ok_and(|s| {
                s.status.success()
                    && e2e::cluster::text(&s.stdout).trim().trim_start_matches('v').starts_with(self.major)
            })
        };
        let found = self.candidates.iter().find(is_it)?;
        Some(found.iter().map(|word| (*word).to_owned()).collect())
    }

    pub fn missing(&self) -> Option<String> {
        self.words().is_none().then(|| format!("there is no Compose {}x", self.major))
    }
}

/// The file of that name in the tools' directory of scripts/test, or the command.
fn program(name: &str) -> PathBuf {
    let tools = std::env::var_os("STEPPE_TEST_TOOLS").map(PathBuf::from).map(|dir| dir.join(name));
    tools.filter(|path| path.exists()).unwrap_or_else(|| name.into())
}

/// A project that takes itself away.
struct Project {
    words: Vec<String>,
    name: String,
    agents: tempfile::TempDir,
    port: u16,
}

impl Project {
    fn new(compose: &Compose) -> Self {
        let words = compose.words().expect("looked for before");
        let name = format!("steppe-test-{}-{}", std::process::id(), compose.major.trim_end_matches('.'));
        Self { words, name, agents: tempfile::tempdir().unwrap(), port: e2e::ports::free_port() }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program(&self.words[0]));
        command.args(&self.words[1..]).args(["-p", &self.name, "-f", "compose.yaml"]).args(words);
        command.env("STEPPE_IMAGE", format!("{IMAGE}:{}", tag(1))).env("STEPPE_AGENTS", self.agents.path());
        command.env("STEPPE_HTTP", format!("127.0.0.1:{}-{}", self.port, self.port + 2));
        command.current_dir(e2e::cluster::root()).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert!(done.status.success(), "{words:?}: {}", e2e::cluster::text(&done.stderr));
        e2e::cluster::text(&done.stdout)
    }

    fn containers(&self, filter: &str) -> Vec<String> {
        let own = format!("label=com.docker.compose.project={}", self.name);
        let found = docker(&["ps", "-q", "--filter", &own, "--filter", filter]).unwrap_or_default();
        found.lines().map(str::to_owned).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.run(&["down", "-v", "-t", "15"]);
        for id in containers_of_tasks() {
            docker(&["rm", "-f", &id]);
        }
    }
}

/// Scaled as the issue of its users says: four schedulers, two gateways, five agents.
pub async fn scaled(compose: &Compose) {
    let project = Project::new(compose);
    project.ok(&["up", "-d", "--scale", "scheduler=4", "--scale", "gateway=2", "--scale", "agent=5"]);
    let began = std::time::Instant::now();
    while project.containers("health=healthy").len() < 3 + 3 + 4 + 2 + 5 {
        assert!(began.elapsed() < crate::suite::WITHIN, "not all are healthy: {}", project.ok(&["ps"]));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let gateways: Vec<PublicClient> = ["1", "2"].map(|n| gateway(&project, n)).into();
    let nodes = until(&gateways[1], "/v1/nodes", |v| {
        v.as_array().is_some_and(|all| all.len() == 5 && all.iter().all(|n| n["Status"] == "ready"))
    });
    let nodes = nodes.await;
    let mut names: Vec<&str> = nodes.as_array().unwrap().iter().filter_map(|n| n["Name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["agent-1", "agent-2", "agent-3", "agent-4", "agent-5"]);

    // A container on each node, which writes into the directory that its agent reads.
    let script = "echo here > /local/file; while :; do sleep 1; done";
    let config = json!({"image": task_image(), "command": "/bin/sh", "args": ["-c", script], "ports": ["http"]});
    let mut spread = job("spread", 5, "docker", config);
    spread["Constraints"] = json!([{"Operand": "distinct_hosts"}]);
    spread["TaskGroups"][0]["Networks"] = json!([{"Mode": "host", "DynamicPorts": [{"Label": "http", "To": 8080}]}]);
    let _: (Value, _) = gateways[0].put("/v1/jobs", &Query::default(), &json!({ "Job": spread })).await.unwrap();
    let running =
        |v: &Value| v.as_array().is_some_and(|all| all.iter().filter(|a| a["ClientStatus"] == "running").count() == 5);
    let allocs = until(&gateways[1], "/v1/job/spread/allocations", running).await;
    let places: std::collections::BTreeSet<_> =
        allocs.as_array().unwrap().iter().map(|a| a["NodeName"].to_string()).collect();
    assert_eq!(places.len(), 5);
    assert_eq!(containers_of_tasks().len(), 5);
    for alloc in allocs.as_array().unwrap() {
        let path = format!("/v1/client/fs/stat/{}?path=t/local/file", alloc["ID"].as_str().unwrap());
        until(&gateways[0], &path, |v| v["Size"] == 5).await;
    }
    project.ok(&["down", "-v", "-t", "15"]);
    assert_eq!(containers_of_tasks(), Vec::<String>::new(), "no task outlives the project");
    let own = format!("label=com.docker.compose.project={}", project.name);
    for kind in ["volume", "network"] {
        assert_eq!(docker(&[kind, "ls", "-q", "--filter", &own]).unwrap(), "", "{kind}");
    }
}

fn gateway(project: &Project, index: &str) -> PublicClient {
    let at = project.ok(&["port", "--index", index, "gateway", "4646"]);
    PublicClient::new(Settings { address: format!("http://{}", at.trim()), ..Settings::default() }).unwrap()
}

async fn until(api: &PublicClient, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + crate::suite::WITHIN;
    loop {
        let answer = api.get::<Value>(path, &Query::default()).await;
        match answer {
            Ok((value, _)) if wanted(&value) => return value,
            other => assert!(std::time::Instant::now() < deadline, "not in time: {path}: {other:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Volumes without certificates: nothing starts, and one sentence says what to do.
pub fn without_certificates(compose: &Compose) {
    let project = Project::new(compose);
    for (service, dir) in
        [("state-1", "/trust/authority/state-1"), ("broker", "/trust/broker"), ("agent", "/trust/agent")]
    {
        let done = project.run(&["run", "--rm", "--no-deps", "-T", service]);
        let said = e2e::cluster::text(&done.stdout) + &e2e::cluster::text(&done.stderr);
        assert!(!done.status.success(), "{service}: {said}");
        assert!(said.contains(dir) && said.contains("`docker compose up certificates`"), "{service}: {said}");
    }
}
