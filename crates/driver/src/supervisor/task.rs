//! One task inside the supervisor.
//!
//! ```text
//!   spawn ──► Running ──(main process ends)──► Draining ──(output read, nobody left, or 2 s)──► Ended
//!                │ kill(signal, grace)
//!                └─ signal now; SIGKILL to process group and cgroup when the grace is over
//! ```
//!
//! Invariants: the main process leads its own process group and is reaped only after its group got
//! SIGKILL, so the group's number cannot have been taken by somebody else; an exit is on disk before
//! anybody is told; no byte the task wrote before its end is dropped while the disk takes it.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;

use super::protocol::{Exit, StartTask, Surroundings, TaskStatus};
use crate::rotate::Rotator;
use crate::{netns, procfs};

/// How long output of an ended task is waited for when a stray holds the pipe.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Bytes taken from one pipe before the others get their turn.
const PUMP_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) enum Phase {
    Running,
    /// The exit is known; leftovers are being killed and output read.
    Draining {
        exit: Exit,
        until: Instant,
    },
    Ended,
}

#[derive(Debug)]
pub(super) struct Task {
    pub status: TaskStatus,
    pub phase: Phase,
    pub kill_at: Option<Instant>,
    pub surroundings: Surroundings,
    pumps: [Option<Pump>; 2],
    oom_kills_before: u64,
}

/// A pipe from the task and the files its bytes go to.
#[derive(Debug)]
struct Pump {
    pipe: std::fs::File,
    log: Rotator,
}

pub(super) fn unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Task {
    /// Starts the program. The error is a sentence for the task's owner.
    pub fn spawn(start: StartTask) -> Result<Self, String> {
        let logs = match &start.logs {
            Some(files) => Some(open_logs(&start.task, files).map_err(|e| format!("failed to open logs: {e}"))?),
            None => None,
        };
        let mut command = command_of(&start, logs.is_some());
        let seats = start.cgroup.enter().map_err(|e| format!("failed to enter cgroup: {e}"))?;
        let adjusted = OomScore::set(start.oom_score_adj);
        let spawned = adjusted.and_then(|score| {
            let spawned = netns::within(start.netns.as_deref(), || spawn_unblocked(&mut command));
            score.restore();
            spawned
        });
        seats.restore().map_err(|e| format!("failed to leave cgroup: {e}"))?;
        let mut child =
            spawned.map_err(|e| format!("failed to launch command {:?}: {e}", start.command.display().to_string()))?;
        let pid = i32::try_from(child.id()).map_err(|_| "process id out of range".to_owned())?;
        let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        let pumps = make_pumps(pipes, logs).map_err(|e| format!("failed to set up output: {e}"))?;
        let surroundings = Surroundings { env: start.env, cwd: start.cwd, user: start.user, netns: start.netns };
        let status = TaskStatus {
            task_id: start.task_id,
            task: start.task,
            pid,
            start_ticks: procfs::stat(pid).map_or(0, |s| s.start_ticks),
            started_at_unix_ns: unix_ns(),
            cgroup: start.cgroup,
            exit: None,
        };
        let oom_kills_before = status.cgroup.oom_kills();
        Ok(Self { status, phase: Phase::Running, kill_at: None, surroundings, pumps, oom_kills_before })
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.status.pid)
    }

    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::try_from(signal)?;
        Ok(kill(self.pid(), signal)?)
    }

    /// Signals the main process now and everything once the grace is over.
    pub fn stop(&mut self, signal: i32, grace: Duration, now: Instant) {
        // A signal number that does not exist must not make a task unkillable.
        let _ = self.signal(signal);
        let at = now + grace;
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }

    /// SIGKILL to the main process, its group and its cgroup. Only while the main process is not reaped.
    pub fn kill_all(&self) {
        let _ = kill(self.pid(), Signal::SIGKILL);
        let _ = killpg(self.pid(), Signal::SIGKILL);
        self.status.cgroup.kill();
    }

    /// The main process ended (it is still a zombie): its leftovers go too.
    pub fn main_ended(&mut self, code: i32, signal: i32, now: Instant) {
        self.kill_all();
        let oom_killed = self.status.cgroup.oom_kills() > self.oom_kills_before;
        let exit = Exit { code, signal, oom_killed, at_unix_ns: unix_ns() };
        self.kill_at = None;
        self.phase = Phase::Draining { exit, until: now + DRAIN_MAX };
    }

    /// The next moment this task needs attention.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Running => self.kill_at,
            Phase::Draining { until, .. } => Some(*until),
            Phase::Ended => None,
        }
    }

    /// True once: when the exit may be recorded and told.
    pub fn try_end(&mut self, strays: bool, now: Instant) -> bool {
        let Phase::Draining { exit, until } = &self.phase else { return false };
        let busy = strays || self.pumps.iter().any(Option::is_some);
        if busy && now < *until {
            return false;
        }
        self.status.exit = Some(exit.clone());
        self.pumps = [None, None];
        self.phase = Phase::Ended;
        true
    }

    /// The open pipes, each with the index [`Task::pump`] takes.
    pub fn pipes(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.pumps.iter().enumerate().filter_map(|(i, p)| Some((i, p.as_ref()?.pipe.as_fd())))
    }

    /// Moves bytes from pipe `index` to its files until the pipe is empty or it was enough for one turn.
    pub fn pump(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(pump) = self.pumps[index].as_mut() else { return };
        if !pump.run(buffer) {
            self.pumps[index] = None;
        }
    }
}

impl Pump {
    /// False at the end of the stream.
    ///
    /// A read that fills the buffer usually ends within a line: the torn tail waits in the buffer for the
    /// read that follows at once, so that rotation finds line ends.
    fn run(&mut self, buffer: &mut [u8]) -> bool {
        let (mut kept, mut total) = (0, 0);
        let open = loop {
            match self.pipe.read(&mut buffer[kept..]) {
                Ok(0) => break false,
                Ok(n) => {
                    let filled = kept + n;
                    total += n;
                    let full = filled == buffer.len();
                    let end = buffer[..filled].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
                    let cut = if full && end > 0 && total < PUMP_BYTES_MAX { end } else { filled };
                    self.log.write(&buffer[..cut]);
                    buffer.copy_within(cut..filled, 0);
                    kept = filled - cut;
                    if total >= PUMP_BYTES_MAX {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.log.write(&buffer[..kept]);
        open
    }
}

fn open_logs(task: &str, files: &super::protocol::LogFiles) -> io::Result<[Rotator; 2]> {
    let open = |stream: &str| Rotator::open(&files.dir, &format!("{task}.{stream}"), files.max_files, files.max_bytes);
    Ok([open("stdout")?, open("stderr")?])
}

fn command_of(start: &StartTask, with_logs: bool) -> Command {
    let output = || if with_logs { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new(&start.command);
    command.args(&start.args).env_clear().envs(&start.env).current_dir(&start.cwd);
    command.stdin(Stdio::null()).stdout(output()).stderr(output()).process_group(0);
    if let Some(ids) = start.user {
        command.uid(ids.uid).gid(ids.gid);
    }
    command
}

/// A child inherits the mask of blocked signals: this supervisor's own must not be its.
///
/// A signal that comes while nothing is blocked is not missed: each turn of the loop looks at all children.
fn spawn_unblocked(command: &mut Command) -> io::Result<std::process::Child> {
    let blocked = SigSet::thread_get_mask()?;
    SigSet::empty().thread_set_mask()?;
    let spawned = command.spawn();
    blocked.thread_set_mask()?;
    spawned
}

fn make_pumps(pipes: [Option<OwnedFd>; 2], logs: Option<[Rotator; 2]>) -> io::Result<[Option<Pump>; 2]> {
    let Some([out, err]) = logs else { return Ok([None, None]) };
    let make = |pipe: Option<OwnedFd>, log: Rotator| -> io::Result<Option<Pump>> {
        let Some(pipe) = pipe else { return Ok(None) };
        let flags = rustix::fs::fcntl_getfl(&pipe)?;
        rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Some(Pump { pipe: pipe.into(), log }))
    };
    let [pipe_out, pipe_err] = pipes;
    Ok([make(pipe_out, out)?, make(pipe_err, err)?])
}

/// The task inherits the adjustment from the supervisor, which takes it back at once.
struct OomScore {
    before: Option<String>,
}

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

impl OomScore {
    fn set(value: i32) -> io::Result<Self> {
        if value == 0 {
            return Ok(Self { before: None });
        }
        let before = std::fs::read_to_string(OOM_SCORE)?;
        std::fs::write(OOM_SCORE, value.to_string())?;
        Ok(Self { before: Some(before) })
    }

    fn restore(self) {
        if let Some(before) = self.before {
            let _ = std::fs::write(OOM_SCORE, before.trim());
        }
    }
}

/// Where a task's state is kept: one file per task name, replaced as a whole.
pub(crate) fn state_file(dir: &Path, task: &str) -> std::path::PathBuf {
    let mut name = String::with_capacity(task.len() + 16);
    for byte in task.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    dir.join(format!("{name}.task.json"))
}

/// Writes the state so that a reader sees the old or the new, never half.
pub(super) fn save(dir: &Path, status: &TaskStatus) -> io::Result<()> {
    let file = state_file(dir, &status.task);
    let staged = file.with_extension("new");
    std::fs::write(&staged, serde_json::to_vec(status)?)?;
    std::fs::rename(staged, file)
}
