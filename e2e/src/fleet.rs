//! A cluster whose every process is the test's to kill, freeze, start and look at.
//!
//! The processes are those of `steppe local up`, and standbys; their parent is the test, so nothing of them
//! outlives it: services die with the thread that started them, tasks and their supervisors, which outlive
//! their agents, are ended when the [`Fleet`] is dropped. Start it on a runtime of one thread.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::public::{PublicClient, Query, Settings};
use kit::pki::Authority;
use model::Role;
use serde_json::{Value, json};

use crate::cluster::{WITHIN, program, text};
use crate::leftovers::{environments, signal_pid, sweep};
use crate::ports::free_ports;

const LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// How long a caller of the API waits: a frozen gateway answers nothing.
const CALL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

/// How many of each there are.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub states: usize,
    pub brokers: usize,
    pub appliers: usize,
    pub controllers: usize,
    pub schedulers: usize,
    pub gateways: usize,
    pub agents: usize,
}

impl Shape {
    /// One more of each than is needed, so that others take over while one is gone.
    pub const STANDBYS: Self =
        Self { states: 3, brokers: 2, appliers: 2, controllers: 2, schedulers: 2, gateways: 2, agents: 3 };
    /// As `scripts/up` has it.
    pub const SMALL: Self =
        Self { states: 3, brokers: 1, appliers: 1, controllers: 1, schedulers: 1, gateways: 1, agents: 0 };

    fn count(&self, role: Role) -> usize {
        match role {
            Role::State => self.states,
            Role::Broker => self.brokers,
            Role::Applier => self.appliers,
            Role::Controller => self.controllers,
            Role::Scheduler => self.schedulers,
            Role::Gateway => self.gateways,
            Role::Agent => self.agents,
            _ => 0,
        }
    }
}

/// In the order in which they are started.
pub const ROLES: [Role; 7] =
    [Role::State, Role::Broker, Role::Applier, Role::Controller, Role::Scheduler, Role::Gateway, Role::Agent];

struct Process {
    role: Role,
    home: PathBuf,
    words: Vec<String>,
    child: Option<Child>,
}

pub struct Fleet {
    dir: tempfile::TempDir,
    authority: Authority,
    shape: Shape,
    /// Gossip addresses of the state servers.
    seeds: Vec<String>,
    /// Public port and agents' port of each gateway.
    doors: Vec<(u16, u16)>,
    processes: BTreeMap<String, Process>,
}

impl Fleet {
    /// Starts all, and waits until they can work.
    pub async fn start(shape: Shape) -> Self {
        let mut fleet = Self::prepare(shape);
        fleet.start_all();
        fleet.until_ready().await;
        fleet
    }

    /// Everything is in its place, and nothing is started.
    pub fn prepare(shape: Shape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path().join("ca"), "global").unwrap();
        let ports = free_ports(shape.states + 2 * shape.gateways);
        let (gossip, doors) = ports.split_at(shape.states);
        let seeds = gossip.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let doors = doors.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let mut fleet = Self { dir, authority, shape, seeds, doors, processes: BTreeMap::new() };
        for role in ROLES {
            for n in 0..shape.count(role) {
                fleet.add(role, n);
            }
        }
        fleet
    }

    fn add(&mut self, role: Role, n: usize) {
        let name = format!("{role}-{}", n + 1);
        let home = self.dir.path().join(&name);
        std::fs::create_dir_all(&home).unwrap();
        let mut words = vec![
            format!("--data-dir={}", home.join("data").display()),
            format!("--identity-dir={}", home.join("identity").display()),
            format!("--die-with-parent={}", std::process::id()),
            "--log-level=info,openraft=warn".to_owned(),
        ];
        let mut certified = name.clone();
        if role == Role::Agent {
            certified = client::state::new_uuid();
            let doors: Vec<String> = self.doors.iter().map(|(_, rpc)| format!("127.0.0.1:{rpc}")).collect();
            words.extend([
                format!("--gateway={}", doors.join(",")),
                format!("--node-name={name}"),
                format!("--min-dynamic-port={}", 20_000 + 1_000 * n),
                format!("--max-dynamic-port={}", 20_999 + 1_000 * n),
            ]);
            // Room for whatever a test wants, however small the machine is.
            words.extend(
                ["--cpu-total-compute=100000", "--memory-total-mb=100000", "--disk-total-mb=1000000"]
                    .map(str::to_owned),
            );
            words.extend(["--raw-exec", "--mock-driver", "--no-docker", "--stop-tasks-on-exit"].map(str::to_owned));
        } else {
            words.push(format!("--join={}", self.seeds.join(",")));
        }
        match role {
            Role::State => words.extend([
                format!("--gossip-bind={}", self.seeds[n]),
                format!("--bootstrap-expect={}", self.shape.states),
                format!("--ca-dir={}", self.dir.path().join("ca").display()),
            ]),
            Role::Gateway => {
                let (http, rpc) = self.doors[n];
                words.extend([format!("--http-bind=127.0.0.1:{http}"), format!("--bind=127.0.0.1:{rpc}")]);
            }
            _ => {}
        }
        self.authority.write_identity(home.join("identity"), role, &certified, "global", LIFETIME).unwrap();
        self.processes.insert(name, Process { role, home, words, child: None });
    }

    /// Gives a process certificate and gossip key of another cluster, or new ones of its own.
    pub fn identify(&self, name: &str, by: &Self, certified: &str, lifetime: Duration) {
        let process = self.process(name);
        let dir = process.home.join("identity");
        std::fs::remove_dir_all(&dir).unwrap();
        by.authority.write_identity(dir, process.role, certified, "global", lifetime).unwrap();
    }

    /// One more process of a role; it is not started.
    pub fn one_more(&mut self, role: Role) -> String {
        let n = self.of(role).len();
        if role == Role::State {
            self.seeds.push(format!("127.0.0.1:{}", free_ports(1)[0]));
        }
        self.add(role, n);
        format!("{role}-{}", n + 1)
    }

    /// Gives a process more words on its command line, from its next start on.
    pub fn tell(&mut self, name: &str, words: &[&str]) {
        self.process_mut(name).words.extend(words.iter().map(|word| (*word).to_owned()));
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where a process keeps its things.
    pub fn home(&self, name: &str) -> PathBuf {
        self.process(name).home.clone()
    }

    fn process(&self, name: &str) -> &Process {
        self.processes.get(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    fn process_mut(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Names of all processes.
    pub fn names(&self) -> Vec<String> {
        self.processes.keys().cloned().collect()
    }

    /// Names of all processes of a role.
    pub fn of(&self, role: Role) -> Vec<String> {
        self.processes.iter().filter(|(_, p)| p.role == role).map(|(name, _)| name.clone()).collect()
    }

    pub fn role(&self, name: &str) -> Role {
        self.process(name).role
    }

    /// Starts every process that does not run.
    pub fn start_all(&mut self) {
        for role in ROLES {
            for name in self.of(role) {
                if self.process(&name).child.is_none() {
                    self.spawn(&name);
                }
            }
        }
    }

    pub fn spawn(&mut self, name: &str) {
        let process = self.process_mut(name);
        assert!(process.child.is_none(), "{name} runs");
        let log = File::options().create(true).append(true).open(process.home.join("log")).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").arg(process.role.as_str()).args(&process.words);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        process.child = Some(command.spawn().unwrap());
    }

    pub fn pid(&self, name: &str) -> u32 {
        self.process(name).child.as_ref().unwrap_or_else(|| panic!("{name} does not run")).id()
    }

    /// `kill -9`; it is gone when this returns.
    pub fn kill(&mut self, name: &str) {
        self.end(name, "-KILL");
    }

    /// `kill -9` for all at once.
    pub fn kill_all(&mut self) {
        let running: Vec<String> = self.names().into_iter().filter(|n| self.process(n).child.is_some()).collect();
        running.iter().for_each(|name| self.signal(name, "-KILL"));
        for name in &running {
            self.process_mut(name).child.take().unwrap().wait().unwrap();
        }
    }

    /// Sends a signal that ends it, and waits for the end.
    pub fn end(&mut self, name: &str, signal: &str) {
        self.signal(name, signal);
        let mut child = self.process_mut(name).child.take().unwrap();
        child.wait().unwrap();
    }

    /// It ended by itself: its exit is taken note of.
    pub fn has_ended(&mut self, name: &str) -> bool {
        let process = self.process_mut(name);
        let ended = process.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if ended {
            process.child = None;
        }
        ended
    }

    pub fn signal(&self, name: &str, signal: &str) {
        signal_pid(self.pid(name), signal);
    }

    /// Stops all in good order: agents first, the truth last. Tasks end with their agents unless they are
    /// `kept`.
    pub fn stop_all(&mut self, kept: bool) {
        for group in [&[Role::Agent][..], &ROLES[1..6], &[Role::State]] {
            let names: Vec<String> = self.names().into_iter().filter(|n| group.contains(&self.role(n))).collect();
            let names: Vec<String> = names.into_iter().filter(|n| self.process(n).child.is_some()).collect();
            for name in &names {
                let signal = if kept && self.role(name) == Role::Agent { "-KILL" } else { "-TERM" };
                self.signal(name, "-CONT");
                self.signal(name, signal);
            }
            for name in &names {
                let mut child = self.process_mut(name).child.take().unwrap();
                let deadline = Instant::now() + Duration::from_secs(20);
                while child.try_wait().unwrap().is_none() {
                    if Instant::now() > deadline {
                        let _ = child.kill();
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read(self.process(name).home.join("log")).map(|bytes| text(&bytes)).unwrap_or_default()
    }

    /// Waits until a process's log has the text `times` times.
    pub async fn until_said(&self, name: &str, what: &str, times: usize) {
        let deadline = Instant::now() + WITHIN;
        while self.log(name).matches(what).count() < times {
            assert!(Instant::now() < deadline, "{name} does not say `{what}`:\n{}", self.log(name));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The public address of a gateway, counted from 0.
    pub fn address(&self, gateway: usize) -> String {
        format!("http://127.0.0.1:{}", self.doors[gateway].0)
    }

    /// A caller of a gateway, counted from 0.
    pub fn api(&self, gateway: usize) -> PublicClient {
        let address = self.address(gateway);
        PublicClient::new(Settings { address, timeout: CALL, connect: CALL, ..Settings::default() }).unwrap()
    }

    /// Callers of all gateways.
    pub fn apis(&self) -> Vec<PublicClient> {
        (0..self.doors.len()).map(|n| self.api(n)).collect()
    }

    /// Reads JSON from whichever gateway answers.
    pub async fn get(&self, path: &str) -> Option<Value> {
        for api in self.apis() {
            if let Ok((value, _)) = api.get::<Value>(path, &Query::default()).await {
                return Some(value);
            }
        }
        None
    }

    /// Asks until the answer is as wanted; how long it took.
    pub async fn until_within(
        &self,
        within: Duration,
        path: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> (Value, Duration) {
        let began = Instant::now();
        let mut last = Value::Null;
        loop {
            if let Some(value) = self.get(path).await {
                if wanted(&value) {
                    return (value, began.elapsed());
                }
                last = value;
            }
            if began.elapsed() > within {
                panic!("not within {within:?}: {what}\n{path}: {last:#}\n{}", self.complaints());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_within(WITHIN, path, what, wanted).await.0
    }

    /// A leader is there, its group is whole, every agent's node is ready, and every gateway answers.
    pub async fn until_ready(&self) {
        let leads = |v: &Value| v.as_str().is_some_and(|leader| !leader.is_empty());
        self.until("/v1/status/leader", "a leader", leads).await;
        let states = self.shape.states;
        let whole = |v: &Value| v.as_array().is_some_and(|all| all.len() == states);
        self.until("/v1/status/peers", "all state servers are in the group", whole).await;
        let agents = self.shape.agents;
        self.until("/v1/nodes", "all nodes are ready", |v| ready_nodes(v) == agents).await;
        for api in self.apis() {
            let deadline = Instant::now() + WITHIN;
            while api.get::<Value>("/v1/nodes", &Query::default()).await.is_err() {
                assert!(Instant::now() < deadline, "{} does not answer", api.address());
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// The state server that leads.
    pub async fn leader(&self) -> String {
        let of = |v: &Value| {
            let servers = v["Servers"].as_array()?;
            let leader = servers.iter().find(|s| s["Leader"] == true)?;
            // `name.region`
            leader["Node"].as_str()?.split('.').next().map(str::to_owned)
        };
        let raft = self.until("/v1/operator/raft/configuration", "a leader", |v| of(v).is_some()).await;
        of(&raft).unwrap()
    }

    /// Which process holds a lease: whoever said last that it took it.
    pub fn holder(&self, role: Role) -> String {
        let names = self.of(role);
        let taken = |name: &String| {
            let log = self.log(name);
            log.lines()
                .filter(|l| l.contains("lease acquired"))
                .filter_map(|l| l.split_whitespace().next())
                .next_back()
                .map(str::to_owned)
        };
        names.iter().max_by_key(|name| taken(name)).cloned().unwrap_or_else(|| panic!("nobody has {role}"))
    }

    /// What a process's `/health/ready` says, as an operator asks it: status and text.
    pub fn readiness(&self, name: &str) -> (u16, String) {
        let dir = self.dir.path().join("operator");
        if !dir.exists() {
            self.authority.write_identity(&dir, Role::Operator, "operator", "global", LIFETIME).unwrap();
        }
        let log = self.log(name);
        let started = log.lines().rev().find(|line| line.contains("service started")).unwrap_or_default();
        let addr = started.split_whitespace().find_map(|word| word.strip_prefix("addr="));
        let url = format!("https://{}/health/ready", addr.unwrap_or_else(|| panic!("no address in {started}")));
        let mut curl = Command::new("curl");
        curl.args(["-sk", "-m", "5", "-w", "\n%{http_code}", &url]);
        curl.arg("--cert").arg(dir.join("cert.pem")).arg("--key").arg(dir.join("key.pem"));
        let said = text(&curl.output().unwrap().stdout);
        let (body, status) = said.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// What all processes warned of, for a test that fails.
    pub fn complaints(&self) -> String {
        let mut all = String::new();
        for name in self.names() {
            let log = self.log(&name);
            let lines: Vec<&str> =
                log.lines().filter(|l| l.contains(" WARN ") || l.contains("ERROR") || l.contains("panicked")).collect();
            for line in &lines[lines.len().saturating_sub(12)..] {
                all.push_str(&format!("{name}: {line}\n"));
            }
        }
        all
    }

    /// Keeps all logs for whoever looks into a failure; where.
    pub fn keep_logs(&self) -> PathBuf {
        let to = std::env::temp_dir().join(format!("steppe-fleet-{}", self.doors.first().map_or(0, |(http, _)| *http)));
        for name in self.names() {
            std::fs::create_dir_all(&to).unwrap();
            let _ = std::fs::copy(self.process(&name).home.join("log"), to.join(format!("{name}.log")));
        }
        to
    }

    /// What tasks this machine really runs for the cluster: name of the allocation → pids.
    pub fn census(&self) -> BTreeMap<String, Vec<u32>> {
        let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let home = self.dir.path().display().to_string();
        for (pid, environ) in environments() {
            let of = |key: &str| environ.split('\0').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            if of("NOMAD_ALLOC_DIR").is_some_and(|dir| dir.starts_with(&home))
                && let Some(name) = of("NOMAD_ALLOC_NAME")
            {
                found.entry(name.to_owned()).or_default().push(pid);
            }
        }
        found
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs are kept in {}", self.keep_logs().display());
        }
        self.stop_all(false);
        // Of agents that were killed: supervisors and tasks, then what they mounted and their cgroups.
        sweep(self.dir.path());
        for agent in self.of(Role::Agent) {
            remove_cgroups(&self.process(&agent).home);
        }
    }
}

/// The cgroups of a node whose agent cannot remove them any more.
fn remove_cgroups(home: &Path) {
    let Ok(id) = std::fs::read_to_string(home.join("data/client-id")) else { return };
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-depth", "-type", "d", "-path", &format!("*{}*", id.trim())])
        .output();
    for dir in found.map(|found| text(&found.stdout)).unwrap_or_default().lines() {
        let _ = std::fs::remove_dir(dir);
    }
}

pub fn ready_nodes(nodes: &Value) -> usize {
    nodes.as_array().map_or(0, |all| all.iter().filter(|n| n["Status"] == "ready").count())
}

/// A service of `count` tasks that only sleep, as programs of the host.
pub fn sleeping_job(id: &str, count: usize) -> Value {
    let task = json!({"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["86400"]},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1}, "KillTimeout": 1_000_000_000,
        "Resources": {"CPU": 1, "MemoryMB": 10}});
    let group = json!({"Name": "g", "Count": count, "EphemeralDisk": {"SizeMB": 10}, "Tasks": [task]});
    json!({"Job": {"ID": id, "Name": id, "Type": "service", "Datacenters": ["*"], "TaskGroups": [group]}})
}
