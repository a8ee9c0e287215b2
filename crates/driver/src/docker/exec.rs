//! Commands beside a container's main process, run by the daemon: with the container's user, environment,
//! directory and limits.

use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::engine::{sentence, timely};
use super::{Entry, Shared};
use crate::contract::{
    DriverError, EXEC_PIECE_BYTES, EXEC_QUEUE, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitResult,
};

/// The daemon says that a command has ended a moment after its output has.
const END_PAUSE: Duration = Duration::from_millis(20);
const END_TRIES: u32 = 250;
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
    let failed = |e: bollard::errors::Error| DriverError::Exec(sentence(&e));
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(request.tty),
        cmd: Some(request.command),
        ..ExecConfig::default()
    };
    let made = timely(shared.docker.create_exec(&entry.state.container, config)).await.map_err(failed)?;
    let options = StartExecOptions { detach: false, tty: request.tty, output_capacity: None };
    let begun = timely(shared.docker.start_exec(&made.id, Some(options))).await.map_err(failed)?;
    let StartExecResults::Attached { output, input } = begun else {
        return Err(DriverError::Exec("the daemon attached nothing".to_owned()));
    };
    let (input_tx, input_rx) = mpsc::channel(EXEC_QUEUE);
    let (output_tx, output_rx) = mpsc::channel(EXEC_QUEUE);
    let feeding = tokio::spawn(feed(Arc::clone(shared), made.id.clone(), input, input_rx));
    tokio::spawn(drain(Arc::clone(shared), made.id, output, output_tx, feeding.abort_handle()));
    Ok(ExecSession { input: input_tx, output: output_rx })
}

/// What goes in.
async fn feed(
    shared: Arc<Shared>,
    id: String,
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
            ExecInput::Resize { rows, columns } => resize(&shared, &id, rows, columns).await,
        }
    }
    let _ = stdin.shutdown().await;
    // The terminal may still change its size.
    while let Some(piece) = input.recv().await {
        if let ExecInput::Resize { rows, columns } = piece {
            resize(&shared, &id, rows, columns).await;
        }
    }
}

/// Gives the terminal its size, before anything that is typed after it. The daemon answers a start before the
/// command runs, and refuses sizes until then.
async fn resize(shared: &Shared, id: &str, height: u16, width: u16) {
    let mut pause = SIZE_PAUSE;
    for _ in 0..SIZE_TRIES {
        match timely(shared.docker.resize_exec(id, ResizeExecOptions { height, width })).await {
            Ok(()) => return,
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(SIZE_PAUSE_MAX);
    }
}

type Told = std::pin::Pin<Box<dyn futures::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// What comes out, and the end.
async fn drain(
    shared: Arc<Shared>,
    id: String,
    mut told: Told,
    output: mpsc::Sender<ExecOutput>,
    feeding: tokio::task::AbortHandle,
) {
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
        end(&shared, &id).await;
    } else {
        let last = match failure {
            Some(text) => ExecOutput::Failed(text),
            None => code_of(&shared, &id).await,
        };
        for piece in [ExecOutput::StdoutClosed, ExecOutput::StderrClosed, last] {
            let _ = output.send(piece).await;
        }
    }
    feeding.abort();
}

/// The daemon has no way to end a command: its process is killed, where the daemon is on this host.
async fn end(shared: &Shared, id: &str) {
    if let Ok(found) = timely(shared.docker.inspect_exec(id)).await
        && found.running == Some(true)
        && let Some(pid) = found.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1)
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

async fn code_of(shared: &Shared, id: &str) -> ExecOutput {
    for _ in 0..END_TRIES {
        match timely(shared.docker.inspect_exec(id)).await {
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
