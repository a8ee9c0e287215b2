//! `raw_exec`: a program of the host, started as it is, held by the allocation's supervisor.
//!
//! The agent prepares (config, user, cgroup, environment), the supervisor runs. Per allocation there is one
//! supervisor and one connection to it; per task a small entry with a `watch` that carries the exit to
//! everybody who waits. When the connection breaks, each running task that it was about ends with what
//! the supervisor wrote last, or with an error, and what is left of it is killed. A supervisor that left may have
//! a successor before its end is heard of: a task belongs to the connection it was started or found over.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::node::DriverInfo;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OnceCell, mpsc, watch};

use crate::cgroup::{Cgroups, Scope, Version};
use crate::contract::{
    Capabilities, Driver, DriverError, ExecRequest, ExecSession, ExitResult, FsIsolation, Handle, Later, TaskConfig,
    Usage, healthy_info, signal_number, work_dir,
};
use crate::procfs;
use crate::session::{self, Begin};
use crate::supervisor::client::{Attached, ClientError, Launch, Notice, room, saved_status};
use crate::supervisor::protocol::{Ids, LogFiles, Refusal, Reply, Request, StartTask, Surroundings, TaskStatus};
use crate::taskdir::AllocDirs;

const NAME: &str = "raw_exec";
const HANDLE_VERSION: u32 = 1;
/// After SIGKILL the kernel needs no longer than this, unless the process hangs in a device.
const KILL_MARGIN: Duration = Duration::from_secs(15);
const NOTICES: usize = 64;
const MOUNT: &str = "/sys/fs/cgroup";

/// What the operator allows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub enabled: bool,
    /// `0-99,1000`: users a task may not run as.
    pub denied_host_uids: String,
    pub denied_host_gids: String,
    /// Globs of variables no task gets.
    pub denied_envvars: Vec<String>,
}

/// The `config` block of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    command: String,
    args: Vec<String>,
    cgroup_v2_override: String,
    /// Path by controller.
    cgroup_v1_override: BTreeMap<String, String>,
    oom_score_adj: i32,
    work_dir: String,
    denied_envvars: Vec<String>,
}

/// What the handle remembers.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    dir: PathBuf,
    task: String,
    pid: i32,
}

#[derive(Clone, Debug)]
struct Entry {
    dir: PathBuf,
    status: TaskStatus,
    exit: watch::Sender<Option<ExitResult>>,
    /// Who tells its exit; nobody where that was known from the beginning.
    attached: Option<Attached>,
}

type Tasks = Arc<Mutex<HashMap<String, Entry>>>;
type Cell = Arc<OnceCell<Attached>>;

#[derive(Debug)]
pub struct RawExec {
    options: Options,
    launch: Launch,
    cgroups: Option<Cgroups>,
    tasks: Tasks,
    allocs: Mutex<HashMap<PathBuf, Cell>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RawExec {
    pub fn new(options: Options, launch: Launch, cgroups: Option<Cgroups>) -> Self {
        Self { options, launch, cgroups, tasks: Tasks::default(), allocs: Mutex::default() }
    }

    fn decode(config: &Map<String, Value>) -> Result<Config, DriverError> {
        let shaped = model::driver_config::shaped(NAME, config).map_err(DriverError::Config)?;
        let config: Config =
            serde_json::from_value(Value::Object(shaped)).map_err(|e| DriverError::Config(e.to_string()))?;
        let bad = |text: &str| Err(DriverError::Config(text.to_owned()));
        if config.command.is_empty() {
            return bad("command must be specified");
        }
        if config.oom_score_adj < 0 {
            return bad("oom_score_adj must not be negative");
        }
        if !config.cgroup_v2_override.is_empty() && !config.cgroup_v1_override.is_empty() {
            return bad("only one of cgroup_v1_override and cgroup_v2_override may be set");
        }
        work_dir(&config.work_dir, Path::new("/"))?;
        Ok(config)
    }

    /// The connection to the allocation's supervisor, which is started when there is none and `launch`.
    ///
    /// Concurrent callers share one attempt: the cell is initialized once.
    async fn attach(&self, dir: &Path, launch: bool) -> Result<Attached, ClientError> {
        self.attach_in(&self.cell(dir), dir, launch).await
    }

    fn cell(&self, dir: &Path) -> Cell {
        let mut allocs = locked(&self.allocs);
        let cell = allocs.entry(dir.to_path_buf()).or_default();
        if cell.get().is_some_and(Attached::is_gone) {
            *cell = Cell::default();
        }
        cell.clone()
    }

    async fn attach_in(&self, cell: &Cell, dir: &Path, launch: bool) -> Result<Attached, ClientError> {
        let attach = || async {
            let notices = self.listen(dir);
            match Attached::connect(dir, notices).await {
                Err(ClientError::Gone) if launch => Attached::launch(dir, &self.launch, self.listen(dir)).await,
                other => other,
            }
        };
        cell.get_or_try_init(attach).await.cloned()
    }

    /// A channel whose notices end up in the task table, which holds connections: it ends with the table.
    fn listen(&self, dir: &Path) -> mpsc::Sender<Notice> {
        let (tx, mut rx) = mpsc::channel(NOTICES);
        let (table, dir) = (Arc::downgrade(&self.tasks), dir.to_path_buf());
        tokio::spawn(async move {
            while let Some(notice) = rx.recv().await {
                let Some(tasks) = table.upgrade() else { return };
                match notice {
                    Notice::Exit(status) => record(&tasks, &status),
                    Notice::Gone => end_unsupervised(tasks, &dir).await,
                }
            }
        });
        tx
    }

    /// From here on it is known. What was told of it before did not find it.
    async fn hold(&self, task_id: &str, entry: Entry) {
        let (dir, attached) = (entry.dir.clone(), entry.attached.clone());
        locked(&self.tasks).entry(task_id.to_owned()).or_insert(entry);
        if attached.is_some_and(|attached| attached.is_gone()) {
            end_unsupervised(self.tasks.clone(), &dir).await;
        }
    }

    async fn start_task(&self, task: TaskConfig) -> Result<Handle, DriverError> {
        if !self.options.enabled {
            return Err(start_error("raw_exec is disabled"));
        }
        if locked(&self.tasks).contains_key(&task.task_id) {
            return Err(DriverError::AlreadyStarted(task.task_id));
        }
        let home = task.dirs.alloc.supervisor();
        let room = tokio::task::spawn_blocking(move || room(&home)).await;
        room.map_err(|e| start_error(e.to_string()))?.map_err(from_client)?;
        let start = self.prepare(&task)?;
        let (dir, scope) = (task.dirs.alloc.supervisor(), start.cgroup.clone());
        match self.run(&dir, start).await {
            Ok((status, attached)) => {
                let state = State { dir: dir.clone(), task: task.task.clone(), pid: status.pid };
                let state = serde_json::to_value(state).map_err(|e| start_error(e.to_string()))?;
                let (exit, attached) = (watch::Sender::new(None), Some(attached));
                self.hold(&task.task_id, Entry { dir: dir.clone(), status, exit, attached }).await;
                // A task may end before its entry stands in the table: then its state file knows.
                if let Some(saved) = saved_status(&dir, &task.task).filter(|s| s.task_id == task.task_id) {
                    record(&self.tasks, &saved);
                }
                Ok(Handle { driver: NAME.to_owned(), version: HANDLE_VERSION, task_id: task.task_id, state })
            }
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || scope.remove()).await;
                Err(error)
            }
        }
    }

    async fn run(&self, dir: &Path, start: StartTask) -> Result<(TaskStatus, Attached), DriverError> {
        let request = || Request::Start(Box::new(start.clone()));
        let mut attached = self.attach(dir, true).await.map_err(from_client)?;
        let mut answer = attached.ask(request()).await;
        if matches!(answer, Err(ClientError::Gone)) {
            // It left between our connecting and our asking.
            attached = self.attach(dir, true).await.map_err(from_client)?;
            answer = attached.ask(request()).await;
        }
        match answer {
            Ok(Reply::Started { status }) => Ok((status, attached)),
            Ok(_) => Err(start_error(ClientError::Confused.to_string())),
            // It may still do it. It does one thing after the other: what it says next is how that went.
            Err(ClientError::Timeout) => match self.status_of(dir, &start.task_id).await.map_err(from_client)? {
                (Some(status), attached) => Ok((status, attached)),
                (None, _) => Err(from_client(ClientError::Timeout)),
            },
            Err(error) => Err(from_client(error)),
        }
    }

    fn prepare(&self, task: &TaskConfig) -> Result<StartTask, DriverError> {
        let config = Self::decode(&task.config)?;
        let (user, mut env) = self.user_of(task)?;
        let denied: Vec<&String> = self.options.denied_envvars.iter().chain(&config.denied_envvars).collect();
        env.retain(|name, _| !denied.iter().any(|glob| matches_glob(glob, name)));
        let command = look_up(&config.command, task)?;
        let logs = task.logs.map(|logs| LogFiles {
            dir: task.dirs.alloc.logs(),
            max_files: logs.max_files,
            max_bytes: logs.max_file_bytes,
        });
        Ok(StartTask {
            task_id: task.task_id.clone(),
            task: task.task.clone(),
            command,
            args: config.args.clone(),
            env,
            cwd: work_dir(&config.work_dir, &task.dirs.dir)?,
            user,
            oom_score_adj: config.oom_score_adj,
            logs,
            cgroup: self.scope_of(task, &config)?,
            netns: task.around.namespace.as_ref().map(|shared| shared.path.clone()),
        })
    }

    fn scope_of(&self, task: &TaskConfig, config: &Config) -> Result<Scope, DriverError> {
        let mut overrides = Vec::new();
        let mut version = Version::V2;
        if !config.cgroup_v2_override.is_empty() {
            overrides.push(Path::new(MOUNT).join(config.cgroup_v2_override.trim_start_matches('/')));
        }
        for (controller, path) in &config.cgroup_v1_override {
            version = Version::V1;
            overrides.push(Path::new(MOUNT).join(controller).join(path.trim_start_matches('/')));
        }
        if let Some(missing) = overrides.iter().find(|dir| !dir.is_dir()) {
            return Err(start_error(format!("cgroup does not exist: {}", missing.display())));
        }
        if !overrides.is_empty() {
            return Ok(Scope { version: Some(version), dirs: overrides, owned: false });
        }
        let Some(cgroups) = &self.cgroups else { return Ok(Scope::default()) };
        let made = cgroups.create(task.alloc_id.as_str(), &task.task, task.limits, &task.around.cores);
        made.map_err(|e| start_error(format!("failed to create cgroup: {e}")))
    }

    fn user_of(&self, task: &TaskConfig) -> Result<(Option<Ids>, BTreeMap<String, String>), DriverError> {
        let mut env = task.env.clone();
        let (uid, gid, ids) = if task.user.is_empty() {
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), None)
        } else {
            let found = nix::unistd::User::from_name(&task.user).ok().flatten();
            let user = found.ok_or_else(|| start_error(format!("failed to identify user {:?}", task.user)))?;
            env.insert("USER".to_owned(), user.name.clone());
            env.insert("LOGNAME".to_owned(), user.name);
            env.insert("HOME".to_owned(), user.dir.to_string_lossy().into_owned());
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            (uid, gid, Some(Ids { uid, gid }))
        };
        if in_ranges(&self.options.denied_host_uids, uid)? {
            return Err(start_error(format!("running as uid {uid} is disallowed")));
        }
        if in_ranges(&self.options.denied_host_gids, gid)? {
            return Err(start_error(format!("running as gid {gid} is disallowed")));
        }
        Ok((ids, env))
    }

    async fn recover_task(&self, handle: Handle) -> Result<(), DriverError> {
        if locked(&self.tasks).contains_key(&handle.task_id) {
            return Ok(());
        }
        let lost = |text: &str| DriverError::Lost(text.to_owned());
        let state: State = serde_json::from_value(handle.state).map_err(|e| lost(&e.to_string()))?;
        let (status, attached) = match self.status_of(&state.dir, &handle.task_id).await {
            Ok((status, attached)) => (status, Some(attached)),
            Err(ClientError::Gone | ClientError::Dir(_)) => (None, None),
            Err(error) => return Err(lost(&error.to_string())),
        };
        let saved = || saved_status(&state.dir, &state.task).filter(|s| s.task_id == handle.task_id);
        let status = match status {
            Some(status) => status,
            // The supervisor is gone, or has forgotten: its last word counts if it is an exit.
            None => match saved() {
                Some(status) if status.exit.is_some() => status,
                Some(status) => {
                    let _ = tokio::task::spawn_blocking(move || kill_leftovers(&status)).await;
                    return Err(lost("its supervisor is gone"));
                }
                None => return Err(lost("nothing is known of it")),
            },
        };
        let exit = watch::Sender::new(status.exit.as_ref().map(result_of));
        self.hold(&handle.task_id, Entry { dir: state.dir.clone(), status, exit, attached }).await;
        // An exit told before the entry stood there is still in the supervisor's table.
        if let Ok((Some(status), _)) = self.status_of(&state.dir, &handle.task_id).await {
            record(&self.tasks, &status);
        }
        Ok(())
    }

    /// What the supervisor says of a task, and over which connection. On a machine that is busy it may need longer than
    /// one call takes; what it holds is not to be taken for lost then, and is asked for again.
    async fn status_of(&self, dir: &Path, task_id: &str) -> Result<(Option<TaskStatus>, Attached), ClientError> {
        let ask = || async {
            let attached = self.attach(dir, false).await?;
            match attached.ask(Request::Status).await? {
                Reply::Tasks { tasks } => Ok((tasks.into_iter().find(|t| t.task_id == task_id), attached)),
                _ => Err(ClientError::Confused),
            }
        };
        match ask().await {
            Err(ClientError::Timeout) => ask().await,
            other => other,
        }
    }

    fn entry(&self, task_id: &str) -> Result<Entry, DriverError> {
        locked(&self.tasks).get(task_id).cloned().ok_or(DriverError::NotFound)
    }

    async fn kill_task(&self, task_id: &str, signal: &str, timeout: Duration) -> Result<(), DriverError> {
        let entry = self.entry(task_id)?;
        if entry.exit.borrow().is_some() {
            return Ok(());
        }
        let number = if signal.is_empty() { Signal::SIGINT as i32 } else { number_or_interrupt(signal) };
        let grace_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Kill { task_id: task_id.to_owned(), signal: number, grace_ms };
        let asked = async { self.attach(&entry.dir, false).await?.ask(request).await };
        match asked.await {
            // Of one that is gone the task's own connection tells.
            Ok(_) | Err(ClientError::Gone | ClientError::Refused { code: Refusal::NotFound, .. }) => {}
            Err(error) => return Err(DriverError::Stop(error.to_string())),
        }
        let ended = tokio::time::timeout(timeout + KILL_MARGIN, self.wait_task(task_id)).await;
        ended.map_err(|_| DriverError::Stop("it did not end after being killed".to_owned()))??;
        Ok(())
    }

    async fn wait_task(&self, task_id: &str) -> Result<ExitResult, DriverError> {
        let mut exit = self.entry(task_id)?.exit.subscribe();
        let result = exit.wait_for(Option::is_some).await.map_err(|_| DriverError::NotFound)?;
        result.clone().ok_or(DriverError::NotFound)
    }

    async fn signal_task(&self, task_id: &str, signal: &str) -> Result<(), DriverError> {
        let entry = self.entry(task_id)?;
        let request = Request::Signal { task_id: task_id.to_owned(), signal: number_or_interrupt(signal) };
        let asked = async { self.attach(&entry.dir, false).await?.ask(request).await };
        asked.await.map(drop).map_err(|e| DriverError::Signal(e.to_string()))
    }

    async fn exec_beside(&self, task_id: &str, request: ExecRequest) -> Result<ExecSession, DriverError> {
        let entry = self.entry(task_id)?;
        if entry.exit.borrow().is_some() {
            return Err(DriverError::Exec("the task is not running".to_owned()));
        }
        let around = self.surroundings(&entry).await.map_err(|e| DriverError::Exec(e.to_string()))?;
        let cgroup = entry.status.cgroup.clone();
        session::begin(Begin { launch: &self.launch, around, cgroup, request, task: entry.exit.subscribe() })
    }

    /// How the task was started; a supervisor of an earlier revision does not know.
    async fn surroundings(&self, entry: &Entry) -> Result<Surroundings, ClientError> {
        let attached = self.attach(&entry.dir, false).await?;
        if matches!(attached.ask(Request::Hello).await?, Reply::Hello { version, .. } if version < 2) {
            return session::surroundings_of(entry.status.pid).map_err(ClientError::Dir);
        }
        match attached.ask(Request::Surroundings { task_id: entry.status.task_id.clone() }).await? {
            Reply::Surroundings { surroundings } => Ok(surroundings),
            _ => Err(ClientError::Confused),
        }
    }

    async fn destroy_task(&self, task_id: &str, force: bool) -> Result<(), DriverError> {
        let entry = self.entry(task_id)?;
        if entry.exit.borrow().is_none() {
            if !force {
                return Err(DriverError::StillRunning);
            }
            self.kill_task(task_id, "SIGKILL", Duration::ZERO).await?;
        }
        if let Ok(attached) = self.attach(&entry.dir, false).await {
            // Not known any more is as good as acknowledged.
            let _ = attached.ask(Request::Ack { task_id: task_id.to_owned() }).await;
        }
        locked(&self.tasks).remove(task_id);
        let scope = entry.status.cgroup;
        let removed = tokio::task::spawn_blocking(move || {
            scope.kill();
            scope.remove()
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, task_id, "task cgroup not removed");
        }
        Ok(())
    }

    async fn release_alloc(&self, dirs: &AllocDirs) -> Result<(), DriverError> {
        let dir = dirs.supervisor();
        let cell = self.cell(&dir);
        let asked = async { self.attach_in(&cell, &dir, false).await?.ask(Request::Shutdown).await };
        match asked.await {
            Ok(_) | Err(ClientError::Gone | ClientError::Dir(_)) => {}
            Err(error) => return Err(DriverError::Stop(error.to_string())),
        }
        let mut allocs = locked(&self.allocs);
        // Another one may be a successor's.
        if allocs.get(&dir).is_some_and(|now| Arc::ptr_eq(now, &cell)) {
            allocs.remove(&dir);
        }
        Ok(())
    }
}

fn start_error(message: impl Into<String>) -> DriverError {
    DriverError::Start { message: message.into(), recoverable: false }
}

fn from_client(error: ClientError) -> DriverError {
    let recoverable = !matches!(&error, ClientError::Refused { .. });
    let message = match error {
        ClientError::Refused { message, .. } => message,
        ClientError::Spawn(source) => format!("failed to start the supervisor: {source}"),
        ClientError::NoRoom(source) => format!("there is no room for the task's state: {source}"),
        other => other.to_string(),
    };
    DriverError::Start { message, recoverable }
}

fn result_of(exit: &crate::supervisor::protocol::Exit) -> ExitResult {
    ExitResult { code: exit.code, signal: exit.signal, oom_killed: exit.oom_killed, error: None }
}

/// Stores an exit and wakes who waits. A second word about the same task changes nothing.
fn record(tasks: &Tasks, status: &TaskStatus) {
    let Some(exit) = &status.exit else { return };
    if let Some(entry) = locked(tasks).get_mut(&status.task_id) {
        entry.exit.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(result_of(exit));
            }
            first
        });
    }
}

/// Off the async threads: it reads files and may wait for the kernel.
async fn end_unsupervised(tasks: Tasks, dir: &Path) {
    let dir = dir.to_path_buf();
    let _ = tokio::task::spawn_blocking(move || supervisor_gone(&tasks, &dir)).await;
}

/// A connection broke: every task whose connection is gone ends, by the supervisor's last word or without one.
fn supervisor_gone(tasks: &Tasks, dir: &Path) {
    let held: Vec<TaskStatus> = {
        let ended = |e: &&Entry| e.exit.borrow().is_none() && e.attached.as_ref().is_none_or(Attached::is_gone);
        let tasks = locked(tasks);
        tasks.values().filter(|e| e.dir == dir).filter(ended).map(|e| e.status.clone()).collect()
    };
    for status in held {
        let saved = saved_status(dir, &status.task).filter(|s| s.task_id == status.task_id && s.exit.is_some());
        if let Some(saved) = saved {
            record(tasks, &saved);
            continue;
        }
        kill_leftovers(&status);
        let error = Some("the supervisor of the task is gone".to_owned());
        let result = ExitResult { code: -1, error, ..ExitResult::default() };
        if let Some(entry) = locked(tasks).get(&status.task_id) {
            entry.exit.send_if_modified(|now| now.is_none().then(|| *now = Some(result)).is_some());
        }
    }
}

/// Kills what runs of a task that nobody supervises.
pub(crate) fn kill_leftovers(status: &TaskStatus) {
    if procfs::is_alive(status.pid, status.start_ticks) {
        let pid = nix::unistd::Pid::from_raw(status.pid);
        let _ = nix::sys::signal::killpg(pid, Signal::SIGKILL);
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
    status.cgroup.kill();
}

fn number_or_interrupt(signal: &str) -> i32 {
    signal_number(signal).unwrap_or_else(|| {
        tracing::warn!(signal, "unknown signal, sending SIGINT");
        Signal::SIGINT as i32
    })
}

/// Finds the program: `local/`, the task's directory, an absolute path, the agent's `PATH`.
fn look_up(command: &str, task: &TaskConfig) -> Result<PathBuf, DriverError> {
    let mut candidates = vec![task.dirs.local().join(command), task.dirs.dir.join(command)];
    if Path::new(command).is_absolute() {
        candidates = vec![PathBuf::from(command)];
    } else if !command.contains('/') {
        let path = std::env::var_os("PATH").unwrap_or_default();
        candidates.extend(std::env::split_paths(&path).filter(|d| d.is_absolute()).map(|d| d.join(command)));
    }
    let found = candidates.into_iter().find(|path| path.is_file());
    let found =
        found.ok_or_else(|| start_error(format!("failed to find command {command:?}: no such file or directory")))?;
    let below_task = found.starts_with(&task.dirs.dir) && !found.is_symlink();
    if below_task && let Ok(meta) = found.metadata() {
        let mode = meta.permissions().mode();
        if mode & 0o555 != 0o555 {
            let _ = std::fs::set_permissions(&found, std::fs::Permissions::from_mode(mode | 0o555));
        }
    }
    Ok(found)
}

/// `*` stands for any run of characters.
pub(crate) fn matches_glob(glob: &str, name: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else { return glob == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| matches_glob(rest, &tail[at..]))
}

/// Reads `0-99,1000`.
fn in_ranges(ranges: &str, id: u32) -> Result<bool, DriverError> {
    let bad = |part: &str| DriverError::Config(format!("invalid id range {part:?}"));
    for part in ranges.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let low: u32 = low.trim().parse().map_err(|_| bad(part))?;
        let high: u32 = high.trim().parse().map_err(|_| bad(part))?;
        if (low..=high).contains(&id) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Driver for RawExec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { send_signals: true, exec: true, fs_isolation: FsIsolation::None, mounts: false }
    }

    fn fingerprint(&self) -> DriverInfo {
        if self.options.enabled {
            return healthy_info(NAME);
        }
        DriverInfo { health_description: "disabled".to_owned(), ..DriverInfo::default() }
    }

    fn validate(&self, config: &Map<String, Value>) -> Result<(), DriverError> {
        Self::decode(config).map(drop)
    }

    fn start(&self, config: TaskConfig) -> Later<'_, Handle> {
        Box::pin(self.start_task(config))
    }

    fn recover(&self, handle: Handle) -> Later<'_, ()> {
        Box::pin(self.recover_task(handle))
    }

    fn wait<'a>(&'a self, task_id: &'a str) -> Later<'a, ExitResult> {
        Box::pin(self.wait_task(task_id))
    }

    fn kill<'a>(&'a self, task_id: &'a str, signal: &'a str, timeout: Duration) -> Later<'a, ()> {
        Box::pin(self.kill_task(task_id, signal, timeout))
    }

    fn signal<'a>(&'a self, task_id: &'a str, signal: &'a str) -> Later<'a, ()> {
        Box::pin(self.signal_task(task_id, signal))
    }

    fn stats<'a>(&'a self, task_id: &'a str) -> Later<'a, Usage> {
        Box::pin(async move {
            let status = self.entry(task_id)?.status;
            let reading = tokio::task::spawn_blocking(move || crate::usage::of_task(status.pid, &status.cgroup));
            reading.await.map_err(|e| DriverError::Stats(e.to_string()))
        })
    }

    fn exec<'a>(&'a self, task_id: &'a str, request: ExecRequest) -> Later<'a, ExecSession> {
        Box::pin(self.exec_beside(task_id, request))
    }

    fn destroy<'a>(&'a self, task_id: &'a str, force: bool) -> Later<'a, ()> {
        Box::pin(self.destroy_task(task_id, force))
    }

    fn release<'a>(&'a self, dirs: &'a AllocDirs) -> Later<'a, ()> {
        Box::pin(self.release_alloc(dirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::protocol::{Call, Line};
    use serde_json::json;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    fn decode(value: Value) -> Result<Config, DriverError> {
        let Value::Object(map) = value else { return Err(DriverError::NotFound) };
        RawExec::decode(&map)
    }

    #[test]
    fn a_config_that_could_never_start_is_refused_raw_exec_06_cgroup_v1_11_exec_13() {
        for bad in [
            json!({}),
            json!({"command": "x", "oom_score_adj": -1}),
            json!({"command": "x", "comand": "typo"}),
            json!({"command": "x", "work_dir": "relative"}),
            json!({"command": "x", "cgroup_v2_override": "a", "cgroup_v1_override": [{"pids": "b"}]}),
        ] {
            assert!(matches!(decode(bad.clone()), Err(DriverError::Config(_))), "{bad}");
        }
        let config = decode(json!({"command": "x", "args": ["a", 1, true]})).unwrap();
        assert_eq!(config.args, ["a", "1", "true"]);
    }

    #[test]
    fn globs_and_id_ranges_match_what_they_name_exec_16() {
        assert!(matches_glob("AWS_*", "AWS_KEY") && !matches_glob("AWS_*", "XAWS_KEY"));
        assert!(matches_glob("*TOKEN*", "A_TOKEN_B") && matches_glob("A", "A") && !matches_glob("A", "AB"));
        assert!(in_ranges("0-99,1000", 99).unwrap() && in_ranges("0-99, 1000", 1000).unwrap());
        assert!(!in_ranges("", 0).unwrap());
        assert!(in_ranges("x-y", 0).is_err());
    }
    /// Says yes to everything, until it is ended.
    fn supervisor(dir: &Path) -> tokio::task::JoinHandle<()> {
        let path = dir.join(crate::supervisor::SOCKET_NAME);
        let _ = std::fs::remove_file(&path);
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            let (read, mut write) = listener.accept().await.unwrap().0.into_split();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Call { id, .. } = serde_json::from_str(&line).unwrap();
                let answer = serde_json::to_string(&Line::Reply { id, reply: Reply::Done }).unwrap() + "\n";
                write.write_all(answer.as_bytes()).await.unwrap();
            }
        })
    }

    #[tokio::test]
    async fn the_end_of_a_supervisor_that_is_heard_of_late_ends_no_task_of_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let (notices, mut noticed) = mpsc::channel(NOTICES);
        let first = supervisor(dir.path());
        let before = Attached::connect(dir.path(), notices.clone()).await.unwrap();
        first.abort();
        assert!(matches!(noticed.recv().await, Some(Notice::Gone)));
        let _second = supervisor(dir.path());
        let after = Attached::connect(dir.path(), notices).await.unwrap();
        let driver = RawExec::new(Options::default(), Launch::default(), None);
        let ended = |task: &str| locked(&driver.tasks)[task].exit.borrow().is_some();
        for (task, attached) in [("before", before.clone()), ("after", after)] {
            let status = TaskStatus {
                task_id: task.into(),
                task: task.into(),
                pid: 0,
                start_ticks: 0,
                started_at_unix_ns: 0,
                cgroup: Scope::default(),
                exit: None,
            };
            let (dir, exit) = (dir.path().to_path_buf(), watch::Sender::new(None));
            driver.hold(task, Entry { dir, status, exit, attached: Some(attached) }).await;
        }
        // Of one that was gone before its task was held nobody hears again.
        assert!(ended("before") && !ended("after"));
        supervisor_gone(&driver.tasks, dir.path());
        assert!(!ended("after"));
    }
}
