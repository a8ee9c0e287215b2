//! What every service process does in the same way: settings, runtime, logging, signals, readiness.
//!
//! ```text
//!   Settings ──► process::start ──► telemetry, panic hook, parent-death signal
//!                runtime()       ──► small tokio runtime
//!                Shutdown        ◄── SIGTERM, SIGINT (the second ends the process at once)
//!                ready::Readiness ─► /health/ready        ops::router ─► /health/*, /metrics, /openapi.json
//! ```

mod host;
pub mod machine_log;
pub mod ops;
pub mod ready;
pub mod tap;
pub mod telemetry;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// One thread runs tasks for so many processors: a service is mostly waiting, ten of them share a small machine, and
/// an idle process with one thread wakes once for what wakes two threads of another.
const PROCESSORS_PER_WORKER: usize = 4;
const WORKERS_MAX: usize = 8;
const BLOCKING_THREADS_MAX: usize = 16;
const STACK_BYTES: usize = 1 << 20;

/// Settings common to all services. What was typed; [`client::tls::Identity`] says who we are.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Region of the cluster.
    #[arg(long, default_value = "global")]
    pub region: String,
    /// Datacenter of this process.
    #[arg(long, default_value = "dc1")]
    pub datacenter: String,
    /// Name of this process, unique in the region; the certificate's unless given.
    #[arg(long)]
    pub name: Option<String>,
    /// Add the host's name to it: for replicas in containers, which share a certificate.
    #[arg(long)]
    pub name_by_host: bool,
    /// Directory for everything this process keeps.
    #[arg(long, default_value = "data")]
    pub data_dir: PathBuf,
    /// Address of the internal listener (mutual TLS).
    #[arg(long, default_value = "127.0.0.1:0")]
    pub bind: SocketAddr,
    /// IP address that others reach this process at; found out unless given.
    #[arg(long)]
    pub advertise: Option<IpAddr>,
    /// Directory with ca.pem, cert.pem, key.pem and gossip.key.
    #[arg(long, default_value = "identity")]
    pub identity_dir: PathBuf,
    /// Address for gossip packets (UDP).
    #[arg(long, default_value = "127.0.0.1:0")]
    pub gossip_bind: SocketAddr,
    /// Gossip addresses (host:port) of any members to join by. May be repeated.
    #[arg(long = "join", value_delimiter = ',')]
    pub join: Vec<String>,
    /// Log filter, such as `info` or `info,kit=debug`.
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// File with the log filter, read again on SIGHUP.
    #[arg(long)]
    pub log_level_file: Option<PathBuf>,
    /// Log lines as JSON.
    #[arg(long)]
    pub log_json: bool,
    /// File that whoever keeps this process writes its own log lines to.
    #[arg(long)]
    pub machine_log: Option<PathBuf>,
    /// End when the process that started this one ends; its process id.
    #[arg(long, value_name = "PID")]
    pub die_with_parent: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "global".to_owned(),
            datacenter: "dc1".to_owned(),
            name: None,
            name_by_host: false,
            data_dir: "data".into(),
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            identity_dir: "identity".into(),
            gossip_bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            join: Vec::new(),
            log_level: "info".to_owned(),
            log_level_file: None,
            log_json: false,
            machine_log: None,
            die_with_parent: None,
        }
    }
}

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("log filter `{0}` is not usable")]
    LogFilter(String),
    #[error("cannot ask to end with the parent process")]
    ParentDeath(#[source] io::Error),
    #[error("the parent process {0} is gone already")]
    Orphan(u32),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

/// The process that keeps this one, if one does.
static KEEPER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();

/// Tells the process that keeps the machine's processes to read its configuration again.
///
/// # Errors
/// None keeps this one, or it cannot be told.
pub fn reload_machine() -> io::Result<()> {
    use rustix::process::{Signal, getppid, kill_process};
    let parent = getppid().filter(|pid| KEEPER.get() == Some(&pid.as_raw_nonzero().get().unsigned_abs()));
    let parent = parent.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    kill_process(parent, Signal::HUP).map_err(io::Error::from)
}

/// First thing in a service's process: parent-death signal, logging, panic hook.
pub fn start(settings: &Settings) -> Result<(), StartError> {
    if let Some(parent) = settings.die_with_parent {
        die_with_parent(parent)?;
        let _ = KEEPER.set(parent);
    }
    if let Some(path) = &settings.machine_log {
        machine_log::set(path.clone());
    }
    telemetry::init(&settings.log_level, settings.log_json)?;
    telemetry::log_panics();
    Ok(())
}

/// From here on SIGHUP makes the process read its log filter again, instead of ending it.
///
/// # Errors
/// The signal handler cannot be installed.
pub fn reload_on_hangup(settings: &Settings) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    let file = settings.log_level_file.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let Some(file) = &file else { continue };
            let read = std::fs::read_to_string(file).map_err(|e| e.to_string());
            match read.and_then(|filter| telemetry::set_filter(filter.trim()).map_err(|e| e.to_string())) {
                Ok(()) => tracing::info!("log filter was read again"),
                Err(error) => tracing::warn!(error, "log filter cannot be read again"),
            }
        }
    });
    Ok(())
}

/// Asks the kernel to send SIGTERM when the thread that spawned us ends, which for a parent that
/// spawns from a long-lived thread means when it ends.
fn die_with_parent(parent: u32) -> Result<(), StartError> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|e| StartError::ParentDeath(e.into()))?;
    // It may have ended before we asked.
    let now = getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == parent { Ok(()) } else { Err(StartError::Orphan(parent)) }
}

/// A runtime small enough for a machine that runs ten of them, and as large as a machine of its own allows.
pub fn runtime(name: &str) -> Result<tokio::runtime::Runtime, StartError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    client::calm::begin();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / PROCESSORS_PER_WORKER).clamp(1, WORKERS_MAX))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(STACK_BYTES)
        // The kernel keeps 15 bytes of it.
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)
}

/// The wish that everything come to an end. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// One that only [`Shutdown::request`] triggers.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that SIGTERM and SIGINT trigger too; a second signal ends the process with status 130.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::new();
        let wish = shutdown.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            let signal = next().await;
            tracing::info!(signal, "shutting down");
            wish.request();
            let signal = next().await;
            tracing::warn!(signal, "second signal, ending at once");
            std::process::exit(130);
        });
        Ok(shutdown)
    }

    /// Wishes the end. May be called again.
    pub fn request(&self) {
        self.0.cancel();
    }

    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the wish.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }

    /// Runs `work` until it is done or the end is wished.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(work).await
    }

    /// The wish as a token, for those below this crate.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// A part that may be ended alone and ends with the whole.
    pub fn part(&self) -> Self {
        Self(self.0.child_token())
    }
}

/// What the others call this process: the name that was given, or else its certificate's; with the host's
/// behind it where replicas share both.
///
/// # Errors
/// The host's name cannot be read.
pub fn name_of(settings: &Settings, certificate: &str) -> io::Result<String> {
    let name = settings.name.as_deref().unwrap_or(certificate);
    if !settings.name_by_host {
        return Ok(name.to_owned());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(format!("{name}-{}", host.trim()))
}

/// The address others reach `bound` at: the bound one, unless it is unspecified (`0.0.0.0`); then
/// the given one, or the one this machine would send from to `towards`, or loopback.
pub fn advertised(bound: SocketAddr, given: Option<IpAddr>, towards: Option<SocketAddr>) -> SocketAddr {
    if let Some(ip) = given {
        return SocketAddr::new(ip, bound.port());
    }
    if !bound.ip().is_unspecified() {
        return bound;
    }
    // Connecting a UDP socket sends nothing; it only picks a route.
    let towards = towards.unwrap_or_else(|| SocketAddr::from(([192, 0, 2, 1], 9)));
    let source = std::net::UdpSocket::bind(SocketAddr::new(bound.ip(), 0))
        .and_then(|socket| socket.connect(towards).and_then(|()| socket.local_addr()));
    match source {
        Ok(addr) if !addr.ip().is_unspecified() => SocketAddr::new(addr.ip(), bound.port()),
        _ => SocketAddr::from(([127, 0, 0, 1], bound.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_never_advertised() {
        let any = SocketAddr::from(([0, 0, 0, 0], 80));
        let given = IpAddr::from([10, 1, 2, 3]);
        assert_eq!(advertised(any, Some(given), None), SocketAddr::new(given, 80));
        assert!(!advertised(any, None, None).ip().is_unspecified());
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        assert_eq!(advertised(any, None, Some(to)), SocketAddr::from(([127, 0, 0, 1], 80)));
        let fixed = SocketAddr::from(([127, 0, 0, 2], 80));
        assert_eq!(advertised(fixed, None, None), fixed);
    }

    #[test]
    fn replicas_that_share_a_certificate_have_names_of_their_own() {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let name = |name: Option<&str>, name_by_host| {
            name_of(&Settings { name: name.map(str::to_owned), name_by_host, ..Settings::default() }, "broker").unwrap()
        };
        assert_eq!((name(None, false), name(Some("b"), false)), ("broker".to_owned(), "b".to_owned()));
        assert_eq!(name(None, true), format!("broker-{}", host.trim()));
    }

    #[test]
    fn settings_that_nobody_typed_are_the_defaults() {
        use clap::FromArgMatches;
        let parse = |args: &[&str]| {
            let matches = Settings::augment_args(clap::Command::new("serve")).try_get_matches_from(args).unwrap();
            Settings::from_arg_matches(&matches).unwrap()
        };
        assert_eq!(parse(&["serve"]), Settings::default());
        let typed = parse(&["serve", "--join", "a:1,b:2", "--join", "c:3", "--bind", "0.0.0.0:80", "--log-json"]);
        assert_eq!(typed.join, ["a:1", "b:2", "c:3"]);
        assert_eq!((typed.bind.port(), typed.log_json), (80, true));
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
        assert!(serde_json::from_str::<Settings>("{\"regoin\":\"x\"}").is_err());
    }

    #[test]
    fn a_parent_that_is_not_ours_is_refused() {
        assert!(matches!(die_with_parent(u32::MAX), Err(StartError::Orphan(_))));
        die_with_parent(std::os::unix::process::parent_id()).unwrap();
        rustix::process::set_parent_process_death_signal(None).unwrap();
    }

    #[tokio::test]
    async fn a_part_ends_with_the_whole_and_alone() {
        let whole = Shutdown::new();
        let (a, b) = (whole.part(), whole.part());
        a.request();
        assert!(a.is_requested() && !b.is_requested() && !whole.is_requested());
        whole.request();
        b.requested().await;
        assert_eq!(b.or(std::future::pending::<()>()).await, None);
    }
}
