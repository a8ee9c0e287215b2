//! A machine's log as it is written: what all its processes say, in one stream.
//!
//! ```text
//!   each process ─ its lines (kit::process::tap) ─► its name before each ─┐
//!                └ gone: said once, asked again ◄───────────────────────── ┴─► queue ─► frames, or bytes
//! ```
//!
//! A caller that reads slowly makes the queue full; then the processes' own queues fill, which lose lines and say
//! how many. When the caller goes, all calls end with it.

use std::time::Duration;

use api::process::{LogAsk, MONITOR};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::error::CallError;
use client::http::{Call, Lines};
use model::Role;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::at_node::{ANSWER, percent_encoded, stream_permit, taken};
use crate::app::App;
use crate::errors::{Answered, ApiError};
use crate::machine::Asked;
use crate::options::{Options, Params, parse_bool};
use crate::processes::{self, Process};
use crate::public::Streamed;

/// Longest silence of a process, which sends an empty line every two seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// Between asking a process that is gone, and between looking for processes that are new.
const PAUSE: Duration = Duration::from_secs(1);
/// Nothing for this long, and an empty frame says that the stream lives.
const BEAT: Duration = Duration::from_secs(1);
/// Processes of a machine that are read.
const PROCESSES_MAX: usize = 32;
/// As the machine's own log names what keeps its processes.
const KEEPER: &str = "machine";
/// Lines between the processes and the caller.
const LINES_MAX: usize = 64;
/// Longest line of a process: its queue takes none that is longer.
const LINE_BYTES_MAX: usize = 512 << 10;
/// Bytes of a frame.
const FRAME_BYTES_MAX: usize = 64 << 10;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(monitor))
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation; the query is read by `Options`")]
struct MonitorParams {
    /// `TRACE`, `DEBUG`, `INFO`, `WARN` or `ERROR`; `INFO` unless given.
    log_level: Option<String>,
    /// Lines as JSON.
    log_json: Option<bool>,
    /// With file and line of the code.
    log_include_location: Option<bool>,
    /// The lines themselves, without frames.
    plain: Option<bool>,
    /// The machine of this node, by its full id.
    node_id: Option<String>,
    /// The machine of this server: its name, with or without the region, or `leader`.
    server_id: Option<String>,
}

/// What is asked for, checked.
struct Ask {
    lines: LogAsk,
    plain: bool,
}

fn ask(params: &Params) -> Result<Ask, ApiError> {
    let level = params.text("log_level").unwrap_or("INFO");
    let lower = level.to_ascii_lowercase();
    if !["trace", "debug", "info", "warn", "error"].contains(&lower.as_str()) {
        return Err(ApiError::bad(format!("Unknown log level: {level}")));
    }
    let (json, plain) = (flag(params, "log_json", "log json")?, flag(params, "plain", "plain")?);
    let location = flag(params, "log_include_location", "log include location")?;
    Ok(Ask { lines: LogAsk { level: lower, json, location, machine: false }, plain })
}

/// A parameter that is true or false; `words` for who wrote something else.
pub(super) fn flag(params: &Params, name: &str, words: &str) -> Result<bool, ApiError> {
    let Some(text) = params.text(name) else { return Ok(false) };
    parse_bool(text).ok_or_else(|| {
        ApiError::bad(format!("Unknown option for {words}: strconv.ParseBool: parsing {text:?}: invalid syntax"))
    })
}

/// Watch a machine's log
///
/// What all processes of the machine asked, or named, log from now on: its services, its node's agent, and `machine`,
/// which keeps them; each line with the name of its process. A stream of frames, or with `plain` of lines; `{}` is a beat. A caller that reads
/// too slowly loses lines, and is told how many.
#[utoipa::path(get, path = "/v1/agent/monitor", operation_id = "monitorAgent", tag = "agent", params(MonitorParams),
    responses(
        (status = 200, description = "Frames, or lines", body = Object, example = json!({"Data": "aGVsbG8K"})),
        (status = 400, description = "A parameter is wrong", body = String, content_type = "text/plain"),
        (status = 404, description = "No such machine", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many streams", body = String, content_type = "text/plain")))]
async fn monitor(State(app): State<App>, asked: Asked, options: Options) -> Answered {
    let ask = ask(&options.params)?;
    let both = "Cannot target node and server simultaneously";
    // What cannot be is refused before anything is read.
    processes::named(&app, &asked, &options.params, both).await?;
    let permit = stream_permit(&app)?;
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let mut gathering = JoinSet::new();
    gathering.spawn(gather(app.clone(), asked, options.params, ask.lines, sender));
    let shutdown = app.shutdown.clone();
    let merged = Merged { lines, _gathering: gathering, plain: ask.plain };
    let pieces = futures::stream::unfold(merged, |mut merged| async move { Some((Ok(merged.piece().await?), merged)) });
    let pieces = futures::StreamExt::take_until(pieces, async move { shutdown.requested().await });
    Ok(answer(Body::from_stream(taken(pieces, permit)), ask.plain))
}

pub(super) fn answer(body: Body, plain: bool) -> Response {
    let kind = if plain { "text/plain" } else { "application/json" };
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.extensions_mut().insert(Streamed);
    response
}

/// Lines of several processes. Dropping it ends the calls.
struct Merged {
    lines: mpsc::Receiver<Vec<u8>>,
    _gathering: JoinSet<()>,
    plain: bool,
}

impl Merged {
    async fn piece(&mut self) -> Option<Bytes> {
        let mut piece = loop {
            match tokio::time::timeout(BEAT, self.lines.recv()).await {
                Ok(line) => break line?,
                Err(_) if self.plain => {}
                Err(_) => return Some(Bytes::from_static(b"{}")),
            }
        };
        while piece.len() < FRAME_BYTES_MAX / 2
            && let Ok(line) = self.lines.try_recv()
        {
            piece.extend_from_slice(&line);
        }
        if self.plain {
            return Some(piece.into());
        }
        Some(frames(&piece).into())
    }
}

/// As frames of the stream.
pub(super) fn frames(piece: &[u8]) -> Vec<u8> {
    let all = piece.chunks(FRAME_BYTES_MAX);
    all.flat_map(|data| json!({ "Data": STANDARD.encode(data) }).to_string().into_bytes()).collect()
}

/// Reads every process of the machine, also those that come later.
async fn gather(app: App, asked: Asked, params: Params, ask: LogAsk, sender: mpsc::Sender<Vec<u8>>) {
    let (mut known, mut readers) = (Vec::new(), JoinSet::new());
    loop {
        for source in sources(processes::named(&app, &asked, &params, "").await.unwrap_or_default()) {
            if !known.contains(&source) && known.len() < PROCESSES_MAX {
                known.push(source.clone());
                readers.spawn(read(app.clone(), source, ask.clone(), sender.clone()));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whose lines, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Own(Process),
    /// Of what keeps the machine's processes, by one of them.
    Keeper(Process),
}

impl Source {
    fn label(&self) -> &'static str {
        match self {
            Self::Own(process) => process.label(),
            Self::Keeper(_) => KEEPER,
        }
    }
}

/// Which of a machine's processes knows what their keeper writes: its gateway, or else its agent.
pub(super) fn keeper(processes: &[Process]) -> Option<&Process> {
    let gateway = |process: &&Process| matches!(process, Process::Service { role: Role::Gateway, .. });
    let node = |process: &&Process| matches!(process, Process::Node(_));
    processes.iter().find(gateway).or_else(|| processes.iter().find(node))
}

/// A machine's processes, and their keeper.
fn sources(processes: Vec<Process>) -> Vec<Source> {
    let keeper = keeper(&processes).cloned().map(Source::Keeper);
    processes.into_iter().map(Source::Own).chain(keeper).collect()
}

/// Reads a source's lines for as long as somebody takes them.
async fn read(app: App, source: Source, ask: LogAsk, sender: mpsc::Sender<Vec<u8>>) {
    let label = source.label();
    let mut said = false;
    loop {
        match open(&app, &source, &ask).await {
            Ok(Some(mut lines)) => {
                said = false;
                while let Ok(Some(line)) = lines.next().await {
                    if sender.send(labelled(label, &line, ask.json)).await.is_err() {
                        return;
                    }
                }
            }
            Ok(None) => {}
            Err(Never) => return,
        }
        // Of the keeper nothing is known: the process that has its lines says that it is gone itself.
        if !said && matches!(source, Source::Own(_)) {
            said = true;
            let line = labelled(label, gone(ask.json).as_bytes(), ask.json);
            if sender.send(line).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// There is no such log.
struct Never;

/// None: not at the moment.
async fn open(app: &App, source: &Source, ask: &LogAsk) -> Result<Option<Lines>, Never> {
    let LogAsk { level, json, location, .. } = ask;
    let (process, machine) = match source {
        Source::Own(process) => (process, false),
        Source::Keeper(process) => (process, true),
    };
    let path = format!("{MONITOR}?level={}&json={json}&location={location}&machine={machine}", percent_encoded(level));
    let Some(target) = process.target(app).await else { return Ok(None) };
    match app.http.open(target, Call::get(path, ANSWER), SILENCE).await {
        Ok(streaming) => Ok(Some(streaming.lines(LINE_BYTES_MAX))),
        Err(CallError::Status { body, .. }) if machine && body.code() == api::Code::NotFound => Err(Never),
        Err(error) => {
            tracing::debug!(process = source.label(), %error, "log of a process cannot be read");
            Ok(None)
        }
    }
}

fn gone(json: bool) -> String {
    let text = "this process's log cannot be read at the moment";
    if json { json!({ "level": "WARN", "message": text }).to_string() } else { format!("WARN {text}") }
}

/// The line with its process's name, as in the machine's own log.
fn labelled(name: &str, line: &[u8], json: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len() + name.len() + 16);
    match line.strip_prefix(b"{") {
        Some(rest) if json => {
            out.extend_from_slice(format!("{{\"process\":\"{name}\",").as_bytes());
            out.extend_from_slice(rest);
        }
        _ => {
            out.extend_from_slice(format!("{name:<10} ").as_bytes());
            out.extend_from_slice(line);
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_watched_is_refused_in_the_reference_s_words() {
        let refusal = |pairs: &[(&str, &str)]| ask(&Options::for_test(pairs).params).err().map(|e| e.text().to_owned());
        let said = |pairs: &[(&str, &str)]| refusal(pairs).unwrap_or_default();
        assert_eq!(said(&[("log_level", "loud")]), "Unknown log level: loud");
        assert!(said(&[("log_json", "x")]).starts_with("Unknown option for log json: "));
        assert!(said(&[("plain", "x")]).starts_with("Unknown option for plain: "));
        for level in ["", "trace", "DEBUG", "Info", "warn", "ERROR"] {
            assert_eq!(refusal(&[("log_level", level)]), None);
        }
    }

    #[test]
    fn a_line_says_which_process_it_is_from_and_json_stays_json() {
        assert_eq!(labelled("state", b"x", false), b"state      x\n");
        assert_eq!(labelled("state", br#"{"a":1}"#, true), b"{\"process\":\"state\",\"a\":1}\n");
        let line = labelled("agent", gone(true).as_bytes(), true);
        assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
    }

    #[test]
    fn the_keepers_lines_come_by_the_gateway_or_else_by_the_agent_and_once() {
        let service = |role: Role| Process::Service { role, name: "one".to_owned() };
        let (gateway, node) = (service(Role::Gateway), Process::Node("n".into()));
        let keepers = |all: Vec<Process>| {
            let count = all.len();
            let mut all = sources(all);
            assert_eq!(all.iter().filter(|s| matches!(s, Source::Own(_))).count(), count);
            all.retain(|s| s.label() == KEEPER);
            all
        };
        let server = vec![service(Role::Broker), gateway.clone(), node.clone()];
        assert_eq!(keepers(server), [Source::Keeper(gateway)]);
        assert_eq!(keepers(vec![node.clone()]), [Source::Keeper(node)]);
        assert_eq!(keepers(vec![service(Role::State)]), []);
    }

    #[tokio::test]
    async fn frames_hold_lines_and_beat_in_silence() {
        let (sender, lines) = mpsc::channel(8);
        let mut merged = Merged { lines, _gathering: JoinSet::new(), plain: false };
        assert_eq!(merged.piece().await.unwrap(), "{}");
        sender.send(b"a\n".to_vec()).await.unwrap();
        sender.send(b"b\n".to_vec()).await.unwrap();
        assert_eq!(merged.piece().await.unwrap(), r#"{"Data":"YQpiCg=="}"#);
        drop(sender);
        assert_eq!(merged.piece().await, None);
    }
}
