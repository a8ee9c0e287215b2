//! `alloc exec` and `job action`: a command beside a task, with this terminal or these streams as its own.
//!
//! ```text
//!   stdin ─ escape ─► {"stdin":…} ─┐                ┌─► stdout, stderr
//!   SIGWINCH ─► {"tty_size":…} ────┼─► websocket ─► frames
//!   every 10 s ─► {} ──────────────┘                └─► {"exited":true,…} ─► exit code
//! ```
//!
//! The exit code is the command's own, and 1 when there was none: the session broke or was ended by `~.`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::public::{Heard, Query, WebReceiver, WebSender};
use model::alloc::AllocStub;
use serde::Deserialize;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::alloc_act::{found, whole};
use super::alloc_logs::{of_job, task_named};
use super::{Cx, Failure, job_status, lookup};
use crate::format::{row, table};
use crate::terminal::{self, Escape, Raw, Typed};

const BEAT: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Frame {
    stdout: Option<Piece>,
    stderr: Option<Piece>,
    exited: bool,
    result: Option<Exit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Piece {
    data: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Exit {
    exit_code: i64,
}

/// How a session is used.
struct Manner {
    tty: bool,
    stdin: bool,
    escape: Escape,
}

fn manner(cx: &Cx) -> Result<Manner, Failure> {
    let stdin = cx.flags.is("i");
    let tty = match cx.flags.some("t") {
        Some(_) => cx.flags.is("t"),
        None => stdin && terminal::both_are_terminals(),
    };
    if tty && !stdin {
        return Err(Failure::new("-i must be enabled if running with tty"));
    }
    let escape = Escape::parse(cx.flags.text("e")).map_err(Failure::new)?;
    Ok(Manner { tty, stdin, escape })
}

pub async fn exec(cx: &mut Cx) -> Result<u8, Failure> {
    let manner = manner(cx)?;
    let alloc = if cx.flags.is("job") {
        let id = of_job(cx).await?;
        whole(cx, &id).await?
    } else {
        found(cx, cx.arg(0)).await?
    };
    let task = task_named(cx.flags.some("task"), cx.verbose(), &alloc)?;
    let words = cx.flags.args.get(1..).unwrap_or_default();
    let query = cx
        .within(alloc.namespace.as_str())
        .with("task", task)
        .with("tty", manner.tty.to_string())
        .with("command", json!(words).to_string());
    session(cx, &format!("/v1/client/allocation/{}/exec", alloc.id), query, manner).await
}

pub async fn action(cx: &mut Cx) -> Result<u8, Failure> {
    let manner = manner(cx)?;
    let job = cx.flags.some("job").ok_or_else(|| {
        Failure::new("A job ID is required")
            .hint("-job names the job; `steppe job action -job <job>` lists its actions")
    })?;
    let job = lookup::job(cx, job).await?;
    let Some(action) = cx.flags.args.first().cloned() else {
        let actions: Vec<serde_json::Value> = job_status::about(cx, &job.id, &job.namespace, "/actions").await?;
        let mut rows = vec![row(["Name", "Task Group", "Task", "Command"])];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        rows.extend(
            actions.iter().map(|a| ["Name", "TaskGroupName", "TaskName", "Command"].map(|n| text(&a[n])).to_vec()),
        );
        let listed = if actions.is_empty() { "The job has no actions".to_owned() } else { table(&rows) };
        cx.ui.line(listed);
        return Ok(0);
    };
    let mut query = cx.within(&job.namespace).with("action", action).with("tty", manner.tty.to_string());
    if let Some(alloc) = cx.flags.some("alloc") {
        let alloc: AllocStub = lookup::one(cx, alloc).await?;
        query = query.with("allocID", alloc.id.as_str());
    }
    for name in ["group", "task"] {
        if let Some(value) = cx.flags.some(name) {
            query = query.with(name, value);
        }
    }
    let path = format!("/v1/job/{}/action", client::public::segment(&job.id));
    session(cx, &path, query, manner).await
}

async fn session(cx: &mut Cx, path: &str, query: Query, manner: Manner) -> Result<u8, Failure> {
    let opened = cx.client.websocket(path, &query).await;
    let (sender, mut receiver) = opened.map_err(|error| Failure::api("failed to exec into task", &error))?;
    let _raw = if manner.tty { Raw::enter().ok() } else { None };
    let talk = Talk {
        sender,
        input: if manner.stdin { terminal::input() } else { mpsc::channel(1).1 },
        resized: manner.tty.then(|| signal(SignalKind::window_change()).ok()).flatten(),
        manner,
    };
    tokio::select! {
        ended = listen(cx, &mut receiver) => ended,
        () = talk.run() => Ok(1),
    }
}

/// Prints what comes, until the command's end.
async fn listen(cx: &mut Cx, receiver: &mut WebReceiver) -> Result<u8, Failure> {
    loop {
        let text = match receiver.next().await {
            Heard::Text(text) => text,
            Heard::Closed { reason, .. } if reason.is_empty() => {
                return Err(Failure::new("failed to exec into task: the session ended without a result"));
            }
            Heard::Closed { reason, .. } => return Err(Failure::new(format!("failed to exec into task: {reason}"))),
            Heard::Lost(text) => return Err(Failure::new(format!("failed to exec into task: {text}"))),
        };
        let frame: Frame = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("failed to exec into task: a frame cannot be read: {error}")))?;
        let bytes = |piece: &Piece| STANDARD.decode(&piece.data).unwrap_or_default();
        if let Some(piece) = &frame.stdout {
            cx.ui.raw(&bytes(piece));
        }
        if let Some(piece) = &frame.stderr {
            cx.ui.raw_err(&bytes(piece));
        }
        if frame.exited {
            let code = frame.result.unwrap_or_default().exit_code;
            return Ok(u8::try_from(code & 0xff).unwrap_or(1));
        }
    }
}

/// The direction to the command.
struct Talk {
    sender: WebSender,
    input: mpsc::Receiver<Vec<u8>>,
    resized: Option<Signal>,
    manner: Manner,
}

impl Talk {
    /// Comes back when the escape was typed.
    async fn run(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.reset();
        self.size().await;
        let mut open = true;
        loop {
            tokio::select! {
                piece = self.input.recv(), if open => match piece {
                    Some(piece) => {
                        if self.typed(&piece).await {
                            return;
                        }
                    }
                    None => {
                        open = false;
                        self.say(json!({"stdin": {"close": true}})).await;
                    }
                },
                _ = changed(&mut self.resized) => self.size().await,
                _ = beat.tick() => self.say(json!({})).await,
            }
        }
    }

    /// True when the session is to end.
    async fn typed(&mut self, piece: &[u8]) -> bool {
        let typed = if self.manner.tty { self.manner.escape.take(piece) } else { Typed::Bytes(piece.to_vec()) };
        let (bytes, end) = match typed {
            Typed::Bytes(bytes) => (bytes, false),
            Typed::End(bytes) => (bytes, true),
        };
        if !bytes.is_empty() {
            self.say(json!({"stdin": {"data": STANDARD.encode(bytes)}})).await;
        }
        if end {
            self.sender.close().await;
        }
        end
    }

    async fn size(&mut self) {
        if let Some((height, width)) = terminal::size().filter(|_| self.manner.tty) {
            self.say(json!({"tty_size": {"height": height, "width": width}})).await;
        }
    }

    /// A connection that is over is noticed by whoever listens.
    async fn say(&mut self, frame: serde_json::Value) {
        if !self.sender.send(frame.to_string()).await {
            std::future::pending::<()>().await;
        }
    }
}

async fn changed(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
