//! Commands beside a container's main process, run by the daemon: with the container's user, environment,
//! directory and limits.
//!
//! Invariants
//! * A command that nobody watches any more ends, however early its watcher went, and with it what belongs to its
//!   session: the daemon answers a start before it begins the command, and knows the command's process a moment later
//!   still. It has no call that ends a command, so processes are killed here. Where they cannot be seen (the daemon is
//!   on another host, or the agent has a process namespace of its own), the command loses its input only.
//! * No process outside the container is ever signalled.

use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, ExecInspectResponse};
use futures::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::engine::{Meaning, meaning, sentence, timely};
use super::{Entry, Shared};
use crate::contract::{
    DriverError, EXEC_PIECE_BYTES, EXEC_QUEUE, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitResult,
};
use crate::procfs::{self, Stat};

/// The daemon says that a command has ended a moment after its output has.
const END_PAUSE: Duration = Duration::from_millis(20);
const END_TRIES: u32 = 250;
/// How long the end of a command that nobody watches is worked at.
const END_MAX: Duration = Duration::from_secs(60);
const END_PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many looks in vain for a process that the daemon names; it may just have ended at one of them.
const UNSEEN_MAX: u32 = 3;
const SIZE_PAUSE: Duration = Duration::from_millis(5);
const SIZE_PAUSE_MAX: Duration = Duration::from_millis(100);
const SIZE_TRIES: u32 = 20;

/// Begins a command.
pub(super) async fn begin(
    shared: &Arc<Shared>,
    entry: &Entry,
    request: ExecRequest,
) -> Result<ExecSession, DriverError> {
    if entry.exit.borrow().is_some() {
        return Err(DriverError::Exec("the task is not running".to_owned()));
    }
    // A caller that goes away meanwhile leaves a session that nobody watches, not a command that nobody knows.
    let beginning = tokio::spawn(begin_whole(Arc::clone(shared), entry.state.container.clone(), request));
    beginning.await.map_err(|e| DriverError::Exec(e.to_string()))?
}

async fn begin_whole(shared: Arc<Shared>, container: String, request: ExecRequest) -> Result<ExecSession, DriverError> {
    let failed = |e: bollard::errors::Error| DriverError::Exec(sentence(&e));
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(request.tty),
        cmd: Some(request.command),
        ..ExecConfig::default()
    };
    let made = timely(shared.docker.create_exec(&container, config)).await.map_err(failed)?;
    let options = StartExecOptions { detach: false, tty: request.tty, output_capacity: None };
    let begun = timely(shared.docker.start_exec(&made.id, Some(options))).await;
    let command = Command { shared, container, id: made.id };
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) => {
            if meaning(&error) == Meaning::Unreachable {
                // It may begin all the same.
                tokio::spawn(async move { command.end().await });
            }
            return Err(failed(error));
        }
    };
    let StartExecResults::Attached { output, input } = begun else {
        return Err(DriverError::Exec("the daemon attached nothing".to_owned()));
    };
    let (input_tx, input_rx) = mpsc::channel(EXEC_QUEUE);
    let (output_tx, output_rx) = mpsc::channel(EXEC_QUEUE);
    let feeding = tokio::spawn(feed(command.clone(), input, input_rx));
    tokio::spawn(drain(command, output, output_tx, feeding.abort_handle()));
    Ok(ExecSession { input: input_tx, output: output_rx })
}

/// A command as the daemon knows it.
#[derive(Clone)]
struct Command {
    shared: Arc<Shared>,
    container: String,
    id: String,
}

/// What goes in.
async fn feed(
    command: Command,
    mut stdin: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
    mut input: mpsc::Receiver<ExecInput>,
) {
    while let Some(piece) = input.recv().await {
        match piece {
            ExecInput::Stdin(bytes) => {
                if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                    break;
                }
            }
            ExecInput::StdinClosed => break,
            ExecInput::Resize { rows, columns } => command.resize(rows, columns).await,
        }
    }
    let _ = stdin.shutdown().await;
    // The terminal may still change its size.
    while let Some(piece) = input.recv().await {
        if let ExecInput::Resize { rows, columns } = piece {
            command.resize(rows, columns).await;
        }
    }
}

type Told = std::pin::Pin<Box<dyn futures::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// What comes out, and the end.
async fn drain(command: Command, mut told: Told, output: mpsc::Sender<ExecOutput>, feeding: tokio::task::AbortHandle) {
    let mut failure = None;
    loop {
        let item = tokio::select! {
            item = told.next() => item,
            () = output.closed() => break,
        };
        let (bytes, err) = match item {
            None => break,
            Some(Err(error)) => {
                failure = Some(sentence(&error));
                break;
            }
            Some(Ok(LogOutput::StdErr { message })) => (message, true),
            Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message })) => {
                (message, false)
            }
        };
        for piece in bytes.chunks(EXEC_PIECE_BYTES) {
            let piece = if err { ExecOutput::Stderr(piece.to_vec()) } else { ExecOutput::Stdout(piece.to_vec()) };
            if output.send(piece).await.is_err() {
                break;
            }
        }
    }
    if output.is_closed() {
        // Nobody watches any more.
        command.end().await;
    } else {
        let last = match failure {
            Some(text) => ExecOutput::Failed(text),
            None => command.code().await,
        };
        let lost = matches!(last, ExecOutput::Failed(_));
        for piece in [ExecOutput::StdoutClosed, ExecOutput::StderrClosed, last] {
            let _ = output.send(piece).await;
        }
        if lost {
            command.end().await;
        }
    }
    feeding.abort();
}

impl Command {
    async fn inspect(&self) -> Result<ExecInspectResponse, bollard::errors::Error> {
        timely(self.shared.docker.inspect_exec(&self.id)).await
    }

    /// Gives the terminal its size, before anything that is typed after it. The daemon answers a start before the
    /// command runs, and refuses sizes until then.
    async fn resize(&self, height: u16, width: u16) {
        let mut pause = SIZE_PAUSE;
        for _ in 0..SIZE_TRIES {
            match timely(self.shared.docker.resize_exec(&self.id, ResizeExecOptions { height, width })).await {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(SIZE_PAUSE_MAX);
        }
    }

    /// Kills it, and comes back when the daemon says that it has ended.
    async fn end(&self) {
        let (mut began, mut unseen) = (false, 0);
        let killing = async {
            let mut pause = END_PAUSE;
            while unseen < UNSEEN_MAX {
                match self.inspect().await {
                    // One that has not begun does not run either; it has no exit code.
                    Ok(found) if found.running != Some(true) && found.exit_code.is_some() => return,
                    Ok(found) => {
                        if let Some(pid) = found.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1) {
                            began = true;
                            unseen += u32::from(!self.kill(pid));
                        }
                    }
                    Err(error) if meaning(&error) == Meaning::NotFound => return,
                    Err(_) => {}
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(END_PAUSE_MAX);
            }
        };
        let ended = tokio::time::timeout(END_MAX, killing).await.is_ok();
        if !ended && began {
            tracing::warn!(container = self.container, "a command that nobody watches could not be ended");
        }
    }

    /// Kills a process of the container and the others of its session. False when it cannot be seen from here.
    fn kill(&self, pid: i32) -> bool {
        if !self.holds(pid) {
            return false;
        }
        let of_session = |stat: &Stat| stat.session == pid && self.holds(stat.pid);
        let others = procfs::pids().into_iter().filter_map(procfs::stat).filter(of_session).map(|stat| stat.pid);
        for one in others.chain([pid]) {
            let _ = kill(Pid::from_raw(one), Signal::SIGKILL);
        }
        true
    }

    fn holds(&self, pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(&self.container))
    }

    async fn code(&self) -> ExecOutput {
        for _ in 0..END_TRIES {
            match self.inspect().await {
                Ok(found) if found.running == Some(true) => tokio::time::sleep(END_PAUSE).await,
                Ok(found) => {
                    let code = found.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
                    return ExecOutput::Exited(ExitResult { code, ..ExitResult::default() });
                }
                Err(error) => return ExecOutput::Failed(sentence(&error)),
            }
        }
        ExecOutput::Failed("the command closed its output and goes on running".to_owned())
    }
}
