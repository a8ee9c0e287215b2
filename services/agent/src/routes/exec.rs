//! A command beside a task, for whoever sits behind a gateway.
//!
//! ```text
//!   gateway ══ request body: lines of input ══► session.input ──► command
//!           ◄═ answer body: lines of output ══  session.output ◄──┘
//! ```
//!
//! Each line is one frame of the compatible interface (`ExecStreamingInput`, `ExecStreamingOutput`), so that a
//! gateway passes them on as they are. Empty lines are beats. The last line has `exited`, or `error`: a sentence
//! for the caller.
//!
//! A request body that ends or breaks means that the caller is gone: the session ends, and the driver kills the
//! command. So does an answer that nobody takes.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use driver::contract::{ExecInput, ExecOutput, ExecRequest, ExecSession};
use driver::{DriverError, ExitResult};
use futures::TryStreamExt as _;
use model::AllocId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::io::StreamReader;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, Said, bad, tasks};

/// Longest line of input.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Longest command, all words together.
const COMMAND_BYTES_MAX: usize = 64 << 10;
/// Nothing for this long, and an empty line says that the session lives.
const BEAT: Duration = Duration::from_secs(3);
/// Lines of output waiting for the connection.
const QUEUE: usize = 4;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(exec))
}

#[derive(Deserialize)]
struct ExecQuery {
    #[serde(default)]
    task: String,
    /// Words as a JSON list.
    #[serde(default)]
    command: String,
    #[serde(default)]
    tty: bool,
}

/// A frame from the caller. Fields that nobody knows are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Input {
    stdin: Option<Piece>,
    tty_size: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Piece {
    data: Option<String>,
    close: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Size {
    height: i64,
    width: i64,
}

/// A frame to the caller; what is nothing is left out.
#[derive(Debug, Default, Serialize)]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<OutPiece>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<OutPiece>,
    #[serde(skip_serializing_if = "is_false")]
    exited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Exit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct OutPiece {
    #[serde(skip_serializing_if = "String::is_empty")]
    data: String,
    #[serde(skip_serializing_if = "is_false")]
    close: bool,
}

#[derive(Debug, Default, Serialize)]
struct Exit {
    #[serde(skip_serializing_if = "is_zero")]
    exit_code: i32,
    #[serde(skip_serializing_if = "is_zero")]
    signal: i32,
    #[serde(skip_serializing_if = "is_false")]
    oom_killed: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// Run a command beside a task
///
/// Input and output are lines of JSON, one frame each; see the gateway's `exec` for the frames. The answer's last
/// line has `exited` with `result`, or `error`.
#[utoipa::path(post, path = "/v1/client/allocation/{alloc}/exec", operation_id = "execInTask", tag = "tasks",
    params(("alloc" = String, Path, description = "Allocation id"), ("task" = String, Query, description = "Name of the task"),
           ("command" = String, Query, description = "Words as a JSON list"), ("tty" = Option<bool>, Query, description = "With a terminal")),
    request_body(content = String, description = "Frames of input, a line each", content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "Frames of output, a line each", body = String, content_type = "application/x-ndjson"),
        (status = 400, description = "A parameter is missing or wrong, or the command cannot be run", body = String, content_type = "text/plain"),
        (status = 403, description = "The caller is no gateway", body = api::ErrorBody),
        (status = 404, description = "The allocation is not here, or the task does not run", body = String, content_type = "text/plain"),
        (status = 429, description = "Too many sessions", body = String, content_type = "text/plain")))]
async fn exec(
    State(app): State<App>,
    Path(alloc): Path<String>,
    Query(query): Query<ExecQuery>,
    request: Request,
) -> Result<Response, Said> {
    let id = AllocId::from(alloc);
    let command = words(&query.command)?;
    if query.task.is_empty() {
        return Err(bad("must provide task name"));
    }
    let busy = |_| Said(StatusCode::TOO_MANY_REQUESTS, "too many sessions on this node".to_owned());
    let permit = app.sessions.clone().try_acquire_owned().map_err(busy)?;
    let running = tasks::running(&app.roster, &id, &query.task).await?;
    tracing::info!(alloc_id = %id, task = query.task, command = command.join(" "), tty = query.tty, "command is run beside a task");
    let session = running.driver.exec(&running.task_id, ExecRequest { command, tty: query.tty }).await;
    let session = session.map_err(|error| match error {
        DriverError::NotFound => Said(StatusCode::NOT_FOUND, format!("task {:?} is not running.", query.task)),
        error => bad(error.to_string()),
    })?;
    let input = request.into_body().into_data_stream().map_err(std::io::Error::other);
    let (lines, taken) = mpsc::channel(QUEUE);
    tokio::spawn(converse(app, session, StreamReader::new(input), lines, permit));
    let body = futures::stream::unfold(taken, |mut taken| async move {
        let line: Bytes = taken.recv().await?;
        Some((Ok::<_, Infallible>(line), taken))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

fn words(text: &str) -> Result<Vec<String>, Said> {
    if text.len() > COMMAND_BYTES_MAX {
        return Err(bad(format!("command is longer than {COMMAND_BYTES_MAX} bytes")));
    }
    let words: Vec<String> = match text {
        "" => Vec::new(),
        text => serde_json::from_str(text).map_err(|e| bad(format!("command is no JSON list of strings: {e}")))?,
    };
    if words.first().is_none_or(String::is_empty) {
        return Err(bad("command is not present"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(bad("command holds a zero byte"));
    }
    Ok(words)
}

/// Carries both directions until the command or the caller is gone.
async fn converse(
    app: App,
    session: ExecSession,
    input: impl AsyncBufRead + Unpin,
    lines: mpsc::Sender<Bytes>,
    permit: OwnedSemaphorePermit,
) {
    let ExecSession { input: into, output } = session;
    let last = tokio::select! {
        last = tell(output, &lines) => last,
        error = listen(input, into) => error.map(|text| Output { error: Some(text), ..Output::default() }),
        () = app.shutdown.requested() => {
            Some(Output { error: Some("the node's agent is shutting down".to_owned()), ..Output::default() })
        }
    };
    if let Some(last) = last {
        let _ = lines.send(encode(&last)).await;
    }
    drop(permit);
}

/// Passes output on; the last frame, or `None` when nobody takes it any more.
async fn tell(mut output: mpsc::Receiver<ExecOutput>, lines: &mpsc::Sender<Bytes>) -> Option<Output> {
    loop {
        let line = match tokio::time::timeout(BEAT, output.recv()).await {
            Err(_) => Bytes::from_static(b"\n"),
            Ok(Some(ExecOutput::Exited(exit))) => return Some(exited(exit)),
            Ok(Some(ExecOutput::Failed(text))) => return Some(Output { error: Some(text), ..Output::default() }),
            Ok(Some(piece)) => encode(&frame(piece)),
            Ok(None) => {
                let error = Some("the driver ended the session".to_owned());
                return Some(Output { error, ..Output::default() });
            }
        };
        lines.send(line).await.ok()?;
    }
}

fn frame(piece: ExecOutput) -> Output {
    let data = |data: Vec<u8>| Some(OutPiece { data: STANDARD.encode(data), close: false });
    let closed = || Some(OutPiece { data: String::new(), close: true });
    match piece {
        ExecOutput::Stdout(bytes) => Output { stdout: data(bytes), ..Output::default() },
        ExecOutput::Stderr(bytes) => Output { stderr: data(bytes), ..Output::default() },
        ExecOutput::StdoutClosed => Output { stdout: closed(), ..Output::default() },
        ExecOutput::StderrClosed => Output { stderr: closed(), ..Output::default() },
        ExecOutput::Exited(exit) => exited(exit),
        ExecOutput::Failed(text) => Output { error: Some(text), ..Output::default() },
    }
}

fn exited(exit: ExitResult) -> Output {
    if let Some(error) = exit.error {
        return Output { error: Some(error), ..Output::default() };
    }
    let ExitResult { code, signal, oom_killed, .. } = exit;
    Output { exited: true, result: Some(Exit { exit_code: code, signal, oom_killed }), ..Output::default() }
}

fn encode(output: &Output) -> Bytes {
    let mut line = serde_json::to_vec(output).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// Passes input on until the caller is gone (`None`) or says something that makes no sense.
async fn listen(mut input: impl AsyncBufRead + Unpin, into: mpsc::Sender<ExecInput>) -> Option<String> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).await.ok()?;
        if read == 0 {
            return None;
        }
        if line.last() != Some(&b'\n') {
            return (line.len() as u64 > LINE_BYTES_MAX).then(|| "a frame is too long".to_owned());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let pieces = match read_frame(&line) {
            Ok(pieces) => pieces,
            Err(text) => return Some(text),
        };
        for piece in pieces {
            if into.send(piece).await.is_err() {
                // The command takes nothing any more; its end is told by its output.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn read_frame(line: &[u8]) -> Result<Vec<ExecInput>, String> {
    let frame: Input = serde_json::from_slice(line).map_err(|e| format!("a frame cannot be read: {e}"))?;
    let mut pieces = Vec::new();
    if let Some(Piece { data, close }) = frame.stdin {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            let data = STANDARD.decode(data).map_err(|e| format!("a frame's data is no base64: {e}"))?;
            pieces.push(ExecInput::Stdin(data));
        }
        if close {
            pieces.push(ExecInput::StdinClosed);
        }
    }
    if let Some(Size { height, width }) = frame.tty_size {
        let cells = |n: i64| u16::try_from(n.clamp(0, i64::from(u16::MAX))).unwrap_or(0);
        pieces.push(ExecInput::Resize { rows: cells(height), columns: cells(width) });
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_compatible_interface() {
        let text = |output| String::from_utf8(encode(&frame(output)).to_vec()).unwrap();
        assert_eq!(text(ExecOutput::Stdout(b"hi\n".to_vec())), "{\"stdout\":{\"data\":\"aGkK\"}}\n");
        assert_eq!(text(ExecOutput::StderrClosed), "{\"stderr\":{\"close\":true}}\n");
        assert_eq!(text(ExecOutput::Exited(ExitResult::default())), "{\"exited\":true,\"result\":{}}\n");
        let killed = ExitResult { code: 137, signal: 9, oom_killed: true, error: None };
        let result = r#"{"exited":true,"result":{"exit_code":137,"signal":9,"oom_killed":true}}"#;
        assert_eq!(text(ExecOutput::Exited(killed)).trim(), result);
        assert_eq!(
            read_frame(br#"{"stdin":{"data":"aGkK","close":true}}"#).unwrap(),
            [ExecInput::Stdin(b"hi\n".to_vec()), ExecInput::StdinClosed]
        );
        let resize = read_frame(br#"{"tty_size":{"height":24,"width":999999}}"#).unwrap();
        assert_eq!(resize, [ExecInput::Resize { rows: 24, columns: u16::MAX }]);
        assert!(read_frame(b"{}").unwrap().is_empty());
        for odd in [&b"x"[..], b"5", br#"{"stdin":{"data":"?"}}"#] {
            assert!(read_frame(odd).is_err());
        }
    }

    #[test]
    fn a_command_is_a_list_of_words() {
        assert_eq!(words(r#"["a","b c"]"#).unwrap(), ["a", "b c"]);
        for odd in ["", "[]", "[\"\"]", "a", "{}", "[1]", "[\"a\\u0000\"]"] {
            assert!(words(odd).is_err(), "{odd}");
        }
    }
}
