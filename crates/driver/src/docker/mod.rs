//! `docker`: tasks as containers of a Docker Engine.
//!
//! ```text
//!   start ─► image (pull, load, here) ─► create ─► start ─► watched: output followed, end waited for
//!                                           │ name taken: adopted when ours and running, else replaced
//!   recover ─► found by id ─► watched       kill ─► signal, grace, SIGKILL       destroy ─► removed
//! ```
//!
//! * The daemon holds the containers: they and what they write outlive the agent. A handle is the container's
//!   id and what is needed to follow its output again.
//! * A task ends when its container does. While the daemon is away nothing is known, the driver is
//!   unhealthy and the watch goes on; a container that is gone afterwards has ended with an error.
//! * Only containers whose label names this node are ever adopted or removed.
//! * What a job may ask for and what the operator allows is decided in `config`, `container` and `mounts`,
//!   before the daemon is asked.
//!
//! Driven through [`Driver`]; `health` looks at the daemon by itself while the driver lives.

mod auth;
mod config;
mod container;
mod cpuset;
mod dangling;
mod engine;
mod exec;
#[cfg(test)]
mod fake_engine;
mod health;
mod image;
mod memory;
mod mounts;
mod names;
mod network;
pub mod options;
mod output;
mod pause;
mod start;
mod watching;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{KillContainerOptions, RemoveContainerOptions};
use model::AllocId;
use model::node::DriverInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

pub use self::dangling::end_all_of;
pub use self::options::{Options, OptionsText};

use self::config::Config;
use self::engine::{Meaning, meaning, sentence, timely};
use self::image::Images;
use crate::contract::{
    Capabilities, Driver, DriverError, ExecRequest, ExecSession, ExitResult, FsIsolation, GroupNetwork, Handle, Later,
    Namespace, TaskConfig, Usage, signal_number,
};
use crate::cores::Cores;
use crate::orphans::Keep;
use crate::taskdir::TaskDirs;

/// The name jobs use.
pub const NAME: &str = "docker";
const HANDLE_VERSION: u32 = 1;
/// After SIGKILL the daemon needs no longer than this to say that a container has ended.
const KILL_MARGIN: Duration = Duration::from_secs(15);
const SIGNAL_DEFAULT: &str = "SIGTERM";

/// What a handle remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    container: String,
    image: String,
    /// As the job wrote it.
    reference: String,
    /// What the image says asks it to end.
    #[serde(default)]
    stop_signal: String,
    tty: bool,
    /// It has no cores of its own, and asked for none.
    #[serde(default)]
    shares_cores: bool,
    output: Option<output::Place>,
    root: PathBuf,
    task: String,
}

/// One task the driver holds.
struct Entry {
    state: State,
    exit: watch::Sender<Option<ExitResult>>,
    /// The container's main process on this host; 0 while it is not known.
    pid: std::sync::atomic::AtomicI32,
    /// The cores the engine holds it to; empty for all.
    cpuset: Mutex<String>,
}

/// What is seen of a container from outside.
#[derive(Default)]
struct Seen {
    pid: i32,
    cpuset: String,
}

impl Seen {
    fn of(found: &bollard::models::ContainerInspectResponse) -> Self {
        Self { pid: watching::pid_of(found), cpuset: cpuset::of(found) }
    }
}

/// What all parts of the driver share.
struct Shared {
    docker: bollard::Docker,
    options: Arc<Options>,
    node_id: String,
    images: Images,
    tasks: Mutex<HashMap<String, Arc<Entry>>>,
    health: health::Health,
    sweeps: Mutex<dangling::Sweeps>,
    /// The node leaves nothing behind: what would come up now goes down again.
    closed: std::sync::atomic::AtomicBool,
    cores: OnceLock<Arc<Cores>>,
}

/// The driver.
#[derive(Clone)]
pub struct Docker(Arc<Shared>);

/// Removes a container, running or not. One that is gone is removed.
async fn remove(docker: &bollard::Docker, container: &str) -> Result<(), bollard::errors::Error> {
    let options = RemoveContainerOptions { v: true, force: true, ..RemoveContainerOptions::default() };
    match timely(docker.remove_container(container, Some(options))).await {
        // Somebody else is removing it.
        Err(error) if matches!(meaning(&error), Meaning::NotFound | Meaning::Conflict) => Ok(()),
        other => other,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client of the engine as the driver has it, for measuring the engine alone.
///
/// # Errors
/// A sentence: the endpoint or its TLS files cannot be used.
pub fn client(options: &Options) -> Result<bollard::Docker, String> {
    engine::connect(options)
}

impl Docker {
    /// A driver for the node `node_id`, which looks at the daemon from now on. Within a runtime only.
    ///
    /// # Errors
    /// A sentence: the endpoint or its TLS files cannot be used.
    pub async fn new(options: Options, node_id: &str) -> Result<Self, String> {
        let docker = engine::connect(&options)?;
        let options = Arc::new(options);
        let shared = Arc::new(Shared {
            images: Images::new(docker.clone(), Arc::clone(&options)),
            docker,
            options,
            node_id: node_id.to_owned(),
            tasks: Mutex::default(),
            health: health::Health::default(),
            sweeps: Mutex::default(),
            closed: std::sync::atomic::AtomicBool::new(false),
            cores: OnceLock::new(),
        });
        health::begin(&shared).await;
        Ok(Self(shared))
    }

    /// Containers have only the cores that are theirs from here on. Within a runtime only.
    #[must_use]
    pub fn with_cores(self, cores: Arc<Cores>) -> Self {
        if self.0.cores.set(Arc::clone(&cores)).is_ok() {
            tokio::spawn(cpuset::keep(Arc::downgrade(&self.0), cores));
        }
        self
    }

    /// Remembers in this file which images tasks have used: those of an earlier agent's tasks are let go of, too.
    #[must_use]
    pub fn with_memory(self, path: PathBuf) -> Self {
        self.0.images.remember(memory::Memory::open(path));
        self
    }

    fn entry(&self, task_id: &str) -> Result<Arc<Entry>, DriverError> {
        locked(&self.0.tasks).get(task_id).cloned().ok_or(DriverError::NotFound)
    }

    async fn recover_task(&self, handle: Handle) -> Result<(), DriverError> {
        if self.entry(&handle.task_id).is_ok() {
            return Ok(());
        }
        let state: State = serde_json::from_value(handle.state).map_err(|e| DriverError::Lost(e.to_string()))?;
        let mut seen = Seen::default();
        match timely(self.0.docker.inspect_container(&state.container, None)).await {
            Ok(found) => seen = Seen::of(&found),
            Err(error) if meaning(&error) == Meaning::NotFound => {
                return Err(DriverError::Lost("its container is gone".to_owned()));
            }
            // The daemon is away: the container may well run, and the watch finds out.
            Err(error) => tracing::info!(error = sentence(&error), "a container is taken over unseen"),
        }
        self.0.images.uses(&state.image, &state.reference, &handle.task_id);
        self.hold(handle.task_id, state, seen);
        Ok(())
    }

    /// From here on the task is known and watched.
    fn hold(&self, task_id: String, state: State, seen: Seen) {
        let Seen { pid, cpuset } = seen;
        let exit = watch::Sender::new(None);
        let entry = Arc::new(Entry { state, exit, pid: pid.into(), cpuset: Mutex::new(cpuset) });
        let mut tasks = locked(&self.0.tasks);
        if let std::collections::hash_map::Entry::Vacant(vacant) = tasks.entry(task_id) {
            vacant.insert(Arc::clone(&entry));
            tokio::spawn(watching::watch(Arc::clone(&self.0), entry));
        }
    }

    async fn send(&self, entry: &Entry, signal: &str) -> Result<(), bollard::errors::Error> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        match timely(self.0.docker.kill_container(&entry.state.container, Some(options))).await {
            // It has ended already, or is gone: whoever waits hears of it.
            Err(error) if matches!(meaning(&error), Meaning::NotFound | Meaning::Conflict) => Ok(()),
            other => other,
        }
    }

    async fn kill_task(&self, task_id: &str, signal: &str, timeout: Duration) -> Result<(), DriverError> {
        let entry = self.entry(task_id)?;
        let mut exit = entry.exit.subscribe();
        if exit.borrow().is_some() {
            return Ok(());
        }
        let own = [signal, entry.state.stop_signal.as_str()].into_iter().find(|s| !s.is_empty());
        let signal = own.unwrap_or(SIGNAL_DEFAULT);
        // The daemon knows signals by number and by name; a name nobody knows must not make a task unkillable.
        let known = signal.parse::<u8>().is_ok() || signal.contains("RTM") || signal_number(signal).is_some();
        let signal = if known { signal } else { SIGNAL_DEFAULT };
        let stop = |e: bollard::errors::Error| DriverError::Stop(sentence(&e));
        if !timeout.is_zero() {
            self.send(&entry, signal).await.map_err(stop)?;
            if tokio::time::timeout(timeout, exit.wait_for(Option::is_some)).await.is_ok() {
                return Ok(());
            }
        }
        self.send(&entry, "SIGKILL").await.map_err(stop)?;
        match tokio::time::timeout(KILL_MARGIN, exit.wait_for(Option::is_some)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(DriverError::Stop("the container does not end after SIGKILL".to_owned())),
        }
    }

    async fn signal_task(&self, task_id: &str, signal: &str) -> Result<(), DriverError> {
        let entry = self.entry(task_id)?;
        if signal_number(signal).is_none() {
            return Err(DriverError::Signal(format!("unknown signal {signal:?}")));
        }
        if entry.exit.borrow().is_some() {
            return Err(DriverError::Signal("the task is not running".to_owned()));
        }
        let options = KillContainerOptions { signal: signal.to_owned() };
        let sent = timely(self.0.docker.kill_container(&entry.state.container, Some(options))).await;
        sent.map_err(|e| DriverError::Signal(sentence(&e)))
    }

    async fn destroy_task(&self, task_id: &str, force: bool) -> Result<(), DriverError> {
        let entry = self.entry(task_id)?;
        if entry.exit.borrow().is_none() {
            if !force {
                return Err(DriverError::StillRunning);
            }
            // Removal with force does the rest.
            let _ = self.kill_task(task_id, "", Duration::ZERO).await;
        }
        if self.0.options.gc.container {
            remove(&self.0.docker, &entry.state.container).await.map_err(|e| DriverError::Stop(sentence(&e)))?;
        }
        locked(&self.0.tasks).remove(task_id);
        self.0.images.release(&entry.state.image, task_id);
        let state = entry.state.clone();
        let cleaning = tokio::task::spawn_blocking(move || {
            if let Some(place) = &state.output {
                output::forget(&place.note);
            }
            let alloc = crate::taskdir::AllocDirs { root: state.root };
            let dir = alloc.root.join(&state.task);
            mounts::unpin(&TaskDirs { alloc, dir }, &state.task);
        });
        let _ = cleaning.await;
        Ok(())
    }

    async fn usage(&self, task_id: &str) -> Result<Usage, DriverError> {
        let entry = self.entry(task_id)?;
        let pid = entry.pid.load(std::sync::atomic::Ordering::Relaxed);
        if pid <= 0 || entry.exit.borrow().is_some() {
            return Err(DriverError::Stats("the container does not run".to_owned()));
        }
        let reading = tokio::task::spawn_blocking(move || {
            let scope = crate::cgroup::Scope::of_process(pid);
            crate::usage::of_task(pid, &scope)
        });
        reading.await.map_err(|e| DriverError::Stats(e.to_string()))
    }
}

impl Driver for Docker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { send_signals: true, exec: true, fs_isolation: FsIsolation::Image, mounts: true }
    }

    fn fingerprint(&self) -> DriverInfo {
        self.0.health.info()
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        Some(self.0.health.changes())
    }

    fn validate(&self, config: &Map<String, Value>) -> Result<(), DriverError> {
        Config::decode(config).map(drop)
    }

    fn start(&self, config: TaskConfig) -> Later<'_, Handle> {
        Box::pin(self.start_task(config))
    }

    fn recover(&self, handle: Handle) -> Later<'_, ()> {
        Box::pin(self.recover_task(handle))
    }

    fn wait<'a>(&'a self, task_id: &'a str) -> Later<'a, ExitResult> {
        Box::pin(async move {
            let mut exit = self.entry(task_id)?.exit.subscribe();
            let result = exit.wait_for(Option::is_some).await.map_err(|_| DriverError::NotFound)?;
            result.clone().ok_or(DriverError::NotFound)
        })
    }

    fn kill<'a>(&'a self, task_id: &'a str, signal: &'a str, timeout: Duration) -> Later<'a, ()> {
        Box::pin(self.kill_task(task_id, signal, timeout))
    }

    fn signal<'a>(&'a self, task_id: &'a str, signal: &'a str) -> Later<'a, ()> {
        Box::pin(self.signal_task(task_id, signal))
    }

    fn stats<'a>(&'a self, task_id: &'a str) -> Later<'a, Usage> {
        Box::pin(self.usage(task_id))
    }

    fn exec<'a>(&'a self, task_id: &'a str, request: ExecRequest) -> Later<'a, ExecSession> {
        Box::pin(async move { exec::begin(&self.0, &*self.entry(task_id)?, request).await })
    }

    fn destroy<'a>(&'a self, task_id: &'a str, force: bool) -> Later<'a, ()> {
        Box::pin(self.destroy_task(task_id, force))
    }

    fn network<'a>(&'a self, wanted: &'a GroupNetwork) -> Later<'a, Namespace> {
        Box::pin(self.make_network(wanted))
    }

    fn end_network<'a>(&'a self, alloc_id: &'a AllocId) -> Later<'a, ()> {
        Box::pin(self.drop_network(alloc_id.as_str()))
    }

    fn sweep<'a>(&'a self, keep: &'a Keep) -> Later<'a, usize> {
        Box::pin(self.sweep_dangling(keep))
    }

    fn end_all(&self) -> Later<'_, usize> {
        Box::pin(self.end_everything())
    }
}
