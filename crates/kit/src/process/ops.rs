//! The routes every service has: is it alive, can it work, what does it count, what does it log, what can it do.

use std::convert::Infallible;
use std::io::Read as _;
use std::time::Duration;

use api::Code;
use api::process::{HOST, LOG_FILE, LogAsk, MONITOR};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, RawQuery};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt as _;
use model::Role;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::level_filters::LevelFilter;

use super::machine_log::Tail;
use super::ready::{Readiness, Unmet};
use super::tap::{Form, Lines, READERS_MAX};
use super::{Shutdown, host, machine_log, telemetry};
use crate::guard::{refusal, require};
use crate::metrics::Metrics;

/// Nothing for this long, and an empty line says that the stream lives.
const BEAT: Duration = Duration::from_secs(2);
/// Bytes of a file read at once.
const FILE_PIECE_BYTES: u64 = 32 << 10;
/// Bytes of a piece, after which no further line is added.
const PIECE_BYTES: usize = 16 << 10;

/// Readers of the keeper's lines.
static MACHINE_READERS: Semaphore = Semaphore::const_new(READERS_MAX);

#[derive(Serialize)]
struct Ready {
    ready: bool,
    unmet: Vec<Unmet>,
}

/// `/health/live`, `/health/ready`, `/metrics` (with `format=json` the last interval's summary), `/openapi.json`,
/// and for gateways the log as it is written and what the host is like.
///
/// `/health/live` takes no lock and touches nothing: it answers as long as the runtime runs.
pub fn router(readiness: Readiness, metrics: Metrics, openapi_json: &'static str, shutdown: &Shutdown) -> Router {
    let ready = move || {
        let unmet = readiness.unmet();
        async move {
            let status = if unmet.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, axum::Json(Ready { ready: unmet.is_empty(), unmet })).into_response()
        }
    };
    let metrics = move |RawQuery(query): RawQuery| {
        let json = query.is_some_and(|query| query == "format=json");
        let answer = if json {
            axum::Json(metrics.summary()).into_response()
        } else {
            content("text/plain; version=0.0.4; charset=utf-8", metrics.prometheus())
        };
        async move { answer }
    };
    let shutdown = shutdown.clone();
    let monitor = move |Query(ask): Query<LogAsk>| {
        let answer = monitor(&ask, shutdown.clone());
        async move { answer }
    };
    Router::new()
        .route(MONITOR, get(monitor).layer(require(&[Role::Gateway])))
        .route(LOG_FILE, get(log_file).layer(require(&[Role::Gateway])))
        .route(HOST, get(host_data).layer(require(&[Role::Gateway])))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(move || async move { content("application/json", openapi_json) }))
}

async fn host_data() -> Response {
    match tokio::task::spawn_blocking(host::read).await {
        Ok(found) => axum::Json(found).into_response(),
        Err(_) => refusal(Code::Internal, "the host cannot be looked at"),
    }
}

/// The keeper's log file, as long as it is now.
async fn log_file() -> Response {
    let opened = tokio::task::spawn_blocking(|| {
        let file = std::fs::File::open(machine_log::log_file()?).ok()?;
        let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((file, found.len()))
    });
    let Some((file, left)) = opened.await.ok().flatten() else {
        return refusal(Code::NotFound, "this machine keeps no log file (`log_file`)");
    };
    let Ok(permit) = MACHINE_READERS.try_acquire() else {
        return refusal(Code::TooMany, "too many readers of the log, try again later");
    };
    let pieces = futures::stream::unfold((file, left, permit), |(mut file, left, permit)| async move {
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            let most = left.min(FILE_PIECE_BYTES);
            let read = std::io::Read::by_ref(&mut file).take(most).read_to_end(&mut piece);
            read.map(|_| (piece, file))
        });
        // One that was cut meanwhile ends here.
        let (piece, file) = reading.await.ok()?.ok().filter(|(piece, _)| !piece.is_empty())?;
        let left = left.saturating_sub(piece.len() as u64);
        Some((Ok::<_, Infallible>(Bytes::from(piece)), (file, left, permit)))
    });
    content("text/plain; charset=utf-8", Body::from_stream(pieces))
}

/// Lines as they are written, until the caller goes or this process ends.
fn monitor(ask: &LogAsk, shutdown: Shutdown) -> Response {
    let Ok(level) = ask.level.parse::<LevelFilter>() else {
        return refusal(Code::BadRequest, "unknown log level");
    };
    if ask.machine {
        let Some(path) = machine_log::file() else {
            return refusal(Code::NotFound, "nobody keeps this process");
        };
        let Ok(permit) = MACHINE_READERS.try_acquire() else {
            return refusal(Code::TooMany, "too many readers of the log, try again later");
        };
        return keeper_s(Tail::open(path, level, ask.json), permit, shutdown);
    }
    let Ok(lines) = telemetry::tap().read(level, Form { json: ask.json, location: ask.location }) else {
        return refusal(Code::TooMany, "too many readers of the log, try again later");
    };
    let pieces = futures::stream::unfold(lines, |mut lines| async move {
        let piece = piece(&mut lines).await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), lines))
    });
    let pieces = pieces.take_until(async move { shutdown.requested().await });
    content("text/plain; charset=utf-8", Body::from_stream(pieces))
}

/// The keeper's own lines.
fn keeper_s(tail: Tail, permit: SemaphorePermit<'static>, shutdown: Shutdown) -> Response {
    let pieces = futures::stream::unfold((tail, permit), |(mut tail, permit)| async move {
        let began = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(machine_log::LOOK).await;
            let (back, piece) = tokio::task::spawn_blocking(move || {
                let piece = tail.look();
                (tail, piece)
            })
            .await
            .ok()?;
            tail = back;
            let piece = if piece.is_empty() && began.elapsed() > BEAT { "\n".to_owned() } else { piece };
            if !piece.is_empty() {
                return Some((Ok::<_, Infallible>(Bytes::from(piece)), (tail, permit)));
            }
        }
    });
    let pieces = pieces.take_until(async move { shutdown.requested().await });
    content("text/plain; charset=utf-8", Body::from_stream(pieces))
}

/// What is there; an empty line if there is nothing for a while.
async fn piece(lines: &mut Lines) -> Option<String> {
    let mut piece = match tokio::time::timeout(BEAT, lines.next()).await {
        Ok(line) => line?,
        Err(_) => return Some("\n".to_owned()),
    };
    while piece.len() < PIECE_BYTES
        && let Some(line) = lines.ready()
    {
        piece.push_str(&line);
    }
    Some(piece)
}

fn content(kind: &'static str, body: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}
