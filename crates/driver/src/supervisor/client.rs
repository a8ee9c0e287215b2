//! The agent's side of the control socket.
//!
//! One connection per allocation, owned by one task ([`Attached`]): callers send it requests through a
//! bounded queue, exits come out through the channel the driver gives.
//! When the connection breaks, everything waiting gets [`ClientError::Gone`] and the driver hears [`Notice::Gone`] once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::protocol::{Call, LINE_BYTES_MAX, Line, Refusal, Reply, Request, TaskStatus};
use super::{LOG_NAME, SOCKET_NAME, task};

/// Requests waiting for the connection.
const QUEUE: usize = 16;
const CALL_MAX: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 4 << 10;
/// More than a task's state takes.
const ROOM_BYTES: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the supervisor is gone")]
    Gone,
    #[error("the supervisor did not answer in time")]
    Timeout,
    #[error("supervisor refused: {message}")]
    Refused { code: Refusal, message: String },
    #[error("the supervisor answered something else than was asked")]
    Confused,
    #[error("failed to start the supervisor")]
    Spawn(#[source] io::Error),
    #[error("there is no room for the task's state")]
    NoRoom(#[source] io::Error),
    #[error("failed to reach the supervisor's directory")]
    Dir(#[source] io::Error),
}

/// How a supervisor is started: `<program> <args…> <dir>`.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

impl Default for Launch {
    /// This very program: after an upgrade of the file on disk, versions still do not mix.
    fn default() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), args: vec![OsString::from("supervise")] }
    }
}

/// What a connection tells its owner without being asked.
#[derive(Debug)]
pub enum Notice {
    Exit(TaskStatus),
    /// The connection broke. Nothing follows.
    Gone,
}

/// A live connection to one allocation's supervisor.
#[derive(Clone, Debug)]
pub struct Attached {
    queue: mpsc::Sender<(Request, oneshot::Sender<Reply>)>,
}

impl Attached {
    /// Connects to the supervisor of `dir`. [`ClientError::Gone`] when none is there.
    pub async fn connect(dir: &Path, notices: mpsc::Sender<Notice>) -> Result<Self, ClientError> {
        let home = open_dir(dir)?;
        // A socket path has 107 bytes at most; the handle makes any directory's path short.
        let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", home.as_raw_fd());
        let stream = UnixStream::connect(path).await.map_err(|_| ClientError::Gone)?;
        let (queue, requests) = mpsc::channel(QUEUE);
        tokio::spawn(converse(stream, requests, notices));
        let attached = Self { queue };
        attached.ask(Request::Subscribe).await?;
        Ok(attached)
    }

    /// Starts a supervisor for `dir` and connects to it.
    pub async fn launch(dir: &Path, launch: &Launch, notices: mpsc::Sender<Notice>) -> Result<Self, ClientError> {
        let mut child = spawn(dir, launch).map_err(ClientError::Spawn)?;
        // Reaped here while this agent lives, by init afterwards.
        tokio::spawn(async move { child.wait().await });
        Self::connect(dir, notices).await
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&self, request: Request) -> Result<Reply, ClientError> {
        let (tx, rx) = oneshot::channel();
        let exchange = async {
            self.queue.send((request, tx)).await.map_err(|_| ClientError::Gone)?;
            rx.await.map_err(|_| ClientError::Gone)
        };
        match tokio::time::timeout(CALL_MAX, exchange).await {
            Err(_) => Err(ClientError::Timeout),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Reply::Refused { code, message })) => Err(ClientError::Refused { code, message }),
            Ok(Ok(reply)) => Ok(reply),
        }
    }

    pub fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }
}

/// What the supervisor of `dir` wrote last about `task`, whether or not it lives.
pub fn saved_status(dir: &Path, task_name: &str) -> Option<TaskStatus> {
    let bytes = std::fs::read(task::state_file(dir, task_name)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Everything supervisors of `dir` wrote.
pub fn saved_statuses(dir: &Path) -> Vec<TaskStatus> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let files = entries.flatten().map(|e| e.path()).filter(|p| p.to_string_lossy().ends_with(".task.json"));
    files.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
}

/// Whether what a supervisor keeps of a task can be written: asked before anything runs, for a task without
/// it is lost to the next agent.
///
/// # Errors
/// It cannot.
pub fn room(dir: &Path) -> Result<(), ClientError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let probe = dir.join("room");
    let tried = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let tried = tried.and_then(|()| std::fs::write(&probe, [0; ROOM_BYTES]));
    let _ = std::fs::remove_file(&probe);
    tried.map_err(ClientError::NoRoom)
}

fn open_dir(dir: &Path) -> Result<OwnedFd, ClientError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| ClientError::Dir(e.into()))
}

fn spawn(dir: &Path, launch: &Launch) -> io::Result<tokio::process::Child> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let home = open_dir(dir).map_err(io::Error::other)?;
    match rustix::fs::unlinkat(&home, SOCKET_NAME, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let listener = StdListener::bind(format!("/proc/self/fd/{}/{SOCKET_NAME}", home.as_raw_fd()))?;
    let log = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join(LOG_NAME))?;
    tokio::process::Command::new(&launch.program)
        .args(&launch.args)
        .arg(dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .kill_on_drop(false)
        .spawn()
}

/// Owns the connection: one request after the other goes out, replies and exits come in.
async fn converse(
    stream: UnixStream,
    mut requests: mpsc::Receiver<(Request, oneshot::Sender<Reply>)>,
    notices: mpsc::Sender<Notice>,
) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::with_capacity(BUFFER_BYTES, read);
    let mut waiting: HashMap<u64, oneshot::Sender<Reply>> = HashMap::new();
    let (mut next_id, mut partial) = (1_u64, Vec::new());
    loop {
        tokio::select! {
            request = requests.recv() => {
                // This side lets go: the supervisor and its tasks stay.
                let Some((request, answer)) = request else { return };
                let Ok(mut bytes) = serde_json::to_vec(&Call { id: next_id, request }) else { continue };
                bytes.push(b'\n');
                if bytes.len() > LINE_BYTES_MAX {
                    let message = "request is too large".to_owned();
                    let _ = answer.send(Reply::Refused { code: Refusal::Limit, message });
                    continue;
                }
                waiting.retain(|_, w| !w.is_closed());
                waiting.insert(next_id, answer);
                next_id += 1;
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            line = read_line(&mut lines, &mut partial) => {
                match line {
                    Some(Line::Reply { id, reply }) => {
                        if let Some(answer) = waiting.remove(&id) {
                            let _ = answer.send(reply);
                        }
                    }
                    Some(Line::Exit { status }) => {
                        if notices.send(Notice::Exit(status)).await.is_err() {
                            break;
                        }
                    }
                    None => break,
                }
            }
        }
    }
    drop((requests, waiting));
    let _ = notices.send(Notice::Gone).await;
}

/// Cancel-safe: what was read stays in `partial`.
async fn read_line(reader: &mut BufReader<impl AsyncRead + Unpin>, partial: &mut Vec<u8>) -> Option<Line> {
    let room = (LINE_BYTES_MAX + 1).saturating_sub(partial.len());
    let read = reader.take(u64::try_from(room).ok()?).read_until(b'\n', partial).await.ok()?;
    if read == 0 || partial.last() != Some(&b'\n') {
        return None;
    }
    let line = serde_json::from_slice(partial).ok();
    partial.clear();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_looked_for_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("a/b");
        room(&home).unwrap();
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(room(&file), Err(ClientError::NoRoom(_))));
    }
}
