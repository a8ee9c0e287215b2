//! The cluster that is measured: services as `scripts/up` starts them, on ports of their own, and a fleet.
//!
//! ```text
//!   start: identities ─► services ─► fleet ─► leader there, all nodes ready
//!   end:   fleet, agents ─► other services ─► state servers ─► the directory is removed
//! ```
//!
//! Of a case, all processes are children that end with it, however it ends; of `up` they go on, and `down`
//! finds them by what is noted in the directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cli::local::cluster::Cluster as Local;
use cli::local::plan::{Ports, Size, Spec};
use cli::local::process::{Noted, Tie, log_tail, running, start_from};
use cli::local::sweep;
use client::public::{PublicClient, Query, Settings};
use model::Role;
use serde_json::Value;

use crate::fleet::allow_files;
use crate::usage::{Process, supervisors};

pub const SCHEDULERS_MAX: u16 = 16;
pub const AGENTS_MAX: u16 = 16;
const STATES: u16 = 3;
const FLEET: &str = "fleet";
const LOOK: Duration = Duration::from_millis(50);
const READY: Duration = Duration::from_secs(60);
/// More for each node.
const READY_PER_NODE: Duration = Duration::from_millis(40);
/// For asking an agent with tasks to end, and for the others.
const GRACE_AGENT: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(10);

/// Where a cluster is, and what it is started from.
#[derive(Clone, Debug)]
pub struct Place {
    pub dir: PathBuf,
    pub port: u16,
    pub program: PathBuf,
}

/// What a cluster consists of besides one broker, applier, controller and gateway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Simulated nodes.
    pub nodes: usize,
    /// Nodes with agents of their own.
    pub agents: u16,
    pub schedulers: u16,
    /// Period of the nodes' beats, if it is not to be the usual one.
    pub beat: Option<Duration>,
}

impl Shape {
    pub fn of_nodes(nodes: usize, schedulers: u16) -> Self {
        Self { nodes, agents: 0, schedulers, beat: None }
    }
}

pub struct Cluster {
    local: Local,
    program: PathBuf,
    tie: Tie,
    children: BTreeMap<String, Child>,
    fleet: Option<Noted>,
}

impl Place {
    fn ports(&self) -> Ports {
        Ports::from_http(self.port)
    }

    /// Refuses to take what is somebody's.
    ///
    /// # Errors
    /// In words: what is in the way, and what to do.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.program.is_file(),
            "there is no program {}: build it with `cargo build --release -p steppe`, or name another with --program",
            self.program.display()
        );
        if let Some(ports) = Local::ports_of(&self.dir) {
            let address = format!("http://127.0.0.1:{}", ports.http);
            ensure!(
                self.noted().is_empty(),
                "a benchmark's cluster runs in {} at {address}: end it with `./scripts/bench down`, or measure it \
                 with `--address {address}`",
                self.dir.display()
            );
            // What a run left that was killed.
            fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))?;
        }
        let ports = self.ports();
        for port in [ports.http, ports.rpc] {
            ensure!(
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok(),
                "port {port} is in use: name another first port with --port"
            );
        }
        Ok(())
    }

    /// All processes that could be there, in the order in which they are started.
    fn everything(&self) -> anyhow::Result<Local> {
        let ports = Local::ports_of(&self.dir).unwrap_or(self.ports());
        Local::open(&self.dir, ports, Size { states: STATES, schedulers: SCHEDULERS_MAX, agents: AGENTS_MAX })
    }

    fn fleet_home(&self) -> PathBuf {
        self.dir.join(FLEET)
    }

    /// What runs here.
    fn noted(&self) -> Vec<Noted> {
        let homes = fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        homes.filter_map(|home| noted(&home.path())).collect()
    }

    /// Ends what runs here, and removes the directory. False: nothing was there.
    ///
    /// # Errors
    /// The directory cannot be read or removed.
    pub fn down(&self) -> anyhow::Result<bool> {
        if Local::ports_of(&self.dir).is_none() {
            return Ok(false);
        }
        let specs = self.everything()?.specs;
        end_all(&[(noted(&self.fleet_home()), GRACE)]);
        for group in [
            &[Role::Agent][..],
            &[Role::Gateway, Role::Scheduler, Role::Controller, Role::Applier, Role::Broker],
            &[Role::State],
        ] {
            let members = specs.iter().filter(|spec| group.contains(&spec.role));
            let grace = if group == [Role::Agent] { GRACE_AGENT } else { GRACE };
            end_all(&members.map(|spec| (running(spec), grace)).collect::<Vec<_>>());
            if group == [Role::Agent] {
                // It has a runtime of its own.
                std::thread::scope(|scope| {
                    scope.spawn(|| sweep::sweep(&specs));
                });
            }
        }
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))?;
        Ok(true)
    }
}

fn noted(home: &Path) -> Option<Noted> {
    let text = fs::read(home.join("process.json")).ok()?;
    serde_json::from_slice::<Noted>(&text).ok().filter(|noted| noted.is_alive())
}

fn end_all(all: &[(Option<Noted>, Duration)]) {
    std::thread::scope(|scope| {
        for (noted, grace) in all {
            if let Some(noted) = *noted {
                scope.spawn(move || noted.end(*grace));
            }
        }
    });
}

impl Cluster {
    /// Starts all, and waits until all nodes are ready. To be called on the main thread: children end with it.
    ///
    /// # Errors
    /// In words: something is in the way, or a process does not do what it should.
    pub async fn start(place: &Place, shape: Shape, tie: Tie) -> anyhow::Result<Self> {
        place.check()?;
        allow_files(shape.nodes)?;
        let size = Size { states: STATES, schedulers: shape.schedulers, agents: shape.agents };
        let mut local = Local::open(&place.dir, place.ports(), size)?;
        for spec in &mut local.specs {
            tell(spec, shape);
        }
        let program = place.program.clone();
        let mut cluster = Self { local, program, tie, children: BTreeMap::new(), fleet: None };
        let started = cluster.start_all(place, shape).await;
        if let Err(error) = started {
            drop(cluster);
            place.down()?;
            return Err(error);
        }
        Ok(cluster)
    }

    async fn start_all(&mut self, place: &Place, shape: Shape) -> anyhow::Result<()> {
        for spec in self.local.specs.clone() {
            self.local.identify(&spec)?;
            self.spawn(&spec.name)?;
        }
        let deadline = Instant::now() + READY + READY_PER_NODE * u32::try_from(shape.nodes)?;
        let api = self.api()?;
        self.until(deadline, "a leader", async || {
            let leader = api.get::<String>("/v1/status/leader", &Query::default()).await;
            leader.is_ok_and(|(addr, _)| !addr.is_empty())
        })
        .await?;
        if shape.nodes > 0 {
            self.start_fleet(place, shape.nodes, deadline).await?;
        }
        let wanted = shape.nodes + usize::from(shape.agents);
        self.until(deadline, "all nodes are ready", async || {
            let nodes = api.get::<Vec<Value>>("/v1/nodes", &Query::default()).await;
            nodes.is_ok_and(|(nodes, _)| nodes.iter().filter(|n| n["Status"] == "ready").count() >= wanted)
        })
        .await
    }

    async fn until(&self, deadline: Instant, what: &str, mut is_so: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
        while !is_so().await {
            for spec in &self.local.specs {
                ensure!(running(spec).is_some(), "{} has ended:\n{}", spec.name, log_tail(spec, 8));
            }
            ensure!(Instant::now() < deadline, "waited too long for this: {what}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn start_fleet(&mut self, place: &Place, nodes: usize, deadline: Instant) -> anyhow::Result<()> {
        let home = place.fleet_home();
        fs::create_dir_all(&home)?;
        let log = fs::File::create(home.join("log"))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("steppe-bench").args(["fleet", "--nodes", &nodes.to_string()]);
        command.arg(format!("--gateway=127.0.0.1:{}", self.local.ports.rpc));
        command.arg("--ca-dir").arg(self.local.data.join("ca")).arg("--home").arg(&home);
        if self.tie != Tie::Loose {
            command.arg(format!("--die-with-parent={}", std::process::id()));
        }
        let mut child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let noted = Noted::of(child.id()).context("the fleet ended at once")?;
        fs::write(home.join("process.json"), serde_json::to_vec(&noted)?)?;
        self.fleet = Some(noted);
        let said = child.stdout.take().context("the fleet has no output")?;
        self.children.insert(FLEET.to_owned(), child);
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(said).read_line(&mut line).map(|_| line)
        });
        let within = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(within, line).await {
            Ok(Ok(Ok(line))) if line.trim() == format!("{nodes} nodes") => Ok(()),
            Ok(_) => bail!("the fleet has ended:\n{}", fs::read_to_string(home.join("log")).unwrap_or_default()),
            Err(_) => {
                noted.end(GRACE);
                bail!("not all of the {nodes} nodes are there after {} s", within.as_secs())
            }
        }
    }

    pub fn address(&self) -> String {
        self.local.address()
    }

    /// # Errors
    /// None that a cluster's own address could cause.
    pub fn api(&self) -> anyhow::Result<PublicClient> {
        Ok(PublicClient::new(Settings { address: self.address(), ..Settings::default() })?)
    }

    fn spec(&self, name: &str) -> anyhow::Result<&Spec> {
        self.local.specs.iter().find(|spec| spec.name == name).with_context(|| format!("there is no {name}"))
    }

    /// Starts a service (again).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&mut self, name: &str) -> anyhow::Result<()> {
        let spec = self.spec(name)?;
        let child = start_from(&self.program, spec, self.tie).with_context(|| format!("starting {name}"))?;
        self.children.insert(name.to_owned(), child);
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let child = self.children.get_mut(name).with_context(|| format!("{name} does not run"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Every process of the cluster with what it is, tasks' supervisors, the fleet and the load program too.
    pub fn processes(&self) -> Vec<Process> {
        let services = self.local.specs.iter().filter_map(|spec| {
            let pid = running(spec)?.pid;
            Some(Process { kind: spec.role.as_str().to_owned(), pid })
        });
        let mut all: Vec<Process> = services.collect();
        all.extend(self.fleet.map(|noted| Process { kind: "(simulated nodes)".to_owned(), pid: noted.pid }));
        all.push(Process { kind: "(load program)".to_owned(), pid: std::process::id() });
        all.extend(supervisors(&self.local.data));
        all
    }

    /// Lets it run on.
    pub fn leave(mut self) {
        // Nobody waits for them: their parent ends.
        self.children.clear();
    }
}

/// Nothing runs on that was started for a case.
impl Drop for Cluster {
    fn drop(&mut self) {
        if self.children.is_empty() {
            return;
        }
        let Local { data: dir, ports, .. } = &self.local;
        let place = Place { dir: dir.clone(), port: ports.http, program: self.program.clone() };
        let ended = std::thread::scope(|scope| scope.spawn(|| place.down()).join());
        for child in self.children.values_mut() {
            // It has ended; this takes its status.
            let _ = child.wait();
        }
        if !matches!(ended, Ok(Ok(_))) {
            eprintln!("{} is left: remove it", dir.display());
        }
    }
}

/// What a service is told for being measured.
fn tell(spec: &mut Spec, shape: Shape) {
    match spec.role {
        // All callers have one address here.
        Role::Gateway => spec.words.push("--http-connections-per-client=0".to_owned()),
        Role::Controller => {
            if let Some(beat) = shape.beat {
                let nodes = shape.nodes + usize::from(shape.agents);
                let rate = nodes as f64 / beat.as_secs_f64();
                spec.words.push(format!("--max-heartbeats-per-second={rate}"));
            }
        }
        _ => {}
    }
}
