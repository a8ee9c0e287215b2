//! Commands beside tasks, by websocket: `alloc exec` and job actions.
//!
//! ```text
//!   caller ◄═ websocket, a frame each message ═► gateway ◄═ HTTP/2, a frame each line ═► node's agent
//! ```
//!
//! Frames are passed on as they are. What can be refused before the caller's connection becomes a websocket is an
//! ordinary answer; after that it is a close frame: 1008 with the sentence, 1011 when it is our fault or the
//! node is lost. A good session ends with the node's `exited` frame and a close frame 1000.
//!
//! Limits: [`crate::app::EXEC_SESSIONS_MAX`] sessions; [`FRAME_BYTES_MAX`] a frame; a caller that says nothing for
//! [`IDLE`], not even to a ping, is gone, and so is one that takes nothing for [`STALL`]. The node beats every
//! three seconds. Whoever goes away, everything of the session is freed on all sides.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use client::error::CallError;
use client::http::{Call, Lines};
use fsm::State as Rows;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use model::{AllocId, Allocation, ClientStatus, Job, JobId, NamespaceName};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ReadParams;
use super::at_node::{ANSWER, STALL, find, percent_encoded, refused, target};
use crate::answer::Meta;
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::options::{Options, Params, parse_bool};
use crate::read::fresh;

/// Longest frame, either way.
const FRAME_BYTES_MAX: usize = 512 << 10;
/// The node's agent beats every three seconds.
const NODE_SILENCE: Duration = Duration::from_secs(15);
const PING_EVERY: Duration = Duration::from_secs(20);
/// Official callers send an empty frame every ten seconds; everybody answers pings.
const IDLE: Duration = Duration::from_secs(90);
/// For the first message, where one is announced.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For the caller's close frame.
const FAREWELL: Duration = Duration::from_secs(2);
/// Frames on their way to the node.
const QUEUE: usize = 4;
/// Longest reason a close frame can hold.
const REASON_BYTES_MAX: usize = 123;

const NORMAL: u16 = 1000;
const POLICY: u16 = 1008;
const INTERNAL: u16 = 1011;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(exec)).routes(routes!(action)).routes(routes!(actions))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct ExecParams {
    /// Name of the task.
    task: String,
    /// Program and arguments, as a JSON list.
    command: String,
    /// With a terminal.
    tty: Option<bool>,
    /// The first message is `{"version":1,"auth_token":"…"}`.
    ws_handshake: Option<bool>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct ActionParams {
    /// Name of the action.
    action: String,
    /// The allocation to run it in; any that runs unless given.
    #[param(rename = "allocID")]
    alloc_id: Option<String>,
    /// The group that has the action.
    group: Option<String>,
    /// The task that has the action.
    task: Option<String>,
    /// With a terminal.
    tty: Option<bool>,
    /// The first message is `{"version":1,"auth_token":"…"}`.
    ws_handshake: Option<bool>,
}

/// `JobAction` on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
struct JobAction {
    name: String,
    command: String,
    args: Option<Vec<String>>,
    task_name: String,
    task_group_name: String,
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// What a session is about, before the allocation is looked for.
struct Wish {
    tty: bool,
    handshake: bool,
    what: What,
}

enum What {
    Command {
        alloc: AllocId,
        task: String,
        command: String,
    },
    Action {
        namespace: NamespaceName,
        job: JobId,
        action: String,
        alloc: Option<AllocId>,
        group: Option<String>,
        task: Option<String>,
    },
}

/// Why a session does not begin, or ends: a close frame.
#[derive(Debug)]
struct Refusal(u16, String);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let code = if error.status() == StatusCode::INTERNAL_SERVER_ERROR { INTERNAL } else { POLICY };
        Self(code, error.text().to_owned())
    }
}

fn flag(params: &Params, name: &str) -> Result<bool, ApiError> {
    let Some(text) = params.text(name) else { return Ok(false) };
    parse_bool(text).ok_or_else(|| {
        ApiError::bad(format!("{name} value is not a boolean: strconv.ParseBool: parsing {text:?}: invalid syntax"))
    })
}

/// Run a command beside a task
///
/// A websocket of JSON text frames. To the server: `{"stdin":{"data":"<base64>"}}`, `{"stdin":{"close":true}}`,
/// `{"tty_size":{"height":40,"width":100}}`, `{}`. From it: `{"stdout":{"data":"<base64>"}}`, `{"stderr":…}`,
/// `{"stdout":{"close":true}}`, and last `{"exited":true,"result":{"exit_code":1}}`, where zeroes are left out.
#[utoipa::path(get, path = "/v1/client/allocation/{alloc_id}/exec", operation_id = "execAllocation", tag = "client",
    params(("alloc_id" = String, Path, description = "Full id of the allocation"), ExecParams),
    responses(
        (status = 101, description = "A websocket; refusals are close frames 1008 and 1011"),
        (status = 400, description = "A parameter is missing or wrong, or this is no websocket", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many sessions", body = String, content_type = "text/plain")))]
async fn exec(State(app): State<App>, Path(id): Path<String>, options: Options, upgrade: Upgrade) -> Answered {
    let params = &options.params;
    let text = params.text("command").ok_or_else(|| ApiError::bad("command is not present"))?;
    let bad = |e: serde_json::Error| ApiError::bad(format!("failed to marshal command into json: {e}"));
    let words: Vec<String> = serde_json::from_str(text).map_err(bad)?;
    if words.first().is_none_or(String::is_empty) {
        return Err(ApiError::bad("command is not present"));
    }
    let task = params.text("task").ok_or_else(|| ApiError::bad("must provide task name"))?.to_owned();
    let what = What::Command { alloc: AllocId::from(id), task, command: text.to_owned() };
    let wish = Wish { tty: flag(params, "tty")?, handshake: flag(params, "ws_handshake")?, what };
    upgraded(app, wish, upgrade)
}

/// Run an action of a job
///
/// A websocket as of `exec`: the action's command is run in its task.
#[utoipa::path(get, path = "/v1/job/{job_id}/action", operation_id = "runJobAction", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ActionParams),
    responses(
        (status = 101, description = "A websocket; refusals are close frames 1008 and 1011"),
        (status = 400, description = "A parameter is missing or wrong, or this is no websocket", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many sessions", body = String, content_type = "text/plain")))]
async fn action(State(app): State<App>, Path(id): Path<String>, options: Options, upgrade: Upgrade) -> Answered {
    let params = &options.params;
    let some = |name: &str| params.text(name).map(str::to_owned);
    let what = What::Action {
        namespace: options.namespace(),
        job: JobId::from(id),
        action: some("action").ok_or_else(|| ApiError::bad("action name is not present"))?,
        alloc: params.text("allocID").map(AllocId::from),
        group: some("group"),
        task: some("task"),
    };
    let wish = Wish { tty: flag(params, "tty")?, handshake: flag(params, "ws_handshake")?, what };
    upgraded(app, wish, upgrade)
}

/// List a job's actions
#[utoipa::path(get, path = "/v1/job/{job_id}/actions", operation_id = "listJobActions", tag = "jobs",
    params(("job_id" = String, Path, description = "Id of the job"), ReadParams),
    responses(
        (status = 200, description = "The actions of all its tasks", body = Vec<JobAction>),
        (status = 404, description = "Unknown job", body = String, content_type = "text/plain")))]
async fn actions(State(app): State<App>, Path(id): Path<String>, options: Options) -> Answered {
    let view = fresh(&app, options.stale).await?;
    let namespace = options.namespace();
    let job = view.state.job(&namespace, &JobId::from(id)).ok_or_else(|| ApiError::not_found("job not found"))?;
    options.style.read(&actions_of(job), &Meta::default())
}

fn actions_of(job: &Job) -> Vec<JobAction> {
    let mut found = Vec::new();
    for group in &job.task_groups {
        for task in &group.tasks {
            found.extend(task.actions.iter().map(|action| JobAction {
                name: action.name.clone(),
                command: action.command.clone(),
                args: Some(action.args.clone()),
                task_name: task.name.clone(),
                task_group_name: group.name.clone().unwrap_or_default(),
            }));
        }
    }
    found
}

fn upgraded(app: App, wish: Wish, upgrade: Upgrade) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|e| ApiError::bad(format!("this is asked by websocket only: {}", e.body_text())))?;
    let busy = |_| ApiError::too_many("too many sessions, try again later");
    let permit = app.exec_sessions.clone().try_acquire_owned().map_err(busy)?;
    let upgrade = upgrade.max_message_size(FRAME_BYTES_MAX).max_frame_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| session(app, wish, socket, permit)))
}

/// The whole session, to its close frame.
async fn session(app: App, wish: Wish, socket: WebSocket, permit: OwnedSemaphorePermit) {
    let (mut sink, mut stream) = socket.split();
    let end = match begin(&app, &wish, &mut stream).await {
        Ok((lines, input)) => {
            tokio::select! {
                end = tell(lines, &mut sink) => end,
                end = listen(&mut stream, input) => end,
                () = app.shutdown.requested() => Some(Refusal(INTERNAL, "this gateway is shutting down".to_owned())),
            }
        }
        Err(refusal) => Some(refusal),
    };
    if let Some(Refusal(code, reason)) = end {
        let reason = shortened(&reason).into();
        let closing = async {
            let _ = sink.send(Message::Close(Some(CloseFrame { code, reason }))).await;
            while let Some(Ok(_)) = stream.next().await {}
        };
        let _ = tokio::time::timeout(FAREWELL, closing).await;
    }
    drop(permit);
}

type Input = mpsc::Sender<Bytes>;

/// Finds the task and begins the session at its node.
async fn begin(app: &App, wish: &Wish, stream: &mut SplitStream<WebSocket>) -> Result<(Lines, Input), Refusal> {
    if wish.handshake {
        handshake(stream).await?;
    }
    let (alloc, task, command) = match &wish.what {
        What::Command { alloc, task, command } => {
            let alloc = find(app, alloc.clone()).await?;
            known(&alloc, task)?;
            (alloc, task.clone(), command.clone())
        }
        What::Action { namespace, job, action, alloc, group, task } => {
            let alloc = match alloc {
                Some(id) => find(app, id.clone()).await?,
                None => {
                    let view = fresh(app, false).await?;
                    running(&view.state, (namespace, job), group.as_deref(), action, task.as_deref())?
                }
            };
            let (task, command) = action_in(&alloc, action, task.as_deref())?;
            (alloc, task, command)
        }
    };
    let (input, mut taken) = mpsc::channel::<Bytes>(QUEUE);
    let body = futures::stream::poll_fn(move |cx| taken.poll_recv(cx).map(|piece| piece.map(Ok)));
    let (task, command, tty) = (percent_encoded(&task), percent_encoded(&command), wish.tty);
    let path = format!("/v1/client/allocation/{}/exec?task={task}&tty={tty}&command={command}", alloc.id);
    let node = target(app, &alloc.node_id).await?;
    let opened = app.http.open_duplex(node, Call::post(path, ANSWER), body, NODE_SILENCE).await;
    let streaming = opened.map_err(|error| refused(&alloc.node_id, error))?;
    Ok((streaming.lines(FRAME_BYTES_MAX), input))
}

fn known(alloc: &Allocation, task: &str) -> Result<(), Refusal> {
    let group = alloc.job.as_ref().and_then(|job| job.lookup_group(&alloc.task_group));
    let known = group.is_none_or(|group| group.lookup_task(task).is_some() || alloc.task_states.contains_key(task));
    if known { Ok(()) } else { Err(Refusal(POLICY, format!("unknown task name {task:?}"))) }
}

/// An allocation of the job that runs and has the action.
fn running(
    state: &Rows,
    (namespace, job): (&NamespaceName, &JobId),
    group: Option<&str>,
    action: &str,
    task: Option<&str>,
) -> Result<Allocation, Refusal> {
    let of_job = state.allocs().filter(|alloc| alloc.namespace == *namespace && alloc.job_id == *job);
    let of_job = of_job.filter(|alloc| alloc.client_status == ClientStatus::Running);
    let of_group = of_job.filter(|alloc| group.is_none_or(|group| alloc.task_group == group));
    let mut found = of_group.map(|alloc| super::allocs::with_job(state, alloc));
    let mut any = None;
    let fits = found.find(|alloc| {
        any.get_or_insert_with(|| alloc.id.clone());
        action_in(alloc, action, task).is_ok()
    });
    fits.ok_or_else(|| match any {
        Some(_) => Refusal(POLICY, format!("action {action:?} not found")),
        None => Refusal(POLICY, format!("no running allocation of job {:?}", job.as_str())),
    })
}

/// The task that has the action, and the action's command as a JSON list.
fn action_in(alloc: &Allocation, action: &str, task: Option<&str>) -> Result<(String, String), Refusal> {
    let group = alloc.job.as_ref().and_then(|job| job.lookup_group(&alloc.task_group));
    let tasks = group.into_iter().flat_map(|group| &group.tasks);
    let wanted = tasks.filter(|found| task.is_none_or(|task| found.name == task));
    let found = wanted.flat_map(|task| task.actions.iter().map(move |a| (task, a))).find(|(_, a)| a.name == action);
    let (task, found) = found.ok_or_else(|| Refusal(POLICY, format!("action {action:?} not found")))?;
    let words: Vec<&String> = std::iter::once(&found.command).chain(&found.args).collect();
    let command = serde_json::to_string(&words).map_err(|e| Refusal(INTERNAL, e.to_string()))?;
    Ok((task.name.clone(), command))
}

/// `{"version":1,"auth_token":"…"}`, from pages that cannot send headers. Nobody is asked who they are yet.
async fn handshake(stream: &mut SplitStream<WebSocket>) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Hello {
        version: i64,
    }
    let bad = |text: &str| Refusal(POLICY, format!("Failed to read handshake: {text}"));
    let first = tokio::time::timeout(HANDSHAKE, stream.next()).await.map_err(|_| bad("nothing came"))?;
    let Some(Ok(Message::Text(text))) = first else { return Err(bad("a text message is expected")) };
    let hello: Hello = serde_json::from_str(&text).map_err(|e| bad(&e.to_string()))?;
    if hello.version == 1 { Ok(()) } else { Err(bad(&format!("unexpected version: {}", hello.version))) }
}

/// Passes the node's frames on; how the session ended, or `None` when the caller is gone.
async fn tell(mut lines: Lines, sink: &mut SplitSink<WebSocket, Message>) -> Option<Refusal> {
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.reset();
    loop {
        let message = tokio::select! {
            line = lines.next() => match line {
                Ok(Some(line)) if line.starts_with(b"{\"error\":") => return Some(failed(&line)),
                Ok(Some(line)) => match String::from_utf8(line.to_vec()) {
                    Ok(text) => Message::Text(text.into()),
                    Err(_) => return Some(lost("the node sent what cannot be read")),
                },
                Ok(None) => return Some(lost("the node's agent ended the session")),
                Err(error) => return Some(broken(&error)),
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        let last = matches!(&message, Message::Text(text) if text.starts_with("{\"exited\":true"));
        if !matches!(tokio::time::timeout(STALL, sink.send(message)).await, Ok(Ok(()))) {
            return None;
        }
        if last {
            return Some(Refusal(NORMAL, String::new()));
        }
    }
}

fn lost(text: &str) -> Refusal {
    Refusal(INTERNAL, text.to_owned())
}

fn broken(error: &CallError) -> Refusal {
    tracing::warn!(error = %error, "session with a node broke");
    lost("the connection to the node was lost")
}

/// The node's last words.
fn failed(line: &[u8]) -> Refusal {
    #[derive(Deserialize)]
    struct Failed {
        error: String,
    }
    let text = serde_json::from_slice::<Failed>(line).map_or_else(|_| "the session failed".to_owned(), |f| f.error);
    Refusal(INTERNAL, text)
}

/// Passes the caller's frames on until they are gone (`None`) or say what cannot be passed on.
async fn listen(stream: &mut SplitStream<WebSocket>, input: Input) -> Option<Refusal> {
    loop {
        let message = match tokio::time::timeout(IDLE, stream.next()).await {
            Err(_) => return Some(Refusal(POLICY, "nothing was heard for too long".to_owned())),
            Ok(None | Some(Err(_)) | Some(Ok(Message::Close(_)))) => return None,
            Ok(Some(Ok(message))) => message,
        };
        let mut line = match message {
            Message::Text(text) => text.as_bytes().to_vec(),
            Message::Binary(bytes) => bytes.to_vec(),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
        };
        // Line ends stand between a frame's parts only: within texts they are written otherwise.
        line.iter_mut().filter(|b| matches!(**b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        line.push(b'\n');
        if input.send(line.into()).await.is_err() {
            // The node takes nothing any more: how it ended comes the other way.
            std::future::pending::<()>().await;
        }
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"é".repeat(100)).len(), 122);
    }

    #[test]
    fn the_node_s_last_words_are_passed_on() {
        let Refusal(code, text) = failed(br#"{"error":"the task is gone"}"#);
        assert_eq!((code, text.as_str()), (INTERNAL, "the task is gone"));
        let Refusal(code, _) = ApiError::bad("x").into();
        assert_eq!(code, POLICY);
    }
}
