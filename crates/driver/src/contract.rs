//! What a task driver is: the one contract that `raw_exec`, `mock` and every later driver meet.
//!
//! A driver starts tasks, tells when they end, and can find them again after the agent was restarted. It
//! decides nothing: whether to restart, how long to wait, what to report is `lifecycle`'s.
//!
//! Rules: a task id is new on every start; starting a known id is an error; `recover` of a task already
//! tracked does nothing; any number may `wait`; an unknown id is [`DriverError::NotFound`]; after `destroy`
//! the driver knows nothing of the task any more.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use model::AllocId;
use model::node::DriverInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cgroup::Limits;
use crate::devices::DeviceNode;
use crate::host_mount::HostMount;
use crate::taskdir::TaskDirs;

/// A boxed future, so that drivers of all kinds stand in one table.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, DriverError>> + Send + 'a>>;

/// Everything a driver needs to start a task. `config`, `env` and `user` are interpolated already.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    pub task_id: String,
    pub alloc_id: AllocId,
    pub task: String,
    pub config: Map<String, Value>,
    pub env: BTreeMap<String, String>,
    /// Empty: the driver's default.
    pub user: String,
    pub limits: Limits,
    pub dirs: TaskDirs,
    /// `None`: the task's output is not kept.
    pub logs: Option<LogSettings>,
    pub around: Around,
}

/// What stands around a task, for drivers that set up more than a process.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Names by the words they have in labels: `job_id`, `task_group_name`, `node_id`, …
    pub names: BTreeMap<&'static str, String>,
    pub ports: Vec<model::alloc::PortMapping>,
    /// The group's network mode; empty is the host's network.
    pub network_mode: String,
    /// The network that the group shares; the task is in it unless it says otherwise.
    pub namespace: Option<Namespace>,
    /// Names are resolved so.
    pub dns: Option<model::resources::DNSConfig>,
    /// Processor cores that are the task's alone.
    pub cores: Vec<u16>,
    pub node_cpu_mhz: i64,
    /// Files below `/dev` that the task's devices are.
    pub devices: Vec<DeviceNode>,
    /// Volumes of the host that the task mounts; none for a driver that cannot.
    pub mounts: Vec<HostMount>,
    pub notes: Notes,
    /// Nobody wants the start any more: a driver that waits for something gives it up.
    pub cancel: CancellationToken,
}

/// The network that the tasks of an allocation share, as it is wanted.
#[derive(Clone, Debug, Default)]
pub struct GroupNetwork {
    pub alloc_id: AllocId,
    /// `bridge`, or `none`: with each other only.
    pub mode: String,
    /// The node's bridge, and the addresses on it.
    pub bridge: String,
    pub subnet: String,
    /// Empty: one that is made up.
    pub hostname: String,
    pub ports: Vec<model::alloc::PortMapping>,
}

impl GroupNetwork {
    pub fn is_bridge(&self) -> bool {
        self.mode == "bridge"
    }
}

/// A network that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// The container that holds it.
    pub container: String,
    /// Its namespace on this host.
    pub path: PathBuf,
    pub interface: String,
    pub address: String,
    pub gateway: String,
    pub hostname: String,
}

/// Where a driver says how a long start is going: each sentence becomes an event of the task.
///
/// What does not fit in the queue is left out; a driver never waits for a reader.
#[derive(Clone, Debug, Default)]
pub struct Notes(Option<mpsc::Sender<String>>);

impl Notes {
    pub fn new(sender: mpsc::Sender<String>) -> Self {
        Self(Some(sender))
    }

    pub fn say(&self, text: impl Into<String>) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(text.into());
        }
    }
}

/// How much output is kept, per stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub max_files: u32,
    pub max_file_bytes: u64,
}

impl LogSettings {
    /// `None` when the task has its logs disabled.
    pub fn from_model(logs: Option<&model::task::LogConfig>) -> Option<Self> {
        let logs = logs.cloned().unwrap_or_default();
        if logs.disabled == Some(true) || logs.enabled == Some(false) {
            return None;
        }
        let positive =
            |n: Option<i64>, default: u32| n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default);
        let max_file_bytes = u64::from(positive(logs.max_file_size_mb, 10)) << 20;
        Some(Self { max_files: positive(logs.max_files, 10), max_file_bytes })
    }
}

/// What the agent stores to find the task again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handle {
    pub driver: String,
    pub version: u32,
    pub task_id: String,
    /// The driver's own.
    pub state: Value,
}

/// How a task ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitResult {
    /// 128 + signal when a signal ended it.
    pub code: i32,
    pub signal: i32,
    pub oom_killed: bool,
    /// Set when the driver lost sight of the task rather than seeing it end.
    pub error: Option<String>,
}

impl ExitResult {
    pub fn is_success(&self) -> bool {
        self.code == 0 && self.signal == 0 && self.error.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsIsolation {
    None,
    Chroot,
    Image,
}

#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    pub send_signals: bool,
    pub exec: bool,
    pub fs_isolation: FsIsolation,
    /// A task can be shown a directory of the host at another place.
    pub mounts: bool,
}

/// What a task uses now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub rss_bytes: u64,
    pub cache_bytes: u64,
    pub swap_bytes: u64,
    pub max_usage_bytes: u64,
    pub kernel_bytes: u64,
    pub kernel_max_bytes: u64,
    /// Everything that counts against the limit.
    pub usage_bytes: u64,
    /// Totals since the start.
    pub user_cpu: Duration,
    pub system_cpu: Duration,
    pub throttled_periods: u64,
    pub throttled_time: Duration,
    pub pids: Vec<i32>,
    /// The same processes one by one, where the driver sees them.
    pub processes: Vec<ProcessUsage>,
    /// Which of the numbers about memory are measured, in the words of the compatible interface.
    pub measured_memory: &'static [&'static str],
}

/// What one process of a task uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    pub pid: i32,
    pub rss_bytes: u64,
    pub user_cpu: Duration,
    pub system_cpu: Duration,
}

/// A command to run beside a task: as the task's user, with its environment, in its directory, within its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// With a terminal: its output is one stream, and its size can be changed.
    pub tty: bool,
}

/// What goes into a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecInput {
    Stdin(Vec<u8>),
    StdinClosed,
    Resize { rows: u16, columns: u16 },
}

/// What comes out of a session. [`ExecOutput::Exited`] or [`ExecOutput::Failed`] is the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    StdoutClosed,
    StderrClosed,
    Exited(ExitResult),
    /// The driver lost sight of the command; a sentence for whoever watches.
    Failed(String),
}

/// Pieces that wait on either side of a session.
pub const EXEC_QUEUE: usize = 16;
/// Bytes of one piece of output at most.
pub const EXEC_PIECE_BYTES: usize = 4096;

/// A command that runs beside a task.
///
/// Dropping `output` ends the session: the driver kills what it started for it. Dropping `input` closes the
/// command's input. Both channels are bounded ([`EXEC_QUEUE`]): who does not read holds up the command.
#[derive(Debug)]
pub struct ExecSession {
    pub input: mpsc::Sender<ExecInput>,
    pub output: mpsc::Receiver<ExecOutput>,
}

#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("task not found for given id")]
    NotFound,
    #[error("task with id {0:?} already started")]
    AlreadyStarted(String),
    #[error("task is still running")]
    StillRunning,
    /// The task's `config` block is wrong.
    #[error("{0}")]
    Config(String),
    #[error("{message}")]
    Start { message: String, recoverable: bool },
    #[error("failed to stop task: {0}")]
    Stop(String),
    #[error("failed to signal task: {0}")]
    Signal(String),
    #[error("{0} is not supported by this driver")]
    Unsupported(&'static str),
    #[error("failed to exec into task: {0}")]
    Exec(String),
    #[error("failed to read the task's usage: {0}")]
    Stats(String),
    /// The task of a handle is not there any more.
    #[error("failed to recover task: {0}")]
    Lost(String),
}

impl DriverError {
    /// True when trying again may help.
    pub fn is_recoverable(&self) -> bool {
        matches!(self, Self::Start { recoverable: true, .. })
    }
}

/// A task driver.
pub trait Driver: Send + Sync {
    /// The name jobs use.
    fn name(&self) -> &'static str;

    fn capabilities(&self) -> Capabilities;

    /// What the node tells the cluster about this driver. `update_time` is the caller's to set.
    fn fingerprint(&self) -> DriverInfo;

    /// Refuses a `config` block that could never start.
    fn validate(&self, config: &Map<String, Value>) -> Result<(), DriverError>;

    fn start(&self, config: TaskConfig) -> Later<'_, Handle>;

    /// Finds a task of an earlier agent again, running or ended.
    fn recover(&self, handle: Handle) -> Later<'_, ()>;

    /// Waits until the task has ended.
    fn wait<'a>(&'a self, task_id: &'a str) -> Later<'a, ExitResult>;

    /// Sends `signal` (empty: the driver's default), waits up to `timeout`, then kills. Returns when the
    /// task is gone.
    fn kill<'a>(&'a self, task_id: &'a str, signal: &'a str, timeout: Duration) -> Later<'a, ()>;

    fn signal<'a>(&'a self, task_id: &'a str, signal: &'a str) -> Later<'a, ()>;

    /// What the task uses now.
    fn stats<'a>(&'a self, task_id: &'a str) -> Later<'a, Usage>;

    /// Runs a command beside a running task; returns once it has begun.
    fn exec<'a>(&'a self, _task_id: &'a str, _request: ExecRequest) -> Later<'a, ExecSession> {
        Box::pin(async { Err(DriverError::Unsupported("exec")) })
    }

    /// Frees everything and forgets the task. Refused while it runs, unless `force`.
    fn destroy<'a>(&'a self, task_id: &'a str, force: bool) -> Later<'a, ()>;

    /// Wakes when [`Driver::fingerprint`] says something else than before. `None`: nothing wakes by itself.
    fn news(&self) -> Option<tokio::sync::watch::Receiver<u64>> {
        None
    }

    /// Ends what carries this node's mark outside of processes and cgroups and is not kept. Says how much it was.
    fn sweep<'a>(&'a self, _keep: &'a crate::orphans::Keep) -> Later<'a, usize> {
        Box::pin(async { Ok(0) })
    }

    /// The node leaves nothing behind: starts no more, and ends at once what carries the node's mark outside of
    /// processes and cgroups, held or not. Says how much it was.
    fn end_all(&self) -> Later<'_, usize> {
        Box::pin(async { Ok(0) })
    }

    /// Makes the network that an allocation's tasks share, or finds it. May be called again, also by several at once.
    fn network<'a>(&'a self, _wanted: &'a GroupNetwork) -> Later<'a, Namespace> {
        Box::pin(async { Err(DriverError::Unsupported("a network of a group")) })
    }

    /// The opposite. One that is not there is no error.
    fn end_network<'a>(&'a self, _alloc_id: &'a AllocId) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    /// The allocation will start no more tasks: what is held for it as a whole may go.
    fn release<'a>(&'a self, _dirs: &'a crate::taskdir::AllocDirs) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Reads a signal's name, with or without `SIG`, in any letter case.
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.trim().to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    full.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}

/// The attribute map of a detected driver.
pub(crate) fn healthy_info(name: &str) -> DriverInfo {
    DriverInfo {
        attributes: BTreeMap::from([(format!("driver.{name}"), "true".to_owned())]),
        detected: true,
        healthy: true,
        health_description: "Healthy".to_owned(),
        ..DriverInfo::default()
    }
}

/// A suffix that makes the id of one start unlike any other's.
pub fn new_task_id(alloc_id: &AllocId, task: &str) -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library's hasher keys are random per thread and counted up per use.
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let suffix = hasher.finish() & 0xffff_ffff;
    format!("{alloc_id}/{task}/{suffix:08x}")
}

/// The directory of a path that must be absolute, if given.
pub(crate) fn work_dir(given: &str, default: &std::path::Path) -> Result<PathBuf, DriverError> {
    if given.is_empty() {
        return Ok(default.to_path_buf());
    }
    let path = PathBuf::from(given);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(DriverError::Config(format!("work_dir must be absolute: {given:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_name_is_read_with_and_without_its_prefix() {
        assert_eq!(signal_number("SIGUSR1"), Some(10));
        assert_eq!(signal_number("usr1"), Some(10));
        assert_eq!(signal_number("NOPE"), None);
    }

    #[test]
    fn two_starts_never_share_an_id() {
        let alloc = AllocId::from("a");
        let ids: std::collections::BTreeSet<_> = (0..100).map(|_| new_task_id(&alloc, "t")).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.starts_with("a/t/") && id.len() == 12));
    }

    #[test]
    fn disabled_logs_keep_nothing_logs_07() {
        let off = model::task::LogConfig { disabled: Some(true), ..Default::default() };
        assert_eq!(LogSettings::from_model(Some(&off)), None);
        let default = LogSettings::from_model(None).unwrap();
        assert_eq!((default.max_files, default.max_file_bytes), (10, 10 << 20));
    }
}
