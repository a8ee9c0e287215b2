//! `steppe dev`: a small cluster for one person, as child processes, gone at Ctrl-C.
//!
//! One of each service. A child that dies is started again, after a growing pause. Unless a data directory
//! is given, everything is in a temporary one and removed at the end; tasks are stopped in any case.

use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kit::process::Shutdown;
use model::Role;

use crate::env::Env;
use crate::flags::{self, Flag, switch, text};
use crate::local::cluster::Cluster;
use crate::local::plan::{Ports, Size};
use crate::local::{process, ready, report, sweep};
use crate::ui::Ui;

pub const FLAGS: &[Flag] = &[
    switch("dev", "Run a small cluster on this machine."),
    text("http-port", "PORT", "Port of the public API; 4646 unless given."),
    text("data-dir", "DIR", "Keep everything here; otherwise it is thrown away at the end."),
    text("log-level", "LEVEL", "What the processes log: error, warn, info, debug, trace, or a filter."),
];

const LOOK: Duration = Duration::from_millis(100);
/// All must be over this long after Ctrl-C.
const GRACE: Duration = Duration::from_secs(4);

/// `steppe agent`: only `-dev` so far.
pub fn agent(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let wanted = words.iter().any(|w| w.trim_start_matches('-') == "dev" || w == "-dev=true");
    if !wanted && !words.iter().any(|w| w.trim_start_matches('-').starts_with('h')) {
        ui.error("Error: `steppe agent` needs -dev; single services are started by `steppe serve`");
        return 1;
    }
    run(words, env, ui)
}

/// `steppe dev`.
pub fn run(words: &[String], _: &Env, ui: &mut Ui) -> u8 {
    let result = dev(words, ui);
    report(ui, result)
}

fn dev(words: &[String], ui: &mut Ui) -> anyhow::Result<u8> {
    let typed = flags::parse(&[FLAGS], words)?;
    let port = typed.some("http-port").unwrap_or("4646");
    let http: u16 = port.parse().with_context(|| format!("`{port}` is no port"))?;
    TcpListener::bind(("127.0.0.1", http))
        .with_context(|| format!("port {http} is taken: another cluster? Choose one with -http-port"))?;
    let kept = typed.some("data-dir").map(PathBuf::from);
    let data =
        kept.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("steppe-dev-{}", client::state::new_uuid())));
    let mut cluster = Cluster::open(&data, free_ports(http)?, Size::DEV)?;
    if let Some(level) = typed.some("log-level") {
        for spec in &mut cluster.specs {
            spec.log_level = level.to_ascii_lowercase();
        }
    }
    // On this thread, which lives as long as the process: children die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shutdown = {
        let _inside = runtime.enter();
        Shutdown::on_signals()?
    };
    let mut children = Children { cluster: &cluster, running: HashMap::new(), again: HashMap::new() };
    let gave_up = || {
        // Signals are seen while the runtime runs.
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        shutdown.is_requested()
    };
    let worked = children.start_all().and_then(|()| ready::wait(&cluster, Duration::from_secs(30), ui, gave_up));
    if worked.is_ok() {
        welcome(&cluster, kept.is_some(), ui);
        runtime.block_on(async {
            while !shutdown.is_requested() {
                let _ = shutdown.or(tokio::time::sleep(LOOK)).await;
                children.tend(ui);
            }
        });
        ui.note("stopping");
    }
    children.stop_all();
    if kept.is_none() {
        std::fs::remove_dir_all(&cluster.data).with_context(|| format!("removing {}", cluster.data.display()))?;
    }
    worked.map(|()| 0)
}

/// The public port is chosen by a person; the others only need to be free.
fn free_ports(http: u16) -> anyhow::Result<Ports> {
    let rpc = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let gossip = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    Ok(Ports { http, rpc, gossip })
}

struct Children<'a> {
    cluster: &'a Cluster,
    running: HashMap<String, Child>,
    /// When one that died is started again, and after which pause.
    again: HashMap<String, (Instant, Duration)>,
}

impl Children<'_> {
    fn start_all(&mut self) -> anyhow::Result<()> {
        for spec in &self.cluster.specs {
            self.cluster.identify(spec).with_context(|| format!("identity of {}", spec.name))?;
            let child =
                process::start(&self.cluster.data, spec, true).with_context(|| format!("starting {}", spec.name))?;
            self.running.insert(spec.name.clone(), child);
        }
        Ok(())
    }

    /// Starts again what has died.
    fn tend(&mut self, ui: &mut Ui) {
        for spec in &self.cluster.specs {
            let ended = match self.running.get_mut(&spec.name) {
                Some(child) => child.try_wait().ok().flatten(),
                None => None,
            };
            if let Some(status) = ended {
                let pause = self
                    .again
                    .get(&spec.name)
                    .map_or(Duration::from_millis(200), |(_, p)| (*p * 2).min(Duration::from_secs(10)));
                ui.note(format!(
                    "{} has ended ({status}), starting it again in {:.1} s",
                    spec.name,
                    pause.as_secs_f64()
                ));
                self.running.remove(&spec.name);
                self.again.insert(spec.name.clone(), (Instant::now() + pause, pause));
            }
            let due = self.again.get(&spec.name).is_some_and(|(at, _)| *at <= Instant::now());
            if due && !self.running.contains_key(&spec.name) {
                match process::start(&self.cluster.data, spec, true) {
                    Ok(child) => {
                        self.running.insert(spec.name.clone(), child);
                    }
                    Err(error) => ui.note(format!("{} does not start: {error}", spec.name)),
                }
            }
        }
    }

    /// The agent first: it stops its tasks.
    fn stop_all(&mut self) {
        let deadline = Instant::now() + GRACE;
        let mut ending: Vec<(bool, process::Noted)> = Vec::new();
        for spec in &self.cluster.specs {
            if let Some(child) = self.running.get(&spec.name)
                && let Some(noted) = process::Noted::of(child.id())
            {
                ending.push((spec.role == Role::Agent, noted));
            }
        }
        for agents in [true, false] {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
            let grace = if agents { left.mul_f64(0.7) } else { left };
            std::thread::scope(|scope| {
                for (_, noted) in ending.iter().filter(|(is_agent, _)| *is_agent == agents) {
                    scope.spawn(move || noted.end(grace));
                }
            });
        }
        for child in self.running.values_mut() {
            let _ = child.wait();
        }
        sweep::sweep(self.cluster);
    }
}

fn welcome(cluster: &Cluster, kept: bool, ui: &mut Ui) {
    let address = cluster.address();
    let data = cluster.data.display();
    let fate = if kept { "kept" } else { "removed at the end" };
    ui.line(format!("Steppe is running: {address}   (API description: {address}/docs)"));
    ui.line(format!("Data and logs: {data} ({fate})"));
    ui.line("Try, in another terminal:");
    if cluster.ports.http != 4646 {
        ui.line(format!("  export NOMAD_ADDR={address}"));
    }
    ui.line("  steppe job init                       # writes example.nomad.hcl");
    ui.line("  steppe job run example.nomad.hcl");
    ui.line("  steppe alloc logs -f -job example");
    ui.line("  steppe status");
    ui.line("Ctrl-C stops everything.");
}
