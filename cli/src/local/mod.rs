//! A cluster of separate processes on this machine: what `scripts/up` and `scripts/down` call.
//!
//! ```text
//!   up:   lock ─► identities ─► start what does not run ─► wait until it can work; what ends meanwhile is
//!         started too, but for what this `up` has started before: then it fails, with the end of the log
//!   down: lock ─► agents (they stop their tasks) ─► the others ─► state servers last
//! ```
//!
//! Running it again changes nothing: what runs is recognized and left alone.

pub mod children;
pub mod cluster;
pub mod plan;
pub mod process;
pub mod ready;
pub mod sweep;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use model::Role;
use rustix::fs::{FlockOperation, flock};

use self::cluster::Cluster;
use self::plan::{Ports, Size, Spec};
use self::process::Tie;
use crate::env::{self, Env};
use crate::flags::{self, Flag, switch, text};
use crate::ui::Ui;

const DATA: Flag = text("data-dir", "DIR", "Directory of the cluster; .steppe unless given. [$STEPPE_DATA]");
const HTTP_PORT: Flag =
    text("http-port", "PORT", "Port of the public API; the next ones are taken too. [$STEPPE_HTTP_PORT]");

pub const UP_FLAGS: &[Flag] = &[DATA, HTTP_PORT];
pub const DOWN_FLAGS: &[Flag] = &[DATA, switch("purge", "Remove the cluster's data, too.")];
pub const STATUS_FLAGS: &[Flag] = &[DATA];

/// How long an agent has to stop its tasks.
const GRACE_AGENT: Duration = Duration::from_secs(40);
const GRACE: Duration = Duration::from_secs(10);

/// Prints what went wrong, once.
pub fn report(ui: &mut Ui, result: anyhow::Result<u8>) -> u8 {
    match result {
        Ok(code) => code,
        Err(error) => {
            ui.error(&format!("Error: {error:#}"));
            1
        }
    }
}

/// `steppe local up`.
pub fn up(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let result = start(words, env, ui);
    report(ui, result)
}

/// `steppe local down`.
pub fn down(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let result = stop(words, env, ui);
    report(ui, result)
}

/// `steppe local status`.
pub fn status(words: &[String], env: &Env, ui: &mut Ui) -> u8 {
    let result = show(words, env, ui);
    report(ui, result)
}

struct Wanted {
    data: PathBuf,
    port: Option<u16>,
    purge: bool,
}

fn wanted(words: &[String], env: &Env, tables: &'static [Flag]) -> anyhow::Result<Wanted> {
    let typed = flags::parse(&[tables], words)?;
    let data = typed.some("data-dir").or_else(|| env.get(env::LOCAL_DATA)).unwrap_or(".steppe");
    let has_port = tables.iter().any(|f| f.name == "http-port");
    let port = has_port.then(|| typed.some("http-port").or_else(|| env.get(env::LOCAL_HTTP_PORT))).flatten();
    let port = port.map(|p| p.parse().with_context(|| format!("`{p}` is no port"))).transpose()?;
    let purge = tables.iter().any(|f| f.name == "purge") && typed.is("purge");
    Ok(Wanted { data: PathBuf::from(data), port, purge })
}

/// Keeps a second `up` or `down` of the same cluster out.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.with_extension("lock");
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another command is working on {}", data.display()))?;
    Ok(file)
}

fn start(words: &[String], env: &Env, ui: &mut Ui) -> anyhow::Result<u8> {
    let wanted = wanted(words, env, UP_FLAGS)?;
    let ports = wanted.port.map(Ports::from_http).or_else(|| Cluster::ports_of(&wanted.data));
    let _lock = lock(&wanted.data)?;
    let cluster = Cluster::open(&wanted.data, ports.unwrap_or(Ports::from_http(4646)), Size::CLUSTER)?;
    let missing: Vec<&Spec> = cluster.specs.iter().filter(|s| process::running(s).is_none()).collect();
    if missing.is_empty() {
        ui.note(format!("all {} processes run already", cluster.specs.len()));
    }
    let mut begun = BTreeSet::new();
    let mut begin = |spec: &Spec, ui: &mut Ui| {
        if !begun.insert(spec.name.clone()) {
            return Err(ready::has_ended(spec));
        }
        cluster.identify(spec).with_context(|| format!("identity of {}", spec.name))?;
        process::start(spec, Tie::Loose).with_context(|| format!("starting {}", spec.name))?;
        ui.note(format!("started {}", spec.name));
        Ok(())
    };
    for spec in missing {
        begin(spec, ui)?;
    }
    // One that ran a moment ago may have been ending.
    ready::wait(&cluster.waiting(), Duration::from_secs(60), ui, || false, begin)?;
    Ok(0)
}

fn stop(words: &[String], env: &Env, ui: &mut Ui) -> anyhow::Result<u8> {
    let wanted = wanted(words, env, DOWN_FLAGS)?;
    let Some(ports) = Cluster::ports_of(&wanted.data) else {
        ui.note(format!("there is no cluster in {}", wanted.data.display()));
        return Ok(0);
    };
    let held = lock(&wanted.data)?;
    let cluster = Cluster::open(&wanted.data, ports, Size::CLUSTER)?;
    // Agents first, while there is somebody to tell; the truth last.
    for group in [
        &[Role::Agent][..],
        &[Role::Gateway, Role::Scheduler, Role::Controller, Role::Applier, Role::Broker],
        &[Role::State],
    ] {
        let members = cluster.specs.iter().filter(|s| group.contains(&s.role));
        let ending: Vec<_> = members.filter_map(|s| Some((s, process::running(s)?))).collect();
        std::thread::scope(|scope| {
            for (spec, noted) in &ending {
                let grace = if spec.role == Role::Agent { GRACE_AGENT } else { GRACE };
                scope.spawn(move || noted.end(grace));
            }
        });
        for (spec, _) in ending {
            ui.note(format!("stopped {}", spec.name));
        }
        if group == [Role::Agent] {
            let left = sweep::sweep(&cluster.specs);
            if left > 0 {
                ui.note(format!("ended what an agent had left: {left} processes or containers"));
            }
        }
    }
    if wanted.purge {
        fs::remove_dir_all(&cluster.data).with_context(|| format!("removing {}", cluster.data.display()))?;
        fs::remove_file(wanted.data.with_extension("lock"))?;
        ui.note(format!("removed {}", cluster.data.display()));
    }
    drop(held);
    Ok(0)
}

fn show(words: &[String], env: &Env, ui: &mut Ui) -> anyhow::Result<u8> {
    let wanted = wanted(words, env, STATUS_FLAGS)?;
    let Some(ports) = Cluster::ports_of(&wanted.data) else {
        ui.note(format!("there is no cluster in {}", wanted.data.display()));
        return Ok(1);
    };
    let cluster = Cluster::open(&wanted.data, ports, Size::CLUSTER)?;
    let mut all_run = true;
    for spec in &cluster.specs {
        let line = match process::running(spec) {
            Some(noted) => format!("{:<14} running  {}", spec.name, noted.pid),
            None => {
                all_run = false;
                format!("{:<14} stopped", spec.name)
            }
        };
        ui.line(line);
    }
    Ok(u8::from(!all_run))
}
