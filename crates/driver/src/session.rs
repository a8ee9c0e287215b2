//! A command beside a task of the host: as the task's user, with its environment, in its directory and cgroup.
//!
//! ```text
//!   agent ── spawn ──► <program> supervise --session SPEC COMMAND…        (one thread, few lines)
//!                         own session, terminal, cgroup, user ── exec ──► COMMAND
//!   input ──────────────► stdin  ┐ pipes, or one terminal
//!   output ◄── stdout, stderr ───┘
//! ```
//!
//! The program between is there because joining a cgroup is something a whole process does: an agent with
//! many threads cannot do it for a child. Secrets are in the environment only, never among the arguments.
//!
//! Invariants
//! * The command leads a session and a process group of its own. When the caller goes away, the task ends, or
//!   the agent does, the group is killed.
//! * It is signalled only while it is not reaped, so its number cannot be somebody else's.
//! * [`ExecOutput::Exited`] follows everything the command wrote before its end, however slowly it is taken; a
//!   stray that holds the pipe open is not waited for once it was silent for [`DRAIN`].
//!
//! Driven by the agent, one async task per session, which ends with it. What fails after the beginning is a
//! code of the command's (126, 127) and a sentence on its stderr, as in a shell.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::cgroup::Scope;
use crate::contract::{
    DriverError, EXEC_PIECE_BYTES, EXEC_QUEUE, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitResult,
};
use crate::supervisor::client::Launch;
use crate::supervisor::protocol::{Ids, Surroundings};

/// The word that makes the supervisor's program a session.
pub const FLAG: &str = "--session";
/// After the command's end, a pipe that is silent for this long is held by somebody else.
const DRAIN: Duration = Duration::from_millis(300);
/// No pipe holds more than this: what comes after it was written after the command's end.
const DRAIN_BYTES_MAX: usize = 1 << 20;
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// What the program between is told. No secrets: arguments can be read by others.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Spec {
    cgroup: Scope,
    user: Option<Ids>,
    tty: bool,
    netns: Option<PathBuf>,
}

/// Becomes the command: `SPEC COMMAND ARGS…`. Comes back only if that cannot be done.
///
/// Call it first thing in `main`, before threads exist.
pub(crate) fn enter(words: &[OsString]) -> ExitCode {
    let [spec, command, args @ ..] = words else {
        crate::supervisor::note(&format!("usage: supervise {FLAG} SPEC COMMAND…"));
        return ExitCode::from(2);
    };
    let (error, what) = match become_command(spec, command, args) {
        Ok(error) => (error, "run"),
        Err(error) => (error, "prepare"),
    };
    crate::supervisor::note(&format!("cannot {what} {}: {error}", command.to_string_lossy()));
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}

/// The error of `exec`, or of what comes before.
fn become_command(spec: &OsString, command: &OsString, args: &[OsString]) -> io::Result<io::Error> {
    let spec: Spec = serde_json::from_str(&spec.to_string_lossy())?;
    crate::signals::ignore_none()?;
    rustix::process::setsid()?;
    if spec.tty {
        rustix::process::ioctl_tiocsctty(io::stdin())?;
    }
    spec.cgroup.enter()?;
    if let Some(path) = &spec.netns {
        crate::netns::enter(path)?;
    }
    let mut program = std::process::Command::new(command);
    program.args(args);
    if let Some(Ids { uid, gid }) = spec.user {
        program.uid(uid).gid(gid);
    }
    Ok(program.exec())
}

/// Everything a session is begun with.
pub(crate) struct Begin<'a> {
    pub launch: &'a Launch,
    pub around: Surroundings,
    pub cgroup: Scope,
    pub request: ExecRequest,
    /// The task's end, which ends the session too.
    pub task: watch::Receiver<Option<ExitResult>>,
}

/// Starts the command.
///
/// # Errors
/// There is no such program, or it could not be started.
pub(crate) fn begin(begin: Begin<'_>) -> Result<ExecSession, DriverError> {
    let Begin { launch, around, cgroup, request, task } = begin;
    let fail = |error: io::Error| DriverError::Exec(error.to_string());
    let Some((program, _)) = request.command.split_first() else {
        return Err(DriverError::Exec("command is empty".to_owned()));
    };
    if look_up(program, &around).is_none() {
        return Err(DriverError::Exec(format!("{program:?}: executable file not found in $PATH")));
    }
    let spec = Spec { cgroup, user: around.user, tty: request.tty, netns: around.netns.clone() };
    let spec = serde_json::to_string(&spec).map_err(|e| fail(e.into()))?;
    let mut command = Command::new(&launch.program);
    command.args(&launch.args).arg(FLAG).arg(spec).args(&request.command);
    command.env_clear().envs(&around.env).current_dir(&around.cwd).kill_on_drop(true);
    let (input_sender, input) = mpsc::channel(EXEC_QUEUE);
    let (output, output_receiver) = mpsc::channel(EXEC_QUEUE);
    let io = if request.tty {
        let (io, slave) = terminal(around.user).map_err(fail)?;
        let end = || slave.try_clone().map(Stdio::from);
        command.stdin(end().map_err(fail)?).stdout(end().map_err(fail)?).stderr(Stdio::from(slave));
        io
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Io::Pipes
    };
    let child = command.spawn().map_err(fail)?;
    // The terminal's other end must be held by the command alone, or its end is never seen.
    drop(command);
    tokio::spawn(run(child, io, input, output, task));
    Ok(ExecSession { input: input_sender, output: output_receiver })
}

enum Io {
    Pipes,
    Terminal { read: pipe::Receiver, write: pipe::Sender, master: OwnedFd },
}

/// A new terminal: our end, and the command's.
fn terminal(user: Option<Ids>) -> io::Result<(Io, OwnedFd)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let slave = rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    if let Some(Ids { uid, gid }) = user {
        let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
        rustix::fs::fchown(&slave, Some(uid), Some(gid))?;
    }
    let flags = rustix::fs::fcntl_getfl(&master)?;
    rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
    // To the runtime it is as good as a pipe.
    let read = pipe::Receiver::from_file_unchecked(File::from(master.try_clone()?))?;
    let write = pipe::Sender::from_file_unchecked(File::from(master.try_clone()?))?;
    Ok((Io::Terminal { read, write, master }, slave))
}

/// Where the program is, as the command will find it.
fn look_up(program: &str, around: &Surroundings) -> Option<PathBuf> {
    let there = |path: PathBuf| path.is_file().then_some(path);
    if program.contains('/') {
        return there(around.cwd.join(program));
    }
    let path = around.env.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    path.split(':').find_map(|dir| there(around.cwd.join(dir).join(program)))
}

/// Kills the group of a session that is not over when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(pid) = self.0 {
            let _ = killpg(pid, Signal::SIGKILL);
            // Before it leads a group it is only itself.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn run(
    mut child: Child,
    io: Io,
    input: mpsc::Receiver<ExecInput>,
    output: mpsc::Sender<ExecOutput>,
    mut task: watch::Receiver<Option<ExitResult>>,
) {
    let mut group = Group::of(&child);
    let mut pumps = JoinSet::new();
    let ended = watch::Sender::new(false);
    let left = || Left { ended: ended.subscribe(), bytes: DRAIN_BYTES_MAX };
    let feeding = match io {
        Io::Pipes => {
            if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
                pumps.spawn(pump(out, output.clone(), ExecOutput::Stdout, ExecOutput::StdoutClosed, left()));
                pumps.spawn(pump(err, output.clone(), ExecOutput::Stderr, ExecOutput::StderrClosed, left()));
            }
            tokio::spawn(feed(child.stdin.take(), None, input))
        }
        Io::Terminal { read, write, master } => {
            pumps.spawn(pump(read, output.clone(), ExecOutput::Stdout, ExecOutput::StdoutClosed, left()));
            tokio::spawn(feed(Some(write), Some(master), input))
        }
    };
    let by_itself = tokio::select! {
        status = child.wait() => Some(status),
        () = output.closed() => None,
        _ = task.wait_for(Option::is_some) => None,
    };
    let status = match by_itself {
        Some(status) => status,
        None => {
            group.kill();
            child.wait().await
        }
    };
    group.0 = None;
    feeding.abort();
    ended.send_replace(true);
    while pumps.join_next().await.is_some() {}
    let last = match status {
        Ok(status) => ExecOutput::Exited(result_of(status)),
        Err(error) => ExecOutput::Failed(error.to_string()),
    };
    let _ = output.send(last).await;
}

fn result_of(status: ExitStatus) -> ExitResult {
    let signal = status.signal().unwrap_or(0);
    ExitResult { code: status.code().unwrap_or(128 + signal), signal, ..ExitResult::default() }
}

/// How much a pump still reads once the command has ended.
struct Left {
    ended: watch::Receiver<bool>,
    bytes: usize,
}

impl Left {
    /// Comes back when the command has ended and nothing was read for a while.
    async fn silence(&mut self) {
        if self.ended.wait_for(|ended| *ended).await.is_ok() {
            tokio::time::sleep(DRAIN).await;
        }
    }

    /// Whether to go on after reading so much.
    fn goes_on(&mut self, read: usize) -> bool {
        if *self.ended.borrow() {
            self.bytes = self.bytes.saturating_sub(read);
        }
        self.bytes > 0
    }
}

async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    output: mpsc::Sender<ExecOutput>,
    piece: fn(Vec<u8>) -> ExecOutput,
    closed: ExecOutput,
    mut left: Left,
) {
    let mut buffer = vec![0; EXEC_PIECE_BYTES];
    loop {
        let read = tokio::select! {
            read = pipe.read(&mut buffer) => read,
            () = left.silence() => break,
        };
        let Ok(read @ 1..) = read else { break };
        if output.send(piece(buffer[..read].to_vec())).await.is_err() {
            return;
        }
        if !left.goes_on(read) {
            break;
        }
    }
    let _ = output.send(closed).await;
}

/// Carries input to the command. `terminal` is what has a size.
async fn feed(stdin: Option<impl AsyncWrite + Unpin>, terminal: Option<OwnedFd>, mut input: mpsc::Receiver<ExecInput>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(piece) = input.recv().await {
        let done = match (piece, &terminal) {
            (ExecInput::Stdin(data), _) => stdin.write_all(&data).await,
            (ExecInput::StdinClosed, None) => break,
            // Terminals have no end of input but the character for it, at the beginning of a line.
            (ExecInput::StdinClosed, Some(_)) => stdin.write_all(&[0x04]).await,
            (ExecInput::Resize { rows, columns }, Some(terminal)) => {
                let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(terminal, size).map_err(io::Error::from)
            }
            (ExecInput::Resize { .. }, None) => Ok(()),
        };
        if done.is_err() {
            break;
        }
    }
    drop(stdin);
    // What comes after is taken and dropped, so that the sender is not held up.
    while input.recv().await.is_some() {}
}

/// What a supervisor that is older than sessions does not tell: the main process's own account of it.
pub(crate) fn surroundings_of(pid: i32) -> io::Result<Surroundings> {
    use std::os::unix::fs::MetadataExt as _;
    let at = |name: &str| Path::new("/proc").join(pid.to_string()).join(name);
    let environ = std::fs::read(at("environ"))?;
    let pairs = environ.split(|b| *b == 0).filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='));
    let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let meta = File::open(at("status"))?.metadata()?;
    let user = (meta.uid() != rustix::process::geteuid().as_raw()).then(|| Ids { uid: meta.uid(), gid: meta.gid() });
    Ok(Surroundings { env, cwd: std::fs::read_link(at("cwd"))?, user, netns: None })
}
