//! What agent and supervisor say to each other: one JSON document per line on a unix socket.
//!
//! The agent sends [`Call`]s and gets one [`Line::Reply`] for each, in order. After
//! [`Request::Subscribe`] the same connection also carries [`Line::Exit`], first for every task that
//! has ended and was not acknowledged, then for each task as it ends.
//!
//! A supervisor outlives the agent that started it, so both sides must take what an older or newer
//! twin sends: fields are only ever added, and every added field has a default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The revision of this protocol, told by [`Reply::Hello`].
pub const VERSION: u32 = 2;
/// The longest line either side accepts.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// One request with the number its reply will carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    pub id: u64,
    pub request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    Hello,
    Start(Box<StartTask>),
    /// Sends a signal to the task's main process.
    Signal {
        task_id: String,
        signal: i32,
    },
    /// Sends `signal`, and SIGKILL to everything of the task once `grace_ms` have passed.
    Kill {
        task_id: String,
        signal: i32,
        grace_ms: u64,
    },
    Status,
    Subscribe,
    /// What a command needs to run as the task does. Since revision 2.
    Surroundings {
        task_id: String,
    },
    /// The exit has been recorded elsewhere: the supervisor may forget the task.
    Ack {
        task_id: String,
    },
    /// Ends the supervisor. Refused while a task lives.
    Shutdown,
}

/// Everything the supervisor needs to run one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StartTask {
    /// New on every start: `<alloc>/<task>/<suffix>`.
    pub task_id: String,
    /// The task's name: names its log and state files.
    pub task: String,
    pub command: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
    pub user: Option<Ids>,
    /// Zero leaves the inherited value.
    pub oom_score_adj: i32,
    pub logs: Option<LogFiles>,
    /// `cgroup.procs` files the task's first process is put in.
    pub cgroup: crate::cgroup::Scope,
    /// The network namespace to run in; the supervisor's own unless given.
    #[serde(default)]
    pub netns: Option<PathBuf>,
}

/// Where and as whom a task was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Surroundings {
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
    pub user: Option<Ids>,
    pub netns: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// Where output goes and how much of it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFiles {
    pub dir: PathBuf,
    pub max_files: u32,
    pub max_bytes: u64,
}

/// What is known of one task. Also the content of its state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskStatus {
    pub task_id: String,
    pub task: String,
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: with the pid it names one process of this boot.
    pub start_ticks: u64,
    pub started_at_unix_ns: i64,
    pub cgroup: crate::cgroup::Scope,
    pub exit: Option<Exit>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// 128 + signal when a signal ended it.
    pub code: i32,
    pub signal: i32,
    pub oom_killed: bool,
    pub at_unix_ns: i64,
}

/// One line from the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    Reply { id: u64, reply: Reply },
    Exit { status: TaskStatus },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reply {
    Done,
    Hello { version: u32, pid: u32 },
    Started { status: TaskStatus },
    Tasks { tasks: Vec<TaskStatus> },
    Surroundings { surroundings: Surroundings },
    Refused { code: Refusal, message: String },
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No such task, or it has ended.
    NotFound,
    /// The task, or another one of the same name, lives.
    AlreadyRunning,
    /// The program could not be started.
    Spawn,
    /// The request makes no sense.
    Malformed,
    /// A limit is reached.
    Limit,
}
