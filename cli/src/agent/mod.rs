//! `steppe agent`: one machine, as its configuration says; `steppe dev` is `steppe agent -dev`.
//!
//! ```text
//!   files, flags ─ load ─► Config ─ address, plan ─► processes ─ trust ─► certificates
//!        ▲ SIGHUP                                        │
//!        └── what AT_ONCE lists ─────────────────────────┴─► Children: kept running until SIGINT or SIGTERM
//! ```
//!
//! * One machine has one data directory, which is locked while it runs.
//! * Children end with this process, whatever ends it; task supervisors do not, and their tasks run on. With
//!   `-dev` tasks are stopped at the end, and a data directory that nobody named is removed.
//! * What cannot work is refused before anything is started, with one sentence: a port in use, a data
//!   directory in use, a certificate that does not fit.

pub mod address;
pub mod described;
pub mod flags;
pub mod flags_passed_over;
pub mod host;
pub mod leave;
pub mod load;
pub mod log;
pub mod plan;
pub mod trust;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use config::{Config, Loaded};
use kit::process::machine_log::point;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use self::address::Places;
use self::log::Log;
use self::plan::{Machine, level_file, log_filter};
use crate::env::Env;
use crate::flags::{Parsed, parse};
use crate::local::children::Children;
use crate::local::plan::Spec;
use crate::local::ready::{self, Waiting};
use crate::local::{report, sweep};
use crate::ui::Ui;

const LOOK: Duration = Duration::from_millis(100);
/// All must be over this long after an interrupt.
const GRACE: Duration = Duration::from_secs(4);
const LOCK: &str = "agent.lock";
/// Keys, and beginnings of keys, that take effect when the files are read again. Files of certificates are read again,
/// too, under the names they have.
const AT_ONCE: [&str; 11] = [
    "log_level",
    "log_file",
    "log_rotate_",
    "enable_syslog",
    "syslog_facility",
    "leave_on_",
    "client.drain_on_shutdown",
    "client.meta",
    "limits.",
    "telemetry.",
    "disable_",
];

/// `steppe agent`.
pub fn agent(words: &[String], _: &Env, ui: &mut Ui) -> u8 {
    let result = run(words, false, ui);
    report(ui, result)
}

/// `steppe dev`.
pub fn dev(words: &[String], _: &Env, ui: &mut Ui) -> u8 {
    let result = run(words, true, ui);
    report(ui, result)
}

fn run(words: &[String], dev: bool, ui: &mut Ui) -> anyhow::Result<u8> {
    let typed = parse(&[flags::FLAGS, flags_passed_over::FLAGS], words)?;
    if let Some(stray) = typed.args.first() {
        bail!("`{stray}` means nothing here; files are given with -config");
    }
    let dev = dev || typed.is("dev") || flags_passed_over::dev(&typed);
    let loaded = match load(&typed, dev) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors {
                ui.error(&format!("Error: {error}"));
            }
            return Ok(1);
        }
    };
    for warning in flags_passed_over::warnings(&typed).chain(loaded.warnings.iter().cloned()) {
        ui.warn(&format!("Warning: {warning}"));
    }
    let problems = host::problems(&loaded.config, dev);
    if !problems.is_empty() {
        for problem in problems {
            ui.error(&format!("Error: {problem}"));
        }
        return Ok(1);
    }
    for warning in host::warnings(&loaded.config) {
        ui.warn(&format!("Warning: {warning}"));
    }
    let (mut machine, kept) = machine(loaded.config, dev)?;
    let lock = lock(&machine.data)?;
    let done = serve(&mut machine, kept, &typed, ui);
    drop(lock);
    if !kept {
        fs::remove_dir_all(&machine.data).with_context(|| format!("removing {}", machine.data.display()))?;
    }
    done.map(|()| 0)
}

fn load(typed: &Parsed, dev: bool) -> Result<Loaded, Vec<String>> {
    let problems = flags::problems(typed);
    if !problems.is_empty() {
        return Err(problems);
    }
    let sources = load::sources(typed.list("config")).map_err(|error| vec![format!("{error:#}")])?;
    let mut over = flags::over(typed);
    if let Some((_, config::syntax::Value::Text(dir))) = over.iter_mut().find(|(key, _)| key == "data_dir") {
        // Where it was typed, a relative path means something.
        *dir = std::path::absolute(&*dir).unwrap_or_else(|_| PathBuf::from(&*dir)).display().to_string();
    }
    config::load(&sources, &over, dev).and_then(load::drivers_fit)
}

/// The machine, and whether its data is kept at the end.
fn machine(mut config: Config, dev: bool) -> anyhow::Result<(Machine, bool)> {
    let kept = !dev || config.data_dir.is_some();
    let data = match &config.data_dir {
        Some(dir) => PathBuf::from(dir),
        None => std::env::temp_dir().join(format!("steppe-dev-{}", client::state::new_uuid())),
    };
    if dev {
        // What nobody named only needs to be free, so that several run side by side.
        let default = Config::default().ports;
        if config.ports.rpc == default.rpc {
            config.ports.rpc = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        }
        if config.ports.serf == default.serf {
            config.ports.serf = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        }
    }
    let places = Places::of(&config, dev, &driver::fingerprint::interfaces())?;
    let name = match &config.name {
        Some(name) => name.clone(),
        None => hostname()?,
    };
    fs::create_dir_all(&data).with_context(|| format!("creating {}", data.display()))?;
    let data = data.canonicalize()?;
    Ok((Machine { config, places, name, data, dev }, kept))
}

/// The host's name, as far as it may stand in a certificate.
fn hostname() -> anyhow::Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?;
    let name = name.trim().trim_matches('-');
    ensure!(client::tls::is_name(name), "the host's name `{name}` cannot be used: give the machine one with `name`");
    Ok(name.to_owned())
}

/// One agent to a data directory.
fn lock(data: &Path) -> anyhow::Result<File> {
    let path = data.join(LOCK);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        bail!("another agent (process {}) is running on {}", holder.trim(), data.display());
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// A port in use is better found now than in the log of a process.
fn check_ports(machine: &Machine) -> anyhow::Result<()> {
    let (config, places) = (&machine.config, &machine.places);
    let tcp = |key: &str, addr: SocketAddr| TcpListener::bind(addr).map(drop).with_context(|| taken(key, addr));
    if config.server.enabled || config.client.enabled {
        places.https().try_for_each(|addr| tcp("ports.http", addr))?;
    }
    if config.server.enabled {
        tcp("ports.rpc", places.rpc)?;
        UdpSocket::bind(places.serf).map(drop).with_context(|| taken("ports.serf", places.serf))?;
    }
    Ok(())
}

fn taken(key: &str, addr: SocketAddr) -> String {
    format!("{addr} cannot be listened on ({key}): is another agent running? Name another port or address")
}

struct Wishes {
    interrupt: Signals,
    terminate: Signals,
    hangup: Signals,
    child: Signals,
}

/// What somebody wants of a running machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Interrupt,
    Terminate,
    Reload,
}

impl Wishes {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next wish, if there is one before long; none, too, once a child has ended.
    async fn next(&mut self, within: Duration) -> Option<Wish> {
        tokio::select! {
            _ = self.interrupt.recv() => Some(Wish::Interrupt),
            _ = self.terminate.recv() => Some(Wish::Terminate),
            _ = self.hangup.recv() => Some(Wish::Reload),
            _ = self.child.recv() => None,
            () = tokio::time::sleep(within) => None,
        }
    }
}

fn serve(machine: &mut Machine, kept: bool, typed: &Parsed, ui: &mut Ui) -> anyhow::Result<()> {
    let log = Arc::new(Log::open(&machine.config)?);
    check_ports(machine)?;
    if let Err(error) = kit::https::Https::load(&machine.https_settings()) {
        return Err(anyhow::Error::new(error).context("tls: the certificate of the public API cannot be used"));
    }
    if let Err(error) = kit::vouched::Vouching::load(&machine.vouching_settings(), &machine.config.region) {
        return Err(anyhow::Error::new(error).context("tls: the certificate for rpc cannot be used"));
    }
    if !machine.dev {
        let path = machine.own_log();
        let shared = log.share(path.clone()).and_then(|()| point(&path, log.file().as_deref()));
        shared.with_context(|| format!("writing {}", path.display()))?;
    }
    let specs = machine.processes();
    let hear = (!machine.dev).then(|| {
        let log = Arc::clone(&log);
        Arc::new(move |name: &str, line: &str| log.line(name, line)) as crate::local::children::Hear
    });
    // On this thread, which lives as long as the process: children die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    trust::prepare(machine, &specs, &runtime, &log)?;
    trust::come_back(machine, &specs, &log)?;
    described::write(machine)?;
    for spec in &specs {
        tell(spec)?;
    }
    let mut wishes = {
        let _inside = runtime.enter();
        Wishes::listen()?
    };
    let mut children = Children::new(specs, hear);
    let worked = children.start_all().and_then(|()| {
        if machine.dev {
            let ended = wait(machine, &children.specs, &runtime, &mut wishes, ui)?;
            if ended {
                return Ok(Wish::Interrupt);
            }
            welcome(machine, kept, ui);
        } else {
            log.info(&format!("machine {} is starting, public API at {}", machine.name, machine.api()));
        }
        keep(machine, &mut children, typed, &log, |within| runtime.block_on(wishes.next(within)), ui)
    });
    if machine.dev {
        ui.note("stopping");
    } else {
        log.info("stopping");
    }
    if worked.as_ref().is_ok_and(|wish| leaves(machine, *wish)) {
        leave_first(machine, &mut children, &runtime, &mut wishes, &log);
    }
    children.stop_all(GRACE);
    if machine.dev {
        sweep::sweep(&children.specs);
    }
    worked.map(drop)
}

/// Whether a signal means that the machine leaves, rather than ends for a while.
fn leaves(machine: &Machine, wish: Wish) -> bool {
    let config = &machine.config;
    let said = match wish {
        Wish::Interrupt => config.leave_on_interrupt,
        Wish::Terminate => config.leave_on_terminate,
        Wish::Reload => false,
    };
    said && leave::has_work(machine)
}

/// Leaves while the processes are kept running; another signal puts an end to it.
fn leave_first(
    machine: &Machine,
    children: &mut Children,
    runtime: &tokio::runtime::Runtime,
    wishes: &mut Wishes,
    log: &Log,
) {
    let mut leaving = std::pin::pin!(leave::leave(machine, log));
    loop {
        let over = runtime.block_on(async {
            tokio::select! {
                () = &mut leaving => true,
                wish = wishes.next(LOOK) => matches!(wish, Some(Wish::Interrupt | Wish::Terminate)),
            }
        });
        if over {
            return;
        }
        children.tend(&mut |text| log.warn(&text));
    }
}

/// How a machine asks its own public API.
fn own_api(machine: &Machine) -> client::public::Settings {
    let tls = &machine.config.tls;
    let file = |path: &str| tls.http.then(|| PathBuf::from(path));
    client::public::Settings {
        address: machine.api(),
        tls_skip_verify: tls.http,
        client_cert: file(&tls.cert_file),
        client_key: file(&tls.key_file),
        ..client::public::Settings::default()
    }
}

/// Waits until the cluster can work; `true` when somebody wanted the end before.
fn wait(
    machine: &Machine,
    specs: &[Spec],
    runtime: &tokio::runtime::Runtime,
    wishes: &mut Wishes,
    ui: &mut Ui,
) -> anyhow::Result<bool> {
    let waiting = Waiting { address: machine.api(), specs, settings: own_api(machine) };
    let wishes = std::cell::RefCell::new((wishes, false));
    let gave_up = || {
        let (wishes, ended) = &mut *wishes.borrow_mut();
        let wish = runtime.block_on(wishes.next(Duration::from_millis(1)));
        *ended |= matches!(wish, Some(Wish::Interrupt | Wish::Terminate));
        *ended
    };
    let worked = ready::wait(&waiting, Duration::from_secs(30), ui, gave_up, |spec, _| Err(ready::has_ended(spec)));
    if wishes.borrow().1 { Ok(true) } else { worked.map(|()| false) }
}

/// Keeps the children running until somebody wants the end.
fn keep(
    machine: &mut Machine,
    children: &mut Children,
    typed: &Parsed,
    log: &Log,
    mut next: impl FnMut(Duration) -> Option<Wish>,
    ui: &mut Ui,
) -> anyhow::Result<Wish> {
    let began = Instant::now();
    let mut answered = machine.dev;
    loop {
        match next(if answered { children.idle() } else { LOOK }) {
            Some(wish @ (Wish::Interrupt | Wish::Terminate)) => return Ok(wish),
            Some(Wish::Reload) => reload(machine, children, typed, log),
            None => {}
        }
        children.tend(&mut |text| if machine.dev { ui.note(text) } else { log.warn(&text) });
        if !answered && std::net::TcpStream::connect(Places::own(machine.places.http)).is_ok() {
            answered = true;
            let seconds = began.elapsed().as_secs_f64();
            log.info(&format!("public API listens at {}, after {seconds:.1} s", machine.api()));
        }
    }
}

/// Takes up what may change while the machine runs.
fn reload(machine: &mut Machine, children: &mut Children, typed: &Parsed, log: &Log) {
    let loaded = match load(typed, machine.dev) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors {
                log.warn(&format!("configuration is not read again: {error}"));
            }
            return;
        }
    };
    let waiting = waiting(machine, loaded.config.clone());
    if let Err(error) = log.reopen(&loaded.config) {
        log.warn(&format!("log lines go where they went before: {error:#}"));
    }
    if !machine.dev
        && let Err(error) = point(&machine.own_log(), log.file().as_deref())
    {
        log.warn(&format!("the log file cannot be exported: {error}"));
    }
    take_up(&mut machine.config, &loaded.config);
    if let Err(error) = described::write(machine) {
        log.warn(&format!("what /v1/agent/self shows is as it was: {error:#}"));
    }
    let filter = log_filter(&loaded.config.log_level);
    let now = machine.processes();
    for spec in &mut children.specs {
        if let Some(now) = now.iter().find(|now| now.name == spec.name) {
            spec.words.clone_from(&now.words);
        }
        if let Err(error) = tell(spec) {
            log.warn(&format!("{} goes on as it was told before: {error:#}", spec.name));
        }
        spec.log_level.clone_from(&filter);
        if let Err(error) = fs::write(level_file(&spec.home), &filter) {
            log.warn(&format!("the log level of {} cannot be changed: {error}", spec.name));
        }
    }
    children.signal(Signal::HUP);
    for warning in &loaded.warnings {
        log.warn(warning);
    }
    log.info(&format!("configuration was read again, log level is {filter}"));
    if !waiting.is_empty() {
        log.warn(&format!("changed, and taking effect at the next start only: {}", waiting.join(", ")));
    }
}

/// Leaves the words of a process where it reads them again.
fn tell(spec: &Spec) -> anyhow::Result<()> {
    let path = spec.home.join(kit::again::WORDS);
    let about = || format!("writing {}", path.display());
    fs::create_dir_all(&spec.home).with_context(about)?;
    let text = serde_json::to_vec(&spec.words).with_context(about)?;
    files::replace(&path, &text, 0o600).with_context(about)
}

/// The settings that may change while the machine runs: what this process itself goes by, and what its processes
/// read again. All others take effect at the next start.
fn take_up(config: &mut Config, now: &Config) {
    config.log_level.clone_from(&now.log_level);
    config.log_file.clone_from(&now.log_file);
    config.log_rotate_duration = now.log_rotate_duration;
    config.log_rotate_bytes = now.log_rotate_bytes;
    config.log_rotate_max_files = now.log_rotate_max_files;
    config.enable_syslog = now.enable_syslog;
    config.syslog_facility.clone_from(&now.syslog_facility);
    config.leave_on_interrupt = now.leave_on_interrupt;
    config.leave_on_terminate = now.leave_on_terminate;
    config.client.drain_on_shutdown.clone_from(&now.client.drain_on_shutdown);
    config.client.meta.clone_from(&now.client.meta);
    config.limits = now.limits.clone();
    config.telemetry = now.telemetry.clone();
    config.disable_update_check = now.disable_update_check;
    config.disable_anonymous_signature = now.disable_anonymous_signature;
}

/// Keys that are not as they were when the machine was started, and that it does not take up while it runs.
fn waiting(machine: &Machine, mut now: Config) -> Vec<String> {
    if machine.dev {
        // Nobody named them.
        now.ports = machine.config.ports.clone();
    }
    let mut keys = config::changed(&machine.config, &now);
    keys.retain(|key| !AT_ONCE.iter().any(|known| key.starts_with(known)));
    keys
}

fn welcome(machine: &Machine, kept: bool, ui: &mut Ui) {
    let address = machine.api();
    let data = machine.data.display();
    let fate = if kept { "kept" } else { "removed at the end" };
    ui.line(format!("Steppe is running: {address}   (API description: {address}/docs)"));
    ui.line(format!("Data and logs: {data} ({fate})"));
    ui.line("Try, in another terminal:");
    if address != "http://127.0.0.1:4646" {
        ui.line(format!("  export NOMAD_ADDR={address}"));
    }
    ui.line("  steppe job init                       # writes example.nomad.hcl");
    ui.line("  steppe job run example.nomad.hcl");
    ui.line("  steppe alloc logs -f -job example");
    ui.line("  steppe status");
    ui.line("Ctrl-C stops everything.");
}
