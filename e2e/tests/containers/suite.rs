//! The suite as containers on a network of their own, started as `compose.yaml` starts them.
//!
//! testcontainers starts and removes them; what it has no call for goes through the docker command: to cut a
//! container off its network, to kill and to restart one. Whatever a job was acknowledged for is remembered, and
//! [`Suite::settled`] asks for all of it, by the API and by a census of containers and processes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::public::{PublicClient, Query, Settings};
use serde_json::{Value, json};
use testcontainers::bollard::models::{PortBinding, RestartPolicy, RestartPolicyNameEnum};
use testcontainers::core::wait::ExitWaitStrategy;
use testcontainers::core::{AccessMode, Healthcheck, IntoContainerPort as _, Mount, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};

use crate::engine::docker;

pub const WITHIN: Duration = Duration::from_secs(60);
/// All services' image; the tag says which build.
pub const IMAGE: &str = "steppe-test/suite";
const STATES: [&str; 3] = ["state-1", "state-2", "state-3"];
const TRUST: [&str; 7] = ["authority", "broker", "applier", "controller", "scheduler", "gateway", "agent"];

/// The tag of the nth build.
pub fn tag(build: u8) -> String {
    format!("{}-{build}", std::process::id())
}

/// What tasks in containers run.
pub fn task_image() -> String {
    format!("steppe-test/task:{}", std::process::id())
}

pub struct Suite {
    containers: BTreeMap<String, ContainerAsync<GenericImage>>,
    pub prefix: String,
    port: u16,
    api: PublicClient,
    /// The same path inside and outside.
    agents: tempfile::TempDir,
    /// Jobs that were acknowledged, with their counts.
    pub jobs: BTreeMap<String, usize>,
    marks: Marks,
}

/// How many containers and processes tasks should be.
#[derive(Default)]
struct Marks {
    containers: usize,
    processes: Option<(String, usize)>,
}

impl Suite {
    /// Three state servers, and one of everything else but two schedulers and two agents.
    pub async fn start() -> Self {
        let prefix = format!("steppe-test-{}-{}", std::process::id(), e2e::ports::free_port());
        let port = e2e::ports::free_port();
        let settings = Settings { address: format!("http://127.0.0.1:{port}"), ..Settings::default() };
        let mut suite = Self {
            containers: BTreeMap::new(),
            prefix,
            port,
            api: PublicClient::new(settings).unwrap(),
            agents: tempfile::tempdir().unwrap(),
            jobs: BTreeMap::new(),
            marks: Marks::default(),
        };
        suite.certificates().await;
        let others = ["broker-1", "applier-1", "controller-1", "scheduler-1", "scheduler-2", "gateway-1"];
        for name in STATES.iter().chain(&others).chain(&["agent-1", "agent-2"]) {
            suite.add(name, 1).await;
        }
        for name in suite.names() {
            suite.until_healthy(&name).await;
        }
        suite.until_nodes(2).await;
        suite
    }

    pub fn names(&self) -> Vec<String> {
        self.containers.keys().cloned().collect()
    }

    /// What Docker calls it.
    pub fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    async fn certificates(&self) {
        let image = GenericImage::new(IMAGE, &tag(1))
            .with_wait_for(WaitFor::exit(ExitWaitStrategy::new().with_exit_code(0)))
            .with_cmd(["container", "certificates"])
            .with_container_name(self.full("certificates"))
            .with_network("none")
            .with_cap_drop("ALL");
        let mounted = TRUST.iter().fold(image, |image, role| image.with_mount(self.trust(role)));
        mounted.start().await.unwrap().rm().await.unwrap();
    }

    fn trust(&self, role: &str) -> Mount {
        Mount::volume_mount(self.full(&format!("trust-{role}")), format!("/trust/{role}"))
    }

    fn request(&self, name: &str, build: u8) -> ContainerRequest<GenericImage> {
        let role = name.rsplit_once('-').unwrap().0;
        let join: Vec<String> = STATES.iter().map(|state| format!("{}:4648", self.full(state))).collect();
        let health = Healthcheck::cmd(["steppe", "container", "health"]).with_interval(Duration::from_secs(1));
        let port = self.port;
        let (is_gateway, is_agent) = (role == "gateway", role == "agent");
        let image = GenericImage::new(IMAGE, &tag(build));
        let image = if is_gateway { image.with_exposed_port(4646.tcp()) } else { image };
        let common = image
            .with_container_name(self.full(name))
            .with_network(&self.prefix)
            .with_cap_drop("ALL")
            .with_security_opt("no-new-privileges:true")
            .with_readonly_rootfs(true)
            .with_health_check(health.with_timeout(Duration::from_secs(5)).with_retries(3))
            .with_mount(Mount::tmpfs_mount("/tmp").with_mode(0o1777))
            .with_env_var("STEPPE_BIND", "0.0.0.0:4647")
            .with_host_config_modifier(move |host| {
                let name = Some(RestartPolicyNameEnum::UNLESS_STOPPED);
                host.restart_policy = Some(RestartPolicy { name, maximum_retry_count: None });
                if is_gateway {
                    let at = PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(port.to_string()) };
                    host.port_bindings = Some([("4646/tcp".to_owned(), Some(vec![at]))].into());
                    host.publish_all_ports = Some(false);
                }
                if is_agent {
                    host.init = Some(true);
                }
            });
        if is_agent {
            return self.agent(common);
        }
        let common = common
            .with_env_var("STEPPE_GOSSIP_BIND", "0.0.0.0:4648")
            .with_env_var("STEPPE_JOIN", join.join(","))
            .with_env_var("STEPPE_DATA_DIR", "/data");
        if role == "state" {
            return common
                .with_cmd(["serve", "state"])
                .with_env_var("STEPPE_BOOTSTRAP_EXPECT", "3")
                .with_env_var("STEPPE_CA_DIR", "/trust/authority/ca")
                .with_env_var("STEPPE_IDENTITY_DIR", format!("/trust/authority/{name}"))
                .with_mount(self.trust("authority").with_access_mode(AccessMode::ReadOnly))
                .with_mount(Mount::volume_mount(self.full(&format!("data-{name}")), "/data"));
        }
        let mut words = vec!["serve", role, "-name-by-host"];
        words.extend(is_gateway.then_some(["-http-unauthenticated", "-http-bind=0.0.0.0:4646"]).into_iter().flatten());
        common
            .with_cmd(words)
            .with_env_var("STEPPE_IDENTITY_DIR", format!("/trust/{role}"))
            .with_mount(self.trust(role).with_access_mode(AccessMode::ReadOnly))
            .with_mount(Mount::tmpfs_mount("/data").with_mode(0o1777))
    }

    fn agent(&self, common: ContainerRequest<GenericImage>) -> ContainerRequest<GenericImage> {
        let root = self.agents.path().to_str().unwrap();
        let common = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"]
            .iter()
            .fold(common, |request, capability| request.with_cap_add(*capability));
        common
            .with_cmd(["container", "agent", "-root", root])
            .with_user("0:0")
            .with_env_var("STEPPE_GATEWAY", format!("{}:4647", self.full("gateway-1")))
            .with_env_var("STEPPE_IDENTITY_DIR", "/run/steppe/identity")
            .with_env_var("STEPPE_RAW_EXEC", "true")
            .with_env_var("STEPPE_MOCK_DRIVER", "true")
            .with_env_var("STEPPE_STOP_TASKS_ON_EXIT", "true")
            .with_env_var("STEPPE_DOCKER_OPTIONS", r#"{"publish_address": "127.0.0.1"}"#)
            .with_mount(self.trust("agent").with_access_mode(AccessMode::ReadOnly))
            .with_mount(Mount::bind_mount("/var/run/docker.sock", "/var/run/docker.sock"))
            .with_mount(Mount::bind_mount(root, root))
            .with_mount(Mount::tmpfs_mount("/run/steppe"))
    }

    /// Starts one more container of the service.
    pub async fn add(&mut self, name: &str, build: u8) {
        let started = self.request(name, build).start().await.unwrap();
        self.containers.insert(name.to_owned(), started);
    }

    /// Puts one of another build in a container's place.
    pub async fn replace(&mut self, name: &str, build: u8) {
        let old = self.containers.remove(name).unwrap();
        old.stop_with_timeout(Some(15)).await.unwrap();
        old.rm().await.unwrap();
        self.add(name, build).await;
        self.until_healthy(name).await;
    }

    /// Asks the engine about one container.
    pub fn inspect(&self, name: &str, format: &str) -> String {
        docker(&["inspect", "-f", format, &self.full(name)]).unwrap_or_default()
    }

    pub async fn until_healthy(&self, name: &str) {
        let deadline = Instant::now() + WITHIN;
        while self.inspect(name, "{{.State.Health.Status}}") != "healthy" {
            let log = || docker_log(&self.full(name));
            assert!(Instant::now() < deadline, "{name} is not healthy in time:\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_nodes(&self, count: usize) {
        let ready = move |v: &Value| {
            v.as_array().is_some_and(|all| all.len() == count && all.iter().all(|n| n["Status"] == "ready"))
        };
        self.until("/v1/nodes", "the nodes are ready", ready).await;
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WITHIN;
        let mut last;
        loop {
            match self.api.get::<Value>(path, &Query::default()).await {
                Ok((value, _)) if wanted(&value) => return value,
                Ok((value, _)) => last = format!("{value:#}"),
                Err(error) => last = error.to_string(),
            }
            assert!(Instant::now() < deadline, "not in time: {what}\n{path}: {last}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The name of the state server that leads.
    pub async fn leader(&self) -> String {
        let of = |v: &Value| {
            let leader = v["Servers"].as_array()?.iter().find(|s| s["Leader"] == true)?;
            leader["Node"].as_str()?.split('.').next().map(str::to_owned)
        };
        of(&self.until("/v1/operator/raft/configuration", "somebody leads", |v| of(v).is_some()).await).unwrap()
    }

    /// Registers a job; once that is acknowledged, it is asked for.
    pub async fn run(&mut self, job: &Value) -> Result<(), String> {
        let id = job["ID"].as_str().unwrap().to_owned();
        let count = usize::try_from(job["TaskGroups"][0]["Count"].as_u64().unwrap()).unwrap();
        let done = self.api.put::<_, Value>("/v1/jobs", &Query::default(), &json!({ "Job": job })).await;
        done.map_err(|error| error.to_string())?;
        self.jobs.insert(id, count);
        Ok(())
    }

    /// One job of each driver, as the jobs of everyday.
    pub async fn run_everyday(&mut self) {
        let count = "n=0; while :; do n=$((n+1)); echo $n; echo $n > $NOMAD_TASK_DIR/n; sleep 1; done";
        let inside = json!({"image": task_image(), "command": "/bin/sh", "args": ["-c", count], "ports": ["http"]});
        let mut inside = job("inside", 2, "docker", inside);
        inside["TaskGroups"][0]["Networks"] =
            json!([{"Mode": "host", "DynamicPorts": [{"Label": "http", "To": 8080}]}]);
        let mark = format!("echo {}; exec sleep 1000000", self.prefix);
        let beside = job("beside", 2, "raw_exec", json!({"command": "/bin/sh", "args": ["-c", mark]}));
        self.run(&inside).await.unwrap();
        self.run(&beside).await.unwrap();
        let agents = self.agents.path().display().to_string();
        self.marks = Marks { containers: 2, processes: Some((agents, 2)) };
    }

    /// Every acknowledged job runs what it should, exactly, by the API and on the host.
    pub async fn settled(&self) {
        for (id, count) in &self.jobs {
            let of = |v: &Value| {
                let all = v.as_array().cloned().unwrap_or_default();
                let running = all.iter().filter(|a| a["ClientStatus"] == "running" && a["DesiredStatus"] == "run");
                let names: Vec<String> = running.filter_map(|a| a["Name"].as_str().map(str::to_owned)).collect();
                (names.len(), names.into_iter().collect::<BTreeSet<_>>().len())
            };
            let what = format!("{count} allocations of {id} run, one for each name");
            self.until(&format!("/v1/job/{id}/allocations"), &what, |v| of(v) == (*count, *count)).await;
        }
        let deadline = Instant::now() + WITHIN;
        loop {
            let found = (containers_of_tasks().len(), self.processes());
            let wanted = (self.marks.containers, self.marks.processes.as_ref().map_or(0, |(_, count)| *count));
            if found == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "containers and processes of tasks: {found:?}, not {wanted:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Processes of raw_exec tasks, seen from the host.
    fn processes(&self) -> usize {
        let Some((agents, _)) = &self.marks.processes else { return 0 };
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
        let pids = all.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().parse::<u32>().is_ok()));
        let is_task = |dir: &PathBuf| {
            let here =
                std::fs::read_link(dir.join("cwd")).is_ok_and(|cwd| cwd.to_string_lossy().contains(agents.as_str()));
            let command = std::fs::read(dir.join("cmdline")).unwrap_or_default();
            here && command.starts_with(b"sleep\x001000000")
        };
        pids.filter(is_task).count()
    }

    /// Whether the public port is open.
    pub fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// Runs the command line against the suite; its stdout.
    pub fn ok(&self, words: &[&str]) -> String {
        let mut command = std::process::Command::new(e2e::cluster::program());
        command.args(words).env("NOMAD_ADDR", format!("http://127.0.0.1:{}", self.port));
        let done = command.current_dir(e2e::cluster::root()).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", e2e::cluster::text(&done.stderr));
        e2e::cluster::text(&done.stdout)
    }

    /// Lines of all containers that nobody should have to read.
    pub fn complaints(&self) -> Vec<String> {
        let lines = self.names().into_iter().flat_map(|name| {
            let log = docker_log(&self.full(&name));
            log.lines().map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
        });
        lines.filter(|line| line.contains("ERROR") || line.contains("panicked")).collect()
    }

    /// Ends in good order: agents stop their tasks.
    pub async fn end(self) {
        for (_, agent) in self.containers.iter().filter(|(name, _)| name.starts_with("agent")) {
            agent.stop_with_timeout(Some(15)).await.unwrap();
        }
        assert_eq!(containers_of_tasks(), Vec::<String>::new(), "agents stop their tasks");
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        // Containers hold volumes, tasks hold directories.
        self.containers.clear();
        for id in containers_of_tasks() {
            docker(&["rm", "-f", &id]);
        }
        let volumes = docker(&["volume", "ls", "-q", "--filter", &format!("name={}", self.prefix)]).unwrap_or_default();
        for volume in volumes.lines() {
            docker(&["volume", "rm", "-f", volume]);
        }
    }
}

/// Containers that are tasks of this test's.
pub fn containers_of_tasks() -> Vec<String> {
    let found = docker(&["ps", "-q", "--filter", &format!("ancestor={}", task_image())]).unwrap_or_default();
    found.lines().map(str::to_owned).collect()
}

/// A service job of so many allocations.
pub fn job(id: &str, count: usize, driver: &str, config: Value) -> Value {
    let task = json!({"Name": "t", "Driver": driver, "Config": config, "Resources": {"CPU": 1, "MemoryMB": 10},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1}});
    let group = json!({"Name": "g", "Count": count, "Tasks": [task], "EphemeralDisk": {"SizeMB": 10},
        "RestartPolicy": {"Attempts": 10, "Interval": 60_000_000_000_u64, "Delay": 500_000_000, "Mode": "delay"}});
    json!({"ID": id, "Name": id, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]})
}

/// A job of one allocation that only seems to run.
pub fn small(id: &str) -> Value {
    job(id, 1, "mock_driver", json!({"run_for": "1h"}))
}

fn docker_log(container: &str) -> String {
    let done = std::process::Command::new("docker").args(["logs", "--tail", "200", container]).output();
    done.map(|done| e2e::cluster::text(&done.stdout) + &e2e::cluster::text(&done.stderr)).unwrap_or_default()
}
